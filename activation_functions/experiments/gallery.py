"""Eighteen activation functions: minimum, saturation, gain, gradient factor, one panel each.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Run:     python activation_functions/experiments/gallery.py

Symbols: E[·] under N(0, 1)   gain = 1/√E[f²] keeps the variance of a layer
         chi = E[f'²]/E[f²]: what a layer then does to the squared gradient
Differs from the article: it draws five functions.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    points = cli.between(101, 10**7)
    parser.add_argument("--points", type=points, default=100_001, help="of the quadrature")


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import math

import numpy as np

from activations import ACTIVATIONS, COLORS, SATURATED, derivative, describe, evaluate
from quiet_keras import keras


def plot_gallery(table: dict):
    """One panel per function: f (thick), f' (thin), grey where |f'| < 0.1, the minimum marked."""
    lines = math.ceil(len(ACTIVATIONS) / 3)
    figure, panels = cli.subplots(lines, 3, height=1.4 * lines + 0.1, sharex=True, sharey=True)
    x = np.linspace(-5, 5, 201)
    for axes in panels.flat[len(ACTIVATIONS) :]:
        axes.set_axis_off()
    for axes, (name, function) in zip(panels.flat, ACTIVATIONS.items(), strict=False):
        row = table[name]
        slope = derivative(function, x)
        axes.fill_between(x, -1.2, 3, where=np.abs(slope) < SATURATED, color="0.88", lw=0)
        axes.plot(x, evaluate(function, x), COLORS.get(name, "0.3"), lw=2)
        axes.plot(x, slope, "k", lw=0.8)
        axes.set_title(f"{name}, {row['saturated_fraction']:.0%} saturated")
        if row["minimum"] is not None:
            axes.plot(row["minimum_at"], row["minimum"], "kv", ms=5)
        axes.set(xlim=(-5, 5), ylim=(-1.2, 3))
    figure.supxlabel("x", fontsize=11)
    label = "f (thick), f ' (thin); grey: |f '| < 0.1; triangle: minimum"
    figure.supylabel(label, fontsize=11)
    return figure


def main(args):
    points = 10_001 if args.quick else args.points
    table = {name: describe(function, points) for name, function in ACTIVATIONS.items()}
    print("function        minimum       at saturated    gain     chi")
    for name, row in table.items():
        low, at = "–", "–"
        if row["minimum"] is not None:
            low, at = f"{row['minimum']:.4f}", f"{row['minimum_at']:.3f}"
        numbers = f"{row['saturated_fraction']:9.1%} {row['gain']:7.4f} {row['chi']:7.4f}"
        print(f"{name:14s} {low:>8s} {at:>8s} {numbers}")
    metrics = {"functions": table, "backend": keras.backend.backend()}
    return metrics, [], {"gallery_functions": plot_gallery(table)}


if __name__ == "__main__":
    cli.run(main, flags)
