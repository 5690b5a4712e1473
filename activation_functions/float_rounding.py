"""Proof that it is the rounding: what the flush of denormals does, where it happens, and what silently takes it away.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647, and the post it opens with:
         https://openai.com/index/nonlinear-computation-in-deep-linear-networks (2017)
Run:     python activation_functions/float_rounding.py            (--quick for a one-minute look)
         python activation_functions/float_rounding.py --weights activation_functions/outputs/linear_network.npz
Time:    19 s on 2 cores (AMD EPYC, 14 CPU-s), 1 GB

Symbols: smallest normal float32, 2⁻¹²⁶ → SMALLEST   flush(u) = (u·2⁻¹²⁵)·2¹²⁵ → flush (linear_network.py)
TensorFlow on the CPU is the subject. Nothing is said of other devices: this was run on CPUs only.
Differs from the article: adds the graph optimiser (Grappler), XLA and Keras, which the post does not mention.
"""
import argparse
import json
import os
import platform
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from activation_functions.linear_network import (LAYERS, SCALE_DOWN, SCALE_UP, flush, flush_emulated, forward,
                                                 load_digits, train_by_gradient)

HERE = Path(__file__).resolve().parent
SMALLEST = np.float32(2.0 ** -126)   # smallest normal float32; what lies between it and 0 is denormal


# ---------------------------------------------------------------- data
def load_weights(path: Path, method: str) -> list:
    """[W1, b1, W2, b2, W3, b3] of one training of linear_network.py."""
    names = [f"{method}_{i}" for i in range(6)]
    try:
        with np.load(path) as archive:
            if not set(names) <= set(archive.files):
                raise ValueError(f"no weights called {method}_0 to {method}_5, but: {', '.join(archive.files[:12])}")
            return [archive[name] for name in names]
    except (AttributeError, ValueError, EOFError, zipfile.BadZipFile) as error:      # AttributeError: a plain .npy
        reason = "not an .npz file" if "pickle" in str(error) or isinstance(error, AttributeError) else error
        raise ValueError(f"--weights {path}: {reason}; linear_network.py writes <out-dir>/linear_network.npz") from None


# ---------------------------------------------------------------- method
def keras_network(parameters: list) -> keras.Model:
    """Dense layers without activation and Rescaling layers: nothing in this model is non-linear on paper."""
    layers = [keras.Input((LAYERS[0],))]
    for units in LAYERS[1:]:
        layers += [keras.layers.Dense(units), keras.layers.Rescaling(SCALE_DOWN), keras.layers.Rescaling(SCALE_UP)]
    model = keras.Sequential(layers)
    model.set_weights(parameters)
    return model


def keep_the_rounding(keep: bool = True) -> None:
    """Graphs traced from now on run as written: else Grappler folds x·2⁻¹²⁵·2¹²⁵ into x and the network is linear."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": keep})


def execution_modes(parameters: list, x: np.ndarray) -> dict:
    """Name -> logits (n, 10) of the same weights and the same operations, run in different ways."""
    logits, x = {"NumPy, keeps denormals": forward(parameters, x, flush)}, x.astype("float32")
    logits["TensorFlow eager"] = forward(parameters, tf.constant(x), flush).numpy()
    for keep, label in ((False, "default"), (True, "optimiser off")):
        keep_the_rounding(keep)
        model = keras_network(parameters)
        logits[f"tf.function, {label}"] = tf.function(lambda t: forward(parameters, t, flush))(tf.constant(x)).numpy()
        model.compile(jit_compile=False)
        logits[f"Keras predict, {label}"] = model.predict(x, batch_size=len(x), verbose=0)
    compiled = tf.function(lambda t: forward(parameters, t, flush), jit_compile=True)
    logits["tf.function, XLA"] = compiled(tf.constant(x)).numpy()
    keep_the_rounding(False)
    return logits


# ---------------------------------------------------------------- evaluation
def check_identity(rng: np.random.Generator, points: int = 1_000_000) -> dict:
    """flush on a million points and the edges against u·[|u| ≥ ½] and keras.activations.hard_shrink(u, 0.5)."""
    edges = np.float32([0.0, -0.0, 0.5, -0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1e-40, 3e38 / 2 ** 125])
    wide = rng.choice([-1, 1], points // 2) * 2.0 ** rng.uniform(-30, 30, points // 2)
    u = np.concatenate([rng.normal(size=points - len(wide) - len(edges)), wide, edges]).astype("float32")
    flushed, words = flush(tf.constant(u)).numpy(), flush_emulated(u)
    shrunk = keras.ops.convert_to_numpy(keras.activations.hard_shrink(u, 0.5))
    return {"points": points, "bits_unlike_emulation": int((flushed.view("u4") != words.view("u4")).sum()),
            "values_unlike_hard_shrink": int((flushed != shrunk).sum()),
            "of_these_at_exactly_half": int(((flushed != shrunk) & (np.abs(u) == 0.5)).sum()),
            "numpy_largest_change": float(np.abs(flush(u) - u).max())}


def check_arithmetic() -> dict:
    """OpenAI's two examples; the first in units of 1, the second in units of the smallest normal number."""
    a, b, c = tf.constant(0.4 * SMALLEST), tf.constant(0.5 * SMALLEST), tf.constant(np.float32(2.0 ** 126))
    d, e, f = (tf.constant(np.float32(k) * SMALLEST) for k in (2.5, -1.6, 1.0))
    return {"(a+b)c": float((a + b) * c), "ac+bc": float(a * c + b * c),
            "(d+e)+f": float(((d + e) + f) / SMALLEST), "(e+f)+d": float(((e + f) + d) / SMALLEST)}


def superposition_error(parameters: list, x: np.ndarray, activation, scale=lambda t: t) -> float:
    """|N(x₁) + N(x₂) − N(x₁ + x₂) − N(0)| ÷ |N(x₁ + x₂)|, largest over pairs: rounding if the network is affine."""
    one, two = x[::2], x[1::2]
    values = [np.asarray(forward(parameters, scale(v), activation)) for v in (one, two, one + two, 0 * one)]
    return float(np.abs(values[0] + values[1] - values[2] - values[3]).max() / np.abs(values[2]).max())


# ---------------------------------------------------------------- figures
def plot_flush(modes: dict) -> Figure:
    """The transfer curve, and what the same weights are worth where the rounding is there or not."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    u = np.linspace(-1.5, 1.5, 1201, dtype="float32")
    left.plot(u, flush(u), "C3", lw=1)
    left.plot(u, flush(tf.constant(u)).numpy(), "C2", lw=2)
    for text, point, place, color in (("NumPy keeps\ndenormals", (-0.4, -0.4), (-0.2, -1.2), "C3"),
                                      ("TensorFlow flushes", (0.0, 0.0), (-1.3, 0.5), "C2")):
        left.annotate(text, point, place, color=color, arrowprops={"arrowstyle": "-", "color": color})
    left.set(xlabel="u", ylabel="(u·2⁻¹²⁵)·2¹²⁵", title="the only 'activation'")
    names = list(modes)[::-1]
    colors = ["C2" if modes[name]["flushes"] else "C3" for name in names]
    bars = right.barh(names, [modes[name]["test"] for name in names], color=colors)
    right.bar_label(bars, fmt="%.3f", padding=3)
    right.set(xlim=(0, 1.15), xlabel="test accuracy of the same weights", title="green: flushed; red: folded away")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--weights", type=Path, help="linear_network.npz (default: a short training)")
    parser.add_argument("--method", default="surrogate", choices=("surrogate", "es", "backprop"), help="which weights")
    parser.add_argument("--full", action="store_true", help="test on MNIST's 10 000 test digits (downloaded)")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.weights and not args.weights.is_file():
        parser.error(f"--weights {args.weights}: no such file; linear_network.py writes <out-dir>/linear_network.npz")
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
    if args.weights:
        parameters = load_weights(args.weights, args.method)
        test = load_digits(args.full, args.data_dir)[1]
    else:
        train, test = load_digits(args.full, args.data_dir)
        tf.random.set_seed(args.seed)
        rng = np.random.default_rng(args.seed)
        train = (train[0][:5000], train[1][:5000])
        parameters = train_by_gradient("surrogate", train, 3 if args.quick else 12, 64, rng, lambda *_: None)
    x = test[0].reshape(len(test[0]), -1)
    logits, reference = execution_modes(parameters, x), forward(parameters, x, flush_emulated)
    modes = {name: {"test": float((value.argmax(1) == test[1]).mean()),
                    "largest_difference_from_emulation": float(np.abs(value - reference).max()),
                    "same_class_as_emulation": float((value.argmax(1) == reference.argmax(1)).mean())}
             for name, value in logits.items()}
    for row in modes.values():   # other summation orders may carry a unit over the threshold now and then
        row["flushes"] = row["same_class_as_emulation"] > 0.99
    for name, row in modes.items():
        print(f"{name:30s} test {row['test']:.4f}  {'flushed' if row['flushes'] else 'LINEAR'}")
    identity, arithmetic = check_identity(np.random.default_rng(args.seed)), check_arithmetic()
    pairs = x[:200]
    linearity = {"flushed": superposition_error(parameters, pairs, flush, tf.constant),
                 "numpy": superposition_error(parameters, pairs, flush),
                 "scaling 1": superposition_error(parameters, pairs, tf.identity, tf.constant)}
    figures = ["float_rounding_proof.png"]
    plot_flush(modes).savefig(args.out_dir / figures[0], dpi=150)
    deployed, in_numpy = modes["TensorFlow eager"]["test"], modes["NumPy, keeps denormals"]["test"]
    claims = [
        {"id": "C8.1", "claim": "identities of arithmetic fail as in the post's two examples",
         "expected": "(a+b)c = 0, ac+bc = 0.9; (d+e)+f = 1, (e+f)+d = 2.5",
         "measured": ", ".join(f"{key} = {value:.2g}" for key, value in arithmetic.items())
                     + " (a CPU takes denormal inputs for 0 too, so ac and bc are 0 already)",
         "holds": bool(np.allclose(list(arithmetic.values()), [0, 0.9, 1, 2.5], rtol=0.01))},
        {"id": "C8.2", "claim": "without the flush, or with scaling 1, the network is affine to rounding",
         "expected": "superposition holds",
         "measured": f"relative error: flushed {linearity['flushed']:.1e}, NumPy {linearity['numpy']:.1e}, scaling 1 "
                     f"{linearity['scaling 1']:.1e}; accuracy {deployed:.4f} flushed, {in_numpy:.4f} in NumPy",
         "holds": bool(max(linearity["numpy"], linearity["scaling 1"]) < 1e-4 < 1e-2 < linearity["flushed"])},
        {"id": "C8.3", "claim": "with the flush and 2^125 each stage is hard-shrink(0.5)", "expected": "identical",
         "measured": f"{identity['points']} points: {identity['bits_unlike_emulation']} bits unlike u·[|u| ≥ ½], "
                     f"{identity['values_unlike_hard_shrink']} values unlike Keras's hard_shrink (drops |u| = ½)",
         "holds": bool(identity["bits_unlike_emulation"] == 0
                       and identity["values_unlike_hard_shrink"] == identity["of_these_at_exactly_half"])},
    ]
    metrics = {"same_weights": modes, "identity": identity, "arithmetic": arithmetic, "superposition": linearity}
    return save_results(args, "float_rounding", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
