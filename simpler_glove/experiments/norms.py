"""What does the norm of a word vector say? ‖v_w‖² against −log P(w), and the smallest norms.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/experiments/norms.py
         python simpler_glove/experiments/norms.py big.txt.xz        (Chinese cut into words)
Symbols: ‖v_w‖² → norms2 (eq. 24–29)   −log P(w) → surprisal (eq. 26)
         λ = min{x/x_max, 1}^α → truncated, (x/x_max)^α → not truncated (eq. 19)
Differs from the article: function words are counted by their part of speech in the tagged corpus;
         words seen rarely are judged apart, since a vector that few pairs hold stays small whatever
         its word means.
"""

import sys
from pathlib import Path

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import chinese_font, word_classes
from variants import COLORS, CORPUS, LABELS, train_variants

FUNCTION = set("ucpwdrfmqykeo")  # 助 连 介 标点 副 代 方位 数 量 语气 …: the article's list has all
STRICT = set("ucpw")  # 助词 连词 介词 标点: nobody would call these content
BANDS = ((0, 200), (200, 1000), (1000, 5000), (200, 5000), (5000, None), (0, None))  # of ranks
SEEN = (5, 10, 20, 50)  # occurrences: the vector of a rare word is held by few pairs, and is short
FREQUENT = ("的", "是")  # the two words the article names
NAMED = ["，", "的", "是", "而且", "经济", "足球", "地震"]


def flags(parser):
    parser.add_argument("corpus", **CORPUS)
    top = "how many smallest norms are judged (the article shows 50)"
    parser.add_argument("--top", type=cli.between(1, 10**6), default=50, help=top)
    least = "only words seen so often are judged"
    parser.add_argument("--least", type=cli.between(1, 10**9), default=100, help=least)
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- method
def surprisal(counts: np.ndarray) -> np.ndarray:
    """−log P(w) of every word, nats."""
    return np.log(counts.sum() / counts)


def correlation(norms2: np.ndarray, counts: np.ndarray, chosen) -> float | None:
    """Spearman's ρ of ‖v‖² and −log P(w) over the chosen rows; None for few or equal counts."""
    if len(counts[chosen]) <= 20 or not np.ptp(counts[chosen]):
        return None
    return float(scipy.stats.spearmanr(norms2[chosen], surprisal(counts)[chosen]).statistic)


def norm_correlations(norms2: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """ρ by bands of frequency rank."""
    names = {f"{low}-{high or len(counts)}": slice(low, high) for low, high in BANDS}
    found = {name: correlation(norms2, counts, band) for name, band in names.items()}
    return {name: rho for name, rho in found.items() if rho is not None}


def correlations_by_count(norms2: np.ndarray, counts: np.ndarray) -> dict[str, dict]:
    """ρ over the words seen 5 times or more, 10 times or more, …, and how many they are."""
    answer = {}
    for least in SEEN:
        seen = counts >= least
        rho = correlation(norms2, counts, seen)
        if rho is not None:
            answer[f"{least}_times"] = {"words": int(seen.sum()), "rho": rho}
    return answer


def smallest_norms(words, norms2, counts, top: int, least: int) -> list[str]:
    """Words seen `least` times or more, smallest norm first."""
    order = np.argsort(norms2, kind="stable")
    return words[order[counts[order] >= least]][:top].tolist()


def rank_of(words, norms2, counts, word: str, least: int) -> int | None:
    """Place of a word, from 1, in the order of smallest_norms; None when it is not there."""
    order = smallest_norms(words, norms2, counts, len(words), least)
    return order.index(word) + 1 if word in order else None


# ---------------------------------------------------------------- evaluation
def describe(arrays: tuple, classes: dict[str, str], top: int, least: int) -> dict:
    """Numbers about the norms of one set of vectors; classes: word → part of speech."""
    words, vectors, counts, _ = arrays
    norms2 = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    if not (counts >= least).any():
        most = counts.max()
        raise ValueError(f"no word is seen {least} times (the commonest: {most}); lower --least")
    smallest = smallest_norms(words, norms2, counts, top, least)
    pool = words[counts >= least].tolist()

    def share(group, kinds):
        return float(np.mean([classes.get(word, "?") in kinds for word in group]))

    named = (*FREQUENT, *"在和了，。")
    return {
        "smallest": smallest,
        "correlation": norm_correlations(norms2, counts),
        "correlation_of_words_seen": correlations_by_count(norms2, counts),
        "function_share": share(smallest, FUNCTION),
        "function_share_all": share(pool, FUNCTION),
        "strict_share": share(smallest, STRICT),
        "strict_share_all": share(pool, STRICT),
        "punctuation": [word for word in smallest if classes.get(word) == "w"],
        "ranks": {word: rank_of(words, norms2, counts, word, least) for word in named},
        "pool": len(pool),
    }


def check_claims(described: dict[str, dict], top: int) -> list[dict]:
    """C7.4 on the article's loss, C7.5 on the article's loss truncated and not."""
    article, plain = described["article"], described["untruncated"]
    rho = list(article["correlation"].values())[-1]
    share, of_all = article["function_share"], article["function_share_all"]
    marks = article["punctuation"]
    grows = {
        "rho": rho,
        "function_words": share,
        "of_all": of_all,
        "punctuation": len(marks),
        "smallest": " ".join(article["smallest"][:8]),
    }
    # from the smallest norm: (not truncated, truncated)
    places = {word: (plain["ranks"][word], article["ranks"][word]) for word in FREQUENT}
    known = [pair for pair in places.values() if None not in pair]
    fronts = {
        "de_truncated": places["的"][1],
        "de_plain": places["的"][0],
        "shi_truncated": places["是"][1],
        "shi_plain": places["是"][0],
    }
    front_then_gone = all(before <= top < after for before, after in known) if known else None
    return [
        cli.claim("C7.4", grows, rho > 0.3 and share > max(0.5, 2 * of_all) and bool(marks)),
        cli.claim("C7.5", fronts, front_then_gone),
    ]


# ---------------------------------------------------------------- figures
def plot_surprisal(variants: dict[str, tuple], data_dir):
    """Every word as a point of −log P(w) and ‖v‖², the running median, some words by name."""
    font = chinese_font(data_dir)
    figure, panels = cli.subplots(1, 2, height=4.2)
    for axes, name in zip(panels, ("article", "default"), strict=True):
        words, vectors, counts, _ = variants[name]
        x, y = surprisal(counts), np.einsum("ij,ij->i", vectors, vectors)
        shown = np.r_[: min(1000, len(x)), 1000 : len(x) : 6]  # a sixth of the rarer words
        axes.plot(x[shown], y[shown], ".", markersize=1.5, color="0.8")
        medians = running_median(x, y)
        axes.plot(*medians, color=COLORS[name], linewidth=2)
        index = {word: row for row, word in enumerate(words)}
        for row in [index[word] for word in NAMED if word in index]:
            axes.plot(x[row], y[row], "ko", markersize=3)
            place = (x[row], y[row])
            axes.annotate(words[row], place, (3, 2), textcoords="offset points", family=font)
        top = max(np.percentile(y, 99.5), 1.05 * medians[1].max())
        axes.set(xlabel="−log P(w) [nat]", title=LABELS[name], ylim=(0, top))
    panels[0].set_ylabel("‖v‖² (line: median)")
    return figure


def running_median(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Median x and y in cells of about 1 nat or a fifth of the words: (2, cells)."""
    fifths = np.quantile(x, np.linspace(0, 1, 6)[:-1]).tolist() + [x.max()]
    cells = np.digitize(x, np.unique(np.r_[np.arange(x.min(), fifths[1], 1), fifths]))
    medians = [(np.median(x[cells == c]), np.median(y[cells == c])) for c in np.unique(cells)]
    return np.array(medians).T


def plot_truncation(variants: dict[str, tuple]):
    """Median norm over frequency rank, for each of the losses."""
    figure, axes = cli.subplots()
    for name, arrays in variants.items():
        norms = np.linalg.norm(arrays[1], axis=1)
        edges = np.unique(np.geomspace(1, len(norms), 40).astype(int))
        pairs = list(zip(edges[:-1], edges[1:], strict=True))
        middle = [np.sqrt(low * high) for low, high in pairs]
        median = [np.median(norms[low - 1 : high - 1]) for low, high in pairs]
        axes.plot(middle, median, color=COLORS[name], label=LABELS[name])
    axes.set(xscale="log", xlabel="frequency rank of the word", ylabel="norm ‖v‖, median")
    axes.legend(frameon=False)
    return figure


def main(args):
    variants = train_variants(args, ["default", "article", "untruncated"])
    classes = word_classes(args.data_dir)
    described = {}
    for name, arrays in variants.items():
        described[name] = describe(arrays, classes, args.top, args.least)
        print(f"{name}: smallest norms {' '.join(described[name]['smallest'][:25])}", flush=True)
    figures = {
        "norms_surprisal": plot_surprisal(variants, args.data_dir),
        "norms_truncation": plot_truncation(variants),
    }
    return {"variants": described}, check_claims(described, args.top), figures


if __name__ == "__main__":
    cli.run(main, flags)
