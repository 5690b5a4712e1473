"""One step past the article: the Fokker–Planck equation, where it is right and where it fails.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/experiments/fokker_planck.py
Expand the master equation in the jump: ∂p/∂t = Σ_k (−1)^k/k! ∂^k/∂x^k [α_k(x) p],
α_k(x) = ∫ (x'−x)^k W(x',x) dx'. Keep two terms and it is the Fokker–Planck equation. For single
steps up at rate b(n) and down at rate d(n): α₁ = b − d, α₂ = b + d, and the rest is as large:
α₃ = α₁, α₄ = α₂. It works where p is smooth on the scale of a jump.

Symbols: α₁ → drift   α₂ → spread   T → mean time
Right:   a long random walk; a stationary law near its mode.
Wrong:   rare events, here the extinction of an infection (SIS: b = R n (1 − n/N), d = n), whose
         mean time grows as e^(cN): exactly with c = ln R − 1 + 1/R, by Fokker–Planck with
         c = 2(1 − 1/R) + (4/R) ln(2/(1+R)) (Doering, Sargsyan and Sander 2005).
Differs from the article: it has no Fokker–Planck equation, which is where textbooks go next.
"""

import sys
from pathlib import Path

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from reaction_network import load_network
from state_space import birth_death_rates, build, solve, stationary_law

WALKS = (1.0, 10.0, 100.0, 1000.0)  # jumps in each direction
INFECTIVITIES = (1.2, 2.0, 5.0)
SIZES = (10, 20, 40, 80, 160)
HUMPS = 1200  # highest count of the Schlögl model that is kept


def flags(parser):
    pass


# ---------------------------------------------------------------- mean times
def extinction_time(birth: np.ndarray, death: np.ndarray, start: int) -> float:
    """Mean time from `start` to 0 of a chain on 0…N with these rates, exactly.

    The time from n to n−1 is τ_n = (1 + b_n τ_(n+1)) / d_n; T = τ_1 + … + τ_start. Only sums of
    positive terms."""
    tau = np.zeros(len(birth) + 1)
    for n in range(len(birth) - 1, 0, -1):
        tau[n] = (1 + birth[n] * tau[n + 1]) / death[n]
    return float(tau[1 : start + 1].sum())


def passage_time(birth: np.ndarray, death: np.ndarray, start: int, goal: int) -> float:
    """Mean time from `start` up to `goal` > start; the chain is reflected at 0."""
    tau = np.zeros(goal)
    for n in range(goal):
        tau[n] = (1 + (death[n] * tau[n - 1] if n else 0)) / birth[n]
    return float(tau[start:goal].sum())


def fokker_planck_time(drift, spread, start: float, goal: float, wall: float, points: int) -> float:
    """Mean time of dx = α₁dt + √α₂ dB from `start` to `goal`, reflected at `wall`:
    T = ∫ dy e^(−Φ(y)) ∫ dz (2/α₂(z)) e^(Φ(z)), Φ = ∫ 2α₁/α₂, y from goal to start, z from y to the
    wall; all in logarithms."""
    unit = np.linspace(0, 1, points) ** 2 * (1 - 1e-9) + 1e-9  # dense where α₂ may vanish
    x = goal + (wall - goal) * unit
    middle = (x[1:] + x[:-1]) / 2
    width = np.abs(np.diff(x))
    sign = np.sign(wall - goal)
    phi = np.concatenate([[0], np.cumsum(2 * drift(middle) / spread(middle) * sign * width)])
    phi_middle = (phi[1:] + phi[:-1]) / 2
    terms = np.log(2 / spread(middle) * width) + phi_middle
    inner = np.logaddexp.accumulate(terms[::-1])[::-1]  # ln ∫ from y to the wall
    inner = np.append(inner[1:], -np.inf)
    inner = np.logaddexp(inner, terms - np.log(2))  # half of the cell that y lies in
    inside = np.abs(middle - goal) < abs(start - goal)
    outer = (inner - phi_middle + np.log(width))[inside]
    return float(np.exp(scipy.special.logsumexp(outer)))


def sis_rates(infectivity: float, size: int) -> tuple:
    """(b, d) of an infection at n = 0 … N infected."""
    n = np.arange(size + 1.0)
    return infectivity * n * (1 - n / size), n


def sis_fokker_planck_time(infectivity: float, size: int, start: int, points: int) -> float:
    def drift(n):
        return infectivity * n * (1 - n / size) - n

    def spread(n):
        return infectivity * n * (1 - n / size) + n

    return fokker_planck_time(drift, spread, start, 0.0, float(size), points)


# ---------------------------------------------------------------- where it is right
def check_random_walk(times) -> dict:
    """Total variation between the walk and its diffusion limit, normal of variance 2rt, r = 1."""
    distances = []
    for t in times:
        width = int(12 * np.sqrt(2 * t) + 30)
        n = np.arange(-width, width + 1)
        walk = scipy.stats.skellam.pmf(n, t, t)
        diffusion = scipy.stats.norm.pdf(n, 0, np.sqrt(2 * t))
        distances.append(float(0.5 * np.abs(walk - diffusion).sum()))
    slope = float(np.polyfit(np.log(times), np.log(distances), 1)[0])
    return {"rt": list(times), "total_variation": distances, "slope": slope}


def check_coefficients(epsilon: float) -> dict:
    """α_k of immigration–death at n = 50 from its exact propagator over a short time."""
    network, _ = load_network("immigration-death")
    space = build(network, {"X": 120})
    space.start = (space.states[0] == 50).astype(float)
    p, _ = solve(space, [epsilon], "uniformisation")
    jump = space.states[0] - 50.0
    birth, death = 10.0, 0.1 * 50
    return {
        "epsilon": epsilon,
        "measured": [float(p[0] @ jump**k / epsilon) for k in (1, 2, 3, 4)],
        "theory": [birth - death, birth + death] * 2,
    }


# ---------------------------------------------------------------- where it fails
def schlogl_modes(law: np.ndarray) -> tuple:
    """(modes of a law, the least likely count between the first two)."""
    inside = law[1:-1]
    modes = np.flatnonzero((inside > law[:-2]) & (inside >= law[2:])) + 1
    return modes, int(modes[0] + np.argmin(law[modes[0] : modes[1]]))


def check_schlogl(points: int) -> tuple:
    """Weights of the two humps and mean time between them. Returns metrics and curves."""
    network, _ = load_network("schlogl")
    birth, death = birth_death_rates(network, HUMPS)
    law = stationary_law(birth, death)
    n = np.arange(HUMPS + 1)
    modes, valley = schlogl_modes(law)
    x = np.linspace(0, HUMPS, points)
    step = x[1] - x[0]
    b, d = np.interp(x, n, birth), np.interp(x, n, death)
    phi = np.concatenate([[0], np.cumsum((2 * (b - d) / (b + d))[:-1] * np.diff(x))])
    density = np.exp(phi - phi.max()) / (b + d)
    density /= density.sum() * step

    def drift(v):
        return np.interp(v, n, birth - death)

    def spread(v):
        return np.interp(v, n, birth + death)

    low, high = int(modes[0]), int(modes[1])
    found = {
        "modes": modes.tolist(),
        "valley": valley,
        "p_low": float(law[:valley].sum()),
        "p_low_fokker_planck": float(density[x < valley].sum() * step),
        "switching_time": passage_time(birth, death, low, high),
        "switching_time_fokker_planck": fokker_planck_time(
            drift, spread, float(low), float(high), 0.0, points
        ),
    }
    return found, (n, law, x, density)


def check_extinction(infectivities, sizes, points: int) -> dict:
    """Mean times to extinction from the endemic state, and how fast they grow with N."""
    found = {}
    for r in infectivities:
        exact, diffusion = [], []
        for size in sizes:
            start = round(size * (1 - 1 / r))
            exact.append(extinction_time(*sis_rates(r, size), start))
            diffusion.append(sis_fokker_planck_time(r, size, start, points))
        exact, diffusion = np.array(exact), np.array(diffusion)
        found[str(r)] = {
            "N": [float(size) for size in sizes],
            "exact": exact.tolist(),
            "fokker_planck": diffusion.tolist(),
            "ratio": (diffusion / exact).tolist(),
            "growth_exact": growth(sizes, exact),
            "growth_exact_theory": np.log(r) - 1 + 1 / r,
            "growth_fokker_planck": growth(sizes, diffusion),
            "growth_fokker_planck_theory": 2 * (1 - 1 / r) + 4 / r * np.log(2 / (1 + r)),
        }
    return found


def growth(sizes, times: np.ndarray) -> float:
    """c of T ~ N^(−1/2) e^(cN), from the two largest N."""
    half, size = sizes[-2:]
    return float(np.log(times[-1] / times[-2] * (size / half) ** 0.5) / (size - half))


# ---------------------------------------------------------------- figures
def plot_walk(walk: dict):
    figure, axes = cli.subplots(height=4)
    rt = np.array(walk["rt"])
    distance = np.array(walk["total_variation"])
    axes.loglog(rt, distance, "o-", color="C6", label="random walk against its diffusion limit")
    axes.loglog(rt, distance[-1] * rt[-1] / rt, "k:", label="slope −1")
    axes.set(xlabel="jumps in each direction, rt", ylabel="total variation distance")
    axes.legend()
    return figure


def plot_failure(extinction: dict, schlogl: tuple):
    figure, (left, right) = cli.subplots(1, 2, height=4)
    n, law, x, density = schlogl
    left.semilogy(n, law, color="C0")
    left.semilogy(x, density, "--", color="C6")
    left.set(xlabel="count of X", ylabel="stationary probability", title="right: Schlögl model")
    left.set(ylim=(1e-9, 2e-2), xlim=(0, 900))
    for infectivity, rows in extinction.items():
        right.semilogy(rows["N"], rows["exact"], "o-", color="C0", ms=4)
        right.semilogy(rows["N"], rows["fokker_planck"], "s--", color="C6", ms=4)
        place = {"xytext": (6, -4), "textcoords": "offset points"}
        right.annotate(f"R = {infectivity}", (rows["N"][-1], rows["exact"][-1]), **place)
    right.set(xlabel="population N", ylabel="mean time to extinction", xlim=(0, 215))
    right.set_title("wrong: an infection dies out")
    lines = {"master equation": ("C0", "-"), "Fokker–Planck": ("C6", "--")}
    handles = [left.plot([], [], style, color=c, label=k)[0] for k, (c, style) in lines.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


# ---------------------------------------------------------------- main
def main(args):
    points = 20_001 if args.quick else 200_001
    walk = check_random_walk(WALKS)
    schlogl, laws = check_schlogl(points)
    extinction = check_extinction(INFECTIVITIES, SIZES, points)
    metrics = {
        "random_walk": walk,
        "jump_moments": check_coefficients(1e-5),
        "schlogl": schlogl,
        "extinction": extinction,
    }
    distances = ", ".join(f"{value:.3g}" for value in walk["total_variation"])
    print(f"random walk: total variation {distances}, slope {walk['slope']:.3f}")
    print(
        f"Schlögl: mean time {schlogl['modes'][0]} → {schlogl['modes'][1]}: "
        f"{schlogl['switching_time']:.1f}, Fokker–Planck "
        f"{schlogl['switching_time_fokker_planck']:.1f}"
    )
    for r, rows in extinction.items():
        print(
            f"extinction, R = {r}, N = {rows['N'][-1]:g}: {rows['exact'][-1]:.4g}, "
            f"Fokker–Planck / exact {rows['ratio'][-1]:.4g}"
        )
    figures = {
        "fokker_planck_walk": plot_walk(walk),
        "fokker_planck_failure": plot_failure(extinction, laws),
    }
    return metrics, [], figures


if __name__ == "__main__":
    cli.run(main, flags)
