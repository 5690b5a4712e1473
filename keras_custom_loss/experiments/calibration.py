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
    test, rest = order[:TEST_REVIEWS], order[TEST_REVIEWS:]

    def reviews(number):
        parts = [([texts[i] for i in places], labels[places]) for places in (rest[:number], test)]
        return text_task(*parts[0], *parts[1], REVIEW_LENGTH)

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
    hot = keras.utils.to_categorical(task.y, task.classes)
    model.fit(task.x, hot, batch_size=task.batch_size, epochs=task.epochs, verbose=0)
    return encoded(model, task.x_test).astype("float64")


# ---------------------------------------------------------------- evaluation
def calibration(p: np.ndarray, labels: np.ndarray, bins: int = 10) -> tuple:
    """(Σ_b n_b/n · |accuracy_b − confidence_b| over equal bins of the largest probability, rows of
    [confidence, accuracy, share of the samples] for the bins that hold any).

    The first is the expected calibration error of Guo et al. 2017, eq. 3.
    """
    confidence, right = p.max(1), p.argmax(1) == labels
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=bins)
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    share = np.bincount(place, minlength=bins) / len(p)
    rows = np.stack([mean_confidence, accuracy, share[share > 0]], axis=1)
    return float(np.sum(rows[:, 2] * np.abs(rows[:, 0] - rows[:, 1]))), rows


def evaluate(p: np.ndarray, labels: np.ndarray) -> dict:
    """overconfidence: mean largest probability − accuracy, 0 if it is as sure as it should be."""
    p_true = p[np.arange(len(p)), labels]
    accuracy = float((p.argmax(1) == labels).mean())
    return {
        "accuracy": accuracy,
        "overconfidence": float(p.max(1).mean()) - accuracy,
        "ece": calibration(p, labels)[0],
        "nll": float(-np.log(np.maximum(p_true, 1e-300)).mean()),
    }


def compare(plain: list, smoothed: list) -> dict:
    """Means over the seeds of each score, and change: [mean, low, high] of smoothed − plain, a 95 %
    interval of Student's t over the pairs of networks with one seed."""
    found = {}
    for key in plain[0]:
        pair = [np.array([score[key] for score in scores]) for scores in (plain, smoothed)]
        change = pair[1] - pair[0]
        low, high = ttest_1samp(change, 0).confidence_interval(0.95)
        found[key] = {
            "plain": float(pair[0].mean()),
            "smoothed": float(pair[1].mean()),
            "change": [float(change.mean()), float(low), float(high)],
        }
    return found


# ---------------------------------------------------------------- what came out
def plot_reliability(predictions: dict, tasks: dict, scores: dict):
    """predictions: task → loss → [probabilities of each seed]; scores: task → as of compare."""
    figure, panels = cli.subplots(2, 2, height=7.5, sharex=True, sharey=True)
    for axes, (name, by_loss) in zip(panels.flat, predictions.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", ls="--", lw=1)
        for loss, parts in by_loss.items():
            labels = np.tile(tasks[name].y_test, len(parts))
            confidence, accuracy, share = calibration(np.concatenate(parts), labels)[1].T
            error = scores[name]["ece"][loss]
            label = f"{loss}: calibration error {error:.3f}"
            axes.plot(confidence, accuracy, color=COLOURS[loss], lw=1)
            size = 10 + 200 * share
            axes.scatter(confidence, accuracy, size, COLOURS[loss], alpha=0.7, label=label)
        wrong = 1 - scores[name]["accuracy"]["plain"]
        axes.set(title=f"{name}: {wrong:.1%} read wrong (plain)", xlim=(0, 1.02), ylim=(0, 1.05))
        axes.legend(markerscale=0.5)
    for axes in panels[1]:
        axes.set(xlabel="largest probability (confidence)")
    for axes in panels[:, 0]:
        axes.set(ylabel="share that is right")
    return figure


def judge(scores: dict) -> list:
    better = [task["ece"]["change"][2] < 0 for task in scores.values()]
    as_right = [task["accuracy"]["change"][2] >= 0 for task in scores.values()]
    hard = scores["reviews"]["ece"]
    easy = scores["digits"]["ece"]
    measured = {
        "better": sum(better),
        "as_right": sum(as_right),
        "reviews_plain": hard["plain"],
        "reviews_smoothed": hard["smoothed"],
        "reviews_low": hard["change"][1],
        "reviews_high": hard["change"][2],
        "digits_plain": easy["plain"],
        "digits_smoothed": easy["smoothed"],
    }
    return [cli.claim("C2.2", measured, holds=all(better) and all(as_right))]


def main(args):
    tasks = load_tasks(args.data_dir)
    if args.quick:
        tasks = {name: task.cut(500, epochs=1) for name, task in tasks.items()}
    seeds = 2 if args.quick else args.seeds
    losses = {"plain": 0.0, "smoothed": args.epsilon}
    predictions, scores = {}, {}
    for name, task in tasks.items():
        predictions[name] = {loss: [] for loss in losses}
        for seed in tqdm(range(args.seed, args.seed + seeds), name, disable=None):
            for loss, epsilon in losses.items():
                predictions[name][loss].append(train(task, epsilon, seed))
        evaluated = {
            loss: [evaluate(p, task.y_test) for p in parts]
            for loss, parts in predictions[name].items()
        }
        scores[name] = compare(**evaluated)
        ece, accuracy = scores[name]["ece"], scores[name]["accuracy"]
        print(
            f"{name}: accuracy {accuracy['plain']:.3f} → {accuracy['smoothed']:.3f}, calibration "
            f"error {ece['plain']:.3f} → {ece['smoothed']:.3f}",
            flush=True,
        )
    metrics = {
        "backend": keras.backend.backend(),
        "seeds": seeds,
        "best_p": {name: best_probability(args.epsilon, t.classes) for name, t in tasks.items()},
        "train_samples": {name: len(task.y) for name, task in tasks.items()},
        "test_samples": {name: len(task.y_test) for name, task in tasks.items()},
        "tasks": scores,
    }
    figures = {"calibration_reliability": plot_reliability(predictions, tasks, scores)}
    return metrics, judge(scores), figures


if __name__ == "__main__":
    cli.run(main, flags)
