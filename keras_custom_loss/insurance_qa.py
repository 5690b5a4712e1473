"""InsuranceQA for triplet_loss.py: questions, answers, tokens, term codes, batches, and BM25, which needs no training.

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
from scipy.sparse import csr_matrix  # noqa: E402
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


def make_term_codes(answers: list, language: str, size: int) -> tuple:
    """(function from texts to term codes, those of the answers): (n, size) float32, rows of length 1 (or 0).

    A bag of terms in `size` numbers: pairs of characters in Chinese, words and pairs of words in English. A term weighs
    √idf (its cosine partner brings the other √) times its saturated count, and is added to two places drawn once, with
    signs (count sketch, Charikar et al. 2002): the dot product of two codes is a TF-IDF cosine with noise 1/√size."""
    options = {"analyzer": "char", "ngram_range": (2, 2)} if language == "zh" else {"ngram_range": (1, 2)}
    vectorizer, generator = CountVectorizer(min_df=2, **options), np.random.default_rng(0)
    counts = vectorizer.fit_transform(answers).astype("float32")
    terms = counts.shape[1]
    frequency = np.bincount(counts.indices, minlength=terms)
    root = np.sqrt(np.log(1 + (len(answers) - frequency + 0.5) / (frequency + 0.5))).astype("float32")
    signs, columns = generator.choice([-1, 1], 2 * terms).astype("float32"), generator.integers(size, size=2 * terms)
    places = csr_matrix((signs, columns, np.arange(0, 2 * terms + 1, 2)), shape=(terms, size))

    def encode(counts) -> np.ndarray:
        counts.data = root[counts.indices] * counts.data / (counts.data + 1.5)
        codes = (counts @ places).toarray()
        return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-9)
    return lambda texts: encode(vectorizer.transform(texts).astype("float32")), encode(counts)


class Triplets(keras.utils.PyDataset):
    """Batches of (inputs, dummy y), drawn anew every epoch: question, right answer and one random wrong answer; with
    `term_codes` (of questions, of answers) the inputs are question, right answer, the id of that answer, the ids of all
    right answers (the wrong ones are those of the other rows; half the rows are chosen to be hard for the other half),
    and the term codes of question, right answer and `wrongs` of the wrong answers given for the question:
    (N, size), (N, size), (N, wrongs, size)."""

    def __init__(self, rows: list, question_ids, answer_ids, batch_size: int, seed: int, term_codes=None,
                 wrongs: int = 8):
        super().__init__()
        self.rows, self.question_ids, self.answer_ids = rows, question_ids, answer_ids
        self.batch_size, self.generator = min(batch_size, len(rows)), np.random.default_rng(seed)
        self.term_codes, self.wrongs = term_codes, wrongs
        self.all_right = np.full((len(rows), max(len(right) for _, right, _ in rows)), -1, "int32")
        for row, (_, right, _) in zip(self.all_right, rows):
            row[:len(right)] = right
        self.owner = {place: number for number, (_, right, _) in enumerate(rows) for place in right}
        self.on_epoch_end()

    def on_epoch_end(self):
        self.order = self.generator.permutation(len(self.rows))

    def __len__(self):
        return len(self.rows) // self.batch_size

    def __getitem__(self, number):
        chosen = self.order[number * self.batch_size:(number + 1) * self.batch_size].copy()
        right = np.array([self.generator.choice(self.rows[i][1]) for i in chosen])
        if self.term_codes is not None:  # the second half: questions to which the wrong answers of the first are right
            half = len(chosen) // 2
            for k, i in enumerate(chosen[:half]):
                owned = [place for place in self.generator.permutation(self.rows[i][2])[:8] if place in self.owner]
                if owned:
                    chosen[half + k], right[half + k] = self.owner[owned[0]], owned[0]
        dummy = np.zeros((len(chosen), 1), "float32")  # never looked at
        inputs = self.question_ids[chosen], self.answer_ids[right]
        if self.term_codes is not None:
            given = np.array([self.generator.choice(self.rows[i][2] or len(self.answer_ids), self.wrongs)
                              for i in chosen])
            questions, answers = self.term_codes
            return (*inputs, right[:, None].astype("int32"), self.all_right[chosen], questions[chosen],
                    answers[right], answers[given]), dummy
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
