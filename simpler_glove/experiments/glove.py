"""Where does GloVe's own objective lead? Its loss feels no shift, and its stop words grow large.

Article: 更别致的词向量模型(四), (五) https://kexue.fm/archives/4675 https://kexue.fm/archives/4677
Run:     python simpler_glove/experiments/glove.py
Symbols: v_i → centre   v̂_j → context   b_i, b̂_j → biases   x_ij → together   λ_ij → weights
         (eq. 17)   v + c, v̂ + c, b − ⟨v, c⟩ − |c|²/2 → shifted (eq. 18)   ⟨Σ v_i, v_w⟩ → the score
         of a keyword (eq. 43)
Differs from the article: GloVe sees the counts of our model (no 1/distance), its 3,000 most
         frequent words, and AdaGrad on the whole table at a step: only the objective differs.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import default_documents, word_classes
from variants import COLORS, CORPUS, counter, train_variants
from vectors import WordVectors

STOP = set("ucpw")  # 助词 连词 介词 标点
CONTENT = set("nvast")  # nouns, verbs, adjectives, places, times


def flags(parser):
    parser.add_argument("corpus", **CORPUS)
    words = "most frequent words that GloVe is fitted to"
    parser.add_argument("--glove-words", type=cli.between(100, 10**5), default=3000, help=words)
    steps = "AdaGrad steps over the whole table"
    parser.add_argument("--steps", type=cli.between(1, 10**6), default=150, help=steps)
    dim = "length of GloVe's vectors"
    parser.add_argument("--dim", type=cli.between(1, 10**4), default=64, help=dim)
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- GloVe
class Glove:
    """GloVe's loss Σ λ_ij (⟨v_i, v̂_j⟩ + b_i + b̂_j − log x_ij)² over pairs that met (eq. 17)."""

    def __init__(self, together: np.ndarray, x_max: float = 100, alpha: float = 0.75):
        """together: (n, n) symmetric counts of pairs."""
        self.seen = int((together > 0).sum())
        self.weights = (np.minimum(together / x_max, 1) ** alpha).astype(np.float32)  # 0: unseen
        self.logs = np.log(np.maximum(together, 1)).astype(np.float32)

    def loss(self, centre, context, centre_bias, context_bias) -> float:
        """Mean over seen pairs; in the precision of its arguments."""
        error = centre @ context.T + centre_bias[:, None] + context_bias - self.logs
        return float((self.weights * error**2).sum() / self.seen)

    def fit(self, dim: int, steps: int, rate: float = 0.1, seed: int = 0) -> list[np.ndarray]:
        """[centre, context (n, d), centre_bias, context_bias (n,)] float32, by AdaGrad."""
        size = len(self.logs)
        rng = np.random.default_rng(seed)
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
            for parameter, total, gradient in zip(parameters, sums, gradients, strict=True):
                total += gradient**2
                parameter -= rate * gradient / np.sqrt(total)
        return parameters


def shifted(centre, context, centre_bias, context_bias, c: np.ndarray) -> list[np.ndarray]:
    """The same GloVe model with every vector moved by c (eq. 18)."""
    half = c @ c / 2
    return [
        centre + c,
        context + c,
        centre_bias - centre @ c - half,
        context_bias - context @ c - half,
    ]


# ---------------------------------------------------------------- what a shift changes
def shift(glove: Glove, fitted: list, ours: tuple, table: np.ndarray, total: float, rng) -> dict:
    """GloVe's loss, the article's error and mean cosines, before and after a shift by ten norms.

    fitted: of glove.fit; ours: the variant "default"; table (n, n): symmetric counts, of which the
    whole corpus has `total`.
    """
    wide = [parameter.astype(np.float64) for parameter in fitted]
    before = glove.loss(*wide)
    c = rng.normal(size=wide[0].shape[1])
    c *= 10 * np.linalg.norm(wide[0], axis=1).mean() / np.linalg.norm(c)
    moved = shifted(*wide, c)
    # the article's model has no bias to take the shift up: its error against the PMI grows
    size = len(table)
    own = ours[1][:size].astype(np.float64)
    share = ours[2][:size] / ours[2].sum()
    log_share = np.log(share)
    pmi = np.log(np.maximum(table, 1) / total) - log_share[:, None] - log_share
    errors = [
        float((glove.weights * (v @ v.T - pmi) ** 2).sum() / glove.seen)
        for v in (own, own + np.resize(c, own.shape[1]))
    ]
    return {
        "glove_loss": before,
        "shift_relative_change": abs(glove.loss(*moved) / before - 1),
        "own_error": errors[0],
        "own_error_shifted": errors[1],
        "cosine_before": mean_cosine(wide[0] + wide[1], rng),
        "cosine_after": mean_cosine(moved[0] + moved[1], rng),
    }


def mean_cosine(vectors: np.ndarray, rng: np.random.Generator, pairs: int = 5000) -> float:
    """Mean cosine of random pairs of different rows."""
    first, second = rng.integers(0, len(vectors), (2, pairs))
    first, second = first[first != second], second[first != second]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return float(np.einsum("nd,nd->n", unit[first], unit[second]).mean())


# ---------------------------------------------------------------- norms and keywords
def stop_word_place(words, vectors, classes: dict[str, str], frequent: int = 50) -> dict:
    """Mean place by norm, 0 smallest to 1 largest.

    Of the stop words among the `frequent` commonest words, and of all content words.
    """
    norms = np.linalg.norm(vectors, axis=1)
    place = norms.argsort().argsort() / (len(norms) - 1)
    kinds = np.array([classes.get(word, "?") for word in words])
    stop = np.flatnonzero(np.isin(kinds[:frequent], list(STOP)))
    content = np.isin(kinds, list(CONTENT))
    return {
        "stop": float(place[stop].mean()),
        "content": float(place[content].mean()),
        "largest": words[np.argsort(-norms)[:20]].tolist(),
        "stop_words": words[stop].tolist(),
    }


def keyword_order(vectors: WordVectors, documents, classes: dict, cosine: bool = False) -> float:
    """Chance that a content word of a document stands before a stop word among its keywords.

    documents: lists of words; the mean over those that have both.
    """
    chances = []
    for tokens in documents:
        keywords = vectors.keywords(tokens, len(tokens), cosine)
        kinds = [classes.get(word, "?") for word, _ in keywords]
        content = 0
        before = []
        for kind in kinds:  # from the first keyword to the last
            content += kind in CONTENT
            if kind in STOP:
                before.append(content)
        if content and before:
            chances.append(sum(before) / (content * len(before)))
    return float(np.mean(chances))


def compare_keywords(models: dict[str, WordVectors], documents, classes, rng) -> dict:
    """keyword_order of every model on 500 documents, and one example: first and last ten."""
    documents = [tokens for tokens in documents if 30 <= len(tokens) <= 200]
    chosen = rng.choice(len(documents), min(500, len(documents)), replace=False)
    documents = [documents[place] for place in chosen]
    order = {name: keyword_order(model, documents, classes) for name, model in models.items()}
    for name, model in models.items():
        order[f"{name}_cosine"] = keyword_order(model, documents, classes, True)
    longest = max(documents[:50], key=lambda tokens: len(set(tokens)))
    example = {}
    for name, model in models.items():
        keywords = [word for word, _ in model.keywords(longest, 10_000)]
        example[name] = [keywords[:10], keywords[-10:]]
        first, last = " ".join(keywords[:8]), " ".join(keywords[-8:])
        print(f"{name}: first keywords {first} … last {last}", flush=True)
    return {"keyword_order": order, "documents": len(documents), "example": example}


# ---------------------------------------------------------------- figures
def plot_norms(norms: dict[str, np.ndarray]):
    """Norm over frequency rank, each relative to its own mean; the lines are medians."""
    figure, axes = cli.subplots()
    labels = {"ours": ("ours", (-6, 32)), "glove": ("GloVe", (24, 2))}
    for name, values in norms.items():
        color = COLORS["default" if name == "ours" else name]
        relative = values / values.mean()
        ranks = np.arange(1, len(values) + 1)
        axes.plot(ranks, relative, ".", markersize=2, color=color, alpha=0.3)
        edges = np.unique(np.geomspace(1, len(values), 25).astype(int))
        pairs = list(zip(edges[:-1], edges[1:], strict=True))
        middle = [np.sqrt(low * high) for low, high in pairs]
        median = [np.median(relative[low - 1 : high - 1]) for low, high in pairs]
        axes.plot(middle, median, color=color, linewidth=2)
        place = (middle[1], median[1])
        label, offset = labels[name]
        axes.annotate(label, place, offset, textcoords="offset points", color=color)
    axes.axhline(1, color="0.5", linestyle="--")
    axes.set(xscale="log", ylim=(0, 2.2))
    axes.set(xlabel="frequency rank of the word", ylabel="norm ‖v‖ over the mean norm")
    return figure


def main(args):
    rng = np.random.default_rng(args.seed)
    count = counter(args)
    ours = train_variants(args, ["default"], count)["default"]
    classes = word_classes(args.data_dir)
    words, _, pairs, _ = count()
    size = min(args.glove_words, len(words), 1000 if args.quick else len(words))
    table = pairs[:size, :size].toarray().astype(np.float32)
    table += table.T
    started = time.process_time()
    glove = Glove(table)
    fitted = glove.fit(args.dim, 40 if args.quick else args.steps, seed=args.seed)
    spent = time.process_time() - started
    print(f"GloVe: {size:,} words, {spent:.0f} CPU s", flush=True)
    moved = shift(glove, fitted, ours, table, 2.0 * pairs.sum(), rng)

    theirs = WordVectors(words[:size], fitted[0].astype(np.float64) + fitted[1])
    mine = WordVectors(ours[0][:size], ours[1][:size])
    models = {"ours": mine, "glove": theirs}
    places = {
        name: stop_word_place(model.words, model.vectors, classes) for name, model in models.items()
    }
    documents = default_documents(args.data_dir, args.quick)
    keywords = compare_keywords(models, documents, classes, rng)
    growth = moved["own_error_shifted"] / moved["own_error"]
    stops = {"glove_stop": places["glove"]["stop"], "our_stop": places["ours"]["stop"]}
    shifts = {"shift": moved["shift_relative_change"], "own": growth}
    invariant = moved["shift_relative_change"] < 1e-9 and growth > 2
    large = stops["glove_stop"] > 0.75 and stops["our_stop"] < 0.5
    order = {name: keywords["keyword_order"][name] for name in models}
    claims = [
        cli.claim("C7.6", shifts | stops, invariant and large),
        cli.claim("C7.10", order, order["ours"] > 0.6 and order["glove"] < 0.4),
    ]
    metrics = {"words": size, **moved, "places": places, **keywords}
    figure = plot_norms({name: model.norms for name, model in models.items()})
    return metrics, claims, {"glove_norms": figure}


if __name__ == "__main__":
    cli.run(main, flags)
