"""The community's suite of exact models (DSMTS): the equation's solver and the simulation against its published tables.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/dsmts.py                       (--full adds the two heavy models to the simulation)
Time:    20 s on 2 cores (AMD EPYC 2.6 GHz), 0.2 GB; --full 3 minutes

39 models with mean and standard deviation at t = 0…50 (Evans, Gillespie, Wilkinson, Bioinformatics 24:285, 2008).
Solvers: published values to 1e-6. Simulation of n ≥ 10,000 trajectories, at every time and output with mean μ and sd σ:
    Z = √n (X̄ − μ)/σ in ±3,   Y = √(n/2) (S²/σ² − 1) in ±5 with S² about the true mean.
Its guide: of a correct simulator expect 2 or 3 misses of Z and 5 or 6 of Y over the whole suite, model 001-03 (skewed)
missing Y by itself.

Symbols: X̄ → mean   S² → about_true_mean   μ, σ → published (without the files: the exact solver's own values)
Differs from the article: it has no models.
"""
import argparse
import csv
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch
from master_equation.moments import exact_moments
from master_equation.networks import Network, parse_network
from master_equation.state_space import build, lost, solve
from master_equation.stochastic_simulation import simulate

HERE = Path(__file__).resolve().parent
TIMES = np.arange(51.0)
HEAVY = ("001-05", "002-04")               # 10,000 molecules: nine tenths of all events
SKEWED = "001-03"                          # the guide: fails Y at n = 10,000 by its skewness alone
TOLERANCE = 1e-6                           # relative; the tables have seven digits
LARGEST = 3250                             # states; larger models are left to the moment equations, exact for them


# ---------------------------------------------------------------- data
def birth_death(birth="Lambda", death="Mu", n=100, lambda_="0.1", mu="0.11", more="", sink="0"):
    return (f"species X = {n}\n{more}parameter Lambda = {lambda_}\nparameter Mu = {mu}\n"
            f"X -> 2X : {birth}\nX -> {sink} : {death}")


def immigration_death(alpha="10", mu="0.1", source="", sink="", more="", event=""):
    return (f"species X = 0\n{more}parameter Alpha = {alpha}\nparameter Mu = {mu}\n"
            f"{source} -> {source and source + ' +'} X : = Alpha\nX -> {sink} : Mu\n{event}")


def dimerisation(p=100, k1="0.001", k2="0.01", event=""):
    return (f"species P = {p}\nspecies P2 = 0\nparameter k1 = {k1}\nparameter k2 = {k2}\n"
            f"2P -> P2 : = k1*P*(P-1)/2\nP2 -> 2P : k2\n{event}")


def dimers(law):
    return f"species P2 = 0\nparameter k1 = 0.001\nparameter k2 = 0.01\n0 -> P2 : = {law}\nP2 -> 0 : k2"


def batches(size, mu):
    return f"species X = 0\nparameter Alpha = 1\nparameter Mu = {mu}\n0 -> {size}X : Alpha\nX -> 0 : Mu"


SINK, FIXED_SINK, SOURCE = "species Sink = 0\n", "constant Sink = 0\n", "constant Source = 0\n"
MODELS = {   # name: (text, highest counts for the state space); a 'constant' is the suite's boundary species
    "001-01": (birth_death(), {"X": 450}),
    "001-02": (birth_death("0.1", "0.11"), {"X": 450}),
    "001-03": (birth_death(lambda_="1", mu="1.1"), {"X": 2600}),
    "001-04": (birth_death(n=10), {"X": 250}),
    "001-05": (birth_death(n=10000), {"X": 12500}),
    "001-06": (birth_death(more=FIXED_SINK, sink="Sink"), {"X": 450}),
    "001-07": (birth_death(more=SINK, sink="Sink"), {"X": 450, "Sink": 900}),
    "001-08": (birth_death(), {"X": 450}),
    "001-09": (birth_death(), {"X": 450}),                                  # Cell = 2, but laws in counts
    "001-10": (birth_death("= Lambda*X/1"), {"X": 450}),                    # laws in concentrations, Cell = 1
    "001-11": (birth_death("= Lambda*X/2", "= Mu*X/2"), {"X": 450}),        # laws in concentrations, Cell = 2
    "001-12": (birth_death("= Lambda*X*0.5*2"), {"X": 450}),
    "001-13": (birth_death("= Lambda*X*0.5", lambda_="0.2"), {"X": 450}),
    "001-14": (birth_death("= Lambda*X/2/0.5"), {"X": 450}),
    "001-15": (birth_death("= Lambda*(X/2)/0.5"), {"X": 450}),
    "001-16": (birth_death("= Lambda*X/(2/2)"), {"X": 450}),
    "001-17": (birth_death("= Cell*Lambda*X", "= Cell*Mu*X", more="parameter Cell = 1\n"), {"X": 450}),
    "001-18": (birth_death("= Cell*Lambda*X", "= Cell*Mu*X", more="parameter Cell = 0.5\n"), {"X": 450}),
    "001-19": (birth_death(more="observe y = 2*X\n"), {"X": 450}),
    "002-01": (immigration_death("1"), {"X": 60}),
    "002-02": (immigration_death(), {"X": 220}),
    "002-03": (immigration_death("5"), {"X": 150}),
    "002-04": (immigration_death("1000"), {"X": 11000}),
    "002-05": (immigration_death(source="Source", sink="Sink", more=SOURCE + FIXED_SINK), {"X": 220}),
    "002-06": (immigration_death(source="Source", sink="Sink", more=SOURCE + SINK), {"X": 220, "Sink": 700}),
    "002-07": (immigration_death(source="Source", sink="Sink", more=SOURCE + FIXED_SINK), {"X": 220}),
    "002-08": (immigration_death("1"), {"X": 60}),
    "002-09": (immigration_death("1", event="at 25: X = 50"), {"X": 110}),
    "002-10": (immigration_death("1", event="at 22.5: X = 20"), {"X": 80}),
    "003-01": (dimerisation(), {"P": 100, "P2": 50}),
    "003-02": (dimerisation(1000, "0.0002", "0.004"), {"P": 1000, "P2": 500}),
    "003-03": (dimerisation(event="at 25: P = 100, P2 = 0"), {"P": 100, "P2": 50}),
    "003-04": (dimerisation(event="when P2 > 30: P = 100, P2 = 0"), {"P": 100, "P2": 50}),
    "003-05": (dimers("0.5*k1*(100-2*P2)*(99-2*P2)"), {"P2": 50}),
    "003-06": (dimers("k1*(100-2*P2)*(100-2*P2-1)/2"), {"P2": 50}),
    "003-07": (dimers("k1*(100-2*P2)*((100-2*P2)-1)/2"), {"P2": 50}),
    "004-01": (batches(5, 0.2), {"X": 130}),
    "004-02": (batches(10, 0.4), {"X": 190}),
    "004-03": (batches(100, 4), {"X": 1600}),
}


def read_table(path: Path) -> tuple:
    """({output: (51,)}, {output: digits after the point}) of a published file."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    names, cells = rows[0][1:], [row[1:] for row in rows[1:] if row]
    values = dict(zip(names, np.array(cells, dtype=float).T))
    places = [max(len(cell.partition(".")[2]) for cell in column) for column in zip(*cells)]
    return values, dict(zip(names, places))


def published(model: str, data_dir) -> tuple:
    """((mean, sd), their printed digits), as published. Raises OSError if the files cannot be had."""
    tables = [read_table(fetch(f"dsmts-{model}-{kind}", data_dir)) for kind in ("mean", "sd")]
    return tuple(table for table, _ in tables), tuple(digits for _, digits in tables)


# ---------------------------------------------------------------- method
def solve_exactly(network: Network, limits: dict, largest: int) -> dict:
    """{solver: (means, sds)} by every exact solver that applies."""
    results = {}
    if network.affine():
        results["moments"] = exact_moments(network, TIMES)
    size = np.prod([limits.get(s, 0) + 1.0 for s in network.species])
    if size <= largest or not network.affine():
        space = build(network, limits)
        p, _ = solve(space, TIMES, "uniformisation")
        results["states"] = (*space.moments(p), lost(p))
    return results


def relative_error(ours: tuple, theirs: tuple, digits: tuple = ({}, {})) -> float:
    """Largest |ours − theirs| / |theirs| over outputs, times, mean and sd; absolute where theirs is 0. Differences of
    at most half a unit of the last printed digit count as none (`digits`: digits after the point)."""
    worst = 0.0
    for mine, table, places in zip(ours, theirs, digits):
        for name, values in table.items():
            if name in mine:
                gap = np.abs(mine[name] - values)
                gap[gap <= 0.5000001 * 10.0 ** -places.get(name, 99)] = 0
                worst = max(worst, (gap / np.where(values == 0, 1, np.abs(values))).max())
            elif np.any(values):   # a boundary species must stay at 0
                return np.inf
    return float(worst)


def score(result: dict, mean: dict, sd: dict) -> tuple:
    """(Z, Y): {output: (T,)} of a simulation against true mean and sd, NaN where sd is 0."""
    n, z, y = result["n"], {}, {}
    for name in (name for name in mean if name in result["mean"]):
        with np.errstate(divide="ignore", invalid="ignore"):
            sigma = np.where(sd[name] > 1e-6, sd[name], np.nan)
            z[name] = np.sqrt(n) * (result["mean"][name] - mean[name]) / sigma
            about_true_mean = result["sd"][name] ** 2 + (result["mean"][name] - mean[name]) ** 2
            y[name] = np.sqrt(n / 2) * (about_true_mean / sigma ** 2 - 1)
    return z, y


def misses(values: dict, limit: float) -> int:
    return int(sum(np.sum(np.abs(v[~np.isnan(v)]) >= limit) for v in values.values()))


# ---------------------------------------------------------------- figures
def plot_scores(rows: dict) -> Figure:
    """Z of every model (and output) at every time."""
    labels = [f"{model} {name}" for model, (z, _) in rows.items() for name in z]
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.stack([values for z, _ in rows.values() for values in z.values()]), aspect="auto",
                        cmap="RdBu",
                        norm=TwoSlopeNorm(0, -5, 5), interpolation="nearest")
    axes.set(xlabel="time", yticks=range(len(labels)),
             title="Z of exact simulation against the suite; a miss is beyond ±3")
    axes.set_yticklabels(labels, fontsize=6)
    figure.colorbar(image, label="Z")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--full", action="store_true", help="simulate the two heavy models too, solve all by states")
    parser.add_argument("--trajectories", type=int, default=10_000,
                        help="trajectories of each model; the guide asks 10,000")
    parser.add_argument("--processes", type=int, default=2, help="worker processes; results do not depend on it")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("trajectories", "processes"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: must be at least 1")
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
    n, rows, models, absent, events = 500 if args.quick else args.trajectories, {}, {}, None, 0
    largest = 3000 if args.quick else 10**6 if args.full else LARGEST
    for index, (model, (text, limits)) in enumerate(MODELS.items()):
        network = parse_network(text)
        solved = solve_exactly(network, limits, largest)
        best = solved.get("moments", solved.get("states"))
        truth, models[model] = best, {}
        if absent is None:
            try:
                truth, digits = published(model, args.data_dir)
                models[model] |= {solver: relative_error(values, truth, digits) for solver, values in solved.items()}
                models[model]["plain_relative_error"] = min(relative_error(values, truth) for values in solved.values())
            except OSError as error:
                absent = str(error).splitlines()[0].removesuffix(" Tried:")
                print(f"published tables not at hand ({absent}); the exact solver's values stand in for them")
        if len(solved) == 2:   # two solvers, two methods
            models[model]["solvers_differ"] = relative_error(solved["states"], solved["moments"])
        if "states" in solved:
            models[model]["lost"] = solved["states"][2]
        if args.full or model not in HEAVY:
            result = simulate(network, TIMES, n, args.seed + index, args.processes, block_size=4096)
            rows[model] = score(result, *truth[:2])
            events += result["events"]
            z, y = rows[model]
            models[model] |= {"events": result["events"], "z_misses": misses(z, 3), "y_misses": misses(y, 5),
                              "largest_z": max(np.nanmax(np.abs(v)) for v in z.values() if not np.isnan(v).all()),
                              "largest_y": max(np.nanmax(np.abs(v)) for v in y.values() if not np.isnan(v).all())}
        print(f"{model}: " + ", ".join(f"{k} {v:.3g}" for k, v in models[model].items()))
    best_errors = {m: min(v[s] for s in ("moments", "states") if s in v) for m, v in models.items()
                   if "moments" in v or "states" in v}
    every = [v[s] for v in models.values() for s in ("moments", "states") if s in v]
    metrics = {"published_tables": absent or "found", "models": len(models),
               "exact": {"models_within_tolerance": sum(e <= TOLERANCE for e in best_errors.values()),
                         "tolerance": TOLERANCE,
                         "models_within_tolerance_not_counting_rounding": sum(
                             v.get("plain_relative_error", 1) <= TOLERANCE for v in models.values()),
                         "largest_relative_error": max(every, default=None),
                         "by_moments": sum("moments" in v for v in models.values()),
                         "by_states": sum("states" in v for v in models.values())},
               "simulation": {"models": len(rows), "trajectories": n, "events": events,
                              "tests": int(sum((~np.isnan(v)).sum() for z, _ in rows.values() for v in z.values())),
                              "z_misses": sum(misses(z, 3) for z, _ in rows.values()),
                              "y_misses": sum(misses(y, 5) for m, (_, y) in rows.items() if m != SKEWED),
                              "y_misses_001_03": misses(rows[SKEWED][1], 5)},
               "by_model": models}
    found = metrics["simulation"]
    exact = (f"{metrics['exact']['models_within_tolerance']} of {len(models)} models within {TOLERANCE:g}"
             if not absent else "nothing to compare with (python data/download.py dsmts)")
    print(f"exact: {exact}; simulation: {found['z_misses']} Z and {found['y_misses']} Y misses of {found['tests']} "
          f"each, and {found['y_misses_001_03']} Y in {SKEWED}")
    figures = ["dsmts_scores.png"]
    plot_scores(rows).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "dsmts", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
