"""Does mixing the cross-entropy with a uniform target stop a classifier from becoming over-confident?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/label_smoothing.py            (--quick for a short look, --full for all of MNIST)
Time:    53 s on 2 cores (Intel Xeon)

Symbols: ε → epsilon   K → classes   z → logits   p = softmax(z) → probabilities   q → y_true (one-hot)
         L = (1−ε)·S(q|p) + ε·S(u|p),  S(q|p) = −Σ qᵢ log pᵢ,  u = 1/K   (the article's first loss)
         smallest at p_y = 1−ε+ε/K, that is z_y − z_other = log(1 + K(1−ε)/ε), a finite gap
Differs from the article: digits (MNIST) and a small dense network instead of an LSTM without data; the network ends in
logits, because their norm is what is measured and log-softmax stays exact where softmax rounds to 0.
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
COLOURS = {"plain": "C0", "smoothed": "C1"}  # the same colour for the same loss in every figure


# ---------------------------------------------------------------- data
def load_mnist(data_dir: Path | None = None, full: bool = False) -> tuple:
    """(x_train, y_train, x_test, y_test): images (n, 28, 28, 1) float32 in [0, 1], labels (n,) int32."""
    if full:
        x_train, x_test = (np.frombuffer(fetch(f"mnist-{part}-images", data_dir).read_bytes(), np.uint8, offset=16)
                           .reshape(-1, 28, 28) for part in ("train", "t10k"))
        y_train, y_test = (np.frombuffer(fetch(f"mnist-{part}-labels", data_dir).read_bytes(), np.uint8, offset=8)
                           for part in ("train", "t10k"))
    else:
        with np.load(fetch("mnist_6k", data_dir)) as file:
            x_train, y_train, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    return (x_train[..., None].astype("float32") / 255, y_train.astype("int32"),
            x_test[..., None].astype("float32") / 255, y_test.astype("int32"))


# ---------------------------------------------------------------- method
def smoothed_cross_entropy(y_true, y_pred, epsilon: float = 0.1, from_logits: bool = False):
    """(1−ε)·CE(y_true, p) + ε·CE(1/K, p) of each row; ready for `compile(loss=smoothed_cross_entropy)`.

    y_true: (N, K), rows that sum to 1. y_pred: (N, K), probabilities, or logits with from_logits (exact at any size;
    probabilities are clipped at keras.config.epsilon() = 1e-7, as Keras does). Returns (N,).
    Raises ValueError for shapes that differ or ε outside [0, 1).
    """
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon {epsilon}: must lie in [0, 1)")
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.convert_to_tensor(y_true, dtype=y_pred.dtype)
    if len(y_true.shape) != len(y_pred.shape) or any(a != b for a, b in zip(y_true.shape, y_pred.shape)
                                                     if a is not None and b is not None):
        raise ValueError(f"y_true has shape {tuple(y_true.shape)}, y_pred {tuple(y_pred.shape)}: both must be (N, K); "
                         "turn class numbers into rows with keras.utils.to_categorical")
    if from_logits:
        log_p = ops.log_softmax(y_pred, axis=-1)
    else:
        tiny = keras.config.epsilon()
        log_p = ops.log(ops.clip(y_pred / ops.sum(y_pred, axis=-1, keepdims=True), tiny, 1 - tiny))
    # L = −(1−ε) Σ qᵢ log pᵢ − ε Σ (1/K) log pᵢ   (article, first loss)
    return -(1 - epsilon) * ops.sum(y_true * log_p, axis=-1) - epsilon * ops.mean(log_p, axis=-1)


def best_probability(epsilon: float, classes: int = CLASSES) -> float:
    """p_y = 1−ε+ε/K, where the loss is smallest."""
    return 1 - epsilon + epsilon / classes


def build_classifier() -> keras.Model:
    return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(),
                             keras.layers.Dense(256, activation="relu"), keras.layers.Dense(CLASSES)])


def train(data: tuple, epsilon: float, epochs: int, seed: int, watched: int) -> tuple:
    """Train one network. Returns (curves, test probabilities): curves maps a name to one number per epoch."""
    x_train, y_train, x_test, y_test = data
    keras.utils.set_random_seed(seed)
    noise = np.random.default_rng(seed).random((watched, 28, 28, 1), dtype="float32")
    model = build_classifier()
    model.compile("adam", loss=lambda y_true, y_pred: smoothed_cross_entropy(y_true, y_pred, epsilon, from_logits=True))
    parts = {"train": (x_train[:watched], y_train[:watched]), "test": (x_test, y_test), "noise": (noise, None)}
    images = np.concatenate([part[0] for part in parts.values()])
    stops = np.cumsum([len(part[0]) for part in parts.values()])[:-1]
    curves, hot = {}, keras.utils.to_categorical(y_train, CLASSES)
    for _ in range(epochs):
        model.fit(x_train, hot, batch_size=128, epochs=1, verbose=0)
        logits = model.predict(images, batch_size=1000, verbose=0)
        for (name, (_, labels)), z in zip(parts.items(), np.split(logits, stops)):
            p = softmax(z)
            # softmax ignores a constant added to all logits, so the norm is taken about their mean
            point = {"norm": np.linalg.norm(z - z.mean(1, keepdims=True), axis=1).mean(), "confidence": p.max(1).mean()}
            if labels is not None:
                point["p_true"] = p[np.arange(len(p)), labels].mean()
            for key, value in point.items():
                curves.setdefault(f"{name} {key}", []).append(float(value))
    return curves, softmax(np.split(logits, stops)[1])


# ---------------------------------------------------------------- evaluation
def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(np.float64(z) - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def calibration(p: np.ndarray, labels: np.ndarray, bins: int = 10) -> tuple:
    """Expected calibration error Σ_b n_b/n · |accuracy_b − confidence_b| over equal bins of the largest probability
    (Guo et al. 2017, eq. 3); returns (error, rows of [confidence, accuracy, share]) for the bins that hold anything."""
    confidence, right = p.max(1), p.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = np.array([[confidence[place == b].mean(), right[place == b].mean(), (place == b).mean()]
                     for b in range(bins) if (place == b).any()])
    return float(np.sum(rows[:, 2] * np.abs(rows[:, 0] - rows[:, 1]))), rows


def evaluate(p: np.ndarray, labels: np.ndarray) -> dict:
    return {"accuracy": float((p.argmax(1) == labels).mean()), "ece": calibration(p, labels)[0],
            "nll": float(-np.log(np.maximum(p[np.arange(len(p)), labels], 1e-300)).mean())}


def late_growth(curves: np.ndarray) -> float:
    """Mean over the last tenth of the epochs by mean over the tenth that ends at half time (seeds × epochs)."""
    epochs = curves.shape[1]
    width = max(1, epochs // 10)
    return float(curves[:, -width:].mean() / curves[:, max(0, epochs // 2 - width):max(1, epochs // 2)].mean())


# ---------------------------------------------------------------- figures
def plot_curves(curves: dict, target: float) -> Figure:
    """curves: loss name → quantity → array (seeds, epochs)."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = {"test norm": "logit norm, test digits", "noise confidence": "largest p on uniform noise",
              "train p_true": "p of the true class, training digits"}
    for axes, (key, quantity) in zip(figure.subplots(1, 3), panels.items()):
        for name, quantities in curves.items():
            x = np.arange(1, quantities[key].shape[1] + 1)
            middle, spread = quantities[key].mean(0), quantities[key].std(0)
            axes.plot(x, middle, color=COLOURS[name], label=name)
            axes.fill_between(x, middle - spread, middle + spread, color=COLOURS[name], alpha=0.2, lw=0)
        if key == "train p_true":
            axes.axhline(target, color="0.4", ls="--", lw=1, label=f"1−ε+ε/K = {target:.3g}")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.legend()
    return figure


def plot_reliability(predictions: dict, labels: np.ndarray) -> Figure:
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", ls="--", lw=1)
    for name, p in predictions.items():
        error, rows = calibration(p, labels)
        axes.plot(rows[:, 0], rows[:, 1], color=COLOURS[name], lw=1, label=f"{name}: ECE {error:.3f}")
        axes.scatter(rows[:, 0], rows[:, 1], s=20 + 300 * rows[:, 2], color=COLOURS[name], alpha=0.7)
    axes.set(xlabel="largest probability (confidence)", ylabel="share right (accuracy)", xlim=(0, 1.02), ylim=(0, 1.02),
             title="test digits, all seeds; area = share of digits")
    axes.legend(loc="upper left")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epsilon", type=float, default=0.1, help="weight ε of the uniform target, in [0, 1)")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training digits")
    parser.add_argument("--seeds", type=int, default=3, help="networks per loss")
    parser.add_argument("--full", action="store_true", help="all of MNIST (60,000 + 10,000) instead of 5,000 + 1,000")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if not 0 < args.epsilon < 1:
        parser.error(f"--epsilon {args.epsilon}: must lie in (0, 1); the run without smoothing is made anyway"
                     if args.epsilon == 0 else f"--epsilon {args.epsilon}: must lie in [0, 1)")
    for name in ("epochs", "seeds"):
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
    data = load_mnist(args.data_dir, args.full)
    epochs, seeds, watched = args.epochs, args.seeds, 1000
    if args.quick:
        data = tuple(part[:1000] for part in data)
        epochs, seeds, watched = min(epochs, 6), 1, 500
    curves, predictions = {}, {}
    for name, epsilon in {"plain": 0.0, "smoothed": args.epsilon}.items():
        runs = [train(data, epsilon, epochs, args.seed + s, watched) for s in range(seeds)]
        curves[name] = {key: np.array([run[0][key] for run in runs]) for key in runs[0][0]}
        predictions[name] = [run[1] for run in runs]
        print(f"{name}: trained {seeds} × {epochs} epochs", flush=True)
    labels, target = data[3], best_probability(args.epsilon)
    metrics = {"backend": keras.backend.backend(), "epochs": epochs, "seeds": seeds, "target": target,
               "train_digits": len(data[0])}
    for name in curves:
        scores = [evaluate(p, labels) for p in predictions[name]]
        for key in scores[0]:
            values = np.array([score[key] for score in scores])
            metrics[f"{name}_{key}"], metrics[f"{name}_{key}_sd"] = float(values.mean()), float(values.std())
        for key, values in curves[name].items():
            metrics[f"{name}_{key.replace(' ', '_')}"] = float(values[:, -1].mean())
        for key in ("test norm", "noise confidence"):
            metrics[f"{name}_{key.replace(' ', '_')}_late_growth"] = late_growth(curves[name][key])
    figures = {"label_smoothing_curves.png": plot_curves(curves, target),
               "label_smoothing_reliability.png": plot_reliability(
                   {name: np.concatenate(p) for name, p in predictions.items()}, np.tile(labels, seeds))}
    for name, figure in figures.items():
        figure.savefig(args.out_dir / name, dpi=150)
    m = metrics
    claims = [
        {"id": "C2.1", "claim": "plain cross-entropy keeps growing logits and confidence on noise; with ε they stop",
         "expected": f"plain keeps growing; smoothed: p of the true class → {target:.3g}",
         "measured": f"growth in the second half, logit norm: plain ×{m['plain_test_norm_late_growth']:.2f}, smoothed "
                     f"×{m['smoothed_test_norm_late_growth']:.2f}; confidence on noise at the end: plain "
                     f"{m['plain_noise_confidence']:.3f}, smoothed {m['smoothed_noise_confidence']:.3f}; smoothed p of "
                     f"the true class {m['smoothed_train_p_true']:.3f}",
         "holds": bool(m["plain_test_norm_late_growth"] > 1.1 and m["plain_noise_confidence_late_growth"] > 1
                       and m["smoothed_test_norm_late_growth"] < 1.05
                       and m["smoothed_noise_confidence"] < m["plain_noise_confidence"]
                       and abs(m["smoothed_train_p_true"] - target) < 0.02)},
        {"id": "C2.2", "claim": "equal or better test accuracy, and better calibration",
         "expected": "accuracy not lower, ECE lower",
         "measured": f"accuracy {m['plain_accuracy']:.4f} → {m['smoothed_accuracy']:.4f}, ECE {m['plain_ece']:.4f} → "
                     f"{m['smoothed_ece']:.4f}, NLL {m['plain_nll']:.4f} → {m['smoothed_nll']:.4f}",
         "holds": bool(m["smoothed_accuracy"] >= m["plain_accuracy"] and m["smoothed_ece"] < m["plain_ece"])},
    ]
    return save_results(args, "label_smoothing", metrics, claims, list(figures), started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
