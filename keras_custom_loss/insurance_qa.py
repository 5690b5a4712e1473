"""Questions and answers as numbers: tokens, ids for an Embedding, term codes, batches of triplets.

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493 (its second loss)
Used by: train.py, experiments/triplet.py, answer.py
"""

import re
from collections import Counter

import keras
import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

VOCABULARY_SIZE = 10000  # the post's
QUESTION_LENGTH, ANSWER_LENGTH = 12, 48  # tokens kept; a Chinese token is one or two characters


# ---------------------------------------------------------------- texts → ids
def tokenize(text: str, language: str, pairs: set) -> list:
    """English: lower-case words. Chinese: from the left, two characters where they are a known
    pair, else one."""
    if language == "en":
        return re.findall(r"[a-z0-9']+", text.lower())
    tokens = []
    start = 0
    while start < len(text):
        width = 2 if text[start : start + 2] in pairs else 1
        tokens.append(text[start : start + width])
        start += width
    return tokens


def frequent_pairs(texts: list, size: int) -> set:
    """The most frequent pairs of neighbouring characters."""
    counts = Counter()
    for text in texts:
        counts.update(map("".join, zip(text, text[1:], strict=False)))
    return {pair for pair, _ in counts.most_common(size)}


def beginning(text: str, length: int) -> str:
    """More than enough characters for `length` tokens: the rest of a long answer is not read."""
    return text[: 12 * length]


class Vocabulary:
    """The `size` − 1 most frequent tokens of questions and answers, numbered from 1."""

    def __init__(self, questions: list, answers: list, language: str, size: int = VOCABULARY_SIZE):
        texts = questions + [beginning(answer, ANSWER_LENGTH) for answer in answers]
        self.language = language
        self.pairs = frequent_pairs(texts, size * 2 // 3) if language == "zh" else set()
        counts = Counter(token for text in texts for token in self.tokens(text))
        frequent = counts.most_common(size - 1)
        self.number = {token: number for number, (token, _) in enumerate(frequent, start=1)}

    def tokens(self, text: str) -> list:
        return tokenize(text, self.language, self.pairs)

    def ids(self, texts: list, length: int) -> np.ndarray:
        """(n, length) int32: 0 fills the end, unknown tokens are left out."""
        ids = np.zeros((len(texts), length), "int32")
        for row, text in zip(ids, texts, strict=True):
            tokens = self.tokens(beginning(text, length))
            known = [self.number[token] for token in tokens if token in self.number]
            row[: min(len(known), length)] = known[:length]
        return ids

    def known_part(self, text: str) -> float:
        """Share of a text's tokens that are known; 0 for a text without any."""
        tokens = self.tokens(text)
        return sum(token in self.number for token in tokens) / max(1, len(tokens))


# ---------------------------------------------------------------- texts → term codes
def make_term_codes(answers: list, language: str, size: int) -> tuple:
    """(function from texts to term codes, those of the answers): (n, size) float32, rows of
    length 1, or of zeros for a text without a known term.

    A bag of terms in `size` numbers: pairs of characters in Chinese, words and pairs of words in
    English. A term weighs √idf (its cosine partner brings the other √) times its saturated count,
    and is added to two places drawn once, with signs (count sketch, Charikar et al. 2002): the dot
    product of two codes is a TF-IDF cosine with noise 1/√size.
    """
    vectorizer = CountVectorizer(min_df=2, **term_options(language))
    generator = np.random.default_rng(0)
    counts = vectorizer.fit_transform(answers).astype("float32")
    terms = counts.shape[1]
    frequency = np.bincount(counts.indices, minlength=terms)
    idf = np.log(1 + (len(answers) - frequency + 0.5) / (frequency + 0.5))
    root = np.sqrt(idf).astype("float32")
    signs = generator.choice([-1, 1], 2 * terms).astype("float32")
    columns = generator.integers(size, size=2 * terms)
    ends = np.arange(0, 2 * terms + 1, 2)
    places = csr_matrix((signs, columns, ends), shape=(terms, size))

    def sketch(counts) -> np.ndarray:
        counts.data = root[counts.indices] * counts.data / (counts.data + 1.5)
        codes = (counts @ places).toarray()
        return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-9)

    def encode(texts: list) -> np.ndarray:
        return sketch(vectorizer.transform(texts).astype("float32"))

    return encode, sketch(counts)


def term_options(language: str) -> dict:
    if language == "zh":
        return {"analyzer": "char", "ngram_range": (2, 2)}
    return {"ngram_range": (1, 2)}


# ---------------------------------------------------------------- batches
class Triplets(keras.utils.PyDataset):
    """The post's batches: ([question, right answer, one random wrong answer], dummy target).

    rows: [(question, right ids, wrong ids)]. question_ids: (n, length). answer_ids: (all answers,
    length). A right answer, a wrong one and the order are drawn anew in every epoch.
    """

    def __init__(self, rows: list, question_ids, answer_ids, batch_size: int, seed: int):
        super().__init__()
        self.rows = rows
        self.question_ids = question_ids
        self.answer_ids = answer_ids
        self.batch_size = min(batch_size, len(rows))
        self.generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self):
        self.order = self.generator.permutation(len(self.rows))

    def __len__(self):
        return len(self.rows) // self.batch_size

    def draw(self, number: int) -> tuple:
        """(places of a batch's questions, a right answer of each)."""
        start = number * self.batch_size
        chosen = self.order[start : start + self.batch_size].copy()
        return chosen, np.array([self.generator.choice(self.rows[i][1]) for i in chosen])

    def __getitem__(self, number):
        chosen, right = self.draw(number)
        wrong = self.generator.integers(len(self.answer_ids), size=len(chosen))
        dummy = np.zeros((len(chosen), 1), "float32")  # never looked at
        return (self.question_ids[chosen], self.answer_ids[right], self.answer_ids[wrong]), dummy


class HardTriplets(Triplets):
    """Our batches, whose questions are wrong answers to each other.

    The second half are questions to which wrong answers of the first half are right. Inputs:
    question, right answer, the id of that answer (N, 1), the ids of all right answers (N, R), and
    term codes of question, right answer and `wrongs` of the wrong answers that a search engine
    found for the question: (N, size), (N, size), (N, wrongs, size).
    """

    def __init__(self, *arguments, question_terms, answer_terms, wrongs: int = 8):
        super().__init__(*arguments)
        self.question_terms = question_terms
        self.answer_terms = answer_terms
        self.wrongs = wrongs
        most = max(len(right) for _, right, _ in self.rows)
        self.all_right = np.full((len(self.rows), most), -1, "int32")
        self.owner = {}
        for number, (_, right, _) in enumerate(self.rows):
            self.all_right[number, : len(right)] = right
            self.owner.update(dict.fromkeys(right, number))

    def pair_up(self, chosen: np.ndarray, right: np.ndarray) -> None:
        """Put a question's wrong answer, with the question that it answers, into the batch."""
        half = len(chosen) // 2
        for k, i in enumerate(chosen[:half]):
            drawn = self.generator.permutation(self.rows[i][2])[:8]
            owned = [place for place in drawn if place in self.owner]
            if owned:
                chosen[half + k] = self.owner[owned[0]]
                right[half + k] = owned[0]

    def __getitem__(self, number):
        chosen, right = self.draw(number)
        self.pair_up(chosen, right)
        everything = len(self.answer_ids)
        found = [self.rows[i][2] or everything for i in chosen]
        wrong = np.array([self.generator.choice(places, self.wrongs) for places in found])
        ids = self.question_ids[chosen], self.answer_ids[right]
        names = right[:, None].astype("int32"), self.all_right[chosen]
        terms = self.question_terms[chosen], self.answer_terms[right], self.answer_terms[wrong]
        return (*ids, *names, *terms), np.zeros((len(chosen), 1), "float32")
