"""What does the mean-field equation dm/dt = ν a(m) miss? Six models, from nothing to everything.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/experiments/mean_field.py
Symbols: m → field   ⟨y⟩ of the master equation → exact (by moments, states or trajectories)
Differs from the article: the mean-field equation comes after the article's last one, and drops ⟨ ⟩.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from moments import exact_moments, mean_field
from reaction_network import Network, load_network
from state_space import solve_within
from stochastic_simulation import simulate

WATCHED = {  # model: (output, trajectories where no exact solver applies)
    "immigration-death": ("X", 0),
    "dimerisation": ("P", 0),
    "schlogl": ("X", 0),
    "toggle": ("X", 0),
    "sir": ("I", 4000),
    "lotka-volterra": ("prey", 200),
}


def flags(parser):
    parser.add_argument("--seed", **cli.SEED)


def exact_mean(network: Network, times: np.ndarray, name: str, n: int, seed: int) -> tuple:
    """(mean of an output (T,), how it was found)."""
    if network.affine():
        return exact_moments(network, times)[0][name], "moments"
    if n:
        return simulate(network, times, n, seed)["mean"][name], f"{n} exact trajectories"
    space, p, _ = solve_within(network, times)
    return space.moments(p)[0][name], "states"


def plot_mean_field(curves: dict):
    figure, grid = cli.subplots(2, 3, height=5.2)
    for axes, (title, (times, field, exact, how)) in zip(grid.ravel(), curves.items(), strict=True):
        axes.plot(times, exact, color="C1" if "trajectories" in how else "C0")
        axes.plot(times, field, "--", color="C5")
        axes.set(title=title, xlabel="time")
    figure.supylabel("mean count")
    lines = {"master equation": "C0", "exact trajectories": "C1", "mean-field equation": "C5"}
    handles = [axes.plot([], [], color=color, label=label)[0] for label, color in lines.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def main(args):
    curves = {}
    metrics = {}
    for model, (name, n) in WATCHED.items():
        network, end = load_network(model)
        times = np.linspace(0, end, 51)
        exact, how = exact_mean(network, times, name, min(n, 100) if args.quick else n, args.seed)
        field = mean_field(network, times)[name]
        curves[f"{model}: {name}"] = (times, field, exact, how)
        metrics[model] = {
            "exact": exact[-1],
            "mean_field": field[-1],
            "largest_difference": np.abs(field - exact).max() / np.abs(exact).max(),
        }
        print(f"{model}: {name} at t = {end:g}: {how} {exact[-1]:.4g}, mean-field {field[-1]:.4g}")
    return metrics, [], {"mean_field": plot_mean_field(curves)}


if __name__ == "__main__":
    cli.run(main, flags)
