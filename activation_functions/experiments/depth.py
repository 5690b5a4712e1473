"""How deep can it be: gradients against depth, saturated units, ReLU units that die.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/experiments/depth.py

Symbols: q = variance of u = h·W   gain = 1/√E[f(z)²], z ~ N(0, 1): W ~ N(0, gain²/fan_in) has the
         fixed point q = 1
         χ(q) = gain²·E[f'(√q·z)²] → gradient_factor: what one layer does to the squared gradient
         dq'/dq at q = 1 → variance_slope: above 1 the fixed point repels, and the q of a network
         of finite width runs away
Differs from the article: it argues with the chain rule alone; mean-field theory (Poole et al. 2016,
Schoenholz et al. 2017) gives the number per layer.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument("--depth", type=cli.between(2, 1000), default=50, help="layers")
    parser.add_argument("--width", type=cli.between(2, 10_000), default=400, help="units a layer")
    parser.add_argument(
        "--epochs", type=cli.between(1, 100), default=4, help="of the training that counts the dead"
    )
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import numpy as np

from activations import ACTIVATIONS, COLORS, COMPARED, SATURATED, derivative, evaluate
from members import NODES, SHARES, Shuffled, build_network, gain_of
from quiet_keras import keras, ops
from tasks import load_small_digits

RATES = (0.03, 0.1, 0.3, 1.0)  # of SGD, for the dead units


# ---------------------------------------------------------------- gradients against depth
def second_moment(function, q: float) -> float:
    """E[f(√q·z)²], z ~ N(0, 1)."""
    return SHARES @ evaluate(function, np.sqrt(q) * NODES).astype("float64") ** 2


def second_moment_of_slope(function, q: float) -> float:
    """E[f'(√q·z)²], z ~ N(0, 1)."""
    return SHARES @ derivative(function, np.sqrt(q) * NODES).astype("float64") ** 2


def gradients_by_depth(
    name: str, rng: np.random.Generator, depth: int = 50, width: int = 300, inputs: int = 20
) -> dict:
    """Squared gradient norm at layers 1 … depth of a random network, beside mean-field theory."""
    function = ACTIVATIONS[name]
    gain = gain_of(name)

    def gradient_factor(q):
        return gain**2 * second_moment_of_slope(function, q)

    # forward: u_1 ~ N(0, 1), u_{l+1} = f(u_l)·W_l
    layers = [rng.normal(size=(inputs, width))]
    weights = []
    for _ in range(depth - 1):
        weights.append(rng.normal(size=(width, width)) * gain / width**0.5)
        layers.append(evaluate(function, layers[-1]) @ weights[-1])

    # backward: ∂L/∂u_l = (∂L/∂u_{l+1}·W_lᵀ)·f'(u_l)
    gradient = rng.normal(size=(inputs, width))
    norms = [mean_square_norm(gradient)]
    for u, w in zip(layers[-2::-1], weights[::-1], strict=True):
        gradient = (gradient @ w.T) * derivative(function, u)
        norms.append(mean_square_norm(gradient))

    variances = [float((u**2).mean()) for u in layers]
    log_factors = np.log([gradient_factor(q) for q in variances[:-1]])
    slope = gain**2 * (second_moment(function, 1.001) - second_moment(function, 0.999)) / 0.002
    return {
        "squared_norms": norms[::-1],
        "factor": float((norms[-1] / norms[0]) ** (1 / (depth - 1))),
        "theory": float(gradient_factor(1.0)),
        "theory_at_measured_variance": float(np.exp(np.mean(log_factors))),
        "variance_slope": float(slope),
        "last_variance": variances[-1],
    }


def mean_square_norm(rows: np.ndarray) -> float:
    return float((rows**2).sum(1).mean())


# ---------------------------------------------------------------- units that do not learn
def saturated_at_start(x: np.ndarray, seed: int) -> dict:
    """Name → share of hidden units × examples with |f'(u)| < 0.1 before training, on digits."""
    shares = {}
    for name in COMPARED:
        _, probe = build_network(name, x.shape[1], 10, np.ones(3), np.zeros(3), seed)
        layers = probe(np.repeat(x[:500, None], 3, 1))
        u = np.stack([ops.convert_to_numpy(layer) for layer in layers])
        slopes = derivative(ACTIVATIONS[name], u.reshape(-1))
        shares[name] = float((np.abs(slopes) < SATURATED).mean())
    return shares


def dead_units(data: tuple, rates, seeds: int, epochs: int, seed: int) -> list:
    """Share of ReLU units that no training example switches on: rows {rate, epoch, mean, sd}."""
    x, y = data[:2]
    members = np.repeat(np.sqrt(rates), seeds)  # under SGD a member's rate counts squared
    classes = int(y.max()) + 1
    model, probe = build_network("relu", x.shape[1], classes, members, np.zeros(len(members)), seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # the loss is a mean over members: times their number it is the mean of each
    model.compile(keras.optimizers.SGD(float(len(members))), loss)
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice
    sample = np.repeat(x[:1000, None], len(members), 1)
    rows = []
    for epoch in range(epochs + 1):
        if epoch:
            model.fit(Shuffled(x, y, len(members), 100, seed + epoch), epochs=1, verbose=0)
        highest = np.stack([ops.convert_to_numpy(u).max(1) for u in probe(sample)])
        dead = ~(highest > 0)  # (layers, members, units); a unit that became NaN is dead too
        shares = dead.mean((0, 2)).reshape(len(rates), seeds)
        for rate, of_seeds in zip(rates, shares, strict=True):
            spread = {"mean": float(of_seeds.mean()), "sd": float(of_seeds.std())}
            rows.append({"rate": float(rate), "epoch": epoch, **spread})
    return rows


# ---------------------------------------------------------------- figures
def plot_depth(depth: dict):
    """Squared gradient norm against the layer, a panel a function; dotted: mean-field theory."""
    figure, panels = cli.subplots(2, 5, height=4.6, sharex=True, sharey=True)
    for axes, (name, row) in zip(panels.flat, depth.items(), strict=False):
        norms = np.array(row["squared_norms"]) / row["squared_norms"][-1]
        layers = np.arange(1, len(norms) + 1)
        axes.semilogy(layers, norms, COLORS.get(name, "0.4"), lw=2)
        axes.semilogy(layers, row["theory"] ** (len(norms) - layers), "k:", lw=1.5)
        axes.set_title(f"{name}\n× {row['factor']:.3f} a layer")
        axes.set(ylim=(1e-12, 1e12), yticks=[1e-12, 1e-6, 1, 1e6, 1e12])
    figure.supxlabel("layer", fontsize=11)
    figure.supylabel("squared gradient ÷ the last layer's (dotted: theory)", fontsize=11)
    return figure


def plot_units(shares: dict, dead: list):
    """Saturated at the start; dead ReLU units against epoch and learning rate."""
    figure, (left, right) = cli.subplots(1, 2, height=4)
    colors = [COLORS.get(name, "0.7") for name in shares]
    bars = left.barh(list(shares), [100 * share for share in shares.values()], color=colors)
    left.bar_label(bars, fmt="%.0f %%", padding=3)
    left.invert_yaxis()
    left.set(xlabel="units with |f '| < 0.1 at the start, %", xlim=(0, 60))
    lowest = -10.0  # the next label stands above this
    for rate in RATES:
        rows = [row for row in dead if row["rate"] == rate]
        epochs = [row["epoch"] for row in rows]
        mean = [100 * row["mean"] for row in rows]
        sd = [100 * row["sd"] for row in rows]
        shade = str(0.75 - 0.25 * RATES.index(rate))
        right.errorbar(epochs, mean, sd, capsize=2, color=shade)
        lowest = max(lowest + 5, mean[-1])
        right.annotate(f" rate {rate:g}", (epochs[-1], lowest), color=shade, va="center")
    right.set(xlabel="epoch of SGD", ylabel="dead ReLU units, %", xlim=(0, 1.4 * epochs[-1]))
    return figure


# ---------------------------------------------------------------- the experiment
def judge_gradients(depth: dict) -> dict:
    """C6.2 from the gradient that is left at the first layer, as a factor per layer."""
    measured = {
        "sigmoid": depth["sigmoid"]["factor"],
        "relu": depth["relu"]["factor"],
        "sigmoid_theory": depth["sigmoid"]["theory"],
        "relu_theory": depth["relu"]["theory"],
    }
    vanishes = measured["sigmoid"] < 0.5
    stays = 0.8 < measured["relu"] < 1.25
    return cli.claim("C6.2", measured, holds=vanishes and stays)


def judge_saturation(shares: dict) -> dict:
    """C6.3 from the units of untrained networks."""
    measured = {name: shares[name] for name in ("relu", "swish", "tick")}
    half = abs(measured["relu"] - 0.5) < 0.05
    fewer = max(measured["swish"], measured["tick"]) < 0.3
    return cli.claim("C6.3", measured, holds=half and fewer)


def main(args):
    width = min(args.width, 100) if args.quick else args.width
    epochs = 1 if args.quick else args.epochs
    rows = 500 if args.quick else None
    rng = np.random.default_rng(args.seed)
    depth = {}
    print("function     a layer  theory  dq'/dq    last q")
    for name in COMPARED:
        row = depth[name] = gradients_by_depth(name, rng, args.depth, width)
        print(
            f"{name:11s} {row['factor']:8.4f} {row['theory']:7.4f} "
            f"{row['variance_slope']:7.3f} {row['last_variance']:9.3g}"
        )
    data = tuple(part[:rows] for part in load_small_digits(False, args.data_dir))
    shares = saturated_at_start(data[0], args.seed)
    dead = dead_units(data, RATES, 3, epochs, args.seed)
    metrics = {"depth": depth, "saturated_at_start": shares, "dead_relu": dead}
    figures = {"depth_gradients": plot_depth(depth), "depth_units": plot_units(shares, dead)}
    return metrics, [judge_gradients(depth), judge_saturation(shares)], figures


if __name__ == "__main__":
    cli.run(main, flags)
