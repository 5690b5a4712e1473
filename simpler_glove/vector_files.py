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
# what the packers raise, zipfile's word for a password among them; bz2 raises a bare OSError
BROKEN = (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


# ---------------------------------------------------------------- packed files
def open_packed(path: Path):
    """A binary stream of what a plain, .gz, .bz2, .xz or .zip file holds; its name does not count.

    Raises ValueError for an empty file and for an archive of several files; what is damaged raises
    one of BROKEN, here or when it is read.
    """
    with open(path, "rb") as file:
        magic = file.read(10)
    if not magic:
        raise ValueError("the file is empty")
    if magic.startswith(b"BZh") and not magic.endswith(b"1AY&SY"):
        return open(path, "rb")  # a word
    if magic.startswith(UTF_16):
        raise ValueError("the text is UTF-16; save it as UTF-8")
    if magic.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return archive.open(only_member(archive))
    opener = next((PACKED[start] for start in PACKED if magic.startswith(start)), open)
    return opener(path, "rb")


def only_member(archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if not name.endswith("/")]
    names = [name for name in names if not name.startswith("__MACOSX")]
    if len(names) != 1:
        some = ", ".join(names[:3])
        raise ValueError(f"the archive holds {len(names)} files ({some} …); unpack the one meant")
    return names[0]


# ---------------------------------------------------------------- reading
def load_vectors(path: Path, note=print) -> tuple:
    """(words (n,) of str, vectors float32 (n, d), counts int64 (n,) or None, config) of a file.

    note: is given a line for every kind of thing that was left out or guessed. Raises ValueError in
    one line for a file that cannot be used, OSError for one that cannot be read.
    """
    path = Path(path)

    def tell(line):
        note(f"{path.name}: {line}")

    try:
        words, vectors, counts, config, place = read_file(path, tell)
        keep = usable(words, vectors, place, tell)
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
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


def read_file(path: Path, note) -> tuple:
    """(words, vectors, counts, config, what to call row 0 … n: "line 2" or "word 1")."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "vectors.npy" in archive.namelist():
                return read_npz(path)
    elif path.suffix == ".npz" and path.stat().st_size:
        raise ValueError("no .npz file: damaged, cut short or of another kind")
    with open_packed(path) as file:
        return read_stream(file, note)


def read_npz(path: Path) -> tuple:
    with np.load(path, allow_pickle=False) as archive:
        words, vectors = archive["words"], archive["vectors"]
        counts = archive.get("counts")
        config = json.loads(str(archive["config"])) if "config" in archive else {}
    # bytes of a text with a word a line, or an array of words
    if words.dtype == np.uint8:
        words = words.tobytes().decode("utf-8").split("\n")
    else:
        words = words.astype(str).tolist()
    if vectors.ndim != 2 or len(words) != len(vectors):
        raise ValueError(f"{len(words)} words beside vectors of shape {vectors.shape}")
    if counts is not None and len(counts) != len(words):
        raise ValueError(f"{len(words)} words beside {len(counts)} counts")
    return words, vectors, counts, config, (lambda row: f"word {row + 1}")


def read_stream(file, note) -> tuple:
    """Text or binary, with or without the line "n d" on top."""
    first = file.readline().removeprefix(b"\xef\xbb\xbf")
    header = first.split()
    if not header:
        raise ValueError("the first line is empty")
    if len(header) != 2 or not all(field.isdigit() for field in header):
        lines = itertools.chain([first], file)
        words, vectors = read_text(lines, trailing_numbers(header), 1, note)
        return decoded(words), vectors, None, {}, (lambda row: f"line {row + 1}")
    announced, dimension = map(int, header)
    second = file.readline()
    last = numbers(second.split()[-dimension:]) if dimension else None
    if last is None and any(byte < 9 or 13 < byte < 32 for byte in second):
        words, vectors = read_binary(second + file.read(), announced, dimension)
        return decoded(words), vectors, None, {}, (lambda row: f"word {row + 1}")
    words, vectors = read_text(itertools.chain([second], file), dimension, 2)
    if len(words) < announced:
        raise ValueError(f"cut short: {len(words)} words, {announced} announced")
    if len(words) > announced:
        note(f"{announced} words announced, {len(words)} there; all are read")
    return decoded(words), vectors, None, {}, (lambda row: f"line {row + 2}")


def trailing_numbers(fields: list[bytes]) -> int:
    """How many fields at the end of a line are numbers; the first field is a word in any case."""
    for number, field in enumerate(reversed(fields[1:])):
        if numbers([field]) is None:
            return number
    return len(fields) - 1


def numbers(fields: list[bytes]) -> np.ndarray | None:
    """The fields as float32, or None where one is no number."""
    try:
        with np.errstate(over="ignore"):  # 1e99 becomes inf, which is told later
            return np.array(fields, np.float32)
    except ValueError:
        return None


def read_text(lines, dimension: int, first: int, note=None) -> tuple[list[bytes], np.ndarray]:
    """(words, float32 n × d) of lines "word number … number"; first: the number of the first line.

    A word may hold blanks: the numbers are counted from the right. note: told when nothing but the
    end of the file says that the last number is whole.
    """
    if not dimension:
        raise ValueError(f"line {first} is no word with its numbers: not a vector file")
    words = []
    rows = []
    line = b""
    for number, line in enumerate(lines, first):
        text = line.rstrip(b" \t\r\n")
        fields = text.rsplit(b" ", dimension)
        row = numbers(fields[1:])
        if row is None or len(row) != dimension:  # columns parted by tabs or several blanks
            fields = text.rsplit(None, dimension)
            row = numbers(fields[1:])
        if row is None or len(row) != dimension:
            word = fields[0].decode("utf-8", "replace")[:40] if fields else "empty"
            raise ValueError(
                f"damaged or cut short: line {number} ({word}) has not {dimension} numbers"
            )
        if b"\r" in fields[0]:
            raise ValueError(f"line {number} has carriage returns inside; convert the line ends")
        words.append(fields[0])
        rows.append(row)
    check_tails(words, dimension)
    if note and not line.endswith(b"\n"):
        note("the last line has no end; if the file was cut, its last number is wrong")
    return words, np.stack(rows) if rows else np.empty((0, dimension), np.float32)


def check_tails(words: list[bytes], dimension: int) -> None:
    """Raise ValueError where most words end in a number: the lines hold more than `dimension`."""
    tails = [word.rpartition(b" ")[2] for word in words if b" " in word]
    longer = sum(numbers([tail]) is not None for tail in tails)
    if 2 * longer > len(words):
        raise ValueError(f"{longer} of {len(words)} lines hold more than {dimension} numbers")


def read_binary(data: bytes, announced: int, dimension: int) -> tuple[list[bytes], np.ndarray]:
    """(words, float32 n × d) of word2vec's binary format: word, blank, d × 4 bytes, a word."""
    if 4 * dimension * announced > len(data):
        raise ValueError(f"cut short: {len(data):,} bytes for {announced:,} words announced")
    vectors = np.empty((announced, dimension), np.float32)
    words = []
    position = 0
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
    seen = set()
    keep = []
    repeated = []
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
    """One .npz: words, vectors, counts, config.

    words are the UTF-8 bytes of a text with a word a line, most frequent first: an array of str
    would give every word the room of the longest, and cut a NUL off its end.
    """
    with replacing(Path(path)) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            words=np.frombuffer("\n".join(words).encode("utf-8"), np.uint8),
            vectors=np.asarray(vectors, np.float32),
            counts=np.asarray(counts, np.int64),
            config=json.dumps(config, ensure_ascii=False, default=str),
        )


def export_word2vec(path: Path, words: np.ndarray, vectors: np.ndarray) -> None:
    """The text format of word2vec, which gensim and others load: "n d", then a word a line.

    Raises ValueError for a word with a line break, which the format cannot hold.
    """
    broken = [word for word in words if "\n" in word or "\r" in word]
    if broken:
        raise ValueError(f"{broken[0]!r}: a word with a line break cannot be exported as text")
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
