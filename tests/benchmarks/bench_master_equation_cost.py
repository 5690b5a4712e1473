"""What it costs: events per second, solver seconds by states, a million trajectories, memory.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python tests/benchmarks/bench_master_equation_cost.py
         (--million: also a million immigration–death trajectories to t = 50)
Side by side with GillesPy2: tests/benchmarks/bench_master_equation.py.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "master_equation"))
import cli
from reaction_network import load_network
from state_space import build, solve
from stochastic_simulation import CHUNK, simulate

TIMED = {  # model: largest number of trajectories
    "immigration-death": 100_000,
    "sir": 10_000,
    "toggle": 100_000,
}
EXACT_MEANS = {  # model: (output, its mean at the model's own time)
    "decay": ("X", 100 * np.exp(-5)),
    "immigration-death": ("X", 100 * (1 - np.exp(-5))),
    "birth-death": ("X", 100 * np.exp(-0.5)),
    "telegraph": ("on", 0.625 * (1 - np.exp(-8))),
}


def flags(parser):
    million = "also a million trajectories of immigration–death"
    parser.add_argument("--million", action="store_true", help=million)
    workers = "worker processes of --million"
    parser.add_argument("--processes", type=cli.between(1, 1024), default=2, help=workers)
    parser.add_argument("--seed", **cli.SEED)


# ---------------------------------------------------------------- measuring
def time_simulation(model: str, sizes, seed: int) -> dict:
    """{trajectories: events per second of the processor}: the machine may have other work."""
    network, end = load_network(model)
    rates = {}
    for n in sizes:
        started = time.process_time()
        events = simulate(network, np.linspace(0, end, 51), n, seed)["events"]
        rates[n] = events / (time.process_time() - started)
    return rates


def time_solvers(widths) -> tuple:
    """({method: {states: seconds}}, largest disagreement) for the toggle switch to t = 50."""
    network, end = load_network("toggle")
    seconds, gaps = {"uniformisation": {}, "expm_multiply": {}, "dense": {}}, []
    for width in widths:
        space, found = build(network, {"X": width - 1, "Y": width - 1}), []
        for method, row in seconds.items():
            if method == "dense" and width > 20:
                continue
            started = time.process_time()
            found.append(solve(space, [end], method)[0])
            row[width**2] = time.process_time() - started
        gaps += [float(np.abs(p - found[0]).max()) for p in found]
    return seconds, max(gaps)


def check_means(n: int, seed: int) -> dict:
    """Simulated means beside exact ones, and beside those of two processes."""
    found = {}
    for model, (name, mean) in EXACT_MEANS.items():
        network, end = load_network(model)
        started = time.process_time()
        one = simulate(network, [end], n, seed)
        seconds = time.process_time() - started
        two = simulate(network, [end], n, seed, processes=2, block_size=CHUNK)
        equal = [np.array_equal(one[k][s], two[k][s]) for k in ("mean", "sd") for s in one["mean"]]
        found[model] = {
            "mean": one["mean"][name][0],
            "exact_mean": mean,
            "z": np.sqrt(n) * (one["mean"][name][0] - mean) / one["sd"][name][0],
            "events_per_second": one["events"] / seconds,
            "two_processes_equal": bool(all(equal)),
        }
    return found


def peak_memory_gb(children: bool) -> float:
    """Peak memory of this process, or of its largest child; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    whose = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return resource.getrusage(whose).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def run_million(n: int, processes: int, seed: int) -> dict:
    network, end = load_network("immigration-death")
    started, cpu = time.perf_counter(), os.times()
    result = simulate(network, np.linspace(0, end, 51), n, seed, processes)
    seconds, used = time.perf_counter() - started, os.times()
    mean = 100 * -np.expm1(-5)
    return {
        "trajectories": n,
        "processes": processes,
        "seconds": seconds,
        "events": result["events"],
        "cpu_seconds": sum(used[:4]) - sum(cpu[:4]),
        "events_per_second": result["events"] / seconds,
        "mean": result["mean"]["X"][-1],
        "z": np.sqrt(n) * (result["mean"]["X"][-1] - mean) / np.sqrt(mean),
        "variance_over_mean": result["sd"]["X"][-1] ** 2 / mean,
        "peak_gb": peak_memory_gb(False) + processes * peak_memory_gb(True),
    }


# ---------------------------------------------------------------- figure
def plot_cost(rates: dict, seconds: dict):
    figure, (left, right) = cli.subplots(1, 2, height=4)
    for model, row in rates.items():
        left.loglog(list(row), list(row.values()), "o-", label=model)
    left.set(xlabel="trajectories", ylabel="events per processor second", title="exact simulation")
    left.legend()
    for method, row in seconds.items():
        right.loglog(list(row), list(row.values()), "o-", label=method)
    right.set(xlabel="states", ylabel="processor seconds", title="toggle switch to t = 50")
    right.legend()
    return figure


# ---------------------------------------------------------------- main
def main(args):
    sizes, widths, n = (100, 1000, 10_000, 100_000), (20, 40, 80, 160), 100_000
    if args.quick:
        sizes, widths, n = (100, 1000), (10, 20), 5000
    metrics = {}
    if args.million:  # first, so that its memory is its own
        size = 20_000 if args.quick else 1_000_000
        metrics["million"] = million = run_million(size, args.processes, args.seed)
        print(
            f"{million['trajectories']:,} trajectories, {million['events']:,} events: "
            f"{million['seconds']:.1f} s, {million['cpu_seconds']:.1f} processor s, "
            f"{million['peak_gb']:.2f} GB, z {million['z']:+.2f}"
        )
    rates = {
        model: time_simulation(model, [size for size in sizes if size <= most], args.seed)
        for model, most in TIMED.items()
    }
    seconds, gap = time_solvers(widths)
    metrics |= {
        "events_per_second": rates,
        "solver_seconds": seconds,
        "solvers_disagree": gap,
        "means": check_means(n, args.seed),
        "peak_gb": peak_memory_gb(False),
    }
    for model, row in rates.items():
        print(f"{model}: " + ", ".join(f"{n:,}: {rate:.3g} events/s" for n, rate in row.items()))
    for method, row in seconds.items():
        print(f"{method}: " + ", ".join(f"{n:,} states {s:.3g} s" for n, s in row.items()))
    return metrics, [], {"cost_scaling": plot_cost(rates, seconds)}


if __name__ == "__main__":
    cli.run(main, flags)
