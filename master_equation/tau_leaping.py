"""Tau-leaping: many jumps at once, faster and biased.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
The article's step two kept order ε in p(x,t+ε|y,t) = δ(x−y) + εW̃. A leap keeps more:
K_r ~ Poisson(τ a_r(y)) jumps of each reaction, as if a stayed at a(y) throughout (Gillespie 2001).
    explicit      y' = y + νK
    implicit      y' = y + ν(K − τa(y)) + τν a(y')            (stiff problems)
    trapezoidal   y' = y + ν(K − τa(y)/2) + τν a(y')/2
A leap that would take a count below zero, or 2X -> X below its last molecule, or whose equation has
no solution, is not taken: the trajectory goes on in two leaps of half the length (Cao, Gillespie
and Petzold 2005). Every leap adds multiples of columns of ν, so conservation laws hold.

Symbols: τ → tau   K → jumps   ν → Network.nu
Bias, exact: decay, explicit: mean y₀(1−cτ)^k; immigration–death at rest, variance/mean
1/(1−μτ/2), 2/(2+μτ), 1 for the three kinds (moments.leap_moments).
"""

import numpy as np

from reaction_network import Network

KINDS = {"explicit": 0.0, "implicit": 1.0, "trapezoidal": 0.5}  # share of a(y) at the leap's end
CHUNK = 4096  # trajectories that share a random stream, as in stochastic_simulation.py
MOST_LEAPS = 1_000_000
MOST_HALVINGS = 30  # a leap of 2^(−30) τ has no jump, unless a law takes a count below zero
MOST_SHORT_LEAPS = 200_000  # halved ones of a chunk, some ten seconds


# ---------------------------------------------------------------- one leap
def jacobian(network: Network, y: np.ndarray) -> np.ndarray:
    """∂a_r/∂y_s at y (S, n), by complex steps, exact to rounding: (n, R, S); 0 where a_r < 0."""
    columns = []
    for s in range(len(y)):
        shifted = y.astype(complex)
        shifted[s] += 1e-30j
        rates = network.propensities(shifted)
        columns.append(np.where(rates.real > 0, rates.imag / 1e-30, 0))
    return np.stack(columns).transpose(2, 1, 0)


def leap(network: Network, y: np.ndarray, tau: float, share: float, rng) -> tuple:
    """(y' of all trajectories y (S, n), whether or not it can be reached, and K)."""
    nu = network.nu
    rates = np.maximum(network.propensities(y), 0)
    network.check_guards(y, whole=not share)
    network.check_rates(y)
    jumps = rng.poisson(rates * tau)
    new = y + nu @ jumps
    if share:  # y' − share·τν a(y') = rest
        with np.errstate(all="ignore"):
            new = newton(network, new - share * tau * nu @ rates, new, share * tau)
    return new, jumps


def newton(network: Network, rest: np.ndarray, y: np.ndarray, factor: float) -> np.ndarray:
    """Solutions of y − factor·ν a(y) = rest (S, n) from a start y; NaN where there is none."""
    nu = network.nu
    for _ in range(20):
        # between counts a law may be negative, as y(y − 1)/2 is below 1: then nothing happens
        rates = np.maximum(network.propensities(y), 0)
        residual = y - factor * nu @ rates - rest
        matrix = np.eye(len(y)) - factor * nu @ jacobian(network, y)
        try:
            change = np.linalg.solve(matrix, residual.T[..., None])[..., 0].T
        except np.linalg.LinAlgError:  # singular
            return np.full_like(y, np.nan)
        y = y - change
        if np.abs(change).max() < 1e-9 * (1 + np.abs(y).max()):
            return y
    solved = np.abs(change).max(axis=0) < 1e-9 * (1 + np.abs(y).max(axis=0))
    return np.where(solved, y, np.nan)


class Leaper:
    """Leaps that stay above zero, for one chunk of trajectories."""

    def __init__(self, network: Network, kind: str, rng):
        self.network = network
        self.share = KINDS[kind]
        self.rng = rng
        self.halved = 0  # leaps of single trajectories that were halved
        self.short = 0  # calls of `leap` for them

    def __call__(self, y: np.ndarray, tau: float, halvings: int = 0) -> np.ndarray:
        """y' ≥ 0 of trajectories y (S, n). Raises ValueError."""
        if not (y < 1e15).all():
            raise ValueError(
                "tau-leaping ran away: a count passed 1e15; the model grows without bound, or "
                "choose a smaller --tau"
            )
        new, jumps = leap(self.network, y, tau, self.share, self.rng)
        below = ~(new >= -1e-9).all(axis=0)  # or without a solution
        for r, i, left in self.network.residues:
            below |= (jumps[r] > 0) & (new[i] < left - 1e-9)
        if below.any():
            self.halved += int(below.sum())
            self.short += 2
            if halvings == MOST_HALVINGS or self.short > MOST_SHORT_LEAPS:
                raise ValueError(
                    f"tau-leaping finds no way to stay above zero in leaps of {tau:.3g}: choose a "
                    "smaller --tau, or exact simulation"
                )
            half = self(y[:, below], tau / 2, halvings + 1)
            new[:, below] = self(half, tau / 2, halvings + 1)
        return np.maximum(new, 0)


# ---------------------------------------------------------------- many leaps
def stretches(network: Network, times: np.ndarray, tau: float) -> list:
    """[(number of leaps, their length, counts to set after them, whether to record), …]."""
    marks = sorted({*times, *(moment for moment, _ in network.timed if moment < times[-1])})
    marks += [times[-1]] if times[-1] not in marks else []
    found = []
    now = 0.0
    for mark in marks:
        gap = mark - now
        leaps = max(1, int(np.ceil(gap / tau - 1e-9))) if gap > 0 else 0
        events = [values for moment, values in network.timed if moment == mark]
        found.append((leaps, gap / max(leaps, 1), events, mark in times))
        now = mark
    return found


def tau_leap(network: Network, times, n: int, tau: float, kind: str = "explicit", seed: int = 0):
    """Leaps of at most tau at increasing `times`. Raises ValueError.

    Returns {n, leaps, halved, mean: {name: (T,)}, sd: {name: (T,)}, states: (T, S, n)}.
    """
    if network.triggers:
        raise ValueError("tau-leaping does not take 'when' statements: use exact simulation")
    if kind not in KINDS or not tau > 0 or n < 1:
        raise ValueError(f"tau-leaping needs tau > 0, n > 0 and a kind of {', '.join(KINDS)}")
    plan = stretches(network, np.asarray(times, dtype=float), tau)
    number = sum(leaps for leaps, *_ in plan)
    if number > MOST_LEAPS:
        raise ValueError(
            f"tau = {tau:g} needs {number:,} leaps, more than {MOST_LEAPS:,}: choose a larger --tau"
        )
    parts = []
    halved = 0
    for chunk in range(-(-n // CHUNK)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, chunk)))
        size = min(CHUNK, n - chunk * CHUNK)
        y = np.repeat(np.array(network.initial, dtype=float)[:, None], size, axis=1)
        leaper = Leaper(network, kind, rng)
        rows = []
        for leaps, length, events, recorded in plan:
            for _ in range(leaps):
                y = leaper(y, length)
            for values in events:
                y = network.set_counts(y, values)
            if recorded:
                rows.append(y)
        parts.append(np.stack(rows))
        halved += leaper.halved
    states = np.concatenate(parts, axis=2)
    outputs = network.outputs(states.swapaxes(0, 1))
    return {
        "n": n,
        "leaps": number,
        "halved": halved,
        "mean": {name: values.mean(axis=-1) for name, values in outputs.items()},
        "sd": {name: values.std(axis=-1) for name, values in outputs.items()},
        "states": states,
    }
