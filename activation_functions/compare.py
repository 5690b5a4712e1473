"""Ten activations, five seeds, two real tasks; gradients against depth; saturated and dead units; the author's own guess tested.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/compare.py            (--quick for a one-minute look; --full for all of MNIST and Adult)
Time:    TIME_DEFAULT

Symbols: gain = 1/√E[f(z)²], z ~ N(0, 1): W ~ N(0, gain²/fan_in) keeps the variance q of u at 1 from layer to layer
         χ(q) = gain²·E[f'(√q·z)²] → gradient_factor: what one layer does to the squared norm of the gradient (mean-field theory)
Differs from the article: it reports no numbers; here a difference is called one only where the 95 % intervals over seeds, or of
the paired differences, leave no doubt. Every function gets its own variance-keeping start and the better of two learning rates.

All seeds and learning rates of a function train at once, as members along the second axis of one Keras model.
"""
import argparse
import csv
import gzip
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
from scipy.stats import t as student

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from activation_functions.gallery import ACTIVATIONS, derivative, evaluate
from data.download import fetch

HERE = Path(__file__).resolve().parent
NAMES = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "swish", "gelu", "mish", "tick")
RATES = (1e-3, 4e-3)    # Adam's; the better one on validation data counts
HIDDEN = (64,) * 4
NODES, SHARES = np.polynomial.hermite_e.hermegauss(201)   # E[g(z)] = Σ SHARES·g(NODES)
SHARES = SHARES / SHARES.sum()


# ---------------------------------------------------------------- data
def load_images(full: bool, data_dir) -> tuple:
    """MNIST as (x_train, y_train, x_test, y_test); 28×28 pixels averaged to 14×14, standardised, (n, 196) float32."""
    if full:
        paths = [fetch(f"mnist-{part}", data_dir) for part in ("train-images", "train-labels", "t10k-images", "t10k-labels")]
        arrays = [np.frombuffer(p.read_bytes(), np.uint8, offset=o) for p, o in zip(paths, (16, 8, 16, 8))]
    else:
        with np.load(fetch("mnist_6k", data_dir)) as archive:
            arrays = [archive[key] for key in ("x_train", "y_train", "x_test", "y_test")]
    pooled = [a.reshape(-1, 14, 2, 14, 2).mean((2, 4), dtype="float32").reshape(-1, 196) for a in arrays[::2]]
    mean, sd = pooled[0].mean(), pooled[0].std()
    return (pooled[0] - mean) / sd, arrays[1].astype("int32"), (pooled[1] - mean) / sd, arrays[3].astype("int32")


def load_adult(full: bool, data_dir) -> tuple:
    """Adult (census income above 50 000 $): numbers standardised, categories one-hot by the training set's vocabulary."""
    tables = []
    for name in ("adult-train", "adult-test"):
        path = fetch(name, data_dir)
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            tables.append([[cell.strip() for cell in row] for row in csv.reader(file) if len(row) == 15])
    numeric = (0, 2, 4, 10, 11, 12)
    words = {c: sorted({row[c] for row in tables[0]}) for c in range(14) if c not in numeric}
    parts = []
    for table in tables:
        table = table if full else table[:5000]
        columns = [np.log1p(np.float32([[float(row[c]) for c in numeric] for row in table]))]
        columns += [np.float32([[row[c] == word for word in words[c]] for row in table]) for c in words]
        parts += [np.concatenate(columns, 1), np.int32([">50K" in row[14] for row in table])]
    mean, sd = parts[0][:, :6].mean(0), parts[0][:, :6].std(0)
    for x in parts[::2]:
        x[:, :6] = (x[:, :6] - mean) / sd
    return tuple(parts)


# ---------------------------------------------------------------- method
class MemberDense(keras.layers.Layer):
    """A Dense layer for each member: (members, batch, inputs) -> (members, batch, units).

    The kernel is rate·v with v trained: under Adam, whose steps do not depend on the size of the gradient, member m then learns
    `rates[m]` times as fast as the optimiser's rate says; under SGD rates[m]² times.
    """

    def __init__(self, units, gain, rates, offsets, seed):
        super().__init__()
        self.units, self.gain, self.seed = units, gain, seed
        self.rates, self.offsets = (np.float32(v)[:, None, None] for v in (rates, offsets))

    def build(self, shape):
        start = np.random.default_rng(self.seed).normal(size=(shape[0], shape[2], self.units)) * self.gain / shape[2] ** 0.5
        self.kernel = self.add_weight(shape=start.shape, initializer="zeros", name="kernel")
        self.bias = self.add_weight(shape=(shape[0], 1, self.units), initializer="zeros", name="bias")
        self.kernel.assign((start / self.rates).astype("float32"))
        self.bias.assign(self.offsets / self.rates + np.zeros(self.bias.shape, "float32"))

    def call(self, x):
        rates = ops.convert_to_tensor(self.rates)
        return ops.matmul(x, self.kernel * rates) + self.bias * rates


class MembersFirst(keras.layers.Layer):
    """Swap (batch, members, ·) and (members, batch, ·); knows the number of members, where that comes first."""

    def __init__(self, members):
        super().__init__()
        self.members = members

    def compute_output_shape(self, shape):
        return (self.members, None, shape[2]) if self.members else (None, shape[0], shape[2])

    def call(self, x):
        return ops.transpose(x, (1, 0, 2))


def gain_of(name: str) -> float:
    return float(1 / np.sqrt(SHARES @ evaluate(ACTIVATIONS[name], NODES).astype("float64") ** 2))


def build_network(name: str, inputs: int, classes: int, rates, offsets, seed: int) -> tuple:
    """(classifier, probe): the classifier's logits (batch, members, classes), the probe's pre-activations of every layer."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((len(rates), inputs))
    h = MembersFirst(len(rates))(x)
    probes, gain = [], 1.0   # the input has variance 1
    for layer, units in enumerate(HIDDEN):
        u = MemberDense(units, gain, rates, offsets, seed * 1000 + layer)(h)
        probes.append(u)
        h, gain = keras.layers.Activation(ACTIVATIONS[name])(u), gain_of(name)
    logits = MemberDense(classes, gain, rates, np.zeros(len(rates)), seed * 1000 + 99)(h)
    return keras.Model(x, MembersFirst(None)(logits)), keras.Model(x, probes)


class Shuffled(keras.utils.PyDataset):
    """Batches (batch, members, features) in an order of its own for every member and epoch."""

    def __init__(self, x, y, members, batch, seed):
        super().__init__()
        self.x, self.y, self.members, self.batch, self.rng = x, y, members, batch, np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self):
        self.order = self.rng.permuted(np.tile(np.arange(len(self.x)), (self.members, 1)), axis=1).T

    def __len__(self):
        return len(self.x) // self.batch

    def __getitem__(self, i):
        rows = self.order[i * self.batch:(i + 1) * self.batch]
        return self.x[rows], self.y[rows]


def member_accuracy(model, x: np.ndarray, y: np.ndarray, members: int) -> np.ndarray:
    """Accuracy of every member, (members,)."""
    hits = [ops.convert_to_numpy(model(np.repeat(x[i:i + 1000, None], members, 1))).argmax(-1) == y[i:i + 1000, None]
            for i in range(0, len(x), 1000)]
    return np.concatenate(hits).mean(0)


def train_members(name: str, data: tuple, offset: float, seeds: int, epochs: int, seed: int) -> dict:
    """Test accuracy of every seed, at the learning rate that is better on the last fifth of the training data."""
    x, y, x_test, y_test = data
    cut, rates = len(x) * 4 // 5, np.repeat(RATES, seeds)
    model, _ = build_network(name, x.shape[1], int(y.max()) + 1, rates, np.full(len(rates), offset), seed)
    model.compile(optimizer=keras.optimizers.Adam(1.0), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    started = time.perf_counter()
    model.fit(Shuffled(x[:cut], y[:cut], len(rates), 100, seed), epochs=epochs, verbose=0)
    seconds = time.perf_counter() - started
    validation = member_accuracy(model, x[cut:], y[cut:], len(rates)).reshape(len(RATES), seeds).mean(1)
    best = int(validation.argmax())
    test = member_accuracy(model, x_test, y_test, len(rates)).reshape(len(RATES), seeds)[best]
    return {"accuracy": [round(float(a), 5) for a in test], "rate": RATES[best], "seconds": round(seconds, 2), **interval(test)}


def interval(values) -> dict:
    """Mean, standard deviation and half-width of the 95 % confidence interval (Student) of some seeds."""
    values = np.asarray(values)
    sd = float(values.std(ddof=1))
    return {"mean": float(values.mean()), "sd": sd, "half_width": float(student.ppf(0.975, len(values) - 1) * sd / len(values) ** 0.5)}


def dead_units(data: tuple, rates, seeds: int, epochs: int, seed: int) -> list:
    """Share of ReLU units that no training example switches on, after every epoch of SGD: rows {rate, epoch, mean, sd}."""
    x, y = data[:2]
    members = np.repeat(np.sqrt(rates), seeds)
    model, probe = build_network("relu", x.shape[1], int(y.max()) + 1, members, np.zeros(len(members)), seed)
    model.compile(optimizer=keras.optimizers.SGD(float(len(members))), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rows, sample = [], np.repeat(x[:1000, None], len(members), 1)
    for epoch in range(epochs + 1):
        if epoch:
            model.fit(Shuffled(x, y, len(members), 100, seed + epoch), epochs=1, verbose=0)
        highest = [ops.convert_to_numpy(u).max(1) for u in probe(sample)]   # (members, units) per layer
        dead = np.mean([~(top > 0) for top in highest], axis=(0, 2)).reshape(len(rates), seeds)   # NaN counts as dead
        rows += [{"rate": float(r), "epoch": epoch, "mean": float(d.mean()), "sd": float(d.std())} for r, d in zip(rates, dead)]
    return rows


def saturated_at_start(x: np.ndarray, seed: int) -> dict:
    """Name -> share of hidden units × examples with |f'(u)| < 0.1 in the untrained network, on real inputs."""
    shares = {}
    for name in NAMES:
        _, probe = build_network(name, x.shape[1], 10, np.ones(3), np.zeros(3), seed)
        u = np.stack([ops.convert_to_numpy(layer) for layer in probe(np.repeat(x[:500, None], 3, 1))])
        shares[name] = float((np.abs(derivative(ACTIVATIONS[name], u.reshape(-1))) < 0.1).mean())
    return shares


def gradients_by_depth(name: str, rng, depth: int = 50, width: int = 300, inputs: int = 20) -> dict:
    """Squared gradient norm at layer 1..depth of a random network at q = 1, beside mean-field theory."""
    function, gain = ACTIVATIONS[name], gain_of(name)
    z = NODES[:, None]

    def gradient_factor(q):
        return gain ** 2 * (SHARES @ derivative(function, (np.sqrt(q) * z).ravel()).astype("float64") ** 2)

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
    return {"squared_norms": norms[::-1], "factor": float((norms[-1] / norms[0]) ** (1 / (depth - 1))), "theory": float(gradient_factor(1.0)),
            "theory_at_measured_variance": float(np.exp(np.mean(np.log([gradient_factor(q) for q in variances[:-1]])))),
            "variance_slope": float(slope), "last_variance": variances[-1]}


# ---------------------------------------------------------------- figures
def plot_comparison(tables: dict, baselines: dict) -> Figure:
    """Mean accuracy with its 95 % interval, one panel per task, dots for seeds."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (task, table) in zip(figure.subplots(1, len(tables)), tables.items()):
        for row, name in enumerate(NAMES):
            axes.errorbar(table[name]["mean"], row, xerr=table[name]["half_width"], fmt="o", color=f"C{row}", capsize=3)
            axes.plot(table[name]["accuracy"], [row] * len(table[name]["accuracy"]), ".", color="0.6", ms=4)
        axes.set_yticks(range(len(NAMES)), NAMES)
        axes.set(xlabel="test accuracy", title=f"{task} (most frequent class {baselines[task]:.2f})")
    return figure


def plot_depth(depth: dict) -> Figure:
    """Squared gradient norm against the layer, measured (solid) and mean-field at q = 1 (dashed)."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    for color, (name, row) in enumerate(depth.items()):
        norms = np.array(row["squared_norms"]) / row["squared_norms"][-1]
        layers = np.arange(1, len(norms) + 1)
        axes.semilogy(layers, norms, f"C{color}", label=f"{name}: {row['factor']:.3f} per layer, theory {row['theory']:.3f}")
        axes.semilogy(layers, row["theory"] ** (len(norms) - layers), f"C{color}--", lw=0.8)
    axes.set(xlabel="layer", ylabel="squared gradient norm ÷ that of the last layer", ylim=(1e-12, 1e8))
    axes.legend(fontsize=7, loc="lower right")
    return figure


def plot_units(shares: dict, dead: list, bias: dict) -> Figure:
    """Saturated at the start; dead ReLU units against the learning rate; the advantage over ReLU against the first bias."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.barh(list(shares), list(shares.values()), color=[f"C{i}" for i in range(len(shares))])
    left.set(xlabel="share of units with |f '| < 0.1 at the start")
    for rate in sorted({row["rate"] for row in dead}):
        rows = [row for row in dead if row["rate"] == rate]
        middle.errorbar([r["epoch"] for r in rows], [r["mean"] for r in rows], [r["sd"] for r in rows], capsize=2, label=f"{rate:g}")
    middle.legend(title="SGD rate", fontsize=7)
    middle.set(xlabel="epoch", ylabel="dead ReLU units (share)")
    for color, (key, rows) in enumerate(bias.items()):
        offsets = np.array([row["offset"] for row in rows]) + 0.02 * color
        right.errorbar(offsets, [r["mean"] for r in rows], [r["half_width"] for r in rows], fmt="o-", capsize=3, label=key)
    right.axhline(0, color="0.5", lw=1)
    right.legend(fontsize=7)
    right.set(xlabel="bias at the start (sd of u is 1)", ylabel="accuracy minus that of ReLU, same seed")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all of MNIST (downloaded) and of Adult instead of 5000 rows each")
    parser.add_argument("--seeds", type=int, default=5, help="networks per function and learning rate, at least 2")
    parser.add_argument("--epochs", type=int, default=8, help="of every training")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for flag, value, least in (("--seeds", args.seeds, 2), ("--epochs", args.epochs, 1)):
        if value < least:
            parser.error(f"{flag} {value}: must be at least {least}")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random draw")
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
    seeds, epochs = (2, 1) if args.quick else (args.seeds, args.epochs)
    tasks = {"mnist": load_images(args.full, args.data_dir), "adult": load_adult(args.full, args.data_dir)}
    if args.quick:
        tasks = {task: tuple(part[:800] for part in data) for task, data in tasks.items()}
    rng = np.random.default_rng(args.seed)
    depth = {name: gradients_by_depth(name, rng, width=100 if args.quick else 300) for name in NAMES}
    shares = saturated_at_start(tasks["mnist"][0], args.seed)
    dead = dead_units(tasks["mnist"], (0.03, 0.1, 0.3, 1.0), 3, 1 if args.quick else 4, args.seed)
    baselines = {task: float(np.bincount(data[3]).max() / len(data[3])) for task, data in tasks.items()}
    tables, bias, differences = {}, {}, {}
    for task, data in tasks.items():
        tables[task] = {name: train_members(name, data, 0.0, seeds, epochs, args.seed) for name in NAMES}
        for name, row in tables[task].items():
            print(f"{task:6s} {name:11s} {row['mean']:.4f} ± {row['sd']:.4f}  rate {row['rate']:g}  {row['seconds']:.1f} s", flush=True)
        by_offset = {0.0: {name: tables[task][name]["accuracy"] for name in ("relu", "swish", "tick")}}
        for offset in (0.5, 1.0)[int(args.quick):]:
            by_offset[offset] = {name: train_members(name, data, offset, seeds, epochs, args.seed)["accuracy"]
                                 for name in ("relu", "swish", "tick")}
        for name in ("swish", "tick"):
            bias[f"{name}, {task}"] = [{"offset": offset, "relu": float(np.mean(row["relu"])),
                                        **interval(np.subtract(row[name], row["relu"]))} for offset, row in by_offset.items()]
            change = np.subtract(by_offset[0.0][name], by_offset[0.0]["relu"]) - np.subtract(by_offset[1.0][name], by_offset[1.0]["relu"])
            differences[f"{name}, {task}"] = interval(change)
    figures = ["compare_accuracy.png", "compare_depth.png", "compare_units.png"]
    for figure, name in zip((plot_comparison(tables, baselines), plot_depth(depth), plot_units(shares, dead, bias)), figures):
        figure.savefig(args.out_dir / name, dpi=150)
    metrics = {"accuracy": tables, "baseline": baselines, "depth": depth, "saturated_at_start": shares, "dead_relu": dead,
               "advantage_over_relu": bias, "advantage_lost_by_bias_1": differences}
    return save_results(args, "compare", metrics, make_claims(tables, depth, shares, bias, differences), figures, started)


def make_claims(tables, depth, shares, bias, differences) -> list:
    """C6.2, C6.3, C6.4, C6.7."""
    def apart(task, better, worse):
        a, b = tables[task][better], tables[task][worse]
        return (a["mean"] - b["mean"] > a["half_width"] + b["half_width"]) - (b["mean"] - a["mean"] > a["half_width"] + b["half_width"])

    orders = {f"{better} over {worse}, {task}": apart(task, better, worse)
              for task in tables for better, worse in (("swish", "relu"), ("tick", "swish"))}
    words = {1: "better", 0: "no difference", -1: "worse"}
    reach = {name: depth[name]["squared_norms"][0] / depth[name]["squared_norms"][-1] for name in ("sigmoid", "relu")}
    gained = {key: rows[0]["mean"] - rows[0]["half_width"] > 0 for key, rows in bias.items()}
    shrunk = {key: row["mean"] - row["half_width"] > 0 for key, row in differences.items()}
    return [
        {"id": "C6.2", "claim": "deep sigmoid networks have exponentially small gradients, ReLU ones not", "expected": "σ vanishes, ReLU not",
         "measured": f"squared norm over 49 layers: sigmoid {reach['sigmoid']:.1e}, relu {reach['relu']:.1e}",
         "holds": bool(reach["sigmoid"] < 1e-20 and 1e-2 < reach["relu"] < 1e2)},
        {"id": "C6.3", "claim": "at the start half of the ReLU units have zero derivative, far fewer of Swish and the author's",
         "expected": "relu 50 %, swish 18 %, x·min(1, eˣ) 14 %", "measured": ", ".join(f"{n} {shares[n]:.1%}" for n in ("relu", "swish", "tick")),
         "holds": bool(abs(shares["relu"] - 0.5) < 0.05 and max(shares["swish"], shares["tick"]) < 0.3)},
        {"id": "C6.4", "claim": "Swish ≥ ReLU, x·min(1, eˣ) ≥ Swish", "expected": "somewhat better (no numbers)",
         "measured": "; ".join(f"{key}: {words[value]}" for key, value in orders.items()) + " (95 % intervals over seeds)",
         "holds": bool(min(orders.values()) >= 0)},
        {"id": "C6.7", "claim": "the advantage over ReLU shrinks when the bias starts positive", "expected": "smaller at bias 1 than at 0",
         "measured": "; ".join(f"{key}: {bias[key][0]['mean']:+.4f} ± {bias[key][0]['half_width']:.4f} at 0, {bias[key][-1]['mean']:+.4f} ± "
                               f"{bias[key][-1]['half_width']:.4f} at 1" for key in bias),
         "holds": bool(any(gained.values()) and all(shrunk[key] for key in gained if gained[key]))},
    ]


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
