"""Where does GloVe's own objective lead? Its loss does not feel a shift of all vectors, and its stop words grow large.

Article: 更别致的词向量模型(四), (五) https://kexue.fm/archives/4675 https://kexue.fm/archives/4677
Run:     python simpler_glove/compare_glove.py
Time:    20 CPU s on one core (AMD EPYC), 0.5 GB; 8 s more when it has to train the vectors

Symbols: v_i → centre   v̂_j → context   b_i, b̂_j → biases   x_ij → together   λ_ij → weights (eq. 17)
         v_i + c, v̂_j + c, b − ⟨v, c⟩ − |c|²/2 → shifted (eq. 18)   ⟨Σ v_i, v_w⟩ → keyword score (eq. 43)
Differs from the article: GloVe sees the same counts as our model (no 1/distance), its 3,000 most frequent words,
         and AdaGrad on the whole table at a step, so that only the objective differs.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.count import load_corpus  # noqa: E402
from simpler_glove.explore import WordVectors  # noqa: E402
from simpler_glove.vectors import (DEFAULT_CORPUS, QUICK_DOCUMENTS, default_documents, train_variants,  # noqa: E402
                                   word_classes)

HERE = Path(__file__).resolve().parent
STOP = set("ucpw")            # 助词 连词 介词 标点
CONTENT = set("nvast")        # nouns, verbs, adjectives, places, times


# ---------------------------------------------------------------- method
class Glove:
    """GloVe's loss Σ λ_ij (⟨v_i, v̂_j⟩ + b_i + b̂_j − log x_ij)² over the pairs that met (eq. 17), on a dense table."""

    def __init__(self, together: np.ndarray, x_max: float = 100, alpha: float = 0.75):
        """together: (n, n) symmetric counts of pairs."""
        self.seen = int((together > 0).sum())
        self.weights = (np.minimum(together / x_max, 1) ** alpha).astype(np.float32)      # 0 where never together
        self.logs = np.log(np.maximum(together, 1)).astype(np.float32)

    def loss(self, centre, context, centre_bias, context_bias) -> float:
        """Mean over seen pairs; in the precision of its arguments."""
        error = centre @ context.T + centre_bias[:, None] + context_bias - self.logs
        return float((self.weights * error ** 2).sum() / self.seen)

    def fit(self, dim: int, steps: int, rate: float = 0.1, seed: int = 0) -> list[np.ndarray]:
        """[centre, context (n, d), centre_bias, context_bias (n,)] float32, by AdaGrad from GloVe's start."""
        size, rng = len(self.logs), np.random.default_rng(seed)
        shapes = ((size, dim), (size, dim), (size,), (size,))
        parameters = [((rng.random(shape) - 0.5) / dim).astype(np.float32) for shape in shapes]
        sums = [np.ones_like(parameter) for parameter in parameters]
        for _ in range(steps):
            centre, context, centre_bias, context_bias = parameters
            error = centre @ context.T
            error += centre_bias[:, None]
            error += context_bias
            error -= self.logs
            error *= self.weights
            gradients = (error @ context, error.T @ centre, error.sum(axis=1), error.sum(axis=0))
            for parameter, total, gradient in zip(parameters, sums, gradients):
                total += gradient ** 2
                parameter -= rate * gradient / np.sqrt(total)
        return parameters


def shifted(centre, context, centre_bias, context_bias, c: np.ndarray) -> list[np.ndarray]:
    """The same GloVe model with every vector moved by c (article eq. 18)."""
    half = c @ c / 2
    return [centre + c, context + c, centre_bias - centre @ c - half, context_bias - context @ c - half]


def mean_cosine(vectors: np.ndarray, rng: np.random.Generator, pairs: int = 5000) -> float:
    """Mean cosine of random pairs of different rows."""
    first, second = rng.integers(0, len(vectors), (2, pairs))
    first, second = first[first != second], second[first != second]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return float(np.einsum("nd,nd->n", unit[first], unit[second]).mean())


# ---------------------------------------------------------------- evaluation
def stop_word_place(words: np.ndarray, vectors: np.ndarray, classes: dict[str, str], frequent: int = 50) -> dict:
    """Mean place by norm, 0 smallest to 1 largest: stop words among the `frequent` commonest, and all content words."""
    norms = np.linalg.norm(vectors, axis=1)
    place = norms.argsort().argsort() / (len(norms) - 1)
    kinds = np.array([classes.get(word, "?") for word in words.tolist()])
    stop = np.flatnonzero(np.isin(kinds[:frequent], list(STOP)))
    return {"stop": float(place[stop].mean()), "content": float(place[np.isin(kinds, list(CONTENT))].mean()),
            "largest": words[np.argsort(-norms)[:20]].tolist(), "stop_words": words[stop].tolist()}


def keyword_order(vectors: WordVectors, documents: list[list[str]], classes: dict, cosine: bool = False) -> float:
    """Chance that a content word of a document stands before a stop word of it in its keywords; mean over documents."""
    chances = []
    for tokens in documents:
        kinds = [classes.get(word, "?") for word, _ in vectors.keywords(tokens, len(tokens), cosine)]
        content, before, wins = 0, [], 0
        for kind in kinds:                             # from the first keyword to the last
            content += kind in CONTENT
            if kind in STOP:
                before.append(content)
        if content and before:
            wins = sum(before) / (content * len(before))
            chances.append(wins)
    return float(np.mean(chances))


# ---------------------------------------------------------------- figures
def plot_norms(norms: dict[str, np.ndarray]) -> Figure:
    """Norm over frequency rank, GloVe's and ours, each relative to its own mean."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for color, (name, values) in zip(("C0", "C3"), norms.items()):
        relative = values / values.mean()
        axes.plot(np.arange(1, len(values) + 1), relative, ".", markersize=2, color=color, alpha=0.4)
        edges = np.unique(np.geomspace(1, len(values), 25).astype(int))
        axes.plot([np.sqrt(a * b) for a, b in zip(edges, edges[1:])],
                  [np.median(relative[a - 1:b - 1]) for a, b in zip(edges, edges[1:])], color=color, label=name)
    axes.set(xscale="log", xlabel="frequency rank of the word", ylabel="norm over the mean norm")
    axes.legend()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--glove-words", type=int, default=3000, help="most frequent words that GloVe is fitted to")
    parser.add_argument("--steps", type=int, default=150, help="AdaGrad steps over the whole table")
    parser.add_argument("--dim", type=int, default=64, help="length of GloVe's vectors")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name, least in (("glove_words", 100), ("steps", 1), ("dim", 1)):
        if getattr(args, name) < least:
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
    args.out_dir.mkdir(parents=True, exist_ok=True)
    rng, classes = np.random.default_rng(args.seed), word_classes(args)
    ours = train_variants(args, ["default"])["default"]
    words, counts, pairs, _ = load_corpus([DEFAULT_CORPUS], limit=QUICK_DOCUMENTS if args.quick else None,
                                          data_dir=args.data_dir)
    size = min(args.glove_words, len(words), 1000 if args.quick else len(words))
    table = pairs[:size, :size].toarray().astype(np.float32)
    glove, cpu = Glove(table + table.T), time.process_time()
    fitted = glove.fit(args.dim, 40 if args.quick else args.steps, seed=args.seed)
    wide = [parameter.astype(np.float64) for parameter in fitted]
    before = glove.loss(*wide)
    print(f"GloVe: {size:,} words, loss {before:.4f}, {time.process_time() - cpu:.0f} CPU s", flush=True)

    summed = wide[0] + wide[1]                                       # GloVe's word vectors
    c = rng.normal(size=args.dim)
    c *= 10 * np.linalg.norm(wide[0], axis=1).mean() / np.linalg.norm(c)
    moved = shifted(*wide, c)
    change = abs(glove.loss(*moved) / before - 1)
    # the article's model has nothing to take the shift up: its squared error against the PMI grows
    own, share = ours[1][:size].astype(np.float64), ours[2][:size] / ours[2].sum()
    pmi = np.log(np.maximum(table + table.T, 1) / (2.0 * pairs.sum())) - np.log(share)[:, None] - np.log(share)
    away = np.resize(c, own.shape[1])
    errors = [float((glove.weights * (v @ v.T - pmi) ** 2).sum() / glove.seen) for v in (own, own + away)]
    cosines = mean_cosine(summed, rng), mean_cosine(moved[0] + moved[1], rng)

    places = {"glove": stop_word_place(words[:size], summed, classes),
              "ours": stop_word_place(ours[0][:size], ours[1][:size], classes)}
    documents = [tokens for tokens in default_documents(args) if 30 <= len(tokens) <= 200]
    documents = [documents[i] for i in rng.choice(len(documents), min(500, len(documents)), replace=False)]
    theirs, mine = WordVectors(words[:size], summed), WordVectors(ours[0][:size], ours[1][:size])
    order = {"ours": keyword_order(mine, documents, classes), "glove": keyword_order(theirs, documents, classes),
             "ours_cosine": keyword_order(mine, documents, classes, True),
             "glove_cosine": keyword_order(theirs, documents, classes, True)}
    example = max(documents[:50], key=lambda tokens: len(set(tokens)))
    shown = {name: [word for word, _ in model.keywords(example, 10_000)]
             for name, model in (("ours", mine), ("glove", theirs))}
    for name, keywords in shown.items():
        print(f"{name}: first keywords {' '.join(keywords[:8])} … last {' '.join(keywords[-8:])}")
    figures = ["compare_glove_norms.png"]
    plot_norms({"ours": mine.norms, "GloVe": theirs.norms}).savefig(args.out_dir / figures[0], dpi=150)
    metrics = {"words": size, "glove_loss": before, "shift_relative_change": change, "own_error": errors[0],
               "own_error_shifted": errors[1], "cosine_before": cosines[0], "cosine_after": cosines[1],
               "places": places, "keyword_order": order, "documents": len(documents),
               "example": {name: [keywords[:10], keywords[-10:]] for name, keywords in shown.items()}}
    claims = [
        {"id": "C7.6", "claim": "a shift of all vectors leaves GloVe's loss as it is, not the article's; "
                                "GloVe's stop words have large norms",
         "expected": "exactly; large",
         "measured": f"loss changes by {change:.0e} of itself while the mean cosine goes from {cosines[0]:.2f} to "
                     f"{cosines[1]:.2f}; the article's error × {errors[1] / errors[0]:.0e}; place by norm of the "
                     f"commonest stop words {places['glove']['stop']:.2f} (ours {places['ours']['stop']:.2f}; "
                     "0 smallest, 1 largest)",
         "holds": bool(change < 1e-9 and errors[1] > 2 * errors[0] and places["glove"]["stop"] > 0.75
                       > 0.5 > places["ours"]["stop"])},
        {"id": "C7.10", "claim": "keywords by ⟨Σ v, v_w⟩: content words first, stop words last; reversed with GloVe",
         "expected": "content first; reversed",
         "measured": f"a content word stands before a stop word with chance {order['ours']:.2f}, with GloVe "
                     f"{order['glove']:.2f} ({len(documents)} documents; 0.5: no order)",
         "holds": bool(order["ours"] > 0.6 and order["glove"] < 0.4)}]
    return save_results(args, "compare_glove", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
