"""Two tables of any kind → numbers that a discriminator can look at.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Differs from the article: it begins where the rows are vectors already.

pandas reads the files; column_types.py decides what a column is, on both tables together.
"""

import bz2
import csv
import gzip
import io
import itertools
import lzma
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import scipy

from column_types import Column, Side, decide, needs_text, side_of
from spellings import decimal_votes

FEWEST_ROWS = 100  # a side; below that neither D nor its test mean anything
SEPARATORS = ",;\t|"
BROKEN = "\ufffd"  # the character in the place of bytes that fit none
FEW_LEVELS, MANY_LEVELS = 30, 1000  # that get an indicator each, on large and on small tables
CELLS = 4_000_000  # indicators of one column of text: rows × levels


# ---------------------------------------------------------------- reading
@dataclass
class Table:
    """A table as pandas read it; again(usecols=…, dtype=…) reads it once more, if it is a file."""

    frame: pd.DataFrame
    again: Callable | None = None
    separator: str = ","
    remarks: list[str] = field(default_factory=list)

    def sample(self, rows: int, seed: int) -> "Table":
        frame = self.frame.sample(min(len(self.frame), rows), random_state=seed)
        return Table(frame, self.again, self.separator, self.remarks)

    def side(self, name, decimal: str) -> Side:
        """This table's part of a column."""
        position = self.frame.columns.get_loc(name)

        def text() -> pd.Series:
            column = self.again(usecols=[position], dtype=str).iloc[:, 0]
            return column.reset_index(drop=True).loc[self.frame.index]

        return side_of(self.frame[name], decimal, text if self.again else None)

    def decimal_mark(self) -> str:
        """The decimal mark that the columns agree on; by the separator if none tells."""
        point = comma = False
        for _, series in self.frame.iloc[:5000].items():
            if pd.api.types.is_float_dtype(series):
                broken = series[series % 1 != 0].dropna().to_numpy(float)
                point |= len(broken) > 0 and not needs_text(broken, ",")
            elif not pd.api.types.is_numeric_dtype(series):
                levels = [str(level) for level in series.dropna().unique()]
                votes = decimal_votes(levels)
                many = sum(votes) * 2 > len(levels)
                point |= many and votes[0] > 0
                comma |= many and votes[1] > 0
        if point == comma:
            return ","[: self.separator == ";"] or "."
        return "." if point else ","


def read_table(path: Path) -> Table:
    """A CSV file, JSON lines or parquet: separator , ; | or tab; may be packed by gzip, bzip2, xz
    or zip. What a file is, its first bytes say, not its name.

    ValueError or OSError, in one line, for a file that is no such table.
    """
    with path.open("rb") as file:
        start = file.read(8)
    try:
        if path.suffix == ".parquet" or start.startswith(b"PAR1"):
            return Table(pd.read_parquet(path))
        return read_text(path)
    except ImportError:
        raise ValueError(f"{path}: parquet needs the package pyarrow; or save as CSV") from None
    # pandas' own are ValueErrors
    except (
        ValueError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        csv.Error,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is not a table: {reason}") from None


def read_text(path: Path) -> Table:
    """A table in UTF-16 with its mark, in UTF-8, or in GB18030 or cp1252, which is said."""
    packing, opener = packing_of(path)
    with opener() as file:
        marked = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    try:
        return read_csv(path, packing, opener, "utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        if marked:
            raise ValueError(f"not UTF-16 text ({error.reason})") from None
    encoding, why = older_encoding(opener)
    table = read_csv(path, packing, opener, encoding)
    table.remarks.insert(0, f"{path.name} is not UTF-8: taken for {encoding} ({why})")
    return table


def older_encoding(opener) -> tuple:
    """(gb18030 or cp1252, why) for a file that is not UTF-8.

    Common Chinese characters fit cp1252 too, and "Île-de-France" fits GB18030: where both fit, it
    counts how many characters would be common Chinese ones.
    """
    damaged = beyond_ascii(opener, "utf-8", "replace")
    if 10 * damaged[BROKEN] < damaged.total():
        raise ValueError(f"not UTF-8 text throughout (broken characters: {damaged[BROKEN]})")
    chinese = beyond_ascii(opener, "gb18030")
    latin = beyond_ascii(opener, "cp1252")
    if chinese is None and latin is None:
        raise ValueError("not UTF-8 text, nor GB18030 or cp1252: save it as UTF-8")
    if latin is None:
        return "gb18030", "its bytes do not fit cp1252"
    if chinese is None:
        return "cp1252", "its bytes do not fit GB18030"
    share = sum(chinese[c] for c in chinese if is_common_chinese(c)) / chinese.total()
    why = f"its bytes fit both GB18030 and cp1252; {share:.0%} would be common Chinese characters"
    return "gb18030" if share > 0.5 else "cp1252", why


def beyond_ascii(opener, encoding: str, errors: str = "strict") -> Counter | None:
    """How often each character beyond ASCII stands in a file, None if its bytes do not fit."""
    found = Counter()
    try:
        with opener() as file, io.TextIOWrapper(file, encoding, errors) as text:
            while part := text.read(1 << 20):
                found.update(re.findall(r"[^\x00-\x7f]", part))
    except UnicodeDecodeError:
        return None
    return found


def is_common_chinese(character: str) -> bool:
    """Is it of the first level of GB 2312, the 3755 commonest, or a mark like 。 or （ ?"""
    code = character.encode("gb2312", "ignore")
    return b"\xa1" <= code < b"\xa4" or b"\xb0" <= code < b"\xd8"


def read_csv(path: Path, packing: str | None, opener: Callable, encoding: str) -> Table:
    with opener() as file, io.TextIOWrapper(file, encoding, newline="") as text:
        start = text.read(1 << 16)
    if "\x00" in start:
        raise ValueError("it holds bytes of 0: no text, or UTF-16 without its mark")
    if start.lstrip().startswith(("{", "[")):
        return read_json_lines(path, packing, encoding)
    named = re.match(r"sep=(.)\r?\n", start)  # a line that Excel understands
    start = start[named.end() :] if named else start
    separator = named[1] if named else find_separator(start)
    form = {"sep": separator, "encoding": encoding, "skipinitialspace": True}
    form["compression"] = packing
    form["skiprows"] = 1 if named else 0
    remarks = []
    header, *rows = first_records(start, separator) or [[]]
    width = len(header)
    if rows and all(len(row) == width + 1 for row in rows):
        if all(row[-1].strip() == "" for row in rows):
            form["index_col"] = False
            remarks.append(f"{path.name}: lines end in a separator too many, left out")
        else:
            remarks.append(f"{path.name}: no name for the first column, taken for names of rows")
            width += 1

    def read(**options) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mixed types in a column: see side_of
            return pd.read_csv(path, **form, **options)

    frame = read()
    if frame.shape[1] == 1 and not re.fullmatch(r"[\w .-]*", str(frame.columns[0])):
        remarks.append(f"{path.name}: one column; the separators known are , ; | and tab")
    if frame.iloc[:, -1].isna().any():
        with opener() as file, io.TextIOWrapper(file, encoding, newline="") as text:
            short = short_lines(text, separator, width, form["skiprows"])
        if short:
            lines = ", ".join(map(str, short[:5])) + " …" * (len(short) > 5)
            remarks.append(
                f"{path.name}: lines with fewer fields than the first ({len(short)}: {lines}); "
                "what they lack is taken for missing"
            )
    named_rows = not isinstance(frame.index, pd.RangeIndex)
    frame = frame.reset_index(drop=True)
    stripped = [str(name).strip() for name in frame.columns]
    if len(set(stripped)) == len(stripped):
        frame.columns = stripped
    return Table(frame, None if named_rows else read, separator, remarks)


PACKINGS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}


def packing_of(path: Path) -> tuple:
    """(pandas' name of the packing of a file or None, a function that opens what is inside)."""
    with path.open("rb") as file:
        start = file.read(8)
    packing = next((name for mark, name in PACKINGS.items() if start.startswith(mark)), None)
    openers = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open, None: open}
    if packing != "zip":
        return packing, lambda: openers[packing](path, "rb")
    names = zipfile.ZipFile(path).namelist()
    if any(name.startswith("xl/") for name in names):
        raise ValueError("it is an Excel workbook: save it as CSV")
    if len(names) != 1:
        raise ValueError(f"the zip holds {len(names)} files: it must be one")
    return packing, lambda: zipfile.ZipFile(path).open(names[0])


def read_json_lines(path: Path, packing: str | None, encoding: str) -> Table:
    """A table of one JSON object a line."""
    try:
        frame = pd.read_json(path, lines=True, encoding=encoding, compression=packing)
    except ValueError as error:
        raise ValueError(f"it begins as JSON, but is not one object a line ({error})") from None
    return Table(frame)


def first_records(start: str, separator: str, most: int = 50) -> list:
    """The first lines of a file, cut into fields; empty lines and a line cut short are left out."""
    whole = start if start.endswith("\n") else start[: start.rfind("\n") + 1] or start
    lines = io.StringIO(whole, newline=None)
    records = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    return [record for record in itertools.islice(records, most) if record]


def short_lines(text, separator: str, width: int, skipped: int) -> list:
    """Numbers of the lines that have less than `width` fields and are not empty."""
    for _ in range(skipped):
        text.readline()
    csv.field_size_limit(1 << 30)
    records = csv.reader(text, delimiter=separator, skipinitialspace=True)
    next(records)  # the names
    return [
        records.line_num + skipped
        for record in records
        if len(record) < width and "".join(record).strip()
    ]


def find_separator(start: str) -> str:
    """The separator that cuts all first lines into the same number of fields, and into most."""
    best, most = max(SEPARATORS, key=start.partition("\n")[0].count), 1
    for separator in SEPARATORS:
        header, *rows = first_records(start, separator) or [[]]
        fits = all(len(row) in (len(header), len(header) + 1) for row in rows)
        if fits and len(header) > most:
            best, most = separator, len(header)
    return best


# ---------------------------------------------------------------- choosing
@dataclass
class Prepared:
    """What D looks at: x float32 (rows, features), mean 0 and sd 1 over both tables.

    bins {column: (train, test)}: coarse codes of each column, -1 for missing. taken_for {column:
    what it was taken for, where that was not plain}.
    """

    x_train: np.ndarray
    x_test: np.ndarray
    column_of: list  # of each feature
    bins: dict
    texts: list  # columns of text
    warnings: list[str]
    taken_for: dict


def check_request(train, test, target: str | None, drop: list) -> None:
    """ValueError where a column is asked for that is not there, or a table is too short."""
    for name in ([target] if target else []) + drop:
        if name not in train.columns:
            swapped = "; TEST has it: are the two swapped?" if name in test.columns else ""
            has = ", ".join(map(str, train.columns[:12]))
            raise ValueError(f"no column {name!r} in TRAIN; it has {has} …{swapped}")
    for side, frame in (("TRAIN", train), ("TEST", test)):
        if len(frame) < FEWEST_ROWS:
            raise ValueError(f"{side} has {len(frame)} rows; at least {FEWEST_ROWS} are needed")


def compare_names(train, test, target: str | None) -> list:
    """Warnings on columns that stand in one table only."""
    found = []
    if target in test.columns:
        found.append(f"target {target!r} is in TEST too: not shown to D")
    only = [str(name) for name in train.columns.symmetric_difference(test.columns)]
    only = [name for name in only if name != target]
    if only:
        found.append(f"columns in one table only, ignored: {', '.join(only)}")
    shared = [str(name) for name in train.columns.intersection(test.columns)]
    numbered = shared == [str(k) for k in range(len(shared))]  # a frame without names
    if any(re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", name) for name in only + shared * (not numbered)):
        found.append(
            "a column is named by a number: does the first line of each file hold the names?"
        )
    return found


def why_useless(name: str, column: Column) -> str | None:
    """Why D shall not look at a column, None if it may."""
    sides = column.train, column.test
    least, most = (pick([pick(side) for side in sides]) for pick in (np.min, np.max))
    if column.kind == "number":
        if np.isnan(least) and all(np.isnan(side).all() for side in sides):
            return "all missing"
        if least == most:
            return "constant"
        return "a number of the row" if is_row_number(name, sides) else None
    if most < 0:
        return "all missing"
    if least == most:
        return "constant"
    distinct = [np.count_nonzero(np.bincount(side + 1)[1:]) for side in sides]
    if all(found > max(50, len(side) // 2) for found, side in zip(distinct, sides, strict=True)):
        return "text that hardly repeats (an identifier?)"
    return None


def is_row_number(name: str, sides: tuple) -> bool:
    """Is this the index of a frame, which pandas writes under no name?"""
    if not str(name).startswith("Unnamed:"):
        return False
    return all(np.array_equal(side, np.arange(len(side)) + side[0]) for side in sides)


def prepare(train: Table, test: Table, target: str | None, drop: list) -> Prepared:
    """Read every shared column, and make features of those that D may look at.

    ValueError where nothing is left.
    """
    check_request(train.frame, test.frame, target, drop)
    found = train.remarks + test.remarks + compare_names(train.frame, test.frame, target)
    marks = train.decimal_mark(), test.decimal_mark()
    features = []
    column_of = []
    bins = {}
    texts = []
    taken_for = {}
    prints = [np.zeros(len(table.frame), np.uint64) for table in (train, test)]
    for name in train.frame.columns.intersection(test.frame.columns, sort=False):
        if name == target or name in drop:
            continue
        column = decide(train.side(name, marks[0]), test.side(name, marks[1]), marks)
        useless = why_useless(name, column)
        if useless:
            why = f"{useless}; {column.note}" if column.note else useless
            found.append(f"column {name!r} is {why}: ignored")
            continue
        found += [
            f"column {name!r} is empty in {side}, and so tells the tables apart"
            for side, values in (("TRAIN", column.train), ("TEST", column.test))
            if (np.isnan(values) if column.kind == "number" else values < 0).all()
        ]
        prints = [
            fingerprint(*pair) for pair in zip(prints, (column.train, column.test), strict=True)
        ]
        more, codes = encode_number(column) if column.kind == "number" else encode_text(column)
        if column.note:
            taken_for[name] = column.note
        features += more
        column_of += [name] * len(more)
        if column.kind == "text":
            texts.append(name)
        bins[name] = codes[: len(column.train)], codes[len(column.train) :]
    if not features:
        raise ValueError(
            "TRAIN and TEST have no usable column in common; "
            "the first line of each names the columns"
        )
    repeated = int(np.isin(prints[1], prints[0]).sum())
    if repeated:
        found.append(
            f"{repeated} of {len(prints[1])} test rows repeat a training row "
            "in every column that D sees"
        )
    found += copies(prints)
    n = len(prints[0])
    x = np.empty((n + len(prints[1]), len(features)), np.float32)
    for start in range(0, len(x), 4096):  # rows that the cache holds
        rows = slice(start, start + 4096)
        for j, feature in enumerate(features):
            x[rows, j] = feature[rows]
    return Prepared(x[:n], x[n:], column_of, bins, texts, found, taken_for)


def copies(prints: list) -> list:
    """Warnings on tables in which many rows are copies of others."""
    warned = []
    for name, rows in zip(("TRAIN", "TEST"), prints, strict=True):
        same = len(rows) - len(np.unique(rows))
        if same > 0.2 * len(rows):
            warned.append(
                f"{same} of {len(rows)} rows of {name} are the same as others in every column that "
                "D sees: if they are copies, p is too small"
            )
    return warned


def fingerprint(before: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A hash of each row, with one more column in it: equal values give equal hashes."""
    bits = (values + 0.0).view(np.uint64)  # −0 is 0
    mixed = (before ^ bits) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return mixed


# ---------------------------------------------------------------- encoding
def a_few_decide(value: np.ndarray) -> bool:
    """Do a few numbers make up most of the variance? One 1e12 must not hide what the rest tells."""
    largest = np.abs(value).max()
    scaled = value / largest if largest > 1e100 else value  # its square would be infinite
    middle, spread = scaled.mean(), scaled.std()
    clipped = np.clip(scaled, middle - 5 * spread, middle + 5 * spread)
    return bool(clipped.std() < 0.5 * spread)


def standardised(value: np.ndarray) -> np.ndarray:
    """Mean 0, sd 1, clipped to 5 sd, float32: centred first, so that close numbers stay apart."""
    largest = np.abs(value).max()
    value = value / largest if largest > 1e100 else value  # its square would be infinite
    value = value - value.mean()
    return np.clip(value / (value.std() or 1.0), -5, 5).astype(np.float32)


def encode_number(column: Column) -> tuple:
    """→ (the numbers with the median for missing ones, and an indicator of these; deciles)."""
    value = np.concatenate([column.train, column.test])
    missing = np.isnan(value)
    some = value[~missing][:: max(1, len(value) // 100_000)]
    deciles = np.quantile(np.sort(some), np.linspace(0.1, 0.9, 9))
    codes = sum((value > decile).astype(np.int8) for decile in deciles)
    codes[missing] = -1
    value[missing] = deciles[4]
    if a_few_decide(value):
        value = scipy.stats.rankdata(value)
        ranks = "a few make up most of the variance: D sees ranks"
        column.note = f"{column.note or 'numbers'}; {ranks}"
    features = [value, missing.astype(float)] if missing.any() else [value]
    return [standardised(feature) for feature in features], codes


def encode_text(column: Column) -> tuple:
    """→ (indicators of the commonest levels, of the others, of missing; codes of all levels)."""
    codes = np.concatenate([column.train, column.test])
    order = np.argsort(-np.bincount(codes[codes >= 0]), kind="stable")
    rank = np.append(np.argsort(order), -1).astype(np.int32)[codes]
    most = np.clip(CELLS // len(codes), FEW_LEVELS, MANY_LEVELS)
    shown = np.minimum(rank, most)
    return [standardised((shown == k).astype(float)) for k in np.unique(shown)], rank
