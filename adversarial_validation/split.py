"""Cut a validation set that resembles the test set, out of any two tables: TRAIN (with labels) and TEST (without).

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/split.py                 (the Bank Marketing file, cut in time)
         python adversarial_validation/split.py train.csv test.csv --target y -o folder
Time:    4 s on 2 cores (4 CPU-s); 1,000,000 × 50 rows: 26 s, 1.8 GB

Symbols: D(x) → d, probability "x is from test" (train 0, test 1, equal say)   w(x) = D/(1-D) → weights, mean 1
         p_i = w_i/Σw → chance of a training row at each draw with replacement   ESS = (Σw)²/Σw²
Differs from the article: rows are scored by a D that did not see them (5 folds); no weight exceeds √n times the mean;
         drawn rows leave the training set; a permutation test says first whether there is a shift at all.
Writes:  split.json (AUC, p, verdict, columns), split_scores.png, split_weights.csv (row, d, weight) and two cuts,
         split_validation_weighted.csv (row, weight) + split_training_weighted.csv (row) at random with weights,
         split_validation_sampled.csv (row, repeated as drawn) + split_training_sampled.csv (row) ∝ w.
         Row 0 is the first row under the header: pandas.read_csv(TRAIN).iloc[rows].
"""
import argparse
import gzip
import json
import os
import platform
import re
import sys
import time
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from data.download import fetch  # noqa: E402
from discriminator import (FIT_ROWS, area_under_curve, cap_weights, crossfit_discriminator,  # noqa: E402
                           effective_sample_share, permutation_test)

HERE = Path(__file__).resolve().parent
FEWEST_ROWS = 100         # a side; below that neither D nor its test mean anything
MOST_LEVELS = 30          # indicator columns per categorical column, the rarer levels share one
MACRO_COLUMNS = ["emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m", "nr.employed"]   # give time away
CUT_FILES = ("validation_weighted", "training_weighted", "validation_sampled", "training_sampled")


# ---------------------------------------------------------------- data
def read_table(path: Path) -> pd.DataFrame:
    """CSV (separator , ; or tab, UTF-8, may be .gz) or parquet → frame. ValueError/OSError in one line."""
    if path.suffix == ".parquet":
        try:
            return pd.read_parquet(path)
        except ImportError:
            raise ValueError(f"{path}: pandas needs pyarrow to read parquet; install it or save as CSV") from None
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(",;\t", key=header.count)
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", skipinitialspace=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None
    except (ValueError, EOFError, zlib.error) as error:                  # pandas' parser errors are ValueErrors
        raise ValueError(f"{path} is not a table: {str(error).strip().splitlines()[0]}") from None


def choose_columns(train: pd.DataFrame, test: pd.DataFrame, target, drop: list) -> tuple:
    """Columns that D may look at, and warnings on those it may not. ValueError where nothing is left."""
    warnings = []
    for name in ([target] if target else []) + drop:
        if name not in train.columns:
            swapped = "; TEST has it: are the two swapped?" if name in test.columns else ""
            has = ", ".join(map(str, train.columns[:12]))
            raise ValueError(f"no column {name!r} in TRAIN; it has {has} …{swapped}")
    for side, frame in (("TRAIN", train), ("TEST", test)):
        if len(frame) < FEWEST_ROWS:
            raise ValueError(f"{side} has {len(frame)} rows; at least {FEWEST_ROWS} are needed")
    if target in test.columns:
        warnings.append(f"target {target!r} is in TEST too: not shown to D")
    only = [str(c) for c in train.columns.symmetric_difference(test.columns) if c != target]
    if only:
        warnings.append(f"columns in one table only, ignored: {', '.join(only)}")
    if any(re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", name) for name in only):
        warnings.append("a column is named by a number: does the first line of each file hold the names?")
    columns = []
    for name in train.columns.intersection(test.columns, sort=False):
        if name == target or name in drop:
            continue
        values = [train[name], test[name]]
        if all(v.isna().all() for v in values):
            warnings.append(f"column {name!r} is all missing: ignored")
            continue
        first = values[0].dropna().iloc[0] if values[0].notna().any() else None
        if all(v.notna().all() and (v == first).all() for v in values):
            warnings.append(f"column {name!r} is constant: ignored")
        elif not is_number(train, test, name) and values[0].nunique() > max(50, len(train) // 2):
            warnings.append(f"column {name!r} is text that hardly repeats (an identifier?): ignored")
        else:
            columns.append(name)
    if not columns:
        raise ValueError("TRAIN and TEST have no usable column in common; the first line of each names the columns")
    hashes = [pd.util.hash_pandas_object(frame[columns], index=False).to_numpy() for frame in (train, test)]
    repeated = int(np.isin(hashes[1], hashes[0]).sum())
    if repeated:
        warnings.append(f"{repeated} of {len(test)} test rows repeat a training row in every shared column")
    return columns, warnings


def is_number(train, test, name) -> bool:
    return all(pd.api.types.is_numeric_dtype(f[name]) or f[name].isna().all() for f in (train, test))


def encode(train: pd.DataFrame, test: pd.DataFrame, columns: list) -> tuple:
    """→ x_train, x_test float32 (rows, features), standardised; and codes {column: (train, test)} of coarse bins.

    Numbers: median for missing, an indicator of it, clipped to 5 sd. Others: indicators of the 30 commonest levels.
    Bins: deciles of the pooled numbers, or the levels; -1 and the last code stand for missing and rare ones.
    """
    n, features, codes = len(train), [], {}
    for name in columns:
        if is_number(train, test, name):
            value = np.concatenate([f[name].to_numpy(np.float32, na_value=np.nan) for f in (train, test)])
            value[~np.isfinite(value)] = np.nan
            missing = np.isnan(value)
            if missing.all():
                continue
            edges = np.quantile(value[~missing][::max(1, len(value) // 100_000)], np.linspace(0.1, 0.9, 9))
            codes[name] = np.where(missing, -1, np.searchsorted(edges, value, side="left")).astype(np.int8)
            value[missing] = edges[4]
            features.append(value)
            if missing.any():
                features.append(missing.astype(np.float32))
        else:
            text = pd.concat([f[name].astype("string") for f in (train, test)], ignore_index=True)
            common = text.value_counts().index[:MOST_LEVELS]
            level = pd.Categorical(text, categories=common).codes.astype(np.int8)
            level[(level < 0) & text.notna().to_numpy()] = len(common)
            codes[name] = level
            features += [(level == k).astype(np.float32) for k in np.unique(level)]
    x = np.empty((n + len(test), len(features)), np.float32)
    for j, value in enumerate(features):
        spread = value.std(dtype=np.float64)
        x[:, j] = np.clip((value - value.mean(dtype=np.float64)) / (spread if spread > 0 else 1), -5, 5)
        features[j] = None                                               # frees memory as it goes
    return x[:n], x[n:], {name: (code[:n], code[n:]) for name, code in codes.items()}


# ---------------------------------------------------------------- method
def column_shift(codes: dict, random: np.random.Generator) -> dict:
    """AUC that each column reaches alone, by the odds of its bins on one half of the rows, scored on the other half."""
    found = {}
    for name, sides in codes.items():
        sides = [side[random.permutation(len(side))[:2 * FIT_ROWS]] + 1 for side in sides]
        counts = [np.bincount(side[::2], minlength=MOST_LEVELS + 2) + 0.5 for side in sides]
        odds = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
        found[name] = area_under_curve(*(odds[side[1::2]] for side in sides))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def judge(auc: float, p_value: float, ess: float, rows: int, beyond: float) -> tuple:
    """(verdict, advice): no_shift, weights or no_overlap. ess is ESS/n; beyond the share of test rows
    whose D no training row reaches."""
    if p_value > 0.05:
        return "no_shift", "no shift that D can see: use a random split (all weights are set to 1)"
    if auc > 0.99 or beyond > 0.2 or ess < 0.01 or ess * rows < 30:
        return "no_overlap", (f"no overlap: {beyond:.0%} of the test rows lie beyond every training row, no weights "
                              "mend that. Look at the columns above, --drop those that merely name the table")
    if ess < 0.2:
        return "weights", (f"shift with thin overlap: the weights act as {ess * rows:.0f} rows; expect part of the gap "
                           "to go, and look at the columns above")
    return "weights", f"shift that weights can mend: they act as a share of ESS/n = {ess:.2f} of the rows"


def cut(weights: np.ndarray, fraction: float, random: np.random.Generator) -> dict:
    """Both ways of the article → {file: columns}: at random with weights; draws ∝ w, repeats kept."""
    n, size = len(weights), max(1, round(fraction * len(weights)))
    rows = np.sort(random.permutation(n)[:size])
    drawn = np.sort(random.choice(n, size, replace=True, p=weights / weights.sum()))
    return {"validation_weighted": {"row": rows, "weight": weights[rows]},
            "training_weighted": {"row": np.setdiff1d(np.arange(n), rows)},
            "validation_sampled": {"row": drawn},
            "training_sampled": {"row": np.setdiff1d(np.arange(n), drawn)}}       # drawn rows leave: no leakage


# ---------------------------------------------------------------- figures
def plot_scores(d_train, d_test, columns: dict) -> Figure:
    """Left: D on both tables; right: the columns that give the shift away."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.linspace(0, 1, 41)
    for values, label, colour in ((d_train, "TRAIN", "C0"), (d_test, "TEST", "C3")):
        left.hist(values, bins, density=True, alpha=0.6, color=colour, label=label)
    left.set(xlabel="D(x), out of fold", ylabel="density", title="Where the tables overlap")
    left.legend()
    top = list(columns.items())[:10][::-1]
    right.barh([str(name)[:30] for name, _ in top], [auc - 0.5 for _, auc in top], left=0.5, color="C3")
    right.axvline(0.5, color="0.3", lw=1)
    right.set(xlabel="AUC of the column alone (0.5: no shift)", title="What gives the shift away", xlim=(0.45, 1))
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("train", nargs="?", type=Path, help="CSV or parquet with a header; none: Bank Marketing")
    parser.add_argument("test", nargs="?", type=Path, help="the same columns, the target may be absent")
    parser.add_argument("--target", help="column that D must not see")
    parser.add_argument("-o", dest="out_dir", type=Path, default=HERE / "outputs", help="as --out-dir")
    parser.add_argument("--drop", default="", help="comma-separated columns that D must not see either")
    parser.add_argument("--fraction", type=float, default=0.2, help="validation rows per training row, in (0, 0.9]")
    parser.add_argument("--discriminator", choices=("logistic", "network"), default="logistic", help="kind of D")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.train and not args.test:
        parser.error("TEST: give two tables, TRAIN and TEST, or none for the demonstration")
    if not 0 < args.fraction <= 0.9:
        parser.error(f"--fraction {args.fraction}: must lie in (0, 0.9]")
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


def load(args: argparse.Namespace) -> tuple:
    """(train, test, target, drop) of the command line, or the Bank Marketing calls: first two thirds → last third."""
    drop = [name.strip() for name in args.drop.split(",") if name.strip()]
    if args.train:
        train, test, target = read_table(args.train), read_table(args.test), args.target
    else:
        bank = read_table(fetch("bank-marketing", args.data_dir))
        cut_at, target = len(bank) * 2 // 3, "y"
        train, test = bank[:cut_at], bank[cut_at:].drop(columns="y")
        drop = drop or ["duration", *MACRO_COLUMNS]
    if args.quick:
        train, test = (frame.sample(min(len(frame), 2000), random_state=args.seed) for frame in (train, test))
    return train, test, target, drop


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    train, test, target, drop = load(args)
    columns, warnings = choose_columns(train, test, target, drop)
    args.out_dir.mkdir(parents=True, exist_ok=True)                      # bad input leaves nothing behind
    random = np.random.default_rng(args.seed)
    x_train, x_test, codes = encode(train, test, columns)
    del train, test
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    held_out_auc, p_value = permutation_test(x_train, x_test, random)
    d_train, d_test = crossfit_discriminator(x_train, x_test, random, kind=args.discriminator)
    by_column = column_shift(codes, random)
    auc, weights = area_under_curve(d_train, d_test), cap_weights(d_train / (1 - d_train))
    ess, beyond = effective_sample_share(weights), float(np.mean(d_test > d_train.max()))
    verdict, advice = judge(auc, p_value, ess, len(weights), beyond)
    if verdict == "no_shift":
        weights = np.ones(len(weights))
    tables = {"weights": {"row": np.arange(len(weights)), "d": d_train, "weight": weights}}
    if verdict != "no_overlap":
        tables |= cut(weights, args.fraction, random)
    try:
        for name, table in tables.items():
            path = args.out_dir / f"split_{name}.csv"
            pd.DataFrame(table).to_csv(f"{path}.part", index=False, float_format="%.6g", encoding="utf-8")
        for name in ("weights", *CUT_FILES):                             # all or none, and no cut of an earlier run
            path = args.out_dir / f"split_{name}.csv"
            os.replace(f"{path}.part", path) if name in tables else path.unlink(missing_ok=True)
    finally:
        for name in tables:
            (args.out_dir / f"split_{name}.csv.part").unlink(missing_ok=True)
    plot_scores(d_train, d_test, by_column).savefig(args.out_dir / "split_scores.png", dpi=150)
    metrics = {"rows_train": len(d_train), "rows_test": len(d_test), "columns": len(columns), "auc": auc,
               "held_out_auc": held_out_auc, "p_value": p_value, "ess_share": ess, "largest_weight": weights.max(),
               "test_rows_beyond_train": beyond, "auc_of_column": by_column,
               "verdict": verdict, "advice": advice, "warnings": warnings,
               "rows": {name: len(table["row"]) for name, table in tables.items()}}
    top = list(by_column.items())[:6]
    print(f"AUC {auc:.3f} (held-out half {held_out_auc:.3f}, permutation p {p_value:.3f}), ESS/n {ess:.3f}")
    print("columns that give it away: " + ", ".join(f"{name} {value:.2f}" for name, value in top))
    print(f"verdict {verdict}: {advice}")
    return save_results(args, "split", metrics, [], ["split_scores.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
