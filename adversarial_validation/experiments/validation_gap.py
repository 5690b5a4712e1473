"""Does a validation set weighted by D/(1−D) tell what the test set will say? On twelve tasks.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/experiments/validation_gap.py
Symbols: p, q → density of the training and the test inputs
         D(x) → d, the chance that x is a test row   w(x) = q/p = D/(1−D) → odds
         ESS = (Σw)²/Σw² → effective_sample_share × n
Differs from the article: it has no experiment. "Random split" is 3-fold cross-validation and the
         weights act on the same out-of-fold predictions, so that the two differ by the weights
         alone; top-k and sampling by w cut one set of a third of the rows.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument("--seeds", type=cli.between(2, 1000), default=8, help="draws of every task")
    parser.add_argument("--tasks", default="all", help="separated by commas, e.g. adult,time")
    parser.add_argument("--workers", type=cli.between(1, 64), default=2, help="processes")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)

import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy.stats import spearmanr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from shifted_tasks import COLOURS, TASKS, load_tables, make_task
from weights import (
    area_under_curve,
    cap_weights,
    crossfit_discriminator,
    effective_sample_share,
    gap_ratio,
    ulsif_weights,
)

FOLDS = 3  # of the random split; the sets that are cut have 1/FOLDS of the training rows
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.5, 4.0, 7.0)  # of the selection: where does it break?
STRATEGIES = {
    "random": "random split",
    "top_k": "top-k by D",
    "weight_d": "weights D",
    "weight_odds": "weights D/(1−D)",
    "sample_odds": "drawn ∝ D/(1−D)",
    "ulsif": "weights uLSIF",
    "oracle": "weights q/p, exact",
}
OVERLAP = 0.2  # ESS/n above which weights can be expected to help
RECORDED = ("auc", "ess", "largest")  # of every run, beside the strategies


# ---------------------------------------------------------------- the models that are judged
def model_zoo(seed: int) -> list:
    """Fourteen classifiers from poor to good, all quick."""
    return [
        LogisticRegression(C=1e-4, max_iter=100),
        LogisticRegression(C=1e-2, max_iter=100),
        LogisticRegression(C=1.0, max_iter=100),
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1),
        GaussianNB(var_smoothing=1e-2),
        BernoulliNB(),
        NearestCentroid(),
        DecisionTreeClassifier(max_depth=2, random_state=seed),
        DecisionTreeClassifier(max_depth=5, random_state=seed),
        DecisionTreeClassifier(random_state=seed),
        KNeighborsClassifier(1),
        KNeighborsClassifier(15),
        RandomForestClassifier(10, max_depth=6, random_state=seed),
        ExtraTreesClassifier(10, random_state=seed),
    ]


def fit_and_mark(x, y, sets: list, seed: int) -> list:
    """Fit every model on x, y → right or wrong, (models, rows) for each of the sets."""
    marks = [[] for _ in sets]
    for model in model_zoo(seed):
        model.fit(x, y)
        for mark, (inputs, labels) in zip(marks, sets, strict=True):
            mark.append(model.predict(inputs) == labels)
    return [np.array(mark, float) for mark in marks]


# ---------------------------------------------------------------- the ways to validate
def cross_validate(task: dict, fold: np.ndarray, seed: int) -> tuple:
    """The random split: (right or wrong of every training row (models, n), test accuracies)."""
    x, y = task["x_train"], task["y_train"]
    test = task["x_test"], task["y_test"]
    right = np.empty((len(model_zoo(seed)), len(x)))
    on_test = 0
    for k in range(FOLDS):
        rest, valid = fold != k, fold == k
        sets = [(x[valid], y[valid]), test]
        right[:, valid], marks = fit_and_mark(x[rest], y[rest], sets, seed)
        on_test = on_test + marks.mean(1) / FOLDS
    return right, on_test


def validate_on(rows: np.ndarray, task: dict, seed: int) -> tuple | None:
    """Validate on these training rows (repeats count), train on all others → accuracies of both.

    None where the others have lost a class.
    """
    x, y = task["x_train"], task["y_train"]
    rest = np.setdiff1d(np.arange(len(x)), rows)
    if len(np.unique(y[rest])) < len(np.unique(y)):
        return None
    sets = [(x[rows], y[rows]), (task["x_test"], task["y_test"])]
    on_valid, on_test = fit_and_mark(x[rest], y[rest], sets, seed)
    return on_valid.mean(1), on_test.mean(1)


def run_task(task: dict, seed: int, sweep: bool = False) -> dict:
    """All strategies on one draw of a task → gaps of the models, ESS/n, AUC of D.

    sweep: only the strategies that the figure over the strength of the shift shows.
    """
    random = np.random.default_rng([seed, 1])
    x = task["x_train"]
    x_test = task["x_test"]
    n = len(x)
    d, d_test = crossfit_discriminator(x, x_test, random)
    odds = cap_weights(d / (1 - d))
    fold = random.permutation(n) % FOLDS
    right, on_test = cross_validate(task, fold, seed)
    weights = {"random": np.ones(n), "weight_d": d, "weight_odds": odds}
    if task["odds"] is not None:
        weights["oracle"] = task["odds"]
    if not sweep:
        weights["ulsif"] = ulsif_weights(x, x_test, random)
    scores = {key: (right @ w / w.sum(), on_test) for key, w in weights.items()}
    if not sweep:
        scores["top_k"] = validate_on(np.argsort(-d)[: n // FOLDS], task, seed)
        drawn = random.choice(n, n // FOLDS, p=odds / odds.sum())
        scores["sample_odds"] = validate_on(drawn, task, seed)
    result = {
        "auc": area_under_curve(d, d_test),
        "ess": effective_sample_share(odds),
        "rows": [n, len(x_test)],
        "largest": float(odds.max() / odds.mean()),
    }
    return result | {key: measure(*pair) for key, pair in scores.items() if pair is not None}


def measure(on_valid: np.ndarray, on_test: np.ndarray) -> dict:
    """How far validation is from test over the models, and how well it picks the best of them."""
    return {
        "gap": float(np.mean(on_valid - on_test)),
        "absolute": float(np.mean(np.abs(on_valid - on_test))),
        "spearman": float(np.nan_to_num(spearmanr(on_valid, on_test)[0])),
        "regret": float(on_test.max() - on_test[np.argmax(on_valid)]),
    }


def run_job(job: tuple) -> dict:
    """(name, recipe, seed, sweep, data_dir) → run_task, in one thread of one process."""
    name, recipe, seed, sweep, data_dir = job
    warnings.filterwarnings("ignore")  # of models on constant columns
    task = make_task(recipe, load_tables(data_dir), seed)
    with threadpool_limits(1):
        return {"task": name, "seed": seed} | run_task(task, seed, sweep)


# ---------------------------------------------------------------- over the seeds
def summarise(runs: list) -> dict:
    """{task: {strategy: {measure: mean over seeds, sd of |gap|}, auc, ess, largest, rows}}."""
    summary = {}
    for name in dict.fromkeys(run["task"] for run in runs):
        group = [run for run in runs if run["task"] == name]
        entry = {key: float(np.mean([run[key] for run in group])) for key in RECORDED}
        entry["rows"] = group[0]["rows"]
        for key in STRATEGIES:
            found = [run[key] for run in group if key in run]
            if len(found) == len(group):
                entry[key] = {m: float(np.mean([one[m] for one in found])) for m in found[0]}
                entry[key]["sd"] = float(np.std([one["absolute"] for one in found], ddof=1))
        summary[name] = entry
    return summary


def mean_gaps(runs: list, names: list, strategy: str) -> tuple:
    """Mean |validation − test| of a strategy and of the random split over tasks → two (seeds,).

    A task on which the strategy lost a class in any draw is left out of both.
    """
    gaps, gaps_random = [], []
    for name in names:
        group = [run for run in runs if run["task"] == name]
        if all(strategy in run for run in group):
            gaps.append([run[strategy]["absolute"] for run in group])
            gaps_random.append([run["random"]["absolute"] for run in group])
    return np.mean(gaps, 0), np.mean(gaps_random, 0)


# ---------------------------------------------------------------- figures
def plot_gaps(summary: dict, seeds: int):
    """|validation − test| of every strategy (colour) on every task (line), tasks by ESS/n."""
    figure, axes = cli.subplots(height=8)
    order = sorted(summary, key=lambda name: (TASKS[name][1] != "covariate", summary[name]["ess"]))
    for number, (key, label) in enumerate(STRATEGIES.items()):
        lines = [line for line, name in enumerate(order) if key in summary[name]]
        found = [summary[order[line]][key] for line in lines]
        axes.errorbar(
            [one["absolute"] for one in found],
            [line + 0.1 * (number - 3) for line in lines],
            xerr=[1.96 * one["sd"] / np.sqrt(seeds) for one in found],
            fmt="D" if key == "weight_odds" else "o",
            markersize=7 if key == "weight_odds" else 4,
            linewidth=1,
            color=COLOURS[key],
            label=label,
        )
    names = [f"{TASKS[name][2]}\nESS/n {summary[name]['ess']:.2f}" for name in order]
    axes.set_yticks(range(len(order)), names)
    for line in range(1, len(order)):
        axes.axhline(line - 0.5, color="0.9", lw=0.8)
    axes.set(
        xlabel="mean |validation − test| accuracy of 14 models, 95 % over seeds", xlim=(0, None)
    )
    figure.legend(loc="outside upper center", ncols=4, columnspacing=1)
    return figure


def plot_breakdown(sweeps: dict):
    """The gap over the strength of the shift, as AUC of D, a panel per data set; ESS/n below."""
    figure, panels = cli.subplots(
        2, len(sweeps), height=5, squeeze=False, sharex="col", sharey="row", height_ratios=[2, 1]
    )
    for (upper, lower), (source, points) in zip(panels.T, sweeps.items(), strict=True):
        auc = [point["auc"] for point in points]
        for key in ("random", "weight_d", "weight_odds", "oracle"):
            gaps = [point[key]["absolute"] for point in points]
            spread = [point[key]["sd"] for point in points]
            style = {"fmt": "o-", "markersize": 4, "capsize": 2, "color": COLOURS[key]}
            upper.errorbar(auc, gaps, spread, label=STRATEGIES[key], **style)
        lower.plot(auc, [point["ess"] for point in points], "o-", color=COLOURS["weight_odds"])
        lower.axhline(OVERLAP, color="0.7", lw=0.8)
        lower.set(xlabel="AUC of D (0.5: no shift)", ylim=(0, 1.05))
        upper.set(title=source, ylim=(0, None))
    panels[0, 0].set_ylabel("mean |validation − test|")
    panels[1, 0].set_ylabel("ESS/n")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


# ---------------------------------------------------------------- all of it
def choose_tasks(text: str) -> list:
    names = list(TASKS) if text == "all" else text.split(",")
    for name in names:
        if name not in TASKS:
            raise ValueError(f"--tasks {name}: must be among {', '.join(TASKS)}")
    return names


def plan_jobs(names: list, sources: list, seeds: int, args) -> tuple:
    """(jobs on the tasks, jobs over the strength of the shift) for run_job."""
    seed_range = range(args.seed, args.seed + seeds)
    jobs = [(name, TASKS[name][0], s, False, args.data_dir) for s in seed_range for name in names]
    sweeps = []
    for source in sources:
        for strength in STRENGTHS:
            recipe = f"{source}:select={strength}"
            sweeps += [(recipe, recipe, s, True, args.data_dir) for s in seed_range[:3]]
    return jobs, sweeps


def run_all(jobs: list, workers: int) -> list:
    """Run the jobs in processes of one thread each → answers in the order of the jobs."""
    if workers == 1:
        return [run_job(job) for job in tqdm(jobs, disable=None)]
    with ProcessPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(run_job, jobs), total=len(jobs), disable=None))


def main(args):
    names = choose_tasks(args.tasks)
    seeds = args.seeds
    sources = ["digits", "adult"]
    if args.quick:
        seeds = 2
        sources = ["cancer"]
        names = ["cancer", "digits", "control"] if args.tasks == "all" else names
    load_tables(args.data_dir)  # once, before the processes start: they inherit it on Linux
    jobs, sweeps = plan_jobs(names, sources, seeds, args)
    answers = run_all(jobs + sweeps, args.workers)
    runs = answers[: len(jobs)]
    swept = summarise(answers[len(jobs) :])
    summary = summarise(runs)
    random = np.random.default_rng(args.seed)
    shifted = [name for name in names if TASKS[name][1] == "covariate"]
    good = [name for name in shifted if summary[name]["ess"] > OVERLAP]
    overlapping = {}
    for key in STRATEGIES if good else ():
        if any(key in summary[name] for name in good):
            overlapping[key] = gap_ratio(*mean_gaps(runs, good, key), random)
    by_task = {name: gap_ratio(*mean_gaps(runs, [name], "weight_odds"), random) for name in names}
    metrics = {
        "tasks": summary,
        "sweep": swept,
        "overlapping_tasks": good,
        "seeds": seeds,
        "models": len(model_zoo(0)),
        "ratio_overlapping": overlapping,
        "ratio_by_task": by_task,
    }
    for name in names:
        gaps = {k: summary[name][k]["absolute"] for k in STRATEGIES if k in summary[name]}
        print(
            f"{name:9s} AUC {summary[name]['auc']:.3f} ESS/n {summary[name]['ess']:.3f}  |gap| "
            + "  ".join(f"{key} {gap:.4f}" for key, gap in gaps.items())
        )
    claims = [judge_weights(overlapping.get("weight_odds"), by_task, shifted)]
    points = {source: [swept[f"{source}:select={s}"] for s in STRENGTHS] for source in sources}
    figures = {
        "validation_gap_gaps": plot_gaps(summary, seeds),
        "validation_gap_breakdown": plot_breakdown(points),
    }
    return metrics, claims, figures


def judge_weights(ratio: list | None, by_task: dict, shifted: list) -> dict:
    """C3.2, by the tasks whose tables overlap and by those whose inputs do not shift."""
    ratio = ratio or [np.nan] * 3  # no task of this run overlaps
    controls = [by_task[name][0] for name in by_task if name not in shifted]
    largest = max(controls, default=np.nan)
    measured = dict(zip(("ratio", "low", "high", "control"), [*ratio, largest], strict=True))
    told = None if np.isnan(ratio[0]) or np.isnan(largest) else ratio[0] <= 0.5 and largest <= 1.1
    return cli.claim("C3.2", measured, told)


if __name__ == "__main__":
    cli.run(main, flags)
