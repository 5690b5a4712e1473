"""Which answer does a question get? Scores and pools, BM25, and the trained network that searches.

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493 (the use of its second loss)
Used by: train.py, answer.py, experiments/triplet.py and wrong_answers.py

A code may hold two unit vectors: what the LSTM says of a text, then its terms.
"""

import functools

import bm25s
import keras
import numpy as np
from scipy.stats import bootstrap
from sklearn.feature_extraction.text import CountVectorizer

from insurance_qa import (
    ANSWER_LENGTH,
    QUESTION_LENGTH,
    VOCABULARY_SIZE,
    HardTriplets,
    Vocabulary,
    make_term_codes,
)
from keras_tools import encoded
from losses import unit
from triplet_models import ENCODE_SIZE, TERM_SIZE, batch_models


# ---------------------------------------------------------------- codes
def normalized(codes: np.ndarray) -> np.ndarray:
    return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)


def blended(codes: np.ndarray, split: int, weight: float) -> np.ndarray:
    """Codes whose dot product is (cos of the first `split` numbers + weight · cos of the rest)
    / (1 + weight)."""
    parts = [codes[:, :split], np.sqrt(weight) * codes[:, split:]]
    return np.concatenate(parts, axis=1) / np.sqrt(1 + weight)


def best_weight(rows: list, codes: np.ndarray, asked: np.ndarray, split: int) -> float:
    """The weight of the term part with the highest mean reciprocal rank on these rows, which are
    not those of the test."""

    def mean_rank(weight):
        def score(i, places):
            lstm = codes[places, :split] @ asked[i, :split]
            return lstm + weight * (codes[places, split:] @ asked[i, split:])

        return rank_scores(rows, score)["mrr"]

    return max((0.5, 1.0, 2.0, 4.0, 8.0), key=mean_rank)


# ---------------------------------------------------------------- scores
def bm25_scores(questions: list, answers: list, language: str) -> np.ndarray:
    """(questions, answers) float32: BM25 (Robertson et al. 1994) with k₁ = 1.5, b = 0.75 and
    Lucene's idf, over pairs of characters in Chinese and words in English."""
    options = {"analyzer": "char", "ngram_range": (2, 2)} if language == "zh" else {}
    terms = CountVectorizer(**options).build_analyzer()
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index([terms(answer) for answer in answers], show_progress=False)
    return np.stack([index.get_scores(terms(question)) for question in questions])


def best_ranks(rows: list, score) -> np.ndarray:
    """Rank of each question's best right answer among its wrong ones, 1 if it is before them all;
    a tie counts as lost. score(i, ids) → array: how well the answers fit question i."""
    ranks = []
    for i, (_, right, wrong) in enumerate(rows):
        best = score(i, right).max()
        ranks.append(1 + np.sum(score(i, wrong) >= best))
    return np.array(ranks)


MEASURES = {"top1": lambda ranks: ranks == 1, "mrr": lambda ranks: 1 / ranks}


def averages(ranks: np.ndarray) -> dict:
    """Top-1 and mean reciprocal rank."""
    return {key: float(measure(ranks).mean()) for key, measure in MEASURES.items()}


def rank_scores(rows: list, score) -> dict:
    """Top-1 and mean reciprocal rank; score as of best_ranks."""
    return averages(best_ranks(rows, score))


def lead(ranks: np.ndarray, others: np.ndarray, confidence: float = 0.99) -> dict:
    """By how much `ranks` are better than `others`: measure → [mean difference, low, high].

    Both are ranks of the same questions, (n,), or (seeds, n), of which the mean over the seeds
    counts. The interval is of a bootstrap over questions, and paired: a question that is hard for
    one is mostly hard for the other.
    """
    found = {}
    for key, measure in MEASURES.items():
        ours, theirs = (np.atleast_2d(measure(each)).mean(axis=0) for each in (ranks, others))
        drawn = bootstrap(
            (ours, theirs),
            mean_difference,
            paired=True,
            confidence_level=confidence,
            method="percentile",
            batch=500,
            random_state=np.random.default_rng(0),
        )
        difference = mean_difference(ours, theirs, axis=0)
        found[key] = [float(x) for x in (difference, *drawn.confidence_interval)]
    return found


def leads(ranks: dict, others: dict) -> dict:
    """`lead` in every pool; both are pool → ranks: {pool and measure: [mean difference, …]}."""
    return {
        f"{pool}{key}": values
        for pool in ranks
        for key, values in lead(ranks[pool], others[pool]).items()
    }


def mean_difference(ours: np.ndarray, theirs: np.ndarray, axis: int):
    return np.mean(ours - theirs, axis=axis)


def chance_top1(rows: list) -> float:
    """Top-1 of a guess: the mean share of right answers among the candidates."""
    return float(np.mean([len(right) / (len(right) + len(wrong)) for _, right, wrong in rows]))


def draw_pool(rows: list, answers: int, generator) -> list:
    """The same questions before 200 wrong answers drawn at random from all."""
    drawn = []
    for text, right, _ in rows:
        wrong = set(generator.integers(answers, size=200).tolist()) - set(right)
        drawn.append((text, right, sorted(wrong)))
    return drawn


def make_pools(rows: list, train_rows: list, answers: int, seed: int) -> dict:
    """The same questions before three pools of wrong answers.

    "": those given, which a search engine found. "unseen_": of these, the ones that are right for
    no training question. "drawn_": 200 drawn at random from all answers.
    """
    known = {place for _, right, _ in train_rows for place in right}
    unseen = [
        (text, right, [place for place in wrong if place not in known])
        for text, right, wrong in rows
    ]
    drawn = draw_pool(rows, answers, np.random.default_rng(seed))
    return {"": rows, "unseen_": unseen, "drawn_": drawn}


def ranks_by_codes(pools: dict, codes: np.ndarray, asked: np.ndarray) -> dict:
    """pool → ranks by the dot products of the answers' codes with those of the questions."""
    return {
        pool: best_ranks(rows, lambda i, places: codes[places] @ asked[i])
        for pool, rows in pools.items()
    }


def ranks_by_bm25(pools: dict, answers: list, language: str) -> dict:
    """pool → ranks."""
    scores = bm25_scores([row[0] for row in pools[""]], answers, language)
    return {
        pool: best_ranks(rows, lambda i, places: scores[i, places]) for pool, rows in pools.items()
    }


def scores_by_pool(ranks: dict) -> dict:
    """pool → ranks: as {pool and measure: mean}."""
    parts = {pool: averages(found) for pool, found in ranks.items()}
    return {f"{pool}{key}": value for pool, part in parts.items() for key, value in part.items()}


def find_answers(code: np.ndarray, codes: np.ndarray, answers: list, top: int = 3) -> list:
    """The nearest answers, best first, as [(cosine, text)]. code: of the question; zeros where no
    word of it is known, which raises ValueError."""
    cosines = codes @ code
    if not cosines.any():
        raise ValueError("no word of the question is in the vocabulary")
    best = np.argsort(-cosines)[:top]
    return [(float(cosines[i]), answers[i].strip()) for i in best]


# ---------------------------------------------------------------- the trained network
class AnswerSearch:
    """Answers to questions by codes of two parts, what the LSTM says of a text and its terms.

    splits, answers: as of real_data.load_corpus. `train`, or `restore` what `state` gave, before
    `question_codes` and `kept_codes`. `weight` is that of the term part.
    """

    def __init__(
        self,
        splits: dict,
        answers: list,
        language: str,
        term_size: int = TERM_SIZE,
        vocabulary_size: int = VOCABULARY_SIZE,
    ):
        questions = [row[0] for row in splits["train"]]
        self.splits = splits
        self.answers = answers
        self.term_size = term_size
        self.vocabulary_size = vocabulary_size
        self.vocabulary = Vocabulary(questions, answers, language, vocabulary_size)
        self.ids = self.vocabulary.ids
        self.terms, self.answer_terms = make_term_codes(answers, language, term_size)
        self.weight = 1.0

    @functools.cached_property
    def answer_ids(self) -> np.ndarray:
        return self.ids(self.answers, ANSWER_LENGTH)

    def question_inputs(self, questions: list) -> list:
        return [self.ids(questions, QUESTION_LENGTH), self.terms(questions)]

    def build(self, margin: float, right_width: int = 1, wrongs: int = 8) -> None:
        self.models = batch_models(
            margin,
            right_width,
            vocabulary_size=self.vocabulary_size,
            wrongs=wrongs,
            term_size=self.term_size,
        )

    def train(self, margin: float, epochs: int, batch_size: int, seed: int, before_epoch) -> None:
        """Train on splits["train"], then choose the weight on splits["valid"].

        before_epoch(models, history): called before each epoch and after the last, history with
        the loss of the epoch before, None at first. Where it returns True, that is the last.
        """
        keras.utils.set_random_seed(seed)
        rows = self.splits["train"]
        ids, terms = self.question_inputs([row[0] for row in rows])
        batches = HardTriplets(
            rows,
            ids,
            self.answer_ids,
            batch_size,
            seed,
            question_terms=terms,
            answer_terms=self.answer_terms,
        )
        self.build(margin, batches.all_right.shape[1], batches.wrongs)
        before_epoch(self.models, None)
        for _ in range(epochs):
            if before_epoch(self.models, self.models[0].fit(batches, verbose=0).history):
                break
        self.choose_weight()

    def choose_weight(self) -> None:
        """Of the term part, on splits["valid"]. What the LSTM says of the answers is kept."""
        rows = self.splits["valid"][:500]
        asked = self.question_codes([row[0] for row in rows])
        codes = self.answer_codes()
        self.weight = best_weight(rows, codes, asked, ENCODE_SIZE)
        self.answer_lstm = codes[:, :ENCODE_SIZE].copy()

    def question_codes(self, questions: list) -> np.ndarray:
        """(n, 64 + terms); zeros for a text without a known word."""
        ids, terms = self.question_inputs(questions)
        known = ids.any(axis=1, keepdims=True) | terms.any(axis=1, keepdims=True)
        return known * encoded(self.models[1], ids, terms)

    def answer_codes(self) -> np.ndarray:
        return encoded(self.models[2], self.answer_ids, self.answer_terms)

    def kept_codes(self) -> np.ndarray:
        """`answer_codes` of the finished network, without running its LSTM again."""
        terms = encoded(keras.layers.Lambda(unit), self.answer_terms)
        return np.concatenate([self.answer_lstm, terms], axis=1)

    def ranks(self, pools: dict) -> dict:
        """lstm, terms (one part of the codes alone) and both → pool → ranks."""
        codes = self.kept_codes()
        asked = self.question_codes([row[0] for row in pools[""]])
        lstm = slice(ENCODE_SIZE)
        terms = slice(ENCODE_SIZE, None)
        return {
            "lstm": ranks_by_codes(pools, codes[:, lstm], asked[:, lstm]),
            "terms": ranks_by_codes(pools, codes[:, terms], asked[:, terms]),
            "both": ranks_by_codes(pools, self.blend(codes), self.blend(asked)),
        }

    def blend(self, codes: np.ndarray) -> np.ndarray:
        """Codes whose dot products are the mean of both parts' cosines, by weight."""
        return blended(codes, ENCODE_SIZE, self.weight)

    def state(self) -> dict:
        """Arrays by name, from which `restore` has the trained network and its codes again."""
        weights = {f"w{i}": w for i, w in enumerate(self.models[0].get_weights())}
        return {"weight": np.array(self.weight), "answer_lstm": self.answer_lstm, **weights}

    def restore(self, state: dict) -> None:
        """Raises ValueError for weights of another size, or codes of other answers."""
        self.build(margin=0.1)
        codes = state["answer_lstm"]
        weights = [state[f"w{i}"] for i in range(len(state) - 2)]
        own = [weight.shape for weight in self.models[0].get_weights()]
        if [weight.shape for weight in weights] != own:
            raise ValueError(f"weights of another size than {self.term_size} terms")
        if codes.shape != (len(self.answers), ENCODE_SIZE):
            raise ValueError(f"codes of others than these {len(self.answers)} answers")
        self.models[0].set_weights(weights)
        self.weight = float(state["weight"])
        self.answer_lstm = codes
