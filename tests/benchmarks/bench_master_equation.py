"""Exact simulation side by side with GillesPy2: same model, same times, same number of trajectories, one run.

Run:  python tests/benchmarks/bench_master_equation.py [--trajectories 10000] [--repeats 3]
Its C++ solver needs SCons where this Python finds it: in a virtual environment set PYTHONPATH to its site-packages.
A peer that is not installed, or does not build, is reported as not run. Ratios are what to trust: of processor seconds,
which a busy machine disturbs less than wall seconds (both are given). Both sides use one core.
"""
import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from master_equation.networks import parse_network
from master_equation.stochastic_simulation import simulate

CASES = {   # name: (our text, species, parameters, reactions as (reactants, products, law), last time, steps)
    "DSMTS 002-02": ("species X = 0\n0 -> X : 10\nX -> 0 : 0.1", {"X": 0}, {"a": 10, "m": 0.1},
                     [({}, {"X": 1}, "a"), ({"X": 1}, {}, "m*X")], 50),
    "SIR": ("species S = 999\nspecies I = 1\nspecies R = 0\nS + I -> 2I : 1e-4\nI -> R : 0.01",
            {"S": 999, "I": 1, "R": 0}, {"b": 1e-4, "g": 0.01},
            [({"S": 1, "I": 1}, {"I": 2}, "b*S*I"), ({"I": 1}, {"R": 1}, "g*I")], 250),
}


def peer_model(species, parameters, reactions, end):
    import gillespy2
    model = gillespy2.Model(name="peer")
    model.add_species([gillespy2.Species(name=k, initial_value=v, mode="discrete") for k, v in species.items()])
    model.add_parameter([gillespy2.Parameter(name=k, expression=str(v)) for k, v in parameters.items()])
    model.add_reaction([gillespy2.Reaction(name=f"r{i}", reactants=left, products=right, propensity_function=law)
                        for i, (left, right, law) in enumerate(reactions)])
    model.timespan(gillespy2.TimeSpan.linspace(t=end, num_points=51))
    return model


def processor_seconds():
    """Of this process and its finished children (a compiled solver runs as a child)."""
    return sum(os.times()[:4])


def clock(function):
    """(processor seconds, wall seconds, value) of a call."""
    cpu, wall = processor_seconds(), time.perf_counter()
    value = function()
    return processor_seconds() - cpu, time.perf_counter() - wall, value


def time_peer(solver_name, case, n, repeats):
    """(processor seconds, wall seconds) of the best run, seconds to build, mean of the first species at the end."""
    import gillespy2
    model, started = peer_model(*case[1:]), time.perf_counter()
    solver = getattr(gillespy2, solver_name)(model=model)
    solver.run(number_of_trajectories=1, seed=1)
    build, best, mean = time.perf_counter() - started, (np.inf, np.inf), None
    for k in range(repeats):
        *taken, result = clock(lambda: solver.run(number_of_trajectories=n, seed=k + 1))
        best = min(best, tuple(taken))
        mean = float(np.mean([trajectory[next(iter(case[1]))][-1] for trajectory in result]))
    return best, build, mean


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=10_000)
    parser.add_argument("--peer-trajectories", type=int, default=200, help="of the slow NumPy solver, scaled up")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = {"trajectories": args.trajectories, "python": platform.python_version(), "numpy": np.__version__}
    for name, case in CASES.items():
        network, times, best = parse_network(case[0]), np.linspace(0, case[-1], 51), (np.inf, np.inf)
        for k in range(args.repeats):   # trajectories kept, as the peers keep them
            *taken, ours = clock(lambda: simulate(network, times, args.trajectories, seed=k, keep=True))
            best = min(best, tuple(taken))
        row = table[name] = {"seconds": best[0], "wall": best[1], "events_per_second": ours["events"] / best[0],
                             "mean": ours["mean"][next(iter(case[1]))][-1]}
        for solver, n, repeats in (("SSACSolver", args.trajectories, args.repeats),
                                   ("NumPySSASolver", args.peer_trajectories, 1)):
            try:
                (cpu, wall), build, mean = time_peer(solver, case, n, repeats)
                cpu, wall = cpu * args.trajectories / n, wall * args.trajectories / n
                row[solver] = {"seconds": cpu, "wall": wall, "build_seconds": build, "mean": mean,
                               "ours_is_faster_by": cpu / best[0], "by_wall": wall / best[1]}
            except Exception as error:  # a peer that is absent or does not build is not ours to mend
                row[solver] = f"not run: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        print(name, json.dumps(row, indent=1))
    return table


if __name__ == "__main__":
    main()
