"""D/(1−D) against the specialists of density-ratio estimation: uLSIF, KLIEP and KMM.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python tests/benchmarks/bench_adversarial_validation_density_ratio.py
         with --adapt: also KLIEP and KMM of the package adapt (pip install adapt)
Symbols: p, q → density of the training and the test inputs   w(x) = q/p = D/(1−D) → w
         NMSE = (1/n) Σ (ŵ_i/Σŵ − w_i/Σw)², the error of Sugiyama et al. 2008 (AISM 60:699)
Differs from the article: it proposes D/(1−D) and compares with nothing. The toy is the specialists'
         own (N(0, I) → N(e₁, I), 100 training and 1000 test rows); the logistic D is exactly the
         right model for it. The other case is the example of adapt's documentation.

Results are recorded by hand in adversarial_validation/results/density_ratio*.json.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "adversarial_validation"))
import cli
from weights import cap_weights, crossfit_discriminator, effective_sample_share, ulsif_weights

ROWS_TRAIN, ROWS_TEST = 100, 1000  # the toy of Sugiyama et al. 2008
DIMENSIONS = (1, 5, 10, 20)
# adapt's documentation, Sample_bias_example
DOCUMENTED = {"true_mean": 152.133484, "biased_mean": 142.389140, "oracle": 149.257}
OURS = ("equal weights", "D/(1−D), one logistic", "D/(1−D), cross-fitted")


def flags(parser):
    parser.add_argument("--seeds", type=cli.between(1, 1000), default=20, help="draws of the toy")
    parser.add_argument("--adapt", action="store_true", help="also the package adapt")
    parser.add_argument("--seed", **cli.SEED)


# ---------------------------------------------------------------- data
def gaussian_toy(features: int, random: np.random.Generator) -> tuple:
    """Train N(0, I), test N(e₁, I) → (x_train, x_test, exact weights exp(x₁ − ½))."""
    x_train = random.standard_normal((ROWS_TRAIN, features))
    x_test = random.standard_normal((ROWS_TEST, features))
    x_test[:, 0] += 1
    return x_train, x_test, np.exp(x_train[:, 0] - 0.5)


def biased_diabetes() -> tuple:
    """The sample of adapt's documentation: 442 draws ∝ exp(−20·|age + 0.06|), seed 123.

    → x, y of all rows, the rows drawn, their exact weights.
    """
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    chance = np.exp(-20 * np.abs(x[:, 0] + 0.06))
    legacy = np.random.RandomState(123)
    rows = legacy.choice(len(x), len(x), p=chance / chance.sum())
    return x, y, rows, 1 / chance[rows]


# ---------------------------------------------------------------- method
def logistic_weights(x_train, x_test, penalty: float = 1.0) -> np.ndarray:
    """D/(1−D) of one logistic D with equal say of both tables, on rows that it was fitted on."""
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([x_train, x_test])
    is_test = np.arange(len(x)) >= len(x_train)
    scale = x.std(0) + 1e-12
    model = LogisticRegression(C=penalty, class_weight="balanced").fit(x / scale, is_test)
    return np.exp(model.decision_function(x_train / scale))


def crossfit_weights(x_train, x_test, random: np.random.Generator) -> np.ndarray:
    """What split.py does: cross-fitted, C by a held-out part, capped."""
    scale = x_train.std(0)
    d, _ = crossfit_discriminator(x_train / scale, x_test / scale, random)
    return cap_weights(d / (1 - d))


def squared_distances(x, c) -> np.ndarray:
    return ((x[:, None] - c) ** 2).sum(-1)


def kliep_weights(x_train, x_test, random, centres: int = 100, steps: int = 300) -> np.ndarray:
    """KLIEP (Sugiyama et al. 2008): ŵ = Σ α_l k(x, c_l), max E_q[log ŵ] where E_p[ŵ] = 1, α ≥ 0.

    σ by the test rows that are held out.
    """
    c = x_test[random.permutation(len(x_test))[:centres]]
    to_train, to_test = squared_distances(x_train, c), squared_distances(x_test, c)
    keep = random.random(len(x_test)) < 2 / 3
    best, best_likelihood = None, -np.inf
    for sigma2 in np.median(to_train) * np.array([0.1, 0.3, 1.0, 3.0]):
        k_p = np.exp(-to_train / (2 * sigma2)) + 1e-12
        k_q = np.exp(-to_test / (2 * sigma2)) + 1e-12
        mean = k_p.mean(0)
        alpha = np.full(len(c), 1 / mean.sum())
        for _ in range(steps):  # an EM step keeps both conditions
            alpha *= (k_q[keep] / (k_q[keep] @ alpha)[:, None]).mean(0) / mean
        likelihood = np.mean(np.log(k_q[~keep] @ alpha))
        if likelihood > best_likelihood:
            best, best_likelihood = k_p @ alpha, likelihood
    return best


def kmm_weights(x_train, x_test, bound: float = 1000.0) -> np.ndarray:
    """KMM (Huang et al. 2006): min ½wᵀKw − κᵀw, 0 ≤ w ≤ bound; σ² half the median distance²."""
    from scipy.optimize import minimize

    squared = squared_distances(x_train, x_train)
    sigma2 = np.median(squared[squared > 0]) / 2
    n = len(x_train)
    k = np.exp(-squared / (2 * sigma2)) + 1e-3 * np.eye(n)
    to_test = squared_distances(x_train, x_test)
    kappa = np.exp(-to_test / (2 * sigma2)).mean(1) * n

    def objective(w):
        return 0.5 * w @ k @ w - kappa @ w, k @ w - kappa

    bounds = [(0, bound)] * n
    w = minimize(objective, np.ones(n), jac=True, method="L-BFGS-B", bounds=bounds).x
    return w / w.mean() + 1e-12


def adapt_weights(x_train, x_test) -> dict:
    """KLIEP and KMM of the package adapt, kernel widths around the median distance.

    ValueError where the package is missing.
    """
    try:
        from adapt.instance_based import KLIEP, KMM
    except ImportError as error:
        raise ValueError(f"--adapt needs the package adapt ({error}): pip install adapt") from None
    squared = squared_distances(x_train, x_test[:200])
    widths = [float(factor / np.median(squared)) for factor in (0.1, 0.5, 2.0)]  # γ = 1/(2σ²)
    kliep = KLIEP(kernel="rbf", gamma=widths, verbose=0, random_state=0)
    kmm = KMM(kernel="rbf", gamma=widths[1], verbose=0, random_state=0)
    return {
        "KLIEP of adapt": kliep.fit_weights(x_train, x_test),
        "KMM of adapt": kmm.fit_weights(x_train, x_test),
    }


# ---------------------------------------------------------------- evaluation
def normalised_error(w: np.ndarray, exact: np.ndarray) -> float:
    """NMSE of the weights, each scaled to sum 1."""
    return float(np.mean((np.ravel(w) / np.sum(w) - exact / exact.sum()) ** 2))


def run_toy(dimensions: tuple, seeds: int, seed: int, adapt: bool) -> dict:
    """{method: {dimension: [NMSE of every seed]}}."""
    errors = {}
    for features in dimensions:
        for k in range(seeds):
            random = np.random.default_rng([seed, k, features])
            x_train, x_test, exact = gaussian_toy(features, random)
            found = {
                "equal weights": np.ones(len(x_train)),
                "D/(1−D), one logistic": logistic_weights(x_train, x_test),
                "D/(1−D), cross-fitted": crossfit_weights(x_train, x_test, random),
                "uLSIF": ulsif_weights(x_train, x_test, random),
                "KLIEP": kliep_weights(x_train, x_test, random),
                "KMM": kmm_weights(x_train, x_test),
            }
            if adapt:
                found |= adapt_weights(x_train, x_test)
            for name, w in found.items():
                by_dimension = errors.setdefault(name, {})
                by_dimension.setdefault(features, []).append(normalised_error(w, exact))
    return errors


def run_diabetes(random: np.random.Generator) -> dict:
    """Mean target of the biased sample under each set of weights; all rows are the test set.

    The bias is in age alone: "on age" is told so, like the oracle; "all columns" is not.
    """
    x, y, rows, oracle = biased_diabetes()
    biased, scale = x[rows], x.std(0)
    weights = {
        "biased": np.ones(len(rows)),
        "oracle": oracle,
        "D/(1−D) on age": logistic_weights(biased[:, :1], x[:, :1], 10),
        "D/(1−D), all columns": logistic_weights(biased, x, 10),
        "D/(1−D), cross-fitted": crossfit_weights(biased, x, random),
        "uLSIF": ulsif_weights(biased / scale, x / scale, random),
    }
    means = {name: np.average(y[rows], weights=w) for name, w in weights.items()}
    ess = effective_sample_share(oracle) * len(rows)
    return {"true_mean": y.mean(), **means, "ess_oracle": ess}


# ---------------------------------------------------------------- figures
def plot_errors(errors: dict):
    """Mean NMSE over the dimension, one line per method, with the standard error over seeds."""
    figure, axes = cli.subplots(height=4.5)
    for name, by_dimension in errors.items():
        values = list(by_dimension.values())
        axes.errorbar(
            list(by_dimension),
            [np.mean(v) for v in values],
            [np.std(v) / np.sqrt(len(v)) for v in values],
            fmt="k--" if name == "equal weights" else "o-",
            color={"D/(1−D), one logistic": "C3", "uLSIF": "C5"}.get(name),
            capsize=2,
            label=name,
        )
    axes.set(xlabel="number of columns", ylabel="NMSE of the weights", yscale="log", xscale="log")
    axes.set_xticks(DIMENSIONS, [str(d) for d in DIMENSIONS])
    axes.minorticks_off()
    figure.legend(loc="outside right upper")
    return figure


# ---------------------------------------------------------------- all of it
def main(args):
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        errors = run_toy(DIMENSIONS, 2 if args.quick else args.seeds, args.seed, args.adapt)
        diabetes = run_diabetes(np.random.default_rng(args.seed))
    means = {
        name: {str(d): float(np.mean(v)) for d, v in by_dimension.items()}
        for name, by_dimension in errors.items()
    }
    scaled = {
        name: {d: round(v * 1e5, 2) for d, v in by_dimension.items()}
        for name, by_dimension in means.items()
    }
    foils = [name for name in means if name not in OURS]
    ours = means["D/(1−D), one logistic"]
    print("NMSE × 1e5               " + "".join(f"d = {d:<8d}" for d in DIMENSIONS))
    for name, row in scaled.items():
        print(f"{name:25s}" + "".join(f"{value:<12.2f}" for value in row.values()))
    print("diabetes: " + ", ".join(f"{name} {value:.3f}" for name, value in diabetes.items()))
    metrics = {
        "nmse": means,
        "diabetes": diabetes,
        "documented": DOCUMENTED,
        "nmse_1e5": scaled,
        "best_foil_over_ours": {d: min(means[f][d] for f in foils) / ours[d] for d in ours},
        "off_oracle": abs(diabetes["D/(1−D) on age"] - diabetes["oracle"]),
    }
    return metrics, [], {"density_ratio_errors": plot_errors(errors)}


if __name__ == "__main__":
    cli.run(main, flags)
