"""How often do two words meet? Vocabulary and pair counts of a corpus, within a bound on memory.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/experiments/count.py   (People's Daily, January 1998)
         python simpler_glove/experiments/count.py my.txt.xz --min-count 10 --memory 0.5
Makes:   vocabulary.tsv (word, count) and counts.npz (words as UTF-8 with a word a line, counts, and
         the lower triangle of x_ij as indptr, columns, pair_counts of a csr_matrix)
Symbols: x_ij → pairs   c_i → counts
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import DEFAULT_CORPUS, QUICK_DOCUMENTS, load_corpus
from counting import MIN_COUNT
from vector_files import replacing


def flags(parser):
    names = "files (.txt .gz .xz .bz2; a document a line) or peoples-daily-199801, sotu, text8"
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS], help=names)
    parser.add_argument("--segment", action="store_true", help="cut raw Chinese with jieba")
    least = "least occurrences of a word"
    parser.add_argument("--min-count", type=cli.between(1, 10**9), default=MIN_COUNT, help=least)
    window = cli.between(1, 10**4)
    parser.add_argument("--window", type=window, default=10, help="words on each side")
    memory = "GB for counting; what does not fit goes through temporary files"
    parser.add_argument("--memory", type=cli.between(1e-9, 1e6, float), default=1.0, help=memory)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


def plot_counts(counts: np.ndarray, pair_counts: np.ndarray):
    """Left: occurrences over rank (Zipf's law); right: how many pairs met x times."""
    figure, (left, right) = cli.subplots(1, 2)
    ranks = np.arange(1, len(counts) + 1)
    left.loglog(ranks, counts)
    left.loglog(ranks[[0, -1]], counts[0] / ranks[[0, -1]], "k--", linewidth=0.8)
    middle = len(counts) ** 0.5
    left.annotate("1/rank", (middle, counts[0] / middle), (-45, -18), textcoords="offset points")
    left.set(xlabel="rank of the word", ylabel="occurrences")
    times, number = np.unique(pair_counts, return_counts=True)
    right.loglog(times, number, ".", markersize=3)
    right.set(xlabel="times a pair met, x_ij", ylabel="pairs of words")
    return figure


def main(args):
    started = time.process_time()
    words, counts, pairs, documents = load_corpus(
        args.corpus,
        args.segment,
        args.min_count,
        window=args.window,
        memory=args.memory * 1e9,
        folder=args.out_dir,
        data_dir=args.data_dir,
        limit=QUICK_DOCUMENTS if args.quick else None,
    )
    metrics = {
        "documents": documents,
        "tokens": int(counts.sum()),
        "vocabulary": len(words),
        "pairs": int(pairs.nnz),
        "meetings": int(pairs.data.sum(dtype=np.int64)),
        "cpu_s": time.process_time() - started,
    }
    print(f"vocabulary {len(words):,}: {' '.join(words[:20])} …; {pairs.nnz:,} pairs", flush=True)
    with replacing(args.out_dir / "vocabulary.tsv") as partial:
        lines = [f"{word}\t{count}\n" for word, count in zip(words, counts, strict=True)]
        partial.write_text("".join(lines), encoding="utf-8")
    with replacing(args.out_dir / "counts.npz") as partial, open(partial, "wb") as file:
        np.savez(
            file,
            words=np.frombuffer("\n".join(words).encode("utf-8"), np.uint8),
            counts=counts,
            indptr=pairs.indptr,
            columns=pairs.indices,
            pair_counts=pairs.data,
        )
    return metrics, [], {"count_zipf": plot_counts(counts, pairs.data)}


if __name__ == "__main__":
    cli.run(main, flags)
