"""The post from top to bottom: what an activation function must be, six of them, and the author's.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/run.py

Symbols: σ(x) → sigmoid   max(x, 0) → relu   x·σ(x) → swish   (W₁x + b₁)⊗σ(W₂x + b₂) → glu
         x·min(1, eˣ) → tick   "saturated" → |f'(x)| < 0.1
The functions stand here as the post prints them; activations.py has them, and eleven more, in forms
for Keras that keep their digits in the tails, at ±inf and in the slopes. Those are measured.

The post's steps and where they are:
    any non-linearity trains, even rounding     experiments/linear_network.py, float_rounding.py
    σ saturates, and powers of σ' vanish        saturation(); experiments/depth.py
    ReLU, LeakyReLU, PReLU, Swish               saturation(); all eighteen: experiments/gallery.py
    Swish is a GLU with tied weights            tied_gate()
    half of the ReLU units start switched off   saturation(); on digits: experiments/depth.py
    x·min(1, eˣ) and its safe forms             forms_of_tick()
    "somewhat better than Swish"                short_comparison(); experiments/compare.py
Differs from the article: it gives no number; a fourth form of x·min(1, eˣ) is ours and the default.
"""

import math

import numpy as np

import cli

NAMES = ("sigmoid", "relu", "leaky_relu", "prelu_0.25", "swish", "tick")  # as the post has them
DEEP = 10  # layers, for the power of the chain rule


def flags(parser):
    parser.add_argument("--seeds", type=cli.between(1, 100), default=3, help="networks a function")
    parser.add_argument("--epochs", type=cli.between(1, 100), default=6, help="of each training")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# What needs Keras is imported in the functions that use it, so that --help answers at once.


# ---------------------------------------------------------------- the functions of the post
def sigmoid(x):
    # σ(x) = 1/(1 + e⁻ˣ)
    return 1 / (1 + np.exp(-x))


def relu(x):
    # max(x, 0)
    return np.maximum(x, 0)


def leaky_relu(x, slope=0.01):
    # x for x > 0, else slope·x; PReLU trains the slope
    return np.where(x > 0, x, slope * x)


def swish(x):
    # x·σ(x)
    return x * sigmoid(x)


def glu(a, b):
    # (W₁x + b₁) ⊗ σ(W₂x + b₂), with a = W₁x + b₁ and b = W₂x + b₂
    return a * sigmoid(b)


def tick(x):
    # the author's: x·min(1, eˣ); eˣ overflows for large x
    return x * np.minimum(1, np.exp(x))


def tick_max(x):
    # the same, safely: max(x, x·e^-|x|)
    return np.maximum(x, x * np.exp(-np.abs(x)))


def tick_relu(x):
    # and once more: x + relu(x·e^-|x| − x)
    return x + relu(x * np.exp(-np.abs(x)) - x)


# ---------------------------------------------------------------- saturation
def saturation() -> dict:
    """Where |f'(x)| < 0.1: the share of −10 … 10, and of pre-activations u ~ N(0, 1).

    The article: σ is saturated almost everywhere; of ReLU half, of Swish the far negative side
    only. Under initial weights of mean 0, and under batch normalisation, u is about N(0, 1).
    """
    from activations import ACTIVATIONS, SATURATED, derivative, describe, evaluate

    x = np.linspace(-10, 10, 100_001)
    printed = {"sigmoid": sigmoid, "relu": relu, "leaky_relu": leaky_relu, "swish": swish}
    printed["tick"] = tick
    table = {}
    for name in NAMES:
        row = table[name] = describe(ACTIVATIONS[name])
        slope = derivative(ACTIVATIONS[name], x)
        row["saturated_axis"] = float((np.abs(slope) < SATURATED).mean())
        if name in printed:
            difference = printed[name](x) - evaluate(ACTIVATIONS[name], x)
            row["off_the_printed_form"] = float(np.abs(difference).max())
        # chain rule: ∂L/∂u₁ holds the product of n slopes, at best the n-th power of the largest
        row["power_of_steepest"] = row["slope_max"] ** DEEP
    return table


def print_saturation(table: dict) -> None:
    print(f"function     largest f'  to the power {DEEP}  saturated: −10 … 10  N(0, 1)  minimum")
    for name, row in table.items():
        low = "–" if row["minimum"] is None else f"{row['minimum']:.4f} at {row['minimum_at']:.3f}"
        print(
            f"{name:12s} {row['slope_max']:10.3f} {row['power_of_steepest']:16.1e}"
            f" {row['saturated_axis']:20.1%} {row['saturated_fraction']:8.1%}  {low}"
        )


# ---------------------------------------------------------------- Swish as a gate
def tied_gate(rng) -> float:
    """Largest |(Wx + b)⊗σ(Wx + b) − swish(Wx + b)|: a GLU whose two sets of weights are one."""
    from activations import glu, swish
    from quiet_keras import ops

    x = rng.normal(size=(256, 64)).astype("float32")
    weights = rng.normal(size=(64, 32)).astype("float32")
    bias = rng.normal(size=32).astype("float32")
    u = ops.matmul(x, weights) + bias
    difference = ops.abs(glu(u, u) - swish(u))
    return float(ops.convert_to_numpy(ops.max(difference)))


# ---------------------------------------------------------------- the author's function
def forms_of_tick() -> dict:
    """The forms of x·min(1, eˣ) over the whole of float32, against float64.

    naive      x·min(1, eˣ), as printed      max      max(x, x·e^-|x|), the post's safe form
    exp_min    x·e^min(x, 0), ours           relu     x + relu(x·e^-|x| − x), the post's second
    """
    from activations import FORMS, derivative, evaluate

    edges = [-1e4, -1e3, 88.0, 89.0, 100.0, 1e4, 1e30, 3e38]
    x = np.float32([*np.linspace(-100, 80, 20_000), *edges])
    exact = np.where(x < 0, x * np.exp(np.minimum(x.astype("float64"), 0)), x)
    checks = {}
    for name, function in FORMS.items():
        value = evaluate(function, x)
        slope = derivative(function, x)
        error = np.abs(value - exact) / 2.0**-23  # in units of float32's ε
        bad = x[~np.isfinite(slope)]
        checks[name] = {
            "error_epsilons_of_x": float(np.max(error / np.abs(x))),
            # below 2⁻⁹⁶ eˣ nears 2⁻¹²⁶, the smallest normal number, and may be flushed to 0
            "error_epsilons_of_f": float(np.max(error / np.maximum(np.abs(exact), 2.0**-96))),
            "value_not_finite": int((~np.isfinite(value)).sum()),
            "gradient_not_finite": len(bad),
            "first_bad_gradient_at": float(bad.min()) if len(bad) else None,
        }
    return checks


def judge_forms(forms: dict) -> dict:
    """C6.5: all forms are equal to rounding, and the safe ones finite."""
    safe = [row for name, row in forms.items() if name != "naive"]
    measured = {
        "error": max(row["error_epsilons_of_x"] for row in forms.values()),
        "safe": sum(row["value_not_finite"] + row["gradient_not_finite"] for row in safe),
        "naive": forms["naive"]["gradient_not_finite"],
    }
    return cli.claim("C6.5", measured, holds=measured["error"] < 4 and measured["safe"] == 0)


# ---------------------------------------------------------------- a short comparison
def accuracy_of(activation, data: tuple, epochs: int, seed: int) -> float:
    """Test accuracy of four hidden layers of 64 units, trained by Adam on 5000 small digits."""
    from quiet_keras import keras, ops

    x, y, x_test, y_test = data
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((x.shape[1],))])
    for _ in range(4):
        model.add(keras.layers.Dense(64, activation, kernel_initializer="he_normal"))
    model.add(keras.layers.Dense(10))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice
    model.fit(x, y, batch_size=50, epochs=epochs, verbose=0)
    logits = ops.convert_to_numpy(model(x_test))
    return float((logits.argmax(1) == y_test).mean())


def short_comparison(data: tuple, seeds: range, epochs: int) -> dict:
    """Name → test accuracy of each seed, for ReLU, Swish and the author's function."""
    from activations import ACTIVATIONS

    found = {}
    for name in ("relu", "swish", "tick"):
        found[name] = [accuracy_of(ACTIVATIONS[name], data, epochs, seed) for seed in seeds]
        print(f"{name:6s} test accuracy " + " ".join(f"{value:.3f}" for value in found[name]))
    return found


# ---------------------------------------------------------------- figures
def plot_functions(table: dict):
    """The post's figures: f and f' of four functions; grey where |f'| < 0.1."""
    from activations import ACTIVATIONS, COLORS, SATURATED, derivative, evaluate

    figure, panels = cli.subplots(1, 4, height=3, sharex=True, sharey=True)
    x = np.linspace(-5, 5, 401)
    for axes, name in zip(panels, ("sigmoid", "relu", "swish", "tick"), strict=True):
        slope = derivative(ACTIVATIONS[name], x)
        axes.fill_between(x, -1, 2, where=np.abs(slope) < SATURATED, color="0.88", lw=0)
        axes.plot(x, evaluate(ACTIVATIONS[name], x), COLORS.get(name, "0.3"), lw=2.5)
        axes.plot(x, slope, "k:", lw=1.2)
        share = table[name]["saturated_fraction"]
        axes.set_title(f"{name}\n{share:.0%} saturated")
        axes.set(xlim=(-5, 5), ylim=(-0.6, 2), xlabel="x")
    panels[0].set_ylabel("f (line), f ' (dots)")
    return figure


def plot_tick():
    """The author's function beside Swish, and the gradients of its forms where eˣ overflows."""
    from activations import ACTIVATIONS, COLORS, FORMS, derivative, evaluate

    figure, (left, right) = cli.subplots(1, 2, height=3.2)
    x = np.linspace(-5, 1.5, 500).astype("float32")
    for name, place in (("relu", (-4.9, 0.05)), ("swish", (-3.4, -0.32)), ("tick", (-1.7, -0.48))):
        left.plot(x, evaluate(ACTIVATIONS[name], x), COLORS[name], lw=2)
        left.annotate(name, place, color=COLORS[name])
    left.set(xlabel="x", ylabel="f(x)", title="the shape of a tick", ylim=(-0.55, 1))
    x = np.linspace(60, 120, 241).astype("float32")
    for level, function in enumerate(FORMS.values()):
        finite = np.isfinite(derivative(function, x))
        colors = np.where(finite, "0.8", "C3")
        right.scatter(x, np.full(len(x), level), s=40, marker="s", c=colors)
    right.annotate("NaN", (100, 0.25), color="C3")
    right.set_yticks(
        range(4), ["x·min(1, eˣ)", "max(x, x·e^-|x|)", "x+relu(x·e^-|x|−x)", "x·e^min(x,0)"]
    )
    right.set(xlabel="x", title="gradient in float32", ylim=(-0.7, 3.7))
    return figure


# ---------------------------------------------------------------- the post, step by step
def main(args):
    from quiet_keras import keras
    from tasks import load_small_digits

    rows = 500 if args.quick else None
    epochs = 1 if args.quick else args.epochs
    data = tuple(part[:rows] for part in load_small_digits(False, args.data_dir))
    table = saturation()
    print_saturation(table)
    tied = tied_gate(np.random.default_rng(args.seed))
    forms = forms_of_tick()
    seeds = range(args.seed, args.seed + (1 if args.quick else args.seeds))
    accuracy = short_comparison(data, seeds, epochs)
    claims = [
        judge_forms(forms),
        cli.claim("C6.6", {"difference": tied}, holds=tied <= 1e-6),
    ]
    metrics = {
        "functions": table,
        "forms": forms,
        "tied_gate_difference": tied,
        "short_comparison": accuracy,
        "mean_accuracy": {name: math.fsum(found) / len(found) for name, found in accuracy.items()},
        "backend": keras.backend.backend(),
    }
    return metrics, claims, {"run_functions": plot_functions(table), "run_tick": plot_tick()}


if __name__ == "__main__":
    cli.run(main, flags)
