"""How people write numbers and dates: "1.234,50 €", "(300)", "<0.5", "2019年1月5日", "1:05 PM".

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Differs from the article: it begins where the rows are vectors already.

A level is one of the things that stand in a column of text, as it stands there.
"""

import re
import unicodedata
from collections import Counter

import numpy as np
import pandas as pd

SAMPLE = 2000  # levels that are looked at to find out how a column is written
CURRENCY = re.compile(r"[$€£¥₹₩元]|\b(USD|EUR|GBP|CNY|RMB|JPY|INR|KRW)\b")
SAME_CURRENCY = {"USD": "$", "EUR": "€", "GBP": "£", "元": "¥", "CNY": "¥", "RMB": "¥"}
SAME_CURRENCY |= {"INR": "₹", "KRW": "₩"}
WEEKDAY = re.compile(r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*[.,]?\s+", re.IGNORECASE)
BOUND = re.compile(r"^[<>≤≥~≈]=?\s*|\+$")  # "<0.5" and "10+" are taken for 0.5 and 10
SPACED = "[ '’_\u00a0\u202f]"  # marks between thousands, whatever the decimal mark
UNIT = re.compile(r"(?<=\d)\s*([^\W\d_]{1,8}|°[CF]?)$")  # "70.5 kg"; one for the whole column
MULTIPLES = {"k", "m", "b", "bn", "mn", "e", "万", "亿"}  # are no units: "1.5k" stays text
TIME = re.compile(
    r"(?:^|[ T]+|(?<=[a-z]/\d{4}):)(?P<hour>\d{1,2})[:时](?P<minute>\d\d)"
    r"(?:[:分](?P<second>\d\d(?:[.,]\d+)?))?[分秒]?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)? ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$"
)
COMPACT = re.compile(r"^(\d{8})T?(\d\d)(\d\d)(\d\d)(Z?)$")  # 20190105T100000
DAY_FIRST = {"%d/%m/%Y": "%m/%d/%Y", "%d-%m-%Y": "%m-%d-%Y", "%d/%m/%y": "%m/%d/%y"}
DAY_FIRST |= {"%d-%m-%y": "%m-%d-%y"}
DATES = ["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%d.%m.%Y", "%d.%m.%y"]
DATES += [form for pair in DAY_FIRST.items() for form in reversed(pair)]
DATES += ["%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y"]
DATES += ["%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d%b%Y", "%Y_%m_%d", "%d. %m. %Y"]
DATES += ["%Y-%m", "%Y/%m", "%m/%Y", "%Y年%m月", "%b %Y", "%B %Y", "%b-%Y", "%Y%m%d"]
WEEK = re.compile(r"^(\d{4})-?W(\d\d)(?:-?([1-7]))?$")  # 2018-W03: its Monday
EXCEL = "days since 1899-12-30, as in Excel"
DATES += ["%G-W%V-%u", EXCEL]


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


def currencies_of(levels: list) -> set:
    """The currencies that stand beside numbers, each in one spelling."""
    found = [CURRENCY.search(level) for level in levels[:SAMPLE] if any(map(str.isdigit, level))]
    return {SAME_CURRENCY.get(sign[0], sign[0]) for sign in found if sign}


def common_unit(levels: list) -> str:
    """The unit behind most numbers of a column, "" for none."""
    found = [UNIT.search(CURRENCY.sub("", level).strip()) for level in levels[:SAMPLE]]
    units = Counter(unit[1] for unit in found if unit)
    unit, times = units.most_common(1)[0] if units else ("", 0)
    return unit if 2 * times > len(found) and unit.lower() not in MULTIPLES else ""


def plain_number(text: str, decimal: str) -> str | None:
    """A cleaned level as Python writes numbers, None if it is none: "1.234,5" → "1234.5"."""
    number = text.removesuffix("%").rstrip()
    if not PATTERNS[decimal].fullmatch(number):
        return None
    group = "," if decimal == "." else "."
    number = re.sub(SPACED, "", number).replace(group, "").replace(decimal, ".")
    return f"{number}e-2" if text.endswith("%") and "e" not in number.lower() else number


def decimal_votes(levels: list) -> tuple:
    """Levels that are numbers by a decimal point only, by a comma only, and by both differently."""
    point = comma = either = 0
    for level in levels[:SAMPLE]:
        text = cleaned(level)
        by_point, by_comma = plain_number(text, "."), plain_number(text, ",")
        point += by_point is not None and by_comma is None
        comma += by_comma is not None and by_point is None
        either += None not in (by_point, by_comma) and by_point != by_comma
    return point, comma, either


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


def canonical(level: str) -> str:
    """A level of text: no spaces to speak of, characters and numbers written in one way: "1.0" is
    "1", and a full-width A is an A."""
    if not level.isascii():
        level = unicodedata.normalize("NFKC", level)
    text = " ".join(level.split())
    number = plain_number(text, ".") if text[:1] in "+-.0123456789" else None
    return f"{float(number):.17g}" if number and len(number) < 16 else text


# ---------------------------------------------------------------- dates
def split_time(level: str) -> tuple:
    """("2019-01-05", seconds of UTC since midnight, 0 where there is no time of day)."""
    text = WEEKDAY.sub("", COMPACT.sub(r"\1T\2:\3:\4\5", level.strip()))
    text = WEEK.sub(lambda found: f"{found[1]}-W{found[2]}-{found[3] or 1}", text)
    found = TIME.search(text)
    return (text[: found.start()], seconds_of(found)) if found else (text, 0.0)


def seconds_of(found: re.Match) -> float:
    """Seconds since midnight of a match of TIME, in UTC where a zone is given."""
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % 12 + 12 * (found["half"] in "Pp")
    seconds = 3600 * hour + 60 * int(found["minute"])
    seconds += float((found["second"] or "0").replace(",", "."))
    zone = (found["zone"] or "").replace(":", "")
    if not zone.startswith(("+", "-")):
        return seconds
    east = 3600 * int(zone[1:3]) + 60 * int(zone[3:] or 0)
    return seconds - east if zone[0] == "+" else seconds + east


def has_zone(level: str) -> bool:
    found = TIME.search(level.strip())
    return bool(found and found["zone"])


def seconds_since_1970(moments: pd.Series) -> np.ndarray:
    """In steps of a microsecond, which reach from the year 1 to 9999."""
    ticks = moments.dt.as_unit("us").to_numpy().astype("datetime64[us]")
    seconds = ticks.astype(np.int64) / 1e6
    return np.where(np.isnat(ticks), np.nan, seconds)


def parse_dates(dates: list, form: str) -> np.ndarray:
    """Seconds since 1970 by one form, nan where a text has another."""
    texts = pd.Series(dates, dtype=object)
    if form == EXCEL:
        days = pd.to_numeric(texts, errors="coerce").to_numpy(float)
        usual = (days > 20_000) & (days < 80_000)  # from 1954 to 2119
        return np.where(usual, 86400 * (days - 25569), np.nan)
    return seconds_since_1970(pd.to_datetime(texts, format=form, errors="coerce"))


def date_forms(levels: list) -> dict:
    """{form: how many levels have it}, the most frequent first."""
    dates = [split_time(level)[0] for level in levels[:SAMPLE]]
    dates = [text for text in dates if any(map(str.isdigit, text))]
    if not dates:
        return {}
    hits = {form: int(np.isfinite(parse_dates(dates, form)).sum()) for form in DATES}
    found = sorted((form for form in hits if hits[form]), key=lambda form: -hits[form])
    return {form: hits[form] for form in found}


def choose_forms(own: dict, other: dict) -> tuple:
    """(forms to try in this order, is day or month first a guess?) of a side, given the other's.

    Where all levels allow both, the other side's most frequent form decides, else month first.
    """
    forms = list(own)
    swapped = DAY_FIRST | {month: day for day, month in DAY_FIRST.items()}
    if len(forms) < 2 or swapped.get(forms[0]) != forms[1]:
        return forms[:3], False
    first, second, *rest = forms
    if own[first] > own[second]:
        return [first, *rest[:2]], False
    common = next(iter(other), None)
    if common not in (first, second):
        common = first if first in DAY_FIRST.values() else second
    return [common, *rest[:2]], True


def read_dates(levels: list, forms: list) -> np.ndarray:
    """Levels as seconds since 1970, each by the first form that fits; times of day as seconds."""
    parts = [split_time(level) for level in levels]
    dates = [date for date, _ in parts]
    bare = [not date and level.strip() != "" for date, level in zip(dates, levels, strict=True)]
    days = np.where(bare, 0.0, np.nan)
    for form in forms:
        days = np.where(np.isnan(days), parse_dates(dates, form), days)
    return days + np.array([seconds for _, seconds in parts])
