"""What an over-fitted discriminator does to the weights, and what mends it.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/experiments/overfitted_discriminator.py
Symbols: p = N(0, I), q = N(e₁, I) → x_train, x_test
         w(x) = q/p = D/(1−D) → d / (1 − d), exactly exp(x₁ − ½) → exact
Differs from the article: it warns of over-fitting and names two guards, a held-out part and a
         logistic D. Both are measured, with a third that it leaves out: D scores no row that it
         was fitted on. The permutation test of weights.py is tried on tables without a shift: its
         p must be uniform.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument("--rows", type=cli.between(100, 10**6), default=1000, help="rows a side")
    parser.add_argument("--features", type=cli.between(1, 10**4), default=10, help="one is shifted")
    parser.add_argument("--draws", type=cli.between(1, 1000), default=3, help="pairs of tables")
    parser.add_argument("--runs", type=cli.between(20, 10**5), default=200, help="tests, no shift")
    parser.add_argument("--no-keras", action="store_true", help="leave the Keras network out")
    parser.add_argument("--seed", **cli.SEED)


cli.parse(flags)

import warnings

import numpy as np
from scipy.stats import kstest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from weights import crossfit_discriminator, effective_sample_share, permutation_test

CAREFUL = "unseen rows"  # in the names of the discriminators that score only such rows


# ---------------------------------------------------------------- data
def gaussian_tables(rows: int, features: int, random: np.random.Generator) -> tuple:
    """Train N(0, I), test N(e₁, I) → (x_train, x_test, exact weights of the training rows)."""
    x_train, x_test = random.standard_normal((2, rows, features))
    x_test[:, 0] += 1
    return x_train, x_test, np.exp(x_train[:, 0] - 0.5)


# ---------------------------------------------------------------- careless and careful D
def try_discriminators(x_train, x_test, random: np.random.Generator, keras_too: bool) -> dict:
    """{name: D of the training rows}."""
    x = np.concatenate([x_train, x_test])
    is_test = np.arange(len(x)) >= len(x_train)
    fold = random.permutation(len(x)) % 5
    seed = int(random.integers(2**31))

    def network(stop):
        size = {"hidden_layer_sizes": 64, "max_iter": 200, "learning_rate_init": 3e-3, "alpha": 0}
        return MLPClassifier(early_stopping=stop, random_state=seed, **size)

    def trees(stop):
        return HistGradientBoostingClassifier(max_iter=300, early_stopping=stop, random_state=seed)

    def fitted_rows(make):  # never stopped, and it scores the rows that it was fitted on
        return make(False).fit(x, is_test).predict_proba(x_train)[:, 1]

    def unseen_rows(make):  # stopped by a held-out part, cross-fitted
        d = np.empty(len(x))
        for k in range(5):
            model = make(True).fit(x[fold != k], is_test[fold != k])
            d[fold == k] = model.predict_proba(x[fold == k])[:, 1]
        return d[: len(x_train)]

    found = {
        "trees, over-fitted": fitted_rows(trees),
        "trees, stopped, unseen rows": unseen_rows(trees),
        "network, over-fitted": fitted_rows(network),
        "network, stopped, unseen rows": unseen_rows(network),
        "logistic, unseen rows": crossfit_discriminator(x_train, x_test, random)[0],
    }
    if keras_too:
        d, _ = crossfit_discriminator(x_train, x_test, random, 2, "network")
        found["Keras, stopped, unseen rows"] = d
    return {name: np.clip(d, 1e-6, 1 - 1e-6) for name, d in found.items()}


# ---------------------------------------------------------------- evaluation
def odds_of_mean_one(d: np.ndarray) -> np.ndarray:
    w = d / (1 - d)
    return w / w.mean()


def measure_weights(d: np.ndarray, x1: np.ndarray, exact: np.ndarray) -> dict:
    """How far D/(1−D) is from q/p, both of mean 1, and the mean of x₁ in test (1) by them."""
    w = odds_of_mean_one(d)
    return {
        "ess": effective_sample_share(w),
        "largest": float(w.max()),
        "error": float(np.mean((w - exact) ** 2)),
        "log_error": float(np.std(np.log(w) - np.log(exact))),
        "mean_of_x1": float(w @ x1 / w.sum()),
    }


def average(runs: list) -> dict:
    """Means over the draws; miss is the mean distance of mean_of_x1 from 1."""
    means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    return means | {"miss": float(np.mean([abs(run["mean_of_x1"] - 1) for run in runs]))}


def p_values_without_shift(runs: int, random: np.random.Generator) -> np.ndarray:
    """p of the permutation test on pairs of equal tables, 150 rows a side, 5 columns → (runs,)."""
    pairs = (random.standard_normal((2, 150, 5)) for _ in range(runs))
    return np.array([permutation_test(*pair, random)[1] for pair in pairs])


# ---------------------------------------------------------------- figures
def plot_weights(exact: np.ndarray, found: dict, p_values: np.ndarray):
    """Estimated against exact weights, a panel per D; last the p-values against the uniform law."""
    figure, panels = cli.subplots(2, 4, height=5)
    panels = panels.ravel()
    for axes, (name, d) in zip(panels, found.items(), strict=False):
        w = odds_of_mean_one(d)
        axes.loglog(exact, w, ".", ms=2, color="C3" if CAREFUL in name else "C0")
        axes.loglog([0.01, 100], [0.01, 100], "k-", lw=0.8)
        title = name.replace(f", {CAREFUL}", "").replace(", ", "\n")
        axes.set_title(f"{title}\nESS/n {effective_sample_share(w):.2f}")
        axes.set(xlim=(0.01, 100), ylim=(1e-3, 1e3), xlabel="exact q/p")
        axes.label_outer()
    for axes in panels[len(found) : -1]:
        axes.set_axis_off()
    panels[0].set_ylabel("D/(1−D)")
    panels[4].set_ylabel("D/(1−D)")
    panels[-1].plot(np.sort(p_values), np.linspace(0, 1, len(p_values)), "C3")
    panels[-1].plot([0, 1], [0, 1], "k-", lw=0.8)
    panels[-1].set(title="test, no shift:\nshare of runs\nbelow p", xlabel="p")
    return figure


# ---------------------------------------------------------------- all of it
def main(args):
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # over-fitting ends by max_iter
    random = np.random.default_rng(args.seed)
    rows = args.rows
    runs = args.runs
    draws = args.draws
    if args.quick:
        rows = 300
        runs = 40
        draws = 2
    table = {}
    shown = ()
    with threadpool_limits(1):  # small problems: threads only get in the way
        for draw in range(draws):
            x_train, x_test, exact = gaussian_tables(rows, args.features, random)
            exact /= exact.mean()
            keras_too = draw == 0 and not args.no_keras
            found = try_discriminators(x_train, x_test, random, keras_too)
            for name, d in found.items():
                table.setdefault(name, []).append(measure_weights(d, x_train[:, 0], exact))
            shown = shown or (exact, found)
        p_values = p_values_without_shift(runs, random)
    table = {name: average(group) for name, group in table.items()}
    uniform = kstest(p_values, "uniform")
    metrics = {
        "discriminators": table,
        "exact_ess": np.exp(-1),
        "draws": draws,
        "p_values": p_values.tolist(),
        "ks_distance": uniform.statistic,
        "ks_p": uniform.pvalue,
        "share_below_0.05": np.mean(p_values < 0.05),
    }
    for name, row in table.items():
        print(
            f"{name:30s} ESS/n {row['ess']:.3f} (exact 0.368)  largest {row['largest']:8.1f}  "
            f"sd of log error {row['log_error']:.2f}  mean of x₁ off by {row['miss']:.3f}"
        )
    print(f"p without shift: {runs} runs, KS distance from uniform {uniform.statistic:.3f}")
    return (
        metrics,
        [judge(table)],
        {"overfitted_discriminator_weights": plot_weights(*shown, p_values)},
    )


def judge(table: dict) -> dict:
    """C3.6: the error of log w, careful over careless."""
    error = {name: row["log_error"] for name, row in table.items()}
    careless = {kind: error[f"{kind}, over-fitted"] for kind in ("network", "trees")}
    measured = {
        kind: error[f"{kind}, stopped, unseen rows"] / value for kind, value in careless.items()
    }
    stopped = max(measured.values())
    measured["logistic"] = error["logistic, unseen rows"] / min(careless.values())
    return cli.claim("C3.6", measured, stopped < 0.8 and measured["logistic"] < 0.5)


if __name__ == "__main__":
    cli.run(main, flags)
