"""Statistical mechanics as a special case: entropy falls and is produced, the fluctuation theorem holds.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/h_theorem.py
Time:    4 s on one core (AMD EPYC 2.6 GHz)

For dp/dt = W̃·p with stationary law π:
    H-theorem             D(p(t) ‖ π) = Σ p ln(p/π) never rises
    entropy production    σ = ½ Σ_xy (W_xy p_y − W_yx p_x) ln(W_xy p_y / W_yx p_x) ≥ 0
                          and zero at rest exactly with detailed balance
    driven ring           at rest σ = (k₊ − k₋) ln(k₊/k₋)
    fluctuation theorem   ⟨e^(−S)⟩ = 1 over paths, S = ln p₀(x₀)/p_t(x_t) + Σ_jumps ln(W forward / W backward)
Symbols: W → rates[to, from]   π → rest   D → relative_entropy   σ → entropy_production
Differs from the article: its sources call equilibrium physics a special case of the master equation; this shows in
what sense.
"""
import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import expm, null_space
from scipy.stats import skellam

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from master_equation.networks import parse_network
from master_equation.stochastic_simulation import simulate

HERE = Path(__file__).resolve().parent
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


# ---------------------------------------------------------------- method
def generator_of(rates: np.ndarray) -> np.ndarray:
    """W̃ = W − diag(column sums)."""
    return rates - np.diag(rates.sum(axis=0))


def stationary(rates: np.ndarray) -> np.ndarray:
    """π with W̃π = 0, for a connected chain."""
    vector = null_space(generator_of(rates), rcond=1e-12)[:, 0]
    return vector / vector.sum()


def relative_entropy(p: np.ndarray, rest: np.ndarray) -> float:
    """D(p ‖ π) = Σ p ln(p/π), in nats."""
    return float(np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / rest), 0)))


def entropy_production(rates: np.ndarray, p: np.ndarray) -> float:
    """σ, nats per unit time; infinite if a jump with a positive flux has no way back."""
    flux = rates * p[None, :]
    np.fill_diagonal(flux, 0)
    pairs = (flux > 0) | (flux.T > 0)
    with np.errstate(divide="ignore"):
        return float(0.5 * np.sum((flux - flux.T)[pairs] * (np.log(flux[pairs]) - np.log(flux.T[pairs]))))


def boltzmann_rates(energies: np.ndarray, size: int) -> np.ndarray:
    """A chain of levels with Metropolis rates min(1, e^(−ΔE)) between neighbours: detailed balance with e^(−E)."""
    rates, i = np.zeros((size, size)), np.arange(size - 1)
    rates[i + 1, i] = np.minimum(1, np.exp(energies[:-1] - energies[1:]))
    rates[i, i + 1] = np.minimum(1, np.exp(energies[1:] - energies[:-1]))
    return rates


def ring_rates(forward: float, backward: float, size: int = 3) -> np.ndarray:
    rates, i = np.zeros((size, size)), np.arange(size)
    rates[(i + 1) % size, i], rates[i, (i + 1) % size] = forward, backward
    return rates


def path_entropies(forward: float, backward: float, start: np.ndarray, end: float, n: int, seed: int) -> tuple:
    """(S of each simulated path on the ring, weight of each path, net turns). Paths start from `start` by strata."""
    p_end = expm(generator_of(ring_rates(forward, backward)) * end) @ start
    totals, weights, turns = [], [], []
    for site in range(3):
        network = parse_network(RING.format(*np.eye(3, dtype=int)[site], k=forward, l=backward))
        count = max(1, round(n * start[site]))
        states = simulate(network, [end], count, seed + site, keep=True)["states"][0]
        net = states[3] - states[4]
        totals.append(np.log(start[site] / p_end[np.argmax(states[:3], axis=0)]) + net * np.log(forward / backward))
        weights.append(np.full(count, start[site] / count))
        turns.append(net)
    return np.concatenate(totals), np.concatenate(weights), np.concatenate(turns)


# ---------------------------------------------------------------- evaluation
def relax(rates: np.ndarray, start: np.ndarray, times: np.ndarray) -> dict:
    """D, σ and the largest rise of D along the way."""
    rest, generator = stationary(rates), generator_of(rates)
    step, p, distances, productions = expm(generator * (times[1] - times[0])), start, [], []
    for _ in times:
        distances.append(relative_entropy(p, rest))
        productions.append(entropy_production(rates, p))
        p = step @ p
    return {"distance": np.array(distances), "production": np.array(productions),
            "largest_rise": float(np.diff(distances).max()), "production_at_rest": entropy_production(rates, rest)}


# ---------------------------------------------------------------- figures
def plot_relaxation(times: np.ndarray, runs: dict) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for label, run in runs.items():
        axes.semilogy(times, np.maximum(run["distance"], 1e-16), label=label)
    axes.set(xlabel="time", ylabel="relative entropy D(p(t) ‖ π), nats", ylim=(1e-12, None),
             title="it falls, with detailed balance and without")
    axes.legend(fontsize=8)
    return figure


def plot_fluctuations(forces: np.ndarray, productions: np.ndarray, net: np.ndarray, rates: tuple, end: float) -> Figure:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    fine = np.linspace(forces[0], forces[-1], 200)
    left.plot(fine, (np.exp(fine) - 1) * fine, "k:", label="(k₊ − k₋) ln(k₊/k₋)")
    left.plot(forces, productions, "o", label="σ from the master equation")
    left.set(xlabel="ln(k₊/k₋), k₋ = 1", ylabel="entropy production at rest, nats/time")
    left.legend()
    turns = np.arange(1, 12)
    counts = np.array([[np.count_nonzero(net == k), np.count_nonzero(net == -k)] for k in turns])
    turns, counts = turns[counts.min(axis=1) > 20], counts[counts.min(axis=1) > 20]
    force = np.log(rates[0] / rates[1])
    right.errorbar(turns * force, np.log(counts[:, 0] / counts[:, 1]), yerr=2 * np.sqrt((1 / counts).sum(axis=1)),
                   fmt="o",
                   capsize=3, label=f"simulated paths to t = {end:g}, ± 2 s.e.")
    right.plot(turns * force, turns * force, "k:", label="ln P(S)/P(−S) = S")
    right.set(xlabel="entropy S of a path, nats", ylabel="ln P(S)/P(−S)")
    right.legend()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--paths", type=int, default=400_000, help="simulated paths of the fluctuation theorem")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.paths < 1000:
        parser.error(f"--paths {args.paths}: must be at least 1000")
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


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(args.seed), 20_000 if args.quick else args.paths
    times, energies = np.linspace(0, 30, 301), np.array([0.0, 1.5, 0.5, 2.0, -0.5, 1.0])
    level = boltzmann_rates(energies, 6)
    runs = {"energy levels (detailed balance)": relax(level, np.eye(6)[3], times),
            "ring, k₊ = k₋ = 1": relax(ring_rates(1, 1, 6), np.eye(6)[0], times),
            "ring, k₊ = 2, k₋ = 1 (driven)": relax(ring_rates(2, 1, 6), np.eye(6)[0], times),
            "random W": relax(rng.exponential(size=(6, 6)) / 6, np.eye(6)[0], times)}
    metrics = {"largest_rise": {k: r["largest_rise"] for k, r in runs.items()},
               "production_at_rest": {k: r["production_at_rest"] for k, r in runs.items()}}
    rest = stationary(level)
    metrics["boltzmann_error"] = np.abs(rest - np.exp(-energies) / np.exp(-energies).sum()).max()
    # free energy F = Σ p (E + ln p) = D(p‖π) − ln Z, so dF/dt = −σ exactly when there is detailed balance
    p, h = expm(generator_of(level)) @ np.eye(6)[3], 1e-4
    ahead, behind = (relative_entropy(expm(generator_of(level) * s) @ p, rest) for s in (h, -h))
    metrics["free_energy_slope_plus_production"] = (ahead - behind) / (2 * h) + entropy_production(level, p)
    forces = np.linspace(-2, 2, 9)
    productions = np.array([entropy_production(ring_rates(np.exp(f), 1), np.full(3, 1 / 3)) for f in forces])
    metrics["ring"] = {"production": entropy_production(ring_rates(2, 1), stationary(ring_rates(2, 1))),
                       "theory": np.log(2),
                       "largest_difference": np.abs(productions - (np.exp(forces) - 1) * forces).max()}
    for name, start, end in (("at_rest", np.full(3, 1 / 3), 1.0), ("from_off_rest", np.array([0.6, 0.3, 0.1]), 1.0)):
        entropies, weights, net = path_entropies(2.0, 1.0, start, end, paths, args.seed + 17)
        values = np.exp(-entropies)
        average = float(weights @ values)
        error = float(np.sqrt(np.sum(weights ** 2 * (values - average) ** 2)))
        metrics[name] = {"mean_exp_minus_S": average, "standard_error": error, "z": (average - 1) / error,
                         "mean_S": float(weights @ entropies),
                         "fraction_negative_S": float(weights @ (entropies < -1e-9))}
        if name == "at_rest":   # net turns are a difference of Poisson numbers
            metrics[name]["entropy_per_time"] = metrics[name]["mean_S"] / end
            metrics[name]["fraction_negative_exact"] = float(skellam.cdf(-1, 2 * end, end))
            kept = net
        print(f"fluctuation theorem, {name}: ⟨e^−S⟩ = {average:.4f} ± {error:.4f}, ⟨S⟩ = {metrics[name]['mean_S']:.4f}")
    print(f"largest rise of D: {max(metrics['largest_rise'].values()):.1e}; at rest σ: "
          + ", ".join(f"{k} {v:.3g}" for k, v in metrics["production_at_rest"].items()))
    figures = ["h_theorem_relaxation.png", "h_theorem_fluctuations.png"]
    plot_relaxation(times, runs).savefig(args.out_dir / figures[0], dpi=150)
    plot_fluctuations(forces, productions, kept, (2.0, 1.0), 1.0).savefig(args.out_dir / figures[1], dpi=150)
    return save_results(args, "h_theorem", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
