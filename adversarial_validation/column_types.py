"""What is a column? Numbers, dates or text, decided on both tables together, and said.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Differs from the article: it begins where the rows are vectors already.

A side is one table's part of a column. Text is held by its levels, the different things that stand
in it, so that it costs no more than its vocabulary. The readings of a column are tried in the order
numbers, truth, dates, text, on both sides at once. What was not plain (words among numbers, decimal
commas, forms of dates, two vocabularies) goes into the note of the column.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pandas as pd

# Marks that mean a missing value in any column, and words that mean it among numbers and dates.
MARKS = {"", "?", "??", "-", "--", "---", "–", "—", ".", "na", "n/a", "n.a.", "#n/a", "nan", "null"}
WORDS = {"none", "nil", "unknown", "unk", "missing", "undefined", "empty", "blank", "inf", "-inf"}
WORDS |= {"not available", "not known", "no data", "infinity", "\\n", "未知", "缺失", "不详", "无"}
TRUTH = {"1": 1.0, "true": 1.0, "t": 1.0, "yes": 1.0, "y": 1.0, "是": 1.0}
TRUTH |= {"0": 0.0, "false": 0.0, "f": 0.0, "no": 0.0, "n": 0.0, "否": 0.0}
SENTINELS = {-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0}
FEW = 0.02  # share of other words that numbers or dates may hold and still be numbers or dates
SAMPLE = 2000  # levels that are tried before a long vocabulary is read whole
ONE_SIDED = 20  # rows of a level that stands in one table only, from which on it is worth a word
EXACT = 2**53  # from here on float64 skips whole numbers
CURRENCY = re.compile(r"[$€£¥₹₩元]|\b(USD|EUR|GBP|CNY|RMB)\b")
BOUND = re.compile(r"^[<>≤≥~≈]=?\s*|\+$")  # "<0.5" and "10+" are taken for 0.5 and 10
SPACED = "[ '’_\u00a0\u202f]"  # marks between thousands, whatever the decimal mark
TIME = re.compile(
    r"(?:^|[ T]+)(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d(?:[.,]\d+)?))?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)? ?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?$"
)
DAY_FIRST = {"%d/%m/%Y": "%m/%d/%Y", "%d-%m-%Y": "%m-%d-%Y", "%d/%m/%y": "%m/%d/%y"}
DATES = ["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%d.%m.%Y", "%d.%m.%y"]
DATES += [form for pair in DAY_FIRST.items() for form in reversed(pair)]
DATES += ["%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d-%b-%Y", "%d-%b-%y"]
DATES += ["%d%b%Y", "%Y-%m", "%Y/%m", "%Y年%m月", "%b %Y", "%B %Y", "%b-%Y", "%Y%m%d"]


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

    def first_levels(self) -> "Side":
        codes = self.codes[self.codes < SAMPLE]
        return Side(codes=codes, levels=self.levels[:SAMPLE])


@dataclass
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
        since = series.dt.tz_localize(None) if series.dt.tz is None else series.dt.tz_convert(None)
        return Side(seconds=((since - pd.Timestamp(0)) / pd.Timedelta(seconds=1)).to_numpy(float))
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
    counts, good = side.counts(), np.isfinite(values)
    odd = ~good & ~np.array([is_missing(level) for level in side.levels], bool)
    odd_rows, good_rows = counts[odd].sum(), counts[good].sum()
    if odd_rows <= FEW * (odd_rows + good_rows):
        return True
    return odd.sum() <= 3 and odd_rows <= good_rows and good.sum() > 30


def what_is_missing(side: Side, values: np.ndarray) -> str:
    """ "1 blank and 2 'unknown'": rows of a side that got no value."""
    if side.codes is None:
        given = side.numbers if side.numbers is not None else side.seconds
        found = {"blank": np.isnan(given).sum()}
    else:
        lost = ~np.isfinite(values)
        found = {repr(side.levels[i]): side.counts()[i] for i in np.flatnonzero(lost)}
        found["blank"] = (side.codes < 0).sum()
    words = sorted((word for word in found if found[word]), key=lambda word: -found[word])
    shown = [f"{found[word]} {word}" for word in words[:4]]
    if len(words) > 4:
        shown.append(f"{len(words) - 4} other words")
    return " and ".join(shown)


def note_of(kind: str, sides: tuple, readings: list) -> str:
    """What was not plain about a column, "" for nothing."""
    remarks = readings[0].remarks | readings[1].remarks
    notes = [f"{what}, e.g. {example}" for what, example in remarks.items()]
    if any(side.codes is not None for side in sides):
        lost = [what_is_missing(side, r.values) for side, r in zip(sides, readings, strict=True)]
        lost = [
            f"{what} in {name}" for what, name in zip(lost, ("TRAIN", "TEST"), strict=True) if what
        ]
        if lost:
            notes.append(f"taken for missing: {', '.join(lost)}")
    return "; ".join([kind, *notes]) if notes or kind != "numbers" else ""


# ---------------------------------------------------------------- numbers
def number_pattern(decimal: str, group: str) -> re.Pattern:
    """Numbers with this decimal mark; thousands apart in threes by `group`, a space or the like."""
    threes = rf"[1-9]\d{{0,2}}(?:{group}\d{{3}})+|[1-9]\d{{0,2}}(?:{SPACED}\d{{3}})+"
    if group == ",":
        threes += r"|[1-9]\d?(?:,\d\d)+,\d{3}"  # 12,34,567 as in India
    whole = rf"(?:{threes}|\d+)(?:{decimal}\d*)?"
    return re.compile(rf"[+-]?(?:{whole}|{decimal}\d+)(?:[eE][+-]?\d+)?")


PATTERNS = {".": number_pattern(r"\.", ","), ",": number_pattern(",", r"\.")}


def cleaned(level: str) -> str:
    """A level without what may stand around a number: spaces, currency, accountants' brackets."""
    if not level.isascii():
        level = unicodedata.normalize("NFKC", level).replace("−", "-")
    text = re.sub(r"^([+-]) +", r"\1", CURRENCY.sub("", level).strip())
    return f"-{text[1:-1]}" if text.startswith("(") and text.endswith(")") else text


def plain_number(text: str, decimal: str) -> str | None:
    """A cleaned level as Python writes numbers, None if it is none: "1.234,5" → "1234.5"."""
    number = text.removesuffix("%").rstrip()
    if not PATTERNS[decimal].fullmatch(number):
        return None
    group = "," if decimal == "." else "."
    number = re.sub(SPACED, "", number).replace(group, "").replace(decimal, ".")
    return f"{number}e-2" if text.endswith("%") and "e" not in number.lower() else number


def decimal_votes(side: Side) -> tuple:
    """Levels that are numbers by a decimal point only, by a comma only, and by both differently."""
    point = comma = either = 0
    for level in side.levels[:SAMPLE]:
        text = cleaned(level)
        by_point, by_comma = plain_number(text, "."), plain_number(text, ",")
        point += by_point is not None and by_comma is None
        comma += by_comma is not None and by_point is None
        either += None not in (by_point, by_comma) and by_point != by_comma
    return point, comma, either


def decimal_of(side: Side, other: Side, habit: str) -> tuple:
    """(decimal mark of a side, how it was guessed or ""): is "1,234" more than a thousand?

    A side that does not tell is read so that its numbers are as large as the other table's; else by
    habit, the mark of the other columns of its table.
    """
    point, comma, either = decimal_votes(side)
    if point != comma or not either:
        return ("." if point > comma else "," if comma > point else habit), ""
    if any(level.strip().isdigit() for level in side.levels) and "," in "".join(
        side.levels[:SAMPLE]
    ):
        return ".", ""  # "999" beside "1,234": decimals would stand behind all numbers
    known = other.numbers
    if known is None and other.codes is not None:
        marks = decimal_votes(other)
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
    numbers, remarks = [], {}
    for level in side.levels:
        text = cleaned(level)
        number = plain_number(text, decimal)
        what = remark_on(level, text, decimal) if number and not text.isdigit() else ""
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


def remark_on(level: str, text: str, decimal: str) -> str:
    """What is not plain about a level that is a number, "" for nothing."""
    if text.endswith("%"):
        return "percent"
    if decimal == "," and "," in text:
        return "decimal commas"
    if re.search(rf"\d({SPACED}|[.,])\d\d", text.partition(decimal)[0]):
        return "thousands apart"
    if CURRENCY.search(level):
        return "currency"
    return "brackets for minus" if "(" in level else ""


def as_numbers(train: Side, test: Side, decimals: tuple) -> Column | None:
    """Numbers on both sides, words for missing values apart; None if they are not that."""
    sides, readings = (train, test), []
    if any(side.seconds is not None for side in sides):
        return None
    if all(side.codes is not None for side in sides):
        decimals = decimals[:1] * 2  # the same text means the same number
    for side, other, habit in zip(sides, reversed(sides), decimals, strict=True):
        if side.numbers is not None:
            readings.append(Reading(side.numbers))
            continue
        decimal = decimal_of(side, other, habit)
        first = side.first_levels()
        if not is_credible(first, read_numbers(first, *decimal).values):
            return None
        readings.append(read_numbers(side, *decimal))
        if not is_credible(side, readings[-1].values):
            return None
    if not any(np.isfinite(reading.values).any() for reading in readings):
        return None
    if all(reading.exact for reading in readings):
        start = min(x for reading in readings for x in reading.exact if x is not None)
        for reading in readings:
            values = [np.nan if x is None else float(x - start) for x in reading.exact]
            reading.values = np.array(values)
    rows = rows_of(sides, readings)
    notes = [note_of("numbers", sides, readings), suspect_sentinel(rows)]
    return Column("number", *rows, "; ".join(filter(None, notes)))


def suspect_sentinel(rows: list) -> str:
    """A word on -999 and the like, in one table only and beyond all its other numbers."""
    for name, here, there in (("TRAIN", *rows), ("TEST", *rows[::-1])):
        for end in (np.fmin, np.fmax):
            value = end.reduce(here)
            times = np.sum(here == value)
            if value in SENTINELS and times >= ONE_SIDED and not np.any(there == value):
                return f"{value:g} stands in {times} rows of {name} only: a missing value?"
    return ""


def rows_of(sides: tuple, readings: list) -> list:
    """Values of the rows of both sides, nan for what is missing or infinite."""
    rows = []
    for side, reading in zip(sides, readings, strict=True):
        values = reading.values if side.codes is None else side.of_rows(reading.values)
        rows.append(np.where(np.isfinite(values), values, np.nan))
    return rows


def as_truth(train: Side, test: Side) -> Column | None:
    """1 and 0 on one side, true and false or yes and no on the other; None if they are not that."""
    sides, readings = (with_levels(train), with_levels(test)), []
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
def split_time(levels: list) -> tuple:
    """Levels without their time of day, and that time in seconds of UTC, 0 where there is none."""
    dates, seconds = [], []
    for level in levels:
        text = level.strip()
        found = TIME.search(text)
        dates.append(text[: found.start()] if found else text)
        seconds.append(seconds_of(found) if found else 0.0)
    return dates, np.array(seconds)


def seconds_of(found: re.Match) -> float:
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % 12 + 12 * (found["half"] in "Pp")
    seconds = float((found["second"] or "0").replace(",", "."))
    zone = (found["zone"] or "").replace(":", "")
    east = (
        int(zone[0] + "1") * (3600 * int(zone[1:3]) + 60 * int(zone[3:])) if len(zone) == 5 else 0
    )
    return 3600 * hour + 60 * int(found["minute"]) + seconds - east


def parse_dates(dates: list, form: str) -> np.ndarray:
    """Seconds since 1970 by one form, nan where a text has another."""
    parsed = pd.to_datetime(pd.Series(dates, dtype=object), format=form, errors="coerce")
    return ((parsed - pd.Timestamp(0)) / pd.Timedelta(seconds=1)).to_numpy(float)


def date_forms(side: Side) -> list:
    """Forms by the number of levels that have them, the most frequent first."""
    dates = [text for text in split_time(side.levels[:SAMPLE])[0] if any(map(str.isdigit, text))]
    hits = {form: np.isfinite(parse_dates(dates, form)).sum() for form in DATES} if dates else {}
    return sorted((form for form in hits if hits[form]), key=lambda form: -hits[form])


def settle_day_first(forms: list, other: list, side: Side) -> tuple:
    """(forms, is it a guess?): day or month first by the other side, where levels allow both."""
    swap = DAY_FIRST | {month: day for day, month in DAY_FIRST.items()}
    if len(forms) < 2 or swap.get(forms[0]) != forms[1]:
        return forms, False
    dates = split_time(side.levels[:SAMPLE])[0]
    if (
        np.isfinite(parse_dates(dates, forms[0])).sum()
        > np.isfinite(parse_dates(dates, forms[1])).sum()
    ):
        return [forms[0], *forms[2:]], False
    if other and other[0] in forms[:2]:
        return [other[0], *forms[2:]], True
    return [next(form for form in forms if form in DAY_FIRST.values()), *forms[2:]], True


def read_dates(side: Side, forms: list) -> np.ndarray:
    """The levels as seconds since 1970, each by the first form that fits; or times of day."""
    dates, seconds = split_time(side.levels)
    days = np.array(
        [
            0.0 if not text and level.strip() else np.nan
            for text, level in zip(dates, side.levels, strict=True)
        ]
    )
    for form in forms[:3]:
        days = np.where(np.isnan(days), parse_dates(dates, form), days)
    return days + seconds


def as_dates(train: Side, test: Side) -> Column | None:
    """Dates, times or both on both sides; None if they are not that."""
    sides = [train, test]
    if all(side.numbers is not None for side in sides):
        return None
    sides = [side if side.numbers is None else with_levels(side) for side in sides]
    forms = [date_forms(side) for side in sides]
    readings = []
    for side, own, other in zip(sides, forms, reversed(forms), strict=True):
        if side.seconds is not None:
            readings.append(Reading(side.seconds))
            continue
        own, guessed = settle_day_first(own, other, side)
        first = side.first_levels()
        if not is_credible(first, read_dates(first, own)):
            return None
        values = read_dates(side, own)
        if not is_credible(side, values):
            return None
        form = f"{own[0]}{', day and month by guess' if guessed else ''}" if own else "time of day"
        example = (
            side.levels[int(np.flatnonzero(np.isfinite(values))[0])]
            if np.isfinite(values).any()
            else ""
        )
        readings.append(Reading(values, {form: repr(example)} if example else {}))
    if not any(np.isfinite(reading.values).any() for reading in readings):
        return None
    return Column(
        "number", *rows_of(tuple(sides), readings), note_of("dates", tuple(sides), readings)
    )


# ---------------------------------------------------------------- text
def canonical(level: str) -> str:
    """A level of text: no spaces around it, numbers written in one way ("1.0" is "1")."""
    text = level.strip()
    number = plain_number(text, ".") if text[:1] in "+-.0123456789" else None
    return f"{float(number):.17g}" if number and len(number) < 16 else text


def as_text(train: Side, test: Side) -> Column:
    """Levels of both sides in one vocabulary; marks of missing values are missing."""
    sides = with_levels(train), with_levels(test)
    names = [[canonical(level) for level in side.levels] for side in sides]
    notes = []
    own = [set(found) for found in names]
    folded = [{name.casefold() for name in found} for found in (own[0] - own[1], own[1] - own[0])]
    if folded[0] & folded[1]:
        names = [[name.casefold() for name in found] for found in names]
        notes.append("capital letters do not count")
    pooled = pd.Index(names[0] + names[1])
    codes, levels = pd.factorize(pooled.where([name.casefold() not in MARKS for name in pooled]))
    codes_of = np.split(codes, [len(names[0])])
    rows = [np.append(code, -1)[side.codes] for code, side in zip(codes_of, sides, strict=True)]
    levels = list(levels)
    counts = [np.bincount(row[row >= 0], minlength=len(levels)) for row in rows]
    for name, here, there in (("TRAIN", *counts), ("TEST", *counts[::-1])):
        alone = np.flatnonzero((here >= ONE_SIDED) & (there == 0))
        alone = alone[np.argsort(-here[alone], kind="stable")]
        if len(alone):
            shown = ", ".join(f"{levels[i]!r} ({here[i]} rows)" for i in alone[:3])
            more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
            notes.append(f"only {name} has {shown}{more}")
    share = share_of_numbers(sides)
    if share > 0.2:
        notes.append(f"{share:.0%} of it are numbers")
    note = f"text; {'; '.join(notes)}" if notes else ""
    return Column("text", *rows, note, levels)


def share_of_numbers(sides: tuple) -> float:
    """Share of the rows of both sides that are numbers."""
    rows = numbers = 0
    for side in sides:
        first = side.first_levels()
        good = np.isfinite(read_numbers(first, ".").values)
        numbers += first.counts()[good].sum()
        rows += first.counts().sum()
    return numbers / max(rows, 1)
