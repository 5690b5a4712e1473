"""From the Markov property to the master equation: the article's six steps, as numbers.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/run.py
Steps:   1 p(x,τ) = ∫ p(x,τ|y,t) p(y,t) dy                    chapman_kolmogorov
         2 p(x,t+ε|y,t) = δ(x−y) + εW̃(x,y,t)                  step_error, which falls as ε²
         3 ∂p/∂t = ∫ W̃ p dy                                   first_form
         4 ∫ W̃ dx = 0                                         column_sums
         5 W̃ = W − δ(x−y) ∫ W(z,y) dz, any W                  constrain
         6 ∂p/∂t = ∫ [W(x,y) p(y) − W(y,x) p(x)] dy           master_equation
Symbols: W → rates[to, from]   W̃ → generator[to, from]   p → p   ε → epsilon
Differs from the article: x is discrete, where ∫dy is a sum; the Ornstein–Uhlenbeck process stands
for a continuous x, since its kernel is known. The article does not mention C4.6, W ≥ 0 for p ≥ 0.
Next:    experiments/ follow the equation to what it says about chemistry, physics and chance.
"""

import numpy as np
import scipy
from scipy.linalg import expm

import cli

THETA = 1.0  # Ornstein–Uhlenbeck process dx = −θx dt + √(2D) dB: pull to zero, per unit time,
DIFFUSION = 0.5  # and D; at rest x is normal with variance D/θ


def flags(parser):
    parser.add_argument("--states", type=cli.between(4, 200), default=40, help="of the random W")
    parser.add_argument("--seed", **cli.SEED)


# ---------------------------------------------------------------- the steps, for discrete x
def chapman_kolmogorov(whole: np.ndarray, second: np.ndarray, first: np.ndarray) -> float:
    """Largest entry of P(t₂|t₀) − P(t₂|t₁)·P(t₁|t₀): zero for a Markov process (step 1)."""
    return float(np.abs(whole - second @ first).max())


def step_error(propagator: np.ndarray, generator: np.ndarray, epsilon: float) -> float:
    """Largest entry of p(x,t+ε|y,t) − δ(x−y) − εW̃(x,y,t) (step 2)."""
    return np.abs(propagator - np.eye(len(generator)) - epsilon * generator).max()


def first_form(generator: np.ndarray, p: np.ndarray) -> np.ndarray:
    """∂p/∂t = ∫ W̃(x,y) p(y) dy (step 3)."""
    return generator @ p


def column_sums(generator: np.ndarray) -> np.ndarray:
    """∫ W̃(x,y) dx for each y: zero if no probability is to be lost (step 4)."""
    return generator.sum(axis=0)


def constrain(rates: np.ndarray) -> np.ndarray:
    """W̃(x,y) = W(x,y) − δ(x−y) ∫ W(z,y) dz, from any W (step 5)."""
    return rates - np.diag(rates.sum(axis=0))


def master_equation(rates: np.ndarray, p: np.ndarray) -> np.ndarray:
    """∂p/∂t = ∫ [W(x,y) p(y) − W(y,x) p(x)] dy (step 6), as gain minus loss, term by term."""
    gain = rates * p[None, :]
    loss = rates.T * p[:, None]
    return (gain - loss).sum(axis=1)


def propagator(generator_at, start: float, stop: float) -> np.ndarray:
    """p(x, stop | y, start) of a generator W̃(t): dP/dt = W̃(t)·P from P = 1."""
    size = len(generator_at(start))

    def slope_of(t, flat):
        return (generator_at(t) @ flat.reshape(size, size)).ravel()

    unit = np.eye(size).ravel()
    result = scipy.integrate.solve_ivp(
        slope_of, (start, stop), unit, "DOP853", rtol=1e-13, atol=1e-15
    )
    return result.y[:, -1].reshape(size, size)


# ---------------------------------------------------------------- the same for a continuous x
def normal(x: np.ndarray, mean, variance) -> np.ndarray:
    return scipy.stats.norm.pdf(x, mean, np.sqrt(variance))


def ou_spread(t: float) -> float:
    """Variance of the Ornstein–Uhlenbeck process a time t after it was at a known point."""
    return DIFFUSION / THETA * -np.expm1(-2 * THETA * t)


def ou_kernel(x: np.ndarray, y: np.ndarray, t: float) -> np.ndarray:
    """p(x,t|y,0) of the Ornstein–Uhlenbeck process."""
    return normal(x, y * np.exp(-THETA * t), ou_spread(t))


def ou_density(x: np.ndarray, mean: float, variance: float, t: float) -> np.ndarray:
    """p(x,t) of the process, exactly, when p(x,0) is normal."""
    decay = np.exp(-THETA * t)
    return normal(x, mean * decay, variance * decay**2 + ou_spread(t))


def ou_generator(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    """∫W̃(x,y)p(y)dy = ∂(θxp)/∂x + D ∂²p/∂x² of a normal density p, in closed form."""
    p = normal(x, mean, variance)
    first = -(x - mean) / variance * p
    second = ((x - mean) ** 2 / variance**2 - 1 / variance) * p
    return THETA * (p + x * first) + DIFFUSION * second


def ou_step_error(epsilon: float, x: np.ndarray, mean: float = 1.0, variance: float = 0.3) -> float:
    """max |∫p(x,ε|y)p(y)dy − p − ε∫W̃p dy| for a normal density p (steps 2 and 3)."""
    later = ou_density(x, mean, variance, epsilon)
    p = normal(x, mean, variance)
    return float(np.abs(later - p - epsilon * ou_generator(x, mean, variance)).max())


def ou_rates(x: np.ndarray) -> np.ndarray:
    """W ≥ 0 between neighbours of a grid, in detailed balance with e^(−θx²/2D):
    rate = D/h² · B(±θx̄h/D), B(u) = u/(e^u − 1)."""
    h = x[1] - x[0]
    u = THETA * (x[1:] + x[:-1]) / 2 * h / DIFFUSION
    u = np.where(np.abs(u) < 1e-12, 1e-12, u)
    rates = np.zeros((len(x), len(x)))
    i = np.arange(len(x) - 1)
    rates[i + 1, i] = DIFFUSION / h**2 * u / np.expm1(u)  # uphill for x > 0
    rates[i, i + 1] = DIFFUSION / h**2 * -u / np.expm1(-u)
    return rates


# ---------------------------------------------------------------- do the steps hold?
def slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def check_steps(rng: np.random.Generator, size: int) -> tuple:
    """Steps 1 to 6 for a random W on `size` states. Returns metrics and the errors of step 2."""
    # any W will do, its diagonal included; half of its entries are zero
    rates = rng.exponential(size=(size, size)) * (rng.random((size, size)) < 0.5)
    generator = constrain(rates)
    p = rng.dirichlet(np.ones(size))
    difference = np.abs(first_form(generator, p) - master_equation(rates, p)).max()
    other_diagonal = rates + np.diag(rng.normal(size=size))
    found = {
        "column_sums": np.abs(column_sums(generator)).max(),
        "chapman_kolmogorov": chapman_kolmogorov(
            expm(generator * 0.5), expm(generator * 0.3), expm(generator * 0.2)
        ),
        "two_forms": difference / np.abs(generator * p).max(),
        "diagonal_generator": np.abs(constrain(other_diagonal) - generator).max(),
    }

    largest = np.abs(generator).max()
    epsilons = 10.0 ** np.arange(-5, -1.4, 0.5) / largest
    errors = np.array([step_error(expm(generator * e), generator, e) for e in epsilons])
    found |= {
        "step_slope": slope(epsilons[2:], errors[2:]),
        "step_constant": errors[3] / epsilons[3] ** 2,
        "half_square": np.abs(generator @ generator).max() / 2,
    }

    p_later = np.array([expm(generator * t) @ p for t in (0.1, 1, 10, 100)])
    found |= {
        "kept": np.abs(p_later.sum(axis=1) - 1).max(),
        "lowest": p_later.min(),
        "stationary_residual": np.abs(first_form(generator, p_later[-1])).max(),
    }
    return found | check_time_dependent(rng, rates), (epsilons * largest, errors)


def check_time_dependent(rng: np.random.Generator, rates: np.ndarray) -> dict:
    """Steps 1 and 2 for a W that swings with time, the article's W(x,y,t)."""
    other = rng.exponential(size=rates.shape)

    def at(t):
        return constrain(rates * (1 + 0.5 * np.sin(3 * t)) + other * np.cos(t) ** 2)

    whole = propagator(at, 0, 0.5)
    kolmogorov = chapman_kolmogorov(whole, propagator(at, 0.2, 0.5), propagator(at, 0, 0.2))
    epsilons = np.array([1e-3, 3e-3, 1e-2]) / np.abs(constrain(rates)).max()
    errors = [step_error(propagator(at, 0.2, 0.2 + e), at(0.2), e) for e in epsilons]
    return {
        "chapman_kolmogorov_time_dependent": kolmogorov,
        "step_slope_time_dependent": slope(epsilons, np.array(errors)),
    }


def check_hidden_state() -> float:
    """Lump two of three states: what is seen is not Markov, and step 1 must fail."""
    generator = constrain(np.array([[0, 0, 2.0], [1, 0, 0], [0, 3, 0]]))
    null = np.linalg.svd(generator)[2][-1]
    rest = null / null.sum()
    lump = np.array([[1, 0, 0], [0, 1, 1.0]])
    spread = np.array([[1, 0], [0, rest[1]], [0, rest[2]]])
    spread[1:, 1] /= spread[1:, 1].sum()

    def seen(t):
        return lump @ expm(generator * t) @ spread

    return chapman_kolmogorov(seen(1.0), seen(0.5), seen(0.5))


def check_continuous(points: int) -> tuple:
    """The Ornstein–Uhlenbeck process: its kernel, W̃ on densities, and W on a grid."""
    x = np.linspace(-8, 8, 801)
    h = x[1] - x[0]
    inner = np.linspace(-2, 2, 41)
    whole = ou_kernel(x[:, None], inner, 0.5)
    composed = ou_kernel(x[:, None], x, 0.3) * h @ ou_kernel(x[:, None], inner, 0.2)
    epsilons = 10.0 ** np.arange(-4, -0.9, 0.5)
    errors = np.array([ou_step_error(e, x) for e in epsilons])
    short = ou_kernel(x[:, None], inner, 0.01)
    found = {
        "chapman_kolmogorov": np.abs(whole - composed).max(),
        "kernel_norm": np.abs(whole.sum(axis=0) * h - 1).max(),
        "step_slope": slope(epsilons[:4], errors[:4]),
        "column_integral": np.abs((short.sum(axis=0) * h - 1) / 0.01).max(),
    }
    return found | check_grid(points), (epsilons, errors)


def check_grid(points: int) -> dict:
    """The master equation with W of `ou_rates` on finer and finer grids, against p(x, ½)."""
    spacings, distances = [], []
    for n in (points // 4, points // 2, points):
        grid = np.linspace(-5, 5, n + 1)
        step = grid[1] - grid[0]
        start = normal(grid, 1, 0.25)
        later = expm(constrain(ou_rates(grid)) * 0.5) @ start
        spacings.append(step)
        distances.append(np.abs(later - ou_density(grid, 1, 0.25, 0.5)).max())
    return {
        "grid_kept": abs((later.sum() - start.sum()) * step),
        "grid_lowest": later.min(),
        "grid_slope": slope(spacings, distances),
        "grid_error": distances[-1],
    }


def broken(rng: np.random.Generator, size: int) -> dict:
    """Three generators: a bare W̃ that was not built by step 5, W ≥ 0, and a W with W(0←1) < 0."""
    rates = rng.exponential(size=(size, size)) / size
    p = rng.dirichlet(np.ones(size))
    bare = rates - np.diag(rng.exponential(size=size))
    signed = rates.copy()
    signed[0, 1] = -0.5
    return {"p": p, "bare": bare, "signed": constrain(signed), "positive": constrain(rates)}


def check_broken(rng: np.random.Generator, size: int, draws: int) -> tuple:
    """What goes wrong without the constraint, and with a negative W. Metrics, and curves of one."""
    drifts, kept, negative, lowest = [], [], [], []
    for _ in range(draws):
        made = broken(rng, size)
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


# ---------------------------------------------------------------- figures
def plot_errors(discrete: tuple, continuous: tuple):
    figure, axes = cli.subplots(height=4)
    runs = {
        "random W on discrete states": (*discrete, "o-"),
        "Ornstein–Uhlenbeck, continuous x": (*continuous, "s-"),
    }
    for label, (epsilons, errors, marker) in runs.items():
        axes.loglog(epsilons, errors / errors[-1], marker, label=label)
    axes.loglog(discrete[0], (discrete[0] / discrete[0][-1]) ** 2, "k:", label="slope 2")
    axes.set(
        xlabel="step ε (discrete: in units of 1/max|W̃|)",
        ylabel="error of δ + εW̃ (last point = 1)",
    )
    axes.legend()
    return figure


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


# ---------------------------------------------------------------- the six claims
def judge(discrete: dict, continuous: dict, broken: dict) -> list[dict]:
    """The claims of claims.json, from the metrics of the checks above."""
    kept = max(discrete["kept"], continuous["grid_kept"])
    slopes = {
        "slope": discrete["step_slope"],
        "slope_time": discrete["step_slope_time_dependent"],
        "slope_continuous": continuous["step_slope"],
    }
    ratio = discrete["step_constant"] / discrete["half_square"]
    order_two = all(abs(value - 2) < 0.03 for value in slopes.values()) and abs(ratio - 1) < 0.01
    drift, drift_any = broken["drift_without_constraint"], broken["drift_any_rates"]
    negative = broken["negative_rate_lowest_p"]
    lowest = min(discrete["lowest"], broken["nonnegative_rates_lowest_p"])
    moved = discrete["diagonal_generator"]
    forms = discrete["two_forms"]
    return [
        cli.claim(
            "C4.1", {"kept": kept, "column_sums": discrete["column_sums"]}, holds=kept < 1e-11
        ),
        cli.claim("C4.2", {"two_forms": forms}, holds=forms < 1e-14),
        cli.claim("C4.3", slopes | {"ratio": ratio}, holds=order_two),
        cli.claim(
            "C4.4",
            {"drift": drift, "drift_any": drift_any},
            holds=drift > 1e-6 and drift_any < 1e-12,
        ),
        cli.claim("C4.5", {"moved": moved}, holds=moved < 1e-13),
        cli.claim(
            "C4.6",
            {"negative": negative, "lowest": lowest},
            holds=negative < -1e-6 and lowest > -1e-14,
        ),
    ]


def main(args):
    rng = np.random.default_rng(args.seed)
    size, points, draws = (8, 100, 20) if args.quick else (args.states, 400, 200)
    discrete, discrete_errors = check_steps(rng, size)
    continuous, continuous_errors = check_continuous(points)
    wrong, curves = check_broken(rng, size, draws)
    hidden = check_hidden_state()
    print(
        f"step 1, Chapman–Kolmogorov: off by {discrete['chapman_kolmogorov']:.1e} for discrete x, "
        f"{continuous['chapman_kolmogorov']:.1e} for continuous x, {hidden:.2f} with a hidden state"
    )
    metrics = {"discrete": discrete, "continuous": continuous, "broken": wrong}
    metrics["chapman_kolmogorov_hidden_state"] = hidden
    figures = {
        "run_error": plot_errors(discrete_errors, continuous_errors),
        "run_constraint": plot_broken(curves),
    }
    return metrics, judge(discrete, continuous, wrong), figures


if __name__ == "__main__":
    cli.run(main, flags)
