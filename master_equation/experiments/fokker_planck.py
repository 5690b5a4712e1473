"""One step past the article: Kramers–Moyal to Fokker–Planck, where right, and where wrong by orders of magnitude.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/fokker_planck.py
Time:    4 s on one core (AMD EPYC 2.6 GHz)

Expand the master equation in the jump: ∂p/∂t = Σ_k (−1)^k/k! ∂^k/∂x^k [α_k(x) p], α_k(x) = ∫ (x'−x)^k W(x',x) dx'.
Keep two terms and it is the Fokker–Planck equation. For single steps up at rate b(n) and down at rate d(n): α₁ = b − d,
α₂ = b + d, and the rest is as large: α₃ = α₁, α₄ = α₂. It works where p is smooth on the scale of a jump.

Symbols: α₁ → drift   α₂ → spread   T → mean time
Right:  a long random walk; a stationary law near its mode.   Wrong: rare events, here the extinction of an infection
        (SIS: b = R n (1 − n/N), d = n), whose mean time grows as e^(cN) with c = ln R − 1 + 1/R exactly and
        c = 2(1 − 1/R) + (4/R) ln(2/(1+R)) by Fokker–Planck (Doering, Sargsyan and Sander 2005).
Differs from the article: the article has no Fokker–Planck equation.
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
from scipy.special import logsumexp
from scipy.stats import norm, skellam

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from master_equation.networks import load_network
from master_equation.state_space import build, solve

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- method
def extinction_time(birth: np.ndarray, death: np.ndarray, start: int) -> float:
    """Mean time from `start` to 0 of a birth–death chain on 0…N (rates indexed by n), exactly: the time from n to n−1
    is τ_n = (1 + b_n τ_(n+1)) / d_n; T = τ_1 + … + τ_start. Only sums of positive terms."""
    tau = np.zeros(len(birth) + 1)
    for n in range(len(birth) - 1, 0, -1):
        tau[n] = (1 + birth[n] * tau[n + 1]) / death[n]
    return float(tau[1:start + 1].sum())


def passage_time(birth: np.ndarray, death: np.ndarray, start: int, goal: int) -> float:
    """Mean time from `start` up to `goal` > start; the chain is reflected at 0."""
    tau = np.zeros(goal)
    for n in range(goal):
        tau[n] = (1 + (death[n] * tau[n - 1] if n else 0)) / birth[n]
    return float(tau[start:goal].sum())


def fokker_planck_time(drift, spread, start: float, goal: float, wall: float, points: int) -> float:
    """Mean time of dx = α₁dt + √α₂ dB from `start` to `goal`, reflected at `wall`, all on the line:
    T = ∫ dy e^(−Φ(y)) ∫ dz (2/α₂(z)) e^(Φ(z)), Φ = ∫ 2α₁/α₂, y from goal to start, z from y to the wall.
    In logarithms."""
    unit = np.linspace(0, 1, points) ** 2 * (1 - 1e-9) + 1e-9     # dense near the goal, where α₂ may vanish
    x = goal + (wall - goal) * unit
    middle, width = (x[1:] + x[:-1]) / 2, np.abs(np.diff(x))
    sign = np.sign(wall - goal)
    phi = np.concatenate([[0], np.cumsum(2 * drift(middle) / spread(middle) * sign * width)])
    phi_middle = (phi[1:] + phi[:-1]) / 2
    terms = np.log(2 / spread(middle) * width) + phi_middle
    inner = np.logaddexp.accumulate(terms[::-1])[::-1]            # ln ∫_y^wall
    inner = np.append(inner[1:], -np.inf)
    inner = np.logaddexp(inner, terms - np.log(2))                # half of the cell y lies in
    inside = np.abs(middle - goal) < abs(start - goal)
    return float(np.exp(logsumexp((inner - phi_middle + np.log(width))[inside])))


def sis_rates(infectivity: float, size: int) -> tuple:
    n = np.arange(size + 1.0)
    return infectivity * n * (1 - n / size), n


def sis_fokker_planck_time(infectivity: float, size: int, start: int, points: int) -> float:
    def drift(n):
        return infectivity * n * (1 - n / size) - n

    def spread(n):
        return infectivity * n * (1 - n / size) + n
    return fokker_planck_time(drift, spread, start, 0.0, float(size), points)


def stationary_law(birth: np.ndarray, death: np.ndarray) -> np.ndarray:
    """π_n ∝ Π b_(i−1)/d_i."""
    logs = np.append(0, np.cumsum(np.log(birth[:-1] / death[1:])))
    return np.exp(logs - logsumexp(logs))


# ---------------------------------------------------------------- evaluation
def check_random_walk(times) -> dict:
    """Total variation between the walk and its diffusion limit, a normal density of variance 2rt, with r = 1."""
    distances = []
    for t in times:
        n = np.arange(-int(12 * np.sqrt(2 * t) + 30), int(12 * np.sqrt(2 * t) + 30) + 1)
        distances.append(float(0.5 * np.abs(skellam.pmf(n, t, t) - norm.pdf(n, 0, np.sqrt(2 * t))).sum()))
    return {"rt": list(times), "total_variation": distances,
            "slope": float(np.polyfit(np.log(times), np.log(distances), 1)[0])}


def check_coefficients(epsilon: float) -> dict:
    """α_k of immigration–death at n = 50 from its exact propagator over a short time, against b − d and b + d."""
    network, _ = load_network("immigration-death")
    space = build(network, {"X": 120})
    space.start = (space.states[0] == 50).astype(float)
    p, _ = solve(space, [epsilon], "uniformisation")
    jump = space.states[0] - 50.0
    birth, death = 10.0, 0.1 * 50
    return {"epsilon": epsilon, "measured": [float(p[0] @ jump ** k / epsilon) for k in (1, 2, 3, 4)],
            "theory": [birth - death, birth + death] * 2}


def schlogl_rates(highest: int) -> tuple:
    network, _ = load_network("schlogl")
    rates = network.propensities(np.arange(highest + 1.0)[None, :])
    return rates[0] + rates[2], rates[1] + rates[3]


def check_schlogl(points: int) -> tuple:
    birth, death = schlogl_rates(1200)
    law = stationary_law(birth, death)
    n = np.arange(len(law))
    inside = law[1:-1]
    modes = (n[1:-1])[(inside > law[:-2]) & (inside >= law[2:])]
    valley = int(modes[0] + np.argmin(law[modes[0]:modes[1]]))
    x = np.linspace(0, 1200, points)
    b, d = np.interp(x, n, birth), np.interp(x, n, death)
    phi = np.concatenate([[0], np.cumsum((2 * (b - d) / (b + d))[:-1] * np.diff(x))])
    density = np.exp(phi - phi.max()) / (b + d)
    density /= density.sum() * (x[1] - x[0])
    low = float(density[x < valley].sum() * (x[1] - x[0]))
    exact_time = passage_time(birth, death, int(modes[0]), int(modes[1]))
    diffusion_time = fokker_planck_time(lambda v: np.interp(v, n, birth - death),
                                        lambda v: np.interp(v, n, birth + death),
                                        float(modes[0]), float(modes[1]), 0.0, points)
    return {"modes": modes.tolist(), "valley": valley, "p_low": float(law[:valley].sum()), "p_low_fokker_planck": low,
            "switching_time": exact_time, "switching_time_fokker_planck": diffusion_time}, (n, law, x, density)


def check_extinction(infectivities, sizes, points: int) -> dict:
    result = {}
    for infectivity in infectivities:
        rows = []
        for size in sizes:
            start = round(size * (1 - 1 / infectivity))
            exact = extinction_time(*sis_rates(infectivity, size), start)
            rows.append((size, exact, sis_fokker_planck_time(infectivity, size, start, points)))
        rows = np.array(rows)
        (size, *last), (half, *before) = rows[-1], rows[-2]   # T ~ N^(−1/2) e^(cN)
        grow = [float(np.log(t / s * (size / half) ** 0.5) / (size - half)) for t, s in zip(last, before)]
        r = infectivity
        result[str(infectivity)] = {"N": rows[:, 0].tolist(), "exact": rows[:, 1].tolist(),
                                    "fokker_planck": rows[:, 2].tolist(),
                                    "ratio": (rows[:, 2] / rows[:, 1]).tolist(), "growth_exact": grow[0],
                                    "growth_exact_theory": np.log(r) - 1 + 1 / r, "growth_fokker_planck": grow[1],
                                    "growth_fokker_planck_theory": 2 * (1 - 1 / r) + 4 / r * np.log(2 / (1 + r))}
    return result


# ---------------------------------------------------------------- figures
def plot_walk(walk: dict) -> Figure:
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(walk["rt"], walk["total_variation"], "o-", label="random walk against its diffusion limit")
    axes.loglog(walk["rt"], walk["total_variation"][-1] * np.array(walk["rt"][-1]) / np.array(walk["rt"]), "k:",
                label="slope −1")
    axes.set(xlabel="jumps in each direction, rt", ylabel="total variation distance")
    axes.legend()
    return figure


def plot_failure(extinction: dict, schlogl: tuple) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    n, law, x, density = schlogl
    left.semilogy(n, law, color="C0", label="master equation")
    left.semilogy(x, density, "--", color="C6", label="Fokker–Planck")
    left.set(xlabel="count of X", ylabel="stationary probability", ylim=(1e-9, 2e-2), xlim=(0, 900),
             title="Schlögl model")
    left.legend(loc="lower center")
    for k, (infectivity, rows) in enumerate(extinction.items()):
        right.semilogy(rows["N"], rows["exact"], "o-", color=f"C{k + 7}")
        right.semilogy(rows["N"], rows["fokker_planck"], "s--", color=f"C{k + 7}")
        right.annotate(f"R = {infectivity}", (rows["N"][-1], rows["exact"][-1]), xytext=(8, -4),
                       textcoords="offset points", color=f"C{k + 7}")
    right.plot([], [], "ko-", label="master equation")
    right.plot([], [], "ks--", label="Fokker–Planck")
    right.set(xlabel="population N", ylabel="mean time to extinction (recoveries)", title="an infection dies out (SIS)",
              xlim=(0, 195))
    right.legend()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_house_flags(parser)
    return parser.parse_args(argv)


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
    points = 20_001 if args.quick else 200_001
    walk = check_random_walk((1.0, 10.0, 100.0, 1000.0))
    schlogl, laws = check_schlogl(points)
    extinction = check_extinction((1.2, 2.0, 5.0), (10, 20, 40, 80, 160), points)
    metrics = {"random_walk": walk, "jump_moments": check_coefficients(1e-5), "schlogl": schlogl,
               "extinction": extinction}
    print(f"random walk: total variation {[f'{v:.3g}' for v in walk['total_variation']]}, slope {walk['slope']:.3f}")
    print(f"Schlögl: switching time {schlogl['switching_time']:.1f}, Fokker–Planck "
          f"{schlogl['switching_time_fokker_planck']:.1f}")
    for r, rows in extinction.items():
        print(f"extinction, R = {r}, N = {rows['N'][-1]:g}: {rows['exact'][-1]:.4g}, Fokker–Planck / exact "
              f"{rows['ratio'][-1]:.4g}; growth {rows['growth_exact']:.4f} (theory {rows['growth_exact_theory']:.4f}), "
              f"{rows['growth_fokker_planck']:.4f} ({rows['growth_fokker_planck_theory']:.4f})")
    figures = ["fokker_planck_walk.png", "fokker_planck_failure.png"]
    plot_walk(walk).savefig(args.out_dir / figures[0], dpi=150)
    plot_failure(extinction, laws).savefig(args.out_dir / figures[1], dpi=150)
    return save_results(args, "fokker_planck", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
