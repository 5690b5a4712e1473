"""What do leaps cost in accuracy? The bias of tau-leaping, predicted exactly and measured.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/experiments/leap_bias.py
Symbols: τ → tau   variance/mean of immigration–death at rest → ratio, 1 without leaps
Differs from the article: its ε goes to 0; here it does not.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from moments import exact_moments, leap_moments
from reaction_network import load_network
from state_space import solve_within
from tau_leaping import KINDS, tau_leap

COLORS = {"explicit": "C2", "implicit": "C3", "trapezoidal": "C4"}
TAUS = np.array([0.5, 2.0, 5.0])
REST = [100.0]  # by then immigration–death has come to rest
DEATH = 0.1  # its death rate μ, per unit time


def flags(parser):
    number = "trajectories of each run"
    parser.add_argument("--trajectories", type=cli.between(100, 10**7), default=20_000, help=number)
    parser.add_argument("--seed", **cli.SEED)


def ratio(mean: dict, sd: dict) -> float:
    """Variance over mean of X."""
    return sd["X"][0] ** 2 / mean["X"][0]


def check_decay(n: int, seed: int) -> dict:
    """The mean of a decay in explicit leaps, 100·(1 − cτ)^k."""
    network, _ = load_network("decay")
    result = tau_leap(network, [1, 10], n, 0.5, "explicit", seed)
    measured = result["mean"]["X"][1]
    sd = result["sd"]["X"][1]
    theory = 100 * (1 - 0.1 * 0.5) ** 20
    return {
        "measured": measured,
        "theory": theory,
        "exact": 100 * np.exp(-1),
        "z": np.sqrt(n) * (measured - theory) / sd,
    }


def check_kind(kind: str, n: int, seed: int) -> dict:
    """Variance over mean at rest for each τ, measured and predicted, with standard errors."""
    network, _ = load_network("immigration-death")
    measured, predicted = [], []
    for tau in TAUS:
        result = tau_leap(network, REST, n, tau, kind, seed)
        measured.append(ratio(result["mean"], result["sd"]))
        predicted.append(ratio(*leap_moments(network, REST, tau, kind)))
    errors = np.sqrt(2 / n) * np.array(measured)
    gaps = np.abs(np.array(measured) - predicted)
    return {
        "tau": TAUS.tolist(),
        "variance_over_mean": measured,
        "predicted": predicted,
        "largest_z": (gaps / errors).max(),
    }


def check_dimerisation(n: int, seed: int) -> dict:
    """A law that is not affine: mean and sd of P over the exact ones, for two lengths of leap."""
    network, end = load_network("dimerisation")
    times = np.linspace(10, end, 5)
    space, p, _ = solve_within(network, times)
    mean, sd = (values["P"] for values in space.moments(p))
    found = {}
    for tau in (1.0, 0.1):
        result = tau_leap(network, times, n, tau, "explicit", seed)
        ours = result["mean"]["P"]
        found[f"dimerisation_tau_{tau}"] = {
            "mean_ratio": (ours / mean).tolist(),
            "sd_ratio": (result["sd"]["P"] / sd).tolist(),
            "z": (np.sqrt(n) * (ours - mean) / sd).tolist(),
        }
        print(f"dimerisation, tau {tau}: mean/exact {np.round(ours / mean, 4)}")
    return found


def plot_bias(kinds: dict, n: int):
    figure, axes = cli.subplots(height=4)
    fine = np.linspace(0, TAUS.max(), 200)
    theory = {
        "explicit": 1 / (1 - DEATH * fine / 2),
        "implicit": 2 / (2 + DEATH * fine),
        "trapezoidal": np.ones_like(fine),
    }
    for kind, color in COLORS.items():
        measured = np.array(kinds[kind]["variance_over_mean"])
        axes.plot(fine, theory[kind], color=color)
        error = 2 * np.sqrt(2 / n) * measured
        axes.errorbar(TAUS, measured, yerr=error, fmt="o", color=color, capsize=3)
        height = 24 if kind == "implicit" else 10
        place = {"xytext": (-60, height), "textcoords": "offset points", "ha": "right"}
        axes.annotate(kind, (fine[-1], theory[kind][-1]), color=color, **place)
    axes.set(xlabel="leap τ", ylabel="variance / mean at rest (exact: 1)")
    axes.set_title("immigration–death: lines are theory, points are measured ± 2 s.e.")
    return figure


def main(args):
    n = 2000 if args.quick else args.trajectories
    metrics = {"trajectories": args.trajectories, "decay_mean": check_decay(n, args.seed)}
    for kind in KINDS:
        metrics[kind] = found = check_kind(kind, n, args.seed)
        measured, predicted = found["variance_over_mean"], found["predicted"]
        print(f"{kind}: variance/mean {np.round(measured, 4)} predicted {np.round(predicted, 4)}")
    exact = exact_moments(load_network("immigration-death")[0], REST)
    metrics["exact_variance_over_mean"] = ratio(*exact)
    metrics |= check_dimerisation(n, args.seed)
    return metrics, [], {"leap_bias": plot_bias(metrics, n)}


if __name__ == "__main__":
    cli.run(main, flags)
