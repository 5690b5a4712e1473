"""Exact simulation beside GillesPy2: same model, same times, as many trajectories, one run.

Run:  python tests/benchmarks/bench_master_equation.py [--trajectories 10000] [--repeats 3]
Its C++ solver needs SCons where this Python finds it: in a virtual environment set PYTHONPATH to
its site-packages. A peer that is not installed, or does not build, is reported as not run. Ratios
are what to trust: of processor seconds, which a busy machine disturbs less than wall seconds (both
are given). Both sides use one core.
"""

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "master_equation"))
from reaction_network import parse_network
from stochastic_simulation import simulate

PEERS = ("SSACSolver", "NumPySSASolver")


@dataclass
class Case:
    text: str  # our form
    species: dict  # theirs: {name: initial count}
    parameters: dict
    reactions: list  # (reactants, products, law)
    end: float


CASES = {
    "DSMTS 002-02": Case(
        text="species X = 0\n0 -> X : 10\nX -> 0 : 0.1",
        species={"X": 0},
        parameters={"a": 10, "m": 0.1},
        reactions=[({}, {"X": 1}, "a"), ({"X": 1}, {}, "m*X")],
        end=50,
    ),
    "SIR": Case(
        text="species S = 999\nspecies I = 1\nspecies R = 0\nS + I -> 2I : 1e-4\nI -> R : 0.01",
        species={"S": 999, "I": 1, "R": 0},
        parameters={"b": 1e-4, "g": 0.01},
        reactions=[({"S": 1, "I": 1}, {"I": 2}, "b*S*I"), ({"I": 1}, {"R": 1}, "g*I")],
        end=250,
    ),
}


def peer_model(case: Case):
    """The case as GillesPy2 takes it."""
    import gillespy2

    model = gillespy2.Model(name="peer")
    for name, count in case.species.items():
        model.add_species(gillespy2.Species(name=name, initial_value=count, mode="discrete"))
    for name, value in case.parameters.items():
        model.add_parameter(gillespy2.Parameter(name=name, expression=str(value)))
    for i, (left, right, law) in enumerate(case.reactions):
        sides = {"reactants": left, "products": right}
        model.add_reaction(gillespy2.Reaction(name=f"r{i}", propensity_function=law, **sides))
    model.timespan(gillespy2.TimeSpan.linspace(t=case.end, num_points=51))
    return model


def clock(function) -> tuple:
    """(processor seconds, wall seconds, value) of a call; a compiled solver runs as a child."""
    cpu, wall = sum(os.times()[:4]), time.perf_counter()
    value = function()
    return sum(os.times()[:4]) - cpu, time.perf_counter() - wall, value


def best_of(repeats: int, run) -> tuple:
    """(processor seconds, wall seconds, value) of the fastest of run(0), run(1), …"""
    return min((clock(partial(run, k)) for k in range(repeats)), key=lambda found: found[0])


def time_peer(name: str, case: Case, n: int, repeats: int) -> dict:
    """A solver of GillesPy2: seconds of n trajectories, seconds to build, a mean."""
    import gillespy2

    started = time.perf_counter()
    solver = getattr(gillespy2, name)(model=peer_model(case))
    solver.run(number_of_trajectories=1, seed=1)
    build = time.perf_counter() - started

    def run(k):
        return solver.run(number_of_trajectories=n, seed=k + 1)

    cpu, wall, found = best_of(repeats, run)
    first = next(iter(case.species))
    mean = float(np.mean([trajectory[first][-1] for trajectory in found]))
    return {"seconds": cpu, "wall": wall, "build_seconds": build, "mean": mean}


def compare(case: Case, args) -> dict:
    """Our seconds, and for each peer its own and by how much ours is faster."""
    network, times = parse_network(case.text), np.linspace(0, case.end, 51)

    def run(k):  # trajectories kept, as the peers keep them
        return simulate(network, times, args.trajectories, seed=k, keep=True)

    cpu, wall, ours = best_of(args.repeats, run)
    first = next(iter(case.species))
    row = {"seconds": cpu, "wall": wall, "events_per_second": ours["events"] / cpu}
    row["mean"] = ours["mean"][first][-1]
    for name in PEERS:
        slow = name == "NumPySSASolver"
        n, repeats = (args.peer_trajectories, 1) if slow else (args.trajectories, args.repeats)
        try:
            peer = time_peer(name, case, n, repeats)
        except Exception as error:  # a peer that is absent or does not build is not ours to mend
            row[name] = f"not run: {type(error).__name__}: {error}"
            continue
        peer["seconds"] *= args.trajectories / n
        peer["wall"] *= args.trajectories / n
        row[name] = peer | {
            "ours_is_faster_by": peer["seconds"] / cpu,
            "by_wall": peer["wall"] / wall,
        }
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=10_000)
    slow = "of the slow NumPy solver, scaled up"
    parser.add_argument("--peer-trajectories", type=int, default=200, help=slow)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = {"trajectories": args.trajectories}
    table |= {"python": platform.python_version(), "numpy": np.__version__}
    for name, case in CASES.items():
        table[name] = compare(case, args)
        print(name, json.dumps(table[name], indent=1))
    return table


if __name__ == "__main__":
    main()
