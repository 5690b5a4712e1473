"""Could the suite have failed? Five bugs planted in a simulator, each caught by a model of the suite.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/planted_bugs.py
Time:    10 s on one core (AMD EPYC 2.6 GHz), 0.3 GB

The simulator here is a second one, the plain text-book loop, so that bugs can be planted in it; without a bug it also
checks the fast one of stochastic_simulation.py. Z and Y as in dsmts.py; truth from the exact solvers.

Symbols: as in dsmts.py
Differs from the article: it has no simulation. Birth–death alone (001-01) is blind to two of the five bugs: do not
rely on it.
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
from master_equation.dsmts import MODELS, TIMES, misses, score, solve_exactly
from master_equation.networks import Network, parse_network

HERE = Path(__file__).resolve().parent
BUGS = {   # name: (model, change of the model's text, fault of the loop)
    "none": (None, None, None),
    "n² for n(n−1)": ("003-01", ("k1*P*(P-1)/2", "k1*P*P/2"), None),
    "missing ½": ("003-01", ("k1*P*(P-1)/2", "k1*P*(P-1)"), None),
    "stale propensities": (None, None, "stale"),
    "state read after the jump": (None, None, "after"),
    "interpolation between jumps": (None, None, "interpolate"),
}
WATCHED = ("001-01", "002-02", "003-01", "004-01")


# ---------------------------------------------------------------- method
def plain_simulation(network: Network, times: np.ndarray, n: int, seed: int, fault: str | None = None) -> dict:
    """Gillespie's direct method for n trajectories in step; `fault` plants a bug. {n, mean: {name: (T,)}, sd: …}."""
    rng, nu = np.random.default_rng(seed), network.nu
    x = np.repeat(np.array(network.initial, dtype=float)[:, None], n, axis=1)
    before, t, pointer, lanes = x, np.zeros(n), np.zeros(n, dtype=int), np.arange(n)
    records, grid = np.zeros((len(times), *x.shape)), np.append(times, np.inf)
    while len(lanes):
        rates = np.maximum(network.propensities(before if fault == "stale" else x), 0)
        sums = rates.cumsum(axis=0)
        with np.errstate(divide="ignore"):
            after_t = t + rng.exponential(size=len(t)) / sums[-1]
        reaction = (rng.random(len(t)) * sums[-1] >= sums[:-1]).sum(axis=0)
        after = np.maximum(x + nu[:, reaction], 0)
        crossing = np.flatnonzero(after_t > grid[pointer])
        while len(crossing):
            p = pointer[crossing]
            value = x[:, crossing]
            if fault == "after":
                value = np.where(np.isfinite(after_t[crossing]), after[:, crossing], value)
            if fault == "interpolate":
                share = (grid[p] - t[crossing]) / (after_t[crossing] - t[crossing])
                value = value + share * (after[:, crossing] - value)
            records[p, :, lanes[crossing]] = value.T
            pointer[crossing] += 1
            crossing = crossing[after_t[crossing] > grid[pointer[crossing]]]
        keep = np.flatnonzero(pointer < len(times)) if (pointer == len(times)).any() else slice(None)
        before, x, t, pointer, lanes = x[:, keep], after[:, keep], after_t[keep], pointer[keep], lanes[keep]
    outputs = network.outputs(records.swapaxes(0, 1))
    return {"n": n, "mean": {k: v.mean(axis=1) for k, v in outputs.items()},
            "sd": {k: v.std(axis=1) for k, v in outputs.items()}}


# ---------------------------------------------------------------- figures
def plot_power(table: dict) -> Figure:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    shares = np.array([[row[m]["share_missed"] if m in row else np.nan for m in WATCHED] for row in table.values()])
    image = axes.imshow(shares, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(table.values()):
        for j, model in enumerate(WATCHED):
            cell = row.get(model)
            text = f"{cell['z_misses']} Z, {cell['y_misses']} Y of {cell['tests']}" if cell else "—"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if shares[i, j] > 0.5 else "k")
    axes.set(xticks=range(len(WATCHED)), xticklabels=WATCHED, yticks=range(len(table)),
             title="misses by planted bug and model")
    axes.set_yticklabels(list(table))
    figure.colorbar(image, label="share of Z tests missed")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=10_000, help="trajectories of each run")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.trajectories < 100:
        parser.error(f"--trajectories {args.trajectories}: must be at least 100")
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
    n, table = 1000 if args.quick else args.trajectories, {}
    truths = {m: solve_exactly(parse_network(MODELS[m][0]), MODELS[m][1], 2000) for m in WATCHED}
    for bug, (only, change, fault) in BUGS.items():
        table[bug] = {}
        for k, model in enumerate(WATCHED):
            if only in (None, model):
                text = MODELS[model][0].replace(*change) if change else MODELS[model][0]
                result = plain_simulation(parse_network(text), TIMES, n, args.seed + k, fault)
                mean, sd = truths[model].get("moments", truths[model].get("states"))[:2]
                z, y = score(result, mean, sd)
                tests = int(sum((~np.isnan(v)).sum() for v in z.values()))
                table[bug][model] = {"tests": tests, "z_misses": misses(z, 3), "y_misses": misses(y, 5),
                                     "share_missed": misses(z, 3) / tests,
                                     "largest_z": max(np.nanmax(np.abs(v)) for v in z.values())}
        print(f"{bug}: " + ", ".join(f"{m} {r['z_misses']} Z {r['y_misses']} Y of {r['tests']}"
                                     for m, r in table[bug].items()))
    caught = {bug: any(r["share_missed"] > 0.2 for r in row.values()) for bug, row in table.items()}
    metrics = {"trajectories": n, "caught": caught, "table": table}
    figures = ["planted_bugs_power.png"]
    plot_power(table).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "planted_bugs", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
