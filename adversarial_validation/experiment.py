"""Does a validation set weighted by D/(1-D) tell what the test set will say? Against random, top-k and w = D.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/experiment.py            (--quick for a look; --tasks digits,cancer for some)
Time:    under 2 minutes on 2 busy cores (90 CPU-s)

Symbols: p, q → density of the training and the test inputs   D(x) → probability, a discriminator's guess of "test"
         w(x) = q/p = D/(1-D) → weights, odds, normalised to mean 1   ESS = (Σw)²/Σw² → effective_sample_size
Differs from the article: it has no experiment. "Random split" is 3-fold cross-validation and the weights act on the
         same out-of-fold predictions, so that the two differ by the weights alone; top-k and sampling by w cut one set.
"""
import argparse
import json
import os
import platform
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent))
from density_ratio import ulsif_weights  # noqa: E402
from discriminator import area_under_curve, cap_weights, crossfit_discriminator, effective_sample_share  # noqa: E402
from shifted_tasks import TASKS, load_tables, make_task  # noqa: E402

HERE = Path(__file__).resolve().parent
FOLDS = 3            # of the random split; the sets that are cut have 1/FOLDS of the training rows
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.5, 4.0, 7.0)   # of the selection, for the figure that shows where it breaks
STRATEGIES = {"random": "random split", "top_k": "top-k by D", "weight_d": "weights D",
              "weight_odds": "weights D/(1−D)", "sample_odds": "sampling ∝ D/(1−D)", "ulsif": "weights uLSIF",
              "oracle": "weights q/p, exact"}


# ---------------------------------------------------------------- evaluation
def model_zoo(seed: int) -> list:
    """Fourteen classifiers from poor to good, all quick."""
    return [LogisticRegression(C=1e-4, max_iter=100), LogisticRegression(C=1e-2, max_iter=100),
            LogisticRegression(C=1.0, max_iter=100), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1),
            GaussianNB(var_smoothing=1e-2), BernoulliNB(), NearestCentroid(),
            *(DecisionTreeClassifier(max_depth=depth, random_state=seed) for depth in (2, 5, None)),
            KNeighborsClassifier(1), KNeighborsClassifier(15),
            RandomForestClassifier(10, max_depth=6, random_state=seed), ExtraTreesClassifier(10, random_state=seed)]


def fit_and_mark(x, y, sets: list, seed: int) -> list:
    """Fit every model on x, y; for each (inputs, labels) in sets an array (models, rows) of right or wrong."""
    marks = [[] for _ in sets]
    for model in model_zoo(seed):
        model.fit(x, y)
        for out, (inputs, labels) in zip(marks, sets):
            out.append(model.predict(inputs) == labels)
    return [np.array(mark, float) for mark in marks]


def run_task(name: str, tables: dict, seed: int, sweep: bool = False) -> dict:
    """All strategies on one draw of one task → validation and test accuracy of every model, ESS/n, AUC of D."""
    warnings.filterwarnings("ignore")
    random = np.random.default_rng([seed, 1])
    task = make_task(name, tables, seed)
    x, y, test = task["x_train"], task["y_train"], (task["x_test"], task["y_test"])
    d, d_test = crossfit_discriminator(x, task["x_test"], random)
    n, size = len(x), len(x) // FOLDS
    odds = cap_weights(d / (1 - d))
    fold, right, test_score = random.permutation(n) % FOLDS, None, 0
    for k in range(FOLDS):
        valid, on_test = fit_and_mark(x[fold != k], y[fold != k], [(x[fold == k], y[fold == k]), test], seed)
        right = np.empty((len(valid), n)) if right is None else right
        right[:, fold == k] = valid
        test_score = test_score + on_test.mean(1) / FOLDS
    weights = {"random": np.ones(n), "weight_d": d, "weight_odds": odds}
    if task["odds"] is not None:
        weights["oracle"] = task["odds"]
    if not sweep:
        weights["ulsif"] = ulsif_weights(x, task["x_test"], random)
    scores = {key: (right @ w / w.sum(), test_score) for key, w in weights.items()}
    cuts = {} if sweep else {"top_k": np.argsort(-d)[:size]}
    if not sweep:
        cuts["sample_odds"] = random.choice(n, size, p=odds / odds.sum())   # with replacement, duplicates stay
    for key, rows in cuts.items():
        rest = np.setdiff1d(np.arange(n), rows)                              # drawn rows leave the training set
        if len(np.unique(y[rest])) < len(np.unique(y)):
            continue
        valid, on_test = fit_and_mark(x[rest], y[rest], [(x[rows], y[rows]), test], seed)
        scores[key] = valid.mean(1), on_test.mean(1)
    result = {"task": name, "seed": seed, "auc": area_under_curve(d, d_test), "ess": effective_sample_share(odds),
              "rows": [n, len(test[1])], "largest": float(odds.max() / odds.mean())}
    for key, (valid, on_test) in scores.items():
        result[key] = {"gap": float(np.mean(valid - on_test)), "absolute": float(np.mean(np.abs(valid - on_test))),
                       "spearman": float(np.nan_to_num(spearmanr(valid, on_test)[0])),
                       "regret": float(on_test.max() - on_test[np.argmax(valid)])}
    return result


def run_all(jobs: list, tables: dict, workers: int) -> list:
    """Run the jobs (recipe, seed, sweep) in processes of one thread each → answers in the order of the jobs."""
    if workers == 1:
        with threadpool_limits(1):
            return [run_task(name, tables, seed, sweep) for name, seed, sweep in jobs]
    with ProcessPoolExecutor(workers, initializer=start_worker, initargs=(tables,)) as pool:
        return list(pool.map(run_job, jobs))


def start_worker(tables: dict) -> None:
    """Give a process the data once, and one thread."""
    globals()["_tables"] = tables
    threadpool_limits(1)


def run_job(job: tuple) -> dict:
    return run_task(job[0], globals()["_tables"], job[1], job[2])


def summarise(runs: list) -> dict:
    """{task: {strategy: {measure: mean over seeds}, ess, auc …}} of the runs of several seeds."""
    summary = {}
    for name in dict.fromkeys(run["task"] for run in runs):
        group = [run for run in runs if run["task"] == name]
        entry = {key: float(np.mean([run[key] for run in group])) for key in ("auc", "ess", "largest")}
        entry["rows"] = group[0]["rows"]
        for key in STRATEGIES:
            have = [run[key] for run in group if key in run]
            if len(have) == len(group):
                entry[key] = {measure: float(np.mean([h[measure] for h in have])) for measure in have[0]}
                entry[key]["sd"] = float(np.std([h["absolute"] for h in have], ddof=min(1, len(have) - 1)))
        summary[name] = entry
    return summary


def gap_ratio(runs: list, names: list, strategy: str, random: np.random.Generator, draws: int = 2000) -> list:
    """Mean |validation − test| of a strategy over that of the random split → [ratio, 95 % bootstrap low, high]."""
    table = {(run["task"], run["seed"]): run for run in runs}
    seeds = sorted({run["seed"] for run in runs})
    cells = np.array([[[table[name, seed][key]["absolute"] for key in (strategy, "random")] for seed in seeds]
                      for name in names if all(strategy in table[name, seed] for seed in seeds)])
    if not len(cells):
        return [float("nan")] * 3
    picks = random.integers(len(seeds), size=(draws, len(cells), len(seeds)))     # every task draws its own seeds
    means = np.take_along_axis(cells[None], picks[..., None], axis=2).mean((1, 2))
    return [float(v) for v in (cells.mean((0, 1))[0] / cells.mean((0, 1))[1],
                               *np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975]))]


# ---------------------------------------------------------------- figures
COLOURS = {key: f"C{i}" for i, key in enumerate(("random", "top_k", "weight_d", "weight_odds", "sample_odds", "ulsif"))}
COLOURS["oracle"] = "0.3"


def plot_gaps(summary: dict, seeds: int) -> Figure:
    """|validation − test| of every strategy (colour) on every task (line), tasks in order of ESS/n."""
    figure = Figure(figsize=(8.5, 6), layout="constrained")
    axes = figure.subplots()
    names = sorted(summary, key=lambda name: (TASKS[name][1] != "covariate", summary[name]["ess"]))
    for key, label in STRATEGIES.items():
        rows = [(i, summary[name][key]) for i, name in enumerate(names) if key in summary[name]]
        axes.errorbar([r["absolute"] for _, r in rows], [i + 0.09 * (list(STRATEGIES).index(key) - 3) for i, _ in rows],
                      xerr=[1.96 * r["sd"] / np.sqrt(seeds) for _, r in rows], fmt="D" if key == "weight_odds" else "o",
                      ms=6 if key == "weight_odds" else 4, lw=1, color=COLOURS[key], label=label)
    axes.set_yticks(range(len(names)), [f"{TASKS[n][2]}\nAUC {summary[n]['auc']:.2f}, ESS/n {summary[n]['ess']:.2f}"
                                        for n in names], fontsize=8)
    for i in range(1, len(names)):
        axes.axhline(i - 0.5, color="0.9", lw=0.8)
    axes.set(xlabel="mean |validation − test| accuracy over 14 models (bars: 95 % over seeds)", xlim=(0, None),
             title="Which validation set tells what the test set says?")
    axes.legend(fontsize=8, loc="best")
    return figure


def plot_breakdown(sweeps: dict) -> Figure:
    """Gap over the strength of the shift, as AUC of D, one panel per data set; ESS/n on the second axis."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (source, points) in zip(np.atleast_1d(figure.subplots(1, len(sweeps))), sweeps.items()):
        auc = [p["auc"] for p in points]
        for key in ("random", "weight_d", "weight_odds", "oracle"):
            axes.errorbar(auc, [p[key]["absolute"] for p in points], [p[key]["sd"] for p in points], fmt="o-", ms=4,
                          capsize=2, color=COLOURS[key], label=STRATEGIES[key])
        other = axes.twinx()
        other.plot(auc, [p["ess"] for p in points], "k:", label="ESS/n (right)")
        other.axhline(0.2, color="0.8", lw=0.8)
        other.set(ylim=(0, 1.02), ylabel="effective sample size / n")
        axes.set(xlabel="AUC of the discriminator (0.5: no shift)", ylabel="mean |validation − test|", title=source)
        axes.set_ylim(0, None)
    lines = [line for one in (axes, other) for line in one.get_legend_handles_labels()[0]]
    figure.legend(lines, [line.get_label() for line in lines], loc="outside upper center", ncols=5, fontsize=8)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="draws of every task, at least 2")
    parser.add_argument("--tasks", default="all", help="comma-separated, of: " + ", ".join(TASKS))
    parser.add_argument("--workers", type=int, default=2, help="processes; 1 stays in this one")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    unknown = [] if args.tasks == "all" else [name for name in args.tasks.split(",") if name not in TASKS]
    if unknown:
        parser.error(f"--tasks {unknown[0]}: must be among {', '.join(TASKS)}")
    for flag, least in (("seeds", 2), ("workers", 1)):
        if getattr(args, flag) < least:
            parser.error(f"--{flag} {getattr(args, flag)}: must be at least {least}")
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
    seeds = 2 if args.quick else args.seeds
    names = list(TASKS) if args.tasks == "all" else args.tasks.split(",")
    if args.quick and args.tasks == "all":
        names = ["cancer", "digits", "control"]
    tables = load_tables(args.data_dir)
    sources = ["cancer"] if args.quick else ["digits", "adult"]
    jobs = [(TASKS[name][0], args.seed + seed, False) for seed in range(seeds) for name in names]
    sweep_seeds = range(args.seed, args.seed + min(seeds, 3))
    jobs += [(f"{source}:select={strength}", seed, True) for source in sources for strength in STRENGTHS
             for seed in sweep_seeds]
    runs = run_all(jobs, tables, args.workers)
    back = {recipe: name for name, (recipe, *_) in TASKS.items()}
    main_runs = [dict(run, task=back[run["task"]]) for run, job in zip(runs, jobs) if not job[2]]
    swept = summarise([run for run, job in zip(runs, jobs) if job[2]])
    summary = summarise(main_runs)
    random = np.random.default_rng(args.seed)
    covariate = [name for name in names if TASKS[name][1] == "covariate"]
    good = [name for name in covariate if summary[name]["ess"] > 0.2]
    metrics = {"tasks": summary, "sweep": swept, "overlapping_tasks": good, "seeds": seeds, "models": len(model_zoo(0)),
               "ratio_overlapping": {key: gap_ratio(main_runs, good, key, random) for key in STRATEGIES},
               "ratio_by_task": {name: gap_ratio(main_runs, [name], "weight_odds", random) for name in names}}
    ratio = metrics["ratio_overlapping"]["weight_odds"]
    controls = {name: metrics["ratio_by_task"][name][0] for name in names if name not in covariate}
    failing = [f"{name} {metrics['ratio_by_task'][name][0]:.2f}" for name in covariate
               if metrics["ratio_by_task"][name][0] > 0.5]
    figures = ["experiment_gaps.png", "experiment_breakdown.png"]
    plot_gaps(summary, seeds).savefig(args.out_dir / figures[0], dpi=150)
    plot_breakdown({source: [swept[f"{source}:select={s}"] for s in STRENGTHS] for source in sources}
                   ).savefig(args.out_dir / figures[1], dpi=150)
    for name in names:
        print(f"{name:9s} AUC {summary[name]['auc']:.3f} ESS/n {summary[name]['ess']:.3f}  |gap| " + "  ".join(
            f"{key} {summary[name][key]['absolute']:.4f}" for key in STRATEGIES if key in summary[name]))
    claims = [{"id": "C3.2", "claim": "validation weighted by D/(1−D) is near the test score, a random split is not",
               "expected": "gap at most half the random split's where ESS/n > 0.2; at most 1.1 of it without "
                           "covariate shift",
               "measured": f"ratio {ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}] on {', '.join(good)}; controls "
                           f"{', '.join(f'{k} {v:.2f}' for k, v in controls.items())}; above one half: "
                           f"{', '.join(failing) or 'none'}",
               "holds": bool(good and ratio[0] <= 0.5 and all(v <= 1.1 for v in controls.values()))}]
    return save_results(args, "experiment", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
