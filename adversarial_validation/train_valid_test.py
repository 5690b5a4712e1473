"""What the three sets are for: the best of K settings on n validation rows looks better than it is, by a known amount.

Article: 训练集、验证集和测试集的意义 https://kexue.fm/archives/4638
Run:     python adversarial_validation/train_valid_test.py      (--quick for a look)
Time:    25 s on 2 busy cores (12 CPU-s)

Symbols: K → settings tried   n → rows of the validation set   a → accuracy, 1/2 for every setting of the exact part
         optimism = E[best validation score − its true accuracy] = E[max of K binomials]/n − a
         ≈ √(a(1−a)/n)·E[max of K normals]
Differs from the article: it argues without numbers. Here the amount is computed, measured on settings that are all
         equal (exact law) and on real settings of a model for Adult, cut 8:1:1.
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
from scipy.integrate import trapezoid
from scipy.stats import binom, norm
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent))
from shifted_tasks import load_tables  # noqa: E402

HERE = Path(__file__).resolve().parent
SETTINGS = (1, 3, 10, 30, 100, 300, 1000)            # K
SIZES = (50, 200, 800, 3200)                         # n
ROWS = 2000                                          # labelled rows of the real part, cut 8:1:1


# ---------------------------------------------------------------- data
def real_settings(tables: dict, random: np.random.Generator, count: int) -> tuple:
    """`count` trees and neighbours fitted on 8/10 of 2000 Adult rows → bool (count, other rows): right or wrong."""
    x, y, _ = tables["adult"]
    rows = random.permutation(len(x))
    train, others = rows[:ROWS * 8 // 10], rows[ROWS * 8 // 10:ROWS * 8 // 10 + 12_000]
    marks = []
    for k in range(count):
        columns = random.permutation(x.shape[1])[:random.integers(10, x.shape[1])]
        model = KNeighborsClassifier(int(random.integers(5, 60))) if k % 5 == 0 else DecisionTreeClassifier(
            max_depth=int(random.integers(3, 10)), min_samples_leaf=int(random.integers(1, 40)), random_state=k)
        model.fit(x[np.ix_(train, columns)], y[train])
        marks.append(model.predict(x[np.ix_(others, columns)]) == y[others])
    return np.array(marks)


# ---------------------------------------------------------------- method
def expected_best_normal(count: int) -> float:
    """E[max of K independent standard normals] = ∫ x d(Φ(x)^K), by the trapezoid rule on a fine grid."""
    x = np.linspace(-9, 9, 20_001)
    return float(trapezoid(x * count * norm.cdf(x) ** (count - 1) * norm.pdf(x), x))


def exact_optimism(count: int, rows: int, accuracy: float = 0.5) -> float:
    """E[max of K binomials]/n − a, exactly: E[max] = Σ_j (1 − F(j)^K)."""
    return float(np.sum(1 - binom.cdf(np.arange(rows), rows, accuracy) ** count) / rows - accuracy)


def predicted_optimism(marks: np.ndarray, rows: int, random: np.random.Generator, draws: int = 4000) -> float:
    """The same for settings that differ and are correlated: scores ~ N(true, covariance/n)."""
    true = marks.mean(1)
    scores = random.multivariate_normal(true, np.cov(marks) / rows, draws, method="eigh")
    best = scores.argmax(1)
    return float(np.mean(scores[np.arange(draws), best] - true[best]))


# ---------------------------------------------------------------- evaluation
def measure_equal_settings(repeats: int, random: np.random.Generator) -> list:
    """All settings guess. Per (K, n): optimism on validation, bias of an untouched and of a re-used test set."""
    table = []
    for rows in SIZES:
        for count in SETTINGS:
            best, untouched, reused = [], [], []
            for _ in range(repeats):
                valid, test, fourth = random.binomial(rows, 0.5, (3, count)) / rows - 0.5
                best.append(valid.max())
                untouched.append(test[valid.argmax()])                   # the test set is looked at once
                reused.append([test.max(), fourth[test.argmax()]])       # the test set chooses; a fourth set sees it
            on_test, on_fourth = np.mean(reused, 0)
            table.append({"settings": count, "rows": rows, "validation": np.mean(best),
                          "exact": exact_optimism(count, rows),
                          "normal": expected_best_normal(count) * np.sqrt(0.25 / rows), "test": np.mean(untouched),
                          "standard_error": np.std(best) / np.sqrt(repeats),
                          "test_error": np.std(untouched) / np.sqrt(repeats),
                          "reused_test": on_test, "fourth": on_fourth})
    return table


def measure_real_settings(marks: np.ndarray, repeats: int, random: np.random.Generator) -> list:
    """Cut sets of n rows (8:1:1 → n = 200) out of fresh rows, again and again; truth = all fresh rows."""
    true, table = marks.mean(1), []
    for rows in (50, 200, 800):
        for count in [k for k in (1, 3, 10, 30, 100) if k <= len(marks)]:
            found = []
            for _ in range(repeats):
                tried = random.permutation(len(marks))[:count]
                picks = random.choice(marks.shape[1], 3 * rows, replace=False)
                valid, test, fourth = marks[np.ix_(tried, picks)].reshape(count, 3, rows).mean(2).T
                v, t = valid.argmax(), test.argmax()
                found.append([valid[v] - true[tried[v]], test[v] - true[tried[v]], test[t] - fourth[t],
                              valid[0] - test[0]])
            mean, error = np.mean(found, 0), np.std(found, 0) / np.sqrt(repeats)
            predicted = np.mean([predicted_optimism(marks[random.permutation(len(marks))[:count]], rows, random, 200)
                                 for _ in range(30)]) if count > 1 else 0.0
            table.append({"settings": count, "rows": rows, "validation": mean[0], "predicted": predicted,
                          "test": mean[1], "reused_test": mean[2], "no_choice": mean[3], "standard_error": error[0],
                          "test_error": error[1], "no_choice_error": error[3]})
    return table


# ---------------------------------------------------------------- figures
def plot_optimism(equal: list, real: list) -> Figure:
    """Optimism over K: left equal settings with the exact law, right real settings with the correlated prediction."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, table, law, title in ((left, equal, "exact", "settings that all guess: line = exact law"),
                                    (right, real, "predicted", "real settings, Adult: line = correlated normals")):
        for i, rows in enumerate(dict.fromkeys(row["rows"] for row in table)):
            part = [row for row in table if row["rows"] == rows]
            k = [row["settings"] for row in part]
            axes.plot(k, [row[law] for row in part], color=f"C{i}", label=f"n = {rows}")
            axes.plot(k, [row["validation"] for row in part], "o", color=f"C{i}", ms=5)
            axes.plot(k, [row["test"] for row in part], "x", color=f"C{i}", ms=5)
        axes.axhline(0, color="k", lw=0.8)
        axes.set(xscale="log", xlabel="K, settings tried", title=title)
        axes.set_ylabel("score of the chosen − its true accuracy")
        axes.title.set_fontsize(10)
    left.plot([], [], "ko", label="validation set (chose)")
    left.plot([], [], "kx", label="test set (untouched)")
    left.legend(fontsize=8)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000, help="choices per K and n, at least 100")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.repeats < 100:
        parser.error(f"--repeats {args.repeats}: must be at least 100")
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
    repeats = 300 if args.quick else args.repeats
    equal = measure_equal_settings(repeats, random)
    with threadpool_limits(1):
        marks = real_settings(load_tables(args.data_dir), random, 20 if args.quick else 100)
        real = measure_real_settings(marks, repeats // 4, random)
    many = [row for row in equal if row["settings"] > 1]
    off = max(abs(row["validation"] / row["exact"] - 1) for row in many)
    far = max(abs(row["validation"] - row["exact"]) / row["standard_error"] for row in equal)
    untouched = max(abs(row["test"]) / row["test_error"] for row in equal + real)
    reused = min(row["reused_test"] - row["fourth"] for row in many)
    single = max(abs(row["no_choice"]) / row["no_choice_error"] for row in real)
    at = {(row["settings"], row["rows"]): row["validation"] for row in equal}
    halves = at[100, 200] / at[100, 800]
    chosen = {(row["settings"], row["rows"]): row for row in real}[real[-1]["settings"], 200]
    metrics = {"equal_settings": equal, "real_settings": real, "largest_relative_error": off, "largest_z": far,
               "untouched_largest_z": untouched, "no_choice_largest_z": single, "ratio_n200_n800": halves,
               "one_in_ten": chosen}
    for row in real:
        print(f"K {row['settings']:4d}  n {row['rows']:4d}  validation {row['validation']:+.4f} (predicted "
              f"{row['predicted']:+.4f})  test {row['test']:+.4f}  re-used test {row['reused_test']:+.4f}")
    plot_optimism(equal, real).savefig(args.out_dir / "train_valid_test_optimism.png", dpi=120)
    claims = [
        {"id": "C5.1", "claim": "choosing on validation biases it upward, with K and 1/√n; the test set stays unbiased",
         "expected": "E[max of K binomials]/n − a; test 0; n = 200 over n = 800: 2",
         "measured": f"within {off:.1%} ({far:.1f} standard errors) of the exact law; test within {untouched:.1f} "
                     f"standard errors of 0; ratio {halves:.2f}",
         "holds": bool(far < 4.5 and untouched < 4.5 and 1.7 < halves < 2.3)},
        {"id": "C5.2", "claim": "a test set that is chosen on is biased too; a fourth set sees it",
         "expected": "test − fourth above 0 wherever K > 1",
         "measured": f"smallest {reused:+.4f}; Adult, K = {chosen['settings']}, n = 200: {chosen['reused_test']:+.4f}",
         "holds": bool(reused > 0 and chosen["reused_test"] > 0)},
        {"id": "C5.3", "claim": "without a choice validation and test agree", "expected": "mean difference 0",
         "measured": f"at most {single:.1f} standard errors from 0 (Adult)", "holds": bool(single < 4.5)}]
    return save_results(args, "train_valid_test", metrics, claims, ["train_valid_test_optimism.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
