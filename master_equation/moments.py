"""Means and variances without the distribution: mean field, exact moments, moments of leaping.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Multiply the master equation by y and sum: d⟨y⟩/dt = ν⟨a(y)⟩. Where a is affine, a = b + J·y, the
moments close:
    dm/dt = ν a(m),   dC/dt = A·C + C·Aᵀ + ν diag(a(m)) νᵀ   with A = νJ.
Elsewhere ⟨a(y)⟩ ≠ a(⟨y⟩); the mean-field equation dm/dt = ν a(m) ignores that.

Symbols: m → mean   C → covariance   ν → Network.nu   a = b + J·y → affine_parts
"""

import itertools

import numpy as np
import scipy

from expressions import degree, parse_expression
from reaction_network import Network

MOST_EVALUATIONS = 300_000  # of the slope: ten seconds, many times what a smooth solution takes


# ---------------------------------------------------------------- mean field
def mean_field(network: Network, times: np.ndarray) -> dict:
    """dm/dt = ν a(m) with the laws for large numbers (k·m²/2 in place of k·m(m−1)/2).

    Returns {name: (T,)}. Raises ValueError where the equation has no meaning or no solution.
    """
    if network.triggers:
        raise ValueError("the mean-field equation has no meaning for 'when' statements")
    times = np.asarray(times, dtype=float)
    m = np.array(network.initial, dtype=float)
    now = 0.0
    done = 0
    rows = []
    for moment, values in (*network.timed, (np.inf, {})):
        stop = int(np.searchsorted(times, moment, side="left"))
        marks = np.append(times[done:stop], min(moment, times[-1]))
        path = mean_field_path(network, m, now, marks)
        rows.append(path[:, :-1])
        now = marks[-1]
        done = stop
        if done == len(times):
            break
        m = network.set_counts(path[:, -1:], values)[:, 0]
    return network.outputs(np.concatenate(rows, axis=1))


def mean_field_path(network: Network, m: np.ndarray, now: float, marks: np.ndarray) -> np.ndarray:
    """m at `marks` ≥ now, (S, len(marks)), where no event is between."""
    if marks[-1] <= now:
        return np.repeat(m[:, None], len(marks), axis=1)
    nu = network.nu
    evaluations = itertools.count(1)
    earlier = -1.0

    def slope(t, y):
        nonlocal earlier
        evaluation = next(evaluations)
        if evaluation % 1000 == 0:
            stands_still = t - earlier <= 1e-12 * t  # as the steps shrink before a pole
            if stands_still or evaluation >= MOST_EVALUATIONS:
                raise ValueError(
                    f"the mean-field equation has no solution up to t = {marks[-1]:g}: it runs away"
                )
            earlier = t
        return nu @ network.propensities(y[:, None], large_numbers=True)[:, 0]

    options = {"t_eval": np.unique(marks), "rtol": 1e-9, "atol": 1e-9}
    with np.errstate(all="ignore"):
        result = scipy.integrate.solve_ivp(slope, (now, marks[-1]), m, "LSODA", **options)
    if not result.success or not np.isfinite(result.y).all():
        raise ValueError(
            f"the mean-field equation has no solution up to t = {marks[-1]:g}: {result.message}"
        )
    lowest = result.y.min(axis=1)
    below = np.flatnonzero(lowest < -1e-6 * (1 + np.abs(result.y).max()))
    if len(below):
        raise ValueError(
            f"a law takes {network.species[below[0]]} below 0 in the mean-field equation"
        )
    network.check_rates(result.y)
    return np.maximum(result.y, 0)[:, np.searchsorted(result.t, marks)]  # −1e-10 is rounding


# ---------------------------------------------------------------- exact moments of affine networks
def affine_parts(function, size: int) -> tuple:
    """(b, J) of f(y) = b + J·y, read off at 0 and the unit vectors. f: (S, n) → (R, n)."""
    at = function(np.concatenate([np.zeros((size, 1)), np.eye(size)], axis=1))
    return at[:, 0], at[:, 1:] - at[:, :1]


def output_moments(network: Network, means: np.ndarray, covariances: np.ndarray) -> tuple:
    """({name: mean (T,)}, {name: sd (T,)}) of the species and of the observables that are affine.

    means: (T, S); covariances: (T, S, S).
    """
    species = set(network.species)
    own = network.observables
    affine = [name for name in own if degree(parse_expression(own[name]), species) <= 1]
    names = [*network.species, *affine]

    def chosen(states):
        return np.stack([network.outputs(states)[name] for name in names])

    b, gradient = affine_parts(chosen, len(species))
    means = np.asarray(means) @ gradient.T + b
    variances = np.einsum("is,tsr,ir->ti", gradient, covariances, gradient)
    spreads = np.sqrt(np.maximum(variances, 0))
    return dict(zip(names, means.T, strict=True)), dict(zip(names, spreads.T, strict=True))


def exact_moments(network: Network, times: np.ndarray) -> tuple:
    """({name: mean (T,)}, {name: sd (T,)}) from the closed equations, by matrix exponentials.

    Raises ValueError if a law is not affine.
    """
    if not network.affine():
        raise ValueError(
            "the moment equations do not close: a law is not affine, or there is a 'when' statement"
        )
    times = np.asarray(times, dtype=float)
    size = len(network.species)
    matrix = moment_matrix(network)
    z = np.concatenate([network.initial, np.zeros(size * size), [1]])
    now = 0.0
    cache = {}
    rows = {}
    for mark in sorted({*times, *(moment for moment, _ in network.timed if moment <= times[-1])}):
        key = float(f"{mark - now:.12g}")  # equal steps share one matrix exponential
        if key not in cache:
            cache[key] = scipy.linalg.expm(matrix * key)
        z = cache[key] @ z
        now = mark
        for moment, values in network.timed:
            for name, value in values.items() if moment == mark else ():
                i = network.species.index(name)
                z[i] = value
                c = z[size:-1].reshape(size, size)  # a view
                c[i, :] = c[:, i] = 0
        rows[mark] = z.copy()
    chosen = np.array([rows[t] for t in times])
    return output_moments(network, chosen[:, :size], chosen[:, size:-1].reshape(-1, size, size))


def moment_matrix(network: Network) -> np.ndarray:
    """M of dz/dt = M·z for z = (m, C, 1), C row by row."""
    nu = network.nu
    size = len(network.species)
    b, jacobian = affine_parts(network.propensities, size)
    drift = nu @ jacobian

    def derivative(z):
        m, c = z[:size], z[size:-1].reshape(size, size)
        rates = b * z[-1] + jacobian @ m
        growth = drift @ c + c @ drift.T + (nu * rates) @ nu.T
        return np.concatenate([nu @ rates, growth.ravel(), [0]])

    return np.stack([derivative(unit) for unit in np.eye(size + size * size + 1)], axis=1)


# ---------------------------------------------------------------- exact moments of tau-leaping
def leap_moments(network: Network, times: np.ndarray, tau: float, kind: str) -> tuple:
    """({name: mean (T,)}, {name: sd (T,)}) of tau-leaping on an affine network without events, as
    long as it does not come near zero. The bias of the method is this minus `exact_moments`.

    Each interval between `times` is cut into equal leaps of at most tau.
    """
    nu = network.nu
    size = len(network.species)
    b, jacobian = affine_parts(network.propensities, size)
    drift = nu @ jacobian
    unit = np.eye(size)
    # share of a(y) that is taken at the end of the leap
    share = {"explicit": 0.0, "implicit": 1.0, "trapezoidal": 0.5}[kind]
    m = np.array(network.initial, dtype=float)
    c = np.zeros((size, size))
    now = 0.0
    means, covariances = [], []
    for mark in times:
        leaps = max(1, int(np.ceil((mark - now) / tau - 1e-9)))
        step = (mark - now) / leaps
        inverse = np.linalg.inv(unit - share * step * drift)
        forward = inverse @ (unit + (1 - share) * step * drift)
        noise = inverse @ nu
        for _ in range(leaps):
            c = forward @ c @ forward.T + step * (noise * (b + jacobian @ m)) @ noise.T
            m = forward @ m + step * inverse @ nu @ b
        now = mark
        means.append(m)
        covariances.append(c)
    return output_moments(network, np.array(means), np.array(covariances))
