"""Exact stochastic simulation: Gillespie's loop in its plain form, and at cache speed.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
The article derives the equation for p; this draws from the process behind it (Gillespie 1977):
wait τ = −ln(u)/a₀ with a₀ = Σ a_r, then take reaction r with probability a_r/a₀.

`plain_simulation` is that, a trajectory at a time. `simulate` draws from the same law: all
trajectories of a chunk take their n-th step together, in code that generated_step.py makes.
A state is recorded as it was at the recording time: before the jump that passes it.

Symbols: a_r → propensities   τ → wait   ν → changes, Network.nu
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from expressions import names_in
from generated_step import compile_step
from reaction_network import LARGEST_COUNT, Network, below_zero, independent_species

CHUNK = 4096  # trajectories that share a random stream; their work rows stay in a level-2 cache
MOST_VALUES = 1 << 17  # different values of an output for which a distribution is kept
MOST_CELLS = 1 << 26  # of a table of counts


# ---------------------------------------------------------------- the plain form
def plain_simulation(changes, propensities, start, times, rng) -> np.ndarray:
    """One exact trajectory by Gillespie's direct method: counts at `times`, (T, S).

    changes: (R, S), what each reaction adds; propensities: counts (S,) → rates (R,);
    start: (S,); times increasing; rng: np.random.default_rng(seed).
    """
    x = np.array(start)
    t = 0.0
    done = 0
    record = np.empty((len(times), len(x)))
    while True:
        a = propensities(x)
        total = np.sum(a)
        # τ = −ln(u)/a₀, without end where nothing can happen any more
        wait = rng.exponential() / total if total > 0 else np.inf
        while done < len(times) and times[done] < t + wait:
            record[done] = x
            done += 1
        if done == len(times):
            return record
        # reaction r with probability a_r/a₀
        r = np.searchsorted(np.cumsum(a), rng.random() * total, side="right")
        x = x + changes[r]
        t += wait


# ---------------------------------------------------------------- all trajectories in step
class Simulator:
    """The generated step of a network, and the loop that runs it."""

    def __init__(self, network: Network):
        self.network = network
        used = set().union(*(names_in(text) for text in network.laws))
        used |= {name for _, values in network.timed for name in values}
        used |= {name for _, name, _ in network.unguarded}
        everything = range(len(network.species))
        # species that the laws use come first, so that the rest may follow from conservation laws
        order = sorted(everything, key=lambda i: network.species[i] not in used)
        independent = {order[i] for i in independent_species(network.nu[order])}
        self.carried = [i for i in order if i in independent or network.species[i] in used]
        if network.triggers:  # they break conservation laws in mid-run
            self.carried = list(everything)
        self.derived = [i for i in order if i not in self.carried]
        carried_nu, derived_nu = network.nu[self.carried], network.nu[self.derived]
        self.weights = np.linalg.lstsq(carried_nu.T, derived_nu.T, rcond=None)[0].T
        self.watched = bool(network.unguarded or network.unsure_laws or network.unbounded_laws)
        self.wait, self.fire, self.buffers = compile_step(network, self.carried)

    def run(self, times, n: int, rng, max_steps: int, deadline: float) -> tuple:
        """(states at `times`: (T, S, n), number of events). Raises ValueError."""
        start = np.repeat(np.array(self.network.initial, dtype=float)[:, None], n, axis=1)
        records = np.empty((len(times), *start.shape))
        now = 0.0
        done = 0
        events = 0
        # the process forgets: it may be stopped at an event and go on from there
        for moment, values in (*self.network.timed, (np.inf, {})):
            stop = int(np.searchsorted(times, moment, side="left"))
            last = min(moment, times[-1])
            marks = np.append(times[done:stop], last)
            part, count = self.segment(start, now, marks, rng, max_steps, deadline)
            records[done:stop] = part[:-1]
            now = last
            done = stop
            events = events + count
            if done == len(times):
                break
            before = part[-1]
            start = self.network.react(before, self.network.set_counts(before, values))
        if not records.max() < LARGEST_COUNT:
            raise ValueError("a count passes 2**53, where X + 1 is X in floating point")
        return records, events

    def segment(self, start, now: float, times, rng, max_steps: int, deadline: float) -> tuple:
        """`run` without events: from `start` (S, n) at time `now`."""
        grid = np.append(times, np.inf)
        n = start.shape[1]
        end = len(times)
        records = np.empty((end, *start.shape))
        carried = np.array(self.carried)
        x = start[self.carried]
        t = np.full(n, now)
        low = np.full(n, np.inf)
        # each trajectory's place in the records, its next recording time and that time's number
        lanes = np.arange(n)
        target = np.full(n, times[0])
        pointer = np.zeros(n, dtype=int)
        u = np.empty((2, n))
        w = np.empty((self.buffers, n))
        flag = np.empty(n, bool)
        inside = np.empty(n, bool)
        rows = list(x)
        work = list(w)
        draws = list(u)
        finished = events = steps = 0
        while True:
            rng.random(out=u)
            self.wait(rows, t, draws, work, low)
            np.less_equal(t, target, out=inside)
            np.logical_not(inside, out=inside)  # also where t is not a number
            crossing = inside.nonzero()[0]
            if finished and len(crossing):  # finished ones run on until they are dropped
                crossing = crossing[pointer[crossing] < end]
            if len(crossing):
                values = x[:, crossing]
                t_next = t[crossing]
                self.check(values, t_next, low[crossing] if self.watched else None)
                final = np.searchsorted(times, t_next, side="left")
                places = records, carried, lanes[crossing], pointer[crossing], final
                record_until(*places, values)
                finished += np.count_nonzero(final == end)
                pointer[crossing], target[crossing] = final, grid[final]
                if finished == len(t):
                    break
                if 8 * finished > len(t):  # drop the finished ones
                    self.step(x, rows, draws, work, flag)
                    keep = np.flatnonzero(pointer < end)
                    x = np.ascontiguousarray(x[:, keep])
                    t = t[keep]
                    target = target[keep]
                    low = low[keep]
                    lanes = lanes[keep]
                    pointer = pointer[keep]
                    events = events + len(keep)
                    finished = 0
                    m = len(keep)
                    u = u[:, :m].copy()
                    w = w[:, :m].copy()
                    flag = flag[:m].copy()
                    inside = inside[:m].copy()
                    rows = list(x)
                    work = list(w)
                    draws = list(u)
                    continue
            self.step(x, rows, draws, work, flag)
            events += len(t) - finished
            steps += 1
            if not steps % 256:
                live = pointer < end
                if self.watched:  # a negative rate runs time backwards: it crosses nothing
                    self.check(x[:, live], t[live], low[live])
                if steps >= max_steps or time.monotonic() > deadline:
                    slowest = np.argmin(np.where(live, t, np.inf))
                    self.give_up(steps, x[:, slowest], t[slowest], times[-1])
        if self.derived:  # y_d = y_d(0) + M (y_c − y_c(0))
            moved = records[:, self.carried] - start[self.carried]
            followed = np.rint(np.einsum("dc,tcn->tdn", self.weights, moved))
            records[:, self.derived] = start[self.derived] + followed
        return records, events

    def step(self, x, rows, draws, work, flag) -> None:
        """One reaction of every trajectory, and what 'when' statements make of it; in place."""
        if not self.network.triggers:
            self.fire(rows, draws, work, flag)
            return
        before = x.copy()
        self.fire(rows, draws, work, flag)
        x[:] = self.network.react(before, x)

    def check(self, x: np.ndarray, t: np.ndarray, low: np.ndarray | None) -> None:
        """Raises ValueError where a count or a law was negative, or a time is not a number."""
        never_below = low is None or (low >= -1e-9).all()
        if never_below and (x >= 0).all() and not np.isnan(t).any():
            return
        sound = (x >= 0).all(axis=0) & ~np.isnan(t)
        if low is not None:
            sound &= low >= -1e-9
        bad = np.flatnonzero(~sound)[0]
        state = self.describe(x[:, bad])
        for reaction, name, needed in self.network.unguarded:
            if low is None or not np.isnan(low[bad]):
                raise ValueError(below_zero(reaction, name, needed, state))
        raise ValueError(
            f"simulation came to {state}: a law or a count is negative, or not a finite number"
        )

    def describe(self, x: np.ndarray) -> str:
        names = [self.network.species[i] for i in self.carried]
        return ", ".join(f"{name} = {value:g}" for name, value in zip(names, x, strict=True))

    def give_up(self, steps: int, x: np.ndarray, t: float, end: float) -> None:
        raise ValueError(
            f"gave up after {steps} steps: the slowest trajectory is at t = {t:.6g} of {end:g} "
            f"with {self.describe(x)}; the model may grow without bound (raise --max-steps or "
            "--max-seconds, or end earlier)"
        )


def record_until(records, species, lanes, first, last, values) -> None:
    """Write `values` (S, n) to records[first … last − 1] of each lane, in place."""
    while len(lanes):
        records[first[:, None], species, lanes[:, None]] = values.T
        more = (first + 1 < last).nonzero()[0]
        if not len(more):
            return
        first, last = first[more] + 1, last[more]
        values, lanes = values[:, more], lanes[more]


# ---------------------------------------------------------------- many chunks, and their summary
def simulate_chunks(network, times, chunks, seed, keep, histograms, max_steps, deadline) -> list:
    """Run chunks [(index, size), …]; `reduce` of each."""
    simulator = Simulator(network)
    parts = []
    for index, size in chunks:
        sequence = np.random.SeedSequence(seed, spawn_key=(index,))
        rng = np.random.Generator(np.random.SFC64(sequence))
        with np.errstate(all="ignore"):
            states, events = simulator.run(times, size, rng, max_steps, deadline)
            part = reduce(network, states, histograms)
        part["states"] = whole(states) if keep else None
        parts.append(part | {"n": size, "events": events})
    return parts


def reduce(network: Network, states: np.ndarray, histograms: bool) -> dict:
    """Sums, squares about the mean and histograms of each output at `states` (T, S, n).

    Squares about the chunk's own mean do not cancel; neither do sums of populations of thousands of
    millions, which are counted from the first trajectory's (`shift`).
    """
    part = {"shift": {}, "sum": {}, "squares": {}, "histograms": {}}
    for name, values in network.outputs(states.swapaxes(0, 1)).items():  # (T, n)
        first = values[:, 0]
        shift = np.where((np.abs(first) > 2**31) & np.isfinite(first), first, 0.0)
        off = values - shift[:, None] if shift.any() else values
        part["shift"][name] = shift
        part["sum"][name] = off.sum(axis=-1)
        middle = part["sum"][name][:, None] / off.shape[-1]
        part["squares"][name] = np.square(off - middle).sum(axis=-1)
        if histograms:
            part["histograms"][name] = histogram(values)
    return part


def whole(states: np.ndarray) -> np.ndarray:
    """Counts as integers, of 4 bytes where they fit."""
    return states.astype(np.int32 if states.max() < 2**31 else np.int64)


def histogram(values: np.ndarray) -> tuple | None:
    """(values (K,), how often each occurs (T, K)) of an output (T, n); None if too many differ.

    Whole numbers come without gaps, low … high; others with twelve digits."""
    if not np.isfinite(values).all():
        return None
    low, high = values.min(), values.max()
    if high - low < MOST_CELLS / len(values) and (values == np.rint(values)).all():
        cells = (values - low).astype(np.int64)
        found = low + np.arange(int(high - low) + 1)
    else:
        different, cells = np.unique(values, return_inverse=True)
        if len(different) > MOST_VALUES or len(different) * len(values) > MOST_CELLS:
            return None
        rounded = [float(f"{value:.12g}") for value in different]
        found, merged = np.unique(rounded, return_inverse=True)
        cells = merged[cells].reshape(values.shape)
    width = len(found)
    places = cells + np.arange(len(values))[:, None] * width
    counts = np.bincount(places.ravel(), minlength=width * len(values))
    return found, counts.reshape(len(values), width)


def join_histograms(parts: list) -> tuple | None:
    """One histogram of several; None if one of them is None, or too many values differ."""
    if any(part is None for part in parts):
        return None
    found = np.unique(np.concatenate([values for values, _ in parts]))
    rows = len(parts[0][1])
    width = found[-1] - found[0]
    if (found == np.rint(found)).all() and width < MOST_CELLS / rows:
        found = np.arange(found[0], found[-1] + 1)
    elif len(found) > MOST_VALUES:
        return None
    counts = np.zeros((rows, len(found)), dtype=np.int64)
    for values, part in parts:
        counts[:, np.searchsorted(found, values)] += part
    return found, counts


def summarise(parts: list, n: int) -> dict:
    """Means, standard deviations, histograms and states of all chunks."""
    mean = {}
    sd = {}
    histograms = {}
    for name, shift in parts[0]["shift"].items():
        # of each chunk, counted from the shift of the first
        sums = [part["sum"][name] + part["n"] * (part["shift"][name] - shift) for part in parts]
        middle = sum(sums) / n
        squares = 0.0
        for part, chunk_sum in zip(parts, sums, strict=True):
            gap = chunk_sum / part["n"] - middle
            squares = squares + part["squares"][name] + part["n"] * gap**2
        mean[name] = shift + middle
        sd[name] = np.sqrt(squares / n)
        if parts[0]["histograms"]:
            histograms[name] = join_histograms([part["histograms"][name] for part in parts])
    states = None
    if parts[0]["states"] is not None:
        states = np.concatenate([part["states"] for part in parts], axis=2)
    events = sum(part["events"] for part in parts)
    found = {"n": n, "events": events, "mean": mean, "sd": sd}
    return found | {"histograms": histograms, "states": states}


def simulate(
    network: Network,
    times,
    n: int,
    seed: int = 0,
    processes: int = 1,
    block_size: int = 4 * CHUNK,
    keep: bool = False,
    histograms: bool = False,
    max_steps: int = 10_000_000,
    max_seconds: float = 600,
) -> dict:
    """Exact trajectories at increasing `times` ≥ 0.

    Returns {n, events, mean: {name: (T,)}, sd: {name: (T,)}, histograms: {name: (values (K,),
    counts (T, K)), or None where too many values differ}, states: (T, S, n) integers, with
    keep=True}. Random numbers belong to chunks of CHUNK trajectories (SFC64 seeded with (seed,
    chunk)): results are equal for every block_size and number of processes. Raises ValueError.
    """
    times = np.asarray(times, dtype=float)
    increasing = times.ndim == 1 and len(times) and times[0] >= 0 and (np.diff(times) > 0).all()
    if not increasing or not np.isfinite(times).all():
        raise ValueError("times must be increasing, finite and 0 or more")
    if n < 1:
        raise ValueError(f"n = {n}: needs at least one trajectory")
    chunks = [(i, min(CHUNK, n - i * CHUNK)) for i in range(-(-n // CHUNK))]
    size = max(1, block_size // CHUNK)
    blocks = [chunks[i : i + size] for i in range(0, len(chunks), size)]
    rest = (seed, keep, histograms, max_steps, time.monotonic() + max_seconds)
    if processes == 1 or len(blocks) == 1:
        parts = [part for b in blocks for part in simulate_chunks(network, times, b, *rest)]
        return summarise(parts, n)
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(min(processes, len(blocks)), mp_context=context) as pool:
        waiting = [pool.submit(simulate_chunks, network, times, b, *rest) for b in blocks]
        return summarise([part for block in waiting for part in block.result()], n)
