"""What goes wrong where the derivation's assumptions do not hold.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Symbols: W̃ → generator   a process that is not Markov → check_hidden_state (step 1)
         a W̃ without ∫W̃dx = 0 → bare (step 4)   W(x,y) < 0 → signed (not in the article)
         W̃ from W, step 5 → constrain, a function that run.py hands over
"""

import numpy as np
import scipy

import cli


def check_hidden_state(constrain) -> float:
    """Lump two of three states: what is seen is not Markov, and step 1 must fail."""
    generator = constrain(np.array([[0, 0, 2.0], [1, 0, 0], [0, 3, 0]]))
    null = np.linalg.svd(generator)[2][-1]
    rest = null / null.sum()
    lump = np.array([[1, 0, 0], [0, 1, 1.0]])
    spread = np.array([[1, 0], [0, rest[1]], [0, rest[2]]])
    spread[1:, 1] /= spread[1:, 1].sum()

    def seen(t):
        return lump @ scipy.linalg.expm(generator * t) @ spread

    return float(np.abs(seen(1.0) - seen(0.5) @ seen(0.5)).max())


def broken(constrain, rng: np.random.Generator, size: int) -> dict:
    """Three generators: a bare W̃ that was not built by step 5, W ≥ 0, and a W with W(0←1) < 0."""
    rates = rng.exponential(size=(size, size)) / size
    p = rng.dirichlet(np.ones(size))
    bare = rates - np.diag(rng.exponential(size=size))
    signed = rates.copy()
    signed[0, 1] = -0.5
    return {"p": p, "bare": bare, "signed": constrain(signed), "positive": constrain(rates)}


def check_broken(constrain, rng: np.random.Generator, size: int, draws: int) -> tuple:
    """What goes wrong without the constraint, and with a negative W. Metrics, and curves of one."""
    expm = scipy.linalg.expm
    drifts = []
    kept = []
    negative = []
    lowest = []
    for _ in range(draws):
        made = broken(constrain, rng, size)
        from_1 = np.eye(size)[1]
        drifts.append(abs((expm(made["bare"]) @ made["p"]).sum() - 1))
        kept.append(abs((expm(made["signed"]) @ made["p"]).sum() - 1))  # any W keeps Σp
        negative.append((expm(made["signed"] * 0.01) @ from_1)[0])
        lowest.append((expm(made["positive"] * 0.01) @ from_1).min())
    found = {
        "drift_without_constraint": min(drifts),
        "drift_any_rates": max(kept),
        "negative_rate_lowest_p": max(negative),
        "nonnegative_rates_lowest_p": min(lowest),
    }

    times = np.linspace(0, 3, 61)
    curves = {"times": times}
    for name in ("bare", "signed"):
        curves[f"{name} Σp"] = [(expm(made[name] * t) @ made["p"]).sum() for t in times]
    for name in ("signed", "positive"):
        curves[f"{name} p(0)"] = [(expm(made[name] * t) @ from_1)[0] for t in times]
    return found, curves


def plot_broken(curves: dict):
    figure, (left, right) = cli.subplots(1, 2)
    t = curves["times"]
    left.plot(t, curves["bare Σp"], "C3")
    left.plot(t, curves["signed Σp"], "C0")
    left.text(0.05, 0.85, "W̃ written down freely", color="C3", transform=left.transAxes)
    left.text(0.4, 0.1, "W̃ built from any W", color="C0", transform=left.transAxes)
    left.set(xlabel="time", ylabel="total probability Σp")
    right.plot(t, curves["signed p(0)"], "C3")
    right.plot(t, curves["positive p(0)"], "C0")
    right.axhline(0, color="k", lw=0.7)
    right.text(0.3, 0.45, "one W(x,y) < 0", color="C3", transform=right.transAxes)
    right.text(0.7, 0.8, "W ≥ 0", color="C0", transform=right.transAxes)
    right.set(xlabel="time", ylabel="probability of state 0, from state 1")
    return figure
