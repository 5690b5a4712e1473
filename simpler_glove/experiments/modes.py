"""One vector per word or two? Shared, concatenated and summed vectors, scored on analogies.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/experiments/modes.py                  (State of the Union addresses)
         python simpler_glove/experiments/modes.py big.txt.xz
Symbols: v_i → centre   v̂_j → context
         shared: v = v̂ (the article)   concat: [v, v̂]   sum: v + v̂
Differs from the article: the modes are in the author's program (December 2017), his remark on them
         in its README.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import fetch, load_corpus, read_analogies
from least_squares import fit
from vectors import WordVectors, analogy_accuracy

MOST = 30_000  # most frequent words that may answer


def flags(parser):
    names = "English text files or registered corpora"
    parser.add_argument("corpus", nargs="*", default=["sotu"], help=names)
    dim = "length of a vector (concat: twice that)"
    parser.add_argument("--dim", type=cli.between(1, 10**5), default=128, help=dim)
    weight = cli.between(0, 1e9, float)
    unseen = "of all pairs at PMI 0, beside that of those that met (the article: 0)"
    parser.add_argument("--unseen-weight", type=weight, default=3.0, help=unseen)
    threads = cli.between(1, 1024)
    parser.add_argument("--threads", type=threads, default=2, help="the result is the same")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


def score(words: np.ndarray, vectors: np.ndarray, sections: list) -> dict[str, tuple[int, int]]:
    """{syntactic, semantic: (right, asked)}; sections named gram… are syntactic."""
    found = analogy_accuracy(WordVectors(words, vectors), sections, MOST, baseline=False)
    result = {}
    for kind, wanted in (("syntactic", True), ("semantic", False)):
        rows = [row for name, row in found["sections"].items() if name.startswith("gram") is wanted]
        result[kind] = sum(right for right, _ in rows), sum(asked for _, asked in rows)
    return result


def percents(scores: dict[str, dict]) -> dict[str, dict]:
    return {
        mode: {kind: 100 * right / max(asked, 1) for kind, (right, asked) in parts.items()}
        for mode, parts in scores.items()
    }


def check(scores: dict[str, dict]) -> list:
    """C7.13: differences against two standard errors of a difference of two shares."""
    percent = {mode: parts["syntactic"] for mode, parts in percents(scores).items()}
    asked = scores["shared"]["syntactic"][1]
    rate = percent["shared"] / 100
    error = 100 * 2 * (2 * rate * (1 - rate) / max(asked, 1)) ** 0.5
    better = percent["concat"] > percent["shared"] + error
    same = abs(percent["sum"] - percent["shared"]) < error
    enough = asked * rate >= 20  # right answers
    return [cli.claim("C7.13", percent | {"error": error}, better and same if enough else None)]


def plot_scores(scores: dict[str, dict]):
    """Share of analogies answered, by mode and kind."""
    figure, axes = cli.subplots()
    percent = percents(scores)
    for place, kind in enumerate(("syntactic", "semantic")):
        shares = [parts[kind] for parts in percent.values()]
        where = np.arange(len(scores)) + 0.4 * place
        bars = axes.bar(where, shares, 0.38, label=kind, color=f"C{4 + place}")
        axes.bar_label(bars, fmt="%.1f")
    axes.set_xticks(np.arange(len(scores)) + 0.2, list(scores))
    axes.set(ylabel="analogies answered [%]")
    axes.margins(y=0.25)
    axes.legend(frameon=False, loc="upper center", ncols=2)
    return figure


def main(args):
    sections = read_analogies(fetch("questions-words", args.data_dir))
    limit = 2000 if args.quick else None
    words, counts, pairs, _ = load_corpus(args.corpus, data_dir=args.data_dir, limit=limit)
    print(f"vocabulary {len(words):,}, {pairs.nnz:,} pairs", flush=True)
    options = {"unseen_weight": args.unseen_weight, "threads": args.threads, "seed": args.seed}
    options["dim"] = min(args.dim, 32) if args.quick else args.dim
    shared = fit(pairs, counts, mode="shared", **options)
    two = fit(pairs, counts, mode="concat", **options)  # sum comes from the same fit
    vectors = {
        "shared": shared["vectors"],
        "concat": two["vectors"],
        "sum": two["centre"] + two["context"],
    }
    losses = {"shared": shared["history"][-1]["loss"], "concat": two["history"][-1]["loss"]}
    losses["sum"] = losses["concat"]
    scores = {mode: score(words, table, sections) for mode, table in vectors.items()}
    for mode, parts in scores.items():
        answered = ", ".join(f"{kind} {right} of {asked}" for kind, (right, asked) in parts.items())
        print(f"{mode}: loss {losses[mode]:.6f}, {answered}", flush=True)
    metrics = {
        "vocabulary": len(words),
        "pairs": int(pairs.nnz),
        "loss": losses,
        "scores": scores,
        "percent": percents(scores),
    }
    return metrics, check(scores), {"modes_analogies": plot_scores(scores)}


if __name__ == "__main__":
    cli.run(main, flags)
