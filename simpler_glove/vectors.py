"""The article's questions to word vectors: relatedness, similarity, analogy, keywords, sentences.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Symbols: v_i → vectors[i]   PMI(w_i, w_j) = ⟨v_i, v_j⟩ (eq. 15)   VᵀV = UUᵀ → context_factor
         (eq. 36–39)   ‖v_w‖² ~ −log P(w) → importance (eq. 26)   ⟨Σ v_i, v_w⟩ → keywords (eq. 43)
Differs from the article: the words of a question are left out of its answers; his
sentence_similarity could only crash.
"""

import difflib
import re

import numpy as np
import scipy


class WordVectors:
    """words (n,) most frequent first, vectors float32 (n, d), counts int64 (n,) or None.

    A word that stands twice means its first row.
    """

    def __init__(self, words, vectors, counts=None, config=None):
        self.words = np.array(list(words), dtype=object)
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self.counts = counts
        self.config = config or {}
        self.index = {}
        for row, word in enumerate(self.words):
            self.index.setdefault(word, row)
        self.norms = np.sqrt(np.einsum("ij,ij->i", self.vectors, self.vectors))
        self.inverse_norms = 1 / np.maximum(self.norms, 1e-12)
        self._projections = {}
        self._any_case = None  # word in lower case → row, made when first asked for
        self._most_parts = None  # of a known word at its blanks

    # ------------------------------------------------------------ words
    def find(self, word: str) -> int | None:
        """The row of a word as it is written, else of the first that differs in case alone."""
        if word in self.index:
            return self.index[word]
        if self._any_case is None:
            self._any_case = {}
            for row, known in enumerate(self.words):
                self._any_case.setdefault(known.lower(), row)
        return self._any_case.get(word.lower())

    def row(self, word: str) -> int:
        """As find; ValueError with near spellings when the word is not there."""
        row = self.find(word)
        if row is None:
            near = self.suggest(word)
            near = f"; near spellings: {' '.join(near)}" if near else ""
            raise ValueError(f"{word}: not among the {len(self.words):,} words{near}")
        return row

    def rows(self, tokens: list[str]) -> list[int]:
        """The rows of the known ones among tokens."""
        found = map(self.find, tokens)
        return [row for row in found if row is not None]

    def split(self, text: str) -> list[str]:
        """The words of a text at its blanks, the longest known ones first: a word may hold one."""
        if text in self.index:
            return [text]
        if self._most_parts is None:
            self._most_parts = max((len(known.split()) for known in self.index), default=1)
        parts = re.split(r"(\s+)", text.strip())  # word, blank, word, blank, … word
        words = []
        first = 0
        while first < len(parts):
            longest = first + 2 * max(self._most_parts, 1) - 1
            for last in range(min(len(parts), longest), first, -2):
                word = "".join(parts[first:last])
                if last == first + 1 or self.find(word) is not None:
                    break
            words.append(word)
            first = last + 1
        return [word for word in words if word]

    def suggest(self, word: str, top: int = 5) -> list[str]:
        """Known words of near spelling; frequent ones first among equals."""
        letters = set(word.lower())

        def is_near(known):
            common = len(letters & set(known.lower()))
            shorter = min(len(letters), len(known))
            return abs(len(known) - len(word)) <= 2 and 2 * common >= shorter

        def likeness(known):
            return difflib.SequenceMatcher(None, word.lower(), known.lower()).ratio()

        return sorted(filter(is_near, self.index), key=likeness, reverse=True)[:top]

    # ------------------------------------------------------------ one word
    def related(self, word: str, top: int = 10, cosine: bool = False) -> list[tuple[str, float]]:
        """相关词: largest PMI = ⟨v_i, v_j⟩ (eq. 15), or largest cosine (eq. 30)."""
        row = self.row(word)
        return self.nearest(self.vectors[row], top, cosine, [row])

    def similar(
        self, word: str, top: int = 10, context_words: int = 10_000
    ) -> list[tuple[str, float]]:
        """相似词: largest Pearson correlation of PMI profiles over N frequent words (eq. 31–39)."""
        row = self.row(word)
        projected = self.projection(context_words)
        if len(self.words) > 1 and not projected[row].any():
            raise ValueError(f"{word}: its PMI profile is constant, and like every other or none")
        return self._best(projected @ projected[row], top, [row])

    def analogy(
        self, a: str, b: str, c: str, top: int = 10, leave_out: bool = True
    ) -> list[tuple[str, float]]:
        """A + B − C by cosine; the article's own lists keep the three words (leave_out=False)."""
        rows = [self.row(word) for word in (a, b, c)]
        query = self.vectors[rows[0]] + self.vectors[rows[1]] - self.vectors[rows[2]]
        return self.nearest(query, top, True, rows if leave_out else ())

    def importance(self, word: str) -> dict:
        """‖v‖² (~ −log P, eq. 26), its rank from the smallest norm, and −log P where known."""
        row = self.row(word)
        rank = int((self.norms < self.norms[row]).sum()) + 1
        answer = {"norm2": float(self.norms[row] ** 2), "rank": rank}
        if self.counts is not None:
            answer["minus_log_p"] = float(np.log(self.counts.sum() / self.counts[row]))
        return answer

    # ------------------------------------------------------------ sentences
    def sentence_vector(self, tokens: list[str]) -> np.ndarray:
        """Σ v_i over the known words (eq. 43), float32 (d,); zeros when none is known."""
        return self.vectors[self.rows(tokens)].sum(axis=0)

    def keywords(
        self, tokens: list[str], top: int = 10, cosine: bool = False
    ) -> list[tuple[str, float]]:
        """Words of the sentence by log R(sentence, w) = ⟨Σ v_i, v_w⟩ (eq. 40–43).

        Σ counts repetitions, as the author's does; each word is named once.
        """
        sentence = self.sentence_vector(tokens)
        rows = list(dict.fromkeys(self.rows(tokens)))
        scores = self.vectors[rows] @ sentence
        if cosine:
            scores = scores * self.inverse_norms[rows] / max(float(np.linalg.norm(sentence)), 1e-12)
        order = np.argsort(-scores, kind="stable")[:top]
        return [(str(self.words[rows[place]]), float(scores[place])) for place in order]

    def sentence_similarity(
        self, first: list[str], second: list[str], cosine: bool = True
    ) -> float:
        """⟨Σ v, Σ v⟩ of two sentences, or its cosine (eq. 44–46).

        ValueError for a sentence without a known word: it has no vector, and 0 would be an answer.
        """
        for tokens in (first, second):
            if not self.rows(tokens):
                raise ValueError(f"{' '.join(tokens)}: no word of it is among those known")
        x, y = self.sentence_vector(first), self.sentence_vector(second)
        if not (x.any() and y.any()):
            raise ValueError("the vector of a sentence is zero: as near to every other")
        scale = float(np.linalg.norm(x) * np.linalg.norm(y)) if cosine else 1.0
        return float(x @ y) / scale

    # ------------------------------------------------------------ how they are found
    def nearest(
        self, query: np.ndarray, top: int = 10, cosine: bool = True, leave_out=()
    ) -> list[tuple[str, float]]:
        """The top words by inner product (= PMI) or cosine with one query vector (d,)."""
        if not np.any(query):
            raise ValueError("the vector asked about is zero: as near to every word")
        scores = self.vectors @ np.asarray(query, np.float32)
        if cosine:
            scores *= self.inverse_norms / max(float(np.linalg.norm(query)), 1e-12)
        return self._best(scores, top, leave_out)

    def projection(self, context_words: int) -> np.ndarray:
        """Unit rows of vectors · U, float32 (n, d): their inner products are Pearson's (eq. 39)."""
        context_words = min(context_words, len(self.words))
        if context_words not in self._projections:
            factor = context_factor(self.vectors[:context_words]).astype(np.float32)
            projected = self.vectors @ factor
            projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
            self._projections = {context_words: projected}  # one kept: as large as the vectors
        return self._projections[context_words]

    def _best(self, scores: np.ndarray, top: int, leave_out) -> list[tuple[str, float]]:
        scores[list(leave_out)] = -np.inf
        top = min(top, len(scores) - len(set(leave_out)))
        if top < 1:
            return []
        rows = np.arange(len(scores))
        sample = scores[::16]
        if top < len(sample):  # the best are no worse than the top-th of a sample: one pass
            rows = np.flatnonzero(scores >= np.partition(sample, -top)[-top])
        rows = rows[np.argsort(-scores[rows], kind="stable")][:top]
        return [(str(self.words[row]), float(scores[row])) for row in rows]


def context_factor(context: np.ndarray) -> np.ndarray:
    """U (d, d) with UUᵀ = VᵀV for the centred context vectors V (N, d), float64 (eq. 36–38)."""
    centred = context.astype(np.float64) - context.mean(axis=0, dtype=np.float64)
    gram = centred.T @ centred
    try:
        return np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:  # N < d: the rank is below d, and any other root will do
        values, axes = np.linalg.eigh(gram)
        return axes * np.sqrt(np.maximum(values, 0))


# ---------------------------------------------------------------- how good they are
def word_similarity(vectors: WordVectors, pairs: list[tuple[str, str, float]]) -> dict:
    """Spearman's ρ of cosine and human score over covered pairs (None under three)."""
    rows, human = [], []
    for first, second, score in pairs:
        two = vectors.find(first), vectors.find(second)
        if None not in two:
            rows.append(two)
            human.append(score)
    answer = {"spearman": None, "covered": len(rows), "total": len(pairs)}
    if len(rows) >= 3:
        first, second = np.array(rows).T
        inner = np.einsum("nd,nd->n", vectors.vectors[first], vectors.vectors[second])
        cosine = inner * vectors.inverse_norms[first] * vectors.inverse_norms[second]
        answer["spearman"] = float(scipy.stats.spearmanr(cosine, human).statistic)
    return answer


def answer_analogies(
    unit: np.ndarray, questions: np.ndarray, offset: bool = True, batch: int = 256
) -> np.ndarray:
    """Row of the best d in a : b = c : d, the three left out.

    unit (n, d): unit vectors; questions (m, 3): rows of it. 3CosAdd: the largest cosine with
    b − a + c; offset=False: with c alone, the baseline that knows no relation.
    """
    best = np.empty(len(questions), np.int64)
    for start in range(0, len(questions), batch):
        asked = questions[start : start + batch]
        a, b, c = asked.T
        query = unit[b] - unit[a] + unit[c] if offset else unit[c]
        scores = query @ unit.T  # (batch, n)
        scores[np.arange(len(a))[:, None], asked] = -np.inf
        best[start : start + batch] = scores.argmax(axis=1)
    return best


def analogy_accuracy(
    vectors: WordVectors, sections: list, restrict: int = 300_000, baseline: bool = True
) -> dict:
    """Share of covered questions answered rightly among the `restrict` most frequent words.

    Returns accuracy, baseline, covered, total, and sections: name → [right, covered].
    """
    rows = []
    section_of = []
    for number, (_, questions) in enumerate(sections):
        for question in questions:
            four = [vectors.find(word) for word in question]
            if all(row is not None and row < restrict for row in four):
                rows.append(four)
                section_of.append(number)
    total = sum(len(questions) for _, questions in sections)
    answer = {"accuracy": None, "baseline": None, "covered": len(rows), "total": total}
    answer["sections"] = {}
    if rows:
        rows = np.array(rows)
        section_of = np.array(section_of)
        unit = vectors.vectors[:restrict] * vectors.inverse_norms[:restrict, None]
        right = answer_analogies(unit, rows[:, :3]) == rows[:, 3]
        answer["accuracy"] = float(right.mean())
        if baseline:
            alone = answer_analogies(unit, rows[:, :3], offset=False)
            answer["baseline"] = float((alone == rows[:, 3]).mean())
        for number, (name, _) in enumerate(sections):
            inside = section_of == number
            answer["sections"][name] = [int(right[inside].sum()), int(inside.sum())]
    return answer
