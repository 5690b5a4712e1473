"""Exact stochastic simulation, vectorised over trajectories: an ensemble at cache speed.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/stochastic_simulation.py        (speed at other sizes: cost.py; any model: simulate.py)
Time:    10 s on one core (AMD EPYC 2.6 GHz), 0.2 GB

Gillespie's direct method: wait Exp(a₀) with a₀ = Σ a_r, then reaction r with probability a_r/a₀. All trajectories of a
chunk take their n-th step together. A state is recorded as it was at the recording time: before the jump that
passes it.

Symbols: a_r → cumulative sums in generated buffers   τ = −ln(u)/a₀ → waiting   ν → Network.nu
Random numbers belong to chunks of CHUNK trajectories (SFC64 seeded with (seed, chunk)), so results depend neither on
the block size nor on the number of processes.
Differs from the article: it derives the equation; this draws from the process behind it (J. Phys. Chem. 81:2340, 1977).
"""
import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from master_equation.generated_step import compile_step
from master_equation.networks import Network, independent_species, load_network, names_in

HERE = Path(__file__).resolve().parent
CHUNK = 4096   # trajectories that share a random stream; work arrays of this length stay in a core's level-2 cache

# ---------------------------------------------------------------- method
class Simulator:
    """The generated step of a network, and the loop that runs it."""

    def __init__(self, network: Network):
        self.network = network
        used = set().union(*(names_in(text) for text in (*network.laws, *(event[0] for event in network.triggers))))
        used |= {name for _, values in (*network.timed, *network.triggers) for name in values}
        order = sorted(range(len(network.species)), key=lambda i: network.species[i] not in used)   # used ones first
        independent = {order[i] for i in independent_species(network.nu[order])}
        self.carried = [i for i in order if i in independent or network.species[i] in used]
        self.derived = [i for i in order if i not in self.carried]   # follow from conservation laws when recorded
        self.weights = np.linalg.lstsq(network.nu[self.carried].T, network.nu[self.derived].T, rcond=None)[0].T
        self.wait, self.fire, self.buffers = compile_step(network, self.carried)

    def run(self, times: np.ndarray, n: int, rng: np.random.Generator, max_steps: int, deadline: float) -> tuple:
        """(states at `times`: (T, S, n), number of events). Raises ValueError when a limit or a law is broken."""
        start = np.repeat(np.array(self.network.initial, dtype=float)[:, None], n, axis=1)
        records, now, done, events = np.empty((len(times), *start.shape)), 0.0, 0, 0
        for moment, values in (*self.network.timed, (np.inf, {})):   # the process forgets: stop there, go on
            stop = int(np.searchsorted(times, moment, side="left"))
            last = min(moment, times[-1])
            part, count = self.segment(start, now, np.append(times[done:stop], last), rng, max_steps, deadline)
            records[done:stop], start, now, done, events = part[:-1], part[-1].copy(), last, stop, events + count
            if done == len(times):
                break
            for name, value in values.items():
                start[self.network.species.index(name)] = value
        return records, events

    def segment(self, start, now, times, rng, max_steps, deadline):
        species, grid = self.network.species, np.append(times, np.inf)
        n, end = start.shape[1], len(times)
        records = np.empty((end, *start.shape))
        x, t, target = start[self.carried].copy(), np.full(n, now), np.full(n, times[0])
        lanes, pointer, finished, events, steps = np.arange(n), np.zeros(n, dtype=int), 0, 0, 0
        carried = np.array(self.carried)
        u, w, flag, inside = np.empty((2, n)), np.empty((self.buffers, n)), np.empty(n, bool), np.empty(n, bool)
        rows, work, draws = list(x), list(w), list(u)
        while True:
            rng.random(out=u)
            self.wait(rows, t, draws, work)
            np.less_equal(t, target, out=inside)
            crossing = np.flatnonzero(np.logical_not(inside, out=inside))   # also where t is not a number
            if finished and len(crossing):
                crossing = crossing[pointer[crossing] < end]   # finished ones run on unwatched until they are dropped
            if len(crossing):
                values, lane, p = x[:, crossing], lanes[crossing], pointer[crossing]
                stop = final = np.searchsorted(times, t[crossing], side="left")
                if not (values >= 0).all() or np.isnan(t[crossing]).any():
                    bad = np.flatnonzero((~(values >= 0)).any(axis=0) | np.isnan(t[crossing]))[0]
                    state = ", ".join(f"{species[i]} = {v:g}" for i, v in zip(self.carried, values[:, bad]))
                    raise ValueError(f"simulation reached {state}, where a law or a count is negative or not a number")
                while len(p):
                    records[p[:, None], carried, lane[:, None]] = values.T
                    more = np.flatnonzero(p + 1 < stop)
                    if not len(more):
                        break
                    p, stop, values, lane = p[more] + 1, stop[more], values[:, more], lane[more]
                finished += np.count_nonzero(final == end)
                pointer[crossing], target[crossing] = final, grid[final]
                if finished == len(t):
                    break
                if 8 * finished > len(t):   # drop finished trajectories
                    self.fire(rows, draws, work, flag)
                    keep = np.flatnonzero(pointer < end)
                    x, t, target, lanes, pointer = x[:, keep], t[keep], target[keep], lanes[keep], pointer[keep]
                    x, events, finished, m = np.ascontiguousarray(x), events + len(keep), 0, len(keep)
                    u, w, flag, inside = u[:, :m].copy(), w[:, :m].copy(), flag[:m].copy(), inside[:m].copy()
                    rows, work, draws = list(x), list(w), list(u)
                    self.trigger(x)
                    continue
            self.fire(rows, draws, work, flag)
            if self.network.triggers:
                self.trigger(x)
            events += len(t) - finished
            steps += 1
            if not steps % 256 and (steps >= max_steps or time.monotonic() > deadline):
                i = np.argmin(np.where(pointer < end, t, np.inf))
                state = ", ".join(f"{species[k]} = {v:g}" for k, v in zip(self.carried, x[:, i]))
                raise ValueError(f"gave up after {steps} steps: the slowest trajectory is at t = {t[i]:.6g} of "
                                 f"{times[-1]:g} with {state}; the model may grow without bound (raise --max-steps or "
                                 "--max-seconds, or end earlier)")
        if self.derived:   # y_d = y_d(0) + M (y_c − y_c(0))
            moved = records[:, self.carried] - start[self.carried]
            records[:, self.derived] = start[self.derived] + np.rint(np.einsum("dc,tcn->tdn", self.weights, moved))
        return records, events

    def trigger(self, x: np.ndarray) -> None:
        """Apply 'when' statements in place."""
        if self.network.triggers:
            names = [self.network.species[i] for i in self.carried]
            full = np.zeros((len(self.network.species), x.shape[1]))
            full[self.carried] = x
            for condition, values in self.network.triggers:
                hit = self.network.evaluate(condition, full)
                for name, value in values.items():
                    x[names.index(name)][hit] = value


def simulate_block(network: Network, times: np.ndarray, chunks: list, seed: int, keep: bool, histograms: bool,
                   max_steps: int, deadline: float) -> dict:
    """Run some chunks [(index, size), …] and reduce them: sums, sums of squares, histograms, states if asked for."""
    simulator, total = Simulator(network), None
    for index, size in chunks:
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(index,))))
        with np.errstate(all="ignore"):
            states, events = simulator.run(times, size, rng, max_steps, deadline)
        outputs = network.outputs(states.swapaxes(0, 1))   # name: (T, n)
        part = {"n": size, "events": events, "states": [states.astype(np.int32)] if keep else [],
                "sum": {k: v.sum(axis=-1) for k, v in outputs.items()},
                "squares": {k: np.square(v).sum(axis=-1) for k, v in outputs.items()},
                "histograms": {k: histogram(v) for k, v in outputs.items()} if histograms else {}}
        total = part if total is None else merge(total, part)
    return total


def histogram(values: np.ndarray) -> tuple:
    """(smallest value, counts (T, K)) of whole numbers (T, n)."""
    low, width = int(values.min()), int(values.max()) - int(values.min()) + 1
    if width * len(values) > 1 << 26:
        raise ValueError(f"a histogram of {width} values at {len(values)} times is too large: fewer times")
    offsets = np.arange(len(values))[:, None] * width
    cells = np.rint(values).astype(np.int64) - low + offsets
    return low, np.bincount(cells.ravel(), minlength=width * len(values)).reshape(len(values), width)


def merge(a: dict, b: dict) -> dict:
    def join(first, second):
        low = min(first[0], second[0])
        high = max(first[0] + first[1].shape[1], second[0] + second[1].shape[1])
        counts = np.zeros((len(first[1]), high - low), dtype=np.int64)
        for start, part in (first, second):
            counts[:, start - low:start - low + part.shape[1]] += part
        return low, counts
    return {"n": a["n"] + b["n"], "events": a["events"] + b["events"], "states": a["states"] + b["states"],
            **{key: {k: a[key][k] + b[key][k] for k in a[key]} for key in ("sum", "squares")},
            "histograms": {k: join(a["histograms"][k], b["histograms"][k]) for k in a["histograms"]}}


def simulate(network: Network, times, n: int, seed: int = 0, processes: int = 1, block_size: int = 4 * CHUNK,
             keep: bool = False, histograms: bool = False, max_steps: int = 10_000_000,
             max_seconds: float = 600) -> dict:
    """Exact trajectories at increasing `times` ≥ 0.

    Returns {n, events, mean: {name: (T,)}, sd: {name: (T,)}, histograms: {name: (lowest, (T, K))}, states: (T, S, n)
    int32 with keep=True}. Equal for every block_size and number of processes. Raises ValueError.
    """
    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or not len(times) or times[0] < 0 or (np.diff(times) <= 0).any() or not np.isfinite(times).all():
        raise ValueError("times must be increasing, finite and 0 or more")
    if n < 1:
        raise ValueError(f"n = {n}: needs at least one trajectory")
    chunks = [(i, min(CHUNK, n - i * CHUNK)) for i in range(-(-n // CHUNK))]
    size = max(1, block_size // CHUNK)
    blocks = [chunks[i:i + size] for i in range(0, len(chunks), size)]
    rest = (seed, keep, histograms, max_steps, time.monotonic() + max_seconds)
    if processes > 1 and len(blocks) > 1:
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        with ProcessPoolExecutor(min(processes, len(blocks)), mp_context=multiprocessing.get_context(method)) as pool:
            waiting, total = [pool.submit(simulate_block, network, times, block, *rest) for block in blocks], None
            for future in waiting:
                total = future.result() if total is None else merge(total, future.result())
    else:
        total = None
        for block in blocks:
            part = simulate_block(network, times, block, *rest)
            total = part if total is None else merge(total, part)
    mean = {k: v / n for k, v in total["sum"].items()}
    sd = {k: np.sqrt(np.maximum(total["squares"][k] / n - mean[k] ** 2, 0)) for k in mean}
    states = np.concatenate(total["states"], axis=2) if keep else None
    return {"n": n, "events": total["events"], "mean": mean, "sd": sd, "histograms": total["histograms"],
            "states": states}


# ---------------------------------------------------------------- evaluation
EXACT_MEANS = {   # at the last time
               "decay": ("X", 100 * np.exp(-5)), "immigration-death": ("X", 100 * (1 - np.exp(-5))),
               "birth-death": ("X", 100 * np.exp(-0.5)), "telegraph": ("on", 0.625 * (1 - np.exp(-8)))}


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=100_000, help="trajectories of each model")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.trajectories < 2:
        parser.error(f"--trajectories {args.trajectories}: must be at least 2")
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
    n, metrics = min(args.trajectories, 5000) if args.quick else args.trajectories, {}
    for model, (name, mean) in EXACT_MEANS.items():
        network, end = load_network(model)
        clock = time.perf_counter()
        result = simulate(network, [end], n, args.seed)
        seconds = time.perf_counter() - clock
        again = simulate(network, [end], n, args.seed, processes=2, block_size=CHUNK)
        metrics[model] = {"mean": result["mean"][name][0], "exact_mean": mean,
                          "z": np.sqrt(n) * (result["mean"][name][0] - mean) / result["sd"][name][0],
                          "events_per_second": result["events"] / seconds,
                          "two_processes_equal": bool(all(np.array_equal(result["mean"][k], again["mean"][k])
                                                          and np.array_equal(result["sd"][k], again["sd"][k])
                                                          for k in result["mean"]))}
        print(f"{model}: mean {name} {metrics[model]['mean']:.4f}, exact {mean:.4f}, z {metrics[model]['z']:+.2f}, "
              f"{metrics[model]['events_per_second']:.3g} events/s")
    return save_results(args, "stochastic_simulation", metrics, [], [], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
