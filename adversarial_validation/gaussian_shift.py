"""The case with exact answers: train N(0, I), test N(e₁, I). Every formula of the article beside its measurement.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/gaussian_shift.py        (--quick for a look)
Time:    5 s on 2 cores (6 CPU-s)

Symbols: p = N(0, I), q = N(e₁, I) → x_train, x_test    D*(x) = q/(p+q) → exact_d, logit D* = log q − log p = x₁ − ½
         w = q/p = D/(1−D) = exp(x₁ − ½) → weights      p_i = w_i/Σw → chance of a row at each draw with replacement
Differs from the article: it states the formulas; the numbers, top-k (what competitors do) and the law of the
         de-duplicated sample are worked out here.
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
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parent))
from discriminator import area_under_curve, effective_sample_share  # noqa: E402

HERE = Path(__file__).resolve().parent
LARGE = 1e4          # C of the logistic D: hardly any penalty, the model is exactly right here
EXACT = {"auc": norm.cdf(1 / np.sqrt(2)), "kl": 0.5, "ess": np.exp(-1), "mean_w": 1.0}


# ---------------------------------------------------------------- data
def gaussian_pair(rows_train: int, rows_test: int, random: np.random.Generator) -> tuple:
    """Two columns, the shift of one standard deviation is in the first → x_train, x_test (rows, 2)."""
    return random.standard_normal((rows_train, 2)), random.standard_normal((rows_test, 2)) + [1, 0]


# ---------------------------------------------------------------- method
def fit_logit(x_train, x_test, equal_say: bool = True) -> np.ndarray:
    """(slope₁, slope₂, intercept) of logit D; equal_say weighs both tables alike, as equal batches do."""
    x, is_test = np.concatenate([x_train, x_test]), np.arange(len(x_train) + len(x_test)) >= len(x_train)
    model = LogisticRegression(C=LARGE, class_weight="balanced" if equal_say else None, tol=1e-8).fit(x, is_test)
    return np.append(model.coef_[0], model.intercept_)


def odds(logit: np.ndarray, x: np.ndarray) -> np.ndarray:
    """w = D/(1−D) = exp(logit D)."""
    return np.exp(x @ logit[:2] + logit[2])


def exact_mean(function, weight) -> float:
    """∫ f·u·p / ∫ u·p over p = N(0, 1), by quadrature: the mean of f under p re-weighted by u."""
    top, bottom = (quad(lambda x: f(x) * weight(x) * norm.pdf(x), -9, 11)[0] for f in (function, lambda x: 1.0))
    return top / bottom


# ---------------------------------------------------------------- evaluation
def measure_discriminator(logit: np.ndarray, x_train, x_test) -> dict:
    """AUC, KL(q‖p) = E_q[log w], ESS/n and E_p[w] of a fitted D, on rows that it did not see."""
    w, w_test = odds(logit, x_train), odds(logit, x_test)
    return {"auc": area_under_curve(w, w_test), "kl": float(np.mean(np.log(w_test))),
            "ess": effective_sample_share(w), "mean_w": float(w.mean())}


def measure_second_moment(w: np.ndarray, x1: np.ndarray) -> dict:
    """E_q[x₁²] = 2 by each weight → {weight: (measured, exact value of that estimate)}."""
    d = w / (1 + w)
    exact_w, square = (lambda x: np.exp(x - 0.5)), (lambda x: x * x)
    return {"none": (np.mean(x1 ** 2), 1.0),
            "D": (np.average(x1 ** 2, weights=d), exact_mean(square, lambda x: exact_w(x) / (1 + exact_w(x)))),
            "D/(1-D)": (np.average(x1 ** 2, weights=w), 2.0)}


def cut_every_way(w: np.ndarray, x1: np.ndarray, random: np.random.Generator) -> dict:
    """Validation sets out of one training table → {name: x₁ of the set}; sampled sets have as many draws as rows."""
    drawn = random.choice(len(w), len(w), p=w / w.sum())
    return {"random": x1, "top 10 % by D": x1[np.argsort(-w)[:len(w) // 10]], "drawn ∝ D": x1[
        random.choice(len(w), len(w), p=(w / (1 + w)) / (w / (1 + w)).sum())],
        "drawn ∝ D/(1−D)": x1[drawn], "the same, de-duplicated": x1[np.unique(drawn)]}


def exact_cuts() -> dict:
    """Mean and variance of x₁ in those sets. De-duplicated, m = n: a row stays with chance 1 − e^(−w)."""
    edge = norm.ppf(0.9)
    top = norm.pdf(edge) / 0.1
    weight = {"drawn ∝ D": lambda x: 1 / (1 + np.exp(0.5 - x)), "the same, de-duplicated":
              lambda x: -np.expm1(-np.exp(x - 0.5))}
    found = {"random": (0.0, 1.0), "top 10 % by D": (top, 1 + edge * top - top ** 2), "drawn ∝ D/(1−D)": (1.0, 1.0)}
    for name, u in weight.items():
        mean = exact_mean(lambda x: x, u)
        found[name] = (mean, exact_mean(lambda x: x * x, u) - mean ** 2)
    return found


# ---------------------------------------------------------------- figures
def plot_cuts(cuts: dict) -> Figure:
    """The article in one glance: which cut of the training rows (bars) looks like the test rows (line)?"""
    figure = Figure(figsize=(12, 2.9), layout="constrained")
    x = np.linspace(-4, 5, 200)
    for axes, (name, values) in zip(figure.subplots(1, len(cuts), sharex=True, sharey=True), cuts.items()):
        right = name.endswith("D/(1−D)")
        axes.hist(values, np.linspace(-4, 5, 55), density=True, color="C3" if right else "C0", alpha=0.6)
        axes.plot(x, norm.pdf(x), "--", color="0.5", lw=1)
        axes.plot(x, norm.pdf(x, 1), "k", lw=1.5)
        axes.set_title(f"{name}\nmean {round(values.mean(), 2) + 0.0:.2f}, variance {values.var():.2f}", fontsize=9)
        axes.set(xlabel="x₁", ylim=(0, 0.6), yticks=[])
    figure.suptitle("Validation sets cut from N(0, 1) (dashed) for a test set N(1, 1) (line)", fontsize=10)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows a side, at least 1000")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.rows < 1000:
        parser.error(f"--rows {args.rows}: must be at least 1000")
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
    random = np.random.default_rng(args.seed)
    rows = 20_000 if args.quick else args.rows
    logit = fit_logit(*gaussian_pair(rows, rows, random))
    x_train, x_test = gaussian_pair(rows, rows, random)                  # fresh rows: D has not seen them
    measured = measure_discriminator(logit, x_train, x_test)
    w, x1 = odds(logit, x_train), x_train[:, 0]
    moments = measure_second_moment(w, x1)
    cuts, exact = cut_every_way(w, x1, random), exact_cuts()
    few = gaussian_pair(rows, rows // 4, random)
    natural, equal = fit_logit(*few, equal_say=False), fit_logit(*few)
    mean_natural, mean_equal = odds(natural, x_train).mean(), odds(equal, x_train).mean()
    metrics = {"rows": rows, "logit": logit.tolist(), "discriminator": measured, "exact": EXACT,
               "second_moment": {k: {"measured": m, "exact": e} for k, (m, e) in moments.items()},
               "cuts": {k: {"mean": v.mean(), "variance": v.var(), "exact_mean": exact[k][0],
                            "exact_variance": exact[k][1], "rows": len(v)} for k, v in cuts.items()},
               "unbalanced": {"intercept": natural[2], "exact": -0.5 + np.log(0.25), "mean_w": mean_natural,
                              "intercept_equal": equal[2], "mean_w_equal": mean_equal}}
    for key, value in measured.items():
        print(f"{key:7s} measured {value:.5f}   exact {EXACT[key]:.5f}")
    for key, row in metrics["cuts"].items():
        print(f"{key:24s} mean {row['mean']:.4f} (exact {row['exact_mean']:.4f})  variance {row['variance']:.4f} "
              f"(exact {row['exact_variance']:.4f})")
    plot_cuts(cuts).savefig(args.out_dir / "gaussian_shift_cuts.png", dpi=110)
    off = max(abs(measured[k] / EXACT[k] - 1) for k in EXACT)
    wrong = np.abs(logit - [1, 0, -0.5]).max()
    slack = 0.1 if args.quick else 0.02
    sampled, single = metrics["cuts"]["drawn ∝ D/(1−D)"], metrics["cuts"]["the same, de-duplicated"]
    claims = [
        {"id": "C3.1", "claim": "logit D* = log q − log p",
         "expected": "x₁ − ½; AUC 0.76025, KL 0.5, ESS/n 0.3679, E w 1",
         "measured": f"coefficients off by {wrong:.4f} at most, the four figures by {off:.2%}",
         "holds": bool(wrong < 0.03 and off < slack)},
        {"id": "C3.3", "claim": "weights w = D are biased, D/(1−D) are not", "expected": "E_q[x²] = 2",
         "measured": ", ".join(f"{k} {m:.3f} (theory {e:.3f})" for k, (m, e) in moments.items()),
         "holds": bool(abs(moments["D/(1-D)"][0] - 2) < 5 * slack < abs(moments["D"][0] - 2))},
        {"id": "C3.4", "claim": "sampling with replacement is weighting; without the duplicates it is not",
         "expected": f"mean 1; de-duplicated {exact['the same, de-duplicated'][0]:.4f}",
         "measured": f"mean {sampled['mean']:.4f}; de-duplicated {single['mean']:.4f}",
         "holds": bool(abs(sampled["mean"] - 1) < 2 * slack and single["mean"] < 0.75)},
        {"id": "C3.7", "claim": "unequal batches bias D (here 4 training rows to 1 test row)",
         "expected": f"intercept −0.5 + log ¼ = {-0.5 + np.log(0.25):.3f}, mean weight ¼; equal: −0.5 and 1",
         "measured": f"{natural[2]:.3f}, {mean_natural:.3f}; equal: {equal[2]:.3f} and {mean_equal:.3f}",
         "holds": bool(abs(natural[2] + 0.5 - np.log(0.25)) < 2 * slack and abs(mean_equal - 1) < 2 * slack
                       and abs(mean_natural - 1) > 0.5)}]
    return save_results(args, "gaussian_shift", metrics, claims, ["gaussian_shift_cuts.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
