"""Twelve pairs of training and test rows out of four real data sets, with and without a shift.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Symbols: p, q → density of the training and the test inputs
         q/p → odds, known exactly where the shift is made here ("selected")
Differs from the article: it names two cases (the inputs shift; the labels differ) and has no data.
         Here are both, on digits and breast cancer (scikit-learn), Adult and Bank Marketing (UCI,
         CC BY 4.0), and two controls without a shift.
"""

import functools
import sys
from pathlib import Path

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch

ADULT_COLUMNS = [
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation"),
    *("relationship", "race", "sex", "capital_gain", "capital_loss", "hours", "country", "income"),
]
ADULT_HIDDEN = ["fnlwgt", "education", "workclass", "country", "sex", "income", "part"]
# Figures of the whole economy: they name the month of a call, and with it the table.
MACRO_COLUMNS = ["emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m", "nr.employed"]
ROWS = 2000  # most rows a side; a data set with more is drawn anew for every seed
TASKS = {  # name: (recipe, kind of shift, label in the figures)
    "digits": ("digits:select=1", "covariate", "digits, selected"),
    "cancer": ("cancer:select=1", "covariate", "breast cancer, selected"),
    "adult": ("adult:select=1", "covariate", "Adult, selected"),
    "bank": ("bank:select=1", "covariate", "Bank, selected"),
    "sector": ("adult:sector", "covariate", "Adult, private → other"),
    "country": ("adult:country", "covariate", "Adult, US → other countries"),
    "sex": ("adult:sex", "covariate", "Adult, men → women"),
    "time": ("bank:time", "covariate", "Bank, earlier → later"),
    "control": ("adult:official", "none", "Adult, official split"),
    "shuffled": ("bank:shuffled", "none", "Bank, shuffled"),
    "noise": ("adult:noise", "label", "Adult, 20 % wrong labels"),
    "prior": ("adult:prior", "label", "Adult, P(y=1) → 1/2"),
}
GROUPS = {  # kind: (column of Adult, which of its values go to the test set)
    "country": ("country", lambda values: values != "United-States"),
    "sex": ("sex", lambda values: values == "Female"),
    "sector": ("workclass", lambda values: values != "Private"),
    "official": ("part", lambda values: values == "test"),
}
COLOURS = {  # of the ways to validate, in all figures of this folder
    "random": "C0",
    "top_k": "C1",
    "weight_d": "C2",
    "weight_odds": "C3",
    "sample_odds": "C4",
    "ulsif": "C5",
    "bbse": "C6",
    "oracle": "0.3",
}


# ---------------------------------------------------------------- data
def fonts_for_chinese(data_dir=None) -> list[str]:
    """Families for matplotlib: its own, and one out of data/ that has the Chinese characters."""
    from matplotlib import font_manager

    font = fetch("noto-sans-sc", data_dir)
    font_manager.fontManager.addfont(font)
    return ["DejaVu Sans", font_manager.FontProperties(fname=font).get_name()]


def standardise(x: np.ndarray) -> np.ndarray:
    """Mean 0, sd 1, clipped to 5 sd: a level that is hardly ever on must not shout."""
    return np.clip((x - x.mean(0)) / (x.std(0) + 1e-12), -5, 5)


def one_hot(frame) -> np.ndarray:
    """Numbers as they are, other columns as indicators, standardised → (rows, features)."""
    import pandas as pd

    return standardise(pd.get_dummies(frame, dtype=float).to_numpy())


def read_adult(data_dir=None):
    """Adult as a frame: one row a person, `part` tells the official training and test rows."""
    import pandas as pd

    form = {"names": ADULT_COLUMNS, "skipinitialspace": True, "comment": "|", "encoding": "utf-8"}
    parts = [
        pd.read_csv(fetch(f"adult-{part}", data_dir), **form).assign(part=part)
        for part in ("train", "test")
    ]
    return pd.concat(parts, ignore_index=True)


def read_bank(data_dir=None):
    """Bank Marketing as a frame: one row a telephone call, in the order of time."""
    import pandas as pd

    return pd.read_csv(fetch("bank-marketing", data_dir), sep=";", encoding="utf-8")


@functools.cache
def load_tables(data_dir=None) -> dict:
    """The four data sets, {name: (x, y, extra)}: x (rows, features) float64, y labels of int."""
    from sklearn.datasets import load_breast_cancer, load_digits

    digits, digit = load_digits(return_X_y=True)
    cancer, benign = load_breast_cancer(return_X_y=True)
    adult = read_adult(data_dir)
    adult["capital_gain"] = np.log1p(adult["capital_gain"])
    rich = adult["income"].str.startswith(">50K").astype(int).to_numpy()
    groups = adult[["workclass", "country", "sex", "part"]]
    bank = read_bank(data_dir)
    subscribed = (bank["y"] == "yes").to_numpy(int)
    bank = bank.drop(columns=["duration", "y", *MACRO_COLUMNS])  # duration: known after the call
    return {
        "digits": (standardise(digits), digit, None),
        "cancer": (standardise(cancer), benign, None),
        "adult": (one_hot(adult.drop(columns=ADULT_HIDDEN)), rich, groups),
        "bank": (one_hot(bank), subscribed, None),
    }


def select_by_inputs(x: np.ndarray, strength: float, random: np.random.Generator) -> tuple:
    """Send rows to the test set with P(test|x) = σ(strength·z + b): pure covariate shift.

    z is the first principal component in units of its sd, its long tail on the test side; p(y|x) is
    the same on both sides. Returns (is_test, exact odds P/(1−P) ∝ q/p), both (rows,).
    """
    z = np.linalg.svd(x - x.mean(0), full_matrices=False)[0][:, 0]
    z = z / z.std() * np.sign(np.sum(z**3))
    offset = np.quantile(-strength * z, 0.5)
    chance = scipy.special.expit(strength * z + offset)
    return random.random(len(x)) < chance, chance / (1 - chance)


def make_task(recipe: str, tables: dict, seed: int) -> dict:
    """One draw of a task: x_train, y_train, x_test, y_test; odds (exact q/p of train) or None.

    recipe: "data set:kind", as in TASKS. ValueError for a kind that is not there.
    """
    random = np.random.default_rng([seed, sum(recipe.encode())])
    source, _, kind = recipe.partition(":")
    x, y, groups = tables[source]
    rows = random.permutation(len(x))
    if kind.startswith("select"):
        rows = rows[: 2 * ROWS]
    x, y = x[rows], y[rows]
    odds = None
    if kind.startswith("select"):
        is_test, odds = select_by_inputs(x, float(kind.partition("=")[2]), random)
    elif kind == "time":
        is_test = rows >= len(x) * 2 // 3
    elif kind in GROUPS:
        column, is_test_group = GROUPS[kind]
        is_test = is_test_group(groups[column].iloc[rows]).to_numpy()
    elif kind in ("shuffled", "noise"):
        is_test = random.random(len(x)) < 0.5
    elif kind == "prior":  # p(x|y) stays, P(y = 1) becomes one half in test
        share = y.mean()
        is_test = random.random(len(x)) < np.where(y == 1, 0.5, 0.5 * share / (1 - share))
    else:
        raise ValueError(f"task {recipe}: unknown kind {kind!r}")
    train = np.flatnonzero(~is_test)[:ROWS]
    test = np.flatnonzero(is_test)[:ROWS]
    return {
        "x_train": x[train],
        "y_train": with_wrong_labels(y[train], random) if kind == "noise" else y[train],
        "x_test": x[test],
        "y_test": y[test],
        "odds": None if odds is None else odds[train],
    }


def with_wrong_labels(y: np.ndarray, random: np.random.Generator, share: float = 0.2) -> np.ndarray:
    """A copy of y, of 0 and 1, in which a share of the labels says the other one."""
    wrong = random.random(len(y)) < share
    return np.where(wrong, 1 - y, y)
