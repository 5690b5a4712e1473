"""Twelve shifts on four real data sets: who goes to the test set, and can a discriminator tell?

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/shifted_tasks.py         (--quick for a look)
Time:    5 s on 2 cores (5 CPU-s)

Symbols: p, q → density of the training and the test inputs   D(x) → d   q/p → odds, exact where the shift is made here
Differs from the article: it names the two cases (inputs shift; labels differ) and has no data. Here are both, on digits
         and breast cancer (scikit-learn), Adult and Bank Marketing (UCI, CC BY 4.0), with two controls without a shift.
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
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit
from sklearn.datasets import load_breast_cancer, load_digits
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from data.download import fetch  # noqa: E402
from discriminator import (area_under_curve, cap_weights, crossfit_discriminator, effective_sample_share,  # noqa: E402
                           permutation_test)

HERE = Path(__file__).resolve().parent
ADULT_COLUMNS = ["age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship",
                 "race", "sex", "capital_gain", "capital_loss", "hours", "country", "income"]
MACRO_COLUMNS = ["emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m", "nr.employed"]   # the time in disguise
ROWS = 2000          # most rows a side of a task; data sets with more are drawn anew for every seed
TASKS = {   # name: (recipe, kind of shift, label in the figure)
    "digits": ("digits:select=1", "covariate", "digits, selected"),
    "cancer": ("cancer:select=1", "covariate", "breast cancer, selected"),
    "adult": ("adult:select=1", "covariate", "Adult, selected"),
    "bank": ("bank:select=1", "covariate", "Bank, selected"),
    "sector": ("adult:sector", "covariate", "Adult, private → other employers"),
    "country": ("adult:country", "covariate", "Adult, US → other countries"),
    "sex": ("adult:sex", "covariate", "Adult, men → women"),
    "time": ("bank:time", "covariate", "Bank, first 2/3 → last 1/3 in time"),
    "control": ("adult:official", "none", "Adult, official split (no shift)"),
    "shuffled": ("bank:shuffled", "none", "Bank, shuffled (no shift)"),
    "noise": ("adult:noise", "label", "Adult, 20 % wrong train labels"),
    "prior": ("adult:prior", "label", "Adult, P(y=1) → 1/2")}


# ---------------------------------------------------------------- data
def standardise(x: np.ndarray) -> np.ndarray:
    """Mean 0, sd 1, clipped to 5 sd: a pixel or a level that is hardly ever on must not shout."""
    return np.clip((x - x.mean(0)) / (x.std(0) + 1e-12), -5, 5)


def one_hot(frame: pd.DataFrame) -> np.ndarray:
    """Numeric columns as they are, the others as indicators, standardised → (rows, features) float64."""
    return standardise(pd.get_dummies(frame, dtype=float).to_numpy())


def load_tables(data_dir=None) -> dict:
    """The four data sets, as {name: (x, y, extra)} with x (rows, features) float64 and y int labels."""
    tables = {}
    for name, load in (("digits", load_digits), ("cancer", load_breast_cancer)):
        x, y = load(return_X_y=True)
        tables[name] = standardise(x), y, None
    adult = pd.concat([pd.read_csv(fetch(f"adult-{part}", data_dir), names=ADULT_COLUMNS, skipinitialspace=True,
                                   comment="|", encoding="utf-8").assign(part=part) for part in ("train", "test")],
                      ignore_index=True)
    adult["capital_gain"] = np.log1p(adult["capital_gain"])
    features = one_hot(adult.drop(columns=["fnlwgt", "education", "workclass", "country", "sex", "income", "part"]))
    label = adult["income"].str.startswith(">50K").astype(int).to_numpy()
    tables["adult"] = features, label, adult[["workclass", "country", "sex", "part"]]
    bank = pd.read_csv(fetch("bank-marketing", data_dir), sep=";", encoding="utf-8")
    features = one_hot(bank.drop(columns=["duration", "y", *MACRO_COLUMNS]))   # duration is known after the call only
    tables["bank"] = features, (bank["y"] == "yes").to_numpy(int), None
    return tables


def select_by_inputs(x: np.ndarray, strength: float, random: np.random.Generator) -> tuple:
    """Send rows to the test set with P(test|x) = σ(strength·z + b), z the first principal component in units of its sd.

    Returns (is_test, exact odds P/(1-P) ∝ q/p). p(y|x) is the same on both sides: pure covariate shift.
    """
    z = np.linalg.svd(x - x.mean(0), full_matrices=False)[0][:, 0]
    z = z / z.std() * np.sign(np.sum(z ** 3))                          # long tail to the test side
    offset = np.quantile(-strength * z, 0.5)
    chance = expit(strength * z + offset)
    return random.random(len(x)) < chance, chance / (1 - chance)


def make_task(name: str, tables: dict, seed: int) -> dict:
    """One draw of a task: x_train, y_train, x_test, y_test, exact odds of the training rows or None."""
    random = np.random.default_rng([seed, sum(name.encode())])
    source, _, kind = name.partition(":")
    x, y, extra = tables[source]
    rows = random.permutation(len(x))
    odds = None
    if kind.startswith("select"):
        rows = rows[:2 * ROWS]
        x, y = x[rows], y[rows]
        is_test, odds = select_by_inputs(x, float(kind.split("=")[1]), random)
    else:
        x, y, extra = x[rows], y[rows], None if extra is None else extra.iloc[rows]
        if kind == "time":
            is_test = rows >= len(x) * 2 // 3                          # the first two thirds of the calls → the last
        elif kind == "country":
            is_test = (extra["country"] != "United-States").to_numpy()
        elif kind == "sex":
            is_test = (extra["sex"] == "Female").to_numpy()
        elif kind == "sector":
            is_test = (extra["workclass"] != "Private").to_numpy()
        elif kind == "official":
            is_test = (extra["part"] == "test").to_numpy()
        elif kind in ("shuffled", "noise"):
            is_test = random.random(len(x)) < 0.5
        elif kind == "prior":                                          # p(x|y) stays, P(y = 1) becomes one half in test
            share = y.mean()
            is_test = random.random(len(x)) < np.where(y == 1, 0.5, 0.5 * share / (1 - share))
        else:
            raise ValueError(f"task {name}: unknown kind {kind!r}")
    train, test = np.flatnonzero(~is_test)[:ROWS], np.flatnonzero(is_test)[:ROWS]
    y_train = y[train].copy()
    if kind == "noise":                                                # p(x) stays, a fifth of the labels is wrong
        flip = random.random(len(train)) < 0.2
        y_train[flip] = 1 - y_train[flip]
    return {"x_train": x[train], "y_train": y_train, "x_test": x[test], "y_test": y[test],
            "odds": None if odds is None else odds[train]}


# ---------------------------------------------------------------- figures
def plot_tasks(scores: dict) -> Figure:
    """D, out of fold, on the training and the test rows of every task."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(-(-len(scores) // 4), min(4, len(scores)), squeeze=False).ravel()
    for axes, (name, (d_train, d_test, auc)) in zip(panels, scores.items()):
        for values, label, colour in ((d_train, "train", "C0"), (d_test, "test", "C3")):
            axes.hist(values, np.linspace(0, 1, 31), density=True, alpha=0.6, color=colour, label=label)
        axes.set_title(f"{TASKS[name][2]}\nAUC {auc:.2f}", fontsize=8)
        axes.set(yticks=[])
    panels[0].legend(fontsize=8)
    figure.supxlabel("D(x), out of fold")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_house_flags(parser)
    return parser.parse_args(argv)


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
    tables, scores, metrics = load_tables(args.data_dir), {}, {}
    random = np.random.default_rng(args.seed)
    for name in ("digits", "cancer", "control", "noise") if args.quick else TASKS:
        task = make_task(TASKS[name][0], tables, args.seed)
        with threadpool_limits(1):
            _, p_value = permutation_test(task["x_train"], task["x_test"], random)
            d_train, d_test = crossfit_discriminator(task["x_train"], task["x_test"], random)
        scores[name] = d_train, d_test, area_under_curve(d_train, d_test)
        metrics[name] = {"kind": TASKS[name][1], "rows_train": len(d_train), "rows_test": len(d_test),
                         "features": task["x_train"].shape[1], "auc": scores[name][2], "p_value": p_value,
                         "ess": effective_sample_share(cap_weights(d_train / (1 - d_train))),
                         "beyond": np.mean(d_test > d_train.max())}
        print(f"{TASKS[name][2]:36s} {TASKS[name][1]:9s} AUC {scores[name][2]:.3f}  p {p_value:.3f}  "
              f"ESS/n {metrics[name]['ess']:.3f}  test rows beyond train {metrics[name]['beyond']:.1%}")
    plot_tasks(scores).savefig(args.out_dir / "shifted_tasks_scores.png", dpi=110)
    return save_results(args, "shifted_tasks", metrics, [], ["shifted_tasks_scores.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
