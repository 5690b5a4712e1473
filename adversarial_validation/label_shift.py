"""Where weights on x cannot help: wrong training labels, and a shift of the labels (p(x|y) stays), mended by BBSE.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/label_shift.py           (--quick for a look)
Time:    22 s on 2 busy cores (8 CPU-s)

Symbols: p(y), q(y) → label shares in train and test    w_y = q(y)/p(y) → class_weights
         C_ij = p(ŷ = i, y = j) → joint, from out-of-fold predictions; μ_i = q(ŷ = i) → predicted shares in test
         BBSE (Lipton et al. 2018): C·w = μ             D/(1−D) → weights on x, the article's
Differs from the article: it says that no splitting helps when the label distributions differ. So it is with wrong
         labels (case 1). Where only the shares differ, the black-box estimate mends it, without test labels.
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
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent))
from discriminator import area_under_curve, cap_weights, crossfit_discriminator, effective_sample_share  # noqa: E402
from shifted_tasks import load_tables, make_task  # noqa: E402

HERE = Path(__file__).resolve().parent
WRONG = 0.2          # share of the training labels replaced at random in case 1
LABELS = {"random": "random split", "odds": "weights D/(1−D)", "bbse": "weights BBSE",
          "exact": "weights q(y)/p(y), exact"}


# ---------------------------------------------------------------- data
def digits_with_wrong_labels(random: np.random.Generator) -> dict:
    """Case 1 of the article: p(x) is the same, a fifth of the training labels says another digit."""
    x, y = load_digits(return_X_y=True)
    rows = random.permutation(len(x))
    x, y = x[rows] / 16, y[rows]
    half = len(x) // 2
    y_train = y[:half].copy()
    wrong = random.random(half) < WRONG
    y_train[wrong] = (y_train[wrong] + random.integers(1, 10, wrong.sum())) % 10
    return {"x_train": x[:half], "y_train": y_train, "x_test": x[half:], "y_test": y[half:]}


def digits_with_other_shares(random: np.random.Generator) -> dict:
    """Label shift: test rows are drawn with class shares from a flat Dirichlet law, p(x|y) is the same."""
    x, y = load_digits(return_X_y=True)
    rows = random.permutation(len(x))
    x, y = x[rows] / 16, y[rows]
    half, share = len(x) // 2, random.dirichlet(np.ones(10))
    pool = y[half:]
    chance = (share / np.bincount(pool, minlength=10))[pool]
    test = half + random.choice(len(pool), len(pool), p=chance / chance.sum())
    return {"x_train": x[:half], "y_train": y[:half], "x_test": x[test], "y_test": y[test]}


# ---------------------------------------------------------------- method
def out_of_fold(x, y, x_test, random: np.random.Generator, folds: int = 5) -> tuple:
    """(predictions on the training rows by models that did not see them, test predictions (folds, rows))."""
    fold, guess, on_test = random.permutation(len(x)) % folds, np.empty(len(x), int), []
    for k in range(folds):
        model = LogisticRegression(C=0.1, max_iter=100).fit(x[fold != k], y[fold != k])
        guess[fold == k] = model.predict(x[fold == k])
        on_test.append(model.predict(x_test))
    return guess, np.array(on_test)


def bbse_class_weights(y: np.ndarray, guess: np.ndarray, guess_test: np.ndarray, classes: int) -> np.ndarray:
    """w_y = q(y)/p(y) from predictions alone: solve C·w = μ in the least-squares sense, negatives to 0 → (classes,)."""
    joint = np.zeros((classes, classes))
    np.add.at(joint, (guess, y), 1 / len(y))                             # C_ij = p(ŷ = i, y = j)
    share = np.bincount(guess_test.ravel(), minlength=classes) / guess_test.size
    return np.maximum(np.linalg.lstsq(joint, share, rcond=1e-3)[0], 0)


# ---------------------------------------------------------------- evaluation
def run_case(task: dict, random: np.random.Generator) -> dict:
    """Validation − test accuracy with each set of weights, and how well BBSE finds the class weights."""
    x, y, y_test = task["x_train"], task["y_train"], task["y_test"]
    d, d_test = crossfit_discriminator(x, task["x_test"], random)
    guess, on_test = out_of_fold(x, y, task["x_test"], random)
    classes = int(y.max()) + 1
    share, share_test = (np.bincount(v, minlength=classes) / len(v) for v in (y, y_test))
    exact = share_test / share
    found = bbse_class_weights(y, guess, on_test, classes)
    weights = {"random": np.ones(len(y)), "odds": cap_weights(d / (1 - d)), "bbse": found[y], "exact": exact[y]}
    score = np.mean(on_test == y_test)
    return {"auc": area_under_curve(d, d_test), "d_spread": float(d.std()), "test": float(score),
            "ess": effective_sample_share(weights["odds"]),
            "weight_mse_none": float(np.mean((1 - exact) ** 2)),
            "weight_mse_bbse": float(np.mean((found - exact) ** 2)),
            "gap": {name: float(np.average(guess == y, weights=w + 1e-12) - score) for name, w in weights.items()}}


# ---------------------------------------------------------------- figures
def plot_cases(cases: dict) -> Figure:
    """Gap of every seed (dot) and the mean |gap| for each case and each set of weights."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, (name, runs) in zip(figure.subplots(1, len(cases)), cases.items()):
        for i, key in enumerate(LABELS):
            gaps = [run["gap"][key] for run in runs]
            axes.plot(gaps, [i] * len(gaps), "o", ms=4, alpha=0.6, color=["C0", "C3", "C2", "0.3"][i])
            axes.text(0.98, i + 0.18, f"mean |gap| {np.mean(np.abs(gaps)):.3f}", transform=axes.get_yaxis_transform(),
                      ha="right", fontsize=8)
        axes.axvline(0, color="k", lw=0.8)
        axes.set_yticks(range(len(LABELS)), LABELS.values() if axes.get_subplotspec().is_first_col() else [])
        axes.set(xlabel="validation − test accuracy", ylim=(-0.5, 3.6))
        axes.set_title(f"{name}\nAUC of D {np.mean([run['auc'] for run in runs]):.2f}", fontsize=9)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="draws of every case, at least 2")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error(f"--seeds {args.seeds}: must be at least 2")
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
    tables = load_tables(args.data_dir)
    makers = {"digits, 20 % wrong train labels": lambda seed, random: digits_with_wrong_labels(random),
              "digits, other label shares": lambda seed, random: digits_with_other_shares(random),
              "Adult, P(y = 1) → 1/2": lambda seed, random: make_task("adult:prior", tables, seed)}
    cases = {name: [] for name in makers}
    with threadpool_limits(1):
        for seed in range(args.seed, args.seed + (2 if args.quick else args.seeds)):
            for name, maker in makers.items():
                random = np.random.default_rng([seed, 7])
                cases[name].append(run_case(maker(seed, random), random))
    metrics = {}
    for name, runs in cases.items():
        metrics[name] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0] if key != "gap"}
        metrics[name] |= {f"gap_{key}": float(np.mean([abs(run["gap"][key]) for run in runs])) for key in LABELS}
        print(f"{name:32s} AUC {metrics[name]['auc']:.3f}  mean |gap| " + "  ".join(
            f"{key} {metrics[name][f'gap_{key}']:.4f}" for key in LABELS) +
            f"  weight MSE none {metrics[name]['weight_mse_none']:.3f} BBSE {metrics[name]['weight_mse_bbse']:.4f}")
    plot_cases(cases).savefig(args.out_dir / "label_shift_gaps.png", dpi=120)
    wrong = metrics["digits, 20 % wrong train labels"]
    ratio = wrong["gap_odds"] / wrong["gap_random"]
    claims = [{"id": "C3.5", "claim": "with wrong training labels D is 1/2 everywhere and no split helps",
               "expected": "AUC 0.5, gap as large as a random split's",
               "measured": f"AUC {wrong['auc']:.3f}, sd of D {wrong['d_spread']:.3f}, gap ratio {ratio:.2f}",
               "holds": bool(abs(wrong["auc"] - 0.5) < 0.03 and 0.9 < ratio < 1.1)}]
    return save_results(args, "label_shift", metrics, claims, ["label_shift_gaps.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
