"""Wikipedia as a corpus: a dump of its pages → a file of segmented text, an article a line.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/train.py zhwiki        (or enwiki, or a dump: FILE.xml.bz2, FILE.xml)
Needs:   gensim, and OpenCC for Chinese (requirements-wiki.txt)
Source:  https://dumps.wikimedia.org, in the form of https://www.mediawiki.org/wiki/Help:Export
Differs from the article: its corpus, 1,000,000 articles of Baidu Baike, was never published.

Left out are redirects, pages that are no articles, articles of fewer than 50 words; templates,
tables and footnotes. The dump is cut into blocks of whole pages. The words of a block are appended
to NAME.part, and only then does NAME.json count the block: what was interrupted goes on after the
last block that counts, and ends with the same bytes.
"""

import importlib.util
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import ParseError

from tqdm import tqdm

from vector_files import BROKEN, PACKED

BLOCK = 4 << 20  # bytes of XML that a worker gets at once
SHORTEST = 50  # words of an article, as in gensim
WIKIPEDIAS = {"zhwiki": ("zh", 3.1e9), "enwiki": ("en", 22e9)}  # language, bytes of .bz2, about
EXPANSION = 4.2  # bytes of XML in a byte of .bz2, about
# measured on generated Chinese pages and the real English ones that come with gensim
READING = 0.11e-6  # seconds of one core for a byte of XML
SEGMENTING = {"zh": 1.0e-6, "en": 0.45e-6}  # the same, of all cores
TEXT = {"zh": 0.62, "en": 0.46}  # bytes of text for a byte of XML, at most
NEEDS = {"zh": {"gensim": "gensim", "opencc": "OpenCC"}, "en": {"gensim": "gensim"}}
ROOT = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<mediawiki\s[^>]*xml:lang="([\w-]+)"')
CHINESE_NAMES = {"File": "文件|檔案|档案|图像|圖像", "Category": "category|分类|分類"}
MARKS = re.compile(r"'{2,}|__[A-Z]+__|^[=*#:;]+|=+$|[（(][\s,，、;；:：]*[）)]", re.MULTILINE)


# ---------------------------------------------------------------- a page → words
def strip_markup(markup: str) -> str:
    """What a reader of the article sees, without templates, tables and footnotes."""
    from gensim.corpora.wikicorpus import filter_wiki, remove_template

    for name, chinese in CHINESE_NAMES.items():
        markup = re.sub(rf"\[\[\s*(?:{chinese})\s*:", f"[[{name}:", markup, flags=re.IGNORECASE)
    markup = re.sub(r"-\{(?:([\w;+\s-]*)\|)?([^{}]*)\}-", choose_variant, markup)
    text = filter_wiki(remove_tables(remove_template(markup)))
    return MARKS.sub("", text)


def choose_variant(found: re.Match) -> str:
    """Of -{zh-hans:计算机;zh-hant:電腦}- the simplified one; nothing if its flag hides the rule."""
    flags, rules = found.groups(default="")
    if "H" in flags or "T" in flags or flags.strip() == "-":
        return ""
    variants = dict(re.findall(r"(zh[\w-]*)\s*:\s*([^;]*)", rules))
    for name in ("zh-hans", "zh-cn", "zh-sg", "zh", *variants):
        if name in variants:
            return variants[name].strip()
    return rules


def remove_tables(markup: str) -> str:
    """Without the lines from {| to |}, also where a table stands in another."""
    depth = 0
    kept = []
    for line in markup.split("\n"):
        start = line.lstrip(" \t:")
        depth += start.startswith("{|")
        if not depth:
            kept.append(line)
        elif start.startswith("|}"):
            depth -= 1
    return "\n".join(kept)


@cache
def simplifier() -> Callable[[str], str]:
    import opencc

    return opencc.OpenCC("t2s").convert


def segment_pages(pages: bytes, language: str, split: Callable[[str], list[str]]) -> bytes:
    """Elements <page> → a line of words parted by blanks, in UTF-8, for each article."""
    from gensim.corpora.wikicorpus import extract_pages

    def is_article(page, namespace, **_):
        return page.find(f"{{{namespace}}}redirect") is None

    root = b'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo/>'
    stream = io.BytesIO(root + pages + b"</mediawiki>")
    lines = []
    try:
        for _, markup, _ in extract_pages(stream, ("0",), is_article):
            text = strip_markup(markup)
            words = split(simplifier()(text) if language == "zh" else text)
            if len(words) >= SHORTEST:
                lines.append(" ".join(words) + "\n")
    except (ParseError, AttributeError) as error:
        raise ValueError(f"not the XML of MediaWiki ({error})") from None
    return "".join(lines).encode()


# ---------------------------------------------------------------- a dump → blocks of pages
@contextmanager
def open_dump(path: Path):
    """(stream of the XML, the file as it lies, whose tell() says how far it was read)."""
    with open(path, "rb") as packed:
        magic = packed.read(10)
        packed.seek(0)
        opener = next((PACKED[start] for start in PACKED if magic.startswith(start)), None)
        yield (opener(packed) if opener else packed), packed


def dump_language(path: Path) -> str | None:
    """xml:lang of a dump, such as "zh"; None where the file is no dump of MediaWiki."""
    try:
        with open_dump(path) as (stream, _):
            root = ROOT.match(stream.read(4096))
    except (*BROKEN, OSError):
        return None  # reading it as text says what is wrong
    return root[1].decode() if root else None


def read_blocks(stream, size: int) -> Iterator[bytes]:
    """About `size` bytes of XML at a time, from a <page> to a </page>."""
    rest = b""
    while piece := stream.read(size):
        pages, end, rest = (rest + piece).rpartition(b"</page>")
        yield (pages + end)[pages.find(b"<page>") :] if end else b""
    if b"</mediawiki>" not in rest:
        raise EOFError("the XML ends before </mediawiki>")


# ---------------------------------------------------------------- blocks → the file of text
def read_dump(path: Path, folder: Path, splitters: dict) -> Iterator[list[str]]:
    """The words of each article of a dump, while they are written to a file in `folder`.

    splitters: language → what cuts a text into words. Where the file is whole, it is read instead.
    Raises OSError, in one line, for a dump cut short, a full disk or a library that is not
    installed; ValueError for what is no dump in one of the languages.
    """
    language = dump_language(path)
    if language not in splitters:
        known = ", ".join(splitters)
        raise ValueError(f"{path}: a dump in the language {language}; can be read: {known}")
    text = text_file(path, folder)
    if text.exists():
        yield from read_text(text)
    else:
        require(language, path.name)
        yield from convert(path, text, language, splitters[language])


def read_text(path: Path) -> Iterator[list[str]]:
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.split()


def text_file(path: Path, folder: Path) -> Path:
    """Where the text of a dump lies; its name tells dumps of other sizes or ends apart."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(1 << 20)
        file.seek(max(0, size - (1 << 20)))
        mark = zlib.crc32(b"%d" % size + first + file.read())
    return folder / f"{path.name.split('.xml')[0]}.{mark:08x}.txt"


def finished_text(wiki: str, folder: Path) -> Path | None:
    """The newest text of a wiki, such as "zhwiki", that is whole."""
    return max(folder.glob(f"{wiki}-*-pages-articles.????????.txt"), default=None)


def require(language: str, what: str) -> None:
    missing = [pip for name, pip in NEEDS[language].items() if not importlib.util.find_spec(name)]
    if missing:
        install = "python -m pip install -r requirements-wiki.txt"
        raise OSError(f"{what} needs {' and '.join(missing)}, not installed here: {install}")


def state_cost(what: str, size: float, language: str, folder: Path) -> None:
    """Print what a dump of `size` bytes takes: disk and time."""
    folder.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count()
    xml = size if what.endswith(".xml") else size * EXPANSION
    seconds = xml * max(READING, (READING + SEGMENTING[language]) / cores)
    dump = tqdm.format_sizeof(size, "B")
    text = tqdm.format_sizeof(xml * TEXT[language], "B")
    free = tqdm.format_sizeof(shutil.disk_usage(folder).free, "B")
    print(
        f"{what}: a dump of {dump} becomes up to {text} of text in {folder}, where {free} "
        f"are free, in about {seconds / 3600:.1f} h on {cores} cores. If interrupted, it resumes",
        flush=True,
    )


def convert(path: Path, text: Path, language: str, split) -> Iterator[list[str]]:
    """Write `text` in the order of the dump, from where an earlier run stopped."""
    state_cost(path.name, path.stat().st_size, language, text.parent)
    partial = text.with_suffix(".part")
    journal = text.with_suffix(".json")
    done = resume(partial, journal)
    if done["blocks"]:
        print(f"resumed after {tqdm.format_sizeof(done['bytes'], 'B')} of text", flush=True)
    yield from read_text(partial)
    for lines in segment_blocks(path, language, split, done["blocks"]):
        append(partial, journal, lines, done)
        for line in lines.decode().splitlines():
            yield line.split()
    if not done["bytes"]:
        raise ValueError(f"{path}: no article of {SHORTEST} words or more")
    os.replace(partial, text)
    journal.unlink()


def resume(partial: Path, journal: Path) -> dict:
    """What the journal counts as done; whatever lies in `partial` beyond it is cut off."""
    done = {"block": BLOCK, "blocks": 0, "bytes": 0}
    partial.touch()
    if journal.exists():
        counted = json.loads(journal.read_text(encoding="utf-8"))
        if counted["block"] == BLOCK and counted["bytes"] <= partial.stat().st_size:
            done = counted
    os.truncate(partial, done["bytes"])
    return done


def append(partial: Path, journal: Path, lines: bytes, done: dict) -> None:
    """Add the text of a block, and count the block once the text is on the disk."""
    if partial.stat().st_size != done["bytes"]:
        raise OSError(f"{partial}: another process is writing it")
    done["blocks"] += 1
    done["bytes"] += len(lines)
    new = journal.with_suffix(".json.part")
    try:
        write(partial, lines, "ab")
        write(new, json.dumps(done).encode(), "wb")
        os.replace(new, journal)
    except OSError as error:
        told = f"cannot write {partial}: {error.strerror}"
        raise OSError(f"{told}; free some space and run again, it goes on from there") from None


def write(path: Path, content: bytes, mode: str) -> None:
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def segment_blocks(path: Path, language: str, split, skip: int) -> Iterator[bytes]:
    """The text of each block after the first `skip`, in order, from a worker on every core."""
    workers = ProcessPoolExecutor(initializer=follow_parent)
    waiting = deque()
    try:
        with open_dump(path) as (stream, packed), progress(path) as bar:
            for number, pages in enumerate(read_blocks(stream, BLOCK)):
                bar.update(packed.tell() - bar.n)
                if number >= skip:
                    waiting.append(workers.submit(segment_pages, pages, language, split))
                if len(waiting) > 2 * os.cpu_count():
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except BrokenProcessPool:
        raise OSError(f"{path}: a worker was killed, perhaps for lack of memory") from None
    except (*BROKEN, OSError) as error:
        raise OSError(f"{path}: the dump is cut short or damaged ({error})") from None
    finally:
        workers.shutdown(cancel_futures=True)


def follow_parent() -> None:
    """Of a worker: leave Ctrl-C to the process that writes, and end when that one was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def progress(path: Path) -> tqdm:
    return tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, disable=None)
