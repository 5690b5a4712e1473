"""Which wrong answers teach more, where each network is trained for as long as it gets better?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/experiments/wrong_answers.py
         (what is trained lies in --out-dir, so that an interrupted run goes on)

Symbols: q → question   A_right, A_wrong → right, wrong   m → MARGIN
         L = max(0, m + cos(q, A_wrong) − cos(q, A_right))
Three networks with the post's margin, sizes and triplet loss:
"post", that of train.py: one random wrong answer, the LSTM's last output;
"random", the same triplets for the encoder of triplet_models.py, the LSTM's outputs' maximum;
"hard", that encoder, before the right answers to all other questions of its batch. A second part of
its codes holds the text's terms: "terms" alone, "hard + terms" both.
Each is trained until validation questions get no better, and tested with the weights of its best
epoch.
Differs from the article: real questions and answers (InsuranceQA, in Chinese).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli

NETWORKS = ("post", "hard", "random")


def flags(parser):
    size = cli.between(1, 1000)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="which")
    parser.add_argument("--epochs", type=size, default=60, help="passes at most, random answers")
    parser.add_argument("--hard-epochs", type=size, default=20, help="passes at most, hard ones")
    parser.add_argument("--patience", type=size, default=5, help="passes without a better one")
    parser.add_argument("--seeds", type=size, default=3, help="networks of each kind")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported
import functools
import json
import os
import time

from keras_tools import encoded, load_keras

load_keras()
import keras
import numpy as np

from answer_search import (
    AnswerSearch,
    draw_pool,
    leads,
    make_pools,
    normalized,
    ranks_by_bm25,
    ranks_by_codes,
    scores_by_pool,
)
from insurance_qa import ANSWER_LENGTH, QUESTION_LENGTH, Triplets
from real_data import load_corpus
from train import to_ids, triplet_models
from triplet_models import ENCODE_SIZE, one_wrong_models

MARGIN = 0.1  # the post's
COLOURS = {"post": "C4", "random": "C0", "hard": "C1", "hard + terms": "C2", "BM25": "C7"}
LEADS = (("random", "post"), ("hard", "random"), ("hard", "post"), ("hard + terms", "BM25"))


# ---------------------------------------------------------------- until it gets no better
class Kept:
    """Validation scores before each epoch and after the last, and the weights of the best one.

    The best has the highest mean reciprocal rank before the wrong answers that a search found.
    """

    def __init__(self, pools: dict, patience: int):
        self.pools = pools
        self.questions = [row[0] for row in pools[""]]
        self.patience = patience
        self.curve = []

    def note(self, codes: np.ndarray, asked: np.ndarray, weights) -> None:
        self.curve.append(scores_by_pool(ranks_by_codes(self.pools, codes, asked)))
        if self.best == len(self.curve) - 1:
            self.weights = weights

    @property
    def best(self) -> int:
        return int(np.argmax([scores["mrr"] for scores in self.curve]))

    @property
    def stopped(self) -> bool:
        return len(self.curve) - 1 - self.best >= self.patience

    def told(self) -> dict:
        return {"curve": self.curve, "best": self.best, "stopped": self.stopped}


def train_one_wrong(build, ids, batch_size: int, search, pools, kept, epochs, seed) -> dict:
    """Ranks of the test questions by a network that learns from one random wrong answer each.

    build(margin): the models. ids(texts, length): their inputs. kept, and what it tells, is filled.
    """
    keras.utils.set_random_seed(seed)
    rows = search.splits["train"]
    answer_ids = ids(search.answers, ANSWER_LENGTH)
    question_ids = ids([row[0] for row in rows], QUESTION_LENGTH)
    batches = Triplets(rows, question_ids, answer_ids, batch_size, seed)
    model, question_encoder, answer_encoder = build(MARGIN)

    def codes_of(questions):
        codes = normalized(encoded(answer_encoder, answer_ids))
        return codes, normalized(encoded(question_encoder, ids(questions, QUESTION_LENGTH)))

    kept.note(*codes_of(kept.questions), model.get_weights())
    for _ in range(epochs):
        model.fit(batches, verbose=0)
        kept.note(*codes_of(kept.questions), model.get_weights())
        if kept.stopped:
            break
    model.set_weights(kept.weights)
    return ranks_by_codes(pools, *codes_of([row[0] for row in pools[""]]))


def train_hard(search: AnswerSearch, pools: dict, lstm: Kept, terms: Kept, epochs, seed) -> dict:
    """name → ranks of the test questions. The two parts share no weight: each its best epoch."""
    parts = slice(ENCODE_SIZE), slice(ENCODE_SIZE, None)

    def note(models, _):
        codes = search.answer_codes()
        asked = search.question_codes(lstm.questions)
        weights = {layer.name: layer.get_weights() for layer in models[0].layers}
        for kept, part in zip((lstm, terms), parts, strict=True):
            kept.note(codes[:, part], asked[:, part], weights)
        return lstm.stopped and terms.stopped

    search.train(MARGIN, epochs, 256, seed, note)
    for layer in search.models[0].layers:
        kept = terms if layer.name == "term_map" else lstm
        layer.set_weights(kept.weights[layer.name])
    search.choose_weight()
    ranks = search.ranks(pools)
    return {"hard": ranks["lstm"], "terms": ranks["terms"], "hard + terms": ranks["both"]}


def train(name: str, seed: int, search, pools: dict, valid: dict, epochs, patience) -> dict:
    """{ranks: network → pool → ranks, validation: network → what Kept tells}."""
    kept = Kept(valid, patience)
    if name == "hard":
        terms = Kept(valid, patience)
        ranks = train_hard(search, pools, kept, terms, epochs, seed)
        return {"ranks": ranks, "validation": {"hard": kept.told(), "terms": terms.told()}}
    from_front = functools.partial(to_ids, search.vocabulary)
    how = {"post": (triplet_models, from_front, 128), "random": (one_wrong_models, search.ids, 256)}
    ranks = {name: train_one_wrong(*how[name], search, pools, kept, epochs, seed)}
    return {"ranks": ranks, "validation": {name: kept.told()}}


def once(path: Path, setting: dict, compute) -> dict:
    """What compute() gives, as JSON holds it; from `path`, where it lies with this setting."""
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["setting"] == setting:
            return known
    started = time.perf_counter()
    found = compute()
    found |= {"setting": setting, "seconds": time.perf_counter() - started}
    text = json.dumps(found, default=np.ndarray.tolist)
    partial = path.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return json.loads(text)


# ---------------------------------------------------------------- what came out
def summarize(ranks: dict) -> dict:
    """Means and standard deviations over the seeds; network → [pool → ranks, for each seed]."""
    metrics = {"lead": {}}
    for name, seeds in ranks.items():
        scores = [scores_by_pool(by_pool) for by_pool in seeds]
        for key in scores[0]:
            values = [score[key] for score in scores]
            metrics[f"{short(name)}_{key}"] = float(np.mean(values))
            metrics[f"{short(name)}_{key}_sd"] = float(np.std(values))
    for ahead, behind in (pair for pair in LEADS if set(pair) <= set(ranks)):
        found = leads(by_seed(ranks[ahead]), by_seed(ranks[behind]))
        metrics["lead"][f"{short(ahead)}_over_{short(behind)}"] = found
    return metrics


def by_seed(seeds: list[dict]) -> dict:
    """[pool → ranks (n,), for each seed] → pool → ranks (seeds, n)."""
    return {pool: np.stack([ranks[pool] for ranks in seeds]) for pool in seeds[0]}


def short(name: str) -> str:
    return name.lower().replace(" + ", "_")


def plot_learning(validation: dict, bm25: dict):
    """validation: network → [what Kept tells, for each seed]."""
    figure, panels = cli.subplots(1, 2, height=3.8)
    titles = {"top1": "wrong answers found by search", "drawn_top1": "drawn at random"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        axes.axhline(bm25[key], color=COLOURS["BM25"], ls="--", label="BM25")
        for name in (name for name in NETWORKS if name in validation):
            for number, told in enumerate(validation[name]):
                values = [scores[key] for scores in told["curve"]]
                label = name if number == 0 else None
                axes.plot(values, color=COLOURS[name], lw=1, label=label)
                best = told["best"]
                axes.plot(best, values[best], "o", ms=5, color=COLOURS[name])
        axes.set(xlabel="epoch", title=title, ylim=(0, None))
    panels[0].set(ylabel="top-1, validation questions")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


# ---------------------------------------------------------------- run
def train_all(args, seeds, most: dict, *data) -> tuple:
    """(network → [pool → ranks, for each seed], network → [what Kept tells], seconds).

    most: network → passes at most.
    """
    ranks = {}
    validation = {}
    seconds = 0.0
    for seed in seeds:
        for name in args.networks:
            path = args.out_dir / f"wrong_answers_{name}_{seed}.json"
            limits = most[name], args.patience
            setting = {"epochs": limits[0], "patience": limits[1], "quick": args.quick}
            found = once(path, setting, functools.partial(train, name, seed, *data, *limits))
            seconds += found["seconds"]
            for key, lists in found["ranks"].items():
                by_pool = {pool: np.array(places) for pool, places in lists.items()}
                ranks.setdefault(key, []).append(by_pool)
                print(f"seed {seed}, {key}: top-1 {scores_by_pool(by_pool)['top1']:.3f}")
            for key, told in found["validation"].items():
                validation.setdefault(key, []).append(told)
                last = len(told["curve"]) - 1
                print(f"  {key}: best after epoch {told['best']} of {last}", flush=True)
    return ranks, validation, seconds


def main(args):
    slices = {"train": (600, 2), "valid": (100, 5), "test": (60, 20)} if args.quick else None
    most = {"post": args.epochs, "hard": args.hard_epochs, "random": args.epochs}
    seeds = args.seeds
    if args.quick:
        most = dict.fromkeys(most, 1)
        seeds = 1
    splits, answers = load_corpus("zh", args.data_dir, slices)
    search = AnswerSearch(splits, answers, "zh")
    pools = make_pools(splits["test"], splits["train"], len(answers), 0)
    rows = splits["valid"][:1000]
    valid = {"": rows, "drawn_": draw_pool(rows, len(answers), np.random.default_rng(1))}

    numbers = range(args.seed, args.seed + seeds)
    ranks, validation, seconds = train_all(args, numbers, most, search, pools, valid)
    ranks["BM25"] = [ranks_by_bm25(pools, answers, "zh")]
    metrics = {
        "backend": keras.backend.backend(),
        "seeds": seeds,
        "training_minutes": seconds / 60,
        "train_questions": len(splits["train"]),
        "test_questions": len(splits["test"]),
        **summarize(ranks),
        "validation": validation,
    }
    for name, told in validation.items():
        metrics[f"{short(name)}_best_epoch"] = float(np.mean([each["best"] for each in told]))
    for pair, found in metrics["lead"].items():
        for key, (ahead, low, high) in found.items():
            print(f"{pair}, {key}: {ahead:+.3f} (99 % interval {low:+.3f} … {high:+.3f})")
    learning = plot_learning(validation, scores_by_pool(ranks_by_bm25(valid, answers, "zh")))
    return metrics, [], {"wrong_answers_learning": learning}


if __name__ == "__main__":
    cli.run(main, flags)
