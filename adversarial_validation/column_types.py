"""What is a column? Numbers, dates or text, decided on both tables together, and said.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Differs from the article: it begins where the rows are vectors already.

A side is one table's part of a column. Text is held by its levels, the different things that stand
in it, so that it costs no more than its vocabulary. The readings of a column are tried in the order
numbers, truth, dates, text, on both sides at once. What was not plain (words among numbers, decimal
commas, forms of dates, two vocabularies) goes into the note of the column.
"""

from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pandas as pd

from spellings import (
    BOUND,
    SAMPLE,
    canonical,
    choose_forms,
    cleaned,
    common_unit,
    currencies_of,
    date_forms,
    decimal_votes,
    has_zone,
    plain_number,
    read_dates,
    remark_on,
    seconds_since_1970,
)

# Marks that mean a missing value in any column, and words that mean it among numbers and dates.
MARKS = {
    "",
    "\\n",
    "?",
    "??",
    "-",
    "--",
    "---",
    "–",
    "—",
    ".",
    "na",
    "n/a",
    "n.a.",
    "#n/a",
    "nan",
    "null",
}
WORDS = {"none", "nil", "unknown", "unk", "missing", "undefined", "empty", "blank", "inf", "-inf"}
WORDS |= {"not available", "not known", "no data", "infinity", "未知", "缺失", "不详", "无"}
TRUTH = {"1": 1.0, "true": 1.0, "t": 1.0, "yes": 1.0, "y": 1.0, "on": 1.0, "是": 1.0}
TRUTH |= {"0": 0.0, "false": 0.0, "f": 0.0, "no": 0.0, "n": 0.0, "off": 0.0, "否": 0.0}
SENTINELS = {-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0}
DAY_SENTINELS = ["0001-01-01", "1899-12-30", "1900-01-01", "1970-01-01", "2099-12-31", "9999-12-31"]
FEW = 0.02  # share of other words that numbers or dates may hold and still be numbers or dates
QUARTILES = (0.25, 0.5, 0.75)
ONE_SIDED = 20  # rows of a level that stands in one table only, from which on it is worth a word
EXACT = 2**53  # from here on float64 skips whole numbers
LARGEST = Decimal(float(np.finfo(float).max))


@dataclass
class Side:
    """One table's part of a column: numbers or seconds as pandas read them, or levels of text.

    codes (rows,): the number of each row's level, -1 where pandas saw a blank.
    """

    numbers: np.ndarray | None = None
    seconds: np.ndarray | None = None
    codes: np.ndarray | None = None
    levels: list[str] = field(default_factory=list)

    def counts(self) -> np.ndarray:
        """Rows of each level."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.levels))

    def of_rows(self, values) -> np.ndarray:
        """A value for each level → a value for each row, nan for a blank."""
        return np.append(np.asarray(values, float), np.nan)[self.codes]

    def without_unit(self, unit: str) -> "Side":
        levels = [level.strip().removesuffix(unit) for level in self.levels]
        return Side(self.numbers, self.seconds, self.codes, levels)

    def first_levels(self) -> "Side":
        codes = self.codes[self.codes < SAMPLE]
        return Side(codes=codes, levels=self.levels[:SAMPLE])


@dataclass(eq=False)
class Reading:
    """A value for each level of a side, nan for none, and remarks on what was not plain."""

    values: np.ndarray
    remarks: dict = field(default_factory=dict)  # what was found → an example of it
    exact: list | None = None  # the values as Decimals where float64 would confuse them


@dataclass
class Column:
    """A column as D will see it: float64 with nan (number), or codes of levels, -1 missing."""

    kind: str
    train: np.ndarray
    test: np.ndarray
    note: str = ""
    levels: list[str] = field(default_factory=list)


def decide(train: Side, test: Side, decimals: tuple = (".", ".")) -> Column:
    """The column that both sides make; decimals: each table's mark, for sides that tell none."""
    return (
        as_numbers(train, test, decimals)
        or as_truth(train, test)
        or as_dates(train, test)
        or as_text(train, test)
    )


# ---------------------------------------------------------------- a side from what pandas read
def side_of(series: pd.Series, decimal: str = ".", text=None) -> Side:
    """A side from a series; text() gives the column once more as it stands in the file."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.dtype.categories.dtype)
    if pd.api.types.is_datetime64_any_dtype(series):
        local = series.dt.tz_localize(None) if series.dt.tz is None else series.dt.tz_convert(None)
        return Side(seconds=seconds_since_1970(local))
    if pd.api.types.is_timedelta64_dtype(series):
        return Side(numbers=series.dt.total_seconds().to_numpy(float))
    if pd.api.types.is_numeric_dtype(series):
        numbers = series.to_numpy(np.float64, na_value=np.nan)
        whole = pd.api.types.is_integer_dtype(series)
        if not needs_text(numbers, "." if whole else decimal):
            return Side(numbers=numbers)
        series = series.astype(object) if whole or text is None else text()
    codes, levels = pd.factorize(series)
    if text is not None and not all(isinstance(level, str) for level in levels):
        codes, levels = pd.factorize(text())  # pandas has read parts of a long file differently
    return Side(codes=codes, levels=[str(level) for level in levels])


def needs_text(numbers: np.ndarray, decimal: str) -> bool:
    """Has pandas lost something? Digits of long numbers, or "1.234" where commas are decimal."""
    largest = np.nanmax(np.abs(numbers), initial=0)
    if EXACT <= largest < np.inf:
        return True
    if decimal == "." or not 0 < largest < 1000:
        return False
    broken = numbers[np.isfinite(numbers) & (numbers % 1 != 0)]
    thousands = 1000 * np.abs(broken)
    return bool(np.all(thousands > 1000) and np.allclose(thousands, np.round(thousands), 0, 1e-6))


def is_missing(level: str) -> bool:
    return level.strip().casefold() in MARKS | WORDS


def is_credible(side: Side, values: np.ndarray) -> bool:
    """Do the levels that have a value make this side?

    Yes if other words fill few rows, or if they are three at most among many different values.
    """
    counts = side.counts()
    good = np.isfinite(values)
    odd = ~good & ~np.array([is_missing(level) for level in side.levels], bool)
    odd_rows, good_rows = counts[odd].sum(), counts[good].sum()
    if odd_rows <= FEW * (odd_rows + good_rows):
        return True
    return odd.sum() <= 3 and odd_rows <= good_rows and good.sum() > 30


def what_is_missing(side: Side, values: np.ndarray) -> str:
    """ "1 blank and 2 'unknown'": rows of a side that got no value."""
    if side.codes is None:
        given = side.numbers if side.numbers is not None else side.seconds
        found = {"blank": np.isnan(given).sum(), "infinite": np.isinf(given).sum()}
    else:
        lost = ~np.isfinite(values)
        found = {repr(side.levels[i]): side.counts()[i] for i in np.flatnonzero(lost)}
        found["blank"] = (side.codes < 0).sum()
    words = sorted((word for word in found if found[word]), key=lambda word: -found[word])
    shown = [f"{found[word]} {word}" for word in words[:4]]
    if len(words) > 4:
        shown.append(f"{len(words) - 4} other words")
    return " and ".join(shown)


def note_of(kind: str, sides, readings: list) -> str:
    """What was not plain about a column, "" for nothing."""
    remarks = readings[0].remarks | readings[1].remarks
    notes = [f"{what}, e.g. {example}" for what, example in remarks.items()]
    lost = []
    for name, side, reading in zip(("TRAIN", "TEST"), sides, readings, strict=True):
        what = what_is_missing(side, reading.values)
        if what:
            lost.append(f"{what} in {name}")
    if lost and (any(side.codes is not None for side in sides) or "infinite" in " ".join(lost)):
        notes.append(f"taken for missing: {', '.join(lost)}")
    return "; ".join([kind, *notes]) if notes or kind != "numbers" else ""


# ---------------------------------------------------------------- numbers
def decimal_of(side: Side, other: Side, habit: str) -> tuple:
    """(decimal mark of a side, how it was guessed or ""): is "1,234" more than a thousand?

    A side that does not tell is read so that its numbers are as large as the other table's; else by
    habit, the mark of the other columns of its table.
    """
    point, comma, either = decimal_votes(side.levels)
    if point != comma or not either:
        return ("." if point > comma else "," if comma > point else habit), ""
    some = side.levels[:SAMPLE]
    if "," in "".join(some) and any(level.strip().isdigit() for level in some):
        return ".", ""  # "999" beside "1,234": decimals would stand behind all numbers
    known = other.numbers
    if known is None and other.codes is not None:
        marks = decimal_votes(other.levels)
        if marks[0] != marks[1]:
            known = read_numbers(other.first_levels(), "." if marks[0] > marks[1] else ",").values
    if known is None or not np.nanmax(np.abs(known), initial=0):
        return habit, ", as elsewhere in the table"
    sizes = [size_of(read_numbers(side.first_levels(), mark).values) for mark in ".,"]
    far = [abs(np.log(size / size_of(known))) for size in sizes]
    return "," if far[1] < far[0] else ".", ", by the size of the other table's numbers"


def size_of(values: np.ndarray) -> float:
    """The median of what is not 0, without signs."""
    return float(np.median(np.abs(values[np.isfinite(values) & (values != 0)])))


def read_numbers(side: Side, decimal: str, guessed: str = "") -> Reading:
    """The levels of a side as numbers with this decimal mark."""
    numbers = []
    remarks = {}
    for level in side.levels:
        text = cleaned(level)
        number = plain_number(text, decimal)
        what = remark_on(level, text, decimal) if number and not level.isdigit() else ""
        if number is None and BOUND.search(text):
            number = plain_number(BOUND.sub("", text), decimal)
            what = "bounds" if number else ""
        numbers.append(number)
        if what:
            what += guessed if "decimal" in what or "thousands" in what else ""
            remarks.setdefault(what, f"{level!r} is {float(number):.12g}")
    values = pd.to_numeric(pd.Series(numbers, dtype=object), errors="coerce").to_numpy(float)
    exact = None
    if np.nanmax(np.abs(values), initial=0) >= EXACT:
        exact = [Decimal(number) if number else None for number in numbers]
    return Reading(np.where(np.isfinite(values), values, np.nan), remarks, exact)


def read_side(side: Side, other: Side, habit: str) -> Reading | None:
    """A side as numbers, None if it does not consist of them."""
    if side.numbers is not None:
        return Reading(side.numbers)
    decimal = decimal_of(side, other, habit)
    first = side.first_levels()
    if not is_credible(first, read_numbers(first, *decimal).values):
        return None
    reading = read_numbers(side, *decimal)
    return reading if is_credible(side, reading.values) else None


def as_numbers(train: Side, test: Side, decimals: tuple) -> Column | None:
    """Numbers on both sides, words for missing values apart; None if they are not that."""
    sides = train, test
    if any(side.seconds is not None for side in sides):
        return None
    if all(side.codes is not None for side in sides):
        decimals = decimals[:1] * 2  # the same text means the same number
    if len(set().union(*(currencies_of(side.levels) for side in sides))) > 1:
        return None
    units = [common_unit(side.levels) for side in sides]
    if len(set(units) - {""}) == 1:
        sides = tuple(side.without_unit(max(units)) for side in sides)
    readings = [read_side(sides[k], sides[1 - k], decimals[k]) for k in (0, 1)]
    if None in readings or not any(np.isfinite(found.values).any() for found in readings):
        return None
    if all(reading.exact for reading in readings):
        subtract_least(readings)
    rows = rows_of(sides, readings)
    kind = f"numbers of {max(units)}" if any(units) else "numbers"
    if any(units) and not all(units):
        kind += f", which {'TEST' if units[0] else 'TRAIN'} does not say"
    notes = [note_of(kind, sides, readings), suspect_sentinel(rows), suspect_unit(rows)]
    return Column("number", *rows, "; ".join(filter(None, notes)))


def subtract_least(readings: list) -> None:
    """Long numbers less the least of them: float64 keeps apart what is left."""
    known = [x for reading in readings for x in reading.exact if x is not None]
    least = min(known)
    if max(known) - least > LARGEST:
        return
    for reading in readings:
        left = [np.nan if x is None else float(x - least) for x in reading.exact]
        reading.values = np.array(left)


def suspect_sentinel(rows: list) -> str:
    """A word on -999 and the like, in one table only and beyond all its other numbers."""
    for name, here, there in (("TRAIN", *rows), ("TEST", *rows[::-1])):
        for end in (np.fmin, np.fmax):
            value = end.reduce(here)
            if value not in SENTINELS or np.any(there == value):
                continue
            times = np.sum(here == value)
            others = here[(here != value) & np.isfinite(here)]
            if not len(others) or np.abs(others - value).min() < 0.1 * np.ptp(others):
                continue  # it stands in the row of the others
            if times >= ONE_SIDED:
                return f"{value:g} stands in {times} rows of {name} only: a missing value?"
    return ""


def suspect_unit(rows: list) -> str:
    """A word on numbers that are 100, 1000, … times the other table's: grams and kilograms?"""
    sizes = []
    for side in rows:
        some = np.abs(side[:: max(1, len(side) // 10_000)])
        some = some[some > 0]
        if not len(some):
            return ""
        sizes.append(np.quantile(np.sort(some), QUARTILES))
    power = np.log10(sizes[1] / sizes[0])
    whole = np.rint(power[1])
    if abs(whole) not in (2, 3, 6, 9) or np.abs(power - whole).max() > 0.15:
        return ""
    larger, smaller = ("TEST", "TRAIN") if whole > 0 else ("TRAIN", "TEST")
    return (
        f"those of {larger} are some {10 ** abs(whole):g} times those of {smaller}: another unit?"
    )


def rows_of(sides, readings: list) -> list:
    """Values of the rows of both sides, nan for what is missing or infinite."""
    rows = []
    for side, reading in zip(sides, readings, strict=True):
        values = reading.values if side.codes is None else side.of_rows(reading.values)
        rows.append(
            np.where(np.isinf(values), np.nan, values) if np.isinf(values).any() else values
        )
    return rows


def as_truth(train: Side, test: Side) -> Column | None:
    """1 and 0 on one side, true and false or yes and no on the other; None if they are not that."""
    sides = (with_levels(train), with_levels(test))
    readings = []
    words = [
        {canonical(level).casefold() for level in side.levels} - MARKS - WORDS for side in sides
    ]
    if words[0] & words[1] or not all(found and found <= set(TRUTH) for found in words):
        return None
    for side in sides:
        values = [TRUTH.get(canonical(level).casefold(), np.nan) for level in side.levels]
        readings.append(Reading(np.array(values)))
    kind = " and ".join(repr(level) for found in words for level in sorted(found))
    note = note_of(f"truth, with {kind} as 1 and 0", sides, readings)
    return Column("number", *rows_of(sides, readings), note)


def with_levels(side: Side) -> Side:
    """The side with levels of text in the place of numbers or seconds."""
    if side.codes is not None:
        return side
    given = side.numbers if side.numbers is not None else side.seconds
    codes, levels = pd.factorize(given)
    return Side(codes=codes, levels=[f"{level:.17g}" for level in levels])


# ---------------------------------------------------------------- dates
def as_dates(train: Side, test: Side) -> Column | None:
    """Dates, times or both on both sides; None if they are not that."""
    if train.numbers is not None and test.numbers is not None:
        return None
    sides = [side if side.numbers is None else with_levels(side) for side in (train, test)]
    forms = [date_forms(side.levels) for side in sides]
    readings = []
    for side, own, other in zip(sides, forms, reversed(forms), strict=True):
        if side.seconds is not None:
            readings.append(Reading(side.seconds))
            continue
        tried, guessed = choose_forms(own, other)
        first = side.first_levels()
        if not is_credible(first, read_dates(first.levels, tried)):
            return None
        values = read_dates(side.levels, tried)
        if not is_credible(side, values):
            return None
        form = tried[0] if tried else "time of day"
        form += ", day and month by guess" if guessed else ""
        good = np.flatnonzero(np.isfinite(values))
        readings.append(Reading(values, {form: repr(side.levels[good[0]])} if len(good) else {}))
    if not any(np.isfinite(reading.values).any() for reading in readings):
        return None
    rows = rows_of(sides, readings)
    notes = [note_of("dates", sides, readings), suspect_day(rows), suspect_zone(sides)]
    return Column("number", *rows, "; ".join(filter(None, notes)))


def suspect_day(rows: list) -> str:
    """A word on 9999-12-31 and the like in one table only."""
    for day in DAY_SENTINELS:
        value = np.datetime64(day, "s").astype(float)
        times = [np.sum(side == value) for side in rows]
        if max(times) >= ONE_SIDED and min(times) == 0:
            name = "TRAIN" if times[0] else "TEST"
            return f"{day} stands in {max(times)} rows of {name} only: a missing value?"
    return ""


def suspect_zone(sides: list) -> str:
    """A word where one table's times have a zone and the other's have none."""
    texts = [side.levels[:SAMPLE] for side in sides if side.codes is not None]
    zoned = [any(map(has_zone, levels)) for levels in texts]
    if len(zoned) == 2 and zoned[0] != zoned[1]:
        name = "TRAIN" if zoned[0] else "TEST"
        return f"only {name} names a time zone: the other table is taken for UTC"
    return ""


# ---------------------------------------------------------------- text
def as_text(train: Side, test: Side) -> Column:
    """Levels of both sides in one vocabulary; marks of missing values are missing."""
    sides = with_levels(train), with_levels(test)
    if all(len(side.levels) > max(50, len(side.codes) // 2) for side in sides):
        kinds = {side.numbers is None for side in (train, test)}
        note = "numbers in one table, text in the other" if len(kinds) > 1 else ""
        signs = set().union(*(currencies_of(side.levels) for side in sides))
        note = f"amounts in {' and in '.join(sorted(signs))}" if len(signs) > 1 else note
        return Column("text", sides[0].codes, sides[1].codes, note)  # not worth more: it is ignored
    names = [[canonical(level) for level in side.levels] for side in sides]
    own = [set(found) for found in names]
    alone = [{name.casefold() for name in found} for found in (own[0] - own[1], own[1] - own[0])]
    notes = []
    if alone[0] & alone[1]:
        names = [[name.casefold() for name in found] for found in names]
        notes.append("capital letters do not count")
    pooled = pd.Index(names[0] + names[1])
    codes, levels = pd.factorize(pooled.where([name.casefold() not in MARKS for name in pooled]))
    codes_of = np.split(codes, [len(names[0])])
    rows = [np.append(code, -1)[side.codes] for code, side in zip(codes_of, sides, strict=True)]
    notes += one_sided(rows, list(levels))
    share = share_of_numbers(sides)
    if share > 0.2:
        notes.append(f"{share:.0%} of it are numbers")
    return Column("text", *rows, "; ".join(["text", *notes]) if notes else "", list(levels))


def one_sided(rows: list, levels: list) -> list:
    """Words on the frequent levels that stand in one table only."""
    counts = [np.bincount(row[row >= 0], minlength=len(levels)) for row in rows]
    notes = []
    for name, here, there in (("TRAIN", *counts), ("TEST", *counts[::-1])):
        alone = np.flatnonzero((here >= ONE_SIDED) & (there == 0))
        alone = alone[np.argsort(-here[alone], kind="stable")]
        if len(alone):
            shown = ", ".join(f"{levels[i]!r} ({here[i]} rows)" for i in alone[:3])
            more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
            notes.append(f"only {name} has {shown}{more}")
    return notes


def share_of_numbers(sides: tuple) -> float:
    """Share of the rows of both sides that are numbers."""
    rows = numbers = 0
    for side in sides:
        first = side.first_levels()
        good = np.isfinite(read_numbers(first, ".").values)
        numbers += first.counts()[good].sum()
        rows += first.counts().sum()
    return numbers / max(rows, 1)
