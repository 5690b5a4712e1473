"""Does the author's AdaGrad reach the loss, and does GloVe's order of the same steps break it?

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/adagrad.py                  (People's Daily, January 1998; --quick for a look)
Time:    TIME on 2 cores (AMD EPYC), 0.5 GB

Symbols: η → rate   G → sums (of squared gradients, from 1; eq. 23)   λ_ij → weights   v_i → target, source
Differs from the article: rounds of pairs without a common word replace his random order of single records, which gives
numpy whole arrays to work on and stays one of the orders in which single records could come.
"""
import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.count import DEFAULT_CORPUS, load_corpus  # noqa: E402
from simpler_glove.least_squares import PairTargets  # noqa: E402

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- method
def adagrad_epoch(target: np.ndarray, source: np.ndarray, sums: tuple, data: PairTargets, rng: np.random.Generator,
                  rate: float = 0.1, loss_scale: float = 1.0, accumulate_first: bool = True) -> None:
    """The author's update for every record, in rounds of pairs that share no word (i + j ≡ k mod n): each round equals
    its pairs taken one after another. accumulate_first=False is GloVe's order: step by the old sum, add η²g² after."""
    size = len(target)
    if "rounds" not in vars(data):
        row = np.repeat(np.arange(size), data.full)
        keep = data.columns < row
        row, column, x = row[keep], data.columns[keep].astype(np.int64), data.counts[keep]
        order = np.argsort((row + column) % size, kind="stable")
        row, column, x = row[order], column[order], x[order]
        targets = data.log_of[x] - data.row_offset[row] - data.column_offset[column]
        cuts = np.searchsorted((row + column) % size, np.arange(size + 1))
        data.rounds = row, column, data.weight_of[x], targets, cuts
    row, column, weights, targets, cuts = data.rounds

    def update(vectors, total, which, gradient):
        if accumulate_first:                                   # G ← G + g²;  v ← v − η g/√G   (eq. 23, as in his code)
            seen = total[which] + gradient * gradient
            vectors[which] -= rate * gradient / np.sqrt(seen + 1e-8)
        else:
            gradient = rate * gradient
            seen = total[which]
            vectors[which] -= gradient / np.sqrt(seen)
            seen += gradient * gradient
        total[which] = seen

    for turn in range(2):                                      # every pair is two records, (i, j) and (j, i)
        for k in rng.permutation(size):
            some = slice(cuts[k], cuts[k + 1])
            i, j = (row[some], column[some])[::1 if turn else -1]
            v, u = target[i], source[j]
            error = (loss_scale * weights[some] * (np.einsum("nd,nd->n", v, u) - targets[some]))[:, None]
            update(target, sums[0], i, error * u)
            update(source, sums[-1], j, error * v)
