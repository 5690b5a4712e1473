"""The master equation itself, on a truncated state space that counts what it loses.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
dp/dt = W̃·p, W̃ = W − diag(column sums of W). Transitions that leave the truncated space are lost,
so 1 − Σp bounds the error of every probability (finite state projection, Munsky and Khammash 2006).

Symbols: W̃ → StateSpace.generator   p → (T, N) rows of `solve`   Λ → rate, the largest exit rate
Methods: uniformisation p(t) = Σ_k Poisson(k; Λt) (I + W̃/Λ)^k p(0); eigen-decomposition of
         D^(−1/2) W̃ D^(1/2) for reversible birth–death chains; scipy's expm_multiply; dense expm.
         `choose_method` goes by structure, size and Λt.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy

from reaction_network import Network, independent_species
from stochastic_simulation import simulate

METHODS = ("eigen", "uniformisation", "expm_multiply", "dense")
SMALL_BOX = 10_000  # states that need no thrift
LARGEST_BOX = 6_000_000  # states looked at before unreachable ones are dropped, about 0.5 GB


# ---------------------------------------------------------------- the states and W̃
@dataclass
class StateSpace:
    network: Network
    states: np.ndarray  # (S, N) counts
    generator: object  # W̃, a scipy.sparse.csr_array (N, N): column = from, row = to; its column
    # sums are minus what leaves the space
    leaks: np.ndarray  # (S, N) rate of leaving by each species' limit
    escape: np.ndarray  # (N,) rate of leaving the space
    start: np.ndarray  # (N,) p(0)
    limits: dict

    def outputs(self) -> dict:
        return self.network.outputs(self.states.astype(float))

    def moments(self, p: np.ndarray) -> tuple:
        """({name: mean (T,)}, {name: sd (T,)}) of distributions p (T, N)."""
        means, spreads = {}, {}
        for name, values in self.outputs().items():
            means[name] = p @ values
            deviations = (values - means[name][:, None]) ** 2
            spreads[name] = np.sqrt(np.maximum(np.einsum("tn,tn->t", p, deviations), 0))
        return means, spreads

    def marginal(self, p: np.ndarray, name: str) -> tuple:
        """(values (K,), probabilities (T, K)) of one output, in order of its values.

        Whole numbers come without gaps, low … high, unless these are wide; others as they occur,
        with twelve digits."""
        values = self.outputs()[name]
        low, high = values.min(), values.max()
        if high - low < 10 * len(values) + 1000 and (values == np.rint(values)).all():
            found = np.arange(low, high + 1)
        else:
            values = np.array([float(f"{value:.12g}") for value in values])
            found = np.unique(values)
        place = np.searchsorted(found, values)
        return found, np.stack([np.bincount(place, row, len(found)) for row in p])


class Box:
    """All states within limits, some of whose species follow from the others."""

    def __init__(self, network: Network, limits: dict):
        nu = network.nu
        self.initial = np.array(network.initial)
        resets = bool(network.timed or network.triggers)  # they break conservation laws
        self.keep = network.moving() if resets else independent_species(nu)
        self.rest = [i for i in range(len(nu)) if i not in self.keep]
        self.weights = np.linalg.lstsq(nu[self.keep].T, nu[self.rest].T, rcond=None)[0].T
        self.highest = self.read_limits(network, limits)
        self.shape = tuple(int(self.highest[i]) + 1 for i in self.keep)
        if np.prod(self.shape, dtype=float) > LARGEST_BOX:
            box = " × ".join(map(str, self.shape))
            raise ValueError(f"{box} states exceed {LARGEST_BOX:,}: lower the limits, or simulate")
        everything = np.indices(self.shape).reshape(len(self.keep), math.prod(self.shape))
        states = self.complete(everything)
        valid = self.inside(states)
        self.states = states[:, valid]
        self.number = np.where(valid, np.cumsum(valid) - 1, -1)

    def read_limits(self, network: Network, limits: dict) -> np.ndarray:
        """The highest count of each species. Raises ValueError."""
        highest = np.full(len(self.initial), np.iinfo(np.int64).max)
        for i, name in enumerate(network.species):
            events = [values.get(name, 0) for _, values in (*network.timed, *network.triggers)]
            if name in limits:
                highest[i] = limits[name]
            elif i in self.keep and network.nu[i].any():
                raise ValueError(f"species {name} needs a limit, such as {name}=200")
            elif i in self.keep:  # only events move it
                highest[i] = max(self.initial[i], *events)
            if self.initial[i] > highest[i]:
                raise ValueError(
                    f"limit {name}={highest[i]} is below its initial count {self.initial[i]}"
                )
        return highest

    def complete(self, kept: np.ndarray) -> np.ndarray:
        """Counts of all species (S, n) from those of the kept ones: conservation laws."""
        full = np.repeat(self.initial[:, None], kept.shape[1], axis=1)
        moved = kept - self.initial[self.keep, None]
        full[self.rest] += np.rint(self.weights @ moved).astype(int)
        full[self.keep] = kept
        return full

    def inside(self, full: np.ndarray) -> np.ndarray:
        return (full >= 0).all(axis=0) & (full <= self.highest[:, None]).all(axis=0)

    def place(self, full: np.ndarray) -> np.ndarray:
        """Index in `states` of each column of `full`, −1 where outside."""
        inside = self.inside(full)
        if not self.keep:  # nothing moves: one state
            return np.where(inside, 0, -1)
        code = np.ravel_multi_index(np.where(inside, full[self.keep], 0), self.shape)
        return np.where(inside, self.number[code], -1)


def build(network: Network, limits: dict) -> StateSpace:
    """All states that can be reached with every species within `limits` {name: highest count}.

    Raises ValueError for limits that are missing, too low or too high, and for laws that are
    negative or lead below zero.
    """
    box = Box(network, limits)
    nu = network.nu.astype(int)
    states = box.states
    with np.errstate(all="ignore"):
        rates = network.propensities(states.astype(float))
    afters = [states + nu[:, r : r + 1] for r in range(nu.shape[1])]
    targets = [box.place(network.react(states, after)) for after in afters]
    start = int(box.place(box.initial[:, None])[0])
    reached = reachable(box, network, rates, targets, start)
    check_laws(network, states[:, reached], rates[:, reached])

    new = np.full(states.shape[1], -1)
    new[reached] = np.arange(len(reached))
    origins = []
    arrivals = []
    values = []
    leaks = np.zeros((len(nu), len(reached)))
    escape = np.zeros(len(reached))
    for r, target in enumerate(targets):
        rate = rates[r, reached]
        to = target[reached]
        fired = np.flatnonzero(rate > 0)
        inside = np.flatnonzero((rate > 0) & (to >= 0))
        # W[to, from] = a_r, and −a_r on the diagonal
        origins += [inside, fired]
        arrivals += [new[to[inside]], fired]
        values += [rate[inside], -rate[fired]]
        above = afters[r][:, reached] > box.highest[:, None]
        leaks += np.where((to < 0) & above, rate, 0)
        escape += np.where((to < 0) & (rate > 0), rate, 0)
    places = np.concatenate(arrivals), np.concatenate(origins)
    generator = scipy.sparse.coo_array(
        (np.concatenate(values), places), shape=(len(reached),) * 2
    ).tocsr()
    p = np.zeros(len(reached))
    p[new[start]] = 1
    return StateSpace(network, states[:, reached], generator, leaks, escape, p, limits)


def reachable(box: Box, network: Network, rates, targets: list, start: int) -> np.ndarray:
    """Indices of the states that reactions and events lead to from `start`, in order."""
    size = box.states.shape[1]
    everything = np.arange(size)
    edges = []
    for rate, to in zip(rates, targets, strict=True):
        live = (to >= 0) & (rate != 0)
        edges.append((everything[live], to[live]))
    for _, values in network.timed:
        after = network.react(box.states, network.set_counts(box.states, values))
        to = box.place(after)
        edges.append((everything[to >= 0], to[to >= 0]))
    origin, arrival = (np.concatenate(part) for part in zip(*edges, strict=True))
    ones = np.ones(len(origin), dtype=np.int8)
    graph = scipy.sparse.coo_array((ones, (origin, arrival)), shape=(size, size)).tocsr()
    return np.sort(
        scipy.sparse.csgraph.breadth_first_order(graph, start, return_predecessors=False)
    )


def check_laws(network: Network, states: np.ndarray, rates: np.ndarray) -> None:
    """Raises ValueError where a rate is negative or leads below zero, and says where."""

    bad = np.flatnonzero(~((rates >= -1e-9) & (rates < np.inf)).all(axis=0))
    if len(bad):
        counts = dict(zip(network.species, states[:, bad[0]].tolist(), strict=True))
        raise ValueError(f"a rate is negative or not finite at {counts}")
    network.check_guards(states)


# ---------------------------------------------------------------- p(t)
def uniformisation(generator, p: np.ndarray, duration: float) -> np.ndarray:
    """p(t) = Σ_k Poisson(k; Λt) (I + W̃/Λ)^k p(0), all terms ≥ 0: no cancellation, any accuracy."""
    rate = float(-generator.diagonal().min())
    mean = rate * duration
    if mean == 0:
        return p
    weights = scipy.stats.poisson.pmf(np.arange(int(mean + 10 * np.sqrt(mean) + 40)), mean)
    weights /= weights.sum()
    step = scipy.sparse.csr_array(scipy.sparse.eye_array(len(p), format="csr") + generator / rate)
    total = np.zeros_like(p)
    for weight in weights:
        if weight > 1e-20:
            total += weight * p
        p = step @ p
    return total


def stiff_exponential(generator, escape: np.ndarray, duration: float) -> np.ndarray:
    """exp(W̃·duration), dense (N, N), also where Λ·duration is 1e15: no number in it is negative.

    By uniformisation over Λ·duration/2^s ≤ 1/2, squared s times. A state more holds what leaves the
    space at the rates `escape`, so that all columns sum to 1, and are brought back to that.
    """
    n = len(escape)
    rates = np.zeros((n + 1, n + 1))
    rates[:n, :n] = generator.toarray()
    np.fill_diagonal(rates, 0)
    rates[n, :n] = escape
    exits = rates.sum(axis=0)
    largest = exits.max() * duration
    squarings = max(0, int(np.ceil(np.log2(2 * largest)))) if largest > 0 else 0
    mean = largest / 2**squarings
    step = rates / (exits.max() or 1.0)
    np.fill_diagonal(step, 1 - exits / (exits.max() or 1.0))
    power = np.eye(n + 1)
    found = np.zeros_like(power)
    for weight in scipy.stats.poisson.pmf(np.arange(20), mean):
        found += weight * power
        power = step @ power
    for _ in range(squarings):
        found /= found.sum(axis=0)
        found = found @ found
    return (found / found.sum(axis=0))[:n, :n]


def symmetrise(generator) -> tuple | None:
    """(diagonal, off-diagonal, ln stationary weights) of a reversible birth–death chain.

    None for anything else."""
    entries = generator.tocoo()
    width = np.abs(entries.coords[0] - entries.coords[1]).max(initial=0)
    if width > 1 or generator.shape[0] < 2:
        return None
    up, down = generator.diagonal(-1), generator.diagonal(1)  # rates i → i+1 and i+1 → i
    if not ((up > 0).all() and (down > 0).all()):
        return None
    return generator.diagonal(), np.sqrt(up * down), np.append(0, np.cumsum(np.log(up / down)))


def amplification(log_weights: np.ndarray, p: np.ndarray) -> float:
    """ln of the factor by which the similarity D^(1/2) magnifies rounding errors for this start."""
    return 0.5 * (log_weights.max() - log_weights[p > 1e-16].min())


def eigen(generator, p: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """p at all durations at once, (T, N): W̃ = D^(1/2) S D^(−1/2), S symmetric and tridiagonal,
    D the stationary weights. Raises ValueError."""
    parts = symmetrise(generator)
    if parts is None:
        raise ValueError("method eigen needs a chain of single steps, each of which can be undone")
    diagonal, off_diagonal, log_weights = parts
    if amplification(log_weights, p) > 300:
        raise ValueError("method eigen loses all digits from this start: use uniformisation")
    root = np.exp(0.5 * (log_weights - log_weights.max()))
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, off_diagonal)
    weights = vectors.T @ np.where(p > 0, p / np.maximum(root, 1e-300), 0)
    found = (np.exp(np.outer(durations, values)) * weights) @ vectors.T * root
    return np.maximum(found, 0)  # rounding, not a bias


def choose_method(space: StateSpace, duration: float) -> str:
    """Uniformisation, except for stiff problems that are small or are reversible chains."""
    n = len(space.start)
    steps = -space.generator.diagonal().min() * duration
    parts = symmetrise(space.generator) if 2 <= n <= 3000 else None
    # rounding of the eigenvalues is a relative error of some 1e-16 · steps
    stiff = parts and 10 * n < steps < 1e6 and not space.network.timed
    if stiff and amplification(parts[2], space.start) < 10:
        return "eigen"
    return "dense" if n <= 500 and steps > 1e5 else "uniformisation"


def advance(space: StateSpace, p: np.ndarray, durations: np.ndarray, method: str) -> list:
    """p after each of the `durations`, which follow one another."""
    found = []
    cache = {}
    for duration in durations:
        if method == "uniformisation":
            steps = -space.generator.diagonal().min() * duration
            if steps > 1e8:
                raise ValueError(
                    f"{steps:.0e} steps of uniformisation to the next time: end earlier"
                )
            p = uniformisation(space.generator, p, duration)
        elif method == "expm_multiply":
            p = scipy.sparse.linalg.expm_multiply(space.generator * duration, p) if duration else p
        else:
            key = float(f"{duration:.12g}")  # equal steps share one matrix exponential
            if key not in cache:
                cache[key] = stiff_exponential(space.generator, space.escape, key)
            p = cache[key] @ p
        found.append(p)
    return found


def set_counts(space: StateSpace, p: np.ndarray, values: dict) -> np.ndarray:
    """p after an event has set counts; what would leave the space is lost."""
    network = space.network
    states = space.states
    after = network.react(states, network.set_counts(states, values))
    order = {tuple(state): i for i, state in enumerate(states.T.tolist())}
    place = [order.get(tuple(state), len(p)) for state in after.T.tolist()]
    return np.bincount(place, p, minlength=len(p) + 1)[:-1]


def solve(space: StateSpace, times: np.ndarray, method: str = "auto") -> tuple:
    """(p at each time (T, N), method used). Rounding apart, p is a lower bound and 1 − Σp bounds
    its error. Raises ValueError."""
    times = np.asarray(times, dtype=float)
    method = choose_method(space, times[-1]) if method == "auto" else method
    p = space.start
    now = 0.0
    rows = []
    done = 0
    for moment, values in (*space.network.timed, (np.inf, {})):
        stop = int(np.searchsorted(times, moment, side="left"))
        marks = np.append(times[done:stop], min(moment, times[-1]))
        if method == "eigen":
            part = eigen(space.generator, p, marks - now)
        else:
            part = advance(space, p, np.diff(marks, prepend=now), method)
        rows.extend(part[:-1])
        p = part[-1]
        now = marks[-1]
        done = stop
        if done == len(times):
            break
        p = set_counts(space, p, values)
    return np.array(rows), method


def lost(p: np.ndarray) -> float:
    """The probability that had left the truncated space by the last time (rounding < 1e-13)."""
    return float(max(0.0, 1 - p[-1].sum()))


# ---------------------------------------------------------------- limits found by simulation
def first_limits(network: Network, end: float, given: dict, seed: int) -> dict:
    """{species: highest count} of those not given, from a small simulation."""
    rows = zip(network.species, network.nu, strict=True)
    free = [name for name, row in rows if name not in given and row.any()]
    if not free:
        return {}
    initial = dict(zip(network.species, network.initial, strict=True))
    closed = closed_limits(network, free)
    if closed:
        return closed
    for name in free:
        if initial[name] > LARGEST_BOX:
            raise ValueError(f"{name} = {initial[name]:,}: too many states, simulate instead")
    grid = np.linspace(0, max(end, 1e-9), 40)
    paths = simulate(network, grid, 200, seed, keep=True, max_seconds=60)["states"]
    pilot = paths.max(axis=(0, 2))
    top = dict(zip(network.species, np.maximum(pilot, network.initial), strict=True))
    events = [values for _, values in (*network.timed, *network.triggers)]
    limits = {}
    for name in free:
        highest = max(top[name], *(values.get(name, 0) for values in events), 0)
        limits[name] = int(highest + 5 * np.sqrt(highest) + 10)
    return limits


def closed_limits(network: Network, names: list) -> dict:
    """{species: highest count} that no path of reactions can pass, by linear programming; {} where
    there is none, or where these limits make more than SMALL_BOX states. A stiff network, which
    simulation does not get through, is often such a small one."""
    if network.timed or network.triggers:
        return {}
    limits = {}
    for name in names:
        i = network.species.index(name)
        # counts initial + ν·k ≥ 0 after k ≥ 0 firings of each reaction
        found = scipy.optimize.linprog(-network.nu[i], -network.nu, network.initial)
        if found.status != 0 or not found.fun > -SMALL_BOX:
            return {}
        limits[name] = int(network.initial[i] - found.fun + 1e-6)
        if math.prod(limit + 1 for limit in limits.values()) > SMALL_BOX:
            return {}
    return limits


def solve_within(
    network: Network,
    times: np.ndarray,
    limits: dict | None = None,
    tolerance: float = 1e-9,
    method: str = "auto",
    seed: int = 0,
) -> tuple:
    """(StateSpace, p (T, N), method), with at most `tolerance` of the probability lost.

    Limits that are not given come from a small simulation and grow as needed; for given ones that
    are too low, ValueError says how much is lost and what to enlarge.
    """
    given = dict(limits or {})
    unknown = set(given) - set(network.species)
    if unknown:
        known = ", ".join(network.species)
        raise ValueError(f"limit of unknown species '{min(unknown)}' (the model has {known})")
    times = np.asarray(times, dtype=float)
    grown = first_limits(network, times[-1], given, seed)
    while True:
        space = build(network, {**grown, **given})
        p, used = solve(space, times, method)
        gone = lost(p)
        if gone <= tolerance:
            return space, p, used
        worst = network.species[int(np.argmax(space.leaks @ p.sum(axis=0)))]
        if worst in given:
            raise ValueError(
                f"the truncated state space loses {gone:.3g} of the probability by "
                f"t = {times[-1]:g}, over the tolerance {tolerance:g}, most by "
                f"{worst} > {given[worst]}: enlarge that limit"
            )
        if worst not in grown:
            raise ValueError(f"the model loses {gone:.3g} of the probability: limits do not help")
        grown[worst] = int(grown[worst] * 1.3 + 10)


# ---------------------------------------------------------------- chains of single steps
def birth_death_rates(network: Network, highest: int) -> tuple:
    """(rates up, rates down) at 0 … highest of a network of one species and steps of ±1."""
    rates = network.propensities(np.arange(highest + 1.0)[None, :])
    return rates[network.nu[0] > 0].sum(axis=0), rates[network.nu[0] < 0].sum(axis=0)


def stationary_law(birth: np.ndarray, death: np.ndarray) -> np.ndarray:
    """π_n ∝ Π b_(i−1)/d_i of a chain with these rates up and down."""
    logs = np.append(0, np.cumsum(np.log(birth[:-1] / death[1:])))
    return np.exp(logs - scipy.special.logsumexp(logs))
