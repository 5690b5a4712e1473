"""What the three sets are for: the best of K settings on n validation rows looks better than it is.

Article: 训练集、验证集和测试集的意义 https://kexue.fm/archives/4638
Run:     python adversarial_validation/train_valid_test.py
Symbols: K → count, settings of the hyper-parameters (超参数) that are tried
         n → rows of the validation set   a → accuracy of a setting
         optimism = E[best validation score − its true accuracy]
         all settings equal: E[max of K binomials]/n − a ≈ √(a(1−a)/n) · E[max of K normals]
Differs from the article: it argues without numbers. Here the amount is computed, and measured on
         settings that all guess (a = ½, exact law) and on real ones, of k-NN and trees for Adult.
         There 1,600 rows train, and validation and test sets of n rows are drawn again and again
         from 12,000 others; n = 200 is the post's 8:1:1.
"""

import numpy as np
import scipy

import cli
from shifted_tasks import load_tables

SETTINGS = (1, 3, 10, 30, 100, 300, 1000)  # K
SIZES = (50, 200, 800, 3200)  # n
REAL_SETTINGS = (1, 3, 10, 30, 100)
REAL_SIZES = (50, 200, 800)
TRAIN_ROWS = 1600  # of the real part
FRESH_ROWS = 12_000  # other rows: validation and test sets are drawn from them, all tell the truth


def flags(parser):
    repeats = cli.between(100, 1_000_000)
    parser.add_argument("--repeats", type=repeats, default=2000, help="choices per K and n")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- the ordinary parameters: trained
def train_settings(x, y, random: np.random.Generator, count: int) -> np.ndarray:
    """Train `count` models on the same TRAIN_ROWS rows, each with hyper-parameters of its own.

    Fitting finds the ordinary parameters, here the splits of a tree or the rows that k-NN keeps.
    x (rows, features), y labels → bool (count, FRESH_ROWS): right or wrong on rows never seen.
    """
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    rows = random.permutation(len(x))
    train, others = rows[:TRAIN_ROWS], rows[TRAIN_ROWS : TRAIN_ROWS + FRESH_ROWS]
    right = []
    for k in range(count):
        # the hyper-parameters: which columns, which model, how many neighbours, how deep a tree
        columns = random.permutation(x.shape[1])[: random.integers(10, x.shape[1])]
        if k % 5 == 0:
            model = KNeighborsClassifier(int(random.integers(5, 60)))
        else:
            model = DecisionTreeClassifier(
                max_depth=int(random.integers(3, 10)),
                min_samples_leaf=int(random.integers(1, 40)),
                random_state=k,
            )
        model.fit(x[np.ix_(train, columns)], y[train])
        right.append(model.predict(x[np.ix_(others, columns)]) == y[others])
    return np.array(right)


# ---------------------------------------------------------------- theory: how much too good?
def expected_best_normal(count: int) -> float:
    """E[max of K independent standard normals] = ∫ x d(Φ(x)^K)."""
    x = np.linspace(-9, 9, 20_001)
    normal = scipy.stats.norm
    density = count * normal.cdf(x) ** (count - 1) * normal.pdf(x)
    return float(scipy.integrate.trapezoid(x * density, x))


def exact_optimism(count: int, rows: int, accuracy: float = 0.5) -> float:
    """E[max of K binomials]/n − a, by E[max] = Σ_j (1 − F(j)^K)."""
    below = scipy.stats.binom.cdf(np.arange(rows), rows, accuracy)
    return float(np.sum(1 - below**count) / rows - accuracy)


def predicted_optimism(marks, rows: int, random: np.random.Generator, draws: int = 4000) -> float:
    """The same for settings that differ and are correlated: scores ~ N(true, covariance/n)."""
    true = marks.mean(1)
    scores = random.multivariate_normal(true, np.cov(marks) / rows, draws, method="eigh")
    best = scores.argmax(1)
    return float(np.mean(scores[np.arange(draws), best] - true[best]))


# ---------------------------------------------------------------- measurement
def choose_among_equals(repeats: int, random: np.random.Generator) -> list:
    """All settings guess. A row per (K, n): how far the chosen one's score is from ½ on each set.

    validation chooses; test is looked at once; reused_test chooses too, and only a fourth set,
    untouched again, sees that.
    """
    table = []
    for rows in SIZES:
        for count in SETTINGS:
            best = []
            untouched = []
            reused = []
            for _ in range(repeats):
                valid, test, fourth = random.binomial(rows, 0.5, (3, count)) / rows - 0.5
                best.append(valid.max())
                untouched.append(test[valid.argmax()])
                reused.append([test.max(), fourth[test.argmax()]])
            on_test, on_fourth = np.mean(reused, 0)
            row = {
                "settings": count,
                "rows": rows,
                "validation": np.mean(best),
                "exact": exact_optimism(count, rows),
                "normal": expected_best_normal(count) * np.sqrt(0.25 / rows),
                "test": np.mean(untouched),
                "standard_error": np.std(best) / np.sqrt(repeats),
                "test_error": np.std(untouched) / np.sqrt(repeats),
                "reused_test": on_test,
                "fourth": on_fourth,
            }
            table.append(row)
    return table


def choose_among_models(marks: np.ndarray, repeats: int, random: np.random.Generator) -> list:
    """The same for trained models: sets of n rows, again and again; truth is all fresh rows."""
    true = marks.mean(1)
    table = []
    for rows in REAL_SIZES:
        for count in [k for k in REAL_SETTINGS if k <= len(marks)]:
            found = []
            for _ in range(repeats):
                tried = random.permutation(len(marks))[:count]
                picks = random.choice(marks.shape[1], 3 * rows, replace=False)
                sets = marks[np.ix_(tried, picks)].reshape(count, 3, rows)
                valid, test, fourth = sets.mean(2).T
                v, t = valid.argmax(), test.argmax()
                truth = true[tried[v]]
                found.append(
                    [valid[v] - truth, test[v] - truth, test[t] - fourth[t], valid[0] - test[0]]
                )
            mean, error = np.mean(found, 0), np.std(found, 0) / np.sqrt(repeats)
            row = {
                "settings": count,
                "rows": rows,
                "validation": mean[0],
                "predicted": predict_choices(marks, count, rows, random),
                "test": mean[1],
                "reused_test": mean[2],
                "no_choice": mean[3],
                "standard_error": error[0],
                "test_error": error[1],
                "no_choice_error": error[3],
            }
            table.append(row)
    return table


def predict_choices(marks, count: int, rows: int, random: np.random.Generator) -> float:
    """predicted_optimism, mean over 30 random choices of `count` settings."""
    if count == 1:
        return 0.0
    choices = (random.permutation(len(marks))[:count] for _ in range(30))
    return np.mean([predicted_optimism(marks[tried], rows, random, 200) for tried in choices])


# ---------------------------------------------------------------- figures
def plot_optimism(equal: list, real: list):
    """Optimism over K: left settings that guess and the exact law, right models for Adult."""
    figure, (left, right) = cli.subplots(1, 2, height=4)
    colours = {50: "C0", 200: "C3", 800: "C2", 3200: "C4"}
    for axes, table, law in ((left, equal, "exact"), (right, real, "predicted")):
        for rows, colour in colours.items():
            part = [row for row in table if row["rows"] == rows]
            k = [row["settings"] for row in part]
            axes.plot(k, [row[law] for row in part], color=colour)
            axes.plot(k, [row["validation"] for row in part], "o", color=colour, ms=5)
            axes.plot(k, [row["test"] for row in part], "x", color=colour, ms=5)
            if part:
                end = (k[-1], part[-1][law])
                place = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
                axes.annotate(f"n = {rows}", end, color=colour, **place)
        axes.axhline(0, color="k", lw=0.8)
        axes.set(xscale="log", xlabel="K, settings tried")
        axes.set_xlim(0.7, 15 * max(row["settings"] for row in table))
    left.set(title="settings that all guess\nline: exact law", ylabel="score of the chosen − truth")
    right.set(title="models for Adult\nline: correlated normals")
    left.plot([], [], "ko", label="validation set, which chose")
    left.plot([], [], "kx", label="test set, untouched")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


# ---------------------------------------------------------------- all of it
def main(args):
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(args.seed)
    repeats = 300 if args.quick else args.repeats
    equal = choose_among_equals(repeats, random)
    with threadpool_limits(1):
        x, y, _ = load_tables(args.data_dir)["adult"]
        marks = train_settings(x, y, random, 20 if args.quick else 100)
        real = choose_among_models(marks, repeats // 4, random)
    for row in real:
        print(
            f"K {row['settings']:4d}  n {row['rows']:4d}  validation {row['validation']:+.4f} "
            f"(predicted {row['predicted']:+.4f})  test {row['test']:+.4f}  "
            f"re-used test {row['reused_test']:+.4f}"
        )
    metrics = summarise(equal, real)
    return metrics, judge(metrics), {"train_valid_test_optimism": plot_optimism(equal, real)}


def summarise(equal: list, real: list) -> dict:
    """Both tables and what the claims need of them."""
    many = [row for row in equal if row["settings"] > 1]
    at = {(row["settings"], row["rows"]): row["validation"] for row in equal}
    one_in_ten = {(row["settings"], row["rows"]): row for row in real}[real[-1]["settings"], 200]
    return {
        "equal_settings": equal,
        "real_settings": real,
        "largest_relative_error": max(abs(row["validation"] / row["exact"] - 1) for row in many),
        "largest_z": max(
            abs(row["validation"] - row["exact"]) / row["standard_error"] for row in equal
        ),
        "untouched_largest_z": max(abs(row["test"]) / row["test_error"] for row in equal + real),
        "no_choice_largest_z": max(abs(row["no_choice"]) / row["no_choice_error"] for row in real),
        "ratio_n200_n800": at[100, 200] / at[100, 800],
        "smallest_reuse": min(row["reused_test"] - row["fourth"] for row in many),
        "one_in_ten": one_in_ten,
    }


def judge(metrics: dict) -> list:
    """C5.1, C5.2 and C5.3."""
    far = metrics["largest_z"]
    untouched = metrics["untouched_largest_z"]
    ratio = metrics["ratio_n200_n800"]
    reused = metrics["one_in_ten"]["reused_test"]
    smallest = metrics["smallest_reuse"]
    single = metrics["no_choice_largest_z"]
    bias = {"off": metrics["largest_relative_error"], "standard_errors": far, "test": untouched}
    no_choice = {"standard_errors": single, "mean": metrics["one_in_ten"]["no_choice"]}
    return [
        cli.claim("C5.1", bias | {"ratio": ratio}, max(far, untouched) < 4.5 and 1.7 < ratio < 2.3),
        cli.claim("C5.2", {"adult": reused, "smallest": smallest}, min(reused, smallest) > 0),
        cli.claim("C5.3", no_choice, single < 4.5),
    ]


if __name__ == "__main__":
    cli.run(main, flags)
