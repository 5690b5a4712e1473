"""How deep can it be: gradients against depth beside mean-field theory, saturated units, ReLU units that die.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/depth.py            (--quick for a look)
Time:    50 s on 2 busy cores (AMD EPYC, 40 CPU-s), 1 GB

Symbols: q = variance of u = h·W   gain = 1/√E[f(z)²], z ~ N(0, 1): W ~ N(0, gain²/fan_in) has the fixed point q = 1
         χ(q) = gain²·E[f'(√q·z)²] → gradient_factor: what one layer does to the squared norm of the gradient
         dq'/dq at q = 1 → variance_slope: above 1 the fixed point repels, and q of a network of finite width runs away
Differs from the article: it argues with the chain rule alone; mean-field theory (Poole et al. 2016, Schoenholz et al.
2017) gives the number per layer.
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
import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from activation_functions.compare import NAMES, NODES, SHARES, Shuffled, build_network, gain_of, load_images
from activation_functions.gallery import ACTIVATIONS, derivative, evaluate

HERE = Path(__file__).resolve().parent
RATES = (0.03, 0.1, 0.3, 1.0)   # of SGD, for the dead units


# ---------------------------------------------------------------- method
def gradients_by_depth(name: str, rng, depth: int = 50, width: int = 300, inputs: int = 20) -> dict:
    """Squared gradient norm at layer 1..depth of a random network at q = 1, beside mean-field theory."""
    function, gain = ACTIVATIONS[name], gain_of(name)

    def gradient_factor(q):
        return gain ** 2 * (SHARES @ derivative(function, np.sqrt(q) * NODES).astype("float64") ** 2)

    def variance_map(q):
        return gain ** 2 * (SHARES @ evaluate(function, np.sqrt(q) * NODES).astype("float64") ** 2)

    u = rng.normal(size=(inputs, width))
    layers, weights = [u], []
    for _ in range(depth - 1):
        weights.append(rng.normal(size=(width, width)) * gain / width ** 0.5)
        layers.append(evaluate(function, layers[-1]) @ weights[-1])
    gradient, norms = rng.normal(size=(inputs, width)), []
    for u, w in zip([None, *layers[-2::-1]], [None, *weights[::-1]]):
        gradient = gradient if u is None else (gradient @ w.T) * derivative(function, u)
        norms.append(float((gradient ** 2).sum(1).mean()))
    variances = [float((u ** 2).mean()) for u in layers]
    slope = (variance_map(1.001) - variance_map(0.999)) / 0.002
    return {"squared_norms": norms[::-1], "factor": float((norms[-1] / norms[0]) ** (1 / (depth - 1))),
            "theory": float(gradient_factor(1.0)),
            "theory_at_measured_variance": float(np.exp(np.mean(np.log([gradient_factor(q) for q in variances[:-1]])))),
            "variance_slope": float(slope), "last_variance": variances[-1]}


def saturated_at_start(x: np.ndarray, seed: int) -> dict:
    """Name -> share of hidden units × examples with |f'(u)| < 0.1 in the untrained network, on real inputs."""
    shares = {}
    for name in NAMES:
        _, probe = build_network(name, x.shape[1], 10, np.ones(3), np.zeros(3), seed)
        u = np.stack([ops.convert_to_numpy(layer) for layer in probe(np.repeat(x[:500, None], 3, 1))])
        shares[name] = float((np.abs(derivative(ACTIVATIONS[name], u.reshape(-1))) < 0.1).mean())
    return shares


def dead_units(data: tuple, rates, seeds: int, epochs: int, seed: int) -> list:
    """Share of ReLU units that no training example switches on, by epoch of SGD: rows {rate, epoch, mean, sd}."""
    x, y = data[:2]
    members = np.repeat(np.sqrt(rates), seeds)
    model, probe = build_network("relu", x.shape[1], int(y.max()) + 1, members, np.zeros(len(members)), seed)
    model.compile(optimizer=keras.optimizers.SGD(float(len(members))),
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rows, sample = [], np.repeat(x[:1000, None], len(members), 1)
    for epoch in range(epochs + 1):
        if epoch:
            model.fit(Shuffled(x, y, len(members), 100, seed + epoch), epochs=1, verbose=0)
        highest = [ops.convert_to_numpy(u).max(1) for u in probe(sample)]   # (members, units) per layer
        dead = np.mean([~(top > 0) for top in highest], axis=(0, 2)).reshape(len(rates), seeds)   # NaN counts as dead
        rows += [{"rate": float(rate), "epoch": epoch, "mean": float(shares.mean()), "sd": float(shares.std())}
                 for rate, shares in zip(rates, dead)]
    return rows


# ---------------------------------------------------------------- figures
def plot_depth(depth: dict) -> Figure:
    """Squared gradient norm against the layer, measured (solid) and mean-field at q = 1 (dashed)."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    for color, (name, row) in enumerate(depth.items()):
        norms = np.array(row["squared_norms"]) / row["squared_norms"][-1]
        layers = np.arange(1, len(norms) + 1)
        axes.semilogy(layers, norms, f"C{color}", label=f"{name}: {row['factor']:.3f}, theory {row['theory']:.3f}")
        axes.semilogy(layers, row["theory"] ** (len(norms) - layers), f"C{color}--", lw=0.8)
    axes.set(xlabel="layer", ylabel="squared gradient norm ÷ that of the last layer", ylim=(1e-12, 1e8))
    axes.legend(fontsize=7, loc="lower left", title="factor per layer", title_fontsize=7)
    return figure


def plot_units(shares: dict, dead: list) -> Figure:
    """Saturated at the start; dead ReLU units against epoch and learning rate."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.barh(list(shares), list(shares.values()), color=[f"C{i}" for i in range(len(shares))])
    left.set(xlabel="share of units with |f '| < 0.1 at the start, on digits")
    for rate in RATES:
        rows = [row for row in dead if row["rate"] == rate]
        right.errorbar([r["epoch"] for r in rows], [r["mean"] for r in rows], [r["sd"] for r in rows], capsize=2,
                       label=f"{rate:g}")
    right.legend(title="rate of SGD", fontsize=8)
    right.set(xlabel="epoch", ylabel="ReLU units that no digit switches on (share)")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--depth", type=int, default=50, help="layers of the random networks, 2 at least")
    parser.add_argument("--width", type=int, default=400, help="units per layer of the random networks")
    parser.add_argument("--epochs", type=int, default=4, help="of the trainings that count dead units")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for flag, value, least in (("--depth", args.depth, 2), ("--width", args.width, 2), ("--epochs", args.epochs, 1)):
        if value < least:
            parser.error(f"{flag} {value}: must be at least {least}")
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
    rng, width = np.random.default_rng(args.seed), min(args.width, 100) if args.quick else args.width
    depth = {name: gradients_by_depth(name, rng, args.depth, width) for name in NAMES}
    print(f"{'function':11s} {'per layer':>9s} {'theory':>7s} {'off by':>7s} {'dq/dq':>6s} {'last q':>9s}")
    for name, row in depth.items():
        print(f"{name:11s} {row['factor']:9.4f} {row['theory']:7.4f} {row['factor'] / row['theory'] - 1:+7.1%} "
              f"{row['variance_slope']:6.3f} {row['last_variance']:9.3g}")
    data = load_images(False, args.data_dir)
    data = tuple(part[:500] for part in data) if args.quick else data
    shares = saturated_at_start(data[0], args.seed)
    dead = dead_units(data, RATES, 3, 1 if args.quick else args.epochs, args.seed)
    figures = ["depth_gradients.png", "depth_units.png"]
    plot_depth(depth).savefig(args.out_dir / figures[0], dpi=150)
    plot_units(shares, dead).savefig(args.out_dir / figures[1], dpi=150)
    reach = {name: depth[name]["squared_norms"][0] / depth[name]["squared_norms"][-1] for name in ("sigmoid", "relu")}
    off = {name: depth[name]["factor"] / depth[name]["theory"] - 1 for name in ("sigmoid", "tanh", "relu", "selu")}
    per_layer = {name: value ** (1 / (args.depth - 1)) for name, value in reach.items()}
    claims = [
        {"id": "C6.2", "claim": "deep sigmoid networks have exponentially small gradients, ReLU ones not",
         "expected": "sigmoid vanishes, ReLU does not",
         "measured": f"gradient² over {args.depth - 1} layers: σ {reach['sigmoid']:.1e}, relu {reach['relu']:.1e}; "
                     "per layer against theory: " + ", ".join(f"{name} {value:+.1%}" for name, value in off.items()),
         "holds": per_layer["sigmoid"] < 0.5 and 0.8 < per_layer["relu"] < 1.25},
        {"id": "C6.3", "claim": "half of the ReLU units start with zero derivative, far fewer Swish and author's",
         "expected": "relu 50 %, swish 18 %, tick 14 %",
         "measured": ", ".join(f"{name} {shares[name]:.1%}" for name in ("relu", "swish", "tick")),
         "holds": bool(abs(shares["relu"] - 0.5) < 0.05 and max(shares["swish"], shares["tick"]) < 0.3)},
    ]
    metrics = {"depth": depth, "saturated_at_start": shares, "dead_relu": dead}
    return save_results(args, "depth", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
