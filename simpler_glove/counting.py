"""Which words does a corpus hold, and how often do two of them meet? Within a bound on memory.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Symbols: c_i → counts   x_ij → pairs   window → words on each side; every pair in it counts 1

A window does not leave its document, words that fell out of the vocabulary leave no gap, and pairs
of a word with itself are left out, so that the model infers ⟨v_w, v_w⟩ by itself.
Differs from the article: the keys of pairs are sorted instead of hashed; the counts are the same.
"""

import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

BLOCK = 1 << 20  # words or keys treated at once where temporary memory counts
MIN_COUNT = 5  # occurrences of a word, unless a script is told otherwise; the author's program: 25
HEAD = 2048  # pairs among so many most frequent words are counted in a table (16 MB), not sorted
LARGEST_32 = 92_681  # n(n+1)/2 < 2³² holds up to this vocabulary: keys of 4 bytes


class Part(list):
    """A list of words whose document goes on in the next list (very long documents come so)."""


class Spool:
    """Arrays written one after another to an unnamed file, and read back through a memory map."""

    def __init__(self, folder: Path | None, dtype):
        self.file = unnamed_file(folder)
        self.place = folder or tempfile.gettempdir()
        self.dtype = np.dtype(dtype)
        self.size = 0

    def write(self, array: np.ndarray) -> None:
        """Raises OSError in one line when the disk is full."""
        try:
            self.file.write(np.ascontiguousarray(array, self.dtype).data)
            self.file.flush()
        except OSError as error:
            raise OSError(
                f"cannot write temporary data in {self.place}: {error.strerror}; "
                "free some space there or raise --memory"
            ) from None
        self.size += len(array)

    def read(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """A map of its own: what was read of it counts as our memory until it is dropped."""
        length = (self.size if last is None else last) - first
        if not length:
            return np.empty(0, self.dtype)
        start = first * self.dtype.itemsize
        return np.memmap(self.file, self.dtype, "r+", offset=start, shape=(length,))


def unnamed_file(folder: Path | None):
    return tempfile.TemporaryFile(dir=folder)


# ---------------------------------------------------------------- vocabulary
def build_vocabulary(
    documents: Iterable[list[str]],
    min_count: int = MIN_COUNT,
    max_size: int | None = None,
    folder: Path | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One pass over the documents → (words, counts, ids, ends).

    words (n,) of str, most frequent first, ties by code point; counts (n,) int64; ids (m,) int32,
    the corpus as ranks in `words`, other words left out, kept in a temporary file in `folder`;
    ends int64, where in ids documents end. Raises ValueError where no word is left.
    """
    names, totals, spool, ends = number_words(documents, folder)
    kept = np.flatnonzero(totals >= min_count).tolist()
    if not kept:
        raise ValueError(
            f"no word occurs {min_count} times (the most frequent one: {totals.max()}); lower "
            "--min-count or, if this is raw Chinese, cut it into words with --segment"
        )
    kept.sort(key=lambda number: (-totals[number], names[number]))
    kept = kept[:max_size]
    rank = np.full(len(names), -1, np.int32)
    rank[kept] = np.arange(len(kept), dtype=np.int32)
    ids, ends = renumber(spool.read(), ends, rank)
    words = np.array([names[number] for number in kept], dtype=object)
    return words, totals[kept], ids, ends


def number_words(documents, folder: Path | None):
    """(names in the order they came, count of each, Spool of the corpus as numbers, ends)."""
    number = defaultdict()
    number.default_factory = number.__len__  # a new word gets the next number
    spool = Spool(folder, np.int32)
    totals = np.zeros(1 << 16, np.int64)
    ends = []
    pieces = []
    pending = total = 0
    for words in itertools.chain(documents, [None]):
        if words is not None:
            pieces.append(np.fromiter(map(number.__getitem__, words), np.int32, len(words)))
            pending += len(words)
            total += len(words)
            if type(words) is not Part:
                ends.append(total)
        if pieces and (words is None or pending > BLOCK):
            block = np.concatenate(pieces)
            if len(number) > len(totals):
                more = np.zeros(2 * len(number) - len(totals), np.int64)
                totals = np.concatenate([totals, more])
            found = np.bincount(block)
            totals[: len(found)] += found
            spool.write(block)
            pieces = []
            pending = 0
    if not total:
        raise ValueError("the corpus is empty: no word was read")
    return list(number), totals[: len(number)], spool, np.array(ends or [total], np.int64)


def renumber(ids: np.ndarray, ends: np.ndarray, rank: np.ndarray):
    """Numbers → ranks in place, without the words that fell out: (ids, ends) of what is left."""
    total = len(ids)
    size = 0
    kept_before_end = np.zeros(len(ends), np.int64)
    for start in range(0, total, BLOCK):
        block = rank[ids[start : start + BLOCK]]
        inside = slice(*np.searchsorted(ends, [start + 1, start + len(block) + 1]))
        running = np.cumsum(block >= 0)
        kept_before_end[inside] = size + running[ends[inside] - start - 1]
        block = block[block >= 0]
        ids[size : size + len(block)] = block
        size += len(block)
    kept_before_end[ends == 0] = 0  # blank lines before the first word
    return ids[:size], np.unique(kept_before_end)


# ---------------------------------------------------------------- pairs
def count_pairs(
    ids: np.ndarray,
    ends: np.ndarray,
    size: int,
    window: int = 10,
    memory: float = 1e9,
    folder: Path | None = None,
) -> csr_matrix:
    """How often two different words stand within `window` words of each other in one document.

    ids, ends: from build_vocabulary; size: of the vocabulary; memory: bytes for counting (the
    result, 8 bytes a pair, comes on top; what does not fit goes to temporary files in `folder`).
    Returns (size, size) int32, lower triangle only: row i, column j < i holds x_ij = x_ji.
    """
    counter = PairCounter(size, len(ids) * window, memory, folder)
    chunk = int(max(1, min(counter.capacity // (2 * window), BLOCK, len(ids))))
    for start in range(0, len(ids), chunk):
        left = min(chunk, len(ids) - start)  # words that are the left one of a pair in this chunk
        block = ids[start : start + chunk + window]
        near = ends[slice(*np.searchsorted(ends, [start + 1, start + left + window]))] - start
        counter.add(block, left, near, window)
    return counter.matrix()


class PairCounter:
    """Pairs of ranks i ≥ j as keys i(i+1)/2 + j, which are small where both words are frequent.

    Keys below `head` are counted in a table; the others fill a buffer, which is sorted and counted
    when it is full and written out as a run of (key, count).
    """

    def __init__(self, size: int, most: int, memory: float, folder: Path | None):
        """most: an upper bound on the number of pairs."""
        self.size = size
        self.memory = memory
        self.dtype = np.uint32 if size <= LARGEST_32 else np.uint64
        ranks = np.arange(size, dtype=np.uint64)
        self.base = (ranks * (ranks + 1) // 2).astype(self.dtype)
        self.head_words = min(HEAD, size, int((memory / 64) ** 0.5))
        self.head = self.head_words * (self.head_words + 1) // 2
        self.table = np.zeros(self.head, np.int64)
        self.capacity = max(int(memory / (2 * self.dtype().itemsize)), 1 << 12)
        self.buffer = np.empty(min(self.capacity, most), self.dtype)  # untouched pages are free
        self.filled = 0
        self.runs = []
        self.run_keys, self.run_totals = Spool(folder, self.dtype), Spool(folder, np.int32)

    def add(self, block: np.ndarray, left: int, near: np.ndarray, window: int) -> None:
        """Count the pairs whose left word is among the first `left` of block; near: ends in it."""
        base = self.base[block]
        block = block.astype(self.dtype)
        frequent_keys = []
        for distance in range(1, window + 1):
            stop = min(left, len(block) - distance)
            if stop <= 0:
                break
            keys = np.maximum(base[:stop], base[distance : distance + stop])
            keys += np.minimum(block[:stop], block[distance : distance + stop])
            crossing = (near[:, None] - 1 - np.arange(distance)).ravel()
            crossing = crossing[(crossing >= 0) & (crossing < stop)]
            keys[crossing] = 0  # the key of a self-pair, which is left out in the end
            frequent = keys < self.head
            frequent_keys.append(keys[frequent])
            np.logical_not(frequent, out=frequent)
            self.keep(keys[frequent])
        if frequent_keys:
            frequent_keys = np.concatenate(frequent_keys, dtype=np.int64, casting="same_kind")
            self.table += np.bincount(frequent_keys, minlength=self.head)

    def keep(self, keys: np.ndarray) -> None:
        if self.filled + len(keys) > len(self.buffer):
            self.spill()
        self.buffer[self.filled : self.filled + len(keys)] = keys
        self.filled += len(keys)

    def spill(self) -> None:
        keys, totals = self.counted()
        self.runs.append(len(keys))
        self.run_keys.write(keys)
        self.run_totals.write(totals)
        self.filled = 0

    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        keys = self.buffer[: self.filled]
        keys.sort()
        return count_runs(keys)

    def merged(self):
        """(keys, counts) of all that was kept, in ascending pieces."""
        if not self.runs:
            keys, totals = self.counted()
            for first in range(0, len(keys), BLOCK):
                yield keys[first : first + BLOCK], totals[first : first + BLOCK]
            return
        self.spill()
        del self.buffer
        yield from merge_runs(self.runs, self.run_keys, self.run_totals, self.memory / 2)

    def matrix(self) -> csr_matrix:
        """The counts as a lower triangle, without pairs of a word with itself."""
        found = np.flatnonzero(self.table)  # rows before head_words lie in the table
        head = found.astype(self.dtype), self.table[found].astype(np.int32)
        columns = []
        values = []
        lengths = np.zeros(self.size, np.int64)
        for keys, totals in itertools.chain([head], self.merged()):
            # row i holds the keys from i(i+1)/2 on, and column = key − i(i+1)/2
            starts = np.searchsorted(keys, self.base)
            row = np.repeat(np.arange(self.size, dtype=np.int32), np.diff(starts, append=len(keys)))
            column = (keys - self.base[row]).astype(np.int32)
            different = column < row
            columns.append(column[different])
            values.append(totals[different])
            lengths += np.bincount(row[different], minlength=self.size)
        columns = np.concatenate(columns)
        values = np.concatenate(values)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return csr_matrix((values, columns, starts), shape=(self.size, self.size), copy=False)


def count_runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys → (each key once, how often it came); the keys move to the front of `keys`."""
    size = first = 0
    totals = [np.empty(0, np.int32)]
    while first < len(keys):
        last = min(first + 4 * BLOCK, len(keys))
        last = first + int(np.searchsorted(keys[first:], keys[last - 1], "right"))  # whole runs
        block = keys[first:last]
        starts = run_starts(block)
        totals.append(np.diff(starts, append=len(block)).astype(np.int32))
        keys[size : size + len(starts)] = block[starts]
        size += len(starts)
        first = last
    return keys[:size], np.concatenate(totals)


def run_starts(block: np.ndarray) -> np.ndarray:
    """Where in a sorted block a new key begins."""
    return np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))


def merge_runs(lengths: list[int], keys: Spool, totals: Spool, memory: float):
    """Merge sorted runs, range by range of keys, each range small enough for `memory`.

    lengths: of the runs, which follow each other in the two files.
    """
    ranges = int(keys.size * 64 / memory) + 1
    ends = np.cumsum(lengths)
    runs = np.split(keys.read(), ends[:-1])
    sample = np.sort(np.concatenate([run[:: max(1, len(run) // 4096)] for run in runs]))
    bounds = np.unique(sample[np.linspace(0, len(sample) - 1, ranges + 1).astype(int)[1:-1]])
    inside = [[0, *np.searchsorted(run, bounds), len(run)] for run in runs]
    cuts = np.array(inside) + (ends - lengths)[:, None]
    del runs
    for first, last in itertools.pairwise(cuts.T.tolist()):
        pieces = list(zip(first, last, strict=True))
        block = np.concatenate([keys.read(*piece) for piece in pieces])
        if not len(block):
            continue
        amounts = np.concatenate([totals.read(*piece) for piece in pieces])
        order = np.argsort(block)
        block = block[order]
        starts = run_starts(block)
        yield block[starts], np.add.reduceat(amounts[order], starts, dtype=np.int32)


# ---------------------------------------------------------------- pairs kept back
def split_pairs(
    pairs: csr_matrix, least: int, seed: int, share: float = 0.1
) -> tuple[csr_matrix, csr_matrix, csr_matrix]:
    """(pairs that met `least` times or more, a random share of these, all pairs but that share)."""
    often = pairs.data >= least
    held_out = often & (np.random.default_rng(seed).random(len(often)) < share)

    def part(mask):
        some = pairs.copy()
        some.data *= mask
        some.eliminate_zeros()
        return some

    return part(often), part(held_out), part(~held_out)
