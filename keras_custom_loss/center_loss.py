"""Does a pull towards a trainable centre per class make features compact, and useful for classes never seen?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/center_loss.py            (--quick for a short look)
Time:    55 s on 2 cores (Intel Xeon)

Symbols: x → features   c_y → centres (a row of an Embedding)   λ → weight
         L = −log softmax_y(Wx+b) + λ·‖x − c_y‖²   (the article's third loss, with two outputs and loss weights [1, λ])
Differs from the article: digits (MNIST) instead of 224×224 images without data; two convolutions instead of one; the
features are linear (the article: relu), of its size 32 for the numbers and of size 2 for the picture.
"""
import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch  # noqa: E402

HERE = Path(__file__).resolve().parent
CLASSES = 10
UNSEEN = ((4, 9), (3, 8), (2, 7))  # pairs of digits left out of training, one pair per seed: those that look alike


# ---------------------------------------------------------------- data
def load_mnist(data_dir: Path | None = None) -> tuple:
    """(x_train, y_train, x_test, y_test): images (n, 28, 28, 1) float32 in [0, 1], labels (n,) int32."""
    with np.load(fetch("mnist_6k", data_dir)) as file:
        x_train, y_train, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    return (x_train[..., None].astype("float32") / 255, y_train.astype("int32"),
            x_test[..., None].astype("float32") / 255, y_test.astype("int32"))


# ---------------------------------------------------------------- method
def center_distance(features, centres):
    """‖x − c‖² of each row, kept as a column so that it can be a model's output.

    features, centres: (N, d). Returns (N, 1). Raises ValueError for shapes that differ.
    """
    if len(features.shape) != 2 or tuple(features.shape)[1:] != tuple(centres.shape)[1:] or (
            None not in (features.shape[0], centres.shape[0]) and features.shape[0] != centres.shape[0]):
        raise ValueError(f"features have shape {tuple(features.shape)}, centres {tuple(centres.shape)}: "
                         "both must be (N, d); flatten the Embedding's (N, 1, d)")
    return ops.sum(ops.square(features - centres), axis=-1, keepdims=True)


def check_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """A label out of range is an error on one backend and a silent NaN or a clipped row on another: stop it here."""
    labels = np.asarray(labels)
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}: must lie in 0 … {classes - 1}")
    return labels


def build_models(classes: int, dimension: int, weight: float, learning_rate: float = 2e-3) -> tuple:
    """(train model: image and label → probabilities and ‖x − c_y‖²; predict model: image → probabilities; encoder:
    image → x). They share their weights; the second loss is passed through, so its target is never looked at."""
    image = keras.Input((28, 28, 1), name="image")
    x = keras.layers.Conv2D(16, 5, strides=2, activation="relu", padding="same")(image)
    x = keras.layers.Conv2D(32, 3, strides=2, activation="relu", padding="same")(x)
    x = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(x))
    features = keras.layers.Dense(dimension, name="features")(x)
    probabilities = keras.layers.Dense(classes, activation="softmax", name="softmax")(features)
    label = keras.Input((1,), dtype="int32", name="label")
    centres = keras.layers.Flatten()(keras.layers.Embedding(classes, dimension, name="centres")(label))
    l2_loss = keras.layers.Lambda(lambda pair: center_distance(*pair), output_shape=(1,), name="l2_loss")(
        [features, centres])
    model = keras.Model([image, label], [probabilities, l2_loss])
    # L = 1·CE + λ·l2; two outputs, so the progress bar shows accuracy, CE, l2 and total one by one (C2.7)
    model.compile(keras.optimizers.Adam(learning_rate), loss_weights=[1.0, weight],
                  loss=["sparse_categorical_crossentropy", lambda y_true, y_pred: y_pred], metrics=[["accuracy"], []])
    return model, keras.Model(image, probabilities), keras.Model(image, features)


def train(x: np.ndarray, labels: np.ndarray, weight: float, epochs: int, seed: int, classes: int = CLASSES,
          dimension: int = 2) -> tuple:
    """Fit on (x, labels); returns (predict model, encoder, the table of centres (classes, dimension), history)."""
    check_labels(labels, classes)
    keras.utils.set_random_seed(seed)
    model, predictor, encoder = build_models(classes, dimension, weight)
    dummy = np.zeros((len(labels), 1), "float32")
    history = model.fit([x, labels[:, None]], [labels, dummy], batch_size=64, epochs=epochs, verbose=0).history
    return predictor, encoder, ops.convert_to_numpy(model.get_layer("centres").weights[0]), history


# ---------------------------------------------------------------- evaluation
def apply(model: keras.Model, images: np.ndarray, batch_size: int = 1000) -> np.ndarray:
    """Outputs as an array; a plain call, because predict() would trace a new graph for every small model."""
    return np.concatenate([ops.convert_to_numpy(model(images[start:start + batch_size], training=False))
                           for start in range(0, len(images), batch_size)])


def scatter_ratio(features: np.ndarray, labels: np.ndarray) -> float:
    """tr S_W / tr S_B: squared distance to the own class mean over squared distance of the class means to their mean
    (each class weighted by its size). 0 = every class a point; scale does not matter."""
    centre, within, between = features.mean(0), 0.0, 0.0
    for label in np.unique(labels):
        own = features[labels == label]
        within += np.sum((own - own.mean(0)) ** 2)
        between += len(own) * np.sum((own.mean(0) - centre) ** 2)
    return float(within / between)


def knn_accuracy(gallery: np.ndarray, gallery_labels: np.ndarray, queries: np.ndarray, labels: np.ndarray, k: int = 5):
    """Share of queries whose k nearest gallery features (Euclidean) carry their label by majority."""
    distance = (np.sum(queries ** 2, 1)[:, None] - 2 * queries @ gallery.T + np.sum(gallery ** 2, 1)[None])
    votes = gallery_labels[np.argpartition(distance, k, axis=1)[:, :k]]
    counts = np.stack([(votes == label).sum(1) for label in range(gallery_labels.max() + 1)], 1)
    return float((counts.argmax(1) == labels).mean())


def measure(data: tuple, weight: float, epochs: int, seed: int, dimension: int) -> tuple:
    """Train on all ten digits; (scores, test features, test labels, centres)."""
    x_train, y_train, x_test, y_test = data
    predictor, encoder, centres, _ = train(x_train, y_train, weight, epochs, seed, CLASSES, dimension)
    features = apply(encoder, x_test)
    gallery = apply(encoder, x_train)
    accuracy = (apply(predictor, x_test).argmax(1) == y_test).mean()
    return {"accuracy": float(accuracy), "scatter": scatter_ratio(features, y_test),
            "knn": knn_accuracy(gallery, y_train, features, y_test)}, features, y_test, centres


def measure_unseen(data: tuple, weight: float, epochs: int, seed: int, dimension: int, gallery_size: int = 50) -> float:
    """Train on eight digits; then k-NN between the two digits that were left out, from a few labelled examples."""
    x_train, y_train, x_test, y_test = data
    left_out = UNSEEN[seed % len(UNSEEN)]
    seen = np.setdiff1d(np.arange(CLASSES), left_out)
    known = np.isin(y_train, seen)
    renamed = np.searchsorted(seen, y_train[known]).astype("int32")
    _, encoder, _, _ = train(x_train[known], renamed, weight, epochs, seed, len(seen), dimension)
    gallery, query = (np.flatnonzero(np.isin(y, left_out)) for y in (y_train, y_test))
    gallery = gallery[:gallery_size]
    return knn_accuracy(apply(encoder, x_train[gallery]), np.searchsorted(left_out, y_train[gallery]),
                        apply(encoder, x_test[query]), np.searchsorted(left_out, y_test[query]))


def embedding_difference(seed: int) -> float:
    """Largest |Embedding(id) − Dense(no bias)(one-hot of id)| with the same table (C2.5)."""
    ids = np.arange(100, dtype="int32")[:, None]
    table = np.random.default_rng(seed).normal(size=(100, 32)).astype("float32")
    embedding, dense = keras.layers.Embedding(100, 32), keras.layers.Dense(32, use_bias=False)
    embedding.build()
    dense.build((None, 100))
    embedding.set_weights([table])
    dense.set_weights([table])
    rows, product = embedding(ids)[:, 0], dense(keras.utils.to_categorical(ids[:, 0], 100))
    return float(np.abs(ops.convert_to_numpy(rows) - ops.convert_to_numpy(product)).max())


def total_difference(data: tuple, weight: float, seed: int) -> float:
    """Largest |loss of the two-output model − (CE + λ·l2) as one scalar| over ten batches of one training (C2.7).

    Both models start from the same weights; the second hands out the total as its only output."""
    x, labels = data[0][:640], data[1][:640]
    keras.utils.set_random_seed(seed)
    two, _, _ = build_models(CLASSES, 2, weight)
    probabilities, l2_loss = two.outputs
    total = keras.layers.Lambda(
        lambda parts: keras.ops.expand_dims(keras.losses.sparse_categorical_crossentropy(parts[0], parts[1]), -1)
        + weight * parts[2], output_shape=(1,))([two.inputs[1], probabilities, l2_loss])
    one, start, curves = keras.Model(two.inputs, total), two.get_weights(), []
    for model in (two, one):
        model.set_weights(start)
        if model is one:
            one.compile(keras.optimizers.Adam(2e-3), loss=lambda y_true, y_pred: y_pred)
        losses = []
        for batch in range(10):
            part = slice(batch * 64, batch * 64 + 64)
            dummy = np.zeros((64, 1), "float32")
            model.reset_metrics()
            targets = [labels[part], dummy] if model is two else dummy
            losses.append(model.train_on_batch([x[part], labels[part, None]], targets, return_dict=True)["loss"])
        curves.append(losses)
    return float(np.abs(np.subtract(*curves)).max())


# ---------------------------------------------------------------- figures
def plot_features(panels: dict) -> Figure:
    """panels: title → (features (n, 2), labels, centres (10, 2) or None)."""
    figure = Figure(figsize=(3.6 * len(panels), 3.8), layout="constrained")
    for axes, (title, (features, labels, centres)) in zip(figure.subplots(1, len(panels)), panels.items()):
        for digit in range(CLASSES):
            own = features[labels == digit]
            axes.scatter(own[:, 0], own[:, 1], s=4, color=f"C{digit}", alpha=0.6)
            axes.annotate(str(digit), own.mean(0), fontsize=12, weight="bold", ha="center", va="center")
        if centres is not None:
            axes.scatter(centres[:, 0], centres[:, 1], marker="x", s=30, color="black", lw=1)
        axes.set(title=title, xlabel="x₁", ylabel="x₂")
    return figure


def plot_sweep(weights: list, scores: dict) -> Figure:
    """scores: name → one value per weight."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    ticks = np.arange(len(weights))
    for axes, (title, names) in zip(figure.subplots(1, 2), {"within / between scatter (test digits)": ["scatter"],
                                                            "accuracy (test digits)": ["accuracy", "knn"]}.items()):
        for name in names:
            axes.plot(ticks, scores[name], "o-", color={"knn": "C1"}.get(name, "C0"),
                      label={"accuracy": "softmax", "knn": "5-NN on x"}.get(name, name))
        axes.set(title=title, xlabel="λ", xticks=ticks, xticklabels=[f"{weight:g}" for weight in weights])
        if len(names) > 1:
            axes.legend()
        else:
            axes.set_yscale("log")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--weight", type=float, default=0.2, help="λ of the comparison, above 0 (the article: 0.2)")
    parser.add_argument("--sweep", type=float, nargs="*", default=[0.02, 1.0], help="further λ, one training each")
    parser.add_argument("--dimension", type=int, default=32, help="size of the features x in the comparison")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the training digits")
    parser.add_argument("--seeds", type=int, default=3, help="trainings with and without the loss")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name, values, low in (("weight", [args.weight], 0), ("sweep", args.sweep, 0)):
        for value in values:
            if not low < value < float("inf"):
                parser.error(f"--{name} {value}: must be above 0 (the run at 0 is made anyway)")
    for name in ("dimension", "epochs", "seeds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: must be 1 or more")
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
    data, epochs, seeds, sweep = load_mnist(args.data_dir), args.epochs, args.seeds, args.sweep
    if args.quick:
        data = data[0][:600], data[1][:600], data[2][:300], data[3][:300]
        epochs, seeds, sweep = 2, 1, sweep[:1]
    weights = sorted({0.0, args.weight, *sweep})
    scores, panels, unseen = {}, {}, {0.0: [], args.weight: []}
    for weight in weights:
        runs = [measure(data, weight, epochs, args.seed + s, args.dimension)
                for s in range(seeds if weight in unseen else 1)]
        scores[weight] = {key: np.array([run[0][key] for run in runs]) for key in runs[0][0]}
        print(f"λ = {weight:g}: " + ", ".join(f"{k} {v.mean():.4f}" for k, v in scores[weight].items()), flush=True)
    for weight in list(unseen):
        unseen[weight] = [measure_unseen(data, weight, epochs, args.seed + s, args.dimension) for s in range(seeds)]
    metrics = {"backend": keras.backend.backend(), "epochs": epochs, "seeds": seeds, "weight": args.weight}
    for weight in sorted({0.0, min(weights[1:]), args.weight}):  # in the plane: the picture everybody knows
        flat, features, labels, centres = measure(data, weight, epochs, args.seed, 2)
        metrics |= {f"plane_{key}_{weight:g}": value for key, value in flat.items()}
        panels[f"λ = {weight:g}"] = features, labels, centres if weight else None
    for weight in weights:
        for key, values in scores[weight].items():
            metrics[f"{key}_{weight:g}"], metrics[f"{key}_{weight:g}_sd"] = float(values.mean()), float(values.std())
    plain, pulled = scores[0.0], scores[args.weight]
    metrics |= {"dimension": args.dimension, "scatter_fold": float(plain["scatter"].mean() / pulled["scatter"].mean()),
                "accuracy_change_points": float(100 * (pulled["accuracy"].mean() - plain["accuracy"].mean())),
                "knn_unseen_plain": float(np.mean(unseen[0.0])),
                "knn_unseen_center": float(np.mean(unseen[args.weight])),
                "embedding_difference": embedding_difference(args.seed),
                "total_difference": total_difference(data, 0.2, args.seed)}
    figures = {"center_loss_features.png": plot_features(panels), "center_loss_sweep.png": plot_sweep(
        weights, {key: [scores[weight][key].mean() for weight in weights] for key in plain})}
    for name, figure in figures.items():
        figure.savefig(args.out_dir / name, dpi=150)
    m = metrics
    claims = [
        {"id": "C2.5", "claim": "Embedding of one id ≡ Dense without bias on its one-hot vector", "expected": "exact",
         "measured": f"largest difference {m['embedding_difference']:g}", "holds": m["embedding_difference"] == 0},
        {"id": "C2.6", "claim": "compact classes at (nearly) equal accuracy; better k-NN on unseen digits",
         "expected": "3 times smaller, accuracy at most 0.5 points lower",
         "measured": f"within / between scatter {plain['scatter'].mean():.4f} → {pulled['scatter'].mean():.4f} "
                     f"(÷{m['scatter_fold']:.1f}), accuracy {m['accuracy_change_points']:+.2f} points, "
                     f"k-NN on unseen digits {m['knn_unseen_plain']:.3f} → {m['knn_unseen_center']:.3f} "
                     f"(mean of {seeds} seeds)",
         "holds": bool(m["scatter_fold"] >= 3 and m["accuracy_change_points"] >= -0.5
                       and m["knn_unseen_center"] > m["knn_unseen_plain"])},
        {"id": "C2.7", "claim": "two outputs with weights [1, λ] give the total of one output CE + λ·l2",
         "expected": "same total, accuracy still shown",
         "measured": f"largest difference over ten training steps {m['total_difference']:.1e}",
         "holds": m["total_difference"] < 1e-5},
    ]
    return save_results(args, "center_loss", metrics, claims, list(figures), started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
