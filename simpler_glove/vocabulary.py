"""Which words does a corpus hold, and how often? Reading of corpora and the vocabulary, in one pass.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/vocabulary.py             (People's Daily, January 1998; --quick for a look)
         python simpler_glove/vocabulary.py raw.txt.xz --segment --min-count 16
Time:    2 s on 2 cores (AMD EPYC), 0.2 GB

Symbols: c_i → counts   P(w_i) = c_i / Σc
A document is a line, words are separated by blanks; raw Chinese is cut by jieba (--segment).
Differs from the article: his corpora (Baidu Baike, 1,000,000 articles) were never published.
"""
import argparse
import bz2
import gzip
import itertools
import json
import lzma
import os
import platform
import re
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch  # noqa: E402

HERE = Path(__file__).resolve().parent
DEFAULT_CORPUS = "peoples-daily-199801"
OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
BLOCK = 1 << 20          # bytes of a line read at once: a corpus may be one line (text8)
HALF_WIDTH = {0xFEE0 + code: code for code in range(0x21, 0x7F) if chr(code).isalnum()}   # １ → 1, Ａ → A


# ---------------------------------------------------------------- data
class Part(list):
    """A list of words whose document goes on in the next list (documents longer than 1 MB come in parts)."""


def read_tagged(line: str) -> list[str]:
    """Words of a line 'word/tag  word/tag' of the People's Daily; family + given name (nr nr) become one word."""
    words, family = [], ""
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
    return words + [family] if family else words


def read_english(line: str) -> list[str]:
    """Runs of letters, in lower case."""
    return re.findall("[a-z]+", line.lower())


def read_chinese(line: str) -> list[str]:
    """Raw Chinese cut by jieba without its guesses at unknown words, as the article does."""
    import jieba
    jieba.setLogLevel("WARNING")
    return [word for word in jieba.lcut(line, HMM=False) if word.strip()]


SPLITTERS = {"peoples-daily-199801": read_tagged, "sotu": read_english, "text8": str.split}   # corpora known by name


def read_documents(sources: Iterable, segment: bool = False, data_dir: Path | None = None) -> Iterator[list[str]]:
    """Lists of words, one a document (a line), of corpora given by path (plain, .gz, .xz, .bz2) or registered name.

    Raises OSError for a file not there or cut short and ValueError, naming file and byte, for text not in UTF-8.
    """
    for source in map(str, sources):
        split = read_chinese if segment else str.split
        if source in SPLITTERS and not os.path.exists(source):
            split, path = SPLITTERS[source], Path(fetch(source, data_dir))
        else:
            path = Path(source)
        opener = OPENERS.get(path.suffix, open)
        try:
            with opener(path, "rb") as file:
                position = 0
                while line := file.readline(BLOCK):
                    if goes_on := len(line) >= BLOCK and not line.endswith(b"\n"):
                        rest = []                              # complete the last word: cut at blanks only
                        while not (rest or [line])[-1][-1:].isspace() and (byte := file.read(1)):
                            rest.append(byte)
                        line += b"".join(rest)
                    try:
                        words = split(line.decode("utf-8" if position else "utf-8-sig"))
                    except UnicodeDecodeError as error:
                        raise ValueError(f"{path}: byte {position + error.start} is not UTF-8; convert the file first"
                                         ) from None
                    position += len(line)
                    goes_on = goes_on and not line.endswith(b"\n")
                    yield Part(words) if goes_on else words
                if position and goes_on:
                    yield []                                   # the file ends within a part: so does its document
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"{path}: compressed file is cut short or damaged ({error})") from None
        except FileNotFoundError:
            raise OSError(f"{source}: no such file, nor a corpus known by name ({', '.join(SPLITTERS)})") from None


class Spool:
    """Arrays written one after another to an unnamed temporary file and read back through a map of memory."""

    def __init__(self, folder: Path | None, dtype):
        self.file, self.dtype, self.size = tempfile.TemporaryFile(dir=folder), np.dtype(dtype), 0
        self.place = folder or tempfile.gettempdir()

    def write(self, array: np.ndarray) -> None:
        try:
            self.file.write(np.ascontiguousarray(array, self.dtype).data)
            self.file.flush()
        except OSError as error:
            raise OSError(f"cannot write temporary data in {self.place}: {error.strerror}; free some space there "
                          "or raise --memory") from None
        self.size += len(array)

    def read(self) -> np.ndarray:
        return np.memmap(self.file, self.dtype, "r+", shape=(self.size,)) if self.size else np.empty(0, self.dtype)


# ---------------------------------------------------------------- method
def build_vocabulary(documents: Iterable[list[str]], min_count: int = 5, max_size: int | None = None,
                     folder: Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One pass over the documents → (words, counts, ids, ends).

    words: (n,) str, most frequent first, ties by code point; counts: (n,) int64; ids: (m,) int32, the corpus as ranks
    in `words`, other words left out, kept in a temporary file in `folder`; ends: int64, where in ids documents end.
    """
    number = defaultdict()
    number.default_factory = number.__len__              # word → order of first appearance
    seen, ends, counts = Spool(folder, np.int32), [], np.zeros(1 << 16, np.int64)
    pieces, pending, total = [], 0, 0
    for words in itertools.chain(documents, [None]):
        if words is not None:
            pieces.append(np.fromiter(map(number.__getitem__, words), np.int32, len(words)))
            pending, total = pending + len(words), total + len(words)
            if type(words) is not Part:
                ends.append(total)
        if pieces and (words is None or pending > BLOCK):
            block = np.concatenate(pieces)
            if len(number) > len(counts):
                counts = np.concatenate([counts, np.zeros(2 * len(number) - len(counts), np.int64)])
            found = np.bincount(block)
            counts[:len(found)] += found
            seen.write(block)
            pieces, pending = [], 0
    if not total:
        raise ValueError("the corpus is empty: no word was read")
    names = list(number)
    kept = np.flatnonzero(counts[:len(names)] >= min_count).tolist()
    if not kept:
        raise ValueError(f"no word occurs {min_count} times (the most frequent one: {counts.max()}); lower --min-count "
                         "or, if this is raw Chinese, cut it into words with --segment")
    kept.sort(key=lambda word: (-counts[word], names[word]))
    kept = kept[:max_size]
    rank = np.full(len(names), -1, np.int32)
    rank[kept] = np.arange(len(kept), dtype=np.int32)
    # the same file again, now in ranks and without the words that fell out
    ids, ends, size = seen.read(), np.array(ends or [total], np.int64), 0
    kept_before_end = np.zeros(len(ends), np.int64)
    for start in range(0, total, BLOCK):
        block = rank[ids[start:start + BLOCK]]
        inside = slice(*np.searchsorted(ends, [start + 1, start + len(block) + 1]))
        running = np.cumsum(block >= 0)
        kept_before_end[inside] = size + running[ends[inside] - start - 1]
        block = block[block >= 0]
        ids[size:size + len(block)] = block
        size += len(block)
    kept_before_end[ends == 0] = 0                        # blank lines before the first word
    words = np.array([names[word] for word in kept])
    return words, counts[kept], ids[:size], np.unique(kept_before_end)


# ---------------------------------------------------------------- figures
def plot_frequencies(words: np.ndarray, counts: np.ndarray) -> Figure:
    """Count over rank: Zipf's law."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(np.arange(1, len(counts) + 1), counts)
    axes.loglog([1, len(counts)], [counts[0], counts[0] / len(counts)], "k--", linewidth=0.8)
    middle = len(counts) ** .5
    axes.annotate("1/rank", (middle, counts[0] / middle), xytext=(-40, -15), textcoords="offset points")
    axes.set(xlabel="rank", ylabel="occurrences")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS],
                        help="text files (.txt .gz .xz .bz2; a document a line) or peoples-daily-199801, sotu, text8")
    parser.add_argument("--segment", action="store_true", help="cut raw Chinese text into words with jieba")
    parser.add_argument("--min-count", type=int, default=5, help="least occurrences of a word")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.min_count < 1:
        parser.error(f"--min-count {args.min_count}: must be at least 1")
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
    args.out_dir.mkdir(parents=True, exist_ok=True)   # before any work
    documents = itertools.islice(read_documents(args.corpus, args.segment, args.data_dir), 3000 if args.quick else None)
    words, counts, ids, ends = build_vocabulary(documents, args.min_count, folder=args.out_dir)
    path = args.out_dir / "vocabulary.tsv"
    partial = path.with_name(path.name + ".part")
    partial.write_text("".join(f"{word}\t{count}\n" for word, count in zip(words, counts)), encoding="utf-8")
    os.replace(partial, path)
    print(f"{len(ends)} documents, {len(ids)} words kept, vocabulary {len(words)}: {' '.join(words[:20])} …")
    figures = ["vocabulary_frequency.png"]
    plot_frequencies(words, counts).savefig(args.out_dir / figures[0], dpi=150)
    metrics = {"documents": len(ends), "tokens": len(ids), "vocabulary": len(words)}
    return save_results(args, "vocabulary", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
