"""The case with exact answers: train N(0, I), test N(e₁, I). Every formula beside its measurement.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/experiments/gaussian_shift.py
Symbols: p = N(0, I), q = N(e₁, I) → x_train, x_test
         D*(x) = q/(p+q), logit D* = log q − log p = x₁ − ½
         w = q/p = D/(1−D) = exp(x₁ − ½) → w
         p_i = w_i/Σw → chance of a row at each draw with replacement
Differs from the article: it states the formulas; the numbers, top-k (what competitors do) and the
         law of the de-duplicated sample are worked out here.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    rows = cli.between(1000, 100_000_000)
    parser.add_argument("--rows", type=rows, default=1_000_000, help="rows a side")
    parser.add_argument("--seed", **cli.SEED)


cli.parse(flags)

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from weights import area_under_curve, effective_sample_share

LARGE = 1e4  # C of the logistic D: hardly any penalty, the model is exactly right here
EXACT = {"auc": norm.cdf(1 / np.sqrt(2)), "kl": 0.5, "ess": np.exp(-1), "mean_w": 1.0}


# ---------------------------------------------------------------- data
def gaussian_pair(rows_train: int, rows_test: int, random: np.random.Generator) -> tuple:
    """Two columns, the first shifted by one standard deviation → x_train, x_test (rows, 2)."""
    x_train = random.standard_normal((rows_train, 2))
    x_test = random.standard_normal((rows_test, 2)) + [1, 0]
    return x_train, x_test


# ---------------------------------------------------------------- method
def fit_logit(x_train, x_test, equal_say: bool = True) -> np.ndarray:
    """(slope₁, slope₂, intercept) of logit D; equal_say: as if the batches were equal."""
    x = np.concatenate([x_train, x_test])
    is_test = np.arange(len(x)) >= len(x_train)
    balance = "balanced" if equal_say else None
    model = LogisticRegression(C=LARGE, class_weight=balance, tol=1e-8).fit(x, is_test)
    return np.append(model.coef_[0], model.intercept_)


def odds(logit: np.ndarray, x: np.ndarray) -> np.ndarray:
    """w = D/(1−D) = exp(logit D)."""
    return np.exp(x @ logit[:2] + logit[2])


def exact_mean(function, weight) -> float:
    """∫ f·u·p / ∫ u·p over p = N(0, 1), by quadrature: the mean of f under p re-weighted by u."""
    top, _ = quad(lambda x: function(x) * weight(x) * norm.pdf(x), -9, 11)
    bottom, _ = quad(lambda x: weight(x) * norm.pdf(x), -9, 11)
    return top / bottom


# ---------------------------------------------------------------- evaluation
def measure_discriminator(logit: np.ndarray, x_train, x_test) -> dict:
    """AUC, KL(q‖p) = E_q[log w], ESS/n and E_p[w] of a fitted D, on rows that it did not see."""
    w = odds(logit, x_train)
    w_test = odds(logit, x_test)
    return {
        "auc": area_under_curve(w, w_test),
        "kl": float(np.mean(np.log(w_test))),
        "ess": effective_sample_share(w),
        "mean_w": float(w.mean()),
    }


def measure_second_moment(w: np.ndarray, x1: np.ndarray) -> dict:
    """E_q[x₁²] = 2 by each weight → {weight: (measured, exact value of that estimate)}."""
    d = w / (1 + w)

    def exact_w(x):
        return np.exp(x - 0.5)

    exact_by_d = exact_mean(lambda x: x * x, lambda x: exact_w(x) / (1 + exact_w(x)))
    return {
        "none": (np.mean(x1**2), 1.0),
        "D": (np.average(x1**2, weights=d), exact_by_d),
        "D/(1-D)": (np.average(x1**2, weights=w), 2.0),
    }


def cut_every_way(w: np.ndarray, x1: np.ndarray, random: np.random.Generator) -> dict:
    """Validation sets out of one training table → {name: x₁ of the set}.

    The sets that are drawn have as many draws as the table has rows.
    """
    n = len(w)
    d = w / (1 + w)
    drawn = random.choice(n, n, p=w / w.sum())
    drawn_by_d = random.choice(n, n, p=d / d.sum())
    return {
        "random": x1,
        "top 10 % by D": x1[np.argsort(-w)[: n // 10]],
        "drawn ∝ D": x1[drawn_by_d],
        "drawn ∝ D/(1−D)": x1[drawn],
        "the same, de-duplicated": x1[np.unique(drawn)],
    }


def exact_cuts() -> dict:
    """Mean and variance of x₁ in those sets. De-duplicated, a row stays with chance 1 − e^(−w)."""
    edge = norm.ppf(0.9)
    top = norm.pdf(edge) / 0.1
    found = {
        "random": (0.0, 1.0),
        "top 10 % by D": (top, 1 + edge * top - top**2),
        "drawn ∝ D/(1−D)": (1.0, 1.0),
    }
    weights = {
        "drawn ∝ D": lambda x: 1 / (1 + np.exp(0.5 - x)),
        "the same, de-duplicated": lambda x: -np.expm1(-np.exp(x - 0.5)),
    }
    for name, weight in weights.items():
        mean = exact_mean(lambda x: x, weight)
        found[name] = mean, exact_mean(lambda x: x * x, weight) - mean**2
    return found


# ---------------------------------------------------------------- figures
def plot_cuts(cuts: dict, x1_test: np.ndarray):
    """The article in one glance: which cut of the training rows (bars) looks like the test rows?"""
    figure, panels = cli.subplots(2, 3, height=4.6, sharex=True, sharey=True)
    x = np.linspace(-4, 5, 200)
    sets = {"the test rows": x1_test, **cuts}
    for axes, (name, values) in zip(panels.ravel(), sets.items(), strict=True):
        colour = {"the test rows": "0.5", "drawn ∝ D/(1−D)": "C3"}.get(name, "C0")
        axes.hist(values, np.linspace(-4, 5, 55), density=True, color=colour, alpha=0.6)
        axes.plot(x, norm.pdf(x), "--", color="0.5", lw=1, label="training rows, N(0, 1)")
        axes.plot(x, norm.pdf(x, 1), "k", lw=1.5, label="test rows, N(1, 1)")
        mean = round(values.mean(), 2) + 0.0  # no "-0.00"
        axes.set_title(f"{name}\nmean {mean:.2f}, variance {values.var():.2f}")
        axes.set(ylim=(0, 0.6), yticks=[])
    figure.supxlabel("x₁")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


# ---------------------------------------------------------------- all of it
def main(args):
    random = np.random.default_rng(args.seed)
    rows = 20_000 if args.quick else args.rows
    slack = 0.1 if args.quick else 0.02
    logit = fit_logit(*gaussian_pair(rows, rows, random))
    x_train, x_test = gaussian_pair(rows, rows, random)  # fresh rows: D has not seen them
    measured = measure_discriminator(logit, x_train, x_test)
    w = odds(logit, x_train)
    x1 = x_train[:, 0]
    moments = measure_second_moment(w, x1)
    cuts = cut_every_way(w, x1, random)
    exact = exact_cuts()
    few = gaussian_pair(rows, rows // 4, random)
    natural = fit_logit(*few, equal_say=False)
    equal = fit_logit(*few)
    metrics = {
        "rows": rows,
        "logit": logit.tolist(),
        "discriminator": measured,
        "exact": EXACT,
        "second_moment": {k: {"measured": m, "exact": e} for k, (m, e) in moments.items()},
        "cuts": {name: describe(values, *exact[name]) for name, values in cuts.items()},
        "unbalanced": {
            "intercept": natural[2],
            "exact": -0.5 + np.log(0.25),
            "mean_w": odds(natural, x_train).mean(),
            "intercept_equal": equal[2],
            "mean_w_equal": odds(equal, x_train).mean(),
        },
    }
    for key, value in measured.items():
        print(f"{key:7s} measured {value:.5f}   exact {EXACT[key]:.5f}")
    for name, row in metrics["cuts"].items():
        print(
            f"{name:24s} mean {row['mean']:.4f} (exact {row['exact_mean']:.4f})  "
            f"variance {row['variance']:.4f} (exact {row['exact_variance']:.4f})"
        )
    claims = judge(metrics, slack)
    return metrics, claims, {"gaussian_shift_cuts": plot_cuts(cuts, x_test[:, 0])}


def describe(values: np.ndarray, exact_mean: float, exact_variance: float) -> dict:
    return {
        "mean": values.mean(),
        "variance": values.var(),
        "exact_mean": exact_mean,
        "exact_variance": exact_variance,
        "rows": len(values),
    }


def judge(metrics: dict, slack: float) -> list:
    """C3.1, C3.3, C3.4 and C3.7; slack is the relative error that sampling may cause."""
    coefficients = np.abs(np.array(metrics["logit"]) - [1, 0, -0.5]).max()
    figures = max(abs(metrics["discriminator"][key] / EXACT[key] - 1) for key in EXACT)
    by_d = metrics["second_moment"]["D"]
    by_odds = metrics["second_moment"]["D/(1-D)"]["measured"]
    drawn = metrics["cuts"]["drawn ∝ D/(1−D)"]["mean"]
    single = metrics["cuts"]["the same, de-duplicated"]["mean"]
    unequal = metrics["unbalanced"]
    moved = abs(unequal["intercept"] - unequal["exact"]) < 2 * slack
    biased = unequal["mean_w"] < 0.5 and abs(unequal["mean_w_equal"] - 1) < 2 * slack
    return [
        cli.claim(
            "C3.1",
            {"coefficients": coefficients, "figures": figures},
            coefficients < 0.03 and figures < slack,
        ),
        cli.claim(
            "C3.3",
            {"weights_d": by_d["measured"], "theory": by_d["exact"], "weights_odds": by_odds},
            abs(by_odds - 2) < 5 * slack < abs(by_d["measured"] - 2),
        ),
        cli.claim(
            "C3.4",
            {"drawn": drawn, "without_repeats": single},
            abs(drawn - 1) < 2 * slack and single < 0.75,
        ),
        cli.claim(
            "C3.7",
            {
                "mean_weight": unequal["mean_w"],
                "intercept": unequal["intercept"],
                "mean_weight_equal": unequal["mean_w_equal"],
            },
            moved and biased,
        ),
    ]


if __name__ == "__main__":
    cli.run(main, flags)
