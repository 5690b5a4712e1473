"""Does a loss that is the network's output teach it to find the answer to a question?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/experiments/triplet.py   (answer.py takes its weights)

Symbols: q → question   A_right, A_wrong → right, wrong   m → margin
         L = max(0, m + cos(q, A_wrong) − cos(q, A_right))
Two networks of triplet_models.py are trained: "random", the post's, with one random wrong answer
for each question, and "hard", ours, whose wrong answers are all right answers of the batch's other
questions, and whose codes have the text's terms as a second part. "random" is watched for two
epochs only, which shows how soon its triplets teach nothing; it is not trained to its end, as
experiments/wrong_answers.py does.
Differs from the article: real questions and answers (InsuranceQA, in Chinese or English); the
LSTM's outputs are pooled over time by their maximum instead of taking the last one.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    size = cli.between(1, 100_000)
    parser.add_argument("--language", choices=("zh", "en"), default="zh", help="of all texts")
    parser.add_argument("--margin", type=cli.between(0.001, 2, float), default=0.1, help="m")
    parser.add_argument("--epochs", type=size, default=5, help='passes of "hard"')
    parser.add_argument("--random-epochs", type=size, default=2, help='passes of "random"')
    parser.add_argument("--batch-size", type=cli.between(2, 10_000), default=256, help="questions")
    parser.add_argument("--term-size", type=size, default=2048, help="numbers of a term code")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

from keras_tools import encoded, load_keras

load_keras()
import keras
import numpy as np

from answer import save, weights_path
from answer_search import (
    AnswerSearch,
    chance_top1,
    make_pools,
    normalized,
    ranks_by_bm25,
    ranks_by_codes,
    scores_by_pool,
)
from insurance_qa import QUESTION_LENGTH, Triplets
from losses import pass_through
from real_data import QUICK_SLICES, load_corpus
from triplet_models import one_wrong_models

COLOURS = {
    "chance": "0.7",
    "BM25": "C7",
    "random": "C0",
    "hard": "C1",
    "terms, untrained": "C5",
    "terms": "C3",
    "hard + terms": "C2",
}


# ---------------------------------------------------------------- training
class Watch:
    """Two sets of validation triplets that never change, and what the models make of them.

    Wrong answers are drawn at random in one set, and found by a search engine in the other.
    curves: quantity → one value before each epoch and after the last.
    """

    def __init__(self, name: str, search: AnswerSearch, margin: float, answers: list):
        rows = search.splits["valid"][:1000]
        drawn = np.random.default_rng(1).integers(len(search.answers), size=len(rows))
        self.name = name
        self.margin = margin
        inputs = search.question_inputs([row[0] for row in rows])
        self.questions = inputs[: len(answers)]
        self.right = [part[[row[1][0] for row in rows]] for part in answers]
        self.wrong = {
            "random": [part[drawn] for part in answers],
            "given": [part[[row[2][0] for row in rows]] for part in answers],
        }
        self.curves = {}

    def __call__(self, models: tuple, history: dict | None) -> None:
        _, question_encoder, answer_encoder = models
        if history:
            active = float(history["active_fraction"][0])
            self.curves.setdefault("active while training", []).append(active)
            epoch = len(self.curves["active while training"])
            loss = history["loss"][0]
            print(f"{self.name} negatives, epoch {epoch}: loss {loss:.4f}", flush=True)
        q = normalized(encoded(question_encoder, *self.questions))
        a = normalized(encoded(answer_encoder, *self.right))
        for kind, wrong in self.wrong.items():
            w = normalized(encoded(answer_encoder, *wrong))
            gap = np.sum(q * (a - w), axis=1)  # cos(q, A_right) − cos(q, A_wrong)
            active, ranked = float((gap < self.margin).mean()), float((gap > 0).mean())
            self.curves.setdefault(f"{kind} active", []).append(active)
            self.curves.setdefault(f"{kind} ranked", []).append(ranked)


def train_random(search: AnswerSearch, margin, epochs, batch_size, seed, watch: Watch) -> tuple:
    """The post's model with one random wrong answer for each question."""
    keras.utils.set_random_seed(seed)
    rows = search.splits["train"]
    ids = search.ids([row[0] for row in rows], QUESTION_LENGTH)
    batches = Triplets(rows, ids, search.answer_ids, batch_size, seed)
    models = one_wrong_models(margin)
    watch(models, None)
    for _ in range(epochs):
        watch(models, models[0].fit(batches, verbose=0).history)
    return models


# ---------------------------------------------------------------- the post's claims
def dummy_difference(seed: int) -> float:
    """Largest difference of the weights after five steps with zeros and with huge random numbers
    as y (C2.3)."""
    generator = np.random.default_rng(seed)
    batch = [generator.integers(1, 50, (32, length)).astype("int32") for length in (5, 9, 9)]
    zeros = np.zeros((32, 1), "float32")
    huge = generator.normal(scale=1e6, size=(32, 1)).astype("float32")
    ends = []
    for dummy in (zeros, huge):
        keras.utils.set_random_seed(seed)
        model = one_wrong_models(0.1, 50, 5, 9)[0]
        for _ in range(5):
            model.train_on_batch(batch, dummy)
        ends.append(model.get_weights())
    return largest_difference(*ends)


def largest_difference(weights: list, others: list) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(weights, others, strict=True))


def check_trained(models: tuple, batch: list, margin: float) -> tuple:
    """(largest |output of the train model − float64 formula on the encoders' codes| (C2.3), number
    of triplets beyond the margin, largest change of a weight by one step of gradient descent on
    those alone (C2.4))."""
    model, question_encoder, answer_encoder = models
    q = normalized(encoded(question_encoder, batch[0]).astype("float64"))
    a = normalized(encoded(answer_encoder, batch[1]).astype("float64"))
    w = normalized(encoded(answer_encoder, batch[2]).astype("float64"))
    by_hand = np.maximum(0, margin + np.sum(q * w, 1) - np.sum(q * a, 1))
    losses = encoded(model, *batch)[:, 0]
    difference = float(np.abs(losses - by_hand).max())
    beyond = np.flatnonzero(losses == 0)
    if not len(beyond):
        return difference, 0, float("nan")
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), loss=pass_through)
    model.train_on_batch([part[beyond] for part in batch], np.ones((len(beyond), 1), "float32"))
    return difference, len(beyond), largest_difference(before, model.get_weights())


def validation_triplets(search: AnswerSearch, seed: int) -> list:
    """Questions, right answers, random wrong ones: ids, the inputs of the post's train model."""
    generator = np.random.default_rng(seed)
    rows = search.splits["valid"][:1000]
    wrong = generator.integers(len(search.answers), size=len(rows))
    right = [row[1][0] for row in rows]
    questions = search.ids([row[0] for row in rows], QUESTION_LENGTH)
    return [questions, search.answer_ids[right], search.answer_ids[wrong]]


# ---------------------------------------------------------------- figures
def plot_training(watched: dict, margin: float):
    """watched: negatives → {quantity: one value per epoch, the first before training}."""
    figure, panels = cli.subplots(1, 2, height=3.8)
    titles = {
        "active": f"share of triplets with gap < m = {margin:g}",
        "ranked": "share with the right answer nearer",
    }
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        for name, curves in watched.items():
            for kind, style in (("random", "-"), ("given", "--")):
                label = f"trained on {name}, {kind} wrong answers"
                values = curves[f"{kind} {key}"]
                axes.plot(values, style, marker="o", ms=3, color=COLOURS[name], label=label)
        axes.set(xlabel="epoch", ylim=(0, 1.02), title=title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def plot_ranking(scores: dict):
    """scores: model → {"top1", "mrr", "drawn_top1"}; a value that is missing has no bar."""
    figure, panels = cli.subplots(1, 3, height=3.4, sharey=True)
    titles = {
        "top1": "top-1, wrong answers\nfound by search",
        "mrr": "mean reciprocal rank,\nthe same",
        "drawn_top1": "top-1, wrong answers\ndrawn at random",
    }
    colours = [COLOURS[name] for name in scores]
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        values = [score.get(key, np.nan) for score in scores.values()]
        bars = axes.barh(list(scores), values, color=colours)
        labels = ["" if np.isnan(value) else f"{value:.3f}" for value in values]
        axes.bar_label(bars, labels=labels, padding=3)
        axes.set(title=title, xlim=(0, 1.35 * np.nanmax(values)))
    panels[0].invert_yaxis()
    return figure


# ---------------------------------------------------------------- run
def rank_all(search: AnswerSearch, article: tuple, pools: dict, language: str) -> dict:
    """model → {pool and score: value}; article: the models that train_random made."""
    questions = [row[0] for row in pools[""]]
    codes = normalized(encoded(article[2], search.answer_ids))
    asked = normalized(encoded(article[1], search.ids(questions, QUESTION_LENGTH)))
    hard = search.ranks(pools)
    ranks = {
        "BM25": ranks_by_bm25(pools, search.answers, language),
        "random": ranks_by_codes(pools, codes, asked),
        "terms, untrained": ranks_by_codes(pools, search.answer_terms, search.terms(questions)),
        "hard": hard["lstm"],
        "terms": hard["terms"],
        "hard + terms": hard["both"],
    }
    return {name: scores_by_pool(found) for name, found in ranks.items()}


def judge(m: dict) -> list:
    active = m["watched"]["random"]["random active"]
    ranked = m["watched"]["random"]["random ranked"]
    passed = {key: m[key] for key in ("handwritten_difference", "dummy_difference")}
    beyond = {
        "step": m["inactive_step"],
        "triplets": m["inactive_triplets"],
        "active_first": active[0],
        "active_last": active[-1],
        "ranked_first": ranked[0],
        "ranked_last": ranked[-1],
    }
    equal = m["handwritten_difference"] < 1e-5 and m["dummy_difference"] == 0
    learns = active[-1] < active[0] and ranked[-1] > ranked[0]
    return [
        cli.claim("C2.3", passed, holds=equal),
        cli.claim("C2.4", beyond, holds=m["inactive_step"] == 0 and learns),
    ]


def main(args):
    slices = QUICK_SLICES if args.quick else None
    splits, answers = load_corpus(args.language, args.data_dir, slices)
    search = AnswerSearch(splits, answers, args.language, args.term_size)
    pools = make_pools(splits["test"], splits["train"], len(answers), args.seed)
    most = 2 if args.quick else 1000
    setting = args.batch_size, args.seed

    watches = {"random": Watch("random", search, args.margin, [search.answer_ids])}
    epochs = min(args.random_epochs, most)
    article = train_random(search, args.margin, epochs, *setting, watches["random"])
    both = [search.answer_ids, search.answer_terms]
    watches["hard"] = Watch("hard", search, args.margin, both)
    search.train(args.margin, min(args.epochs, most), *setting, watches["hard"])
    save(search, weights_path(args.out_dir, args.language, args.quick))

    scores = rank_all(search, article, pools, args.language)
    batch = validation_triplets(search, args.seed)
    by_hand, beyond, step = check_trained(article, batch, args.margin)
    metrics = {
        "backend": keras.backend.backend(),
        "language": args.language,
        "chance_top1": chance_top1(splits["test"]),
        "train_questions": len(splits["train"]),
        "test_questions": len(splits["test"]),
        "term_weight": search.weight,
        "watched": {name: watch.curves for name, watch in watches.items()},
        "handwritten_difference": by_hand,
        "dummy_difference": dummy_difference(args.seed),
        "inactive_triplets": beyond,
        "inactive_step": step,
    }
    for name, found in scores.items():
        short = name.lower().replace(", ", "_").replace(" + ", "_")
        metrics |= {f"{short}_{key}": value for key, value in found.items()}
        print(f"{name}: top-1 {found['top1']:.3f}, mean reciprocal rank {found['mrr']:.3f}")
    with_chance = {"chance": {"top1": metrics["chance_top1"]}, **scores}
    figures = {
        "triplet_training": plot_training(metrics["watched"], args.margin),
        "triplet_ranking": plot_ranking(with_chance),
    }
    return metrics, judge(metrics), figures


if __name__ == "__main__":
    cli.run(main, flags)
