"""Simulate or solve a reaction network of your own: paths, distributions, means over time.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/simulate.py schlogl --methods exact states mean-field
         python master_equation/simulate.py my_model.txt --times 0:50:101 --methods states
MODEL is a named model or a text file in the form that reaction_network.py describes.
Methods: exact (trajectories), explicit, implicit, trapezoidal (tau-leaping), states (the master
         equation on a truncated space), mean-field.
Writes:  simulate.csv (means and standard deviations), simulate.npz (distributions and paths),
         figures, simulate.json. A method that cannot run is named, and loses nothing of the others.
Symbols: x → counts of the species   p(x, t) → distributions   τ → --tau   W → the model's laws
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

import cli
from expressions import python_name
from moments import exact_moments, leap_moments, mean_field
from reaction_network import MODELS, Network, load_network, parse_network, rounded_time
from state_space import METHODS as SOLVERS
from state_space import lost, solve_within
from stochastic_simulation import simulate
from tau_leaping import KINDS, tau_leap

METHODS = ("exact", *KINDS, "states", "mean-field")
COLORS = {
    "states": "C0",
    "exact": "C1",
    "explicit": "C2",
    "implicit": "C3",
    "trapezoidal": "C4",
    "mean-field": "C5",
}
QUICK_TRAJECTORIES = 2000
MOST_TIMES = 1_000_000
# sample paths, and what they may cost
PATHS = 5
PATH_STEPS = 300_000
PATH_SECONDS = 10
MOST_FIGURES = 4  # outputs that are drawn; the tables hold all


# ---------------------------------------------------------------- command line
def read_times(text: str) -> np.ndarray:
    """'0:50:101' is 101 times from 0 to 50; '1,2,5' is a list."""
    try:
        if ":" in text:
            first, last, count = text.split(":")
            if int(count) == 1 and float(first) != float(last):
                raise ValueError("one time cannot be both")
            if int(count) > MOST_TIMES:
                raise argparse.ArgumentTypeError(f"{text}: at most {MOST_TIMES:,} times")
            marks = np.linspace(float(first), float(last), int(count))
            times = np.array([rounded_time(mark) for mark in marks])
        else:
            times = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}': neither FIRST:LAST:COUNT nor a list such as 1,2,5"
        ) from None
    if (
        not len(times)
        or not np.isfinite(times).all()
        or times[0] < 0
        or (np.diff(times) <= 0).any()
    ):
        raise argparse.ArgumentTypeError(f"{text}: must be increasing, 0 or more")
    return times


def read_limit(text: str) -> tuple:
    name, _, value = text.partition("=")
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}': looks like X=200, a species and its maximum")
    return python_name(name), int(value)


def flags(parser):
    named = f"a text file or one of: {', '.join(MODELS)}"
    parser.add_argument("model", nargs="?", default="dimerisation", help=named)
    methods = ["exact", "states", "mean-field"]
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=methods, help="what to run"
    )
    parser.add_argument("--times", type=read_times, help="FIRST:LAST:COUNT or a list of times")
    parser.add_argument(
        "--trajectories", type=cli.between(1, 10**9), default=10_000, help="of each"
    )
    tau = cli.between(1e-12, 1e12, float)
    parser.add_argument("--tau", type=tau, help="largest leap (else 1/200 of the time span)")
    highest = "highest counts kept by states, such as X=200"
    parser.add_argument("--limit", type=read_limit, nargs="+", default=[], help=highest)
    tolerance = cli.between(1e-15, 0.999, float)
    parser.add_argument("--tolerance", type=tolerance, default=1e-9, help="lost by states")
    parser.add_argument("--solver", choices=("auto", *SOLVERS), default="auto", help="of states")
    parser.add_argument("--processes", type=cli.between(1, 1024), default=1, help="of exact")
    events = "of one trajectory before giving up"
    parser.add_argument("--max-steps", type=cli.between(1, 10**12), default=10_000_000, help=events)
    seconds = cli.between(0.1, 1e9, float)
    parser.add_argument("--max-seconds", type=seconds, default=300, help="of exact")
    parser.add_argument("--seed", **cli.SEED)


def read_model(model: str) -> tuple:
    """(Network, time of interest) of a named model or a text file. Raises ValueError or OSError."""
    if model in MODELS:
        return load_network(model)
    if not Path(model).is_file():
        raise ValueError(f"MODEL '{model}': neither a file nor one of {', '.join(MODELS)}")
    data = Path(model).read_bytes()
    for encoding in ("utf-8-sig", "gb18030"):  # comments of an older Chinese editor
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "gb18030":
            print(f"{model}: not UTF-8, read as GB18030")
        return parse_network(text), 50.0
    raise ValueError(f"MODEL {model}: not a text file in UTF-8 or GB18030")


def describe(network: Network) -> str:
    """What the model was taken for."""
    counts = zip(network.species, network.initial, strict=True)
    start = ", ".join(f"{name} = {count}" for name, count in counts)
    conserved = ", ".join(network.conservation_laws()) or "nothing"
    closed = ", moment equations close" if network.affine() else ""
    return f"{len(network.reactions)} reactions from {start}; conserved: {conserved}{closed}"


# ---------------------------------------------------------------- methods
def run_method(method: str, network: Network, times: np.ndarray, args) -> dict:
    """{mean: {name: (T,)}, sd: …, distributions: {name: (values (K,), p (T, K))}, note: str}."""
    with np.errstate(all="ignore"):  # what is not finite is said
        result = run_one(method, network, times, args)
    own = [name for name, values in result["mean"].items() if not np.isfinite(values).all()]
    if own:
        result["note"] += f"; not finite: {', '.join(own)}, which has no value in some state"
    distributions = result["distributions"].items()
    result["distributions"] = {k: pair for k, pair in distributions if np.isfinite(pair[0]).all()}
    return result


def run_one(method: str, network: Network, times: np.ndarray, args) -> dict:
    if method == "exact":
        return run_exact(network, times, args)
    if method == "states":
        return run_states(network, times, args)
    if method == "mean-field":
        means = mean_field(network, times)
        return {"mean": means, "sd": {}, "distributions": {}, "note": "noise ignored"}
    return run_leaps(method, network, times, args)


def run_exact(network: Network, times: np.ndarray, args) -> dict:
    n = args.trajectories
    limits = {"max_steps": args.max_steps, "max_seconds": args.max_seconds}
    found = simulate(network, times, n, args.seed, args.processes, histograms=True, **limits)
    kept = {name: table for name, table in found["histograms"].items() if table}
    note = f"{n} trajectories, {found['events']:,} events"
    if missing := sorted(set(found["mean"]) - set(kept)):
        note += f"; no distribution of {', '.join(missing)}: too many values, or not numbers"
    distributions = {name: (values, counts / n) for name, (values, counts) in kept.items()}
    return {"mean": found["mean"], "sd": found["sd"], "distributions": distributions, "note": note}


def run_states(network: Network, times: np.ndarray, args) -> dict:
    limits = dict(args.limit)
    space, p, solver = solve_within(network, times, limits, args.tolerance, args.solver, args.seed)
    mean, sd = space.moments(p)
    gone = lost(p)
    return {
        "mean": mean,
        "sd": sd,
        "distributions": {name: space.marginal(p, name) for name in mean},
        "lost": gone,
        "note": f"{len(space.start)} states, {solver}, at most {gone:.2g} of the probability lost",
    }


def run_leaps(kind: str, network: Network, times: np.ndarray, args) -> dict:
    """Tau-leaping, with its bias at the end: exact where the network is affine, else estimated."""
    tau, n = args.tau or times[-1] / 200 or 1.0, args.trajectories
    found = tau_leap(network, times, n, tau, kind, args.seed)
    if network.affine() and not network.timed and not found["halved"]:
        (mean, sd), (biased, biased_sd) = (
            exact_moments(network, times),
            leap_moments(network, times, tau, kind),
        )
        parts = [
            f"mean {biased[name][-1] - mean[name][-1]:+.3g} and sd "
            f"{biased_sd[name][-1] - sd[name][-1]:+.3g} of {name}"
            for name in mean
        ]
        gaps = [biased[name][-1] - mean[name][-1] for name in mean]
        errors = [0.0] * len(gaps)
        bias = "its bias at the end: " + ", ".join(parts)
    else:  # a first-order bias halves with the leap
        half = tau_leap(network, times, n, tau / 2, kind, args.seed + 1)
        parts = []
        gaps = []
        errors = []
        for name in found["mean"]:
            gap = 2 * (found["mean"][name][-1] - half["mean"][name][-1])
            error = 2 * np.hypot(found["sd"][name][-1], half["sd"][name][-1]) / np.sqrt(n)
            parts.append(f"mean {gap:+.2g} (± {error:.1g}) of {name}")
            gaps.append(gap)
            errors.append(error)
        bias = "its bias at the end, from leaps of half the length: " + ", ".join(parts)
    sizes = [abs(values[-1]) for values in found["mean"].values()]
    known = zip(gaps, errors, sizes, strict=True)
    if any(abs(gap) > 3 * error + 0.05 * size for gap, error, size in known):
        bias += "; that is too much, choose a smaller --tau"
    note = f"{found['leaps']} leaps of {tau:g} at most, {found['halved']} of them halved at zero"
    return {
        "mean": found["mean"],
        "sd": found["sd"],
        "distributions": {},
        "note": f"{note}; {bias}",
    }


def refuse(method: str, network: Network) -> str | None:
    """Why a method does not take the model, which is known before any work; None if it does."""
    if network.triggers and method in ("mean-field", *KINDS):
        return "it does not take 'when' statements"
    return None


def sample_paths(network: Network, times: np.ndarray, args) -> tuple:
    """(fine times, {name: (T, PATHS)}) of exact trajectories. Raises ValueError."""
    fine = np.linspace(0, times[-1], 400) if times[-1] > 0 else times
    limits = {
        "max_steps": min(args.max_steps, PATH_STEPS),
        "max_seconds": min(args.max_seconds, PATH_SECONDS),
    }
    states = simulate(network, fine, PATHS, args.seed + 1_000_003, keep=True, **limits)["states"]
    return fine, network.outputs(states.swapaxes(0, 1).astype(float))


# ---------------------------------------------------------------- tables
def write_tables(out_dir: Path, times: np.ndarray, results: dict, paths: tuple | None) -> None:
    """simulate.csv and simulate.npz, each in one move."""
    columns = {"time": times}
    arrays = {"times": times}
    for method, result in results.items():
        for kind in ("mean", "sd"):
            for name, values in result[kind].items():
                columns[f"{method}_{kind}_{name}"] = values
        for name, (values, table) in result["distributions"].items():
            missing = np.abs(1 - table.sum(axis=1)).max()
            assert missing <= result.get("lost", 0) + 1e-9, (
                f"{method}: {name} sums to 1 − {missing}"
            )
            arrays[f"{method}_distribution_{name}"] = table
            arrays[f"{method}_values_{name}"] = values
    if paths:
        arrays["path_times"] = paths[0]
        arrays |= {f"paths_{name}": values for name, values in paths[1].items()}
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(f"{value:.10g}" for value in row) for row in rows)]
    (out_dir / "simulate.csv.part").write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(out_dir / "simulate.csv.part", out_dir / "simulate.csv")
    with open(out_dir / "simulate.npz.part", "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(out_dir / "simulate.npz.part", out_dir / "simulate.npz")


# ---------------------------------------------------------------- figures
def plot_means(times: np.ndarray, results: dict, paths: tuple | None):
    names = list(next(iter(results.values()))["mean"])[:MOST_FIGURES]
    rows = -(-len(names) // 2)
    columns = min(2, len(names))
    figure, grid = cli.subplots(rows, columns, height=0.4 + 3.1 * rows, squeeze=False)
    for axes in grid.ravel()[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.ravel(), names, strict=False):
        if paths:
            axes.plot(paths[0], paths[1][name], color="0.8", lw=0.6)
        for method, result in results.items():
            mean = result["mean"][name]
            color = COLORS[method]
            line = "--" if method == "mean-field" else "-"
            axes.plot(times, mean, line, color=color, label=method)
        band = next((method for method in ("states", "exact") if method in results), None)
        if band:
            mean, sd = results[band]["mean"][name], results[band]["sd"][name]
            axes.fill_between(times, mean - sd, mean + sd, color=COLORS[band], alpha=0.15)
        axes.set(xlabel="time", ylabel=name, title="mean ± sd" + ", five paths" * bool(paths))
    grid[0, 0].legend()
    return figure


def plot_distribution(times: np.ndarray, name: str, values, table, paths: tuple | None):
    figure, axes = cli.subplots(height=4)
    shown = table.max(axis=0) > 1e-5 * table.max()  # parity may leave out every other value
    shades = axes.pcolormesh(
        times,
        values[shown],
        np.sqrt(table[:, shown].T),
        shading="nearest",
        cmap="Blues",
        vmax=np.sqrt(np.quantile(table.max(axis=1), 0.8)),
        rasterized=True,
    )
    if paths:
        axes.plot(paths[0], paths[1][name][:, :3], lw=0.7)
    axes.set(
        xlabel="time", ylabel=name, title="distribution over time" + ", three paths" * bool(paths)
    )
    figure.colorbar(shades, label="√ probability")
    return figure


def figures_of(times: np.ndarray, results: dict, paths: tuple | None) -> dict:
    figures = {"simulate_means": plot_means(times, results, paths)}
    for method in ("states", "exact"):
        found = results.get(method, {}).get("distributions")
        if found and len(times) > 1 and "simulate_distribution" not in figures:
            widest = max(found, key=lambda name: len(found[name][0]))
            if len(found[widest][0]) > 1:
                drawn = plot_distribution(times, widest, *found[widest], paths)
                figures["simulate_distribution"] = drawn
    return figures


# ---------------------------------------------------------------- main
def report(method: str, result: dict, end: float) -> dict:
    """Print a method's last values; what simulate.json holds of it."""
    means = {name: float(values[-1]) for name, values in result["mean"].items()}
    sds = {name: float(values[-1]) for name, values in result["sd"].items()}
    parts = [
        f"{name} {mean:.6g}" + (f" ± {sds[name]:.5g}" if name in sds else "")
        for name, mean in means.items()
    ]
    print(f"{method}: {result['note']} ({result['seconds']:.1f} s)")
    print(f"    t = {end:g}: {', '.join(parts)}", flush=True)
    found = {"note": result["note"], "seconds": result["seconds"]}
    return found | {"mean_at_end": means, "sd_at_end": sds}


def run_all(network: Network, times: np.ndarray, args) -> tuple:
    """({method: result}, what simulate.json holds of them, {method: why it did not run}).

    The tables are written after each method.
    """
    methods = list(dict.fromkeys(args.methods))
    refused = {method: why for method in methods if (why := refuse(method, network))}
    for method, why in refused.items():
        print(f"{method}: not run: {why}", flush=True)
    results = {}
    metrics = {}
    for method in [method for method in methods if method not in refused]:
        started = time.perf_counter()
        try:
            result = run_method(method, network, times, args)
        except (ValueError, ArithmeticError, MemoryError) as error:
            refused[method] = str(error) or type(error).__name__
            print(f"{method}: not run: {refused[method]}", flush=True)
            continue
        results[method] = result | {"seconds": time.perf_counter() - started}
        metrics[method] = report(method, results[method], times[-1])
        write_tables(args.out_dir, times, results, None)
    return results, metrics | ({"not_run": refused} if refused else {}), refused


def main(args):
    network, end = read_model(args.model)
    for name, _ in args.limit:  # before any work
        if name not in network.species:
            known = ", ".join(network.species)
            raise ValueError(f"--limit: unknown species '{name}'; the model has {known}")
    times = np.linspace(0, end, 51) if args.times is None else args.times
    args.times = times.tolist()
    if args.quick:
        args.trajectories = min(args.trajectories, QUICK_TRAJECTORIES)
    print(f"{args.model}: {describe(network)}")

    results, metrics, refused = run_all(network, times, args)
    if not results:
        raise ValueError(f"no method could run; {', '.join(refused)}: {list(refused.values())[-1]}")
    paths = None
    try:
        with np.errstate(all="ignore"):
            paths = sample_paths(network, times, args)
        write_tables(args.out_dir, times, results, paths)
    except ValueError as error:
        print(f"paths: not drawn: {str(error).split(';')[0]}")
    return metrics, [], figures_of(times, results, paths)


if __name__ == "__main__":
    cli.run(main, flags)
