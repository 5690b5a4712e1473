"""Does a pull towards a trainable centre make classes compact, and help with classes never seen?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/experiments/center.py

Symbols: x → features   c_y → centres (a row of an Embedding)   λ → weight
         L = −log softmax_y(Wx+b) + λ·‖x − c_y‖²   (two outputs and loss weights [1, λ])
Differs from the article: digits instead of 224×224 images; two convolutions instead of one; the
features are linear (the article: relu), of its size 32 for the numbers and of size 2 for the
picture.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    weight = cli.between(0.0001, 1000, float)
    parser.add_argument("--weight", type=weight, default=0.2, help="λ compared with none")
    parser.add_argument(
        "--sweep", type=weight, nargs="*", default=[0.02, 1.0], help="more λ, one training each"
    )
    parser.add_argument("--dimension", type=cli.between(1, 1000), default=32, help="size of x")
    parser.add_argument("--epochs", type=cli.between(1, 1000), default=6, help="passes")
    parser.add_argument("--seeds", type=cli.between(1, 100), default=3, help="trainings of each")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported
from keras_tools import encoded, load_keras

load_keras()
import keras
import numpy as np
from keras import ops
from sklearn.neighbors import KNeighborsClassifier
from tqdm import tqdm

from losses import center_distance, check_labels, pass_through, scatter_ratio
from real_data import load_digits

CLASSES = 10
UNSEEN = ((4, 9), (3, 8), (2, 7))  # left out of training, one pair per seed: digits that look alike
LABELLED = 50  # images of the digits left out that are known by name, for k-NN


# ---------------------------------------------------------------- training
def build_models(classes: int, dimension: int, weight: float, learning_rate: float = 2e-3) -> tuple:
    """(train model: image and label → probabilities and ‖x − c_y‖², predict model: image →
    probabilities, encoder: image → x).

    They share their weights. The second loss is passed through: its target is never looked at.
    """
    image = keras.Input((28, 28, 1), name="image")
    x = keras.layers.Conv2D(16, 5, strides=2, activation="relu", padding="same")(image)
    x = keras.layers.Conv2D(32, 3, strides=2, activation="relu", padding="same")(x)
    x = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(x))
    features = keras.layers.Dense(dimension, name="features")(x)
    probabilities = keras.layers.Dense(classes, activation="softmax", name="softmax")(features)

    label = keras.Input((1,), dtype="int32", name="label")
    centres = keras.layers.Flatten()(
        keras.layers.Embedding(classes, dimension, name="centres")(label)
    )
    distance = keras.layers.Lambda(
        lambda pair: center_distance(*pair), output_shape=(1,), name="l2_loss"
    )
    model = keras.Model([image, label], [probabilities, distance([features, centres])])
    # L = 1·CE + λ·l2; two outputs, so the progress bar shows accuracy, CE, l2 and total one by one
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss=["sparse_categorical_crossentropy", pass_through],
        loss_weights=[1.0, weight],
        metrics=[["accuracy"], []],
    )
    return model, keras.Model(image, probabilities), keras.Model(image, features)


def train(
    x: np.ndarray,
    labels: np.ndarray,
    weight: float,
    epochs: int,
    seed: int,
    classes: int = CLASSES,
    dimension: int = 2,
) -> tuple:
    """Fit on (x, labels); (predict model, encoder, the table of centres (classes, dimension))."""
    check_labels(labels, classes)
    keras.utils.set_random_seed(seed)
    model, predictor, encoder = build_models(classes, dimension, weight)
    dummy = np.zeros((len(labels), 1), "float32")
    inputs, targets = [x, labels[:, None]], [labels, dummy]
    model.fit(inputs, targets, batch_size=64, epochs=epochs, verbose=0)
    return predictor, encoder, ops.convert_to_numpy(model.get_layer("centres").weights[0])


# ---------------------------------------------------------------- evaluation
def knn_accuracy(gallery, gallery_labels, queries, labels, k: int = 5) -> float:
    """Share of the queries whose k nearest gallery features carry their label by majority."""
    nearest = KNeighborsClassifier(k).fit(gallery, gallery_labels)
    return float(nearest.score(queries, labels))


def measure(data: tuple, weight: float, epochs: int, seed: int, dimension: int) -> tuple:
    """Train on all ten digits; (scores, test features, test labels, centres)."""
    x_train, y_train, x_test, y_test = data
    trained = train(x_train, y_train, weight, epochs, seed, CLASSES, dimension)
    predictor, encoder, centres = trained
    features = encoded(encoder, x_test, rows=1000)
    gallery = encoded(encoder, x_train, rows=1000)
    found = encoded(predictor, x_test, rows=1000).argmax(1)
    scores = {
        "accuracy": float((found == y_test).mean()),
        "scatter": scatter_ratio(features, y_test),
        "knn": knn_accuracy(gallery, y_train, features, y_test),
    }
    return scores, features, y_test, centres


def measure_unseen(data: tuple, weight: float, epochs: int, seed: int, dimension: int) -> float:
    """Train on eight digits; then k-NN between the two left out, from a few labelled examples."""
    x_train, y_train, x_test, y_test = data
    left_out = UNSEEN[seed % len(UNSEEN)]
    seen = np.setdiff1d(np.arange(CLASSES), left_out)
    known = np.isin(y_train, seen)
    renamed = np.searchsorted(seen, y_train[known]).astype("int32")
    trained = train(x_train[known], renamed, weight, epochs, seed, len(seen), dimension)
    gallery = np.flatnonzero(np.isin(y_train, left_out))[:LABELLED]
    query = np.flatnonzero(np.isin(y_test, left_out))
    codes = [encoded(trained[1], x, rows=1000) for x in (x_train[gallery], x_test[query])]
    return knn_accuracy(codes[0], y_train[gallery], codes[1], y_test[query])


def embedding_difference(seed: int) -> float:
    """Largest |Embedding(id) − Dense(no bias)(one-hot of id)| with the same table (C2.5)."""
    ids = np.arange(100, dtype="int32")[:, None]
    table = np.random.default_rng(seed).normal(size=(100, 32)).astype("float32")
    embedding = keras.layers.Embedding(100, 32)
    dense = keras.layers.Dense(32, use_bias=False)
    embedding.build()
    dense.build((None, 100))
    embedding.set_weights([table])
    dense.set_weights([table])
    rows = ops.convert_to_numpy(embedding(ids)[:, 0])
    product = ops.convert_to_numpy(dense(keras.utils.to_categorical(ids[:, 0], 100)))
    return float(np.abs(rows - product).max())


def one_output(two: keras.Model, weight: float) -> keras.Model:
    """The same network, whose only output is CE + λ·l2."""

    def total(parts):
        label, p, l2_loss = parts
        cross_entropy = keras.losses.sparse_categorical_crossentropy(label, p)
        return ops.expand_dims(cross_entropy, -1) + weight * l2_loss

    layer = keras.layers.Lambda(total, output_shape=(1,))
    model = keras.Model(two.inputs, layer([two.inputs[1], *two.outputs]))
    model.compile(keras.optimizers.Adam(2e-3), loss=pass_through)
    return model


def total_difference(data: tuple, weight: float, seed: int) -> float:
    """Largest |loss of the two-output model − (CE + λ·l2) as one scalar| over ten batches of one
    training (C2.7). Both models start from the same weights."""
    x, labels = data[0][:640], data[1][:640]
    dummy = np.zeros((64, 1), "float32")
    keras.utils.set_random_seed(seed)
    two, _, _ = build_models(CLASSES, 2, weight)
    start = two.get_weights()
    one = one_output(two, weight)
    curves = []
    for model in (two, one):
        model.set_weights(start)
        losses = []
        for batch in range(10):
            part = slice(batch * 64, batch * 64 + 64)
            targets = [labels[part], dummy] if model is two else dummy
            model.reset_metrics()
            inputs = [x[part], labels[part, None]]
            losses.append(model.train_on_batch(inputs, targets, return_dict=True)["loss"])
        curves.append(losses)
    return float(np.abs(np.subtract(*curves)).max())


# ---------------------------------------------------------------- figures
def plot_features(panels: dict):
    """panels: λ → (features (n, 2), labels, centres (10, 2))."""
    figure, row = cli.subplots(1, len(panels), height=3.2)
    for axes, (weight, (features, labels, centres)) in zip(row, panels.items(), strict=True):
        for digit in range(CLASSES):
            own = features[labels == digit]
            axes.scatter(own[:, 0], own[:, 1], s=3, color=f"C{digit}", alpha=0.5)
            place = {"ha": "center", "va": "center", "weight": "bold", "fontsize": 13}
            axes.annotate(str(digit), own.mean(0), **place)
        if weight:
            axes.scatter(centres[:, 0], centres[:, 1], marker="x", s=30, color="black", lw=1)
        axes.set(title=f"λ = {weight:g}", xlabel="x₁")
    row[0].set(ylabel="x₂")
    return figure


def plot_sweep(weights: list, scores: dict):
    """scores: name → one value per λ."""
    figure, (left, right) = cli.subplots(1, 2, height=3.2)
    ticks = np.arange(len(weights))
    left.plot(ticks, scores["scatter"], "o-", color="C0")
    left.set(title="scatter within / between classes", ylim=(0, 1.1 * max(scores["scatter"])))
    for name, label, colour, offset in (
        ("accuracy", "softmax", "C0", (10, -12)),
        ("knn", "5-NN on x", "C1", (-8, 7)),
    ):
        right.plot(ticks, scores[name], "o-", color=colour)
        place = {"xytext": offset, "textcoords": "offset points", "color": colour}
        right.annotate(label, (ticks[1], scores[name][1]), **place)
    right.set(title="accuracy on test digits")
    right.margins(y=0.15)
    for axes in (left, right):
        axes.set(xlabel="λ", xticks=ticks, xticklabels=[f"{weight:g}" for weight in weights])
    return figure


# ---------------------------------------------------------------- run
def judge(m: dict, weight: float) -> list:
    compact = {
        "fold": m["scatter_fold"],
        "scatter_plain": m["scatter_0"],
        "scatter_center": m[f"scatter_{weight:g}"],
        "accuracy_points": m["accuracy_change_points"],
        "knn_unseen_plain": m["knn_unseen_plain"],
        "knn_unseen_center": m["knn_unseen_center"],
    }
    as_right = m["accuracy_change_points"] >= -0.5
    unseen = m["knn_unseen_center"] > m["knn_unseen_plain"]
    same = {"embedding_difference": m["embedding_difference"]}
    total = {"total_difference": m["total_difference"]}
    return [
        cli.claim("C2.5", same, holds=m["embedding_difference"] == 0),
        cli.claim("C2.6", compact, holds=m["scatter_fold"] >= 3 and as_right and unseen),
        cli.claim("C2.7", total, holds=m["total_difference"] < 1e-5),
    ]


def spread_over_seeds(scores: dict) -> dict:
    """scores: λ → name → a value a seed. Means and standard deviations, by name and λ."""
    found = {}
    for weight, by_name in scores.items():
        for key, values in by_name.items():
            found[f"{key}_{weight:g}"] = float(values.mean())
            found[f"{key}_{weight:g}_sd"] = float(values.std())
    return found


def measure_sweep(data: tuple, weights, compared: tuple, epochs: int, args, seeds: int) -> dict:
    """λ → name → a value a seed: of `seeds` seeds for the λ compared, of one for the others."""
    scores = {}
    for weight in tqdm(weights, "λ", disable=None):
        numbers = range(args.seed, args.seed + (seeds if weight in compared else 1))
        runs = [measure(data, weight, epochs, seed, args.dimension)[0] for seed in numbers]
        scores[weight] = {key: np.array([run[key] for run in runs]) for key in runs[0]}
        means = ", ".join(f"{key} {value.mean():.4f}" for key, value in scores[weight].items())
        print(f"λ = {weight:g}: {means}", flush=True)
    return scores


def gains(plain: dict, pulled: dict) -> dict:
    """What the center loss brings; name → a value a seed, without it and with it."""
    gained = pulled["accuracy"].mean() - plain["accuracy"].mean()
    return {
        "scatter_fold": float(plain["scatter"].mean() / pulled["scatter"].mean()),
        "accuracy_change_points": float(100 * gained),
    }


def measure_plane(data: tuple, weights: list, epochs: int, seed: int) -> tuple[dict, dict]:
    """(metrics, λ → what plot_features shows) of features with two numbers: what all know."""
    metrics = {}
    panels = {}
    for weight in weights:
        flat, *panels[weight] = measure(data, weight, epochs, seed, 2)
        metrics |= {f"plane_{key}_{weight:g}": value for key, value in flat.items()}
    return metrics, panels


def main(args):
    data = load_digits(args.data_dir)
    epochs = args.epochs
    seeds = args.seeds
    sweep = args.sweep
    if args.quick:
        data = data[0][:600], data[1][:600], data[2][:300], data[3][:300]
        epochs = 2
        seeds = 1
        sweep = sweep[:1]
    weights = sorted({0.0, args.weight, *sweep})
    compared = (0.0, args.weight)
    scores = measure_sweep(data, weights, compared, epochs, args, seeds)
    unseen = {}
    for weight in compared:
        numbers = range(args.seed, args.seed + seeds)
        runs = [measure_unseen(data, weight, epochs, seed, args.dimension) for seed in numbers]
        unseen[weight] = float(np.mean(runs))

    metrics = {
        "backend": keras.backend.backend(),
        "epochs": epochs,
        "seeds": seeds,
        "weight": args.weight,
    }
    shown = sorted({*compared, min(weights[1:])})
    plane, panels = measure_plane(data, shown, epochs, args.seed)
    metrics |= plane | spread_over_seeds(scores)
    metrics |= {
        "dimension": args.dimension,
        **gains(scores[0.0], scores[args.weight]),
        "knn_unseen_plain": unseen[0.0],
        "knn_unseen_center": unseen[args.weight],
        "embedding_difference": embedding_difference(args.seed),
        "total_difference": total_difference(data, 0.2, args.seed),
    }
    by_weight = {key: [scores[weight][key].mean() for weight in weights] for key in scores[0.0]}
    figures = {
        "center_features": plot_features(panels),
        "center_sweep": plot_sweep(weights, by_weight),
    }
    return metrics, judge(metrics, args.weight), figures


if __name__ == "__main__":
    cli.run(main, flags)
