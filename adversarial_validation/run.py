"""The article from top to bottom: D, its odds, two ways to validate with them, and do they tell?

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/run.py
Symbols: p(x), q(x) → x_train, x_test   D(x) → d, the chance that x is a test row
         w(x) = D(x)/(1−D(x)) → weights   p_i = w(x_i)/Σ_j w(x_j) → chance
Differs from the article: it has no experiment. Here training rows are people of Adult who work
         for a private employer, test rows all others; we know the test labels, and so the gap. The
         article's D is written out here; ours, in the last line of the figure, scores no row that
         it was fitted on (weights.py).
"""

import numpy as np

import cli
from shifted_tasks import COLOURS, load_tables, make_task
from weights import gap_ratio, test_like_weights

TASKS = {"shifted": "adult:sector", "not shifted": "adult:official"}
STRATEGIES = {
    "random": "random split",
    "weight_d": "weights D",
    "weight_odds": "weights D/(1−D)",
    "sample_odds": "drawn ∝ D/(1−D)",
    "ours": "weights D/(1−D), ours",
}


def flags(parser):
    parser.add_argument("--draws", type=cli.between(2, 1000), default=8, help="of each task")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- the discriminator
def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def discriminator_loss(d_train, d_test) -> float:
    """−E_p[log(1−D(x))] − E_q[log D(x)]; 2 log 2 where D = ½ and sees nothing."""
    return -np.log(1 - d_train).mean() - np.log(d_test).mean()


def train_discriminator(x_train, x_test, random, epochs=50, half=64, rate=0.01):
    """D(x) = σ(slope·x + offset) by gradient descent on equal batches of both tables.

    x_train (n, features), label 0; x_test (m, features), label 1 → function of rows giving D. A
    fifth of each table is held out; the epoch with the lowest loss there is kept.
    """
    x_train, x_test = random.permutation(x_train), random.permutation(x_test)
    cut_train, cut_test = len(x_train) // 5, len(x_test) // 5
    held_train, x_train = x_train[:cut_train], x_train[cut_train:]
    held_test, x_test = x_test[:cut_test], x_test[cut_test:]

    slope, offset = np.zeros(x_train.shape[1]), 0.0
    best, best_loss = (slope, offset), np.inf
    for _ in range(epochs):
        for _ in range(max(len(x_train), len(x_test)) // half):
            # equal numbers of both, however long the tables are
            batch_train = x_train[random.integers(len(x_train), size=half)]
            batch_test = x_test[random.integers(len(x_test), size=half)]

            # derivative of the loss by the logit: D on a training row, D − 1 on a test row
            error_train = sigmoid(batch_train @ slope + offset)
            error_test = sigmoid(batch_test @ slope + offset) - 1
            slope = slope - rate * (error_train @ batch_train + error_test @ batch_test) / half
            offset = offset - rate * (error_train.mean() + error_test.mean())

        d_train = sigmoid(held_train @ slope + offset)
        d_test = sigmoid(held_test @ slope + offset)
        loss = discriminator_loss(d_train, d_test)
        if loss < best_loss:
            best, best_loss = (slope, offset), loss

    slope, offset = best
    return lambda x: sigmoid(x @ slope + offset)


# ---------------------------------------------------------------- the two strategies
def weights_of(d: np.ndarray) -> np.ndarray:
    """E_{x~q}[f(x)] = E_{x~p}[w(x) f(x)] with w = q/p, and D = q/(p+q), so that w = D/(1−D)."""
    return d / (1 - d)


def weighted_score(right: np.ndarray, weights: np.ndarray) -> float:
    """Strategy 1: split at random as ever, and let each row count by its weight.

    right (n,): was the prediction for a row right, by a model that was not trained on it?
    """
    return np.average(right, weights=weights)


def draw_validation(weights: np.ndarray, size: int, random) -> np.ndarray:
    """Strategy 2: draw rows with chance p_i = w_i/Σ_j w_j, independently and with replacement.

    Duplicates stay: without them the draws would no longer follow q.
    """
    chance = weights / weights.sum()
    return random.choice(len(weights), size, replace=True, p=chance)


# ---------------------------------------------------------------- does the score tell the test's?
def models() -> list:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    return [
        LogisticRegression(),
        GaussianNB(var_smoothing=1e-2),
        DecisionTreeClassifier(max_depth=5, random_state=0),
        KNeighborsClassifier(15),
        RandomForestClassifier(20, max_depth=6, random_state=0),
    ]


def validate(task: dict, random) -> dict:
    """Validation − test accuracy of every strategy, mean over the models' absolute differences."""
    from sklearn.model_selection import cross_val_predict

    x, y, x_test, y_test = (task[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    n = len(x)
    d = train_discriminator(x, x_test, random)(x)
    weights = {
        "random": np.ones(n),
        "weight_d": d,  # what some competitors do
        "weight_odds": weights_of(d),
        "ours": test_like_weights(x, x_test),
    }
    drawn = draw_validation(weights_of(d), n // 3, random)
    rest = np.setdiff1d(np.arange(n), drawn)  # a drawn row must not be trained on
    gaps = {key: [] for key in STRATEGIES}
    for model in models():
        right = cross_val_predict(model, x, y, cv=3) == y
        test = np.mean(model.fit(x, y).predict(x_test) == y_test)
        for key, w in weights.items():
            gaps[key].append(weighted_score(right, w) - test)
        model.fit(x[rest], y[rest])
        test = np.mean(model.predict(x_test) == y_test)
        gaps["sample_odds"].append(np.mean(model.predict(x[drawn]) == y[drawn]) - test)
    return {key: float(np.mean(np.abs(gap))) for key, gap in gaps.items()}


def plot_gaps(runs: dict):
    """|validation − test| of every strategy: a dot per draw, a bar at their mean."""
    figure, panels = cli.subplots(1, len(runs), height=3.2, sharey=True, sharex=True)
    for axes, (name, draws) in zip(panels, runs.items(), strict=True):
        for line, key in enumerate(reversed(STRATEGIES)):
            gaps = [draw[key] for draw in draws]
            colour = COLOURS["weight_odds" if key == "ours" else key]
            axes.barh(line, np.mean(gaps), color=colour, alpha=0.3)
            axes.plot(gaps, [line] * len(gaps), "o", color=colour, ms=4, alpha=0.8)
        axes.set_yticks(range(len(STRATEGIES)), reversed(STRATEGIES.values()))
        axes.set(
            title={"shifted": "private → other employers"}.get(name, "no shift"), xlim=(0, None)
        )
    figure.supxlabel("|validation − test| accuracy, mean of five models")
    return figure


# ---------------------------------------------------------------- all of it
def main(args):
    from threadpoolctl import threadpool_limits

    tables = load_tables(args.data_dir)
    runs = {name: [] for name in TASKS}
    with threadpool_limits(1):
        for seed in range(args.seed, args.seed + (2 if args.quick else args.draws)):
            for name, recipe in TASKS.items():
                random = np.random.default_rng([seed, 5])
                runs[name].append(validate(make_task(recipe, tables, seed), random))
    means = {
        name: {key: float(np.mean([draw[key] for draw in draws])) for key in STRATEGIES}
        for name, draws in runs.items()
    }
    for name, row in means.items():
        gaps = "   ".join(f"{STRATEGIES[key]} {gap:.4f}" for key, gap in row.items())
        print(f"{name}: |validation − test|   {gaps}")

    random = np.random.default_rng(args.seed)
    gaps = {key: np.array([draw[key] for draw in runs["shifted"]]) for key in STRATEGIES}
    ratios = {key: gap_ratio(gap, gaps["random"], random) for key, gap in gaps.items()}
    ratio, low, high = ratios["weight_odds"]
    control = means["not shifted"]["weight_odds"] / means["not shifted"]["random"]
    measured = {"ratio": ratio, "low": low, "high": high, "control": control}
    claims = [cli.claim("C3.2", measured, holds=ratio <= 0.5 and control <= 1.1)]
    return {"gaps": means, "ratios": ratios}, claims, {"run_gaps": plot_gaps(runs)}


if __name__ == "__main__":
    cli.run(main, flags)
