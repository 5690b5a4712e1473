"""Where the answer is known: the solvers and the simulation against closed-form laws, and Schlögl's two humps.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/exact_laws.py
Time:    12 s on one core (AMD EPYC 2.6 GHz), 0.3 GB

Laws:    random walk: Skellam    immigration–death: Poisson    isomerisation: binomial    telegraph gene: Beta–Poisson
         Ehrenfest's urn: eigenvalues −2k    Schlögl: stationary law by detailed balance
Symbols: p → law (solver)   closed → the formula   chi² → simulated histogram against the formula
Differs from the article: it has no examples.
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
from scipy.special import gammaln, hyp1f1
from scipy.stats import binom, chi2, poisson, skellam

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from master_equation.fokker_planck import schlogl_rates, stationary_law
from master_equation.networks import load_network
from master_equation.state_space import build, eigen, lost, solve, solve_within
from master_equation.stochastic_simulation import simulate
from master_equation.tau_leaping import tau_leap

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- method
def beta_poisson(n: np.ndarray, on: float, off: float, rate: float) -> np.ndarray:
    """Stationary count of a telegraph gene with unit decay (Peccoud and Ycart 1995):
    p(n) = sⁿ/n! · (a)ₙ/(a+b)ₙ · ₁F₁(a+n; a+b+n; −s), a = on, b = off, s = rate."""
    logs = (n * np.log(rate) - gammaln(n + 1) + gammaln(on + n) - gammaln(on) - gammaln(on + off + n)
            + gammaln(on + off))
    return np.exp(logs) * hyp1f1(on + n, on + off + n, -rate)


CLOSED = {   # model: (output, time, law as a function of counts)
    "random-walk": ("x", 10.0, lambda n: skellam.pmf(n, 10, 10)),
    "immigration-death": ("X", 50.0, lambda n: poisson.pmf(n, 100 * -np.expm1(-5))),
    "isomerisation": ("A", 10.0, lambda n: binom.pmf(n, 100, (1 + 2 * np.exp(-1.5)) / 3)),
    "telegraph": ("M", 100.0, lambda n: beta_poisson(n, 0.25, 0.15, 15.0)),
}


def chi_square(counts: np.ndarray, law: np.ndarray) -> float:
    """p-value of a histogram under a law, cells joined until each expects 10."""
    expected, cells = law * counts.sum(), []
    seen = want = 0.0
    for count, expectation in zip(counts, expected):
        seen, want = seen + count, want + expectation
        if want >= 10:
            cells.append((seen, want))
            seen = want = 0.0
    seen, want = seen + cells[-1][0], want + cells[-1][1]
    cells[-1] = (seen, want)
    table = np.array(cells)
    table[:, 1] *= table[:, 0].sum() / table[:, 1].sum()
    return float(chi2.sf(((table[:, 0] - table[:, 1]) ** 2 / table[:, 1]).sum(), len(table) - 1))


# ---------------------------------------------------------------- evaluation
def check_closed(model: str, n: int, seed: int) -> dict:
    name, end, law = CLOSED[model]
    network, _ = load_network(model)
    space, p, method = solve_within(network, [end], tolerance=1e-12)
    low, table = space.marginal(p, name)
    solved_error = np.abs(table[0] - law(low + np.arange(table.shape[1]))).max()
    result = simulate(network, [end], n, seed, histograms=True)
    low, counts = result["histograms"][name]
    solved = space.outputs()[name].astype(int)
    span = np.arange(min(low, solved.min()), max(low + counts.shape[1], solved.max() + 1))
    full = np.zeros(len(span))
    full[low - span[0]:low - span[0] + counts.shape[1]] = counts[0]
    return {"solver": method, "states": len(space.start), "largest_error": solved_error, "lost": lost(p),
            "simulated_p_value": chi_square(full, law(span))}


def check_ehrenfest(size: int = 40) -> dict:
    network, _ = load_network("ehrenfest")
    space = build(network, {"left": size, "right": size})
    values = np.linalg.eigvals(space.generator.toarray()).real
    p, _ = solve(space, [60.0], "uniformisation")
    return {"eigenvalue_error": np.abs(np.sort(values) - np.arange(-2 * size, 1, 2)).max(),
            "stationary_error": np.abs(p[0] - binom.pmf(space.states[0], size, 0.5)).max()}


def check_schlogl(times: np.ndarray, n: int, tau: float, seed: int) -> tuple:
    network, end = load_network("schlogl")
    space = build(network, {"X": 1200})
    order = np.argsort(space.states[0])
    p, method = solve(space, times)
    mean, sd = space.moments(p)
    law = stationary_law(*schlogl_rates(1200))
    late = eigen(space.generator, space.start, np.array([2e6]))[0][order]
    result = simulate(network, [end], n, seed, histograms=True)
    leaps = tau_leap(network, [end], n, tau, "explicit", seed)
    low, counts = result["histograms"]["X"]
    below = int(counts[0][:256 - low].sum())
    leap_counts = np.bincount(np.rint(leaps["states"][0, 0]).astype(int), minlength=1201)[:1201]
    p_low = float(p[-1][space.states[0] < 256].sum())
    metrics = {"solver": method, "mean": mean["X"][-1], "sd": sd["X"][-1], "p_below_256": p_low,
               "p_below_256_simulated": below / n,
               "simulated_z": (below / n - p_low) / np.sqrt(p_low * (1 - p_low) / n),
               "p_below_256_leaping": float(leap_counts[:256].sum() / n), "tau": tau, "events": result["events"],
               "stationary_error": np.abs(late - law).max(),
               "relaxation_time": -1 / np.sort(np.linalg.eigvalsh(symmetric(space)))[-2], "lost": lost(p)}
    fine = np.linspace(0, end, 300)
    paths = simulate(network, fine, 3, seed + 1, keep=True)["states"][:, 0]
    return metrics, (p[:, order], low, counts[0] / n, leap_counts / n, fine, paths)


def symmetric(space) -> np.ndarray:
    dense = space.generator.toarray()
    i = np.arange(len(dense) - 1)
    dense[i, i + 1] = dense[i + 1, i] = np.sqrt(dense[i, i + 1] * dense[i + 1, i])
    return dense


# ---------------------------------------------------------------- figures
def plot_humps(p: np.ndarray, low: int, simulated: np.ndarray, leaps: np.ndarray, law: np.ndarray) -> Figure:
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes, width = figure.subplots(), 10
    edges = np.arange(0, 900, width)
    full = np.zeros(1201)
    full[low:low + len(simulated)] = simulated[:1201 - low]
    axes.stairs(np.add.reduceat(full, edges)[:-1] / width, edges, color="C1", fill=True, alpha=0.35,
                label="exact simulation")
    axes.stairs(np.add.reduceat(leaps, edges)[:-1] / width, edges, color="C2", label="tau-leaping")
    axes.plot(p[-1], color="C0", label="master equation, t = 4")
    axes.plot(law, "k:", lw=1, label="stationary law (t ≫ 39,000)")
    axes.set(xlabel="count of X", ylabel="probability", xlim=(0, 850), ylim=(0, 0.0125),
             title="Schlögl model from X = 250")
    axes.legend()
    return figure


def plot_heat(times: np.ndarray, p: np.ndarray, fine: np.ndarray, paths: np.ndarray) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    image = axes.pcolormesh(times, np.arange(0, 800, 4), np.sqrt(p[:, :800].reshape(len(p), -1, 4).sum(axis=2)).T,
                            shading="nearest", cmap="Blues", vmax=0.25, rasterized=True)
    axes.plot(fine, paths, lw=0.7)
    axes.set(xlabel="time", ylabel="count of X",
             title="the master equation's p(x, t) and three paths of the same process")
    figure.colorbar(image, label="√p of four counts")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=8192,
                        help="trajectories of Schlögl; the others take four times")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.trajectories < 100:
        parser.error(f"--trajectories {args.trajectories}: must be at least 100")
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
    n, metrics = 500 if args.quick else args.trajectories, {}
    for k, model in enumerate(CLOSED):
        metrics[model] = check_closed(model, 4 * n, args.seed + 10 * k)
        print(f"{model}: solver off by {metrics[model]['largest_error']:.1e}, simulation p-value "
              f"{metrics[model]['simulated_p_value']:.2f}")
    metrics["ehrenfest"] = check_ehrenfest()
    times = np.linspace(0, 4, 81)
    metrics["schlogl"], (p, low, simulated, leaps, fine, paths) = check_schlogl(times, n, 0.01, args.seed)
    print(f"Ehrenfest: eigenvalues off by {metrics['ehrenfest']['eigenvalue_error']:.1e}; Schlögl at t = 4: mean "
          f"{metrics['schlogl']['mean']:.4f}, P(X < 256) {metrics['schlogl']['p_below_256']:.4f}, simulated "
          f"{metrics['schlogl']['p_below_256_simulated']:.4f}")
    figures = ["exact_laws_humps.png", "exact_laws_heat.png"]
    law = stationary_law(*schlogl_rates(1200))
    plot_humps(p, low, simulated, leaps, law).savefig(args.out_dir / figures[0], dpi=150)
    plot_heat(times, p, fine, paths).savefig(args.out_dir / figures[1], dpi=150)
    return save_results(args, "exact_laws", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
