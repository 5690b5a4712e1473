"""Cut a validation set that resembles TEST out of TRAIN: any two tables, labels in TRAIN only.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/split.py                 (Bank Marketing, cut in time)
         python adversarial_validation/split.py train.csv test.csv --target y --out-dir folder
Symbols: D(x) → d, the chance that x is a test row    w(x) = D/(1−D) → weights, mean 1
         p_i = w_i/Σw → chance of a training row at each draw with replacement
         ESS = (Σw)²/Σw²: as many rows as the weights are worth
Differs from the article: rows are scored by a D that did not see them (5 folds); no weight exceeds
         √n times the mean; drawn rows leave the training set; a test says first whether there is a
         shift at all.
Writes:  split.json (AUC, p, verdict, columns), split_scores.png,
         split_weights.csv (row, d, weight), and two cuts:
         split_validation_weighted.csv (row, weight) at random, with split_training_weighted.csv
         split_validation_sampled.csv (row, repeats as drawn) ∝ w, with split_training_sampled.csv
         Row 0 is the first row under the header: pandas.read_csv(TRAIN).iloc[rows].
"""

import argparse
import os
from pathlib import Path

import numpy as np
import scipy
from threadpoolctl import threadpool_limits

import cli
from shifted_tasks import MACRO_COLUMNS, fonts_for_chinese, read_bank
from weights import (
    FIT_ROWS,
    area_under_curve,
    cap_weights,
    crossfit_discriminator,
    effective_sample_share,
    permutation_test,
)

CUTS = ("validation_weighted", "training_weighted", "validation_sampled", "training_sampled")
GIVE_TIME_AWAY = ["duration", *MACRO_COLUMNS]  # dropped in the demonstration


def flags(parser):
    parser.add_argument("train", nargs="?", type=Path, help="CSV or parquet; none: Bank Marketing")
    parser.add_argument("test", nargs="?", type=Path, help="the same columns")
    parser.add_argument("--target", help="column that D must not see")
    parser.add_argument("--drop", default="", help="more such columns, separated by commas")
    fraction = cli.between(0.001, 0.9, float)
    parser.add_argument("--fraction", type=fraction, default=0.2, help="of the rows, to validate")
    kinds = ("logistic", "network")
    parser.add_argument("--discriminator", choices=kinds, default="logistic", help="kind of D")
    short = {"dest": "out_dir", "type": Path, "default": argparse.SUPPRESS}
    parser.add_argument("-o", **short, help="the same as --out-dir")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- data
def load(args) -> tuple:
    """(train, test, target, drop): the two files, or Bank Marketing, first two thirds → last."""
    if args.train and not args.test:
        raise ValueError("TEST: give two tables, TRAIN and TEST, or none for the demonstration")
    for path in filter(None, (args.train, args.test)):
        path.open("rb").close()  # an OSError before pandas is loaded
    from tables import Table, read_table

    drop = [name.strip() for name in args.drop.split(",") if name.strip()]
    if args.train:
        train = read_table(args.train)
        test = read_table(args.test)
        target = args.target
    else:
        bank = read_bank(args.data_dir)
        target = "y"
        cut_at = len(bank) * 2 // 3
        train, test = Table(bank[:cut_at]), Table(bank[cut_at:].drop(columns=target))
        drop = drop or GIVE_TIME_AWAY
    if args.quick:
        train, test = train.sample(2000, args.seed), test.sample(2000, args.seed)
    return train, test, target, drop


# ---------------------------------------------------------------- method
def column_shift(bins: dict, random: np.random.Generator) -> dict:
    """What each column tells alone → {column: (AUC, p)}, the largest AUC first.

    The odds of a column's bins come from one half of the rows and are judged on the other, by the
    rank-sum test. bins is {column: (codes of the training rows, of the test rows)}, -1 missing.
    """
    found = {}
    for name, sides in bins.items():
        sides = [side[random.permutation(len(side))[: 2 * FIT_ROWS]] + 1 for side in sides]
        most = max(side.max() for side in sides) + 1
        p, q = (np.bincount(side[::2], minlength=most) + 0.5 for side in sides)
        log_odds = np.log(q / q.sum()) - np.log(p / p.sum())
        judged = [np.bincount(side[1::2], minlength=most) for side in sides]
        found[name] = rank_sum_test(log_odds, *judged)
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def rank_sum_test(scores: np.ndarray, below: np.ndarray, above: np.ndarray) -> tuple:
    """(AUC, p) of the rows `above` against those `below`, counted for each score.

    scipy.stats.mannwhitneyu would sort the rows; here only the scores are sorted.
    """
    scores, level = np.unique(scores, return_inverse=True)
    below, above = (np.bincount(level, weights=counts) for counts in (below, above))
    n, m = below.sum(), above.sum()
    pairs = n * m
    larger = above @ (np.cumsum(below) - below / 2)  # pairs in the right order, ties count half
    ties = below + above
    rows = n + m
    variance = pairs / 12 * (rows + 1 - np.sum(ties**3 - ties) / (rows * (rows - 1)))
    z = (larger - pairs / 2 - 0.5) / np.sqrt(variance) if variance > 0 else -np.inf
    return float(larger / pairs), float(scipy.special.ndtr(-z))


def joint_shift(x_train: np.ndarray, x_test: np.ndarray, column_of: list) -> dict:
    """Two columns whose covariance differs most → the AUC and p of their product, on other rows.

    Each column may be the same in both tables, and two together not (XOR): a linear D is blind to
    that. column_of names the column of each feature; pairs of the first 300 features are tried.
    """
    sides = [x[:: -(-len(x) // (2 * FIT_ROWS)), :300] for x in (x_train, x_test)]
    with threadpool_limits(1):  # two threads wait for each other longer than this takes
        (cov_p, error_p), (cov_q, error_q) = (covariance(side[::2]) for side in sides)
    z = (cov_q - cov_p) / np.sqrt(error_p + error_q + 1e-6)
    names = np.array(column_of[:300], dtype=object)
    z[names[:, None] == names] = 0
    i, j = np.unravel_index(np.abs(z).argmax(), z.shape)
    products = [np.sign(z[i, j]) * side[1::2, i].astype(float) * side[1::2, j] for side in sides]
    test = scipy.stats.mannwhitneyu(*products[::-1], alternative="greater", method="asymptotic")
    return {
        "columns": [names[i], names[j]],
        "auc": float(test.statistic / (len(products[0]) * len(products[1]))),
        "p": float(np.nan_to_num(test.pvalue, nan=1.0)),
    }


def covariance(x: np.ndarray) -> tuple:
    """→ the covariances of the columns of x and their squared errors, (features, features)."""
    x = x - x.mean(0)
    squares = x**2
    found = x.T @ x / len(x)
    return found, (squares.T @ squares / len(x) - found**2) / len(x)


def foreign_levels(bins: dict) -> dict:
    """Columns whose test rows have levels that no training row has, more than chance can explain.

    → {column: share of the test rows}. By chance a level of c rows is in the test table alone with
    probability (m/(n+m))^c.
    """
    found = {}
    for name, (train, test) in bins.items():
        most = max(train.max(), test.max()) + 2
        here, there = (np.bincount(side + 1, minlength=most) for side in (test, train))
        share = here[there == 0].sum() / len(test)
        by_chance = (len(test) / (len(train) + len(test))) ** (here + there)
        if share > 0.2 + np.sum(here * by_chance) / len(test):
            found[name] = float(share)
    return found


def judge(seen: dict) -> tuple:
    """(verdict, advice) on what main saw: no_shift, weights, no_overlap or unseen_shift.

    unseen_shift: a column alone, or the product of two, tells the tables apart better than D does,
    so that the weights of this D cannot be right.
    """
    best, p_best = next(iter(seen["columns"].values()))
    told = p_best * len(seen["columns"]) < 0.01  # not by chance, of so many columns
    if seen["foreign"]:
        most = max(seen["foreign"], key=seen["foreign"].get)
        return "no_overlap", (
            f"no overlap: {seen['foreign'][most]:.0%} of the test rows have a {most!r} that no "
            "training row has, no weights mend that; --drop it if it merely names the table"
        )
    if told and best > 0.99 or seen["p_value"] <= 0.05 and is_beyond(seen):
        return "no_overlap", (
            f"no overlap: {seen['beyond']:.0%} of the test rows lie beyond every training row, no "
            "weights mend that. Look at the columns above, --drop those that merely name the table"
        )
    unseen = what_d_misses(seen)
    if unseen:
        return "unseen_shift", (
            f"a shift that this D does not see: {unseen}, D {seen['auc']:.2f}; "
            "its weights would be wrong. Try --discriminator network"
        )
    if seen["p_value"] > 0.05:
        return "no_shift", "no shift that D can see: use a random split (all weights are set to 1)"
    if seen["ess"] < 0.2:
        return "weights", (
            f"shift with thin overlap: the weights act as {seen['ess'] * seen['rows']:.0f} rows; "
            "expect part of the gap to go, and look at the columns above"
        )
    return "weights", (
        f"shift that weights can mend: they act as a share of ESS/n = {seen['ess']:.2f} of the rows"
    )


def what_d_misses(seen: dict) -> str:
    """A column alone, or two together, that tell the tables apart better than D, "" for none."""
    surer = seen["auc"] + 0.02 + 3 * seen["auc_error"]
    name, (auc, p_value) = next(iter(seen["columns"].items()))
    if auc > surer and p_value * len(seen["columns"]) < 0.01:
        return f"column {name!r} alone has AUC {auc:.2f}"
    joint = seen["joint"]
    if joint["auc"] > surer and joint["p"] < 0.01:
        first, second = joint["columns"]
        return f"columns {first!r} and {second!r} together have AUC {joint['auc']:.2f}"
    return ""


def is_beyond(seen: dict) -> bool:
    """Do too few training rows resemble the test rows?"""
    few = seen["ess"] < 0.01 or seen["ess"] * seen["rows"] < 30
    return few or seen["auc"] > 0.99 or seen["beyond"] > 0.2


def cut(weights: np.ndarray, fraction: float, random: np.random.Generator) -> dict:
    """Both ways of the article → {file: columns}: at random with weights; draws ∝ w."""
    n = len(weights)
    size = max(1, round(fraction * n))
    rows = np.sort(random.permutation(n)[:size])
    drawn = np.sort(random.choice(n, size, replace=True, p=weights / weights.sum()))
    return {
        "validation_weighted": {"row": rows, "weight": weights[rows]},
        "training_weighted": {"row": np.delete(np.arange(n), rows)},
        "validation_sampled": {"row": drawn},  # repeats stay
        "training_sampled": {"row": np.delete(np.arange(n), drawn)},  # drawn rows leave
    }


# ---------------------------------------------------------------- what is written
def write_tables(tables: dict, out_dir: Path) -> None:
    """All tables or none, and no cut of an earlier run beside them."""

    def path(name, part=""):
        return out_dir / f"split_{name}.csv{part}"

    try:
        for name, table in tables.items():
            form = ",".join("%d" if column == "row" else "%.6g" for column in table) + "\n"
            rows = zip(*(values.tolist() for values in table.values()), strict=True)
            with path(name, ".part").open("w", encoding="utf-8") as file:
                file.write(",".join(table) + "\n")
                file.writelines(form % row for row in rows)
        for name in ("weights", *CUTS):
            if name in tables:
                os.replace(path(name, ".part"), path(name))
            else:
                path(name).unlink(missing_ok=True)
    finally:
        for name in tables:
            path(name, ".part").unlink(missing_ok=True)


def plot_scores(d_train, d_test, by_column: dict, family=None):
    """Left: D on both tables; right: the columns that give the shift away, named in `family`."""
    figure, (left, right) = cli.subplots(1, 2, height=4)
    bins = np.linspace(0, 1, 41)
    for values, label, colour in ((d_train, "TRAIN", "C0"), (d_test, "TEST", "C3")):
        left.hist(values, bins, density=True, alpha=0.6, color=colour, label=label)
    left.set(xlabel="D(x), out of fold", ylabel="density", title="Do the tables overlap?")
    left.legend()
    top = list(by_column.items())[:10][::-1]
    names = [str(name)[:20] for name, _ in top]
    right.barh(range(len(top)), [auc - 0.5 for _, auc in top], left=0.5, color="C3")
    right.set_yticks(range(len(top)), names, family=family)
    right.axvline(0.5, color="0.3", lw=1)
    right.set(xlabel="AUC of the column alone", title="What gives the shift away?", xlim=(0.45, 1))
    return figure


# ---------------------------------------------------------------- all of it
def look(
    d_train: np.ndarray, d_test: np.ndarray, weights: np.ndarray, columns: dict, table
) -> dict:
    """What `judge` decides on, of both tables."""
    n, m = len(d_train), len(d_test)
    return {
        "auc": area_under_curve(d_train, d_test),
        "auc_error": float(np.sqrt((n + m + 1) / (12 * n * m))),  # its sd where there is no shift
        "ess": effective_sample_share(weights),
        "rows": n,
        "rows_test": m,
        "beyond": float(np.mean(d_test > d_train.max())),
        "columns": columns,
        "joint": joint_shift(table.x_train, table.x_test, table.column_of),
        "foreign": foreign_levels({k: v for k, v in table.bins.items() if k in table.texts}),
    }


def tell(seen: dict, verdict: str, advice: str) -> None:
    print(
        f"AUC {seen['auc']:.3f} (held-out half {seen['held_out_auc']:.3f}, permutation p "
        f"{seen['p_value']:.3f}), ESS/n {seen['ess']:.3f}"
    )
    top = [f"{name} {auc:.2f}" for name, (auc, _) in list(seen["columns"].items())[:6]]
    print(f"columns that give it away: {', '.join(top)}")
    print(f"verdict {verdict}: {advice}")


def metrics_of(seen: dict) -> dict:
    """What `look` saw, under the names of the results file."""
    return {
        "rows_train": seen["rows"],
        "rows_test": seen["rows_test"],
        "columns": len(seen["columns"]),
        "auc": seen["auc"],
        "held_out_auc": seen["held_out_auc"],
        "p_value": seen["p_value"],
        "ess_share": seen["ess"],
        "test_rows_beyond_train": seen["beyond"],
        "auc_of_column": {name: auc for name, (auc, _) in seen["columns"].items()},
        "p_of_column": {name: p for name, (_, p) in seen["columns"].items()},
        "joint_shift": seen["joint"],
        "foreign_levels": seen["foreign"],
    }


def main(args):
    train, test, target, drop = load(args)
    from tables import prepare

    table = prepare(train, test, target, drop)
    del train, test
    for warning in table.warnings:
        print(f"warning: {warning}")
    for name, note in table.taken_for.items():
        print(f"column {name!r} is taken for {note}")

    random = np.random.default_rng(args.seed)
    kind = args.discriminator
    held_out_auc, p_value = permutation_test(table.x_train, table.x_test, random, kind=kind)
    d_train, d_test = crossfit_discriminator(table.x_train, table.x_test, random, kind=kind)
    columns = column_shift(table.bins, random)
    weights = cap_weights(d_train / (1 - d_train))
    seen = look(d_train, d_test, weights, columns, table)
    seen |= {"p_value": p_value, "held_out_auc": held_out_auc}
    verdict, advice = judge(seen)
    if verdict == "no_shift":
        weights = np.ones(len(d_train))

    tables = {"weights": {"row": np.arange(len(d_train)), "d": d_train, "weight": weights}}
    if verdict in ("weights", "no_shift"):
        tables |= cut(weights, args.fraction, random)
    write_tables(tables, args.out_dir)
    tell(seen, verdict, advice)
    metrics = {
        **metrics_of(seen),
        "largest_weight": weights.max(),
        "verdict": verdict,
        "advice": advice,
        "warnings": table.warnings,
        "taken_for": table.taken_for,
        "rows": {name: len(cut["row"]) for name, cut in tables.items()},
    }
    family = fonts_for_chinese(args.data_dir)
    figure = plot_scores(d_train, d_test, metrics["auc_of_column"], family)
    return metrics, [], {"split_scores": figure}


if __name__ == "__main__":
    cli.run(main, flags)
