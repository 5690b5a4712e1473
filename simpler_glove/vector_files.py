"""Vector files: read those of any common program, write ours and word2vec's.

Article: 更别致的词向量模型(六)：代码、分享与结语 https://kexue.fm/archives/4681
Read: .npz (train.py's), word2vec and GloVe text, word2vec binary; plain or packed as .gz .bz2 .xz
.zip. What a file holds decides, not its name. What cannot be used of a file is named in one line,
and the rest is used.
Differs from the article: his vectors are word2vec text (which loads); ours are .npz, which loads
200 times faster.
"""

import bz2
import contextlib
import gzip
import itertools
import json
import lzma
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
BROKEN = (EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


# ---------------------------------------------------------------- reading
def load_vectors(path: Path, note=print) -> tuple:
    """(words (n,) of str, vectors float32 (n, d), counts int64 (n,) or None, config) of a file.

    note: is given a line for every kind of thing that was left out or guessed. Raises ValueError in
    one line for a file that cannot be used, OSError for one that cannot be read.
    """
    path = Path(path)
    try:
        words, vectors, counts, config, places = read_file(path)
        keep = usable(words, vectors, places, lambda line: note(f"{path.name}: {line}"))
    except BROKEN as error:
        raise ValueError(f"{path}: packed file is cut short or damaged ({reason(error)})") from None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: {reason(error)}") from None
    if len(keep) < len(words):
        words, vectors = [words[row] for row in keep], vectors[keep]
        counts = None if counts is None else counts[keep]
    vectors = np.ascontiguousarray(vectors, np.float32)
    return np.array(words, dtype=object), vectors, counts, config


def reason(error: Exception) -> str:
    return str(error).strip("'\"").partition("\n")[0] or type(error).__name__


def read_file(path: Path) -> tuple:
    """(words, vectors, counts, config, what to call row 0 … n: "line 2" or "word 1")."""
    with open(path, "rb") as file:
        magic = file.read(6)
    if not magic:
        raise ValueError("the file is empty")
    if path.suffix == ".npz" and not magic.startswith(b"PK"):
        raise ValueError("no .npz file: damaged, cut short or of another kind")
    if magic.startswith(b"PK\x03\x04"):
        return read_zip(path)
    opener = next((PACKED[start] for start in PACKED if magic.startswith(start)), open)
    with opener(path, "rb") as file:
        return read_stream(file)


def read_zip(path: Path) -> tuple:
    """An .npz file, or an archive with one vector file in it."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if "vectors.npy" in names:
            return read_npz(path)
        names = [name for name in names if not name.startswith("__MACOSX")]
        if len(names) != 1:
            raise ValueError(f"holds {len(names)} files ({', '.join(names[:3])} …), not one")
        with archive.open(names[0]) as file:
            return read_stream(file)


def read_npz(path: Path) -> tuple:
    with np.load(path, allow_pickle=False) as archive:
        words, vectors = archive["words"], archive["vectors"]
        counts = archive.get("counts")
        config = json.loads(str(archive["config"])) if "config" in archive else {}
    # one text with a word a line, or an array of words
    words = str(words).split("\n") if words.ndim == 0 else words.astype(str).tolist()
    if vectors.ndim != 2 or len(words) != len(vectors):
        raise ValueError(f"{len(words)} words beside vectors of shape {vectors.shape}")
    if counts is not None and len(counts) != len(words):
        raise ValueError(f"{len(words)} words beside {len(counts)} counts")
    return words, vectors, counts, config, (lambda row: f"word {row + 1}")


def read_stream(file) -> tuple:
    """Text or binary, with or without the line "n d" on top."""
    first = file.readline().removeprefix(b"\xef\xbb\xbf")
    header = first.split()
    if not header:
        raise ValueError("the first line is empty")
    if len(header) == 2 and all(field.isdigit() for field in header):
        announced, dimension = map(int, header)
        beginning = file.peek(64)[:64]
        if any(byte < 9 or 13 < byte < 32 for byte in beginning):
            words, vectors = read_binary(file.read(), announced, dimension)
            return decoded(words), vectors, None, {}, (lambda row: f"word {row + 1}")
        words, vectors = read_text(file, dimension, 2)
        if len(words) != announced:
            raise ValueError(f"cut short: {len(words)} words, {announced} announced")
        return decoded(words), vectors, None, {}, (lambda row: f"line {row + 2}")
    lines = itertools.chain([first], file)
    words, vectors = read_text(lines, trailing_numbers(header), 1)
    return decoded(words), vectors, None, {}, (lambda row: f"line {row + 1}")


def trailing_numbers(fields: list[bytes]) -> int:
    """How many fields at the end of a line are numbers; the first field is a word in any case."""
    for number, field in enumerate(reversed(fields[1:])):
        try:
            float(field)
        except ValueError:
            return number
    return len(fields) - 1


def read_text(lines, dimension: int, first: int) -> tuple[list[bytes], np.ndarray]:
    """(words, float32 n × d) of lines "word number … number"; first: the number of the first line.

    A word may hold blanks: the numbers are counted from the right.
    """
    words, rows = [], []
    for number, line in enumerate(lines, first):
        fields = line.rstrip(b" \t\r\n").rsplit(None if b"\t" in line else b" ", dimension)
        try:
            row = np.array(fields[1:], np.float32)
        except ValueError:
            row = ()
        if len(row) != dimension or not dimension:
            word = fields[0].decode("utf-8", "replace")[:40]
            raise ValueError(
                f"damaged or cut short: line {number} ({word}) has not {dimension} numbers"
            )
        words.append(fields[0])
        rows.append(row)
    return words, np.stack(rows) if rows else np.empty((0, dimension), np.float32)


def read_binary(data: bytes, announced: int, dimension: int) -> tuple[list[bytes], np.ndarray]:
    """(words, float32 n × d) of word2vec's binary format: word, blank, d × 4 bytes, a word."""
    if 4 * dimension * announced > len(data):
        raise ValueError(f"cut short: {len(data):,} bytes for {announced:,} words announced")
    vectors = np.empty((announced, dimension), np.float32)
    words, position = [], 0
    for row in range(announced):
        blank = data.find(b" ", position)
        end = blank + 1 + 4 * dimension
        if blank < 0 or end > len(data):
            raise ValueError(f"cut short: {row} words, {announced} announced")
        words.append(data[position:blank].lstrip(b"\n"))
        vectors[row] = np.frombuffer(data, "<f4", dimension, blank + 1)
        position = end
    return words, vectors


def decoded(words: list[bytes]) -> list:
    """The words as str; bytes stay where they are not UTF-8."""
    texts = []
    for word in words:
        try:
            texts.append(word.decode("utf-8"))
        except UnicodeDecodeError:
            texts.append(word)
    return texts


# ---------------------------------------------------------------- what can be used
def usable(words: list, vectors: np.ndarray, place, note) -> list[int]:
    """Rows that can be used; `words` may be changed (GBK). place(row): what to call a row."""
    broken = [row for row, word in enumerate(words) if isinstance(word, bytes)]
    if broken and is_gbk(words, len(broken)):
        note(f"not UTF-8 but GBK ({place(broken[0])} …): read as GBK")
        words[:] = [as_bytes(word).decode("gb18030") for word in words]
        broken = []
    if broken:
        named = words[broken[0]].decode("utf-8", "replace")
        note(
            f"{place(broken[0])}: the word {named} is not UTF-8 (cut inside a character?); "
            f"left out, {len(broken)} in all"
        )
    good = np.isfinite(vectors).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        note(f"{place(row)}: a number of {words[row]} is not finite; {sum(~good)} words left out")
    seen, keep, repeated = set(), [], []
    for row, word in enumerate(words):
        if isinstance(word, bytes) or not good[row]:
            continue
        if word in seen:
            repeated.append(row)
            continue
        seen.add(word)
        keep.append(row)
    if repeated:
        row = repeated[0]
        note(
            f"{place(row)}: {words[row]} stands twice; the first is kept, {len(repeated)} left out"
        )
    if not keep:
        raise ValueError("no word with finite numbers is left")
    return keep


def as_bytes(word) -> bytes:
    return word if isinstance(word, bytes) else word.encode("utf-8")


def is_gbk(words: list, broken: int) -> bool:
    """Most words beyond ASCII are no UTF-8, and all of them are GBK; one word alone may be cut."""
    wide = [as_bytes(word) for word in words if isinstance(word, bytes) or not word.isascii()]
    if broken < 2 or 2 * broken <= len(wide):
        return False
    try:
        for word in wide:
            word.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


# ---------------------------------------------------------------- writing
def save_vectors(
    path: Path, words: np.ndarray, vectors: np.ndarray, counts: np.ndarray, config: dict
) -> None:
    """One .npz: words (a text with one a line, most frequent first), vectors, counts, config."""
    with replacing(Path(path)) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            words=np.array("\n".join(words)),
            vectors=np.asarray(vectors, np.float32),
            counts=np.asarray(counts, np.int64),
            config=json.dumps(config, ensure_ascii=False, default=str),
        )


def export_word2vec(path: Path, words: np.ndarray, vectors: np.ndarray) -> None:
    """The text format of word2vec, which gensim and others load: "n d", then a word a line."""
    with replacing(Path(path)) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, vector in zip(words, vectors.tolist(), strict=True):
            file.write(f"{word} {' '.join(f'{value:.6g}' for value in vector)}\n")


@contextlib.contextmanager
def replacing(path: Path):
    """A name to write to, moved to `path` only when all went well."""
    partial = path.with_name(path.name + ".part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
