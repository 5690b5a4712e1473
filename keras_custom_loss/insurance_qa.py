"""InsuranceQA for triplet_loss.py: questions, answers, tokens, and the ranking baseline that needs no training.

Data: the package insuranceqa_data 1.1 (Chinese translation and English original), found by data/download.py.
      12,889 questions to train and 2,000 to test, 27,413 answers, 200 wrong answers chosen as hard for each question.
"""
import gzip
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # noqa: E402
import numpy as np  # noqa: E402
from sklearn.feature_extraction.text import CountVectorizer  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch  # noqa: E402


def load_corpus(language: str, data_dir: Path | None = None, slices: dict | None = None) -> tuple:
    """({split: [(question, right ids, wrong ids)]}, answers): ids are places in `answers`. Questions are told apart by
    their text: rows with the same one become one row, and a test row that was already trained on is dropped.

    slices: {split: (questions, wrong answers of each)} keeps the first of each, and only the answers they name."""
    files = {name: json.loads(gzip.decompress(fetch(f"insuranceqa-{name}", data_dir).read_bytes()))
             for name in ("train", "valid", "test", "answers")}
    seen, splits = set(), {}
    for name in ("train", "valid", "test"):
        rows = {}
        for row in files[name].values():
            if row[language] not in seen:
                right, wrong = rows.setdefault(row[language], (set(), row["negatives"]))
                right.update(row["answers"])
        seen |= set(rows)
        questions, wrongs = (slices or {}).get(name, (None, None))
        splits[name] = [(text, sorted(right, key=int), [key for key in wrong[:wrongs] if key not in right])
                        for text, (right, wrong) in list(rows.items())[:questions]]
    used = {key for rows in splits.values() for _, right, wrong in rows for key in (*right, *wrong)}
    kept = [key for key in files["answers"] if slices is None or key in used]
    place = {key: number for number, key in enumerate(kept)}
    splits = {name: [(text, [place[key] for key in right], [place[key] for key in wrong])
                     for text, right, wrong in rows]
              for name, rows in splits.items()}
    return splits, [files["answers"][key][language] for key in kept]


def tokenize(text: str, language: str, pairs: set) -> list:
    """English: lower-case words. Chinese: from the left, two characters where they are a known pair, else one."""
    if language == "en":
        return re.findall(r"[a-z0-9']+", text.lower())
    tokens, start = [], 0
    while start < len(text):
        width = 2 if text[start:start + 2] in pairs else 1
        tokens.append(text[start:start + width])
        start += width
    return tokens


def frequent_pairs(texts: list, size: int) -> set:
    """The most frequent pairs of neighbouring characters."""
    counts = Counter()
    for text in texts:
        counts.update(map("".join, zip(text, text[1:])))
    return {pair for pair, _ in counts.most_common(size)}


def to_ids(texts: list, vocabulary: dict, pairs: set, language: str, length: int) -> np.ndarray:
    """(n, length) int32; 0 fills the end, unknown tokens are left out."""
    ids = np.zeros((len(texts), length), "int32")
    for row, text in zip(ids, texts):
        known = [vocabulary[token] for token in tokenize(text[:12 * length], language, pairs) if token in vocabulary]
        row[:min(len(known), length)] = known[:length]
    return ids


def make_ids(questions: list, answers: list, language: str, size: int, lengths: tuple) -> tuple:
    """(function from texts and a length to ids, answer ids): the vocabulary is the `size` − 1 most frequent tokens."""
    texts = questions + [answer[:12 * lengths[1]] for answer in answers]
    pairs = frequent_pairs(texts, size * 2 // 3) if language == "zh" else set()
    counts = Counter(token for text in texts for token in tokenize(text, language, pairs))
    vocabulary = {token: number for number, (token, _) in enumerate(counts.most_common(size - 1), start=1)}

    def encode(texts: list, length: int) -> np.ndarray:
        return to_ids(texts, vocabulary, pairs, language, length)
    return encode, encode(answers, lengths[1])



class Triplets(keras.utils.PyDataset):
    """Batches of (inputs, dummy y), drawn anew every epoch: question, right answer and one random wrong answer; with
    `hard` question, right answer, the id of that answer and the ids of all right answers (the wrong ones are those of
    the other rows)."""

    def __init__(self, rows: list, question_ids, answer_ids, batch_size: int, hard: bool, seed: int):
        super().__init__()
        self.rows, self.question_ids, self.answer_ids = rows, question_ids, answer_ids
        self.batch_size, self.hard, self.generator = min(batch_size, len(rows)), hard, np.random.default_rng(seed)
        self.all_right = np.full((len(rows), max(len(right) for _, right, _ in rows)), -1, "int32")
        for row, (_, right, _) in zip(self.all_right, rows):
            row[:len(right)] = right
        self.on_epoch_end()

    def on_epoch_end(self):
        self.order = self.generator.permutation(len(self.rows))

    def __len__(self):
        return len(self.rows) // self.batch_size

    def __getitem__(self, number):
        chosen = self.order[number * self.batch_size:(number + 1) * self.batch_size]
        right = np.array([self.generator.choice(self.rows[i][1]) for i in chosen])
        dummy = np.zeros((len(chosen), 1), "float32")  # never looked at
        inputs = self.question_ids[chosen], self.answer_ids[right]
        if self.hard:
            return (*inputs, right[:, None].astype("int32"), self.all_right[chosen]), dummy
        wrong = self.generator.integers(len(self.answer_ids), size=len(chosen))
        return (*inputs, self.answer_ids[wrong]), dummy


def bm25(questions: list, answers: list, language: str, k1: float = 1.5, b: float = 0.75) -> tuple:
    """(question counts, answer weights): sparse rows whose dot product is the BM25 score (Robertson et al. 1994), over
    pairs of characters in Chinese and words in English."""
    options = {"analyzer": "char", "ngram_range": (2, 2)} if language == "zh" else {}
    vectorizer = CountVectorizer(**options)
    counts = vectorizer.fit_transform(answers).astype("float64")
    length = np.asarray(counts.sum(1)).ravel()
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    inverse = np.log(1 + (len(answers) - frequency + 0.5) / (frequency + 0.5))
    saturation = k1 * (1 - b + b * length / length.mean())
    counts.data = (inverse[counts.indices] * counts.data * (k1 + 1)
                   / (counts.data + np.repeat(saturation, np.diff(counts.indptr))))
    return vectorizer.transform(questions).astype("float64"), counts


def rank_scores(rows: list, score) -> dict:
    """Top-1 and mean reciprocal rank of the best right answer among the given wrong ones; a tie counts as lost.
    score(i, ids) → array: how well the answers fit question i."""
    ranks = np.array([1 + np.sum(score(i, wrong) >= score(i, right).max()) for i, (_, right, wrong) in enumerate(rows)])
    return {"top1": float((ranks == 1).mean()), "mrr": float((1 / ranks).mean())}
