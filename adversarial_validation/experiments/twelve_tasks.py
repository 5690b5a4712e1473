"""Can a discriminator tell the training from the test rows of the twelve tasks, do they overlap?

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/experiments/twelve_tasks.py
Symbols: D(x) → d_train, d_test, out of fold   ESS/n → ess, the effective sample size of D/(1−D)
Differs from the article: it has no data; shifted_tasks.py tells where these come from.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)

import numpy as np
from threadpoolctl import threadpool_limits

from shifted_tasks import TASKS, load_tables, make_task
from weights import (
    area_under_curve,
    cap_weights,
    crossfit_discriminator,
    effective_sample_share,
    permutation_test,
)


def look_at(task: dict, random: np.random.Generator) -> tuple:
    """What D sees of a task → (numbers, D of the training rows, D of the test rows)."""
    x_train, x_test = task["x_train"], task["x_test"]
    _, p_value = permutation_test(x_train, x_test, random)
    d_train, d_test = crossfit_discriminator(x_train, x_test, random)
    numbers = {
        "rows_train": len(d_train),
        "rows_test": len(d_test),
        "features": x_train.shape[1],
        "auc": area_under_curve(d_train, d_test),
        "p_value": p_value,
        "ess": effective_sample_share(cap_weights(d_train / (1 - d_train))),
        "beyond": float(np.mean(d_test > d_train.max())),
    }
    return numbers, d_train, d_test


def plot_scores(seen: dict):
    """D on the training and the test rows of every task."""
    rows = -(-len(seen) // 3)
    figure, panels = cli.subplots(rows, 3, height=2 * rows, squeeze=False, sharex=True)
    for axes, (name, (numbers, d_train, d_test)) in zip(panels.ravel(), seen.items(), strict=False):
        for values, label, colour in (
            (d_train, "training rows", "C0"),
            (d_test, "test rows", "C3"),
        ):
            bins = np.linspace(0, 1, 31)
            axes.hist(values, bins, density=True, alpha=0.6, color=colour, label=label)
        axes.set(title=f"{TASKS[name][2]}\nAUC {numbers['auc']:.2f}", yticks=[])
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.supxlabel("D(x), out of fold")
    return figure


def main(args):
    tables = load_tables(args.data_dir)
    random = np.random.default_rng(args.seed)
    seen = {}
    for name in ("digits", "cancer", "control", "noise") if args.quick else TASKS:
        recipe, kind, label = TASKS[name]
        with threadpool_limits(1):
            seen[name] = look_at(make_task(recipe, tables, args.seed), random)
        seen[name][0]["kind"] = kind
        print(
            f"{label:27s} {kind:9s} AUC {seen[name][0]['auc']:.3f}  "
            f"p {seen[name][0]['p_value']:.3f}  ESS/n {seen[name][0]['ess']:.3f}  "
            f"test rows beyond train {seen[name][0]['beyond']:.1%}"
        )
    metrics = {name: numbers for name, (numbers, *_) in seen.items()}
    return metrics, [], {"twelve_tasks_scores": plot_scores(seen)}


if __name__ == "__main__":
    cli.run(main, flags)
