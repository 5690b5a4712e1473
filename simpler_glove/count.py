"""How often do two words meet? Vocabulary and co-occurrence counts of a corpus, within a bound on memory.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/count.py                  (People's Daily, January 1998; --quick for a look)
         python simpler_glove/count.py my.txt.xz --min-count 10 --memory 0.5
Time:    3 s on 2 cores (AMD EPYC), 0.3 GB

Symbols: x_ij → pair count   c_i → word count   window → 10 words on each side, every pair counts 1
A document is a line; no window crosses lines; words below --min-count leave no gap; pairs of a word with itself are
left out, so that the model infers ⟨v_w, v_w⟩ by itself (article, section on estimation).
Differs from the article: pairs are sorted instead of hashed; the counts are the same.
"""
import argparse
import itertools
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.vocabulary import DEFAULT_CORPUS, Spool, build_vocabulary, read_documents  # noqa: E402

HERE = Path(__file__).resolve().parent
BLOCK = 1 << 20          # keys treated at once where temporary memory counts
HEAD = 2048              # pairs among this many most frequent words are counted in a table (16 MB) instead of sorted
LARGEST_32 = 92_681      # n(n+1)/2 < 2³² holds up to this vocabulary


# ---------------------------------------------------------------- method
def count_runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys → (each key once, how often it came), the keys move to the front of `keys`."""
    size, totals, first = 0, [], 0
    while first < len(keys):
        last = min(first + 4 * BLOCK, len(keys))
        last = first + int(np.searchsorted(keys[first:], keys[last - 1], "right"))      # whole runs only
        block = keys[first:last]
        starts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
        totals.append(np.diff(starts, append=len(block)).astype(np.int32))
        keys[size:size + len(starts)] = block[starts]
        size, first = size + len(starts), last
    return keys[:size], np.concatenate(totals) if totals else np.empty(0, np.int32)


def merge_runs(keys: list[np.ndarray], totals: list[np.ndarray], memory: float) -> tuple[np.ndarray, np.ndarray]:
    """Merge sorted runs (maps of files) range of keys by range of keys, each range small enough for `memory` bytes."""
    length = sum(map(len, keys))
    ranges = int(length * 64 / memory) + 1
    sample = np.sort(np.concatenate([run[::max(1, len(run) // 4096)] for run in keys]))
    bounds = np.unique(sample[np.linspace(0, len(sample) - 1, ranges + 1).astype(int)[1:-1]])
    cuts = [np.concatenate([[0], np.searchsorted(run, bounds), [len(run)]]) for run in keys]
    merged_keys, merged_totals = [], []
    for part in range(len(bounds) + 1):
        slices = [slice(cut[part], cut[part + 1]) for cut in cuts]
        block = np.concatenate([run[piece] for run, piece in zip(keys, slices)])
        if not len(block):
            continue
        amounts = np.concatenate([run[piece] for run, piece in zip(totals, slices)])
        order = np.argsort(block)
        block = block[order]
        starts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
        merged_keys.append(block[starts])
        merged_totals.append(np.add.reduceat(amounts[order], starts, dtype=np.int32))
    return np.concatenate(merged_keys), np.concatenate(merged_totals)


def count_pairs(ids: np.ndarray, ends: np.ndarray, size: int, window: int = 10, memory: float = 1e9,
                folder: Path | None = None) -> csr_matrix:
    """How often two different words stand within `window` words of each other in one document.

    ids, ends: from build_vocabulary; size: of the vocabulary; memory: bytes for counting (the result, 8 bytes a pair,
    comes on top; what does not fit goes through sorted runs in temporary files in `folder`).
    Returns (size, size) int32, lower triangle only: row i, column j < i holds x_ij = x_ji.
    """
    dtype = np.uint32 if size <= LARGEST_32 else np.uint64
    base = np.arange(size, dtype=np.uint64)
    base = (base * (base + 1) // 2).astype(dtype)         # key of a pair i ≥ j: i(i+1)/2 + j, small for frequent words
    head_words = min(HEAD, size, int((memory / 64) ** .5))
    head = head_words * (head_words + 1) // 2
    table = np.zeros(head, np.int64)
    capacity = max(int(memory / (2 * dtype().itemsize)), 1 << 12)
    chunk = int(max(1, min(capacity // (2 * window), BLOCK, len(ids))))      # tokens taken at once
    buffer, filled = np.empty(min(capacity, len(ids) * window), dtype), 0    # untouched pages cost no memory
    runs, run_keys, run_totals = [], Spool(folder, dtype), Spool(folder, np.int32)

    def spill(buffer):
        buffer.sort()
        keys, totals = count_runs(buffer)
        runs.append(len(keys))
        run_keys.write(keys)
        run_totals.write(totals)

    for start in range(0, len(ids), chunk):
        block = ids[start:start + chunk + window]          # pairs whose left word lies in this chunk
        left = min(chunk, len(ids) - start)
        base_block = base[block]
        block = block.astype(dtype)
        near = ends[slice(*np.searchsorted(ends, [start + 1, start + left + window]))] - start
        frequent_keys = []
        for distance in range(1, window + 1):
            stop = min(left, len(block) - distance)
            if stop <= 0:
                break
            keys = np.maximum(base_block[:stop], base_block[distance:distance + stop])
            keys += np.minimum(block[:stop], block[distance:distance + stop])
            crossing = (near[:, None] - 1 - np.arange(distance)).ravel()
            keys[crossing[(crossing >= 0) & (crossing < stop)]] = 0          # key 0 is a self-pair: left out below
            frequent = keys < head
            frequent_keys.append(keys[frequent])
            np.logical_not(frequent, out=frequent)
            rest = keys[frequent]
            if filled + len(rest) > len(buffer):
                spill(buffer[:filled])
                filled = 0
            buffer[filled:filled + len(rest)] = rest
            filled += len(rest)
        if frequent_keys:
            table += np.bincount(np.concatenate(frequent_keys, dtype=np.int64, casting="same_kind"), minlength=head)
    if runs:
        spill(buffer[:filled])
        del buffer
        cuts = np.cumsum([0] + runs)
        all_keys, all_totals = run_keys.read(), run_totals.read()
        keys, totals = merge_runs([all_keys[a:b] for a, b in itertools.pairwise(cuts)],
                                  [all_totals[a:b] for a, b in itertools.pairwise(cuts)], memory / 2)
    else:
        buffer[:filled].sort()
        keys, totals = count_runs(buffer[:filled])
    own = base + np.arange(size, dtype=dtype)             # keys of a word with itself
    table[own[:head_words]] = 0
    place = np.minimum(np.searchsorted(keys, own), max(len(keys) - 1, 0))
    totals[place[keys[place] == own] if len(keys) else []] = 0
    found = np.flatnonzero(table).astype(dtype)            # rows before head_words lie in the table, the others in keys
    values = np.concatenate([table[found].astype(np.int32), totals])
    starts = np.concatenate([np.searchsorted(found, base[:head_words]),
                             np.searchsorted(keys, base[head_words:]) + len(found), [len(values)]])
    columns = np.concatenate([found, keys])
    columns -= np.repeat(base, np.diff(starts))            # column = key − i(i+1)/2
    columns = columns.astype(np.int32)
    pairs = csr_matrix((values, columns, starts), shape=(size, size), copy=False)
    pairs.eliminate_zeros()
    return pairs


# ---------------------------------------------------------------- evaluation
def load_corpus(sources, segment=False, min_count=5, max_size=None, window=10, memory=1e9, folder=None, data_dir=None,
                limit=None) -> tuple[np.ndarray, np.ndarray, csr_matrix, int]:
    """From corpora to (words, counts, lower triangle of pair counts, number of documents)."""
    documents = itertools.islice(read_documents(sources, segment, data_dir), limit)
    words, counts, ids, ends = build_vocabulary(documents, min_count, max_size, folder)
    return words, counts, count_pairs(ids, ends, len(words), window, memory, folder), len(ends)


# ---------------------------------------------------------------- figures
def plot_counts(pairs: csr_matrix) -> Figure:
    """How many pairs of words met x times."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    times, number = np.unique(pairs.data, return_counts=True)
    axes.loglog(times, number, ".")
    axes.set(xlabel="times a pair met, x_ij", ylabel="pairs of words")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS],
                        help="text files (.txt .gz .xz .bz2; a document a line) or peoples-daily-199801, sotu, text8")
    parser.add_argument("--segment", action="store_true", help="cut raw Chinese text into words with jieba")
    parser.add_argument("--min-count", type=int, default=5, help="least occurrences of a word")
    parser.add_argument("--window", type=int, default=10, help="words on each side")
    parser.add_argument("--memory", type=float, default=1.0, help="GB for counting; more goes through temporary files")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("min_count", "window"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 1")
    if not args.memory > 0:
        parser.error(f"--memory {args.memory}: must be a positive number of GB")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    def seed(text: str) -> int:
        return range(10**9).index(int(text))               # else ValueError, from which argparse makes its message
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random draw, 0 … 999999999")
    parser.add_argument("--out-dir", type=Path, default=HERE / "outputs", help="where results and figures go")
    parser.add_argument("--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR, else data/.cache)")


def save_results(args: argparse.Namespace, script: str, metrics: dict, claims: list, figures: list,
                 started: float) -> dict:
    """Write <out-dir>/<script>.json in one move and return what it holds."""
    packages = [name for name in ("numpy", "scipy", "keras", "tensorflow", "matplotlib") if name in sys.modules]
    results = {
        "script": script, "quick": args.quick, "seed": args.seed,
        "config": {key: str(value) if isinstance(value, Path) else value
                   for key, value in vars(args).items() if key not in ("out_dir", "data_dir")},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": f"{os.cpu_count()} cores, {platform.machine()}", "seconds": round(time.perf_counter() - started, 1),
        "metrics": metrics, "claims": claims, "figures": figures,
    }
    path = args.out_dir / f"{script}.json"
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(results, ensure_ascii=False, indent=1, default=float) + "\n", encoding="utf-8")
    os.replace(partial, path)
    for claim in claims:
        verdict = {True: "holds", False: "does NOT hold", None: "not measurable here"}[claim["holds"]]
        print(f"{claim['id']} {verdict}: {claim['claim']} | article: {claim['expected']} | here: {claim['measured']}")
    print(f"{'QUICK RUN, not results. ' if args.quick else ''}Wrote {path} in {results['seconds']} s")
    return results


def main(argv=None) -> dict:
    started, cpu = time.perf_counter(), time.process_time()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)   # before any work
    words, counts, pairs, documents = load_corpus(
        args.corpus, args.segment, args.min_count, window=args.window, memory=args.memory * 1e9, folder=args.out_dir,
        data_dir=args.data_dir, limit=3000 if args.quick else None)
    metrics = {"documents": documents, "tokens": int(counts.sum()), "vocabulary": len(words), "pairs": int(pairs.nnz),
               "meetings": int(pairs.data.sum(dtype=np.int64)), "cpu_s": time.process_time() - cpu}
    print(f"{documents} documents, {metrics['tokens']} words kept, vocabulary {len(words)}, {pairs.nnz} pairs")
    path = args.out_dir / "counts.npz"
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as file:
            np.savez(file, words=words, counts=counts, indptr=pairs.indptr, columns=pairs.indices,
                     pair_counts=pairs.data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    figures = ["count_pairs.png"]
    plot_counts(pairs).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "count", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
