"""Load word vectors of any common format, and train the missing ones that the other scripts here ask for.

Article: 更别致的词向量模型(六)：代码、分享与结语 https://kexue.fm/archives/4681
Run:     python simpler_glove/vectors.py                       what outputs/vectors.npz holds
         python simpler_glove/vectors.py FILE                  .npz, word2vec text (.gz too) or binary (.bin)
Time:    TIME_LINE

Symbols: v_i → vectors[i]   P̃(w) → counts / counts.sum()
Differs from the article: his vectors are word2vec text (which loads); ours are .npz, 200 times faster to load.
"""
import argparse
import gzip
import itertools
import json
import os
import platform
import sys
import time
import zipfile
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.count import DEFAULT_CORPUS, read_documents  # noqa: E402

HERE = Path(__file__).resolve().parent
# what the scripts compare: our default; the article's loss to the letter; the same without min{x/x_max, 1}; English
VARIANTS = {"default": {}, "article": {"unseen_weight": 0.0}, "untruncated": {"unseen_weight": 0.0, "truncate": False},
            "english": {"corpus": "sotu"}}
QUICK_DOCUMENTS = 4000      # of 19,484 lines of the default corpus


# ---------------------------------------------------------------- data
def load_vectors(path: Path) -> tuple:
    """(words (n,) str, vectors float32 (n, d), counts int64 (n,) or None, config dict) of a vector file.

    .npz (train.py), word2vec binary (.bin), else word2vec or GloVe text (.gz too). Raises ValueError in one line
    when the file is damaged or cut short, OSError when it cannot be read."""
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                counts = archive["counts"] if "counts" in archive else None
                config = json.loads(str(archive["config"])) if "config" in archive else {}
                words, vectors = archive["words"].astype(str), archive["vectors"]
        else:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                words, vectors = (read_binary if ".bin" in path.suffixes else read_text)(file)
            words, counts, config = np.array(words, dtype=str), None, {}
        if vectors.ndim != 2 or len(words) != len(vectors) or (counts is not None and len(counts) != len(words)):
            raise ValueError(f"{len(words)} words beside vectors of shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError("a number is not finite")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile) as error:
        reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a whole vector file, damaged or cut short ({reason}); "
                         "copy or train it again") from None
    return words, np.ascontiguousarray(vectors, np.float32), counts, config


def read_text(file) -> tuple[list, np.ndarray]:
    """(words, float32 n × d) of the text format: an optional line "n d", then a word and d numbers a line."""
    first = file.readline().split()
    if not first:
        raise ValueError("the file is empty")
    header = len(first) == 2
    dimension = int(first[1]) if header else len(first) - 1
    words, rows = [], []
    lines = file if header else [b" ".join(first), *file]
    for number, line in enumerate(lines, start=1 + header):
        fields = line.decode("utf-8").rstrip().rsplit(" ", dimension)
        if len(fields) != dimension + 1:
            raise ValueError(f"line {number} has not {dimension} numbers")
        words.append(fields[0])
        rows.append(np.array(fields[1:], np.float32))
    if header and len(words) != int(first[0]):
        raise ValueError(f"{len(words)} words, {int(first[0])} announced")
    return words, np.stack(rows)


def read_binary(file) -> tuple[list, np.ndarray]:
    """(words, float32 n × d) of word2vec's binary format: a line "n d", then word, blank, d × 4 bytes."""
    total, dimension = map(int, file.readline().split())
    data, position, words = file.read(), 0, []
    vectors = np.empty((total, dimension), np.float32)
    for row in range(total):
        blank = data.find(b" ", position)
        end = blank + 1 + 4 * dimension
        if blank < 0 or end > len(data):
            raise ValueError(f"{row} words, {total} announced")
        words.append(data[position:blank].lstrip(b"\n").decode("utf-8"))
        vectors[row] = np.frombuffer(data, "<f4", dimension, blank + 1)
        position = end
    return words, vectors


def default_documents(args: argparse.Namespace) -> list[list[str]]:
    """The default corpus as lists of words, or its first lines with --quick."""
    documents = read_documents([DEFAULT_CORPUS], data_dir=args.data_dir)
    return list(itertools.islice(documents, QUICK_DOCUMENTS if args.quick else None))
