"""The master equation for a continuous x: the Ornstein–Uhlenbeck process, whose kernel is known.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598, steps 1 to 4 with ∫dy
Symbols: p(x,t|y,0) → ou_kernel   ∫W̃(x,y)p(y)dy → ou_generator   W(x,y) on a grid → ou_rates
"""

import numpy as np
import scipy

THETA = 1.0  # Ornstein–Uhlenbeck process dx = −θx dt + √(2D) dB: pull to zero, per unit time,
DIFFUSION = 0.5  # and D; at rest x is normal with variance D/θ


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


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of log y over log x: the order in which y falls."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def check_continuous(constrain, points: int) -> tuple:
    """Its kernel, W̃ on densities, and W on a grid of `points` cells.

    constrain: W̃ from W (step 5). Returns metrics and the errors of step 2.
    """
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
    return found | check_grid(constrain, points), (epsilons, errors)


def check_grid(constrain, points: int) -> dict:
    """The master equation with W of `ou_rates` on finer and finer grids, against p(x, ½)."""
    spacings, distances = [], []
    for n in (points // 4, points // 2, points):
        grid = np.linspace(-5, 5, n + 1)
        step = grid[1] - grid[0]
        start = normal(grid, 1, 0.25)
        later = scipy.linalg.expm(constrain(ou_rates(grid)) * 0.5) @ start
        spacings.append(step)
        distances.append(np.abs(later - ou_density(grid, 1, 0.25, 0.5)).max())
    return {
        "grid_kept": abs((later.sum() - start.sum()) * step),
        "grid_lowest": later.min(),
        "grid_slope": slope(spacings, distances),
        "grid_error": distances[-1],
    }
