"""The master equation itself, on a truncated state space, with a certificate of the probability that was lost.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/state_space.py
Time:    6 s on one core (AMD EPYC 2.6 GHz), 0.2 GB

dp/dt = W̃·p, W̃ = W − diag(column sums of W). Transitions that leave the truncated space are lost, so 1 − Σp is at once
a bound on the error of every probability (finite state projection, Munsky and Khammash 2006).
Symbols: W̃ → StateSpace.generator   p → (T, N) rows of `solve`   Λ → rate, the largest exit rate
Methods: uniformisation p(t) = Σ_k Poisson(k; Λt) (I + W̃/Λ)^k p(0); eigen-decomposition of D^(−1/2) W̃ D^(1/2) for
         reversible birth–death chains; scipy's expm_multiply; dense expm. `choose_method` goes by structure, size, Λt.
Differs from the article: it stops at the equation; this solves it.
"""
import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import eigh_tridiagonal, expm
from scipy.sparse import coo_array, csr_array, eye_array
from scipy.sparse.csgraph import breadth_first_order
from scipy.sparse.linalg import expm_multiply
from scipy.stats import poisson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from master_equation.networks import Network, independent_species, load_network
from master_equation.stochastic_simulation import simulate

HERE = Path(__file__).resolve().parent
METHODS = ("eigen", "uniformisation", "expm_multiply", "dense")
LARGEST_BOX = 6_000_000   # states that are looked at before unreachable ones are dropped, about 0.5 GB of work space


# ---------------------------------------------------------------- method
@dataclass
class StateSpace:
    network: Network
    states: np.ndarray      # (S, N) counts
    generator: csr_array    # W̃ (N, N): column = from, row = to; column sums are −(rate of leaving the space)
    leaks: np.ndarray       # (S, N) rate of leaving by each species' limit
    start: np.ndarray       # (N,) p(0)
    limits: dict

    def outputs(self) -> dict:
        return self.network.outputs(self.states.astype(float))

    def moments(self, p: np.ndarray) -> tuple:
        """({name: mean (T,)}, {name: sd (T,)}) of distributions p (T, N)."""
        means = {name: p @ values for name, values in self.outputs().items()}
        spread = {name: np.sqrt(np.maximum(np.einsum("tn,tn->t", p, (values - means[name][:, None]) ** 2), 0))
                  for name, values in self.outputs().items()}
        return means, spread

    def marginal(self, p: np.ndarray, name: str) -> tuple:
        """(lowest value, (T, K) probabilities) of one output."""
        values = np.rint(self.outputs()[name]).astype(int)
        return int(values.min()), np.stack([np.bincount(values - values.min(), row) for row in p])


def build(network: Network, limits: dict) -> StateSpace:
    """All states that can be reached with every species within `limits` {name: highest count}. Raises ValueError."""
    nu = network.nu.astype(int)
    resets = [values for _, values in (*network.timed, *network.triggers)]
    moving = [i for i in range(len(nu)) if nu[i].any() or any(network.species[i] in values for values in resets)]
    keep = moving if resets else independent_species(network.nu)
    for name in (network.species[i] for i in keep if network.species[i] not in limits):
        raise ValueError(f"species {name} needs a limit, such as {name}=200")
    initial = np.array(network.initial)
    highest = np.array([limits.get(name, np.iinfo(np.int64).max) for name in network.species])
    for name, count, limit in zip(network.species, initial, highest):
        if count > limit:
            raise ValueError(f"limit {name}={limit} is below its initial count {count}")
    shape = tuple(int(highest[i]) + 1 for i in keep)
    if np.prod(shape, dtype=float) > LARGEST_BOX:
        raise ValueError(f"{' × '.join(map(str, shape))} states exceed {LARGEST_BOX:,}: lower the limits, or simulate")

    def complete(box):   # the other species follow by conservation laws
        full = np.repeat(initial[:, None], box.shape[1], axis=1)
        rest = [i for i in range(len(nu)) if i not in keep]
        weights = np.linalg.lstsq(network.nu[keep].T, network.nu[rest].T, rcond=None)[0].T
        full[rest] += np.rint(weights @ (box - initial[keep, None])).astype(int)
        full[keep] = box
        return full

    def place(full):   # index in `states`, −1 where outside
        inside = (full >= 0).all(axis=0) & (full <= highest[:, None]).all(axis=0)
        code = np.ravel_multi_index(np.where(inside, full[keep], 0), shape)
        return np.where(inside, number[code], -1)

    def reset(full, values, where=True):
        full = full.copy()
        for i, value in ((network.species.index(name), value) for name, value in values.items()):
            full[i] = np.where(where, value, full[i])
        return full

    states = complete(np.indices(shape).reshape(len(keep), -1))
    valid = (states >= 0).all(axis=0) & (states <= highest[:, None]).all(axis=0)
    states, number = states[:, valid], np.where(valid, np.cumsum(valid) - 1, -1)
    with np.errstate(all="ignore"):
        rates = network.propensities(states.astype(float))
    targets = []
    for r in range(nu.shape[1]):
        after = states + nu[:, r:r + 1]
        for condition, values in network.triggers:
            after = reset(after, values, network.evaluate(condition, after))
        targets.append(place(after))
    size, n = states.shape[1], np.arange(states.shape[1])
    live = [(to >= 0) & (rate != 0) for to, rate in zip(targets, rates)]
    edges = [(n[m], to[m]) for m, to in zip(live, targets)]
    edges += [(n[to >= 0], to[to >= 0]) for to in (place(reset(states, values)) for _, values in network.timed)]
    origin, arrival = (np.concatenate(part) for part in zip(*edges))
    graph = coo_array((np.ones(len(origin), dtype=np.int8), (origin, arrival)), shape=(size, size)).tocsr()
    reached = np.sort(breadth_first_order(graph, int(place(initial[:, None])[0]), return_predecessors=False))
    if not (rates[:, reached] >= 0).all() or not np.isfinite(rates[:, reached]).all():
        bad = reached[np.flatnonzero(~((rates[:, reached] >= 0) & (rates[:, reached] < np.inf)).all(axis=0))[0]]
        raise ValueError(f"a rate is negative or not finite at {dict(zip(network.species, states[:, bad].tolist()))}")
    new = np.full(size, -1)
    new[reached] = np.arange(len(reached))
    rows, columns, values, leaks = [], [], [], np.zeros((len(nu), len(reached)))
    for r, to in enumerate(targets):
        rate, to = rates[r, reached], to[reached]
        inside, fired = to >= 0, rate > 0
        rows += [new[to[inside & fired]], np.flatnonzero(fired)]
        columns += [np.flatnonzero(inside & fired), np.flatnonzero(fired)]
        values += [rate[inside & fired], -rate[fired]]
        after = states[:, reached] + nu[:, r:r + 1]
        leaks += np.where(~inside & (after > highest[:, None]), rate, 0)
    place_of = np.concatenate(rows), np.concatenate(columns)
    matrix = coo_array((np.concatenate(values), place_of), shape=(len(reached),) * 2)
    start = np.zeros(len(reached))
    start[new[place(initial[:, None])[0]]] = 1
    return StateSpace(network, states[:, reached], matrix.tocsr(), leaks, start, limits)


def uniformisation(generator: csr_array, p: np.ndarray, duration: float) -> np.ndarray:
    """p(t) = Σ_k Poisson(k; Λt) (I + W̃/Λ)^k p(0), all terms ≥ 0: no cancellation, any accuracy."""
    mean = (rate := float(-generator.diagonal().min())) * duration
    if mean == 0:
        return p
    weights = poisson.pmf(np.arange(int(mean + 10 * np.sqrt(mean) + 40)), mean)
    weights /= weights.sum()
    step = csr_array(eye_array(len(p), format="csr") + generator / rate)
    total = np.zeros_like(p)
    for weight in weights:
        if weight > 1e-20:
            total += weight * p
        p = step @ p
    return total


def symmetrise(generator: csr_array) -> tuple | None:
    """(diagonal, off-diagonal, ln stationary weights) of a reversible birth–death chain; None for anything else."""
    entries = generator.tocoo()
    if np.abs(entries.coords[0] - entries.coords[1]).max(initial=0) > 1 or generator.shape[0] < 2:
        return None
    up, down = generator.diagonal(-1), generator.diagonal(1)   # rates i → i+1 and i+1 → i
    if not ((up > 0).all() and (down > 0).all()):
        return None
    return generator.diagonal(), np.sqrt(up * down), np.append(0, np.cumsum(np.log(up / down)))


def amplification(log_weights: np.ndarray, p: np.ndarray) -> float:
    """ln of the factor by which the similarity D^(1/2) magnifies rounding errors for this start."""
    return 0.5 * (log_weights.max() - log_weights[p > 1e-16].min())


def eigen(generator: csr_array, p: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """All times at once: W̃ = D^(1/2) S D^(−1/2), S symmetric tridiagonal, D the stationary weights. (T, N)."""
    if (parts := symmetrise(generator)) is None:
        raise ValueError("method eigen needs a chain of single steps, each of which can be undone")
    diagonal, off_diagonal, log_weights = parts
    if amplification(log_weights, p) > 300:
        raise ValueError("method eigen loses all digits from this start: use uniformisation")
    root = np.exp(0.5 * (log_weights - log_weights.max()))
    values, vectors = eigh_tridiagonal(diagonal, off_diagonal)
    weights = vectors.T @ np.where(p > 0, p / np.maximum(root, 1e-300), 0)
    return np.maximum((np.exp(np.outer(durations, values)) * weights) @ vectors.T * root, 0)   # rounding, not a bias


def choose_method(space: StateSpace, duration: float) -> str:
    """Uniformisation, except for stiff problems that are small or are reversible chains."""
    n, steps = len(space.start), -space.generator.diagonal().min() * duration
    parts = symmetrise(space.generator) if 2 <= n <= 3000 else None
    if parts and steps > 10 * n and not space.network.timed and amplification(parts[2], space.start) < 10:
        return "eigen"
    return "dense" if n <= 300 and steps > 1e5 else "uniformisation"


def solve(space: StateSpace, times: np.ndarray, method: str = "auto") -> tuple:
    """(p at each time (T, N), method used). Rounding apart, p is a lower bound and 1 − Σp bounds its error."""
    times = np.asarray(times, dtype=float)
    method = choose_method(space, times[-1]) if method == "auto" else method
    p, now, rows, done = space.start, 0.0, [], 0
    for moment, values in (*space.network.timed, (np.inf, {})):
        stop = int(np.searchsorted(times, moment, side="left"))
        marks = np.append(times[done:stop], min(moment, times[-1]))
        if method == "eigen":
            part = eigen(space.generator, p, marks - now)
        else:
            part, cache = [], {}
            for duration in np.diff(marks, prepend=now):
                if method == "uniformisation":
                    if (steps := -space.generator.diagonal().min() * duration) > 1e8:
                        raise ValueError(f"{steps:.0e} steps of uniformisation to the next time: end earlier")
                    p = uniformisation(space.generator, p, duration)
                elif method == "expm_multiply":
                    p = expm_multiply(space.generator * duration, p) if duration else p
                else:
                    key = float(f"{duration:.12g}")   # equal steps share one matrix exponential
                    if key not in cache:
                        cache[key] = expm(space.generator.toarray() * duration)
                    p = cache[key] @ p
                part.append(p)
        rows.extend(part[:-1])
        p, now, done = part[-1], marks[-1], stop
        if done == len(times):
            break
        after = space.states.copy()
        for name, value in values.items():
            after[space.network.species.index(name)] = value
        order = {tuple(state): i for i, state in enumerate(space.states.T.tolist())}
        p = np.bincount([order.get(tuple(state), len(p)) for state in after.T.tolist()], p, minlength=len(p) + 1)[:-1]
    return np.array(rows), method


def lost(p: np.ndarray) -> float:
    """The certificate: probability that had left the truncated space by the last time (rounding below 1e-13)."""
    return float(max(0.0, 1 - p[-1].sum()))


def solve_within(network: Network, times: np.ndarray, limits: dict | None = None, tolerance: float = 1e-9,
                 method: str = "auto", seed: int = 0) -> tuple:
    """(StateSpace, p (T, N), method). Limits that are not given come from a small simulation and grow until at most
    `tolerance` is lost; if all are given and too low, ValueError says how much is lost and what to enlarge."""
    given = dict(limits or {})
    if unknown := set(given) - set(network.species):
        raise ValueError(f"limit of unknown species '{min(unknown)}' (the model has {', '.join(network.species)})")
    times, grown = np.asarray(times, dtype=float), {}
    free = [s for s, row in zip(network.species, network.nu) if s not in given and row.any()]
    if free:
        grid = np.linspace(0, max(times[-1], 1e-9), 40)
        pilot = simulate(network, grid, 200, seed, keep=True)["states"].max(axis=(0, 2))
        top = dict(zip(network.species, np.maximum(pilot, network.initial)))
        top |= {s: max(top[s], *(values.get(s, 0) for _, values in network.timed), 0) for s in free}
        grown = {s: int(top[s] + 5 * np.sqrt(top[s]) + 10) for s in free}
    while True:
        space = build(network, {**grown, **given})
        p, used = solve(space, times, method)
        if (gone := lost(p)) <= tolerance:
            return space, p, used
        flux = space.leaks @ p.sum(axis=0)
        worst = network.species[int(np.argmax(flux))]
        if worst in given:
            raise ValueError(f"the truncated state space loses {gone:.3g} of the probability by t = {times[-1]:g}, "
                             f"over the tolerance {tolerance:g}, most by {worst} > {given[worst]}: enlarge that limit")
        grown[worst] = int(grown[worst] * 1.3 + 10)


# ---------------------------------------------------------------- figures
def plot_certificate(losses: dict, errors: dict) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(list(losses), list(losses.values()), "o-", label="certificate 1 − Σp")
    axes.semilogy(list(errors), list(errors.values()), "s--", label="largest error of a probability")
    axes.set(xlabel="highest count kept of X and Y", ylabel="probability", title="toggle switch at t = 50")
    axes.legend()
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
    network, end = load_network("toggle")
    reference = build(network, {"X": 40, "Y": 40})
    exact, _ = solve(reference, [end], "uniformisation")
    metrics = {"lost_40": lost(exact), "mean_X": reference.moments(exact)[0]["X"][0],
               "mean_Y": reference.moments(exact)[0]["Y"][0], "disagreement": {}}
    for method in ("expm_multiply",) if args.quick else ("expm_multiply", "dense"):
        other, _ = solve(reference, [end], method)
        metrics["disagreement"][method] = np.abs(other - exact).max()
    losses, errors = {}, {}
    for limit in (12, 16, 20, 24, 28):
        space = build(network, {"X": limit, "Y": limit})
        p, _ = solve(space, [end])
        inside = (reference.states <= limit).all(axis=0)
        losses[limit], errors[limit] = lost(p), np.abs(exact[0, inside] - p[0]).max()
        print(f"limit {limit}: {len(space.start)} states, lost {losses[limit]:.3g}, largest error {errors[limit]:.3g}")
    metrics, figures = metrics | {"lost": losses, "largest_error": errors}, ["state_space_certificate.png"]
    plot_certificate(losses, errors).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "state_space", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
