"""Is our network ahead of BM25 by more than chance?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/experiments/against_bm25.py
         (with the weights that experiments/triplet.py left in --out-dir; without any it trains)

Both rank the same questions, so that their scores are compared question by question: some questions
are hard for both. Questions are drawn with replacement, and each draw gives a mean difference; the
middle 99 % of these are the interval. Where it does not hold 0, chance is ruled out at p < 0.01.
Differs from the article: it has no data, and compares with nothing.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument("--language", choices=("zh", "en"), default="zh", help="of all texts")
    parser.add_argument("--epochs", type=cli.between(1, 1000), default=5, help="if it must train")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported
from keras_tools import load_keras

load_keras()
import keras
import numpy as np

from answer import restore_or_train
from answer_search import AnswerSearch, leads, make_pools, ranks_by_bm25, scores_by_pool
from real_data import QUICK_SLICES, load_corpus

TITLES = {
    "top1": "top-1, found by search",
    "mrr": "reciprocal rank, found by search",
    "drawn_top1": "top-1, drawn at random",
    "drawn_mrr": "reciprocal rank, drawn at random",
}


def plot_leads(found: dict):
    """found: {pool and measure: [mean difference, low, high]} of the whole network."""
    figure, axes = cli.subplots(height=2.6)
    for place, key in enumerate(TITLES):
        middle, low, high = found[key]
        axes.plot([low, high], [place, place], color="C2", lw=3)
        axes.plot(middle, place, "o", color="C2")
        axes.annotate(f"{middle:+.3f}", (middle, place), (0, 7), textcoords="offset points")
    axes.axvline(0, color="0.4", ls="--", lw=1)
    axes.set_yticks(range(len(TITLES)), TITLES.values())
    axes.set(xlabel="ours − BM25, with 99 % interval", ylim=(len(TITLES) - 0.5, -0.7))
    return figure


def main(args):
    slices = QUICK_SLICES if args.quick else None
    splits, answers = load_corpus(args.language, args.data_dir, slices)
    search = AnswerSearch(splits, answers, args.language)
    restore_or_train(search, args, args.language)
    pools = make_pools(splits["test"], splits["train"], len(answers), args.seed)
    bm25 = ranks_by_bm25(pools, answers, args.language)
    ranks = search.ranks(pools)

    metrics = {"backend": keras.backend.backend(), "test_questions": len(splits["test"])}
    metrics["bm25"] = scores_by_pool(bm25)
    for name, by_pool in ranks.items():
        metrics[name] = scores_by_pool(by_pool)
        metrics[f"{name}_lead"] = leads(by_pool, bm25)
    for key, (ahead, low, high) in metrics["both_lead"].items():
        word = "level" if low <= 0 <= high else "ahead" if ahead > 0 else "behind"
        print(f"{key}: {word}, {ahead:+.3f} (99 % interval {low:+.3f} … {high:+.3f})")
    both = np.stack([ranks["both"][""] == 1, bm25[""] == 1])
    metrics["only_ours_first"] = float((both[0] & ~both[1]).mean())
    metrics["only_bm25_first"] = float((both[1] & ~both[0]).mean())
    return metrics, [], {"against_bm25_lead": plot_leads(metrics["both_lead"])}


if __name__ == "__main__":
    cli.run(main, flags)
