"""Is a network trained with the mixed loss as sure as it should be, on easy and on hard tasks?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/experiments/calibration.py

Symbols: ε → epsilon   K → classes   L = (1−ε)·S(q|p) + ε·S(u|p),  u = 1/K
Four tasks: what a question about insurance is about (K = 10), handwritten digits (K = 10), whether
a review is good or bad (K = 2), and the same from an eighth of the reviews. Texts are read by the
post's network, Embedding → LSTM → Dense with softmax, with its sizes; digits by a dense one.
Both losses begin at the same weights and see the same batches, so that seeds are compared in pairs.
Differs from the article: it has no data; and of its texts we know neither number nor kind.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    share = cli.between(0.001, 0.999, float)
    parser.add_argument("--epsilon", type=share, default=0.1, help="weight of the mix")
    parser.add_argument("--seeds", type=cli.between(2, 100), default=5, help="networks per loss")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported
from dataclasses import dataclass

from keras_tools import encoded, load_keras

load_keras()
import keras
import numpy as np
from scipy.stats import ttest_1samp
from sklearn.calibration import calibration_curve
from tqdm import tqdm

from insurance_qa import QUESTION_LENGTH, Vocabulary
from losses import best_probability, smoothed_cross_entropy
from real_data import load_digits, load_reviews, load_topics
from train import ENCODE_SIZE, WORD_SIZE, WORDS, to_ids

COLOURS = {"plain": "C0", "smoothed": "C1"}  # the same colour for the same loss in every figure
NAMES = {"plain": "plain loss", "smoothed": "mixed loss"}
REVIEW_LENGTH = 48  # tokens kept; half of the reviews have fewer than 46 characters
REVIEWS = 4000
FEW_REVIEWS = 500
TEST_REVIEWS = 4000


# ---------------------------------------------------------------- tasks
@dataclass
class Task:
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    epochs: int
    batch_size: int

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1

    def cut(self, rows: int, epochs: int) -> "Task":
        """The first rows, for fewer epochs."""
        parts = [part[:rows] for part in (self.x, self.y, self.x_test, self.y_test)]
        return Task(*parts, epochs, self.batch_size)


def text_task(texts, labels, test_texts, test_labels, length: int) -> Task:
    vocabulary = Vocabulary(texts, [], "zh", WORDS)
    x, x_test = (to_ids(vocabulary, part, length) for part in (texts, test_texts))
    return Task(x, labels, x_test, test_labels, epochs=10, batch_size=64)


def load_tasks(data_dir: Path | None) -> dict:
    texts, labels = load_reviews(data_dir)
    order = np.random.default_rng(0).permutation(len(texts))  # the same split for every seed
    test = order[:TEST_REVIEWS]
    rest = order[TEST_REVIEWS:]

    def reviews(number):
        train = rest[:number]
        train_texts, test_texts = ([texts[i] for i in places] for places in (train, test))
        return text_task(train_texts, labels[train], test_texts, labels[test], REVIEW_LENGTH)

    return {
        "topics": text_task(*load_topics("zh", 10, data_dir)[:4], QUESTION_LENGTH),
        "digits": Task(*load_digits(data_dir), epochs=40, batch_size=128),
        "reviews": reviews(REVIEWS),
        "few reviews": reviews(FEW_REVIEWS),
    }


# ---------------------------------------------------------------- training
def text_network(classes: int) -> keras.Model:
    """The post's."""
    return keras.Sequential(
        [
            keras.Input((None,)),
            keras.layers.Embedding(WORDS, WORD_SIZE),
            keras.layers.LSTM(ENCODE_SIZE),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def image_network(classes: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def train(task: Task, epsilon: float, seed: int) -> np.ndarray:
    """Probabilities of the test samples, (n, K)."""

    def loss(y_true, y_pred):
        return smoothed_cross_entropy(y_true, y_pred, epsilon)

    keras.utils.set_random_seed(seed)
    build = text_network if task.x.ndim == 2 else image_network
    model = build(task.classes)
    model.compile("adam", loss=loss)
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice
    hot = keras.utils.to_categorical(task.y, task.classes)
    model.fit(task.x, hot, batch_size=task.batch_size, epochs=task.epochs, verbose=0)
    return encoded(model, task.x_test).astype("float64")


# ---------------------------------------------------------------- evaluation
def calibration_error(p: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Σ_b n_b/n · |accuracy_b − confidence_b| over equal bins of the largest probability.

    Expected calibration error of Guo et al. 2017, eq. 3.
    """
    confidence = p.max(1)
    right = p.argmax(1) == labels
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=bins)
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    share = np.bincount(place, minlength=bins) / len(p)
    return float(np.sum(share[share > 0] * np.abs(accuracy - mean_confidence)))


def evaluate(p: np.ndarray, labels: np.ndarray) -> dict:
    """overconfidence: mean largest probability − accuracy, 0 if it is as sure as it should be."""
    p_true = p[np.arange(len(p)), labels]
    accuracy = float((p.argmax(1) == labels).mean())
    return {
        "accuracy": accuracy,
        "overconfidence": float(p.max(1).mean()) - accuracy,
        "ece": calibration_error(p, labels),
        "nll": float(-np.log(np.maximum(p_true, 1e-300)).mean()),
    }


def compare(plain: list, smoothed: list) -> dict:
    """Score → its values with each loss, one for each seed, and change: [mean, low, high].

    change: of smoothed − plain, with a 95 % interval of Student's t over the pairs of networks that
    begin alike.
    """
    found = {}
    for key in plain[0]:
        before, after = (np.array([score[key] for score in scores]) for scores in (plain, smoothed))
        change = after - before
        low, high = ttest_1samp(change, 0).confidence_interval(0.95)
        found[key] = {
            "plain": before.tolist(),
            "smoothed": after.tolist(),
            "plain_mean": float(before.mean()),
            "smoothed_mean": float(after.mean()),
            "change": [float(change.mean()), float(low), float(high)],
        }
    return found


# ---------------------------------------------------------------- what came out
def plot_calibration(scores: dict):
    """scores: task → as of compare. A row for each task: its networks, and the losses' means."""
    figure, panels = cli.subplots(1, 2, height=3.8, sharey=True)
    titles = {"ece": "calibration error", "overconfidence": "mean confidence − accuracy"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        axes.axvline(0, color="0.4", ls="--", lw=1)
        for row, task in enumerate(scores.values()):
            start = task[key]["plain_mean"]
            end = task[key]["smoothed_mean"]
            arrow = {"arrowstyle": "-|>", "color": "0.5", "lw": 2, "shrinkB": 6}
            axes.annotate("", (end, row), (start, row), arrowprops=arrow)
            for loss, colour in COLOURS.items():
                axes.scatter(task[key][loss], [row] * len(task[key][loss]), 12, colour, alpha=0.5)
                label = NAMES[loss] if row == 0 else None
                axes.scatter(task[key][f"{loss}_mean"], row, 80, colour, zorder=3, label=label)
        axes.set(xlabel=title)
        axes.margins(x=0.1)
    wrong = {name: 1 - task["accuracy"]["plain_mean"] for name, task in scores.items()}
    names = [f"{name}\n{share:.0%} wrong" for name, share in wrong.items()]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set(ylim=(len(names) - 0.5, -0.5))
    above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    panels[0].annotate("← better", (0, 1), (4, 5), **above)
    panels[1].annotate("← too modest", (0, 1), (-4, 5), ha="right", **above)
    panels[1].annotate("too sure →", (0, 1), (4, 5), **above)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def judge(scores: dict) -> list:
    better = [task["ece"]["change"][2] < 0 for task in scores.values()]
    as_right = [task["accuracy"]["change"][2] >= 0 for task in scores.values()]
    measured = {"better": sum(better), "as_right": sum(as_right)}
    for name, task in scores.items():
        measured[name.replace(" ", "_")] = task["ece"]["change"][0]
    return [cli.claim("C2.2", measured, holds=all(better) and all(as_right))]


def main(args):
    tasks = load_tasks(args.data_dir)
    seeds = args.seeds
    if args.quick:
        tasks = {name: task.cut(500, epochs=1) for name, task in tasks.items()}
        seeds = 2
    losses = {"plain": 0.0, "smoothed": args.epsilon}
    scores = {}
    for name, task in tasks.items():
        found = {loss: [] for loss in losses}
        for seed in tqdm(range(args.seed, args.seed + seeds), name, disable=None):
            for loss, epsilon in losses.items():
                found[loss].append(evaluate(train(task, epsilon, seed), task.y_test))
        scores[name] = compare(**found)
        for key in ("accuracy", "ece"):
            change, low, high = scores[name][key]["change"]
            before = scores[name][key]["plain_mean"]
            interval = f"({low:+.3f} … {high:+.3f})"
            print(f"{name}: {key} {before:.3f} {change:+.3f} {interval}", flush=True)
    metrics = {
        "backend": keras.backend.backend(),
        "seeds": seeds,
        "best_p": {name: best_probability(args.epsilon, t.classes) for name, t in tasks.items()},
        "train_samples": {name: len(task.y) for name, task in tasks.items()},
        "test_samples": {name: len(task.y_test) for name, task in tasks.items()},
        "tasks": scores,
    }
    return metrics, judge(scores), {"calibration": plot_calibration(scores)}


if __name__ == "__main__":
    cli.run(main, flags)
