"""Could the suite have failed? Five bugs planted in a simulator, each caught by one of its models.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python tests/master_equation_planted_bugs.py
The simulator here is a second one, a plain loop over trajectories in step, so that bugs can be
planted in it; without a bug it also checks the fast one. Z and Y as in master_equation_dsmts.py;
the truth comes from the exact solvers.
Birth–death alone (001-01) is blind to two of the five bugs: do not rely on it.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "master_equation"))
import cli
from master_equation_dsmts import TIMES, largest, limits_of, misses, score, solve_exactly
from reaction_network import Network, parse_network

WATCHED = {  # four models of the suite in the text form
    "001-01": "species X = 100\nparameter Lambda = 0.1\nparameter Mu = 0.11\n"
    "X -> 2X : Lambda\nX -> 0 : Mu",
    "002-02": "species X = 0\nparameter Alpha = 10\nparameter Mu = 0.1\n"
    "0 -> X : Alpha\nX -> 0 : Mu",
    "003-01": "species P = 100\nspecies P2 = 0\nparameter k1 = 0.001\nparameter k2 = 0.01\n"
    "2P -> P2 : = k1*P*(P-1)/2\nP2 -> 2P : k2",
    "004-01": "species X = 0\nparameter Alpha = 1\nparameter Mu = 0.2\n"
    "0 -> 5X : Alpha\nX -> 0 : Mu",
}
BUGS = {  # name: (the only model it is planted in, change of that model's text, fault of the loop)
    "none": (None, None, None),
    "n² for n(n−1)": ("003-01", ("k1*P*(P-1)/2", "k1*P*P/2"), None),
    "missing ½": ("003-01", ("k1*P*(P-1)/2", "k1*P*(P-1)"), None),
    "stale propensities": (None, None, "stale"),
    "state read after the jump": (None, None, "after"),
    "interpolation between jumps": (None, None, "interpolate"),
}
MOST_STATES = 2000


def flags(parser):
    number = "trajectories of each run"
    parser.add_argument("--trajectories", type=cli.between(100, 10**7), default=10_000, help=number)
    parser.add_argument("--seed", **cli.SEED)


# ---------------------------------------------------------------- a simulator with faults
def faulty_simulation(network: Network, times, n: int, seed: int, fault: str | None = None) -> dict:
    """Gillespie's direct method for n trajectories in step; `fault` plants a bug."""
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
        done = pointer == len(times)
        keep = np.flatnonzero(~done) if done.any() else slice(None)
        before, x, t = x[:, keep], after[:, keep], after_t[keep]
        pointer, lanes = pointer[keep], lanes[keep]
    outputs = network.outputs(records.swapaxes(0, 1))
    mean = {name: values.mean(axis=1) for name, values in outputs.items()}
    return {"n": n, "mean": mean, "sd": {k: values.std(axis=1) for k, values in outputs.items()}}


def try_bug(bug: str, truths: dict, n: int, seed: int) -> dict:
    """{model: misses} of a simulator with that bug."""
    only, change, fault = BUGS[bug]
    row = {}
    for k, (model, text) in enumerate(WATCHED.items()):
        if only not in (None, model):
            continue
        network = parse_network(text.replace(*change) if change else text)
        result = faulty_simulation(network, TIMES, n, seed + k, fault)
        z, y = score(result, *truths[model])
        tests = int(sum((~np.isnan(v)).sum() for v in z.values()))
        row[model] = {
            "tests": tests,
            "z_misses": misses(z, 3),
            "y_misses": misses(y, 5),
            "share_missed": misses(z, 3) / tests,
            "largest_z": largest(z),
        }
    return row


# ---------------------------------------------------------------- figure
def plot_power(table: dict):
    figure, axes = cli.subplots(height=4)
    empty = {"share_missed": np.nan}
    shares = [
        [row.get(model, empty)["share_missed"] for model in WATCHED] for row in table.values()
    ]
    image = axes.imshow(shares, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(table.values()):
        for j, model in enumerate(WATCHED):
            text = f"{row[model]['z_misses']} of {row[model]['tests']}" if model in row else "–"
            color = "w" if shares[i][j] > 0.5 else "k"
            axes.text(j, i, text, ha="center", va="center", color=color)
    axes.set_xticks(range(len(WATCHED)), WATCHED)
    axes.set_yticks(range(len(table)), table)
    axes.set_title("misses of Z by planted bug and model")
    figure.colorbar(image, label="share of Z tests missed")
    return figure


# ---------------------------------------------------------------- main
def main(args):
    n, truths = 1000 if args.quick else args.trajectories, {}
    for model, text in WATCHED.items():
        solved = solve_exactly(parse_network(text), limits_of(model), MOST_STATES)
        truths[model] = solved.get("moments", solved.get("states"))[:2]
    table = {}
    for bug in BUGS:
        table[bug] = try_bug(bug, truths, n, args.seed)
        found = [f"{m} {r['z_misses']} Z {r['y_misses']} Y" for m, r in table[bug].items()]
        print(f"{bug}: {', '.join(found)}", flush=True)
    caught = {
        bug: any(result["share_missed"] > 0.2 for result in row.values())
        for bug, row in table.items()
    }
    number = sum(caught.values())
    metrics = {"trajectories": n, "bugs_caught": number, "caught": caught, "table": table}
    return metrics, [], {"planted_bugs_power": plot_power(table)}


if __name__ == "__main__":
    cli.run(main, flags)
