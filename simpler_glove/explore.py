"""Ask trained word vectors: related and similar words, analogies, keywords, sentence similarity, importance.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/explore.py                          a demonstration
         python simpler_glove/explore.py related 银行             one question (analogy A B C is A + B − C)
         python simpler_glove/explore.py prompt                   many questions, with history and completion
Time:    7 CPU s on one core (AMD EPYC), 0.5 GB; 8 s more when it has to train the vectors
Symbols: v_i → vectors[i]   PMI(w_i, w_j) = ⟨v_i, v_j⟩ (eq. 15)   VᵀV = UUᵀ → context_factor (eq. 36–39)
         ‖v_w‖² ~ −log P(w) → importance (eq. 26)   score of a keyword = ⟨Σ v_i, v_w⟩ (eq. 43)
Differs from the article: Python 3; the words of the question are left out of its answers; a keyword's sum counts
         repetitions, as the author's does; his sentence_similarity could only crash.
"""
import argparse
import cmd
import difflib
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import LinAlgError, cholesky

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.vectors import chosen_vectors, drawable  # noqa: E402

HERE = Path(__file__).resolve().parent
COMMANDS = ("related", "similar", "analogy", "keywords", "similarity", "importance")
DEMONSTRATION = [
    "related 银行", "related 经济", "related 足球", "similar 银行", "similar 北京", "analogy 北京 英国 中国",
    "keywords 国务院 决定 ， 加快 粮食 流通 体制 改革 ， 保护 农民 的 利益 。",
    "similarity 银行 降低 贷款 利率 / 金融 机构 调整 存款 利息", "similarity 银行 降低 贷款 利率 / 足球 队员 赢得 比赛",
    "importance 的 在 经济 银行 足球"]


# ---------------------------------------------------------------- method
class WordVectors:
    """The article's questions to words (n,) most frequent first, vectors float32 (n, d), counts int64 (n,) or None."""

    def __init__(self, words, vectors, counts=None, config=None):
        self.words, self.vectors = np.asarray(words, dtype=str), np.ascontiguousarray(vectors, np.float32)
        self.counts, self.config = counts, config or {}
        self.index = {word: row for row, word in enumerate(self.words.tolist())}
        self.norms = np.sqrt(np.einsum("ij,ij->i", self.vectors, self.vectors))
        self.inverse_norms = 1 / np.maximum(self.norms, 1e-12)
        self._projections = {}

    def row(self, word: str) -> int:
        """The row of a word; ValueError with near spellings when it is not there."""
        if word not in self.index:
            near = self.suggest(word)
            near = f"; near spellings: {' '.join(near)}" if near else ""
            raise ValueError(f"{word}: not among the {len(self.words):,} words{near}")
        return self.index[word]

    def suggest(self, word: str, top: int = 5) -> list[str]:
        """Known words of near spelling; frequent ones first among equals."""
        letters = set(word.lower())
        near = [known for known in self.index if abs(len(known) - len(word)) <= 2
                and 2 * len(letters & set(known.lower())) >= min(len(letters), len(known))]
        ranked = sorted(near, key=lambda known: -difflib.SequenceMatcher(None, word.lower(), known.lower()).ratio())
        return ranked[:top]

    def nearest(self, query: np.ndarray, top: int = 10, cosine: bool = True, leave_out=()) -> list[tuple[str, float]]:
        """The top words by inner product (= PMI) or cosine with one query vector (d,)."""
        scores = self.vectors @ np.asarray(query, np.float32)
        if cosine:
            scores *= self.inverse_norms / max(float(np.linalg.norm(query)), 1e-12)
        return self._best(scores, top, leave_out)

    def _best(self, scores, top, leave_out):
        scores[list(leave_out)] = -np.inf
        if (top := min(top, len(scores) - len(set(leave_out)))) < 1:
            return []
        sample, rows = scores[::16], np.arange(len(scores))
        if top < len(sample):                   # the best are no worse than the top-th of a sample: one pass
            rows = np.flatnonzero(scores >= np.partition(sample, -top)[-top])
        rows = rows[np.argsort(-scores[rows], kind="stable")][:top]
        return [(str(self.words[row]), float(scores[row])) for row in rows]

    def related(self, word: str, top: int = 10, cosine: bool = False) -> list[tuple[str, float]]:
        """相关词: largest PMI = ⟨v_i, v_j⟩ (eq. 15), or largest cosine (eq. 30)."""
        row = self.row(word)
        return self.nearest(self.vectors[row], top, cosine, [row])

    def similar(self, word: str, top: int = 10, context_words: int = 10_000) -> list[tuple[str, float]]:
        """相似词: largest Pearson correlation of the PMI profiles over the N most frequent words (eq. 31–39)."""
        row, projected = self.row(word), self.projection(context_words)
        return self._best(projected @ projected[row], top, [row])

    def projection(self, context_words: int) -> np.ndarray:
        """Unit rows of vectors · U, float32 (n, d): their inner products are the correlations (eq. 39)."""
        context_words = min(context_words, len(self.words))
        if context_words not in self._projections:
            projected = self.vectors @ context_factor(self.vectors[:context_words]).astype(np.float32)
            projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
            self._projections = {context_words: projected}   # one kept: it is as large as the vectors
        return self._projections[context_words]

    def analogy(self, a: str, b: str, c: str, top: int = 10, leave_out: bool = True) -> list[tuple[str, float]]:
        """A + B − C by cosine; the article's own lists keep the three words (leave_out=False)."""
        rows = [self.row(word) for word in (a, b, c)]
        query = self.vectors[rows[0]] + self.vectors[rows[1]] - self.vectors[rows[2]]
        return self.nearest(query, top, True, rows if leave_out else ())

    def sentence_vector(self, tokens: list[str]) -> np.ndarray:
        """Σ v_i over the known words (eq. 43), float32 (d,); zeros when none is known."""
        rows = [self.index[token] for token in tokens if token in self.index]
        return self.vectors[rows].sum(axis=0)

    def keywords(self, tokens: list[str], top: int = 10, cosine: bool = False) -> list[tuple[str, float]]:
        """Words of the sentence by log R(sentence, w) = ⟨Σ v_i, v_w⟩ (eq. 40–43)."""
        sentence = self.sentence_vector(tokens)
        rows = list(dict.fromkeys(self.index[token] for token in tokens if token in self.index))
        scale = self.inverse_norms[rows] / max(float(np.linalg.norm(sentence)), 1e-12) if cosine else 1
        scores = self.vectors[rows] @ sentence * scale
        order = np.argsort(-scores, kind="stable")[:top]
        return [(str(self.words[rows[i]]), float(scores[i])) for i in order]

    def sentence_similarity(self, first: list[str], second: list[str], cosine: bool = True) -> float:
        """⟨Σ v, Σ v⟩ of two sentences, or its cosine (eq. 44–46); 0 when a sentence has no known word."""
        x, y = self.sentence_vector(first), self.sentence_vector(second)
        scale = float(np.linalg.norm(x) * np.linalg.norm(y)) if cosine else 1.0
        return float(x @ y) / scale if scale > 0 else 0.0

    def importance(self, word: str) -> dict:
        """‖v‖² (grows with −log P, eq. 26), its rank from the smallest norm, and −log P where counts are known."""
        row = self.row(word)
        answer = {"norm2": float(self.norms[row] ** 2), "rank": int((self.norms < self.norms[row]).sum()) + 1}
        if self.counts is not None:
            answer["minus_log_p"] = float(np.log(self.counts.sum() / self.counts[row]))
        return answer


def context_factor(context: np.ndarray) -> np.ndarray:
    """U (d, d) with UUᵀ = VᵀV for the centred context vectors V (N, d): Cholesky, or a root when N < d (eq. 38)."""
    centred = context.astype(np.float64) - context.mean(axis=0, dtype=np.float64)
    gram = centred.T @ centred
    try:
        return cholesky(gram, lower=True)
    except LinAlgError:                            # rank below d
        values, axes = np.linalg.eigh(gram)
        return axes * np.sqrt(np.maximum(values, 0))


def tokenize(text: str) -> list[str]:
    """Words of a line: by blanks where there are some, else by jieba (an ASCII line is lower-cased)."""
    text = text.lower() if text.isascii() else text
    if " " in text.strip() or text.isascii():
        return text.split()
    import jieba
    jieba.setLogLevel("ERROR")
    return jieba.lcut(text, HMM=False)


# ---------------------------------------------------------------- figures
def plot_neighbours(vectors: WordVectors, queries: list[str], top: int = 10) -> Figure:
    """One panel a word: its most related words and their PMI = ⟨v, v′⟩."""
    figure = Figure(figsize=(2.4 * len(queries), 3), layout="constrained")
    for axes, query in zip(np.ravel(figure.subplots(1, len(queries))), queries):
        words, scores = zip(*(vectors.related(query, top) or [("", 0.0)]))
        labels, family, note = drawable([query, *words])
        axes.barh(range(len(words)), scores)
        axes.set_yticks(range(len(words)), labels[1:], fontsize=8, **({"family": family} if family else {}))
        axes.set_title(labels[0], **({"family": family} if family else {}))
        axes.invert_yaxis()
    figure.supxlabel("PMI = ⟨v, v′⟩, nats" + (f"   ({note})" if note else ""), fontsize=9)
    return figure


# ---------------------------------------------------------------- command line
class Prompt(cmd.Cmd):
    """One line, one question; the methods do_* are the commands (the standard library's cmd adds help)."""
    intro = "Commands: related similar analogy keywords similarity importance; help, quit. Tab completes words."
    prompt = "> "

    def __init__(self, vectors: WordVectors, top: int = 10, cosine: bool = False, context_words: int = 10_000):
        super().__init__()
        self.vectors, self.top, self.cosine, self.context_words = vectors, top, cosine, context_words

    def ask(self, line: str):
        """Print and return the answer to one line; ValueError for a bad one."""
        name, _, rest = line.strip().partition(" ")
        if name not in COMMANDS:
            raise ValueError(f"{name}: not a command; {self.intro}")
        if not rest.strip():
            raise ValueError(f"{name}: give it words; {getattr(self, f'answer_{name}').__doc__}")
        answer = getattr(self, f"answer_{name}")(rest.strip())
        shown = [("cosine", answer)] if isinstance(answer, float) else answer or [("no known word", 0)]
        print("  ".join(f"{word} {score:.2f}" for word, score in shown))
        return answer

    def answer_related(self, rest):
        """related WORD…: largest PMI ⟨v, v_w⟩, or cosine with --measure cosine; several words are summed."""
        rows = [self.vectors.row(word) for word in rest.split()]
        return self.vectors.nearest(self.vectors.vectors[rows].sum(axis=0), self.top, self.cosine, rows)

    def answer_similar(self, rest):
        """similar WORD: words with the same PMI profile over the N most frequent words."""
        return self.vectors.similar(rest, self.top, self.context_words)

    def answer_analogy(self, rest):
        """analogy A B C: the words nearest to A + B − C."""
        if len(rest.split()) != 3:
            raise ValueError(f"analogy {rest}: takes three words A B C for A + B − C")
        return self.vectors.analogy(*rest.split(), top=self.top)

    def answer_keywords(self, rest):
        """keywords SENTENCE: its words by ⟨Σ v, v_w⟩."""
        return self.vectors.keywords(tokenize(rest), self.top, self.cosine)

    def answer_similarity(self, rest):
        """similarity SENTENCE / SENTENCE: cosine of the summed vectors."""
        first, slash, second = rest.partition("/")
        if not slash:
            raise ValueError(f"similarity {rest}: takes two sentences with / between")
        return self.vectors.sentence_similarity(tokenize(first), tokenize(second))

    def answer_importance(self, rest):
        """importance WORD…: ‖v‖² of each, largest first."""
        scored = [(word, self.vectors.importance(word)["norm2"]) for word in rest.split()]
        return sorted(scored, key=lambda pair: -pair[1])

    def default(self, line):
        if line in ("EOF", "quit", "exit"):
            print(end="\n" if line == "EOF" else "")       # the shell's prompt begins on a line of its own
            return True
        try:
            self.ask(line)
        except ValueError as error:
            print(error)

    def emptyline(self):
        """Nothing asked (cmd would repeat the last line)."""

    def do_help(self, _):
        """Print what each command does."""
        print("\n".join(getattr(self, f"answer_{name}").__doc__ for name in COMMANDS))

    def completenames(self, text, *_):              # Tab on the first word
        return [name + " " for name in COMMANDS if name.startswith(text)]

    def completedefault(self, text, *_):            # Tab on the others
        return [word for word in self.vectors.index if word.startswith(text)][:50]

    def run(self, history: Path) -> None:
        """Read lines to the end of input, with readline's history and completion where Python has readline."""
        try:
            import readline
            readline.set_completer_delims(" /")
            if history.exists():
                readline.read_history_file(history)
        except (ImportError, OSError):
            readline = None
        try:
            self.cmdloop()
        finally:
            if readline:
                readline.set_history_length(1000)
                readline.write_history_file(history)


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("question", nargs="*", help=f"one of {', '.join(COMMANDS)} and words; prompt; none: a show")
    parser.add_argument("--vectors", type=Path, help=".npz, word2vec text or .bin (else vectors.npz of --out-dir)")
    parser.add_argument("--top", type=int, default=10, help="words in an answer")
    parser.add_argument("--measure", choices=("dot", "cosine"), default="dot", help="of related, keywords; dot: PMI")
    parser.add_argument("--context-words", type=int, default=10_000, help="frequent words that make a PMI profile")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("top", "context_words"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 1")
    if args.question and args.question[0] not in (*COMMANDS, "prompt"):
        parser.error(f"{args.question[0]}: not a command; one of {', '.join(COMMANDS)}, prompt")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    def seed(text: str) -> int:
        return range(10**9).index(int(text))               # else ValueError, from which argparse makes its message
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random draw, 0 … 999999999")
    parser.add_argument("--out-dir", type=Path, default=HERE / "outputs", help="where results and figures go")
    parser.add_argument("--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR, else data/.cache)")


def save_results(args: argparse.Namespace, script: str, metrics: dict, claims: list, figures: list,
                 started: float) -> dict:
    """Write <out-dir>/<script>.json in one move and return what it holds."""
    packages = [name for name in ("numpy", "scipy", "keras", "tensorflow", "matplotlib") if name in sys.modules]
    results = {
        "script": script, "quick": args.quick, "seed": args.seed,
        "config": {key: str(value) if isinstance(value, Path) else value
                   for key, value in vars(args).items() if key not in ("out_dir", "data_dir")},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": f"{os.cpu_count()} cores, {platform.machine()}", "seconds": round(time.perf_counter() - started, 1),
        "metrics": metrics, "claims": claims, "figures": figures,
    }
    path = args.out_dir / f"{script}.json"
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(results, ensure_ascii=False, indent=1, default=float) + "\n", encoding="utf-8")
    os.replace(partial, path)
    for claim in claims:
        verdict = {True: "holds", False: "does NOT hold", None: "not measurable here"}[claim["holds"]]
        print(f"{claim['id']} {verdict}: {claim['claim']} | article: {claim['expected']} | here: {claim['measured']}")
    print(f"{'QUICK RUN, not results. ' if args.quick else ''}Wrote {path} in {results['seconds']} s")
    return results


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    vectors = WordVectors(*chosen_vectors(args))
    prompt = Prompt(vectors, args.top, args.measure == "cosine", args.context_words)
    if args.question == ["prompt"]:
        prompt.run(args.out_dir / "explore_history.txt")
        return {}
    if args.question:
        return {"question": args.question, "answer": prompt.ask(" ".join(args.question))}
    answers, frequent = {}, " ".join(vectors.words[np.minimum([200, 201, 202], len(vectors.words) - 1)])
    for line in DEMONSTRATION:                    # with other vectors than the default: the same about frequent words
        name, _, rest = line.partition(" ")
        if name not in ("keywords", "similarity") and any(word not in vectors.index for word in rest.split()):
            line = f"{name} {frequent if name == 'analogy' else frequent.split()[0]}"
        print(f"> {line}")
        answers[line] = prompt.ask(line)
    related = dict.fromkeys(line.split()[1] for line in answers if line.startswith("related "))
    plot_neighbours(vectors, list(related)).savefig(args.out_dir / "explore_neighbours.png", dpi=150)
    return save_results(args, "explore", {"words": len(vectors.words), "answers": answers}, [],
                        ["explore_neighbours.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
