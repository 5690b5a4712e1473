"""Every activation function of the article and its descendants: formula, derivative, minimum, saturation, one figure.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/gallery.py            (--quick draws on a coarser grid)
Time:    10 s on 2 cores (AMD EPYC), 0.6 GB

Symbols: σ → sigmoid   x·σ(βx) → swish   x·min(1, eˣ) → tick, the author's function   ⊗ → the gate of glu and its kin
         E[·] under N(0, 1): gain = 1/√E[f²] keeps the variance of a layer, χ = E[f'²]/E[f²] is its gradient factor
Differs from the article: it draws five functions; here are eighteen and five gates, plus a fourth algebraic form of the
author's function, x·e^min(x, 0), which needs neither a guard nor a second exponential.

Only keras.ops and keras.activations are used: TensorFlow, JAX and PyTorch (KERAS_BACKEND) run the same lines.
"""
import argparse
import json
import math
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar

HERE = Path(__file__).resolve().parent
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805   # solve E f = 0, E f² = 1 under N(0, 1)
FLOOR = -1000.0   # e^-1000 is 0 in every float: clamping here turns the -inf · 0 = NaN of x·σ(x) into its limit 0
SATURATED = 0.1   # "saturated": |f'(x)| below this


# ---------------------------------------------------------------- method: functions, float tensor -> the same shape
sigmoid, tanh, relu = ops.sigmoid, ops.tanh, ops.relu   # 1/(1 + e⁻ˣ), its like around 0, max(x, 0)


def leaky_relu(x, slope=0.01):
    """max(x, slope·x) for slope < 1; PReLU is this function with `slope` trained."""
    return ops.relu(x) + slope * ops.minimum(x, 0.0)


def elu(x, alpha=1.0):
    """x for x > 0, else α(eˣ − 1); expm1 keeps the digits that eˣ − 1 cancels near 0."""
    return ops.relu(x) + alpha * ops.expm1(ops.minimum(x, 0.0))


def selu(x):
    return SELU_SCALE * elu(x, SELU_ALPHA)


def softplus(x):
    """log(1 + eˣ); not logaddexp(x, 0), whose gradient at exactly 0 comes out as 1 in TensorFlow instead of 1/2."""
    return ops.softplus(x)


def swish(x, beta=1.0):
    """x·σ(βx), β a number or a trained tensor; the limit 0 at -inf."""
    x = ops.maximum(x, FLOOR)
    return x * ops.sigmoid(beta * x)


def gelu(x):
    """x·Φ(x), Φ the normal distribution function: the exact form, not the tanh approximation (off by 5e-4)."""
    x = ops.maximum(x, FLOOR)
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def mish(x):
    """x·tanh(softplus(x))."""
    x = ops.maximum(x, FLOOR)
    return x * ops.tanh(ops.logaddexp(x, ops.zeros_like(x)))   # its wrong slope at 0 is multiplied by x = 0


def hard_sigmoid(x):
    """clip(x/6 + 1/2, 0, 1): Keras 3 and PyTorch; Keras 2 had x/5 + 1/2."""
    return ops.clip(x / 6.0 + 0.5, 0.0, 1.0)


def hard_tanh(x):
    return ops.clip(x, -1.0, 1.0)


def hard_swish(x):
    """x·hard_sigmoid(x); below -3 it is 0, so the floor changes nothing but -inf."""
    x = ops.maximum(x, FLOOR)
    return x * hard_sigmoid(x)


def hard_shrink(x, threshold=0.5):
    """x where |x| ≥ threshold, else 0: what flushing denormals makes of x·2⁻¹²⁵·2¹²⁵ (linear_network.py)."""
    return ops.where(ops.abs(x) < threshold, 0.0, x)   # NaN stays NaN


def tick_naive(x):
    """The article's formula as printed: x·min(1, eˣ). Its gradient is NaN as soon as eˣ overflows (0·inf)."""
    return x * ops.minimum(1.0, ops.exp(x))


def tick_max(x):
    """Safe form 1: max(x, x·e^-|x|)."""
    return ops.maximum(x, x * ops.exp(-ops.abs(x)))


def tick_relu(x):
    """Safe form 2: x + relu(x·e^-|x| − x). Right to ε·|x|, but below x = -16 the sum cancels all of f."""
    return x + ops.relu(x * ops.exp(-ops.abs(x)) - x)


def tick(x):
    """The author's function, x·min(1, eˣ) = x·e^min(x, 0): one exponential, never above 1; also right at ±inf."""
    x = ops.maximum(x, FLOOR)
    return x * ops.exp(ops.minimum(x, 0.0))


def bilinear(a, b):
    """Gates take a = W₁x + b₁ and b = W₂x + b₂; this one has no non-linearity but the product."""
    return a * b


def glu(a, b):
    """a ⊗ σ(b); with a = b (tied weights) it is Swish."""
    return a * ops.sigmoid(b)


def reglu(a, b):
    return a * relu(b)


def geglu(a, b):
    return a * gelu(b)


def swiglu(a, b):
    return a * swish(b)


class TrainableSwish(keras.layers.Layer):
    """x·σ(βx) with one trained β per layer, started at 1."""

    def build(self, input_shape):
        self.beta = self.add_weight(shape=(), initializer="ones", name="beta")

    def call(self, x):
        return swish(x, self.beta)


ACTIVATIONS = {"sigmoid": sigmoid, "tanh": tanh, "hard_sigmoid": hard_sigmoid, "hard_tanh": hard_tanh,
               "relu": relu, "leaky_relu": leaky_relu, "prelu_0.25": lambda x: leaky_relu(x, 0.25), "elu": elu,
               "selu": selu, "softplus": softplus, "swish": swish, "swish_beta_2": lambda x: swish(x, 2.0),
               "gelu": gelu, "mish": mish, "hard_swish": hard_swish, "hard_shrink": hard_shrink,
               "relu_squared": lambda x: ops.square(ops.relu(x)), "tick": tick}
GATES = {"bilinear": bilinear, "glu": glu, "reglu": reglu, "geglu": geglu, "swiglu": swiglu}
FORMS = {"naive": tick_naive, "max": tick_max, "relu": tick_relu, "exp_min": tick}


def evaluate(function, x: np.ndarray) -> np.ndarray:
    """f(x) as a NumPy array, in the dtype of x (JAX computes in float32 unless told otherwise)."""
    return ops.convert_to_numpy(function(ops.convert_to_tensor(x, dtype=str(x.dtype))))


def derivative(function, x: np.ndarray) -> np.ndarray:
    """f'(x) of an elementwise function by the automatic differentiation of the backend in use."""
    if keras.backend.backend() == "jax":
        import jax
        return np.asarray(jax.grad(lambda t: ops.sum(function(t)))(ops.convert_to_tensor(x)))
    if keras.backend.backend() == "torch":
        import torch
        tensor = torch.tensor(x, requires_grad=True)
        return torch.autograd.grad(function(tensor).sum(), tensor)[0].detach().numpy()
    import tensorflow as tf
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = function(tensor)
    return tape.gradient(value, tensor).numpy()


# ---------------------------------------------------------------- evaluation
def describe(function, points: int = 100_001) -> dict:
    """Minimum, range, saturation and mean-field constants of one function; expectations under N(0, 1) by quadrature."""
    x = np.linspace(-10, 10, points)
    normal = np.exp(-x ** 2 / 2)
    normal /= normal.sum()
    value, slope = evaluate(function, x).astype("float64"), derivative(function, x).astype("float64")
    at = x[np.argmin(value)]
    row = {"minimum": None, "minimum_at": None, "slope_min": slope.min(), "slope_max": slope.max(),
           "range": [value.min(), value.max()],   # over [-10, 10]
           "saturated_fraction": normal[np.abs(slope) < SATURATED].sum(),
           "gain": 1 / math.sqrt(normal @ value ** 2), "chi": normal @ slope ** 2 / (normal @ value ** 2)}
    if value.min() < min(value[0], value[-1]) - 1e-6:   # a dip inside, not a plateau or an end
        found = minimize_scalar(lambda t: float(evaluate(function, np.array([t]))[0]), bounds=(at - 0.1, at + 0.1),
                                method="bounded", options={"xatol": 1e-9})
        row.update(minimum=found.fun, minimum_at=found.x)
    return {key: None if number is None else np.round(number, 6).tolist() for key, number in row.items()}


def check_forms() -> dict:
    """The forms of x·min(1, eˣ) over the whole of float32: agreement, overflow, and gradients that are not finite."""
    x = np.float32([*np.linspace(-100, 80, 20_000), -1e4, -1e3, 88.0, 89.0, 100.0, 1e4, 1e30, 3e38])
    exact = np.where(x < 0, x * np.exp(np.minimum(x.astype("float64"), 0)), x)
    checks = {}
    for name, function in FORMS.items():
        value, slope = evaluate(function, x), derivative(function, x)
        error = np.abs(value - exact) / 2.0 ** -23   # in units of float32's ε
        bad = x[~np.isfinite(slope)]
        checks[name] = {"error_epsilons_of_x": float(np.max(error / np.abs(x))),
                        # 2⁻⁹⁶: below it eˣ nears 2⁻¹²⁶, the smallest normal number, and may be flushed to 0
                        "error_epsilons_of_f": float(np.max(error / np.maximum(np.abs(exact), 2.0 ** -96))),
                        "value_not_finite": int((~np.isfinite(value)).sum()),
                        "gradient_not_finite": len(bad),
                        "first_bad_gradient_at": float(bad.min()) if len(bad) else None}
    return checks


def check_tied_gate(rng: np.random.Generator) -> float:
    """Largest |(Wx + b) ⊗ σ(Wx + b) − swish(Wx + b)|: the GLU of Facebook with both parameter sets tied."""
    inputs, weights, bias = (rng.normal(size=shape).astype("float32") for shape in ((256, 64), (64, 32), (32,)))
    u = ops.matmul(inputs, weights) + bias
    return float(np.max(np.abs(ops.convert_to_numpy(glu(u, u)) - ops.convert_to_numpy(swish(u)))))


# ---------------------------------------------------------------- figures
def plot_gallery(table: dict, points: int) -> Figure:
    """One panel per function: f (thick), f' (thin), the saturated region shaded, the minimum marked."""
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    x = np.linspace(-5, 5, points)
    for axes, (name, function) in zip(figure.subplots(3, 6, sharex=True, sharey=True).flat, ACTIVATIONS.items()):
        value, slope, row = evaluate(function, x), derivative(function, x), table[name]
        axes.fill_between(x, -1.2, 3, where=np.abs(slope) < SATURATED, color="0.9", lw=0)
        axes.plot(x, value, "C0", lw=2)
        axes.plot(x, slope, "C1", lw=1)
        axes.axhline(0, color="0.6", lw=0.5)
        title = f"{name}\nsaturated {row['saturated_fraction']:.0%} of N(0,1)"
        if row["minimum"] is not None:
            axes.plot(row["minimum_at"], row["minimum"], "kv", ms=5)
            title += f", min {row['minimum']:.3f}"
        axes.set_title(title, fontsize=6.5)
        axes.set(xlim=(-5, 5), ylim=(-1.2, 3))
    figure.suptitle("f (blue), f ' (orange); grey: |f '| < 0.1; triangle: minimum", fontsize=10)
    figure.supxlabel("x", fontsize=9)
    return figure


def plot_tick() -> Figure:
    """The author's function beside Swish, and the gradients of its forms where eˣ overflows."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = np.linspace(-5, 1.5, 500).astype("float32")
    for name, color in (("relu", "C0"), ("swish", "C1"), ("tick", "C2")):
        left.plot(x, evaluate(ACTIVATIONS[name], x), color)
    for text, place, color in (("ReLU", (-4.9, 0.05), "C0"), ("Swish", (-2.9, -0.31), "C1"),
                               ("author's", (-1.3, -0.45), "C2")):
        left.annotate(text, place, color=color)
    left.set(xlabel="x", ylabel="f(x)", title="The shape of a tick", ylim=(-0.55, 1))
    x = np.linspace(60, 120, 241).astype("float32")
    for level, (name, function) in enumerate(FORMS.items()):
        finite = np.isfinite(derivative(function, x))
        right.scatter(x, np.full(len(x), level), s=14, marker="s", c=np.where(finite, "C2", "C3"))
    right.set_yticks(range(4), ["x·min(1, eˣ)", "max(x, x·e^-|x|)", "x+relu(x·e^-|x| − x)", "x·e^min(x,0)"])
    right.set(xlabel="x", title="float32 gradient: green finite, red NaN", ylim=(-0.7, 3.7))
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_house_flags(parser)
    return parser.parse_args(argv)


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
    table = {name: describe(function, 10_001 if args.quick else 100_001) for name, function in ACTIVATIONS.items()}
    print(f"{'function':13s} {'minimum':>9s} {'at':>7s} {'saturated':>9s} {'gain':>7s} {'chi':>7s}")
    for name, row in table.items():
        low, at = ("–", "–") if row["minimum"] is None else (f"{row['minimum']:.4f}", f"{row['minimum_at']:.3f}")
        print(f"{name:13s} {low:>9s} {at:>7s} {row['saturated_fraction']:9.1%} {row['gain']:7.4f} {row['chi']:7.4f}")
    forms, tied = check_forms(), check_tied_gate(np.random.default_rng(args.seed))
    figures = ["gallery_functions.png", "gallery_tick.png"]
    plot_gallery(table, 101 if args.quick else 401).savefig(args.out_dir / figures[0], dpi=150)
    plot_tick().savefig(args.out_dir / figures[1], dpi=150)
    worst = max(form["error_epsilons_of_x"] for form in forms.values())
    safe = not any(forms[name]["value_not_finite"] + forms[name]["gradient_not_finite"] for name in list(forms)[1:])
    claims = [
        {"id": "C6.5", "claim": "the forms of x·min(1, eˣ) are identical, the safe ones never overflow",
         "expected": "equal; max and relu forms finite",
         "measured": f"all within {worst:.2f} ε·|x|; not finite: safe forms {'none' if safe else 'SOME'}; naive "
                     f"{forms['naive']['gradient_not_finite']} gradients",
         "holds": bool(worst < 4 and safe)},
        {"id": "C6.6", "claim": "GLU with tied weights is Swish", "expected": "identical",
         "measured": f"largest difference {tied:.1e}", "holds": tied <= 1e-6},
    ]
    metrics = {"functions": table, "forms": forms, "tied_gate_difference": tied, "backend": keras.backend.backend()}
    return save_results(args, "gallery", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
