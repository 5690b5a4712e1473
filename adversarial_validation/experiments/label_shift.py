"""Where weights on x cannot help: wrong training labels, and other shares of the labels.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/experiments/label_shift.py
Symbols: p(y), q(y) → label shares in train and test    w_y = q(y)/p(y) → class weights
         C_ij = p(ŷ = i, y = j) → joint, from out-of-fold predictions
         μ_i = q(ŷ = i) → share, of the predictions on the test rows
         D/(1−D) → odds, the article's weights on x
Differs from the article: it says that no splitting helps when the label distributions differ. So it
         is with wrong labels (case 1). Where only the shares differ and p(x|y) stays, the black-box
         estimate (BBSE, Lipton et al. 2018) mends it, without a label of the test set: C·w = μ.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument(
        "--seeds", type=cli.between(2, 1000), default=10, help="draws of every case"
    )
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from shifted_tasks import COLOURS, load_tables, make_task
from weights import area_under_curve, cap_weights, crossfit_discriminator, effective_sample_share

WRONG = 0.2  # share of the training labels replaced at random in case 1
WEIGHTS = {
    "random": "random split",
    "odds": "weights D/(1−D)",
    "bbse": "weights BBSE",
    "exact": "weights q(y)/p(y)",
}
COLOUR_OF = {"random": "random", "odds": "weight_odds", "bbse": "bbse", "exact": "oracle"}


# ---------------------------------------------------------------- data
def shuffled_digits(random: np.random.Generator) -> tuple:
    """x (1797, 64) in 0 … 1, y, and the row at which the second half begins."""
    x, y = load_digits(return_X_y=True)
    rows = random.permutation(len(x))
    return x[rows] / 16, y[rows], len(x) // 2


def digits_with_wrong_labels(random: np.random.Generator) -> dict:
    """Case 1 of the article: p(x) stays, a fifth of the training labels names another digit."""
    x, y, half = shuffled_digits(random)
    y_train = y[:half].copy()
    wrong = random.random(half) < WRONG
    y_train[wrong] = (y_train[wrong] + random.integers(1, 10, wrong.sum())) % 10
    return {"x_train": x[:half], "y_train": y_train, "x_test": x[half:], "y_test": y[half:]}


def digits_with_other_shares(random: np.random.Generator) -> dict:
    """p(x|y) stays; the class shares of the test rows come from a flat Dirichlet law."""
    x, y, half = shuffled_digits(random)
    share = random.dirichlet(np.ones(10))
    pool = y[half:]
    chance = (share / np.bincount(pool, minlength=10))[pool]
    test = half + random.choice(len(pool), len(pool), p=chance / chance.sum())
    return {"x_train": x[:half], "y_train": y[:half], "x_test": x[test], "y_test": y[test]}


# ---------------------------------------------------------------- method
def out_of_fold(x, y, x_test, random: np.random.Generator, folds: int = 5) -> tuple:
    """Predictions by models that did not see the row → training (n,), test (folds, m)."""
    fold = random.permutation(len(x)) % folds
    guess = np.empty(len(x), int)
    guess_test = []
    for k in range(folds):
        model = LogisticRegression(C=0.1, max_iter=100).fit(x[fold != k], y[fold != k])
        guess[fold == k] = model.predict(x[fold == k])
        guess_test.append(model.predict(x_test))
    return guess, np.array(guess_test)


def bbse_class_weights(y, guess, guess_test, classes: int) -> np.ndarray:
    """w_y = q(y)/p(y) from predictions alone → (classes,): C·w = μ by least squares, w ≥ 0."""
    joint = np.zeros((classes, classes))
    np.add.at(joint, (guess, y), 1 / len(y))  # C_ij = p(ŷ = i, y = j)
    share = np.bincount(guess_test.ravel(), minlength=classes) / guess_test.size  # μ
    return np.maximum(np.linalg.lstsq(joint, share, rcond=1e-3)[0], 0)


# ---------------------------------------------------------------- evaluation
def run_case(task: dict, random: np.random.Generator) -> dict:
    """Validation − test accuracy with each set of weights, and how well BBSE finds its weights."""
    x = task["x_train"]
    y = task["y_train"]
    y_test = task["y_test"]
    d, d_test = crossfit_discriminator(x, task["x_test"], random)
    guess, guess_test = out_of_fold(x, y, task["x_test"], random)
    classes = int(y.max()) + 1
    share = np.bincount(y, minlength=classes) / len(y)
    share_test = np.bincount(y_test, minlength=classes) / len(y_test)
    exact = share_test / share
    found = bbse_class_weights(y, guess, guess_test, classes)
    odds = cap_weights(d / (1 - d))
    weights = {"random": np.ones(len(y)), "odds": odds, "bbse": found[y], "exact": exact[y]}
    score = np.mean(guess_test == y_test)
    right = guess == y
    gaps = {key: np.average(right, weights=w + 1e-12) - score for key, w in weights.items()}
    return {
        "auc": area_under_curve(d, d_test),
        "d_spread": float(d.std()),
        "test": float(score),
        "ess": effective_sample_share(odds),
        "weight_mse_none": float(np.mean((1 - exact) ** 2)),
        "weight_mse_bbse": float(np.mean((found - exact) ** 2)),
        "gap": {key: float(gap) for key, gap in gaps.items()},
    }


def summarise(runs: list) -> dict:
    """Means over the seeds, of the gaps those of |gap|."""
    numbers = [key for key in runs[0] if key != "gap"]
    means = {key: float(np.mean([run[key] for run in runs])) for key in numbers}
    gaps = {f"gap_{key}": float(np.mean([abs(run["gap"][key]) for run in runs])) for key in WEIGHTS}
    return means | gaps


# ---------------------------------------------------------------- figures
def plot_cases(cases: dict):
    """Gap of every seed (a dot) and the mean |gap|: a panel per case, a line per set of weights."""
    figure, panels = cli.subplots(1, len(cases), height=3.8, sharex=True, sharey=True)
    for axes, (name, runs) in zip(panels, cases.items(), strict=True):
        for line, key in enumerate(WEIGHTS):
            gaps = [run["gap"][key] for run in runs]
            axes.plot(gaps, [line] * len(gaps), "o", ms=5, alpha=0.6, color=COLOURS[COLOUR_OF[key]])
            axes.text(0, line + 0.2, f"|gap| {np.mean(np.abs(gaps)):.3f}", ha="center")
        axes.axvline(0, color="0.8", lw=0.8, zorder=0)
        axes.set_yticks(range(len(WEIGHTS)), WEIGHTS.values())
        axes.set(ylim=(-0.5, 3.6), title=name.replace(", ", "\n"))
    figure.supxlabel("validation − test accuracy (0: the validation set tells the truth)")
    return figure


# ---------------------------------------------------------------- all of it
def main(args):
    tables = load_tables(args.data_dir)
    cases = {
        "digits, 20 % wrong train labels": [],
        "digits, other label shares": [],
        "Adult, P(y = 1) → 1/2": [],
    }
    wrong, shares, adult = cases.values()
    with threadpool_limits(1):
        for seed in range(args.seed, args.seed + (2 if args.quick else args.seeds)):
            random = np.random.default_rng([seed, 7])
            wrong.append(run_case(digits_with_wrong_labels(random), random))
            random = np.random.default_rng([seed, 7])
            shares.append(run_case(digits_with_other_shares(random), random))
            random = np.random.default_rng([seed, 7])
            adult.append(run_case(make_task("adult:prior", tables, seed), random))
    metrics = {name: summarise(runs) for name, runs in cases.items()}
    for name, row in metrics.items():
        gaps = "  ".join(f"{key} {row[f'gap_{key}']:.4f}" for key in WEIGHTS)
        print(f"{name:32s} AUC of D {row['auc']:.3f}  mean |gap| {gaps}")
    return metrics, [judge(metrics)], {"label_shift_gaps": plot_cases(cases)}


def judge(metrics: dict) -> dict:
    """C3.5: D sees nothing of wrong labels, and its weights change nothing."""
    row = metrics["digits, 20 % wrong train labels"]
    ratio = row["gap_odds"] / row["gap_random"]
    measured = {"auc": row["auc"], "spread": row["d_spread"], "gap_ratio": ratio}
    return cli.claim("C3.5", measured, abs(row["auc"] - 0.5) < 0.03 and 0.9 < ratio < 1.1)


if __name__ == "__main__":
    cli.run(main, flags)
