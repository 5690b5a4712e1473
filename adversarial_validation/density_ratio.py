"""D/(1−D) against the specialists of density-ratio estimation: uLSIF, KLIEP and KMM, and a published example.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/density_ratio.py         (--adapt adds those of the package adapt)
Time:    31 s on 2 busy cores (23 CPU-s)

Symbols: p, q → density of the training and the test inputs   w(x) = q/p = D/(1−D) → weights
         NMSE = (1/n) Σ (ŵ_i/Σŵ − w_i/Σw)², the error of Sugiyama et al. 2008 (AISM 60:699)
Differs from the article: it proposes D/(1−D) and compares with nothing. On the specialists' own toy (N(0, I) →
         N(e₁, I), 100 training and 1000 test rows) the logistic D is exactly the right model: its home ground.
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
from matplotlib.figure import Figure
from scipy.optimize import minimize
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent))
from discriminator import cap_weights, crossfit_discriminator, effective_sample_share  # noqa: E402

HERE = Path(__file__).resolve().parent
ROWS_TRAIN, ROWS_TEST = 100, 1000                # the toy of Sugiyama et al. 2008
DIMENSIONS = (1, 5, 10, 20)
DOCUMENTED = {"true_mean": 152.133484, "biased_mean": 142.389140, "oracle": 149.257}   # adapt, Sample_bias_example


# ---------------------------------------------------------------- data
def gaussian_pair(features: int, random: np.random.Generator) -> tuple:
    """Train N(0, I), test N(e₁, I): the exact weights are exp(x₁ − ½) → (x_train, x_test, exact weights)."""
    x_train, x_test = random.standard_normal((ROWS_TRAIN, features)), random.standard_normal((ROWS_TEST, features))
    x_test[:, 0] += 1
    return x_train, x_test, np.exp(x_train[:, 0] - 0.5)


def biased_diabetes() -> tuple:
    """The sample of adapt's documentation: 442 draws of the diabetes rows, ∝ exp(−20·|age + 0.06|), seed 123."""
    x, y = load_diabetes(return_X_y=True)
    chance = np.exp(-20 * np.abs(x[:, 0] + 0.06))
    rows = np.random.RandomState(123).choice(len(x), len(x), p=chance / chance.sum())
    return x, y, rows, 1 / chance[rows]


# ---------------------------------------------------------------- method
def logistic_weights(x_train, x_test, penalty: float = 1.0) -> np.ndarray:
    """D/(1−D) of one logistic D with equal say of both tables, which here scores rows that it was fitted on."""
    x, is_test = np.concatenate([x_train, x_test]), np.arange(len(x_train) + len(x_test)) >= len(x_train)
    scale = x.std(0) + 1e-12
    model = LogisticRegression(C=penalty, class_weight="balanced").fit(x / scale, is_test)
    return np.exp(model.decision_function(x_train / scale))


def crossfit_weights(x_train, x_test, random: np.random.Generator) -> np.ndarray:
    """What split.py does: cross-fitted, C by a held-out part, capped."""
    d = crossfit_discriminator(x_train / x_train.std(0), x_test / x_train.std(0), random)[0]
    return cap_weights(d / (1 - d))


def ulsif_weights(x_train, x_test, random: np.random.Generator, centres: int = 100) -> np.ndarray:
    """uLSIF (Kanamori et al. 2009): ŵ = Σ α_l k(x, c_l), α = (H + λI)⁻¹h; σ and λ by its loss on a held-out third."""
    c = x_test[random.permutation(len(x_test))[:centres]]

    def squared(x):                                                     # (rows, centres)
        return np.maximum((x ** 2).sum(1)[:, None] + (c ** 2).sum(1) - 2 * x @ c.T, 0)
    to_train, to_test = squared(x_train), squared(x_test)
    keep_p, keep_q, best = random.random(len(x_train)) < 2 / 3, random.random(len(x_test)) < 2 / 3, (np.inf,)
    for sigma2 in np.median(to_train) * np.array([0.1, 0.3, 1.0, 3.0]):
        k_p, k_q = np.exp(-to_train / (2 * sigma2)), np.exp(-to_test / (2 * sigma2))
        h_matrix, h = k_p[keep_p].T @ k_p[keep_p] / keep_p.sum(), k_q[keep_q].mean(0)
        for penalty in (1e-3, 1e-2, 1e-1, 1.0):
            alpha = np.maximum(np.linalg.solve(h_matrix + penalty * np.eye(len(c)), h), 0)
            loss = 0.5 * np.mean((k_p[~keep_p] @ alpha) ** 2) - np.mean(k_q[~keep_q] @ alpha)
            best = min(best, (loss, k_p @ alpha), key=lambda pair: pair[0])
    return best[1] + 1e-12


def kliep_weights(x_train, x_test, random: np.random.Generator, centres: int = 100, steps: int = 300) -> np.ndarray:
    """KLIEP (Sugiyama et al. 2008): ŵ = Σ α_l k(x, c_l), max E_q[log ŵ] where E_p[ŵ] = 1, α ≥ 0; σ on held-out rows."""
    c = x_test[random.permutation(len(x_test))[:centres]]
    to_train, to_test = (((x[:, None] - c) ** 2).sum(-1) for x in (x_train, x_test))
    keep, best = random.random(len(x_test)) < 2 / 3, (-np.inf, None)
    for sigma2 in np.median(to_train) * np.array([0.1, 0.3, 1.0, 3.0]):
        k_p, k_q = np.exp(-to_train / (2 * sigma2)) + 1e-12, np.exp(-to_test / (2 * sigma2)) + 1e-12
        mean, alpha = k_p.mean(0), np.full(len(c), 1 / k_p.mean(0).sum())
        for _ in range(steps):                                           # an EM step keeps both conditions
            alpha *= (k_q[keep] / (k_q[keep] @ alpha)[:, None]).mean(0) / mean
        best = max(best, (np.mean(np.log(k_q[~keep] @ alpha)), k_p @ alpha), key=lambda pair: pair[0])
    return best[1]


def kmm_weights(x_train, x_test, bound: float = 1000.0) -> np.ndarray:
    """KMM (Huang et al. 2006): min ½wᵀKw − κᵀw, 0 ≤ w ≤ bound; σ² half the median squared distance, mean 1."""
    squared = ((x_train[:, None] - x_train) ** 2).sum(-1)
    sigma2 = np.median(squared[squared > 0]) / 2
    k = np.exp(-squared / (2 * sigma2)) + 1e-3 * np.eye(len(x_train))
    kappa = np.exp(-((x_train[:, None] - x_test) ** 2).sum(-1) / (2 * sigma2)).mean(1) * len(x_train)
    w = minimize(lambda w: (0.5 * w @ k @ w - kappa @ w, k @ w - kappa), np.ones(len(k)), jac=True, method="L-BFGS-B",
                 bounds=[(0, bound)] * len(k)).x
    return w / w.mean() + 1e-12


def adapt_weights(x_train, x_test) -> dict:
    """KLIEP and KMM of the package adapt, kernel widths around the median distance. ValueError where it is missing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from adapt.instance_based import KLIEP, KMM
    except ImportError as error:
        raise ValueError(f"--adapt needs the package adapt with all it rests on ({error}): pip install adapt") from None
    squared = ((x_train[:, None] - x_test[None, :200]) ** 2).sum(-1)
    widths = [float(factor / np.median(squared)) for factor in (0.1, 0.5, 2.0)]      # γ = 1/(2σ²)
    return {"KLIEP of adapt": KLIEP(kernel="rbf", gamma=widths, verbose=0, random_state=0).fit_weights(x_train, x_test),
            "KMM of adapt": KMM(kernel="rbf", gamma=widths[1], verbose=0, random_state=0).fit_weights(x_train, x_test)}


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
            x_train, x_test, exact = gaussian_pair(features, random)
            found = {"equal weights": np.ones(len(x_train)), "D/(1−D), one logistic": logistic_weights(x_train, x_test),
                     "D/(1−D), cross-fitted": crossfit_weights(x_train, x_test, random),
                     "uLSIF": ulsif_weights(x_train, x_test, random)}
            found |= {"KLIEP": kliep_weights(x_train, x_test, random), "KMM": kmm_weights(x_train, x_test)}
            found |= adapt_weights(x_train, x_test) if adapt else {}
            for name, w in found.items():
                errors.setdefault(name, {}).setdefault(features, []).append(normalised_error(w, exact))
    return errors


def run_diabetes(random: np.random.Generator) -> dict:
    """Mean target of the biased sample under each set of weights; the whole data set is the unlabelled test set.

    The bias is in age alone: "on age" is told so, like the oracle; "all columns" is not.
    """
    x, y, rows, oracle = biased_diabetes()
    w = {"biased": np.ones(len(rows)), "oracle": oracle, "D/(1−D) on age": logistic_weights(x[rows, :1], x[:, :1], 10),
         "D/(1−D), all columns": logistic_weights(x[rows], x, 10),
         "D/(1−D), cross-fitted": crossfit_weights(x[rows], x, random), "uLSIF": ulsif_weights(
             x[rows] / x.std(0), x / x.std(0), random)}
    return {"true_mean": y.mean(), **{name: np.average(y[rows], weights=v) for name, v in w.items()},
            "ess_oracle": effective_sample_share(oracle) * len(rows)}


# ---------------------------------------------------------------- figures
def plot_errors(errors: dict) -> Figure:
    """Mean NMSE over the dimension, one line per method, with the standard error over seeds."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, by_dimension in errors.items():
        values = list(by_dimension.values())
        axes.errorbar(list(by_dimension), [np.mean(v) for v in values], [np.std(v) / np.sqrt(len(v)) for v in values],
                      fmt="k--" if name == "equal weights" else "o-", capsize=2, label=name)
    axes.set(xlabel="number of columns", ylabel="NMSE of the weights", yscale="log", xscale="log")
    axes.set_xticks(list(by_dimension), [str(d) for d in by_dimension])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="draws of the toy per dimension, at least 1")
    parser.add_argument("--adapt", action="store_true", help="also KLIEP and KMM as the package adapt has them")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error(f"--seeds {args.seeds}: must be at least 1")
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


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):
        errors = run_toy(DIMENSIONS, 2 if args.quick else args.seeds, args.seed, args.adapt)
        diabetes = run_diabetes(np.random.default_rng(args.seed))
    means = {name: {str(d): float(np.mean(v)) for d, v in row.items()} for name, row in errors.items()}
    foils = [name for name in means if "D/(1" not in name and name != "equal weights"]
    metrics = {"nmse": means, "diabetes": diabetes, "documented": DOCUMENTED,
               "nmse_1e5": {name: {d: round(v * 1e5, 2) for d, v in row.items()} for name, row in means.items()},
               "best_foil_over_ours": {d: min(means[f][d] for f in foils) / means["D/(1−D), one logistic"][d]
                                       for d in means["uLSIF"]},
               "off_oracle": abs(diabetes["D/(1−D) on age"] - diabetes["oracle"])}
    print("NMSE × 1e5   " + "".join(f"d = {d:<8d}" for d in DIMENSIONS))
    for name, row in metrics["nmse_1e5"].items():
        print(f"{name:24s}" + "".join(f"{value:<12.2f}" for value in row.values()))
    print("diabetes: " + ", ".join(f"{name} {value:.3f}" for name, value in diabetes.items()))
    plot_errors(errors).savefig(args.out_dir / "density_ratio_errors.png", dpi=150)
    return save_results(args, "density_ratio", metrics, [], ["density_ratio_errors.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
