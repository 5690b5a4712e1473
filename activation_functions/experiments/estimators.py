"""Why one evolution strategy scales and another does not: how true their estimates are.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/experiments/estimators.py

Both estimate ∂L/∂W1 of the network without activations from losses alone: all 1034 units at once
(evolution.py), or layer 1 in blocks of 64 with orthogonal signs (block_evolution.py). Each is
compared with the surrogate gradient (flushed.py) by the cosine of the angle between them, for
the same number of forward passes, early in training and late.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument(
        "--epochs", type=cli.between(2, 1000), default=8, help="of training until late"
    )
    parser.add_argument("--digits", type=cli.between(8, 1000), default=128, help="for an estimate")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # whose flush is the subject

import numpy as np
from scipy.linalg import hadamard

from block_evolution import BLOCK, UNITS, block_by_block, fl
from evolution import SIGMA, es_gradient, random_signs
from flushed import flush_surrogate, train_by_gradient
from quiet_keras import tf
from tasks import load_digits

PAIRS = (4, 16, 64, 256)  # of individuals a digit, all units at once
ROWS = (2, 4, 16, 64)  # sign patterns a block
BLOCKS = UNITS // BLOCK
COLORS = {"all units at once": "C3", "blocks of 64": "C1"}


# ---------------------------------------------------------------- three gradients of the same loss
def surrogate_gradient(parameters: list, x, y) -> np.ndarray:
    """∂L/∂W1 by the chain rule, with a triangle for the jump of the flush."""
    w1, b1, w2, b2, w3, b3 = map(tf.constant, parameters)
    with tf.GradientTape() as tape:
        tape.watch(w1)
        h1 = flush_surrogate(x @ w1 + b1)
        h2 = flush_surrogate(h1 @ w2 + b2)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, h2 @ w3 + b3)
        loss = tf.reduce_mean(losses)
    return tape.gradient(loss, w1).numpy()


def all_at_once(parameters: list, x, y, pairs: int, rng) -> np.ndarray:
    """∂L/∂W1 from `pairs` antithetic pairs a digit, all units of all layers perturbed."""
    return es_gradient(parameters, x, y, SIGMA, pairs, rng)[0]


def in_blocks(parameters: list, x, y, patterns: int, rng) -> np.ndarray:
    """∂L/∂W1 from `patterns` antithetic pairs a digit and block."""
    w1, b1, w2, b2, w3, b3 = map(tf.constant, parameters)
    u1 = x @ w1 + b1
    u2 = fl(u1) @ w2 + b2
    labels = tf.one_hot(y, len(b3))
    order = rng.permutation(UNITS)
    rows = hadamard(BLOCK).astype("float32")[rng.permutation(BLOCK)[:patterns]]
    signs = random_signs((len(x), UNITS), rng)
    credit = block_by_block(u1, u2, w2, w3, b3, labels, order, rows, signs)
    return x.T @ credit.numpy() / len(x)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


def agreement(parameters: list, x, y, rng) -> dict:
    """Estimator → [{passes of a digit, cosine with the surrogate gradient}]."""
    reference = surrogate_gradient(parameters, x, y)
    found = {"all units at once": [], "blocks of 64": []}
    for pairs in PAIRS:
        estimate = all_at_once(parameters, x, y, pairs, rng)
        row = {"passes": 2 * pairs, "cosine": cosine(estimate, reference)}
        found["all units at once"].append(row)
    for patterns in ROWS:
        estimate = in_blocks(parameters, x, y, patterns, rng)
        row = {"passes": 2 * BLOCKS * patterns, "cosine": cosine(estimate, reference)}
        found["blocks of 64"].append(row)
    return found


# ---------------------------------------------------------------- figures
def plot_agreement(found: dict):
    """Cosine against passes; line: early, dashes: late."""
    figure, axes = cli.subplots(height=3.8)
    for when, style in (("early", "o-"), ("late", "s--")):
        for name, rows in found[when].items():
            passes = [row["passes"] for row in rows]
            cosines = [row["cosine"] for row in rows]
            axes.semilogx(passes, cosines, style, color=COLORS[name], base=2)
            axes.annotate(f"  {name}, {when}", (passes[-1], cosines[-1]), color=COLORS[name])
    axes.set(xlabel="forward passes a digit", ylim=(0, 1), xlim=(6, 20_000))
    axes.set(ylabel="cosine with the surrogate gradient")
    return figure


# ---------------------------------------------------------------- the experiment
def main(args):
    train, _ = load_digits(False, args.data_dir)
    epochs = 2 if args.quick else args.epochs
    count = 16 if args.quick else args.digits
    stages = []
    train_by_gradient("surrogate", train, epochs, 64, args.seed, lambda p, seen: stages.append(p))
    x = train[0][:count].reshape(count, -1)
    y = train[1][:count]
    found = {}
    for when, parameters in (("early", stages[0]), ("late", stages[-1])):
        found[when] = agreement(parameters, x, y, np.random.default_rng(args.seed))
        for name, rows in found[when].items():
            numbers = "  ".join(f"{row['passes']}: {row['cosine']:.3f}" for row in rows)
            print(f"{when:5s} {name:18s} cosine at passes a digit  {numbers}", flush=True)
    return {"agreement": found}, [], {"estimators_cosine": plot_agreement(found)}


if __name__ == "__main__":
    cli.run(main, flags)
