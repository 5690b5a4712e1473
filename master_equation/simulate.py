"""Simulate or solve a reaction network: trajectories, tau-leaping, the master equation, the mean field.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/simulate.py schlogl --methods exact states mean-field
         python master_equation/simulate.py my_model.txt --times 0:50:101 --methods states --limit X=300
Time:    seconds for most named models on 2 cores

MODEL is a named model or a text file; networks.py describes the form and lists the names. Written to --out-dir: means
and standard deviations (simulate.csv), distributions and sample paths (simulate.npz), figures, and simulate.json.
Symbols: x → counts of the species   p(x, t) → distributions   τ → --tau   W(x, y) → the model's laws (networks.py)
Methods: exact, explicit, implicit, trapezoidal (tau-leaping; needs --tau or takes 1/200 of the time span), states,
mean-field.
Differs from the article: it has no program.
"""
import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from master_equation.moments import exact_moments, leap_moments, mean_field
from master_equation.networks import MODELS, Network, load_network
from master_equation.state_space import METHODS as SOLVERS
from master_equation.state_space import lost, solve_within
from master_equation.stochastic_simulation import simulate
from master_equation.tau_leaping import KINDS, tau_leap

HERE = Path(__file__).resolve().parent
METHODS = ("exact", *KINDS, "states", "mean-field")
COLORS = dict(zip(("states", "exact", *KINDS, "mean-field"), ("C0", "C1", "C2", "C3", "C4", "C5")))   # in all figures


# ---------------------------------------------------------------- method
def run_method(method: str, network: Network, times: np.ndarray, args: argparse.Namespace) -> dict:
    """{mean: {name: (T,)}, sd: …, distributions: {name: (lowest, (T, K))}, note: str} of one method."""
    if method == "exact":
        result = simulate(network, times, args.trajectories, args.seed, args.processes, args.block_size,
                          histograms=True,
                          max_steps=args.max_steps, max_seconds=args.max_seconds)
        spread = {k: (low, counts / args.trajectories) for k, (low, counts) in result["histograms"].items()}
        return {"mean": result["mean"], "sd": result["sd"], "distributions": spread,
                "note": f"{args.trajectories} trajectories, {result['events']:,} events"}
    if method == "states":
        space, p, solver = solve_within(network, times, dict(args.limit), args.tolerance, args.solver, args.seed)
        mean, sd = space.moments(p)
        return {"mean": mean, "sd": sd, "distributions": {name: space.marginal(p, name) for name in mean},
                "lost": lost(p),
                "note": f"{len(space.start)} states, {solver}, at most {lost(p):.2g} of the probability lost"}
    if method == "mean-field":
        return {"mean": mean_field(network, times), "sd": {}, "distributions": {}, "note": "noise ignored"}
    tau = args.tau or times[-1] / 200
    result = tau_leap(network, times, args.trajectories, tau, method, args.seed)
    if network.affine():   # the bias is known
        (mean, sd), (biased, biased_sd) = exact_moments(network, times), leap_moments(network, times, tau, method)
        bias = "its bias at the end: " + ", ".join(f"mean {biased[k][-1] - mean[k][-1]:+.3g} and sd "
                                                   f"{biased_sd[k][-1] - sd[k][-1]:+.3g} of {k}" for k in mean)
    else:   # halve the leap: a first-order bias halves with it
        half = tau_leap(network, times, args.trajectories, tau / 2, method, args.seed + 1)
        bias = "its bias at the end, from leaps of half the length: " + ", ".join(
            f"mean {2 * (result['mean'][k][-1] - half['mean'][k][-1]):+.2g} (± "
            f"{2 * np.hypot(result['sd'][k][-1], half['sd'][k][-1]) / np.sqrt(args.trajectories):.1g}) of {k}"
            for k in result["mean"])
    return {"mean": result["mean"], "sd": result["sd"], "distributions": {},
            "note": (f"{result['leaps']} leaps of {tau:g} at most, {result['clamped']} counts clamped at zero (not in "
                     f"the bias); {bias}")}


def sample_paths(network: Network, times: np.ndarray, args: argparse.Namespace) -> tuple:
    """(fine times, {name: (T, 5)}) of five exact trajectories."""
    fine = np.linspace(0, times[-1], 400) if times[-1] > 0 else times
    result = simulate(network, fine, 5, args.seed + 1_000_003, keep=True, max_steps=args.max_steps,
                      max_seconds=args.max_seconds)
    return fine, {k: v for k, v in network.outputs(result["states"].swapaxes(0, 1).astype(float)).items()}


def write_tables(out_dir: Path, times: np.ndarray, results: dict, paths: tuple) -> None:
    """simulate.csv and simulate.npz, each in one move."""
    columns = {"time": times}
    arrays = {"times": times, "path_times": paths[0], **{f"paths_{k}": v for k, v in paths[1].items()}}
    for method, result in results.items():
        for kind in ("mean", "sd"):
            columns |= {f"{method}_{kind}_{name}": values for name, values in result[kind].items()}
        for name, (low, table) in result["distributions"].items():
            arrays |= {f"{method}_distribution_{name}": table, f"{method}_lowest_{name}": np.array(low)}
    lines = [",".join(columns), *(",".join(f"{v:.10g}" for v in row) for row in zip(*columns.values()))]
    (out_dir / "simulate.csv.part").write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(out_dir / "simulate.csv.part", out_dir / "simulate.csv")
    with open(out_dir / "simulate.npz.part", "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(out_dir / "simulate.npz.part", out_dir / "simulate.npz")


# ---------------------------------------------------------------- figures
def plot_means(times: np.ndarray, results: dict, paths: tuple) -> Figure:
    names = list(paths[1])[:4]
    figure = Figure(figsize=(4 * len(names) + 1, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        axes.plot(paths[0], paths[1][name], color="0.8", lw=0.6)
        for method, result in results.items():
            color = COLORS[method]
            axes.plot(times, result["mean"][name], "--" if method == "mean-field" else "-", color=color, label=method)
            if name in result["sd"] and method in ("exact", "states"):
                axes.fill_between(times, result["mean"][name] - result["sd"][name],
                                  result["mean"][name] + result["sd"][name],
                                  color=color, alpha=0.15)
        axes.set(xlabel="time", ylabel=name, title=f"{name}: mean ± sd, five paths")
        axes.legend(fontsize=8)
    return figure


def plot_heat(times: np.ndarray, name: str, low: int, table: np.ndarray, paths: tuple) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    seen = np.flatnonzero(table.max(axis=0) > 1e-5 * table.max())
    shades = axes.pcolormesh(times, low + np.arange(seen[0], seen[-1] + 1), np.sqrt(table[:, seen[0]:seen[-1] + 1].T),
                             shading="nearest", cmap="Blues", vmax=np.sqrt(np.quantile(table.max(axis=1), 0.8)),
                             rasterized=True)
    axes.plot(paths[0], paths[1][name][:, :3], lw=0.7)
    axes.set(xlabel="time", ylabel=name, title="distribution over time (shade: √probability) and three paths")
    figure.colorbar(shades, label="√p")
    return figure


# ---------------------------------------------------------------- command line
def read_times(text: str) -> np.ndarray:
    """'0:50:101' is 101 times from 0 to 50; '1,2,5' is a list."""
    try:
        if ":" in text:
            first, last, count = text.split(":")
            return np.linspace(float(first), float(last), int(count))
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': neither FIRST:LAST:COUNT nor a list such as 1,2,5") from None


def read_limit(text: str) -> tuple:
    name, _, value = text.partition("=")
    if not value.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}': looks like X=200, a species and its highest count")
    return name, int(value)


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("model", nargs="?", default="dimerisation", help=f"a text file or one of: {', '.join(MODELS)}")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["exact", "states", "mean-field"],
                        help="what to run")
    parser.add_argument("--times", type=read_times,
                        help="FIRST:LAST:COUNT or a list (else 51 times to the model's own end)")
    parser.add_argument("--trajectories", type=int, default=10_000, help="trajectories of the random methods")
    parser.add_argument("--tau", type=float, help="largest leap (else 1/200 of the time span)")
    parser.add_argument("--limit", type=read_limit, nargs="+", default=[],
                        help="highest counts kept by states, such as X=200")
    parser.add_argument("--tolerance", type=float, default=1e-9, help="probability that states may lose")
    parser.add_argument("--solver", choices=("auto", *SOLVERS), default="auto", help="how states are solved")
    parser.add_argument("--processes", type=int, default=1,
                        help="worker processes of exact; results do not depend on it")
    parser.add_argument("--block-size", type=int, default=16_384,
                        help="trajectories held at a time; results do not depend on it")
    parser.add_argument("--max-steps", type=int, default=10_000_000, help="events of one trajectory before giving up")
    parser.add_argument("--max-seconds", type=float, default=300, help="time limit of exact")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("trajectories", "processes", "block_size", "max_steps", "max_seconds"):
        if not getattr(args, name) >= 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 1")
    if args.tau is not None and not 0 < args.tau < np.inf:
        parser.error(f"--tau {args.tau}: must be above 0")
    if not 0 < args.tolerance < 1:
        parser.error(f"--tolerance {args.tolerance}: must lie in (0, 1)")
    if args.times is not None and (not len(args.times) or not np.isfinite(args.times).all() or args.times[0] < 0
                                   or (np.diff(args.times) <= 0).any()):
        parser.error(f"--times {','.join(f'{t:g}' for t in args.times[:6])}: must be increasing, 0 or more")
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
    network, end = load_network(args.model)
    for name, _ in args.limit:                            # before any work
        if name not in network.species:
            raise ValueError(f"--limit: unknown species '{name}'; the model has {', '.join(network.species)}")
    times = np.linspace(0, end, 51) if args.times is None else args.times
    args.times, args.limit, args.trajectories = times.tolist(), args.limit, min(args.trajectories,
                                                                                2000 if args.quick else 10**9)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    results, metrics = {}, {}
    for method in dict.fromkeys(args.methods):
        clock = time.perf_counter()
        results[method] = result = run_method(method, network, times, args)
        metrics[method] = {"note": result["note"], "seconds": time.perf_counter() - clock,
                           "mean_at_end": {k: v[-1] for k, v in result["mean"].items()},
                           "sd_at_end": {k: v[-1] for k, v in result["sd"].items()}}
        print(f"{method}: {result['note']} ({metrics[method]['seconds']:.1f} s)\n    t = {times[-1]:g}: " + ", ".join(
            f"{k} {v[-1]:.5g}" + (f" ± {result['sd'][k][-1]:.4g}" if k in result["sd"] else "")
            for k, v in result["mean"].items()))
    paths = sample_paths(network, times, args)
    write_tables(args.out_dir, times, results, paths)
    figures = ["simulate_means.png"]
    plot_means(times, results, paths).savefig(args.out_dir / figures[0], dpi=150)
    for method in ("states", "exact"):
        if method in results and len(times) > 1 and len(figures) < 2:
            name = max(paths[1], key=lambda k: results[method]["distributions"][k][1].shape[1])   # the widest
            figures.append("simulate_distribution.png")
            plot_heat(times, name, *results[method]["distributions"][name], paths).savefig(args.out_dir / figures[1],
                                                                                           dpi=150)
    return save_results(args, "simulate", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
