"""Ask word vectors: related and similar words, analogies, keywords, similar sentences, importance.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/explore.py                  a demonstration
         python simpler_glove/explore.py related 银行     one question (analogy A B C: A + B − C)
         python simpler_glove/explore.py prompt           many, with history and completion
Symbols: see vectors.py, which answers.
Differs from the article: Python 3; the words of a question are left out of its answers.
"""

import cmd
from pathlib import Path

import numpy as np

import cli
from corpus import chinese_font, read_chinese
from variants import COLORS, chosen_vectors
from vectors import WordVectors

COMMANDS = ("related", "similar", "analogy", "keywords", "similarity", "importance")
DEMONSTRATION = [
    "related 银行",
    "related 经济",
    "related 足球",
    "similar 银行",
    "similar 北京",
    "analogy 北京 英国 中国",
    "keywords 国务院 决定 ， 加快 粮食 流通 体制 改革 ， 保护 农民 的 利益 。",
    "similarity 银行 降低 贷款 利率 / 金融 机构 调整 存款 利息",
    "similarity 银行 降低 贷款 利率 / 足球 队员 赢得 比赛",
    "importance 的 在 经济 银行 足球",
]


def flags(parser):
    commands = f"one of {', '.join(COMMANDS)} and words; or prompt; none: a demonstration"
    parser.add_argument("question", nargs="*", help=commands)
    parser.add_argument(
        "--vectors", type=Path, help="a vector file (else vectors.npz of --out-dir)"
    )
    parser.add_argument("--top", type=cli.between(1, 10**6), default=10, help="words in an answer")
    measures = ("dot", "cosine")
    parser.add_argument("--measure", choices=measures, default="dot", help="of related, keywords")
    profile = "frequent words that make a profile of PMI (N of eq. 31)"
    words = cli.between(1, 10**7)
    parser.add_argument("--context-words", type=words, default=10_000, help=profile)
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


class Prompt(cmd.Cmd):
    """A line is a question; the methods answer_* are the commands."""

    intro = f"Commands: {' '.join(COMMANDS)}; help, quit. Tab completes words."
    prompt = "> "

    def __init__(
        self,
        vectors: WordVectors,
        top: int = 10,
        cosine: bool = False,
        context_words: int = 10_000,
    ):
        super().__init__()
        self.vectors = vectors
        self.top = top
        self.cosine = cosine
        self.context_words = context_words

    # ------------------------------------------------------------ questions
    def ask(self, line: str):
        """Print and return the answer to one line; ValueError for a bad one."""
        name, _, rest = line.strip(" \t\r\n").partition(" ")
        if name not in COMMANDS:
            raise ValueError(f"{name}: not a command; {self.intro}")
        answer_it = getattr(self, f"answer_{name}")
        if not rest:
            raise ValueError(f"{name}: give it words; {answer_it.__doc__}")
        answer = answer_it(rest)
        shown = [("cosine", answer)] if isinstance(answer, float) else answer
        print("  ".join(f"{word} {score:.2f}" for word, score in shown))
        return answer

    def answer_related(self, rest):
        """related WORD…: largest PMI ⟨v, v_w⟩, or cosine with --measure; several are summed."""
        rows = [self.vectors.row(word) for word in self.words(rest)]
        query = self.vectors.vectors[rows].sum(axis=0)
        return self.vectors.nearest(query, self.top, self.cosine, rows)

    def answer_similar(self, rest):
        """similar WORD: words with the same PMI profile over the N most frequent words."""
        words = self.words(rest)
        if len(words) != 1:
            raise ValueError(f"similar {rest}: takes one word")
        return self.vectors.similar(words[0], self.top, self.context_words)

    def answer_analogy(self, rest):
        """analogy A B C: the words nearest to A + B − C."""
        words = self.words(rest)
        if len(words) != 3:
            raise ValueError(f"analogy {rest}: takes three words A B C for A + B − C")
        return self.vectors.analogy(*words, top=self.top)

    def answer_keywords(self, rest):
        """keywords SENTENCE: its words by ⟨Σ v, v_w⟩."""
        return self.vectors.keywords(self.sentence(rest), self.top, self.cosine)

    def answer_similarity(self, rest):
        """similarity SENTENCE / SENTENCE: cosine of the summed vectors."""
        first, slash, second = rest.partition("/")
        if not (slash and first.strip(" ") and second.strip(" ")):
            raise ValueError(f"similarity {rest}: takes two sentences with / between")
        return self.vectors.sentence_similarity(self.sentence(first), self.sentence(second))

    def answer_importance(self, rest):
        """importance WORD…: ‖v‖² of each, largest first."""
        scored = [(word, self.vectors.importance(word)["norm2"]) for word in self.words(rest)]
        return sorted(scored, key=lambda pair: -pair[1])

    def words(self, text: str) -> list[str]:
        """The words of a question."""
        words = self.vectors.split(text)
        self.tell_case(words)
        return words

    def sentence(self, text: str) -> list[str]:
        """Its words, cut at blanks or else by jieba; unknown ones are told, all unknown refused."""
        text = text.strip(" \t")
        whole = " " in text or text.isascii() or self.vectors.find(text) is not None
        tokens = self.vectors.split(text) if whole else read_chinese(text)
        unknown = [token for token in dict.fromkeys(tokens) if self.vectors.find(token) is None]
        if unknown:
            told = f"{' '.join(unknown)}: not among the {len(self.vectors.words):,} words"
            if len(unknown) == len(set(tokens)):
                raise ValueError(told)
            print(f"{told}, left out")
        self.tell_case(tokens)
        return tokens

    def tell_case(self, words: list[str]) -> None:
        """Say which words are known in another case only."""
        for word in dict.fromkeys(words):
            row = self.vectors.find(word)
            if row is not None and self.vectors.words[row] != word:
                print(f"{word}: read as {self.vectors.words[row]}")

    # ------------------------------------------------------------ the prompt
    def default(self, line):
        if line in ("EOF", "quit", "exit"):
            print(end="\n" if line == "EOF" else "")  # the shell's prompt begins on its own line
            return True
        try:
            self.ask(line)
        except ValueError as error:
            print(error)
        return False

    def emptyline(self):
        """Nothing asked (cmd would repeat the last line)."""

    def do_help(self, _):
        """Print what each command does."""
        print("\n".join(getattr(self, f"answer_{name}").__doc__ for name in COMMANDS))

    def completenames(self, text, *_):  # Tab on the first word
        return [f"{name} " for name in COMMANDS if name.startswith(text)]

    def completedefault(self, text, *_):  # Tab on the others
        return [word for word in self.vectors.index if word.startswith(text)][:50]

    def run(self, history: Path) -> None:
        """Read lines to the end of input, with readline's history where Python has readline."""
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


# ---------------------------------------------------------------- a demonstration
def demonstrate(prompt: Prompt) -> dict:
    """Question → answer; about frequent words where the vectors lack those of DEMONSTRATION."""
    words = prompt.vectors.words
    frequent = words[np.minimum([200, 201, 202], len(words) - 1)]
    answers = {}
    for line in DEMONSTRATION:
        name, _, rest = line.partition(" ")
        if not all(word in prompt.vectors.index for word in rest.replace("/", "").split()):
            three = {"analogy": " ".join(frequent), "similarity": f"{frequent[0]} / {frequent[1]}"}
            line = f"{name} {three.get(name, frequent[0])}"
        print(f"> {line}")
        answers[line] = prompt.ask(line)
    return answers


def plot_neighbours(vectors: WordVectors, queries: list[str], data_dir, top: int = 8):
    """One panel a word: its most related words and their PMI = ⟨v, v′⟩."""
    font = chinese_font(data_dir)
    figure, panels = cli.subplots(1, len(queries), height=3.6, squeeze=False)
    for axes, query in zip(panels[0], queries, strict=True):
        answer = vectors.related(query, top) or [("", 0.0)]
        places = range(len(answer))
        axes.barh(places, [score for _, score in answer], color=COLORS["default"])
        axes.set_yticks(places, [word for word, _ in answer], family=font)
        axes.set_title(query, family=font)
        axes.invert_yaxis()
    figure.supxlabel("PMI = ⟨v, v′⟩ [nat]", fontsize=11)
    return figure


def main(args):
    if args.question and args.question[0] not in (*COMMANDS, "prompt"):
        known = ", ".join(COMMANDS)
        raise ValueError(f"{args.question[0]}: not a command; one of {known}, prompt")
    vectors = WordVectors(*chosen_vectors(args))
    prompt = Prompt(vectors, args.top, args.measure == "cosine", args.context_words)
    if args.question == ["prompt"]:
        return prompt.run(args.out_dir / "explore_history.txt")
    if args.question:
        prompt.ask(" ".join(args.question))
        return None
    answers = demonstrate(prompt)
    related = [line.split(" ", 1)[1] for line in answers if line.startswith("related ")]
    figure = plot_neighbours(vectors, list(dict.fromkeys(related)), args.data_dir)
    metrics = {"words": len(vectors.words), "answers": answers}
    return metrics, [], {"explore_neighbours": figure}


if __name__ == "__main__":
    cli.run(main, flags)
