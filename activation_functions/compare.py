"""Ten activations, five seeds, two real tasks: is Swish better than ReLU, the author's function better than Swish?

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/compare.py            (--quick for a look; --full for all of MNIST and Adult)
Time:    2.7 min on 2 busy cores (AMD EPYC, 107 CPU-s), 1 GB

Symbols: gain = 1/√E[f(z)²], z ~ N(0, 1): W ~ N(0, gain²/fan_in) keeps the variance of u = h·W + b at 1 in all layers
Differs from the article: it gives no numbers. Here a difference is called one only where the 95 % intervals over seeds
do not overlap; every function starts with its own gain and gets the better of two learning rates (on validation data).
The author's guess, that half of the ReLU units start switched off, is tested by starting with positive biases.
All seeds, rates and first biases of a function train at once, as members along the second axis of one Keras model.
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
from activation_functions.digits import read_mnist
from activation_functions.gallery import ACTIVATIONS, evaluate
from data.download import fetch

HERE = Path(__file__).resolve().parent
NAMES = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "swish", "gelu", "mish", "tick")
RATES = (1e-3, 4e-3)    # Adam's; the better one on validation data counts
OFFSETS = (0.0, 0.5, 1.0)   # first bias of the hidden layers, in standard deviations of u
HIDDEN = (64,) * 4
NODES = (np.arange(20_000) + 0.5) / 1000 - 10   # E[g(z)] = Σ SHARES·g(NODES); even, so that no node is on the kink at 0
SHARES = np.exp(-NODES ** 2 / 2) / np.exp(-NODES ** 2 / 2).sum()


# ---------------------------------------------------------------- data
def load_images(full: bool, data_dir) -> tuple:
    """MNIST as (x_train, y_train, x_test, y_test); 28×28 pixels averaged to 14×14, standardised, (n, 196) float32."""
    x_train, y_train, x_test, y_test = read_mnist(full, data_dir)
    pooled = [x.reshape(-1, 14, 2, 14, 2).mean((2, 4), dtype="float32").reshape(-1, 196) for x in (x_train, x_test)]
    mean, sd = pooled[0].mean(), pooled[0].std()
    return (pooled[0] - mean) / sd, y_train, (pooled[1] - mean) / sd, y_test


def load_adult(full: bool, data_dir) -> tuple:
    """Adult (census income above 50 000 $): numbers standardised, categories one-hot by the training vocabulary."""
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

    The kernel is rate·v with v trained: under Adam, whose steps do not depend on the size of the gradient, member m
    then learns `rates[m]` times as fast as the optimiser's rate says; under SGD rates[m]² times.
    """

    def __init__(self, units, gain, rates, offsets, seed):
        super().__init__()
        self.units, self.gain, self.seed = units, gain, seed
        self.rates, self.offsets = (np.float32(v)[:, None, None] for v in (rates, offsets))

    def build(self, shape):
        start = np.random.default_rng(self.seed).normal(size=(shape[0], shape[2], self.units))
        start *= self.gain / shape[2] ** 0.5
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
    """(classifier, probe): logits (batch, members, classes); u (members, batch, units) of every hidden layer."""
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


def train_members(name: str, data: tuple, offsets, seeds: int, epochs: int, seed: int) -> list:
    """For each first bias in `offsets` the test accuracies of the seeds, at the learning rate that is better on the
    last fifth of the training data: rows {offset, accuracy, rate, seconds of all, mean, sd, half_width}."""
    x, y, x_test, y_test = data
    cut, shape = len(x) * 4 // 5, (len(offsets), len(RATES), seeds)
    starts, rates, _ = (grid.ravel() for grid in np.meshgrid(offsets, RATES, np.arange(seeds), indexing="ij"))
    model, _ = build_network(name, x.shape[1], int(y.max()) + 1, rates, starts, seed)
    model.compile(optimizer=keras.optimizers.Adam(1.0),   # times the member's own rate
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    started = time.perf_counter()
    model.fit(Shuffled(x[:cut], y[:cut], len(rates), 100, seed), epochs=epochs, verbose=0)
    seconds = time.perf_counter() - started
    validation = member_accuracy(model, x[cut:], y[cut:], len(rates)).reshape(shape).mean(2)
    test = member_accuracy(model, x_test, y_test, len(rates)).reshape(shape)
    return [{"offset": offset, "rate": RATES[best], "seconds": round(seconds, 2), "members": len(rates),
             "accuracy": [round(float(a), 5) for a in scores[best]], **interval(scores[best])}
            for offset, scores, best in zip(offsets, test, validation.argmax(1))]


def interval(values) -> dict:
    """Mean, standard deviation and half-width of the 95 % confidence interval (Student) of some seeds."""
    values = np.asarray(values)
    sd = float(values.std(ddof=1))
    half_width = student.ppf(0.975, len(values) - 1) * sd / len(values) ** 0.5
    return {"mean": float(values.mean()), "sd": sd, "half_width": float(half_width)}


# ---------------------------------------------------------------- figures
def plot_comparison(tables: dict, baselines: dict) -> Figure:
    """Mean accuracy with its 95 % interval, one panel per task, dots for seeds."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (task, table) in zip(figure.subplots(1, len(tables)), tables.items()):
        for row, name in enumerate(table):
            axes.errorbar(table[name]["mean"], row, xerr=table[name]["half_width"], fmt="o", color=f"C{row}", capsize=3)
            axes.plot(table[name]["accuracy"], [row] * len(table[name]["accuracy"]), ".", color="0.6", ms=4)
        axes.set_yticks(range(len(table)), list(table))
        axes.set(xlabel="test accuracy", title=f"{task} (most frequent class {baselines[task]:.2f})")
    return figure


def plot_bias(bias: dict) -> Figure:
    """Accuracy minus that of ReLU with the same seed, against the bias at the start."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    for shift, (label, rows) in enumerate(bias.items()):
        offsets = np.array([row["offset"] for row in rows]) + 0.02 * (shift - 1.5)
        mean, half_width = ([row[key] for row in rows] for key in ("mean", "half_width"))
        axes.errorbar(offsets, mean, half_width, fmt="o-", capsize=3, label=label)
    axes.axhline(0, color="0.5", lw=1)
    axes.legend(fontsize=8)
    axes.set(xlabel="bias at the start (u has standard deviation 1)", ylabel="accuracy − that of ReLU, same seed")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all of MNIST (downloaded) and Adult, not 5000 rows")
    parser.add_argument("--seeds", type=int, default=5, help="networks per function and learning rate, at least 2")
    parser.add_argument("--epochs", type=int, default=6, help="of every training")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for flag, value, least in (("--seeds", args.seeds, 2), ("--epochs", args.epochs, 1)):
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


def make_claims(tables: dict, bias: dict, lost: dict) -> list:
    """C6.4 and C6.7 from the tables of main."""
    def apart(better, worse):
        gap = better["mean"] - worse["mean"]
        return int(np.sign(gap)) if abs(gap) > better["half_width"] + worse["half_width"] else 0

    orders = {f"{better} over {worse}, {task}": apart(table[better], table[worse])
              for task, table in tables.items() for better, worse in (("swish", "relu"), ("tick", "swish"))}
    words = {1: "better", 0: "no difference", -1: "worse"}
    gained = [key for key, rows in bias.items() if rows[0]["mean"] > rows[0]["half_width"]]
    shrunk = [key for key in gained if lost[key]["mean"] > lost[key]["half_width"]]
    return [
        {"id": "C6.4", "claim": "Swish is at least as good as ReLU, x·min(1, eˣ) at least as good as Swish",
         "expected": "somewhat better (no numbers)",
         "measured": "; ".join(f"{key}: {words[value]}" for key, value in orders.items()) + " (95 % intervals)",
         "holds": min(orders.values()) >= 0},
        {"id": "C6.7", "claim": "the advantage over ReLU shrinks when the bias starts positive",
         "expected": "smaller at bias 1 than at 0",
         "measured": "; ".join(f"{key}: {rows[0]['mean']:+.4f} ± {rows[0]['half_width']:.4f} at 0, "
                               f"{rows[-1]['mean']:+.4f} ± {rows[-1]['half_width']:.4f} at 1"
                               for key, rows in bias.items())
                     + f"; an advantage at 0 in {len(gained)} of {len(bias)}, of these smaller at 1 in {len(shrunk)}",
         "holds": bool(gained) and shrunk == gained},
    ]


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    seeds, epochs, names = (2, 1, ("relu", "swish", "tick")) if args.quick else (args.seeds, args.epochs, NAMES)
    tasks = {"mnist": load_images(args.full, args.data_dir), "adult": load_adult(args.full, args.data_dir)}
    if args.quick:
        tasks = {task: tuple(part[:800] for part in data) for task, data in tasks.items()}
    baselines = {task: float(np.bincount(data[3]).max() / len(data[3])) for task, data in tasks.items()}
    tables, bias, lost = {}, {}, {}
    for task, data in tasks.items():
        by_offset, tables[task] = {}, {}
        for name in names:
            offsets = OFFSETS if name in ("relu", "swish", "tick") else OFFSETS[:1]
            by_offset[name] = train_members(name, data, offsets, seeds, epochs, args.seed)
            row = tables[task][name] = by_offset[name][0]
            print(f"{task:6s} {name:11s} {row['mean']:.4f} ± {row['sd']:.4f}  rate {row['rate']:g}", flush=True)
        for name in ("swish", "tick"):
            paired = [np.subtract(ours["accuracy"], relu["accuracy"])
                      for ours, relu in zip(by_offset[name], by_offset["relu"])]
            bias[f"{name}, {task}"] = [{"offset": offset, **interval(pair)} for offset, pair in zip(OFFSETS, paired)]
            lost[f"{name}, {task}"] = interval(paired[0] - paired[-1])
    figures = ["compare_accuracy.png", "compare_bias.png"]
    for figure, name in zip((plot_comparison(tables, baselines), plot_bias(bias)), figures):
        figure.savefig(args.out_dir / name, dpi=150)
    metrics = {"accuracy": tables, "baseline": baselines, "advantage_over_relu": bias, "advantage_lost_by_bias_1": lost}
    return save_results(args, "compare", metrics, make_claims(tables, bias, lost), figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
