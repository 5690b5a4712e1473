"""Are words similar when their PMI profiles correlate, and what does the number of contexts change?

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/experiments/similar_words.py                  (our vectors)
         python simpler_glove/experiments/similar_words.py --vectors FILE   (any others)
Symbols: Pearson of ⟨v_i, v_k⟩ and ⟨v_j, v_k⟩ over k ≤ N (eq. 31–35) → pearson
         VᵀV = UUᵀ → context_factor   cos(v_i U, v_j U) → cosine (eq. 36–39)
Differs from the article: it shows lists of words; here "syntactic" is the part of speech.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import word_classes
from variants import CORPUS, train_variants
from vector_files import load_vectors
from vectors import WordVectors, context_factor

CONTEXTS = (100, 200, 500, 1000, 2000, 5000, 10_000)  # N of eq. 31; the article: 500 and 10,000


def flags(parser):
    parser.add_argument("corpus", **CORPUS)
    parser.add_argument("--vectors", type=Path, help="a vector file (else ours)")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- the identity
def identity_error(vectors: WordVectors, rng: np.random.Generator, contexts: int = 1000) -> float:
    """Largest |Pearson of PMI profiles − cos(v_i U, v_j U)| over 200 random pairs, in float64."""
    wide = vectors.vectors.astype(np.float64)
    context = wide[:contexts]
    first, second = rng.integers(0, len(wide), (2, 200))
    usable = vectors.norms[first] * vectors.norms[second] > 0
    projected = wide @ context_factor(context)
    errors = []
    for i, j in zip(first[usable], second[usable], strict=True):
        pearson = np.corrcoef(context @ wide[i], context @ wide[j])[0, 1]
        x, y = projected[i], projected[j]
        cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        errors.append(abs(cosine - pearson))
    return float(max(errors))


# ---------------------------------------------------------------- what N changes
def compare_contexts(vectors: WordVectors, classes: dict, rng, queries: int = 3000) -> dict:
    """What the N context words of a profile change, over random queries of ranks 300 to 5,000.

    same_class (len(CONTEXTS), queries): share of the ten similar words with the query's part of
    speech; like_cosine: share of them among the ten nearest by cosine.
    """
    tags = np.array([classes.get(word, "?") for word in vectors.words])
    ranks = range(min(300, len(tags) // 2), min(5000, len(tags)))
    pool = [row for row in ranks if tags[row] in "nvad"]
    rows = rng.choice(pool, min(queries, len(pool)), replace=False)
    plain = ten_nearest(vectors.vectors * vectors.inverse_norms[:, None], rows)

    def same(nearest):  # (queries, 10)
        return tags[nearest] == tags[rows][:, None]

    same_class, like_cosine = [], []
    for context_words in CONTEXTS:
        nearest = ten_nearest(vectors.projection(context_words), rows)
        same_class.append(same(nearest).mean(axis=1))
        pairs = zip(nearest.tolist(), plain.tolist(), strict=True)
        like_cosine.append([len(set(ours) & set(theirs)) / 10 for ours, theirs in pairs])
    return {
        "same_class": np.array(same_class),
        "like_cosine": np.array(like_cosine),
        "cosine_same_class": float(same(plain).mean()),
    }


def ten_nearest(unit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(len(rows), 10) rows of unit vectors (n, d) nearest to each of rows, themselves left out."""
    found = []
    for part in np.array_split(rows, len(rows) // 256 + 1):
        scores = unit[part] @ unit.T
        scores[np.arange(len(part)), part] = -np.inf
        found.append(np.argpartition(scores, -10, axis=1)[:, -10:])
    return np.concatenate(found)


# ---------------------------------------------------------------- figures
def plot_contexts(contexts: dict):
    """Parts of speech, and likeness to the cosine's ten, over N."""
    figure, axes = cli.subplots()
    for key, label, color in (
        ("like_cosine", "among the cosine's ten", "C2"),
        ("same_class", "same part of speech", "C0"),
    ):
        values = contexts[key]
        mean, error = values.mean(axis=1), values.std(axis=1) / np.sqrt(values.shape[1])
        axes.errorbar(CONTEXTS, mean, 2 * error, fmt="o-", capsize=2, color=color)
        place = (CONTEXTS[-1], mean[-1])
        axes.annotate(label, place, (8, 2), textcoords="offset points", color=color)
    level = contexts["cosine_same_class"]
    axes.axhline(level, color="0.5", linestyle="--")
    place = (CONTEXTS[0], level)
    text = "same part of speech, by cosine"
    axes.annotate(text, place, (0, -14), textcoords="offset points", color="0.4")
    axes.set(xscale="log", xlim=(80, 70_000), xticks=[100, 500, 1000, 10_000])
    axes.set_xticklabels(["100", "500", "1,000", "10,000"])
    axes.minorticks_off()
    axes.set(xlabel="N, context words of the PMI profile", ylabel="share of the ten similar words")
    return figure


def main(args):
    if args.vectors:
        arrays = load_vectors(args.vectors)
    else:
        arrays = train_variants(args, ["default"])["default"]
    vectors = WordVectors(*arrays)
    rng = np.random.default_rng(args.seed)
    error = identity_error(vectors, rng)
    contexts = compare_contexts(vectors, word_classes(args.data_dir), rng)
    small, large = CONTEXTS.index(500), len(CONTEXTS) - 1
    gain = contexts["same_class"][small] - contexts["same_class"][large]
    doubt = float(gain.std() / np.sqrt(len(gain)))
    same, like = contexts["same_class"].mean(axis=1), contexts["like_cosine"].mean(axis=1)
    metrics = {
        "identity_error": error,
        "context_words": CONTEXTS,
        "same_class": same.tolist(),
        "like_cosine": like.tolist(),
        "same_class_gain": float(gain.mean()),
        "same_class_gain_error": doubt,
        "cosine_same_class": contexts["cosine_same_class"],
    }
    measured = {
        "gain": float(gain.mean()),
        "error": doubt,
        "identity": error,
        "like_small": float(like[small]),
        "like_large": float(like[large]),
    }
    holds = error < 1e-9 and gain.mean() > 2 * doubt and like[large] > like[small]
    claim = cli.claim("C7.9", measured, holds)
    return metrics, [claim], {"similar_words_contexts": plot_contexts(contexts)}


if __name__ == "__main__":
    cli.run(main, flags)
