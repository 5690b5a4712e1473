"""How much does a truncated state space get wrong? No more than the probability it lost.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/experiments/certificate.py
The toggle switch at t = 50, kept to a square of 13² … 29² states, against 41² of them; and the
three ways to compute exp(W̃t) against one another.
Symbols: 1 − Σp → lost   largest |p − exact| → largest_error
Differs from the article: its equation has infinitely many states here; a computer has not.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from reaction_network import load_network
from state_space import build, lost, solve

LARGEST = 40  # highest count of X and Y in the reference
LIMITS = (12, 16, 20, 24, 28)


def flags(parser):
    pass


def plot_certificate(losses: dict, errors: dict):
    figure, axes = cli.subplots(height=4)
    axes.semilogy(list(losses), list(losses.values()), "o-", color="C0")
    axes.semilogy(list(errors), list(errors.values()), "s--", color="C3")
    axes.annotate("probability lost, 1 − Σp", (20, losses[20]), (20.5, losses[20] * 3), color="C0")
    place = (16.2, errors[20] / 300)
    axes.annotate("largest error of a probability", (20, errors[20]), place, color="C3")
    axes.set(xlabel="highest count kept of X and Y", ylabel="probability")
    axes.set_title("toggle switch at t = 50: the loss bounds the error")
    return figure


def main(args):
    network, end = load_network("toggle")
    reference = build(network, {"X": LARGEST, "Y": LARGEST})
    exact, _ = solve(reference, [end], "uniformisation")
    means, _ = reference.moments(exact)
    disagreement = {}
    for method in ("expm_multiply",) if args.quick else ("expm_multiply", "dense"):
        other, _ = solve(reference, [end], method)
        disagreement[method] = np.abs(other - exact).max()

    losses, errors = {}, {}
    for limit in LIMITS:
        space = build(network, {"X": limit, "Y": limit})
        p, _ = solve(space, [end])
        inside = (reference.states <= limit).all(axis=0)
        losses[limit] = lost(p)
        errors[limit] = np.abs(exact[0, inside] - p[0]).max()
        print(
            f"limit {limit}: {len(space.start)} states, lost {losses[limit]:.3g}, "
            f"largest error {errors[limit]:.3g}"
        )
    metrics = {
        "lost_40": lost(exact),
        "mean_X": means["X"][0],
        "mean_Y": means["Y"][0],
        "disagreement": disagreement,
        "lost": losses,
        "largest_error": errors,
    }
    return metrics, [], {"certificate": plot_certificate(losses, errors)}


if __name__ == "__main__":
    cli.run(main, flags)
