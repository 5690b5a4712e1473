"""What does the norm of a word vector say? ‖v_w‖² against −log P(w), and which words have the smallest norms.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/norms.py
Time:    7 CPU s on one core (AMD EPYC), 0.4 GB; 8 s more for each of three sets of vectors that is missing

Symbols: ‖v_w‖² → norms2 (eq. 24–29)   −log P(w) → surprisal   λ = min{x/x_max, 1}^α truncated, (x/x_max)^α not
Differs from the article: function words are counted by their part of speech in the tagged corpus; words counted rarely
         are judged apart, because a vector that few pairs hold stays small whatever its word means.
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
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.vectors import drawable, train_variants, word_classes  # noqa: E402

HERE = Path(__file__).resolve().parent
FUNCTION = set("ucpwdrfmqykeo")   # 助 连 介 标点 副 代 方位 数 量 语气 …: the article's list has all of these
STRICT = set("ucpw")              # 助词 连词 介词 标点: nobody would call these content
BANDS = ((0, 200), (200, 1000), (1000, 5000), (200, 5000), (5000, None), (0, None))    # of frequency ranks
FREQUENT = ("的", "是")           # the two words the article names
NAMED = {"，": "comma", "的": "of 的", "在": "at 在", "是": "is 是", "和": "and 和", "而且": "moreover 而且",
         "因此": "therefore 因此", "经济": "economy 经济", "银行": "bank 银行", "足球": "football 足球",
         "北京": "Beijing 北京", "中国": "China 中国", "教授": "professor 教授", "粮食": "grain 粮食",
         "地震": "earthquake 地震", "导弹": "missile 导弹", "癌症": "cancer 癌症"}


# ---------------------------------------------------------------- method
def surprisal(counts: np.ndarray) -> np.ndarray:
    """−log P(w) of every word, nats."""
    return np.log(counts.sum() / counts)


def norm_correlations(norms2: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Spearman's ρ of ‖v‖² and −log P(w), by bands of frequency rank."""
    answer = {}
    for low, high in BANDS:
        band = slice(low, high)
        if len(counts[band]) > 20:
            rho = spearmanr(norms2[band], surprisal(counts)[band]).statistic
            answer[f"{low}-{high or len(counts)}"] = float(rho)
    return answer


def smallest_norms(words: np.ndarray, norms2: np.ndarray, counts: np.ndarray, top: int, least: int) -> list[str]:
    """Words seen `least` times or more, smallest norm first."""
    order = np.argsort(norms2, kind="stable")
    return words[order[counts[order] >= least]][:top].tolist()


def rank_of(words: np.ndarray, norms2: np.ndarray, counts: np.ndarray, word: str, least: int) -> int | None:
    """Place of a word, from 1, in the order of smallest_norms; None when it is not there."""
    order = smallest_norms(words, norms2, counts, len(words), least)
    return order.index(word) + 1 if word in order else None


# ---------------------------------------------------------------- evaluation
def describe(arrays: tuple, classes: dict[str, str], top: int, least: int) -> dict:
    """Numbers about the norms of one set of vectors."""
    words, vectors, counts, _ = arrays
    norms2 = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    if not (counts >= least).any():
        raise ValueError(f"no word is seen {least} times (the most frequent one: {counts.max()}); lower --least")
    smallest = smallest_norms(words, norms2, counts, top, least)
    pool = words[counts >= least].tolist()

    def share(group, kinds):
        return float(np.mean([classes.get(word, "?") in kinds for word in group]))
    rho = norm_correlations(norms2, counts)
    return {"smallest": smallest, "correlation": rho, "function_share": share(smallest, FUNCTION),
            "function_share_all": share(pool, FUNCTION), "strict_share": share(smallest, STRICT),
            "strict_share_all": share(pool, STRICT), "punctuation": [w for w in smallest if classes.get(w) == "w"],
            "ranks": {word: rank_of(words, norms2, counts, word, least) for word in (*FREQUENT, *"在和了，。")},
            "pool": len(pool)}


def check_claims(described: dict[str, dict], top: int) -> list[dict]:
    """C7.4 and C7.5 on the article's loss (truncated; truncated or not), C7.4 with our default told beside it."""
    ours, article, plain = described["default"], described["article"], described["untruncated"]
    whole, band = list(ours["correlation"])[-1], "200-5000"

    def told(about):
        rho = "; ".join(f"ρ {value:.2f} at ranks {key}" for key, value in about["correlation"].items()
                        if key in (band, whole))
        return (f"{rho}; of the {top} smallest norms {about['function_share']:.0%} function words "
                f"(of all: {about['function_share_all']:.0%}), {len(about['punctuation'])} punctuation marks")
    fronts = {word: (plain["ranks"][word], article["ranks"][word]) for word in FREQUENT}
    known = {word: pair for word, pair in fronts.items() if None not in pair}
    return [
        {"id": "C7.4", "claim": "‖v_w‖² grows with −log P(w); the smallest norms are function words and punctuation",
         "expected": "correlated; the 50 smallest all function words",
         "measured": f"article's loss: {told(article)}; with --unseen-weight 0.001: {told(ours)}",
         "holds": bool(article["correlation"][whole] > 0.3 and article["function_share"] > 0.5
                       and article["function_share"] > 2 * article["function_share_all"] and article["punctuation"])},
        {"id": "C7.5", "claim": "un-truncated weights leave 的 and 是 among the smallest norms, truncated ones do not",
         "expected": f"among the first {top}; not",
         "measured": "place from the smallest norm (un-truncated, truncated): "
                     + "; ".join(f"{word} {a}, {b}" for word, (a, b) in fronts.items()),
         "holds": bool(all(a <= top < b for a, b in known.values())) if known else None}]


# ---------------------------------------------------------------- figures
def plot_norms(panels: dict[str, tuple]) -> Figure:
    """Every word as a point of −log P(w) and ‖v‖², the running median, some words by name; one panel a title."""
    figure = Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
    for axes, (title, (words, vectors, counts, _)) in zip(np.ravel(figure.subplots(1, len(panels))), panels.items()):
        x, y = surprisal(counts), np.einsum("ij,ij->i", vectors, vectors)
        shown = np.r_[:min(1000, len(x)), 1000:len(x):6]       # a sixth of the rarer words: the file stays small
        axes.plot(x[shown], y[shown], ".", markersize=1.5, color="0.8")
        edges = np.quantile(x, np.linspace(0, 1, 6)[:-1]).tolist() + [x.max()]
        cells = np.digitize(x, np.unique(np.r_[np.arange(x.min(), edges[1], 1), edges]))
        medians = np.array([(np.median(x[cells == cell]), np.median(y[cells == cell])) for cell in np.unique(cells)])
        axes.plot(*medians.T, color="C1", label="median")
        index = {word: row for row, word in enumerate(words.tolist())}
        rows = [index[word] for word in NAMED if word in index]
        _, family, note = drawable(words[rows].tolist())
        axes.plot(x[rows], y[rows], "o", color="C0", markersize=4)
        for row in rows:
            meaning, _, word = NAMED[str(words[row])].partition(" ")
            axes.annotate(f"{meaning} {word}" if family else meaning, (x[row], y[row]), xytext=(4, 3), fontsize=8,
                          textcoords="offset points", **({"family": family} if family else {}))
        axes.set(xlabel="−log P(w), nats", ylabel="‖v‖²", title=title, ylim=(0, np.percentile(y, 99.5)))
        axes.legend(loc="upper left")
    if note:
        figure.supxlabel("words in English: no font with Chinese was found", fontsize=8)
    return figure


def plot_truncation(variants: dict[str, tuple]) -> Figure:
    """Median norm over frequency rank, truncated against not."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("default", "ours: truncated, unseen pairs held"), ("article", "article's loss, truncated"),
                        ("untruncated", "article's loss, not truncated")):
        norms = np.linalg.norm(variants[name][1], axis=1)
        edges = np.unique(np.geomspace(1, len(norms), 40).astype(int))
        middle = [np.sqrt(a * b) for a, b in zip(edges, edges[1:])]
        axes.plot(middle, [np.median(norms[a - 1:b - 1]) for a, b in zip(edges, edges[1:])], label=label)
    axes.set(xscale="log", xlabel="frequency rank of the word", ylabel="norm ‖v‖, median")
    axes.legend()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--top", type=int, default=50, help="how many smallest norms are judged (the article shows 50)")
    parser.add_argument("--least", type=int, default=100, help="only words seen so often are judged")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("top", "least"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: must be at least 1")
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
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    variants = train_variants(args, ["default", "article", "untruncated"])
    classes = word_classes(args)
    described = {name: describe(arrays, classes, args.top, args.least) for name, arrays in variants.items()}
    for name, about in described.items():
        print(f"{name}: smallest norms {' '.join(about['smallest'][:25])}", flush=True)
    figures = ["norms_surprisal.png", "norms_truncation.png"]
    panels = {"article's loss": variants["article"], "unseen pairs held near PMI 0": variants["default"]}
    plot_norms(panels).savefig(args.out_dir / figures[0], dpi=150)
    plot_truncation(variants).savefig(args.out_dir / figures[1], dpi=150)
    return save_results(args, "norms", {"variants": described}, check_claims(described, args.top), figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
