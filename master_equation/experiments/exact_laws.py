"""Where the answer is known: solvers and simulation against closed-form laws.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/experiments/exact_laws.py
Laws:    random walk: Skellam    immigration–death: Poisson    isomerisation: binomial
         telegraph gene: Beta–Poisson    Ehrenfest's urn: eigenvalues −2k
         Schlögl's two humps: stationary law by detailed balance
Symbols: p → law of the solver   closed → the formula   χ² → simulated histogram against it
Differs from the article: it has no examples.
"""

import sys
from pathlib import Path

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from reaction_network import load_network
from state_space import birth_death_rates, build, eigen, lost, solve, solve_within, stationary_law
from stochastic_simulation import simulate
from tau_leaping import tau_leap

HUMPS = 1200  # highest count of the Schlögl model that is kept
VALLEY = 256  # the least likely count between its two humps
LEAP = 0.01  # of tau-leaping on it


def flags(parser):
    number = "trajectories of Schlögl; the others take four times as many"
    parser.add_argument("--trajectories", type=cli.between(100, 10**7), default=8192, help=number)
    parser.add_argument("--seed", **cli.SEED)


# ---------------------------------------------------------------- formulas
def beta_poisson(n: np.ndarray, on: float, off: float, rate: float) -> np.ndarray:
    """Stationary count of a telegraph gene with unit decay (Peccoud and Ycart 1995):
    p(n) = sⁿ/n! · (a)ₙ/(a+b)ₙ · ₁F₁(a+n; a+b+n; −s), a = on, b = off, s = rate."""
    gammaln = scipy.special.gammaln
    rising = gammaln(on + n) - gammaln(on) - gammaln(on + off + n) + gammaln(on + off)
    logs = n * np.log(rate) - gammaln(n + 1) + rising
    return np.exp(logs) * scipy.special.hyp1f1(on + n, on + off + n, -rate)


def skellam_law(n):
    return scipy.stats.skellam.pmf(n, 10, 10)


def poisson_law(n):
    return scipy.stats.poisson.pmf(n, 100 * -np.expm1(-5))


def binomial_law(n):
    return scipy.stats.binom.pmf(n, 100, (1 + 2 * np.exp(-1.5)) / 3)


def telegraph_law(n):
    return beta_poisson(n, 0.25, 0.15, 15.0)


CLOSED = {  # model: (output, time, law as a function of counts)
    "random-walk": ("x", 10.0, skellam_law),
    "immigration-death": ("X", 50.0, poisson_law),
    "isomerisation": ("A", 10.0, binomial_law),
    "telegraph": ("M", 100.0, telegraph_law),
}


def chi_square(counts: np.ndarray, law: np.ndarray) -> float:
    """p-value of a histogram under a law, cells joined until each expects 10."""
    expected = law * counts.sum()
    cells = []
    seen = want = 0.0
    for count, expectation in zip(counts, expected, strict=True):
        seen = seen + count
        want = want + expectation
        if want >= 10:
            cells.append((seen, want))
            seen = want = 0.0
    cells[-1] = (seen + cells[-1][0], want + cells[-1][1])
    table = np.array(cells)
    table[:, 1] *= table[:, 0].sum() / table[:, 1].sum()
    distance = ((table[:, 0] - table[:, 1]) ** 2 / table[:, 1]).sum()
    return float(scipy.stats.chi2.sf(distance, len(table) - 1))


# ---------------------------------------------------------------- against the formulas
def check_closed(model: str, n: int, seed: int) -> dict:
    """A model's solved and simulated law against its formula."""
    name, end, law = CLOSED[model]
    network, _ = load_network(model)
    space, p, method = solve_within(network, [end], tolerance=1e-12)
    values, table = space.marginal(p, name)
    seen, counts = simulate(network, [end], n, seed, histograms=True)["histograms"][name]
    span = np.arange(min(seen[0], values[0]), max(seen[-1], values[-1]) + 1)
    histogram = np.zeros(len(span))
    histogram[np.searchsorted(span, seen)] = counts[0]
    return {
        "solver": method,
        "states": len(space.start),
        "largest_error": np.abs(table[0] - law(values)).max(),
        "lost": lost(p),
        "simulated_p_value": chi_square(histogram, law(span)),
    }


def check_ehrenfest(size: int = 40) -> dict:
    """Eigenvalues of W̃ and the stationary law of Ehrenfest's urn."""
    network, _ = load_network("ehrenfest")
    space = build(network, {"left": size, "right": size})
    values = np.linalg.eigvals(space.generator.toarray()).real
    p, _ = solve(space, [60.0], "uniformisation")
    binomial = scipy.stats.binom.pmf(space.states[0], size, 0.5)
    return {
        "eigenvalue_error": np.abs(np.sort(values) - np.arange(-2 * size, 1, 2)).max(),
        "stationary_error": np.abs(p[0] - binomial).max(),
    }


# ---------------------------------------------------------------- Schlögl's two humps
def symmetric(space) -> np.ndarray:
    """D^(−1/2) W̃ D^(1/2) of a reversible chain: the same eigenvalues, computed without loss."""
    dense = space.generator.toarray()
    i = np.arange(len(dense) - 1)
    dense[i, i + 1] = dense[i + 1, i] = np.sqrt(dense[i, i + 1] * dense[i + 1, i])
    return dense


def solve_schlogl(times: np.ndarray) -> tuple:
    """(metrics, p (T, N) in order of the counts, stationary law) by the master equation."""
    network, _ = load_network("schlogl")
    space = build(network, {"X": HUMPS})
    order = np.argsort(space.states[0])
    p, method = solve(space, times)
    mean, sd = space.moments(p)
    law = stationary_law(*birth_death_rates(network, HUMPS))
    late = eigen(space.generator, space.start, np.array([2e6]))[0][order]
    found = {
        "solver": method,
        "mean": mean["X"][-1],
        "sd": sd["X"][-1],
        "p_below_256": float(p[-1][space.states[0] < VALLEY].sum()),
        "stationary_error": np.abs(late - law).max(),
        "relaxation_time": -1 / np.sort(np.linalg.eigvalsh(symmetric(space)))[-2],
        "lost": lost(p),
    }
    return found, p[:, order], law


def draw_schlogl(p_low: float, n: int, seed: int) -> tuple:
    """(metrics, histogram of exact simulation, of tau-leaping) at the model's own time."""
    network, end = load_network("schlogl")
    result = simulate(network, [end], n, seed, histograms=True)
    values, counts = result["histograms"]["X"]
    exact = np.bincount(values.astype(int), counts[0], HUMPS + 1)[: HUMPS + 1]
    leaps = tau_leap(network, [end], n, LEAP, "explicit", seed)["states"][0, 0]
    leapt = np.bincount(np.rint(leaps).astype(int), minlength=HUMPS + 1)[: HUMPS + 1]
    share = exact[:VALLEY].sum() / n
    found = {
        "p_below_256_simulated": share,
        "simulated_z": (share - p_low) / np.sqrt(p_low * (1 - p_low) / n),
        "p_below_256_leaping": leapt[:VALLEY].sum() / n,
        "tau": LEAP,
        "events": result["events"],
    }
    return found, exact / n, leapt / n


# ---------------------------------------------------------------- figures
def plot_humps(p: np.ndarray, exact: np.ndarray, leapt: np.ndarray, law: np.ndarray):
    figure, axes = cli.subplots(height=4.2)
    width = 10
    edges = np.arange(0, 900, width)
    bars = np.add.reduceat(exact, edges)[:-1] / width
    axes.stairs(bars, edges, color="C1", fill=True, alpha=0.35, label="exact simulation")
    axes.stairs(np.add.reduceat(leapt, edges)[:-1] / width, edges, color="C2", label="tau-leaping")
    axes.plot(p[-1], color="C0", label="master equation, t = 4")
    axes.plot(law, "k:", lw=1, label="stationary law (t ≫ 39,000)")
    axes.set(xlabel="count of X", ylabel="probability", xlim=(0, 850), ylim=(0, 0.0125))
    axes.set_title("Schlögl model, started at X = 250")
    axes.legend()
    return figure


def plot_heat(times: np.ndarray, p: np.ndarray, seed: int):
    network, end = load_network("schlogl")
    fine = np.linspace(0, end, 300)
    paths = simulate(network, fine, 3, seed + 1, keep=True)["states"][:, 0]
    figure, axes = cli.subplots(height=4.2)
    shade = np.sqrt(p[:, :800].reshape(len(p), -1, 4).sum(axis=2)).T
    options = {"shading": "nearest", "cmap": "Blues", "vmax": 0.25, "rasterized": True}
    image = axes.pcolormesh(times, np.arange(0, 800, 4), shade, **options)
    axes.plot(fine, paths, lw=0.9)
    axes.set(xlabel="time", ylabel="count of X")
    axes.set_title("p(x, t) of the master equation, and three paths of the same process")
    figure.colorbar(image, label="√ probability of four counts")
    return figure


# ---------------------------------------------------------------- main
def main(args):
    n = 500 if args.quick else args.trajectories
    metrics = {}
    for k, model in enumerate(CLOSED):
        metrics[model] = found = check_closed(model, 4 * n, args.seed + 10 * k)
        print(
            f"{model}: solver off by {found['largest_error']:.1e}, "
            f"simulation p-value {found['simulated_p_value']:.2f}"
        )
    metrics["ehrenfest"] = check_ehrenfest()
    print(f"Ehrenfest: eigenvalues off by {metrics['ehrenfest']['eigenvalue_error']:.1e}")

    times = np.linspace(0, 4, 81)
    solved, p, law = solve_schlogl(times)
    drawn, exact, leapt = draw_schlogl(solved["p_below_256"], n, args.seed)
    metrics["schlogl"] = solved | drawn
    print(
        f"Schlögl at t = 4: mean {solved['mean']:.4f}, P(X < 256) {solved['p_below_256']:.4f}, "
        f"simulated {drawn['p_below_256_simulated']:.4f}"
    )
    figures = {
        "exact_laws_humps": plot_humps(p, exact, leapt, law),
        "exact_laws_heat": plot_heat(times, p, args.seed),
    }
    return metrics, [], figures


if __name__ == "__main__":
    cli.run(main, flags)
