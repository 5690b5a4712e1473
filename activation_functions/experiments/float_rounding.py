"""Proof that it is the rounding: what the flush does, where it happens, and what takes it away.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647, and the post it opens with:
         https://openai.com/index/nonlinear-computation-in-deep-linear-networks (2017)
Run:     python activation_functions/experiments/float_rounding.py

Symbols: smallest normal float32, 2⁻¹²⁶ → SMALLEST   flush(u) = (u·2⁻¹²⁵)·2¹²⁵ → flush (flushed.py)
TensorFlow on the CPU is the subject. Nothing is said of other devices: this was run on CPUs only.
Differs from the article: adds the graph optimiser (Grappler), XLA and Keras, which the post does
not mention.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def weights_file(text: str) -> Path:
    """The argparse type of --weights."""
    if not Path(text).is_file():
        raise cli.argparse.ArgumentTypeError(
            f"{text}: no such file; linear_network.py writes <out-dir>/linear_network.npz"
        )
    return Path(text)


def flags(parser):
    parser.add_argument(
        "--weights", type=weights_file, help="linear_network.npz (else a short training)"
    )
    parser.add_argument(
        "--method",
        default="surrogate",
        choices=("surrogate", "blocks", "es", "backprop"),
        help="of --weights",
    )
    parser.add_argument("--full", action="store_true", help="test on MNIST's 10 000 (fetched)")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import os
import zipfile

os.environ["KERAS_BACKEND"] = "tensorflow"  # whose flush is the subject

import numpy as np

from flushed import (
    LAYERS,
    SCALE_DOWN,
    SCALE_UP,
    flush,
    flush_emulated,
    forward,
    initial_parameters,
    openai_network,
    train_by_gradient,
)
from quiet_keras import keras, tf
from tasks import load_digits

SMALLEST = np.float32(2.0**-126)  # what lies between it and 0 is denormal


# ---------------------------------------------------------------- weights
def load_weights(path: Path, method: str) -> list:
    """[W1, b1, W2, b2, W3, b3] of one training of linear_network.py."""
    names = [f"{method}_{i}" for i in range(6)]
    hint = "linear_network.py writes <out-dir>/linear_network.npz"
    try:
        archive = np.load(path)
        found = set(archive.files)
    except (AttributeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"--weights {path}: not an .npz file; {hint}") from error
    with archive:
        if not set(names) <= found:
            there = ", ".join(sorted(found)[:12])
            raise ValueError(f"--weights {path}: no {names[0]} … {names[-1]}, but {there}; {hint}")
        parameters = [archive[name] for name in names]
    shapes = [part.shape for part in initial_parameters(1.0, np.random.default_rng(0))]
    if [part.shape for part in parameters] != shapes:
        raise ValueError(f"--weights {path}: not a network of {LAYERS} units; {hint}")
    return parameters


# ---------------------------------------------------------------- the same weights, many ways
def keras_network(parameters: list) -> keras.Model:
    """Dense layers without activation and Rescaling layers: on paper nothing is non-linear."""
    model = keras.Sequential([keras.Input((LAYERS[0],))])
    for units in LAYERS[1:]:
        model.add(keras.layers.Dense(units))
        model.add(keras.layers.Rescaling(SCALE_DOWN))
        model.add(keras.layers.Rescaling(SCALE_UP))
    model.set_weights(parameters)
    return model


def keep_the_rounding(keep: bool = True) -> None:
    """Graphs traced from now on run as written.

    Else Grappler folds x·2⁻¹²⁵·2¹²⁵ into x, and the network is linear.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": keep})


def execution_modes(parameters: list, x: np.ndarray) -> dict:
    """Name → logits (n, 10) of the same weights and the same operations."""
    x = x.astype("float32")
    tensor = tf.constant(x)
    logits = {
        "NumPy, keeps denormals": forward(parameters, x, flush),
        "TensorFlow eager": forward(parameters, tensor, flush).numpy(),
    }
    for keep, label in ((False, "default"), (True, "optimiser off")):
        keep_the_rounding(keep)
        graph = tf.function(lambda t: forward(parameters, t, flush))
        logits[f"tf.function, {label}"] = graph(tensor).numpy()
        model = keras_network(parameters)
        model.compile(jit_compile=False)
        logits[f"Keras predict, {label}"] = model.predict(x, batch_size=len(x), verbose=0)
    compiled = tf.function(lambda t: forward(parameters, t, flush), jit_compile=True)
    logits["tf.function, XLA"] = compiled(tensor).numpy()
    keep_the_rounding(False)
    return logits


def compare_modes(logits: dict, reference: np.ndarray, labels: np.ndarray) -> dict:
    """Name → {test, largest_difference_from_emulation, same_class_as_emulation, flushes}."""
    modes = {}
    for name, value in logits.items():
        same = float((value.argmax(1) == reference.argmax(1)).mean())
        modes[name] = {
            "test": float((value.argmax(1) == labels).mean()),
            "largest_difference_from_emulation": float(np.abs(value - reference).max()),
            "same_class_as_emulation": same,
            # other orders of summation may carry a unit over the threshold now and then
            "flushes": same > 0.99,
        }
        print(
            f"{name:30s} test {modes[name]['test']:.4f}  {'flushed' if same > 0.99 else 'LINEAR'}"
        )
    return modes


# ---------------------------------------------------------------- checks
def check_identity(rng: np.random.Generator, points: int = 1_000_000) -> dict:
    """flush on many points and the edges, against u·[|u| ≥ ½] and Keras's hard_shrink(u, 0.5)."""
    below_half = np.nextafter(np.float32(0.5), np.float32(0))
    edges = np.float32([0.0, -0.0, 0.5, -0.5, below_half, 1e-40, 3e38 / 2**125])
    wide = rng.choice([-1, 1], points // 2) * 2.0 ** rng.uniform(-30, 30, points // 2)
    normal = rng.normal(size=points - len(wide) - len(edges))
    u = np.concatenate([normal, wide, edges]).astype("float32")
    flushed = flush(tf.constant(u)).numpy()
    words = flush_emulated(u)
    unlike = flushed != keras.ops.convert_to_numpy(keras.activations.hard_shrink(u, 0.5))
    return {
        "points": points,
        "bits_unlike_emulation": int((flushed.view("u4") != words.view("u4")).sum()),
        "values_unlike_hard_shrink": int(unlike.sum()),
        "of_these_at_exactly_half": int((unlike & (np.abs(u) == 0.5)).sum()),
        "numpy_largest_change": float(np.abs(flush(u) - u).max()),
    }


def check_arithmetic() -> dict:
    """OpenAI's two examples; the second in units of the smallest normal number."""
    a = tf.constant(0.4 * SMALLEST)
    b = tf.constant(0.5 * SMALLEST)
    c = tf.constant(np.float32(2.0**126))
    d = tf.constant(np.float32(2.5) * SMALLEST)
    e = tf.constant(np.float32(-1.6) * SMALLEST)
    f = tf.constant(SMALLEST)
    return {
        "(a+b)c": float((a + b) * c),
        "ac+bc": float(a * c + b * c),
        "(d+e)+f": float(((d + e) + f) / SMALLEST),
        "(e+f)+d": float(((e + f) + d) / SMALLEST),
    }


def superposition_error(parameters: list, x: np.ndarray, activation, tensor=np.asarray) -> float:
    """Largest |N(x₁) + N(x₂) − N(x₁ + x₂) − N(0)| ÷ |N(x₁ + x₂)|: rounding if N is affine."""
    one, two = x[::2], x[1::2]

    def network(inputs):
        return np.asarray(forward(parameters, tensor(inputs), activation))

    both = network(one + two)
    left_over = network(one) + network(two) - both - network(0 * one)
    return float(np.abs(left_over).max() / np.abs(both).max())


# ---------------------------------------------------------------- figures
def plot_flush(modes: dict):
    """The transfer curve, and what the same weights are worth with the rounding or without."""
    figure, (left, right) = cli.subplots(1, 2, height=3.8)
    u = np.linspace(-1.5, 1.5, 1201, dtype="float32")
    left.plot(u, flush(u), "0.6", lw=2, ls="--")
    left.plot(u, flush(tf.constant(u)).numpy(), "C4", lw=2)
    left.annotate("NumPy keeps\ndenormals", (-0.4, -0.4), (-0.25, -1.3), color="0.5")
    left.annotate("TensorFlow\nflushes", (0.0, 0.0), (-1.2, 0.2), color="C4")
    left.set(xlabel="u", ylabel="(u·2⁻¹²⁵)·2¹²⁵", title="the only 'activation'")
    names = list(modes)[::-1]
    colors = ["C4" if modes[name]["flushes"] else "0.7" for name in names]
    bars = right.barh(names, [modes[name]["test"] for name in names], color=colors)
    right.bar_label(bars, fmt="%.3f", padding=3)
    right.set(xlim=(0, 1.3), xticks=(0, 0.5, 1), xlabel="test accuracy", title="the same weights")
    return figure


# ---------------------------------------------------------------- the experiment
def judge(arithmetic: dict, linearity: dict, identity: dict) -> list:
    """C8.1, C8.2 and C8.3."""
    examples = dict(zip(("a", "b", "c", "d"), arithmetic.values(), strict=True))
    as_printed = np.allclose(list(arithmetic.values()), [0, 0.9, 1, 2.5], rtol=0.01)
    affine = max(linearity["numpy"], linearity["scaling 1"])
    measured = {"affine": affine, "flushed": linearity["flushed"]}
    bits = identity["bits_unlike_emulation"]
    at_half = identity["of_these_at_exactly_half"]
    same = bits == 0 and identity["values_unlike_hard_shrink"] == at_half
    return [
        cli.claim("C8.1", examples, holds=as_printed),
        cli.claim("C8.2", measured, holds=affine < 1e-4 and linearity["flushed"] > 1e-2),
        cli.claim("C8.3", {"bits": bits, "points": identity["points"]}, holds=same),
    ]


def main(args):
    train, test = load_digits(args.full, args.data_dir)
    x = test[0].reshape(len(test[0]), -1)
    if args.weights:
        parameters = load_weights(args.weights, args.method)
    else:
        few = (train[0][:5000], train[1][:5000])
        epochs = 3 if args.quick else 12
        parameters = train_by_gradient("surrogate", few, epochs, 64, args.seed, lambda *seen: None)
    logits = execution_modes(parameters, x)
    modes = compare_modes(logits, forward(parameters, x, flush_emulated), test[1])
    printed = openai_network(parameters, tf.constant(x)).numpy()
    identity = check_identity(np.random.default_rng(args.seed))
    arithmetic = check_arithmetic()
    pairs = x[:200]
    linearity = {
        "flushed": superposition_error(parameters, pairs, flush, tf.constant),
        "numpy": superposition_error(parameters, pairs, flush),
        "scaling 1": superposition_error(parameters, pairs, tf.identity, tf.constant),
    }
    metrics = {
        "same_weights": modes,
        "openai_graph": {"share_of_logits_not_0": float((printed != 0).mean())},
        "identity": identity,
        "arithmetic": arithmetic,
        "superposition": linearity,
    }
    figures = {"float_rounding_proof": plot_flush(modes)}
    return metrics, judge(arithmetic, linearity, identity), figures


if __name__ == "__main__":
    cli.run(main, flags)
