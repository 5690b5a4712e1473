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

import cli
from shifted_tasks import MACRO_COLUMNS, read_bank
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
    from tables import read_table

    drop = [name.strip() for name in args.drop.split(",") if name.strip()]
    if args.train:
        train, test, target = read_table(args.train), read_table(args.test), args.target
    else:
        bank, target = read_bank(args.data_dir), "y"
        cut_at = len(bank) * 2 // 3
        train, test = bank[:cut_at], bank[cut_at:].drop(columns=target)
        drop = drop or GIVE_TIME_AWAY
    if args.quick:
        some = [
            frame.sample(min(len(frame), 2000), random_state=args.seed) for frame in (train, test)
        ]
        train, test = some
    return train, test, target, drop


# ---------------------------------------------------------------- method
def column_shift(bins: dict, random: np.random.Generator) -> dict:
    """AUC that each column reaches alone → {column: AUC}, the largest first.

    The odds of a column's bins come from one half of the rows and are judged on the other. bins is
    {column: (codes of the training rows, of the test rows)} of tables.encode.
    """
    found = {}
    for name, sides in bins.items():
        sides = [side[random.permutation(len(side))[: 2 * FIT_ROWS]] + 1 for side in sides]
        most = max(side.max() for side in sides) + 1
        p, q = (np.bincount(side[::2], minlength=most) + 0.5 for side in sides)
        log_odds = np.log(q / q.sum()) - np.log(p / p.sum())
        found[name] = area_under_curve(*(log_odds[side[1::2]] for side in sides))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def judge(auc: float, p_value: float, ess: float, rows: int, beyond: float) -> tuple:
    """(verdict, advice). ess: ESS/n; beyond: share of test rows whose D no training row reaches."""
    if p_value > 0.05:
        advice = "no shift that D can see: use a random split (all weights are set to 1)"
        return "no_shift", advice
    if auc > 0.99 or beyond > 0.2 or ess < 0.01 or ess * rows < 30:
        advice = (
            f"no overlap: {beyond:.0%} of the test rows lie beyond every training row, no weights "
            "mend that. Look at the columns above, --drop those that merely name the table"
        )
        return "no_overlap", advice
    if ess < 0.2:
        advice = (
            f"shift with thin overlap: the weights act as {ess * rows:.0f} rows; expect part of "
            "the gap to go, and look at the columns above"
        )
        return "weights", advice
    advice = f"shift that weights can mend: they act as a share of ESS/n = {ess:.2f} of the rows"
    return "weights", advice


def cut(weights: np.ndarray, fraction: float, random: np.random.Generator) -> dict:
    """Both ways of the article → {file: columns}: at random with weights; draws ∝ w."""
    n = len(weights)
    size = max(1, round(fraction * n))
    rows = np.sort(random.permutation(n)[:size])
    drawn = np.sort(random.choice(n, size, replace=True, p=weights / weights.sum()))
    return {
        "validation_weighted": {"row": rows, "weight": weights[rows]},
        "training_weighted": {"row": np.setdiff1d(np.arange(n), rows)},
        "validation_sampled": {"row": drawn},  # repeats stay
        "training_sampled": {"row": np.setdiff1d(np.arange(n), drawn)},  # drawn rows leave
    }


# ---------------------------------------------------------------- what is written
def write_tables(tables: dict, out_dir: Path) -> None:
    """All tables or none, and no cut of an earlier run beside them."""
    import pandas as pd

    def path(name, part=""):
        return out_dir / f"split_{name}.csv{part}"

    try:
        for name, table in tables.items():
            frame = pd.DataFrame(table)
            frame.to_csv(path(name, ".part"), index=False, float_format="%.6g", encoding="utf-8")
        for name in ("weights", *CUTS):
            if name in tables:
                os.replace(path(name, ".part"), path(name))
            else:
                path(name).unlink(missing_ok=True)
    finally:
        for name in tables:
            path(name, ".part").unlink(missing_ok=True)


def plot_scores(d_train, d_test, by_column: dict):
    """Left: D on both tables; right: the columns that give the shift away."""
    figure, (left, right) = cli.subplots(1, 2, height=4)
    bins = np.linspace(0, 1, 41)
    for values, label, colour in ((d_train, "TRAIN", "C0"), (d_test, "TEST", "C3")):
        left.hist(values, bins, density=True, alpha=0.6, color=colour, label=label)
    left.set(xlabel="D(x), out of fold", ylabel="density", title="Do the tables overlap?")
    left.legend()
    top = list(by_column.items())[:10][::-1]
    names = [str(name)[:20] for name, _ in top]
    right.barh(range(len(top)), [auc - 0.5 for _, auc in top], left=0.5, color="C3")
    right.set_yticks(range(len(top)), names)
    right.axvline(0.5, color="0.3", lw=1)
    right.set(xlabel="AUC of the column alone", title="What gives the shift away?", xlim=(0.45, 1))
    return figure


# ---------------------------------------------------------------- all of it
def main(args):
    train, test, target, drop = load(args)
    from tables import choose_columns, encode

    columns, warnings = choose_columns(train, test, target, drop)
    random = np.random.default_rng(args.seed)
    x_train, x_test, bins = encode(train, test, columns)
    del train, test
    for warning in warnings:
        print(f"warning: {warning}")

    held_out_auc, p_value = permutation_test(x_train, x_test, random)
    d_train, d_test = crossfit_discriminator(x_train, x_test, random, kind=args.discriminator)
    by_column = column_shift(bins, random)
    auc = area_under_curve(d_train, d_test)
    weights = cap_weights(d_train / (1 - d_train))
    ess = effective_sample_share(weights)
    beyond = float(np.mean(d_test > d_train.max()))
    verdict, advice = judge(auc, p_value, ess, len(weights), beyond)
    if verdict == "no_shift":
        weights = np.ones(len(weights))

    tables = {"weights": {"row": np.arange(len(weights)), "d": d_train, "weight": weights}}
    if verdict != "no_overlap":
        tables |= cut(weights, args.fraction, random)
    write_tables(tables, args.out_dir)
    print(
        f"AUC {auc:.3f} (held-out half {held_out_auc:.3f}, permutation p {p_value:.3f}), "
        f"ESS/n {ess:.3f}"
    )
    top = [f"{name} {value:.2f}" for name, value in list(by_column.items())[:6]]
    print(f"columns that give it away: {', '.join(top)}")
    print(f"verdict {verdict}: {advice}")
    metrics = {
        "rows_train": len(d_train),
        "rows_test": len(d_test),
        "columns": len(columns),
        "auc": auc,
        "held_out_auc": held_out_auc,
        "p_value": p_value,
        "ess_share": ess,
        "largest_weight": weights.max(),
        "test_rows_beyond_train": beyond,
        "auc_of_column": by_column,
        "verdict": verdict,
        "advice": advice,
        "warnings": warnings,
        "rows": {name: len(table["row"]) for name, table in tables.items()},
    }
    return metrics, [], {"split_scores": plot_scores(d_train, d_test, by_column)}


if __name__ == "__main__":
    cli.run(main, flags)
