"""The author's AdaGrad in rounds of pairs without a common word: whole arrays for numpy.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Symbols: η → rate   G → sums (eq. 23; they start at 1, as his do)   λ_ij → weights
         v_i → target[i], source[i]

The plain form, one record after another, is adagrad_step in train.py. A round holds pairs that
share no word, so that updating all of them at once is the same as one after another: this is one of
the orders in which his program could take its records.
"""

import numpy as np

from least_squares import PairTargets, run_sweeps, start_vectors


def fit_rounds(
    pairs,
    counts: np.ndarray,
    dim: int = 128,
    mode: str = "shared",
    epochs: int = 30,
    rate: float = 0.1,
    loss_scale: float = 1.0,
    accumulate_first: bool = True,
    threads: int = 1,
    seed: int = 0,
    weighting: dict | None = None,
    **reporting,
) -> dict:
    """Like least_squares.fit, by AdaGrad; threads are used to measure the loss only."""
    data = PairTargets(pairs, counts, **(weighting or {}))
    rounds = Rounds(data)
    rng = np.random.default_rng(seed)
    target, source = start_vectors(len(counts), dim, mode, 1, rng)
    sums = [np.ones_like(target)]
    if mode != "shared":
        sums.append(np.ones_like(source))

    def one_epoch(_):
        adagrad_epoch(target, source, sums, rounds, rng, rate, loss_scale, accumulate_first)

    return run_sweeps(one_epoch, epochs, target, source, data, mode, threads, **reporting)


class Rounds:
    """The pairs i > j sorted into rounds i + j ≡ k mod n: in a round no word occurs twice."""

    def __init__(self, data: PairTargets):
        size = len(data.lower)
        row = np.repeat(np.arange(size), data.lower)
        column = data.triangle.indices.astype(np.int64)
        x = data.triangle.data
        order = np.argsort((row + column) % size, kind="stable")
        self.row = row[order]
        self.column = column[order]
        x = x[order]
        self.weights = data.weight_of[x]
        self.targets = data.log_of[x] - data.row_offset[self.row] - data.column_offset[self.column]
        self.cuts = np.searchsorted((self.row + self.column) % size, np.arange(size + 1))

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def __getitem__(self, k: int):
        """(i, j, λ_ij, PMI_ij) of round k."""
        some = slice(self.cuts[k], self.cuts[k + 1])
        return self.row[some], self.column[some], self.weights[some], self.targets[some]


def adagrad_epoch(
    target: np.ndarray,
    source: np.ndarray,
    sums: list[np.ndarray],
    rounds: Rounds,
    rng: np.random.Generator,
    rate: float = 0.1,
    loss_scale: float = 1.0,
    accumulate_first: bool = True,
) -> None:
    """Every record once, in random order of rounds; target, source and sums change in place."""
    update = step_sums_first if accumulate_first else step_as_glove
    for turn in range(2):  # every pair is two records, (i, j) and (j, i)
        for k in rng.permutation(len(rounds)):
            i, j, weights, targets = rounds[k]
            if not turn:
                i, j = j, i
            v, u = target[i], source[j]
            # λ_ij (⟨v_i, v_j⟩ − PMI_ij)
            inner = np.einsum("nd,nd->n", v, u)
            error = (loss_scale * weights * (inner - targets))[:, None]
            # eq. 21, 22
            update(target, sums[0], i, error * u, rate)
            update(source, sums[-1], j, error * v, rate)


def step_sums_first(vectors, sums, rows, gradient, rate) -> None:
    """G ← G + g², v ← v − η g / √G: eq. 23 in the order of his code."""
    seen = sums[rows] + gradient * gradient
    vectors[rows] -= rate * gradient / np.sqrt(seen + 1e-8)
    sums[rows] = seen


def step_as_glove(vectors, sums, rows, gradient, rate) -> None:
    """v ← v − η g / √G, then G ← G + η² g²: GloVe's order, whose first step has no bound."""
    gradient = rate * gradient
    seen = sums[rows]
    vectors[rows] -= gradient / np.sqrt(seen)
    seen += gradient * gradient
    sums[rows] = seen
