"""Ten activations, two real tasks: is Swish better than ReLU, the author's function better yet?

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/experiments/compare.py
         python activation_functions/experiments/compare.py --full     all of MNIST and Adult

Symbols: u = h·W + b → pre-activation   gain = 1/√E[f(z)²], z ~ N(0, 1) → gain_of (members.py)
Differs from the article: it gives no numbers. Here every function starts with its own gain and gets
the better of two learning rates (on validation data); differences are taken seed by seed, with
Student's 95 % interval, and count as none where the interval reaches below half a point. The
author's guess, that half of the ReLU units start switched off, is tested by positive first biases.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument("--seeds", type=cli.between(2, 1000), default=5, help="networks a setting")
    parser.add_argument("--epochs", type=cli.between(1, 1000), default=6, help="of each training")
    parser.add_argument("--three", action="store_true", help="only ReLU, Swish and the author's")
    parser.add_argument("--full", action="store_true", help="all rows of MNIST (fetched) and Adult")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import time

import numpy as np
from scipy.stats import t as student

from activations import COLORS, COMPARED
from members import Shuffled, build_network, member_accuracy
from quiet_keras import keras
from tasks import load_adult, load_small_digits

RATES = (1e-3, 4e-3)  # Adam's; the better one on validation data counts
TOLERANCE = 0.005  # half a point of accuracy: for less nobody would choose a function
OFFSETS = (0.0, 0.5, 1.0)  # first bias of the hidden layers, in standard deviations of u


# ---------------------------------------------------------------- method
def train_members(name: str, data: tuple, offsets, seeds: int, epochs: int, seed: int) -> list:
    """For each first bias in `offsets`, the test accuracies of the seeds.

    The learning rate is the one that is better on the last fifth of the training data. Rows
    {offset, rate, seconds of all, members, accuracy, mean, sd, half_width}.
    """
    x, y, x_test, y_test = data
    cut = len(x) * 4 // 5
    shape = (len(offsets), len(RATES), seeds)
    grid = np.meshgrid(offsets, RATES, np.arange(seeds), indexing="ij")
    starts = grid[0].ravel()
    rates = grid[1].ravel()
    model, _ = build_network(name, x.shape[1], int(y.max()) + 1, rates, starts, seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1.0), loss)  # 1 times the member's own rate
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice
    started = time.perf_counter()
    model.fit(Shuffled(x[:cut], y[:cut], len(rates), 100, seed), epochs=epochs, verbose=0)
    seconds = round(time.perf_counter() - started, 2)
    validation = member_accuracy(model, x[cut:], y[cut:], len(rates)).reshape(shape).mean(2)
    test = member_accuracy(model, x_test, y_test, len(rates)).reshape(shape)
    rows = []
    for offset, scores, best in zip(offsets, test, validation.argmax(1), strict=True):
        accuracy = [round(float(share), 5) for share in scores[best]]
        row = {"offset": offset, "rate": RATES[best], "seconds": seconds, "members": len(rates)}
        rows.append({**row, "accuracy": accuracy, **interval(scores[best])})
    return rows


# ---------------------------------------------------------------- evaluation
def interval(values) -> dict:
    """Mean, standard deviation and half-width of the 95 % confidence interval of some seeds."""
    values = np.asarray(values)
    sd = float(values.std(ddof=1))
    half_width = student.ppf(0.975, len(values) - 1) * sd / len(values) ** 0.5
    return {"mean": float(values.mean()), "sd": sd, "half_width": float(half_width)}


def difference(better: list, worse: list) -> np.ndarray:
    """Accuracy of one function minus that of another, seed by seed: (first biases, seeds)."""
    return np.subtract(
        [row["accuracy"] for row in better],
        [row["accuracy"] for row in worse],
    )


def judge_order(differences: dict) -> dict:
    """C6.4: Swish − ReLU and tick − Swish are on no task worse than half a point."""
    lowest = {key: row["mean"] - row["half_width"] for key, row in differences.items()}
    measured = {
        "lowest": min(lowest.values()),
        "swish_relu": differences["swish − relu, mnist"]["mean"],
        "tick_swish": differences["tick − swish, mnist"]["mean"],
        "half_width": max(row["half_width"] for row in differences.values()),
    }
    return cli.claim("C6.4", measured, holds=measured["lowest"] > -TOLERANCE)


def judge_bias(gained: dict, lost: dict) -> dict:
    """C6.7: where there is an advantage at bias 0, it is smaller at bias 1."""
    ahead = [key for key, rows in gained.items() if rows[0]["mean"] > rows[0]["half_width"]]
    shrunk = [key for key in ahead if lost[key]["mean"] > lost[key]["half_width"]]
    measured = {
        "ahead": len(ahead),
        "shrunk": len(shrunk),
        "half_width": max(rows[0]["half_width"] for rows in gained.values()),
    }
    return cli.claim("C6.7", measured, holds=bool(ahead) and shrunk == ahead)


# ---------------------------------------------------------------- figures
def plot_comparison(tables: dict, baselines: dict):
    """Mean accuracy with its 95 % interval, one panel per task, dots for seeds."""
    figure, panels = cli.subplots(1, len(tables), height=4, sharey=True)
    for axes, (task, table) in zip(panels, tables.items(), strict=True):
        for row, (name, found) in enumerate(table.items()):
            color = COLORS.get(name, "0.55")
            axes.plot(found["accuracy"], [row] * len(found["accuracy"]), ".", color="0.8")
            axes.errorbar(
                found["mean"], row, xerr=found["half_width"], fmt="o", color=color, capsize=3
            )
        axes.axvline(table["relu"]["mean"], color=COLORS["relu"], lw=1, ls=":")
        axes.set(xlabel="test accuracy", title=f"{task} (guessing: {baselines[task]:.2f})")
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(table)), list(table))
    panels[0].invert_yaxis()
    return figure


def plot_bias(bias: dict):
    """Accuracy minus that of ReLU with the same seed, against the bias at the start."""
    tasks = list(dict.fromkeys(label.split(", ")[1] for label in bias))
    figure, panels = cli.subplots(1, len(tasks), sharey=True)
    for axes, task in zip(panels, tasks, strict=True):
        for name, aside in (("swish", -0.02), ("tick", 0.02)):
            rows = bias[f"{name}, {task}"]
            offsets = [row["offset"] + aside for row in rows]
            mean = [row["mean"] for row in rows]
            half_width = [row["half_width"] for row in rows]
            axes.errorbar(offsets, mean, half_width, fmt="o-", color=COLORS[name], capsize=3)
            axes.annotate(
                name,
                (offsets[-1], mean[-1]),
                (14, -4),
                textcoords="offset points",
                color=COLORS[name],
            )
        axes.axhline(0, color=COLORS["relu"], lw=1, ls=":")
        axes.set(xlabel="bias at the start (sd of u = 1)", title=task, xlim=(-0.1, 1.4))
    panels[0].set_ylabel("accuracy − that of ReLU")
    return figure


# ---------------------------------------------------------------- the experiment
def main(args):
    names = tuple(COLORS) if args.quick or args.three else COMPARED
    seeds = 2 if args.quick else args.seeds
    epochs = 1 if args.quick else args.epochs
    rows = 800 if args.quick else None
    tables = {}
    baselines = {}
    differences = {}
    gained = {}
    lost = {}
    for task, load in (("mnist", load_small_digits), ("adult", load_adult)):
        data = tuple(part[:rows] for part in load(args.full, args.data_dir))
        baselines[task] = float(np.bincount(data[3]).max() / len(data[3]))
        found = {}
        for name in names:
            offsets = OFFSETS if name in COLORS else OFFSETS[:1]
            found[name] = train_members(name, data, offsets, seeds, epochs, args.seed)
            first = found[name][0]
            print(f"{task:6s} {name:11s} {first['mean']:.4f} ± {first['sd']:.4f}", flush=True)
        tables[task] = {name: biases[0] for name, biases in found.items()}
        for better, worse in (("swish", "relu"), ("tick", "swish")):
            at_bias_0 = difference(found[better], found[worse])[0]
            differences[f"{better} − {worse}, {task}"] = interval(at_bias_0)
        for name in ("swish", "tick"):
            ahead = difference(found[name], found["relu"])
            gained[f"{name}, {task}"] = [
                {"offset": offset, **interval(seed_by_seed)}
                for offset, seed_by_seed in zip(OFFSETS, ahead, strict=True)
            ]
            lost[f"{name}, {task}"] = interval(ahead[0] - ahead[-1])
    metrics = {
        "accuracy": tables,
        "baseline": baselines,
        "differences": differences,
        "advantage_over_relu": gained,
        "advantage_lost_by_bias_1": lost,
    }
    figures = {
        "compare_accuracy": plot_comparison(tables, baselines),
        "compare_bias": plot_bias(gained),
    }
    return metrics, [judge_order(differences), judge_bias(gained, lost)], figures


if __name__ == "__main__":
    cli.run(main, flags)
