"""Statistical mechanics as a special case: entropy is produced, and paths that undo it are rare.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/experiments/h_theorem.py
For dp/dt = W̃·p with stationary law π:
    H-theorem             D(p(t) ‖ π) = Σ p ln(p/π) never rises
    entropy production    σ = ½ Σ_xy (W_xy p_y − W_yx p_x) ln(W_xy p_y / W_yx p_x) ≥ 0
                          and zero at rest exactly with detailed balance
    driven ring           at rest σ = (k₊ − k₋) ln(k₊/k₋)
    fluctuation theorem   ⟨e^(−S)⟩ = 1, S = ln p₀(x₀)/p_t(x_t) + Σ_jumps ln(W forward / W backward)
Symbols: W → rates[to, from]   π → rest   D → relative_entropy   σ → entropy_production
Differs from the article: its sources call equilibrium physics a special case of the master
equation; this shows in what sense.
"""

import sys
from pathlib import Path

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from reaction_network import parse_network
from stochastic_simulation import simulate

RING = """species A = {0}
species B = {1}
species C = {2}
species forward = 0
species backward = 0
A -> B + forward : {k}
B -> C + forward : {k}
C -> A + forward : {k}
B -> A + backward : {l}
C -> B + backward : {l}
A -> C + backward : {l}
"""
FORWARD, BACKWARD = 2.0, 1.0  # k₊ and k₋ of the driven ring, per unit time
ENERGIES = np.array([0.0, 1.5, 0.5, 2.0, -0.5, 1.0])  # of six levels, in units of kT


def flags(parser):
    number = "simulated paths of the fluctuation theorem"
    parser.add_argument("--paths", type=cli.between(1000, 10**8), default=400_000, help=number)
    parser.add_argument("--seed", **cli.SEED)


# ---------------------------------------------------------------- three kinds of W
def boltzmann_rates(energies: np.ndarray) -> np.ndarray:
    """Levels with Metropolis rates min(1, e^(−ΔE)) to neighbours: detailed balance with e^(−E)."""
    size = len(energies)
    rates = np.zeros((size, size))
    i = np.arange(size - 1)
    rates[i + 1, i] = np.minimum(1, np.exp(energies[:-1] - energies[1:]))
    rates[i, i + 1] = np.minimum(1, np.exp(energies[1:] - energies[:-1]))
    return rates


def ring_rates(forward: float, backward: float, size: int = 3) -> np.ndarray:
    rates = np.zeros((size, size))
    i = np.arange(size)
    rates[(i + 1) % size, i] = forward
    rates[i, (i + 1) % size] = backward
    return rates


# ---------------------------------------------------------------- entropy
def generator_of(rates: np.ndarray) -> np.ndarray:
    """W̃ = W − diag(column sums)."""
    return rates - np.diag(rates.sum(axis=0))


def stationary(rates: np.ndarray) -> np.ndarray:
    """π with W̃π = 0, for a connected chain."""
    vector = scipy.linalg.null_space(generator_of(rates), rcond=1e-12)[:, 0]
    return vector / vector.sum()


def relative_entropy(p: np.ndarray, rest: np.ndarray) -> float:
    """D(p ‖ π) = Σ p ln(p/π), in nats."""
    return float(np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / rest), 0)))


def entropy_production(rates: np.ndarray, p: np.ndarray) -> float:
    """σ, nats per unit time; infinite if a jump with a positive flux has no way back."""
    flux = rates * p[None, :]
    np.fill_diagonal(flux, 0)
    pairs = (flux > 0) | (flux.T > 0)
    net = (flux - flux.T)[pairs]
    with np.errstate(divide="ignore"):
        return float(0.5 * np.sum(net * (np.log(flux[pairs]) - np.log(flux.T[pairs]))))


def relax(rates: np.ndarray, start: np.ndarray, times: np.ndarray) -> dict:
    """D, σ and the largest rise of D along the way from `start`."""
    rest = stationary(rates)
    generator = generator_of(rates)
    step = scipy.linalg.expm(generator * (times[1] - times[0]))
    p = start
    distances = []
    productions = []
    for _ in times:
        distances.append(relative_entropy(p, rest))
        productions.append(entropy_production(rates, p))
        p = step @ p
    return {
        "distance": np.array(distances),
        "production": np.array(productions),
        "largest_rise": float(np.diff(distances).max()),
        "production_at_rest": entropy_production(rates, rest),
    }


def free_energy_gap(rates: np.ndarray, start: np.ndarray) -> float:
    """dF/dt + σ at t = 1: zero with detailed balance, where F = Σ p (E + ln p) = D(p‖π) − ln Z."""
    generator = generator_of(rates)
    rest = stationary(rates)
    h = 1e-4
    p = scipy.linalg.expm(generator) @ start
    ahead = relative_entropy(scipy.linalg.expm(generator * h) @ p, rest)
    behind = relative_entropy(scipy.linalg.expm(generator * -h) @ p, rest)
    return (ahead - behind) / (2 * h) + entropy_production(rates, p)


# ---------------------------------------------------------------- the entropy of single paths
def path_entropies(
    forward: float, backward: float, start: np.ndarray, end: float, n: int, seed: int
) -> tuple:
    """(S of each simulated path on the ring, its weight, its net turns). Paths start by strata."""
    p_end = scipy.linalg.expm(generator_of(ring_rates(forward, backward)) * end) @ start
    totals = []
    weights = []
    turns = []
    for site in range(3):
        at_site = np.eye(3, dtype=int)[site]
        network = parse_network(RING.format(*at_site, k=forward, l=backward))
        count = max(1, round(n * start[site]))
        states = simulate(network, [end], count, seed + site, keep=True)["states"][0]
        net = states[3] - states[4]
        last = np.argmax(states[:3], axis=0)
        # S = ln p₀(x₀)/p_t(x_t) + Σ_jumps ln(W forward / W backward)
        totals.append(np.log(start[site] / p_end[last]) + net * np.log(forward / backward))
        weights.append(np.full(count, start[site] / count))
        turns.append(net)
    return np.concatenate(totals), np.concatenate(weights), np.concatenate(turns)


def check_fluctuations(start: np.ndarray, end: float, n: int, seed: int) -> tuple:
    """⟨e^(−S)⟩ and its standard error, and the net turns of the paths."""
    entropies, weights, net = path_entropies(FORWARD, BACKWARD, start, end, n, seed)
    values = np.exp(-entropies)
    average = float(weights @ values)
    error = float(np.sqrt(np.sum(weights**2 * (values - average) ** 2)))
    found = {
        "mean_exp_minus_S": average,
        "standard_error": error,
        "z": (average - 1) / error,
        "mean_S": float(weights @ entropies),
        "fraction_negative_S": float(weights @ (entropies < -1e-9)),
    }
    return found, net


# ---------------------------------------------------------------- figures
def plot_relaxation(times: np.ndarray, runs: dict):
    figure, axes = cli.subplots(height=4)
    for label, run in runs.items():
        axes.semilogy(times, np.maximum(run["distance"], 1e-16), label=label)
    axes.set(xlabel="time", ylabel="relative entropy D(p(t) ‖ π), nats", ylim=(1e-12, None))
    axes.set_title("it falls, with detailed balance and without")
    axes.legend()
    return figure


def plot_fluctuations(forces: np.ndarray, productions: np.ndarray, net: np.ndarray):
    figure, (left, right) = cli.subplots(1, 2, height=4)
    fine = np.linspace(forces[0], forces[-1], 200)
    left.plot(fine, (np.exp(fine) - 1) * fine, "k:", label="(k₊ − k₋) ln(k₊/k₋)")
    left.plot(forces, productions, "o", color="C0", label="master equation")
    left.set(xlabel="ln(k₊/k₋), k₋ = 1", ylabel="entropy production at rest, nats/time")
    left.legend()
    turns = np.arange(1, 12)
    pairs = [[np.count_nonzero(net == k), np.count_nonzero(net == -k)] for k in turns]
    seen = np.array(pairs).min(axis=1) > 20
    turns = turns[seen]
    counts = np.array(pairs)[seen]
    entropy = turns * np.log(FORWARD / BACKWARD)
    ratios = np.log(counts[:, 0] / counts[:, 1])
    errors = 2 * np.sqrt((1 / counts).sum(axis=1))
    options = {"fmt": "o", "capsize": 3, "color": "C1", "label": "simulated paths, ± 2 s.e."}
    right.errorbar(entropy, ratios, yerr=errors, **options)
    right.plot(entropy, entropy, "k:", label="ln P(S)/P(−S) = S")
    right.set(xlabel="entropy S of a path, nats", ylabel="ln P(S)/P(−S)")
    right.legend()
    return figure


# ---------------------------------------------------------------- main
def relaxations(rng: np.random.Generator, times: np.ndarray) -> dict:
    """Four W of six states, with detailed balance and without."""
    first = np.eye(6)[0]
    return {
        "energy levels (detailed balance)": relax(boltzmann_rates(ENERGIES), np.eye(6)[3], times),
        "ring, k₊ = k₋ = 1": relax(ring_rates(1, 1, 6), first, times),
        "ring, k₊ = 2, k₋ = 1 (driven)": relax(ring_rates(2, 1, 6), first, times),
        "random W": relax(rng.exponential(size=(6, 6)) / 6, first, times),
    }


def main(args):
    rng = np.random.default_rng(args.seed)
    paths = 20_000 if args.quick else args.paths
    times = np.linspace(0, 30, 301)
    runs = relaxations(rng, times)
    levels = boltzmann_rates(ENERGIES)
    third = np.full(3, 1 / 3)
    weights = np.exp(-ENERGIES)
    forces = np.linspace(-2, 2, 9)
    rings = [entropy_production(ring_rates(np.exp(force), 1), third) for force in forces]
    driven = ring_rates(FORWARD, BACKWARD)
    metrics = {
        "largest_rise": {name: run["largest_rise"] for name, run in runs.items()},
        "production_at_rest": {name: run["production_at_rest"] for name, run in runs.items()},
        "boltzmann_error": np.abs(stationary(levels) - weights / weights.sum()).max(),
        "free_energy_slope_plus_production": free_energy_gap(levels, np.eye(6)[3]),
        "ring": {
            "production": entropy_production(driven, stationary(driven)),
            "theory": np.log(2),
            "largest_difference": np.abs(np.array(rings) - (np.exp(forces) - 1) * forces).max(),
        },
    }
    metrics["at_rest"], net = check_fluctuations(third, 1.0, paths, args.seed + 17)
    # net turns are a difference of Poisson numbers
    metrics["at_rest"]["entropy_per_time"] = metrics["at_rest"]["mean_S"]
    negative = scipy.stats.skellam.cdf(-1, FORWARD, BACKWARD)
    metrics["at_rest"]["fraction_negative_exact"] = float(negative)
    off_rest = np.array([0.6, 0.3, 0.1])
    metrics["from_off_rest"], _ = check_fluctuations(off_rest, 1.0, paths, args.seed + 17)
    for name in ("at_rest", "from_off_rest"):
        average, error = metrics[name]["mean_exp_minus_S"], metrics[name]["standard_error"]
        print(f"fluctuation theorem, {name}: ⟨e^−S⟩ = {average:.4f} ± {error:.4f}")
    print(f"largest rise of D: {max(metrics['largest_rise'].values()):.1e}")
    figures = {
        "h_theorem_relaxation": plot_relaxation(times, runs),
        "h_theorem_fluctuations": plot_fluctuations(forces, np.array(rings), net),
    }
    return metrics, [], figures


if __name__ == "__main__":
    cli.run(main, flags)
