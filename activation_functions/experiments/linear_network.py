"""A network of matrix products and scalings, no activation anywhere, that learns by rounding.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647, and the post it opens with:
         https://openai.com/index/nonlinear-computation-in-deep-linear-networks (2017)
Run:     python activation_functions/experiments/linear_network.py
         python activation_functions/experiments/linear_network.py --full --epochs 40   MNIST

The network is forward(…, flush) of flushed.py: TensorFlow on a CPU flushes denormals to 0. It is
trained in six ways and evaluated with the real flush:
    linear      no flush: the limit of a linear classifier
    backprop    the derivative of the flush taken for 1, as back-propagation does: OpenAI's first
    es          evolution strategies, losses only: OpenAI's second, all units at once (evolution.py)
    blocks      evolution strategies, losses only, in a form that scales (block_evolution.py)
    surrogate   a triangle in place of the derivative at the jump: ours
    relu        the same network with ReLU, to compare
Differs from the article: each layer is scaled down and up by itself (see flushed.forward); the
surrogate, the genes in units instead of weights, and the blocks are ours.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli

METHODS = ("linear", "backprop", "es", "blocks", "surrogate", "relu")


def flags(parser):
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="which ones")
    parser.add_argument(
        "--epochs", type=cli.between(1, 10_000), default=30, help="of surrogate and ReLU"
    )
    parser.add_argument(
        "--es-steps", type=cli.between(1, 10**7), default=400, help="of 2048 forward passes each"
    )
    parser.add_argument(
        "--block-epochs", type=cli.between(1, 10_000), default=20, help="of 1300 passes a digit"
    )
    parser.add_argument("--full", action="store_true", help="MNIST's 60 000 digits (fetched)")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"  # whose flush is the subject

import numpy as np

from block_evolution import train_by_blocks
from evolution import train_by_evolution
from flushed import accuracy, flush, forward, train_by_gradient
from quiet_keras import tf
from tasks import load_digits

COLORS = {
    "linear": "0.5",
    "backprop": "C5",
    "es": "C3",
    "blocks": "C1",
    "surrogate": "C4",
    "relu": "C0",
}


# ---------------------------------------------------------------- evaluation
def train_and_watch(method: str, train: tuple, test: tuple, args) -> tuple[list, dict, list]:
    """Train by one method. Returns the parameters, its row of numbers, and its learning curve."""
    activation = {"relu": tf.nn.relu, "linear": tf.identity}.get(method, flush)
    curve = []
    clock = time.perf_counter()
    processor = time.process_time()

    def watch(parameters, evaluations):
        seconds = round(time.perf_counter() - clock, 1)
        now = accuracy(parameters, test, activation)
        curve.append({"seconds": seconds, "evaluations": evaluations, "test": now})

    if method == "es":
        rng = np.random.default_rng(args.seed)
        parameters = train_by_evolution(train, args.es_steps, rng, watch)
    elif method == "blocks":
        batch = 128 if args.full else 64
        parameters = train_by_blocks(train, args.block_epochs, batch, args.seed, watch)
    else:
        epochs = args.epochs
        if method in ("linear", "backprop"):  # these two are done sooner
            epochs = max(1, min(10, epochs // 3))
        batch = 256 if args.full else 64
        parameters = train_by_gradient(method, train, epochs, batch, args.seed, watch)
    cpu_seconds = round(time.process_time() - processor, 1)
    seen = (train[0][:10_000], train[1][:10_000])
    row = {
        "train": accuracy(parameters, seen, activation),
        **curve[-1],
        "digits": len(test[1]),
        "test_numpy": accuracy_in_numpy(parameters, test),
        "cpu_seconds": cpu_seconds,
    }
    return parameters, row, curve


def accuracy_in_numpy(parameters: list, data: tuple) -> float:
    """The same operations where denormals are kept: the network is linear again."""
    logits = forward(parameters, data[0].reshape(len(data[0]), -1), flush)
    return float((logits.argmax(1) == data[1]).mean())


def judge(accuracies: dict) -> list:
    """C6.1, C8.4 and C8.5, as far as --methods ran what they need.

    A method is above the linear network where its test accuracy is more than two standard errors of
    the linear one's above it.
    """
    if "linear" not in accuracies:
        return []
    linear = accuracies["linear"]["test"]
    margin = 2 * (linear * (1 - linear) / accuracies["linear"]["digits"]) ** 0.5
    claims = []
    for name, method in (("C6.1", "surrogate"), ("C8.4", "backprop"), ("C8.5", "blocks")):
        if method in accuracies:
            row = accuracies[method]
            measured = {"test": row["test"], "linear": linear, "margin": margin}
            measured |= {"train": row["train"], "numpy": row["test_numpy"]}
            above = row["test"] > linear + margin
            claims.append(cli.claim(name, measured, holds=above != (method == "backprop")))
    return claims


# ---------------------------------------------------------------- figures and weights
def plot_training(curves: dict, accuracies: dict):
    """Test accuracy against forward passes of one digit."""
    figure, axes = cli.subplots(height=4.2)
    lowest = {}  # x → where the next label there may stand
    for method, points in sorted(curves.items(), key=lambda item: item[1][-1]["test"]):
        passes = [point["evaluations"] for point in points]
        test = [point["test"] for point in points]
        axes.semilogx(passes, test, ".-", color=COLORS[method])
        height = max(lowest.get(passes[-1], 0), test[-1])
        lowest[passes[-1]] = height + 0.017
        label = f"  {method} {test[-1]:.3f}"
        axes.annotate(label, (passes[-1], height), color=COLORS[method], va="center")
    if "linear" in accuracies:
        axes.axhline(accuracies["linear"]["test"], color=COLORS["linear"], lw=1, ls=":")
    most = max(points[-1]["evaluations"] for points in curves.values())
    axes.set(xlabel="forward passes of one digit", ylabel="test accuracy, flushed network")
    axes.set(ylim=(0.7, 1), xlim=(None, 10 * most))
    return figure


def save_weights(path, saved: dict) -> None:
    """An .npz of method_0 … method_5 for float_rounding.py --weights, in one move."""
    partial = path.with_name("linear_network.part.npz")
    try:
        np.savez_compressed(partial, **saved)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # what a full disk cut short


# ---------------------------------------------------------------- the article's opening story
def main(args):
    train, test = load_digits(args.full, args.data_dir)
    if args.quick:
        train = (train[0][:1500], train[1][:1500])
        args.epochs = min(args.epochs, 3)
        args.es_steps = min(args.es_steps, 20)
        args.block_epochs = 1
    accuracies = {}
    curves = {}
    saved = {}
    for method in args.methods:
        parameters, row, curve = train_and_watch(method, train, test, args)
        accuracies[method] = row
        curves[method] = curve
        saved |= {f"{method}_{i}": part for i, part in enumerate(parameters)}
        print(
            f"{method:9s}  test {row['test']:.4f}  train {row['train']:.4f}"
            f"  in NumPy {row['test_numpy']:.4f}  {row['seconds']:.1f} s",
            flush=True,
        )
    save_weights(args.out_dir / "linear_network.npz", saved)
    figures = {"linear_network_training": plot_training(curves, accuracies)}
    return {"accuracy": accuracies, "curves": curves}, judge(accuracies), figures


if __name__ == "__main__":
    cli.run(main, flags)
