"""The article's derivation, run: every step from the Markov property to the master equation as a number that can fail.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/derivation.py
Time:    3 s on one core (AMD EPYC 2.6 GHz)

Steps:   1 p(x,τ) = ∫ p(x,τ|y,t) p(y,t) dy                    chapman_kolmogorov
         2 p(x,t+ε|y,t) = δ(x−y) + εW̃(x,y,t)                  step_error, falls as ε²
         3 ∂p/∂t = ∫ W̃ p dy                                   first_form
         4 ∫ W̃ dx = 0                                         column_sums
         5 W̃ = W − δ(x−y) ∫ W(z,y) dz, any W                  constrain
         6 ∂p/∂t = ∫ [W(x,y) p(y) − W(y,x) p(x)] dy           master_equation
Symbols: W → rates[to, from]   W̃ → generator[to, from]   p → p   ε → epsilon
Differs from the article: x is discrete, or a grid; the Ornstein–Uhlenbeck process stands for a continuous x, since its
kernel is known; W depends on time in one check. C4.6 (W ≥ 0 is needed for p ≥ 0) is not in the article.
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
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.stats import norm

HERE = Path(__file__).resolve().parent
THETA, DIFFUSION = 1.0, 0.5   # Ornstein–Uhlenbeck: dx = −θx dt + √(2D) dB; at rest a normal law of variance D/θ


# ---------------------------------------------------------------- method
def constrain(rates: np.ndarray) -> np.ndarray:
    """W̃ = W − diag(column sums of W), from any W (step 5)."""
    return rates - np.diag(rates.sum(axis=0))


def first_form(generator: np.ndarray, p: np.ndarray) -> np.ndarray:
    """∂p/∂t = ∫ W̃(x,y) p(y) dy (step 3)."""
    return generator @ p


def master_equation(rates: np.ndarray, p: np.ndarray) -> np.ndarray:
    """∂p/∂t = ∫ [W(x,y) p(y) − W(y,x) p(x)] dy (step 6), as gain minus loss, term by term."""
    return (rates * p[None, :] - rates.T * p[:, None]).sum(axis=1)


def propagator(generator_at, start: float, stop: float) -> np.ndarray:
    """p(x, stop | y, start) of a time-dependent generator: dP/dt = W̃(t)·P from P = 1."""
    size = len(generator_at(start))
    result = solve_ivp(lambda t, flat: (generator_at(t) @ flat.reshape(size, size)).ravel(), (start, stop),
                       np.eye(size).ravel(), "DOP853", rtol=1e-13, atol=1e-15)
    return result.y[:, -1].reshape(size, size)


def chapman_kolmogorov(whole: np.ndarray, second: np.ndarray, first: np.ndarray) -> float:
    """Largest entry of P(t₂|t₀) − P(t₂|t₁)·P(t₁|t₀): zero for a Markov process (step 1)."""
    return float(np.abs(whole - second @ first).max())


def ou_kernel(x: np.ndarray, y: np.ndarray, t: float) -> np.ndarray:
    """p(x,t|y,0) of the Ornstein–Uhlenbeck process."""
    return norm.pdf(x, y * np.exp(-THETA * t), np.sqrt(DIFFUSION / THETA * -np.expm1(-2 * THETA * t)))


def ou_rates(x: np.ndarray) -> np.ndarray:
    """W ≥ 0 between neighbours of a grid: rate = D/h² · B(±θx̄h/D), B(u) = u/(e^u − 1), in detailed
    balance with e^(−θx²/2D)."""
    h = x[1] - x[0]
    u = THETA * (x[1:] + x[:-1]) / 2 * h / DIFFUSION
    u = np.where(np.abs(u) < 1e-12, 1e-12, u)
    rates = np.zeros((len(x), len(x)))
    i = np.arange(len(x) - 1)
    rates[i + 1, i] = DIFFUSION / h ** 2 * u / np.expm1(u)       # uphill for x > 0
    rates[i, i + 1] = DIFFUSION / h ** 2 * -u / np.expm1(-u)
    return rates


def ou_step_error(epsilon: float, x: np.ndarray, mean: float = 1.0, variance: float = 0.3) -> float:
    """max |∫p(x,ε|y)p(y)dy − p − ε∫W̃p dy| for a normal density p; with W̃p = ∂(θxp)/∂x + D ∂²p/∂x², all in closed
    form."""
    p = norm.pdf(x, mean, np.sqrt(variance))
    slope = -(x - mean) / variance * p
    curvature = ((x - mean) ** 2 / variance ** 2 - 1 / variance) * p
    decay = np.exp(-THETA * epsilon)
    later = variance * decay ** 2 + DIFFUSION / THETA * -np.expm1(-2 * THETA * epsilon)
    exact = norm.pdf(x, mean * decay, np.sqrt(later))
    return float(np.abs(exact - p - epsilon * (THETA * (p + x * slope) + DIFFUSION * curvature)).max())


def slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


# ---------------------------------------------------------------- evaluation
def check_discrete(rng: np.random.Generator, size: int) -> tuple:
    """Steps 1–6 for random W on `size` states, with W̃ built by the article's trick."""
    rates = rng.exponential(size=(size, size)) * (rng.random((size, size)) < 0.5)   # diagonal included: any W will do
    generator, p = constrain(rates), rng.dirichlet(np.ones(size))
    m = {"column_sums": np.abs(generator.sum(axis=0)).max(),
         "chapman_kolmogorov": chapman_kolmogorov(expm(generator * 0.5), expm(generator * 0.3), expm(generator * 0.2)),
         "two_forms": np.abs(first_form(generator, p) - master_equation(rates, p)).max() / np.abs(generator * p).max(),
         "diagonal_generator": np.abs(constrain(rates + np.diag(rng.normal(size=size))) - generator).max()}
    epsilons = 10.0 ** np.arange(-5, -1.4, 0.5) / np.abs(generator).max()
    errors = np.array([np.abs(expm(generator * e) - np.eye(size) - e * generator).max() for e in epsilons])
    m |= {"step_slope": slope(epsilons[2:], errors[2:]), "step_constant": errors[3] / epsilons[3] ** 2,
          "half_square": np.abs(generator @ generator).max() / 2}
    p_later = np.array([expm(generator * t) @ p for t in (0.1, 1, 10, 100)])
    m |= {"kept": np.abs(p_later.sum(axis=1) - 1).max(), "lowest": p_later.min(), "stationary_residual":
          np.abs(generator @ p_later[-1]).max()}
    # a W that swings with time, the article's W(x,y,t)
    other = rng.exponential(size=(size, size))
    def at(t):
        return constrain(rates * (1 + 0.5 * np.sin(3 * t)) + other * np.cos(t) ** 2)
    m["chapman_kolmogorov_time_dependent"] = chapman_kolmogorov(propagator(at, 0, 0.5), propagator(at, 0.2, 0.5),
                                                                propagator(at, 0, 0.2))
    steps = np.array([1e-3, 3e-3, 1e-2]) / np.abs(generator).max()
    m["step_slope_time_dependent"] = slope(steps, np.array(
        [np.abs(propagator(at, 0.2, 0.2 + e) - np.eye(size) - e * at(0.2)).max() for e in steps]))
    return m, (epsilons * np.abs(generator).max(), errors)


def check_hidden_state() -> float:
    """Lump two of three states: the observed process is not Markov, and Chapman–Kolmogorov must fail."""
    generator = constrain(np.array([[0, 0, 2.0], [1, 0, 0], [0, 3, 0]]))
    rest = np.linalg.svd(generator)[2][-1] / np.linalg.svd(generator)[2][-1].sum()
    lump, spread = np.array([[1, 0, 0], [0, 1, 1.0]]), np.array([[1, 0], [0, rest[1]], [0, rest[2]]])
    spread[1:, 1] /= spread[1:, 1].sum()
    def seen(t):
        return lump @ expm(generator * t) @ spread
    return chapman_kolmogorov(seen(1.0), seen(0.5), seen(0.5))


def check_continuous(points: int) -> tuple:
    """The Ornstein–Uhlenbeck process: kernel, W̃ as an operator on densities, and W on a grid of `points`."""
    x = np.linspace(-8, 8, 801)
    h = x[1] - x[0]
    inner = np.linspace(-2, 2, 41)
    whole = ou_kernel(x[:, None], inner, 0.5)
    composed = ou_kernel(x[:, None], x, 0.3) * h @ ou_kernel(x[:, None], inner, 0.2)
    m = {"chapman_kolmogorov": np.abs(whole - composed).max(), "kernel_norm": np.abs(whole.sum(axis=0) * h - 1).max()}
    epsilons = 10.0 ** np.arange(-4, -0.9, 0.5)
    errors = np.array([ou_step_error(e, x) for e in epsilons])
    m |= {"step_slope": slope(epsilons[:4], errors[:4]),
          "column_integral": np.abs(((ou_kernel(x[:, None], inner, 0.01).sum(axis=0) * h) - 1) / 0.01).max()}
    spacings, distances = [], []
    for n in (points // 4, points // 2, points):
        grid = np.linspace(-5, 5, n + 1)
        generator = constrain(ou_rates(grid))
        step, start = grid[1] - grid[0], norm.pdf(grid, 1, 0.5)
        later = expm(generator * 0.5) @ start
        decay = np.exp(-0.5 * THETA)
        exact = norm.pdf(grid, decay, np.sqrt(0.25 * decay ** 2 + DIFFUSION / THETA * -np.expm1(-THETA)))
        spacings.append(step)
        distances.append(np.abs(later - exact).max())
        m |= {"grid_kept": abs((later.sum() - start.sum()) * step), "grid_lowest": later.min()}
    return m | {"grid_slope": slope(spacings, distances), "grid_error": distances[-1]}, (epsilons, errors)


def check_broken(rng: np.random.Generator, size: int, draws: int) -> tuple:
    """What goes wrong: W̃ taken without the constraint, and a W with negative entries. Returns metrics and curves."""
    drifts, kept, negative, lowest, t = [], [], [], [], np.linspace(0, 3, 61)
    for _ in range(draws):
        rates, p = rng.exponential(size=(size, size)) / size, rng.dirichlet(np.ones(size))
        bare = rates - np.diag(rng.exponential(size=size))     # a W̃ written down without ∫W̃dx = 0
        signed = rates.copy()
        signed[0, 1] = -0.5                                     # W(0←1) < 0
        drifts.append(abs((expm(bare) @ p).sum() - 1))
        kept.append(abs((expm(constrain(signed)) @ p).sum() - 1))   # any W, even this one, keeps Σp
        negative.append((expm(constrain(signed) * 0.01) @ np.eye(size)[1])[0])
        lowest.append((expm(constrain(rates) * 0.01) @ np.eye(size)[1]).min())
    curves = (t, [(expm(bare * s) @ p).sum() for s in t], [(expm(constrain(signed) * s) @ p).sum() for s in t],
              [(expm(constrain(signed) * s) @ np.eye(size)[1])[0] for s in t],
              [(expm(constrain(rates) * s) @ np.eye(size)[1])[0] for s in t])
    return {"drift_without_constraint": min(drifts), "drift_any_rates": max(kept),
            "negative_rate_lowest_p": max(negative),
            "nonnegative_rates_lowest_p": min(lowest)}, curves


# ---------------------------------------------------------------- figures
def plot_errors(discrete: tuple, continuous: tuple) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (epsilons, errors), label, marker in ((discrete, "random W on discrete states", "o-"),
                                              (continuous, "Ornstein–Uhlenbeck, continuous x", "s-")):
        axes.loglog(epsilons, errors / errors[-1], marker, label=label)
    axes.loglog(discrete[0], (discrete[0] / discrete[0][-1]) ** 2, "k:", label="slope 2")
    axes.set(xlabel="step ε (discrete: in units of 1/max|W̃|)", ylabel="error of δ + εW̃ (last point = 1)")
    axes.legend()
    return figure


def plot_broken(curves: tuple) -> Figure:
    t, drift, kept, negative, positive = curves
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(t, drift, label="W̃ without the constraint")
    left.plot(t, kept, label="W̃ built from any W")
    left.set(xlabel="time", ylabel="total probability Σp")
    left.legend()
    right.plot(t, negative, label="one W(x,y) < 0")
    right.plot(t, positive, label="W ≥ 0")
    right.axhline(0, color="k", lw=0.7)
    right.set(xlabel="time", ylabel="probability of state 0, from state 1")
    right.legend()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--states", type=int, default=40, help="states of the random W, 3 to 200")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if not 3 <= args.states <= 200:
        parser.error(f"--states {args.states}: must lie in 3…200")
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
    rng, size = np.random.default_rng(args.seed), 8 if args.quick else args.states
    d, discrete_curve = check_discrete(rng, size)
    c, continuous_curve = check_continuous(100 if args.quick else 400)
    b, broken_curves = check_broken(rng, size, 20 if args.quick else 200)
    hidden = check_hidden_state()
    print(f"step 1, Chapman–Kolmogorov: discrete {d['chapman_kolmogorov']:.1e}, W(t) "
          f"{d['chapman_kolmogorov_time_dependent']:.1e}, "
          f"Ornstein–Uhlenbeck {c['chapman_kolmogorov']:.1e}; a process with a hidden state fails by {hidden:.2f}")
    figures = ["derivation_error.png", "derivation_constraint.png"]
    plot_errors(discrete_curve, continuous_curve).savefig(args.out_dir / figures[0], dpi=150)
    plot_broken(broken_curves).savefig(args.out_dir / figures[1], dpi=150)
    slopes = (d["step_slope"], d["step_slope_time_dependent"], c["step_slope"])
    ratio = d["step_constant"] / d["half_square"]
    rows = [("C4.1", "∫W̃dx = 0 keeps Σp = 1 for all times", "conserved",
             f"|Σp − 1| ≤ {d['kept']:.1e} discrete, {c['grid_kept']:.1e} on a grid",
             max(d["kept"], c["grid_kept"]) < 1e-11),
            ("C4.2", "the two forms agree for W̃ = W − δ∫W", "identical", f"relative difference {d['two_forms']:.1e}",
             d["two_forms"] < 1e-14),
            ("C4.3", "p(x,t+ε|y,t) = δ + εW̃ up to O(ε²)", "slope 2",
             (f"slopes {slopes[0]:.3f} discrete, {slopes[1]:.3f} W(t), {slopes[2]:.3f} continuous; "
              f"error/ε² = {ratio:.4f} × max|W̃²|/2"),
             all(abs(s - 2) < 0.03 for s in slopes) and abs(ratio - 1) < 0.01),
            ("C4.4", "a W̃ without ∫W̃dx = 0 loses normalisation, any W keeps it", "only the first drifts",
             f"at t = 1 |Σp − 1| ≥ {b['drift_without_constraint']:.1e} against ≤ {b['drift_any_rates']:.1e}",
             b["drift_without_constraint"] > 1e-6 and b["drift_any_rates"] < 1e-12),
            ("C4.5", "the diagonal of W is irrelevant", "W̃ unchanged", f"W̃ moves by {d['diagonal_generator']:.1e}",
             d["diagonal_generator"] < 1e-13),
            ("C4.6", "p ≥ 0 needs W ≥ 0 off the diagonal (not in the article)", "negative p if and only if some W < 0",
             (f"a negative rate: p down to {b['negative_rate_lowest_p']:.1e} or less; W ≥ 0: never below "
             f"{min(d['lowest'], b['nonnegative_rates_lowest_p']):.1e}"),
             b["negative_rate_lowest_p"] < -1e-6 and min(d["lowest"], b["nonnegative_rates_lowest_p"]) > -1e-14)]
    claims = [dict(zip(("id", "claim", "expected", "measured", "holds"), (*row[:4], bool(row[4])))) for row in rows]
    metrics = {"discrete": d, "continuous": c, "broken": b, "chapman_kolmogorov_hidden_state": hidden}
    return save_results(args, "derivation", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
