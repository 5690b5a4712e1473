"""Does mixing the cross-entropy with a uniform target stop the logits from growing?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/experiments/label_smoothing.py   (--full: all of MNIST)

Symbols: ε → epsilon   K → CLASSES   z → logits   p = softmax(z) → probabilities
         L = (1−ε)·S(q|p) + ε·S(u|p),  S(q|p) = −Σ qᵢ log pᵢ,  u = 1/K
         smallest at p_y = 1−ε+ε/K, that is z_y − z_other = log(1 + K(1−ε)/ε), a finite gap
Whether the network's confidence is then the right one: experiments/calibration.py.
Differs from the article: digits and a small dense network instead of an LSTM; the network ends in
logits, because their norm is what is measured and log-softmax stays exact where softmax rounds
to 0.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument(
        "--epsilon", type=cli.between(0.001, 0.999, float), default=0.1, help="weight of the mix"
    )
    parser.add_argument("--epochs", type=cli.between(1, 1000), default=40, help="passes")
    parser.add_argument("--seeds", type=cli.between(1, 100), default=3, help="networks per loss")
    parser.add_argument("--full", action="store_true", help="all 70,000 digits instead of 6,000")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported
from keras_tools import encoded, load_keras

load_keras()
import keras
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from losses import best_probability, smoothed_cross_entropy
from real_data import load_digits

CLASSES = 10
COLOURS = {"plain": "C0", "smoothed": "C1"}  # the same colour for the same loss in every figure


# ---------------------------------------------------------------- training
def build_classifier() -> keras.Model:
    hidden = keras.layers.Dense(256, activation="relu")
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), hidden, keras.layers.Dense(CLASSES)]
    return keras.Sequential(layers)


def train(data: tuple, epsilon: float, epochs: int, seed: int, watched: int) -> dict:
    """Curves of one network: name → one number per epoch.

    data: as of load_digits. Watched are `watched` training digits, all test digits, and as many
    images of uniform noise.
    """

    def loss(y_true, y_pred):
        return smoothed_cross_entropy(y_true, y_pred, epsilon, from_logits=True)

    x_train, y_train, x_test, y_test = data
    keras.utils.set_random_seed(seed)
    noise = np.random.default_rng(seed).random((watched, 28, 28, 1), dtype="float32")
    model = build_classifier()
    model.compile("adam", loss=loss)
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice
    images = np.concatenate([x_train[:watched], x_test, noise])
    stops = [watched, watched + len(x_test)]
    hot = keras.utils.to_categorical(y_train, CLASSES)
    curves = {}

    def watch(*_):
        logits = np.split(encoded(model, images, rows=1000), stops)
        points = {
            "train": measure(logits[0], y_train[:watched]),
            "test": measure(logits[1], y_test),
            "noise": measure(logits[2], None),
        }
        for name, point in points.items():
            for key, value in point.items():
                curves.setdefault(f"{name} {key}", []).append(float(value))

    watching = keras.callbacks.LambdaCallback(on_epoch_end=watch)
    model.fit(x_train, hot, batch_size=128, epochs=epochs, verbose=0, callbacks=[watching])
    return curves


def measure(z: np.ndarray, labels: np.ndarray | None) -> dict:
    """Mean norm of the logits z (n, K), mean largest p, and mean p of the labels if there are."""
    p = softmax(np.float64(z), axis=1)
    # softmax ignores a constant added to all logits, so the norm is taken about their mean
    norm = np.linalg.norm(z - z.mean(1, keepdims=True), axis=1).mean()
    point = {"norm": norm, "confidence": p.max(1).mean()}
    if labels is not None:
        point["p_true"] = p[np.arange(len(p)), labels].mean()
    return point


# ---------------------------------------------------------------- evaluation
def late_growth(curves: np.ndarray) -> float:
    """Mean over the last tenth of the epochs, over that of the tenth which ends at half time.

    curves: (seeds, epochs).
    """
    epochs = curves.shape[1]
    width = max(1, epochs // 10)
    middle = curves[:, max(0, epochs // 2 - width) : max(1, epochs // 2)]
    return float(curves[:, -width:].mean() / middle.mean())


def summarize(curves: dict) -> dict:
    """Means over the seeds: the curves' ends, and how they grow late."""
    metrics = {}
    for name in curves:
        for key, values in curves[name].items():
            metrics[f"{name}_{key.replace(' ', '_')}"] = float(values[:, -1].mean())
        for key in ("test norm", "noise confidence"):
            growth = late_growth(curves[name][key])
            metrics[f"{name}_{key.replace(' ', '_')}_late_growth"] = growth
    return metrics


# ---------------------------------------------------------------- figures
def plot_curves(curves: dict, target: float):
    """curves: loss name → quantity → array (seeds, epochs)."""
    figure, panels = cli.subplots(1, 3, height=3.2)
    titles = {
        "test norm": "norm of the logits,\ntest digits",
        "noise confidence": "largest p,\nimages of noise",
        "train p_true": "p of the true class,\ntraining digits",
    }
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        for name, quantities in curves.items():
            x = np.arange(1, quantities[key].shape[1] + 1)
            middle, spread = quantities[key].mean(0), quantities[key].std(0)
            axes.plot(x, middle, color=COLOURS[name])
            low, high = middle - spread, middle + spread
            axes.fill_between(x, low, high, color=COLOURS[name], alpha=0.2, lw=0)
            axes.annotate(
                name, (x[-1], middle[-1]), xytext=(-4, 6), textcoords="offset points", ha="right"
            )
        axes.set(xlabel="epoch", title=title)
        axes.margins(y=0.15)
    panels[2].axhline(target, color="0.4", ls="--", lw=1)
    label = f"dashed:\n1−ε+ε/K = {target:.3g}"
    panels[2].text(0.95, 0.08, label, ha="right", transform=panels[2].transAxes)
    return figure


# ---------------------------------------------------------------- run
def judge(m: dict) -> list:
    growth = m["plain_test_norm_late_growth"]
    stops = m["smoothed_test_norm_late_growth"]
    stopped = {
        "p_true": m["smoothed_train_p_true"],
        "plain_growth": growth,
        "smoothed_growth": stops,
        "plain_noise": m["plain_noise_confidence"],
        "smoothed_noise": m["smoothed_noise_confidence"],
    }
    grows = growth > 1.1 and m["plain_noise_confidence_late_growth"] > 1
    settles = stops < 1.05 and abs(m["smoothed_train_p_true"] - m["target"]) < 0.02
    less_sure = m["smoothed_noise_confidence"] < m["plain_noise_confidence"]
    return [cli.claim("C2.1", stopped, holds=grows and settles and less_sure)]


def main(args):
    data = load_digits(args.data_dir, args.full)
    epochs = args.epochs
    seeds = args.seeds
    watched = 1000
    if args.quick:
        data = tuple(part[:1000] for part in data)
        epochs = min(epochs, 6)
        seeds = 1
        watched = 500
    curves = {}
    for name, epsilon in {"plain": 0.0, "smoothed": args.epsilon}.items():
        seen = tqdm(range(args.seed, args.seed + seeds), name, disable=None)
        runs = [train(data, epsilon, epochs, seed, watched) for seed in seen]
        curves[name] = {key: np.array([run[key] for run in runs]) for key in runs[0]}
        print(f"{name}: trained {seeds} × {epochs} epochs", flush=True)

    target = best_probability(args.epsilon, CLASSES)
    metrics = {
        "backend": keras.backend.backend(),
        "epochs": epochs,
        "seeds": seeds,
        "target": target,
        "train_digits": len(data[0]),
        **summarize(curves),
    }
    return metrics, judge(metrics), {"label_smoothing_curves": plot_curves(curves, target)}


if __name__ == "__main__":
    cli.run(main, flags)
