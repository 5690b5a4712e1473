"""One vector per word or two? Shared, concatenated and summed vectors on the same counts, scored on English analogies.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/compare_modes.py          (State of the Union addresses; --quick for a look)
         python simpler_glove/compare_modes.py big.txt.xz
Time:    15 s on 2 cores (AMD EPYC), 0.3 GB

Symbols: v_i → centre   v̂_j → context   shared: v = v̂ (the article)   concat: [v, v̂]   sum: v + v̂
Differs from the article: the modes are in the author's program (December 2017), his remark in its README.
"""
import argparse
import gzip
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch  # noqa: E402
from simpler_glove.count import load_corpus  # noqa: E402
from simpler_glove.train import fit  # noqa: E402

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- data
def read_analogies(path: Path) -> list[tuple[bool, list[str]]]:
    """(syntactic?, [a, b, c, d]) of every question a : b = c : d; sections named gram… are syntactic."""
    questions, syntactic = [], False
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line.startswith(":"):
                syntactic = line[1:].strip().startswith("gram")
            elif len(four := line.lower().split()) == 4:
                questions.append((syntactic, four))
    return questions


# ---------------------------------------------------------------- evaluation
def score_analogies(words: np.ndarray, vectors: np.ndarray, questions: list, most: int = 30000) -> dict:
    """{syntactic, semantic: (right, asked)}: d nearest to b − a + c by cosine among the `most` frequent words."""
    rank = {word: i for i, word in enumerate(words[:most].tolist())}
    known = [(kind, [rank[word] for word in four]) for kind, four in questions if all(word in rank for word in four)]
    unit = vectors[:most] / np.maximum(np.linalg.norm(vectors[:most], axis=1, keepdims=True), 1e-9)
    result = {}
    for name, wanted in (("syntactic", True), ("semantic", False)):
        asked = np.array([four for kind, four in known if kind is wanted], int).reshape(-1, 4)
        right = 0
        for start in range(0, len(asked), 512):
            a, b, c, d = asked[start:start + 512].T
            scores = (unit[b] - unit[a] + unit[c]) @ unit.T
            scores[np.arange(len(a))[:, None], np.stack([a, b, c], 1)] = -np.inf
            right += int((scores.argmax(1) == d).sum())
        result[name] = right, len(asked)
    return result


def check(scores: dict[str, dict]) -> list:
    """C7.13, each difference judged against two standard errors of a difference of two shares."""
    share = {mode: {name: right / max(asked, 1) for name, (right, asked) in parts.items()}
             for mode, parts in scores.items()}
    asked = scores["shared"]["syntactic"][1]
    text = ", ".join(f"{mode} {100 * part['syntactic']:.1f} %" for mode, part in share.items())
    claim = {"id": "C7.13", "claim": "on syntactic analogies concat does better, sum as well as shared",
             "expected": "concat > shared, sum ≈ shared", "holds": None,
             "measured": f"{text} of {asked} syntactic questions"}
    rate = share["shared"]["syntactic"]
    if asked * rate < 20:
        claim["measured"] += "; too few right answers to tell"
    else:
        error = 2 * (2 * rate * (1 - rate) / asked) ** .5
        better, same = share["concat"]["syntactic"] > rate + error, abs(share["sum"]["syntactic"] - rate) < error
        claim["holds"] = bool(better and same)
        claim["measured"] += f" (two standard errors of a difference: {100 * error:.1f} %)"
    return [claim]


# ---------------------------------------------------------------- figures
def plot_scores(scores: dict[str, dict]) -> Figure:
    """Share of analogies answered, by mode and kind."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(("syntactic", "semantic")):
        shares = [100 * right / max(asked, 1) for right, asked in (part[name] for part in scores.values())]
        bars = axes.bar(np.arange(len(scores)) + 0.4 * k, shares, 0.38, label=name)
        axes.bar_label(bars, fmt="%.1f")
    axes.set_xticks(np.arange(len(scores)) + 0.2, list(scores))
    axes.set(ylabel="analogies answered [%]")
    axes.legend()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("corpus", nargs="*", default=["sotu"], help="English text files or registered corpora")
    parser.add_argument("--dim", type=int, default=128, help="length of a vector (concat: twice that)")
    parser.add_argument("--unseen-weight", type=float, default=0.001, help="weight of PMI 0 on all pairs; article: 0")
    parser.add_argument("--threads", type=int, default=2, help="1 or 2, with the same result")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name, least in (("dim", 1), ("threads", 1), ("unseen_weight", 0)):
        if not getattr(args, name) >= least:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least {least}")
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
    args.out_dir.mkdir(parents=True, exist_ok=True)   # before any work
    questions = read_analogies(fetch("questions-words", args.data_dir))
    words, counts, pairs, _ = load_corpus(args.corpus, folder=args.out_dir, data_dir=args.data_dir,
                                          limit=2000 if args.quick else None)
    print(f"vocabulary {len(words)}, {pairs.nnz} pairs")
    scores, losses = {}, {}
    for mode in ("shared", "concat", "sum"):
        if mode != "sum":                                     # concat and sum come from one fit
            fitted = fit(pairs, counts, min(args.dim, 32) if args.quick else args.dim, mode,
                         unseen_weight=args.unseen_weight, threads=args.threads, seed=args.seed)
        vectors = fitted["centre"] + fitted["context"] if mode == "sum" else fitted["vectors"]
        losses[mode], scores[mode] = fitted["history"][-1]["loss"], score_analogies(words, vectors, questions)
        print(f"{mode}: loss {losses[mode]:.6f}, " + ", ".join(
            f"{name} {right} of {asked}" for name, (right, asked) in scores[mode].items()))
    figures = ["compare_modes_analogies.png"]
    plot_scores(scores).savefig(args.out_dir / figures[0], dpi=150)
    metrics = {"vocabulary": len(words), "pairs": int(pairs.nnz), "loss": losses, "scores": scores,
               "percent": {mode: {name: 100 * right / max(asked, 1) for name, (right, asked) in part.items()}
                           for mode, part in scores.items()}}
    return save_results(args, "compare_modes", metrics, check(scores), figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
