"""What does a larger corpus bring, and what does it cost? Shares of one corpus, both losses.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/experiments/growth.py
         python simpler_glove/experiments/growth.py big.txt.xz --shares 0.01 0.03 0.1 0.3 1
Symbols: ρ → rho, Spearman's, of ‖v_w‖² and −log P(w) (eq. 26)
Differs from the article: it trained on one corpus, of 1,000,000 encyclopaedia articles. Here each
         share is a random choice of the lines, counted and fitted in a process of its own, so that
         its peak of memory is its own.
"""

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import QUICK_DOCUMENTS, check_sources, read_analogies, read_documents, read_similarity
from counting import build_vocabulary, count_pairs
from evaluate import ANALOGY, SIMILARITY, evaluate, read_sets
from least_squares import fit
from variants import COLORS, CORPUS, VARIANTS
from vectors import WordVectors

LOSSES = {"default": "ours", "article": "the article's loss"}
SETS = {"wordsim240": "o-", "ca-translated": "s--"}


def flags(parser):
    parser.add_argument("corpus", **CORPUS)
    share = cli.between(1e-6, 1, float)
    shares = "of the lines of the corpus"
    parser.add_argument("--shares", nargs="+", type=share, default=[0.1, 0.3, 1.0], help=shares)
    parser.add_argument("--memory", type=cli.between(1e-3, 1e3, float), default=1.0, help="GB")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- one size
def gigabytes() -> float:
    """The most memory that this process has held, GB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def chosen_documents(args, share: float):
    """The lines of the corpus that a coin which shows heads with chance `share` lets through."""
    random = np.random.default_rng(args.seed)
    for number, words in enumerate(read_documents(args.corpus, data_dir=args.data_dir)):
        if args.quick and number == QUICK_DOCUMENTS:
            return
        if random.random() < share:
            yield words


def measure_share(args, share: float, sets: tuple[dict, dict]) -> dict:
    """Count and fit a share of the corpus: sizes, times, peaks of memory, scores by loss."""
    started = time.process_time()
    documents = chosen_documents(args, share)
    words, counts, ids, ends = build_vocabulary(documents, folder=args.out_dir)
    pairs = count_pairs(ids, ends, len(words), memory=args.memory * 1e9, folder=args.out_dir)
    row = {
        "share": share,
        "tokens": int(counts.sum()),
        "vocabulary": len(words),
        "pairs": int(pairs.nnz),
        "counting_cpu_s": time.process_time() - started,
        "counting_gigabytes": gigabytes(),
    }
    dim = min(32 if args.quick else 128, len(words))
    for loss in LOSSES:
        fitted = fit(pairs, counts, dim, seed=args.seed, measure=False, **VARIANTS[loss])
        vectors = WordVectors(words, fitted["vectors"], counts)
        scores = evaluate(vectors, *sets, restrict=len(words))
        norms2 = vectors.norms.astype(float) ** 2
        row[loss] = {
            "training_cpu_s": fitted["history"][-1]["cpu_s"],
            "training_wall_s": fitted["history"][-1]["wall_s"],
            "gigabytes": gigabytes(),
            "rho": float(scipy.stats.spearmanr(norms2, -np.log(counts)).statistic),
            "scores": {name: score["score"] for name, score in scores.items()},
            "covered": {name: score["covered"] for name, score in scores.items()},
        }
    row["tokens_per_cpu_s"] = row["tokens"] / (
        row["counting_cpu_s"] + row["default"]["training_cpu_s"]
    )
    return row


# ---------------------------------------------------------------- figure
def plot_growth(rows: list[dict]):
    """Scores and ρ against the size of the corpus, for both losses."""
    figure, (left, right) = cli.subplots(1, 2, height=4)
    tokens = [row["tokens"] / 1e6 for row in rows]
    for loss, label in LOSSES.items():
        for name, style in SETS.items():
            scores = [row[loss]["scores"].get(name) for row in rows]
            known = [(x, y) for x, y in zip(tokens, scores, strict=True) if y is not None]
            if known:
                text = f"{name}, {label}"
                left.plot(*zip(*known, strict=True), style, color=COLORS[loss], label=text)
        rho = [row[loss]["rho"] for row in rows]
        right.plot(tokens, rho, "o-", color=COLORS[loss], label=label)
    right.axhline(0, color="0.7", linewidth=1)
    left.set(xscale="log", xlabel="million words", ylabel="Spearman's ρ; share of analogies")
    right.set(xscale="log", xlabel="million words", ylabel="ρ of ‖v‖² and −log P")
    left.set_ylim(0)
    for axes in (left, right):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    return figure


def main(args):
    check_sources(args.corpus)
    similarity = read_sets(SIMILARITY, read_similarity, args.data_dir)
    analogy = read_sets(ANALOGY, read_analogies, args.data_dir)
    fresh = multiprocessing.get_context("spawn")
    rows = []
    for share in sorted(args.shares):
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            row = process.submit(measure_share, args, share, (similarity, analogy)).result()
        rows.append(row)
        ours, plain = row["default"], row["article"]
        print(
            f"{row['tokens']:,} words, {row['vocabulary']:,} different, {row['pairs']:,} pairs: "
            f"counting {row['counting_cpu_s']:.0f} CPU s, fit {ours['training_cpu_s']:.0f} CPU s, "
            f"{ours['gigabytes']:.1f} GB; ρ {ours['rho']:.2f}, article's loss {plain['rho']:.2f}",
            flush=True,
        )
    return {"sizes": rows}, [], {"growth_scores": plot_growth(rows)}


if __name__ == "__main__":
    cli.run(main, flags)
