"""What it costs: events per second by ensemble size, solver seconds by states, a million trajectories, memory.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/cost.py        (--million: a million immigration–death trajectories to t = 50)
Time:    15 s on one core (AMD EPYC 2.6 GHz), 0.3 GB; --million 25 processor seconds more

Symbols: as in stochastic_simulation.py and state_space.py
Differs from the article: it has no program. Side by side with GillesPy2: tests/benchmarks/bench_master_equation.py.
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
from master_equation.networks import load_network
from master_equation.state_space import build, solve
from master_equation.stochastic_simulation import simulate

HERE = Path(__file__).resolve().parent
TIMED = ("immigration-death", "sir", "toggle")


# ---------------------------------------------------------------- evaluation
def time_simulation(model: str, sizes, seed: int) -> dict:
    network, end = load_network(model)
    rates = {}
    for n in sizes:
        started = time.process_time()   # of the processor: the machine may have other work
        events = simulate(network, np.linspace(0, end, 51), n, seed)["events"]
        rates[n] = events / (time.process_time() - started)
    return rates


def time_solvers(widths) -> tuple:
    """({method: {states: seconds}}, largest disagreement) for the toggle switch kept to width² states, to t = 50."""
    network, end = load_network("toggle")
    seconds, gaps = {"uniformisation": {}, "expm_multiply": {}, "dense": {}}, []
    for width in widths:
        space, found = build(network, {"X": width - 1, "Y": width - 1}), []
        for method, row in seconds.items():
            if method == "dense" and width > 20:
                continue
            started = time.process_time()
            found.append(solve(space, [end], method)[0])
            row[width ** 2] = time.process_time() - started
        gaps += [float(np.abs(p - found[0]).max()) for p in found]
    return seconds, max(gaps)


def peak_memory_gb(children: bool) -> float:
    """Peak resident memory of this process, or of its largest child, in GB; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:   # Windows
        return float("nan")
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1e9 if sys.platform == "darwin" else 1e6)


def run_million(n: int, processes: int, seed: int) -> dict:
    network, end = load_network("immigration-death")
    started, cpu = time.perf_counter(), os.times()
    result = simulate(network, np.linspace(0, end, 51), n, seed, processes)
    seconds, used = time.perf_counter() - started, os.times()
    mean = 100 * -np.expm1(-5)
    return {"trajectories": n, "processes": processes, "seconds": seconds, "events": result["events"],
            "cpu_seconds": sum(used[:4]) - sum(cpu[:4]), "events_per_second": result["events"] / seconds,
            "mean": result["mean"]["X"][-1], "z": np.sqrt(n) * (result["mean"]["X"][-1] - mean) / np.sqrt(mean),
            "variance_over_mean": result["sd"]["X"][-1] ** 2 / mean,
            "peak_gb": peak_memory_gb(False) + processes * peak_memory_gb(True)}


# ---------------------------------------------------------------- figures
def plot_cost(rates: dict, seconds: dict) -> Figure:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for model, row in rates.items():
        left.loglog(list(row), list(row.values()), "o-", label=model)
    left.set(xlabel="trajectories", ylabel="events per processor second", title="exact simulation")
    left.legend()
    for method, row in seconds.items():
        right.loglog(list(row), list(row.values()), "o-", label=method)
    right.set(xlabel="states", ylabel="processor seconds", title="master equation, toggle switch to t = 50")
    right.legend()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--million", action="store_true", help="also a million trajectories of immigration–death")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of --million")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.processes < 1:
        parser.error(f"--processes {args.processes}: must be at least 1")
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
    sizes, widths = ((100, 1000), (10, 20)) if args.quick else ((100, 1000, 10_000, 100_000), (20, 40, 80, 160))
    metrics = {}
    if args.million:   # first, so that its memory is its own
        metrics["million"] = million = run_million(20_000 if args.quick else 1_000_000, args.processes, args.seed)
        print(f"{million['trajectories']:,} trajectories, {million['events']:,} events: {million['seconds']:.1f} s, "
              f"{million['cpu_seconds']:.1f} processor s, "
              f"{million['peak_gb']:.2f} GB, z {million['z']:+.2f}")
    rates = {model: time_simulation(model, sizes if model != "sir" else sizes[:3], args.seed) for model in TIMED}
    seconds, gap = time_solvers(widths)
    metrics |= {"events_per_second": rates, "solver_seconds": seconds, "solvers_disagree": gap,
                "peak_gb": peak_memory_gb(False)}
    for model, row in rates.items():
        print(f"{model}: " + ", ".join(f"{n:,} trajectories {rate:.3g} events/s" for n, rate in row.items()))
    for method, row in seconds.items():
        print(f"{method}: " + ", ".join(f"{n:,} states {s:.3g} s" for n, s in row.items()))
    figures = ["cost_scaling.png"]
    plot_cost(rates, seconds).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "cost", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
