"""adversarial_validation: the tables that people really have, read as they are meant.

Each kind of table has an example with its exact value, and neighbours of the same kind.
"""

import argparse
import bz2
import gzip
import io
import lzma
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import split
import tables
from column_types import decide, side_of
from weights import area_under_curve, crossfit_discriminator

pd = pytest.importorskip("pandas")

RANDOM = np.random.default_rng
ROWS = 1000


def write(path, frame, **form):
    path.parent.mkdir(exist_ok=True)
    frame.to_csv(path, index=False, **form)
    return path


def pair(tmp_path, column_train, column_test, forms=({}, {})):
    """Two files with a column c and an unshifted column z."""
    paths = []
    for k, (values, form) in enumerate(zip((column_train, column_test), forms, strict=True)):
        frame = pd.DataFrame({"c": pd.Series(list(values), dtype=object)})
        frame["z"] = RANDOM(10 + k).standard_normal(len(frame))
        paths.append(write(tmp_path / f"{k}.csv", frame, **form))
    return paths


def call(tmp_path, *flags):
    """split.py in this process → its metrics."""
    parser = argparse.ArgumentParser()
    split.flags(parser)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args([*map(str, flags), "-o", str(tmp_path / "out")])
    args.out_dir.mkdir(exist_ok=True)
    return split.main(args)[0]


def prepare(train, test):
    return tables.prepare(tables.read_table(train), tables.read_table(test), None, [])


def auc_of(table, seed=0):
    return area_under_curve(*crossfit_discriminator(table.x_train, table.x_test, RANDOM(seed)))


def column(train, test, marks=(".", ".")):
    return decide(*(side_of(pd.Series(values)) for values in (train, test)), marks)


def rooms(seed):
    return RANDOM(seed).integers(1, 6, ROWS)


# ---------------------------------------------------------------- types of both files together
def test_a_blank_and_an_unknown_are_no_shift(tmp_path):
    train, test = rooms(0).astype(object), rooms(1).astype(object)
    train[5], test[7] = "", "unknown"
    found = call(tmp_path, *pair(tmp_path, train, test))
    assert found["verdict"] == "no_shift" and found["auc"] == pytest.approx(0.5, abs=0.03)
    assert found["taken_for"]["c"] == (
        "numbers; taken for missing: 1 blank in TRAIN, 1 'unknown' in TEST"
    )


@pytest.mark.parametrize("word", ["?", "-", "na", "N/A", "—", " ", "未知", "\\N", "None", "#N/A"])
def test_a_mark_among_numbers_is_a_missing_number(tmp_path, word):
    x = RANDOM(0).standard_normal((2, ROWS)) + np.array([[0.0], [1.0]])
    test = x[1].astype(object)
    test[3] = word
    table = prepare(*pair(tmp_path, x[0], test))
    assert auc_of(table) == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.02)
    assert not table.warnings and "c" in table.bins
    assert table.x_train.shape[1] == 3  # c, where it is missing, z


def test_the_example_with_a_question_mark(tmp_path):
    x = RANDOM(0).standard_normal((2, ROWS)) + np.array([[0.0], [1.0]])
    test = x[1].astype(object)
    test[3] = "?"
    found = call(tmp_path, *pair(tmp_path, x[0], test))
    assert found["verdict"] == "weights" and found["auc"] == pytest.approx(0.7602, abs=0.02)
    assert "1 '?' in TEST" in found["taken_for"]["c"]


def test_one_word_in_many_rows_is_said_and_missing():
    values = [str(v) for v in range(100)] * 9 + ["refused"] * 100
    found = column(values, list(map(float, range(1000))))
    assert found.kind == "number" and "100 'refused' in TRAIN" in found.note


def test_levels_with_numbers_among_them_stay_text():
    found = column(["1", "2", "3+", "many"] * 50, ["1", "2", "3+", "many"] * 50)
    assert found.kind == "text" and "75% of it are numbers" in found.note
    assert np.array_equal(found.train, found.test)


def test_numbers_against_words_are_text_without_a_level_in_common(tmp_path):
    found = call(tmp_path, *pair(tmp_path, rooms(0), RANDOM(1).choice(list("abcde"), ROWS)))
    assert found["verdict"] == "no_overlap" and found["foreign_levels"] == {"c": 1.0}
    assert "only TEST has" in found["taken_for"]["c"]


@pytest.mark.parametrize(
    "ones, words",
    [
        ([1, 0], ["yes", "no"]),
        (["1.0", "0.0"], ["True", "False"]),
        ([True, False], ["TRUE", "?"]),
        (["Y", "N"], ["1", "0"]),
        ([1.0, None], ["true", "false"]),
    ],
)
def test_truth_in_two_spellings(ones, words):
    found = column(ones * 50, words * 50)
    assert found.kind == "number" and "truth" in found.note
    assert found.train[0] == found.test[0] or {found.train[0], found.test[0]} <= {0.0, 1.0}
    assert np.nanmax(found.train) == 1 and np.nanmax(found.test) == 1


def test_spaces_and_capital_letters_are_no_shift(tmp_path):
    train = RANDOM(0).choice(["Male", "Female "], ROWS)
    test = RANDOM(1).choice(["male", " female"], ROWS)
    found = call(tmp_path, *pair(tmp_path, train, test))
    assert found["verdict"] == "no_shift" and "capital letters" in found["taken_for"]["c"]


def test_a_column_that_is_empty_in_one_table_is_named(tmp_path):
    found = prepare(*pair(tmp_path, [""] * ROWS, rooms(0)))
    assert any("'c' is empty in TRAIN" in warning for warning in found.warnings)


def test_a_number_that_may_mean_missing_is_said():
    values = RANDOM(0).integers(0, 9, ROWS)
    assert (
        "-999 stands in 100 rows of TEST only"
        in column(values, [*values[100:], *[-999] * 100]).note
    )
    assert column(values, values[::-1]).note == ""


# ---------------------------------------------------------------- how numbers are written
@pytest.mark.parametrize(
    "text, value",
    [
        ("1,234,567.5", 1234567.5),
        ("1 234 567,5", 1234567.5),
        ("1.234.567,5", 1234567.5),
        ("1'234'567.5", 1234567.5),
        ("12,34,567", 1234567),
        ("0,5", 0.5),
        ("-,5", -0.5),
        ("1,5e3", 1500),
        ("−3", -3),
        ("(1,200)", -1200),
        ("$1,200.50", 1200.5),
        ("3,50 €", 3.5),
        ("12.5%", 0.125),
        ("１２３", 123),
        ("<0.5", 0.5),
        ("10+", 10),
        ("+7", 7),
        ("1\u00a0234", 1234),
    ],
)
def test_one_number_in_many_spellings(text, value):
    found = column([text] * 60, [value] * 60)
    assert found.kind == "number"
    assert found.train[0] == found.test[0] == pytest.approx(value, rel=1e-15)


def test_one_unit_is_left_out_and_said():
    found = column(["70.5 kg", "8kg", "?"] * 50, ["70.5", "8"] * 75)
    assert found.note.startswith("numbers of kg") and found.train[:2].tolist() == [70.5, 8]
    assert column(["70 kg", "8 kg"] * 50, ["70 lb", "8 lb"] * 50).kind == "text"
    assert column(["1.5k", "2.5M"] * 50, ["1500", "2"] * 50).kind == "text"


@pytest.mark.parametrize("text", ["1,2,3", "12a 4", "1.2.3", "1,23,4", "--5", "e5", "0x1F", "5 6"])
def test_what_is_no_number_is_none(text):
    assert column([text, "b", "c"] * 60, ["b", "c", text] * 60).kind == "text"


def test_doubtful_commas_follow_the_other_table():
    for values, text in (([1234.0, 2500.0], "1,234"), ([1.234, 2.5], "1,234")):
        found = column(values * 50, [text] * 100)
        assert found.test[0] == values[0] and "by the size of the other table's" in found.note


def test_doubtful_commas_follow_the_other_columns(tmp_path):
    frame = pd.DataFrame({"a": ["0,5", "1,25"] * 100, "b": ["1,234", "2,345"] * 100})
    other = pd.DataFrame({"a": ["0,5", "1,25"] * 100, "b": ["2,345", "1,234"] * 100})
    paths = write(tmp_path / "a.csv", frame, sep=";"), write(tmp_path / "b.csv", other, sep="\t")
    read = [tables.read_table(path) for path in paths]
    marks = [table.decimal_mark() for table in read]
    assert marks == [",", ","]
    sides = [table.side("b", mark) for table, mark in zip(read, marks, strict=True)]
    assert decide(*sides, marks).train[0] == 1.234


def test_thousands_with_points_are_seen_where_commas_are_decimal(tmp_path):
    """pandas reads 1.234 as a little more than one."""
    frame = pd.DataFrame({"a": ["0,5", "1,25"] * 100, "b": ["1.234", "999"] * 100})
    read = tables.read_table(write(tmp_path / "a.csv", frame, sep=";"))
    side = read.side("b", read.decimal_mark())
    assert decide(side, side, (",", ",")).train[:2].tolist() == [1234, 999]


# ---------------------------------------------------------------- large numbers, small differences
def test_two_days_as_numbers_have_no_overlap(tmp_path):
    found = call(tmp_path, *pair(tmp_path, [20180115] * ROWS, [20180116] * ROWS))
    assert found["auc"] == 1.0 and found["verdict"] == "no_overlap"


@pytest.mark.parametrize(
    "start, step",
    [(1.5e9, 1), (2**53, 1), (10**18, 1), (10**18, 3), (1e15, 0.25), (-(10**17), 1), (10**30, 1)],
)
def test_close_numbers_stay_apart(tmp_path, start, step):
    whole = isinstance(start, int)
    values = [start + step * k if whole else float(start) + step * k for k in range(4)]
    text = [str(v) if whole else f"{v:.2f}" for v in values]
    table = prepare(*pair(tmp_path, text[:2] * 500, text[2:] * 500))
    assert auc_of(table) == 1.0


def test_a_long_number_with_a_blank_stays_exact(tmp_path):
    train = [str(10**18 + k % 2) for k in range(ROWS)]
    test = [str(10**18 + 2 + k % 2) if k else "" for k in range(ROWS)]
    assert auc_of(prepare(*pair(tmp_path, train, test))) == pytest.approx(1, abs=0.002)


def test_numbers_whose_squares_overflow(tmp_path):
    x = RANDOM(0).standard_normal((2, ROWS)) * 1e200 + np.array([[0.0], [1e200]])
    assert auc_of(prepare(*pair(tmp_path, *x))) == pytest.approx(0.7602, abs=0.02)


def test_one_infinite_number_is_missing(tmp_path):
    x = RANDOM(0).standard_normal((2, ROWS)) + np.array([[0.0], [1.0]])
    test = x[1].astype(object)
    test[0] = "1e400"
    assert auc_of(prepare(*pair(tmp_path, x[0], test))) == pytest.approx(0.7602, abs=0.02)


# ---------------------------------------------------------------- dates, two vocabularies
def days(year, form="%Y-%m-%d"):
    start = np.datetime64(f"{year}-01-01")
    return [
        day.strftime(form) for day in pd.to_datetime(start + RANDOM(year).integers(0, 365, ROWS))
    ]


def test_two_years_have_no_overlap(tmp_path):
    found = call(tmp_path, *pair(tmp_path, days(2019), days(2020)))
    assert found["auc"] == pytest.approx(1, abs=1e-4) and found["verdict"] == "no_overlap"
    assert found["taken_for"]["c"].startswith("dates; %Y-%m-%d")


@pytest.mark.parametrize(
    "form",
    [
        "%d.%m.%Y",
        "%m/%d/%Y",
        "%d/%m/%Y",
        "%Y/%m/%d",
        "%b %d, %Y",
        "%d-%b-%y",
        "%Y年%m月%d日",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S.%f",
        "%d/%m/%Y %I:%M %p",
    ],
)
def test_dates_of_the_usual_forms(form):
    found = column(days(2019), days(2019, form))
    assert found.kind == "number" and np.array_equal(found.train, found.test)


def test_dates_as_whole_numbers_on_one_side():
    found = column(days(2019), [int(day) for day in days(2019, "%Y%m%d")])
    assert np.array_equal(found.train, found.test)


def test_a_guess_of_day_or_month_is_said():
    found = column(["01/02/2019", "03/04/2019"] * 50, ["05/06/2019", "03/04/2019"] * 50)
    assert "day and month by guess" in found.note


def test_zones_are_counted():
    zones = ["2020-01-05T10:00:00+08:00", "2020-01-05 02:00:00Z", "2020-01-04T21:00:00-05:00"]
    found = column(zones * 50, ["2020-01-05 02:00"] * 150)
    assert len(set(found.train) | set(found.test)) == 1


def test_times_of_day():
    found = column(["12:30", "1:05 PM"] * 50, ["12:30:00", "13:05:00"] * 50)
    assert found.train.tolist() == found.test.tolist() == [45000, 47100] * 50


def test_vocabularies_with_nothing_in_common_are_seen(tmp_path):
    batches = [[f"{side}{k:03d}x" for k in RANDOM(5).integers(0, 300, ROWS)] for side in "ab"]
    found = call(tmp_path, *pair(tmp_path, *batches))
    assert found["verdict"] == "no_overlap" and found["foreign_levels"]["c"] == 1.0
    assert found["auc"] > 0.9


def test_one_large_vocabulary_is_no_shift(tmp_path):
    batches = [[f"a{k:03d}x" for k in RANDOM(seed).integers(0, 300, ROWS)] for seed in (1, 2)]
    assert call(tmp_path, *pair(tmp_path, *batches))["verdict"] == "no_shift"


def test_a_third_of_the_rows_with_a_new_level(tmp_path):
    train = RANDOM(0).choice(list("abc"), ROWS)
    test = np.where(RANDOM(1).random(ROWS) < 1 / 3, "d", RANDOM(2).choice(list("abc"), ROWS))
    found = call(tmp_path, *pair(tmp_path, train, test))
    assert found["verdict"] == "no_overlap" and "'c' that no training row has" in found["advice"]


# ---------------------------------------------------------------- weeks, days of Excel
def test_iso_weeks_are_their_mondays():
    mondays = pd.date_range("2018-01-01", periods=150, freq="7D")
    for form in ("%G-W%V", "%GW%V", "%G-W%V-%u"):
        found = column(list(mondays.strftime("%Y-%m-%d")), list(mondays.strftime(form)))
        assert found.kind == "number" and np.array_equal(found.train, found.test)
    assert found.train[0] == 1514764800  # 2018-01-01
    assert column(["2018-W03"] * 60, ["2018-W03-2"] * 60).test[0] == 1516060800  # 2018-01-16
    assert column(["2018-W03", "2018-W54"] * 60, ["2018-W03"] * 60).kind == "text"


def test_half_a_year_of_weeks_later(tmp_path):
    """Weeks 1 … 50 against 26 … 75, as numbers: P(later) + P(same)/2 = 1 − (25 · 25)/2/50²."""
    weeks = pd.date_range("2018-01-01", periods=75, freq="7D").strftime("%G-W%V").to_numpy()
    paths = pair(tmp_path, np.tile(weeks[:50], 20), np.tile(weeks[25:], 20))
    table = prepare(*paths)
    scores = [side[:, 0].astype(float) for side in (table.x_train, table.x_test)]
    assert area_under_curve(*scores) == pytest.approx(1 - 25 * 25 / 2 / 50**2, abs=1e-9)
    assert table.taken_for["c"].startswith("dates; %G-W%V-%u")


def test_days_of_excel_are_dates_where_the_other_table_has_dates(tmp_path):
    iso = days(2018)
    serial = [(pd.Timestamp(day) - pd.Timestamp("1899-12-30")).days for day in iso]
    assert column(["2018-01-15"] * 60, [43115] * 60).test[0] == 1515974400  # of 2018-01-15
    for spelled_days in (serial, [f"{day}" for day in serial], iso[:500] + serial[500:]):
        found = column(iso, spelled_days)
        assert found.kind == "number" and np.array_equal(found.train, found.test)
    noon = column(["2018-01-15 12:00"] * 60, [43115.5] * 60)
    assert noon.train[0] == noon.test[0]
    found = call(tmp_path, *pair(tmp_path, iso, serial[::-1]))
    assert found["verdict"] == "no_shift"
    assert "days since 1899-12-30, as in Excel, e.g. '43" in found["taken_for"]["c"]
    assert column(serial, serial).note == ""  # numbers, as they were


# ---------------------------------------------------------------- encodings
CITIES = ["北京", "上海", "广州", "深圳市（南山）"]
PLACES = ["Île-de-France", "Genève", "Zürich", "Córdoba"]


def encoded(path, levels, seed, encoding):
    """A file of 1000 rows; the same seed gives the same table in every encoding."""
    frame = pd.DataFrame({levels[0]: RANDOM(seed).choice(levels, ROWS)})
    frame["z"] = RANDOM(seed + 50).standard_normal(ROWS)
    path.write_bytes(frame.to_csv(index=False, lineterminator="\n").encode(encoding))
    return path


@pytest.mark.parametrize(
    "levels, encoding, said",
    [
        (CITIES, "utf-8", None),
        (CITIES, "utf-8-sig", None),
        (CITIES, "utf-16", None),
        (CITIES, "gbk", "both GB18030 and cp1252; 92% would be common Chinese"),
        (CITIES + ["龘龖"], "gb18030", "taken for gb18030 ("),
        (["許雲", "陳"], "gbk", "gb18030 (its bytes do not fit cp1252)"),
        (PLACES, "cp1252", "taken for cp1252 (its bytes fit both GB18030 and cp1252; 0% would"),
        (["Málaga", "café", "5 €"], "cp1252", "cp1252 (its bytes do not fit GB18030)"),
        (["Málaga", "café"], "latin-1", "cp1252 (its bytes do not fit GB18030)"),
    ],
)
def test_the_same_table_in_every_encoding(tmp_path, levels, encoding, said):
    train = encoded(tmp_path / "train.csv", levels, 0, "utf-8")
    right = prepare(train, encoded(tmp_path / "plain.csv", levels, 1, "utf-8"))
    found = prepare(train, encoded(tmp_path / "test.csv", levels, 1, encoding))
    assert np.array_equal(found.x_test, right.x_test)
    assert [bins[1].max() for bins in found.bins.values()][0] == len(levels) - 1
    assert found.warnings == right.warnings if said is None else said in found.warnings[0]
    assert auc_of(found) == pytest.approx(0.5, abs=0.03)


def test_two_encodings_of_one_law_are_no_shift(tmp_path):
    train = encoded(tmp_path / "train.csv", CITIES, 0, "utf-8")
    test = encoded(tmp_path / "test.csv", CITIES, 1, "gbk")
    for paths in ((train, test), (test, train)):
        found = call(tmp_path, *paths)
        assert found["verdict"] == "no_shift" and found["auc"] == pytest.approx(0.5, abs=0.03)
        assert found["taken_for"] == {} and len(found["warnings"]) == 1


def test_a_packed_file_of_gbk_that_turns_chinese_late(tmp_path):
    frame = pd.DataFrame({"c": ["a"] * 40_000 + ["甲"] * 40_000, "z": 1})
    content = frame.to_csv(index=False).encode("gbk")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content, 1))
    table = tables.read_table(tmp_path / "a.csv.gz")
    assert table.frame["c"].iloc[-1] == "甲" and "gb18030" in table.remarks[0]


# ---------------------------------------------------------------- lines cut short
def ragged(path, cut, first="", end="\n"):
    lines = [f"{k % 7},{k % 5},{k % 3}" for k in range(200)]
    lines = [line.rpartition(",")[0] if k in cut else line for k, line in enumerate(lines)]
    path.write_bytes((first + end.join(["a,b,c", *lines, ""])).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_cut_short_are_named(tmp_path, end):
    found = tables.read_table(ragged(tmp_path / "a.csv", [3, 150], end=end))
    assert found.remarks == [
        "a.csv: lines with fewer fields than the first (2: 5, 152); "
        "what they lack is taken for missing"
    ]
    assert found.frame["c"].isna().sum() == 2 and len(found.frame) == 200
    found = tables.read_table(ragged(tmp_path / "b.csv", range(20), end=end))
    assert "(20: 2, 3, 4, 5, 6 …)" in found.remarks[0]
    found = tables.read_table(ragged(tmp_path / "c.csv", [0], "sep=,\n"))
    assert "(1: 3)" in found.remarks[0]


@pytest.mark.parametrize(
    "text",
    ["a,b\n1,\n", "a,b\n1,2\n\n  \n3,\n", 'a,b\n"1\n2",\n', "a\n1\n\n2\n", "a,b\nr,1,\ns,2,3\n"],
)
def test_blanks_are_no_lines_cut_short(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    assert not any("fewer fields" in said for said in tables.read_table(tmp_path / "a.csv").remarks)


def test_a_line_too_long_is_refused_by_its_number(tmp_path):
    path = ragged(tmp_path / "a.csv", [])
    path.write_text(path.read_text() + "1,2,3,4\n")
    with pytest.raises(ValueError, match="Expected 3 fields in line 202, saw 4"):
        tables.read_table(path)


# ---------------------------------------------------------------- parquet
def test_parquet_is_read_or_refused_in_one_line(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"c": np.arange(200) % 3, "d": ["甲", None] * 100})
    try:
        frame.to_parquet(path)
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(ValueError, match="parquet needs the package pyarrow; or save as CSV"):
            tables.read_table(path)
        return
    plain = write(tmp_path / "a.csv", frame)
    found = prepare(plain, path)
    assert np.array_equal(found.x_train, found.x_test)


# ---------------------------------------------------------------- p and D belong together
@pytest.mark.parametrize("together, auc", [(False, 0.75), (True, 1.0)])
def test_two_columns_that_differ_together_only(tmp_path, together, auc):
    """b is a in TEST; in TRAIN it is independent of a, or its contrary: each alone is a coin."""
    a, b = np.arange(ROWS) // 2 % 2, np.arange(ROWS) // 4 % 2
    c = RANDOM(0).standard_normal((2, ROWS))
    left = pd.DataFrame({"a": a, "b": 1 - a if together else b, "c": c[0]})
    right = pd.DataFrame({"a": a, "b": a, "c": c[1]})
    paths = write(tmp_path / "a.csv", left), write(tmp_path / "b.csv", right)
    found = call(tmp_path, *paths)
    assert found["verdict"] == "unseen_shift" and "columns 'a' and 'b' together" in found["advice"]
    assert found["joint_shift"]["auc"] == auc
    assert found["auc"] == pytest.approx(0.5, abs=0.03) and found["p_value"] > 0.05
    again = call(tmp_path, write(tmp_path / "a.csv", right.assign(c=c[0])), paths[1])
    assert again["verdict"] == "no_shift"


def test_no_pair_is_found_where_all_columns_are_alike():
    surprises = 0
    for seed in range(100):
        x = RANDOM(seed).standard_normal((2, 200, 10)) ** 3  # heavy tails
        surprises += split.joint_shift(*x, list(range(10)))["p"] < 0.05
    assert surprises <= 12
    one = split.joint_shift(*RANDOM(0).standard_normal((2, 200, 1)), ["a"])
    assert one == {"columns": ["a", "a"], "auc": 0.5, "p": 1.0}


def scales(seed=0):
    return RANDOM(seed).standard_normal(ROWS), 3 * RANDOM(seed + 1).standard_normal(ROWS)


def test_a_shift_that_the_logistic_d_does_not_see_is_no_no_shift(tmp_path):
    found = call(tmp_path, *pair(tmp_path, *scales()))
    assert found["verdict"] == "unseen_shift" and found["auc_of_column"]["c"] > 0.7
    assert "--discriminator network" in found["advice"]
    assert not (tmp_path / "out" / "split_validation_weighted.csv").exists()


@pytest.mark.slow
def test_the_p_value_is_that_of_the_network(tmp_path):
    pytest.importorskip("keras")
    flags = "--discriminator", "network"
    found = call(tmp_path, *pair(tmp_path, *scales()), *flags)
    assert found["auc"] == pytest.approx(0.7952, abs=0.025)
    assert found["p_value"] <= 0.01 and found["verdict"] == "weights"


@pytest.mark.slow
def test_the_verdict_without_a_shift_is_right_in_about_19_of_20_cases(tmp_path):
    verdicts = []
    for seed in range(40):
        x = RANDOM(seed).standard_normal((2, 200, 4))
        frames = [pd.DataFrame(side, columns=list("abcd")) for side in x]
        paths = [write(tmp_path / f"{k}.csv", frame) for k, frame in enumerate(frames)]
        verdicts.append(call(tmp_path, *paths)["verdict"])
    assert verdicts.count("no_shift") >= 34


# ---------------------------------------------------------------- equal values are equal
def test_rows_repeat_though_a_blank_made_floats_of_whole_numbers(tmp_path):
    frame = pd.DataFrame({"a": np.arange(ROWS), "b": RANDOM(0).standard_normal(ROWS)})
    train = write(tmp_path / "a.csv", frame)
    test = tmp_path / "b.csv"
    test.write_text(train.read_text() + ",0.5\n")
    found = call(tmp_path, train, test)["warnings"]
    assert f"{ROWS} of {ROWS + 1} test rows repeat" in "\n".join(found)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: f"{v:.1f}",
        lambda v: f"{v:,}",
        lambda v: f" {v} ",
        lambda v: f"{v}e0",
        lambda v: f"+{v}",
    ],
)
def test_rows_repeat_in_other_spellings(tmp_path, change):
    values = RANDOM(0).integers(0, 10**6, ROWS)
    paths = pair(tmp_path, values, [change(int(v)) for v in values])
    frame = pd.read_csv(paths[1], dtype=str)
    frame["z"] = pd.read_csv(paths[0], dtype=str)["z"]
    write(paths[1], frame)
    assert f"{ROWS} of {ROWS} test rows repeat" in "\n".join(prepare(*paths).warnings)


# ---------------------------------------------------------------- files
def test_files_as_programs_write_them(tmp_path):
    """Excel's first line and UTF-16, a separator too many, names of rows, an unnamed index."""
    frame = pd.DataFrame({"c": rooms(0), "z": RANDOM(0).standard_normal(ROWS)})
    plain = write(tmp_path / "plain.csv", frame)
    lines = plain.read_text().splitlines()
    variants = {
        "excel.csv": ("sep=;\n" + "\n".join(lines).replace(",", ";")).encode(),
        "unicode.txt": "\r\n".join(lines).replace(",", "\t").encode("utf-16"),
        "trailing.csv": "\n".join([lines[0], *(line + "," for line in lines[1:])]).encode(),
        "rows.csv": "\n".join(
            [lines[0], *(f"r{k},{line}" for k, line in enumerate(lines[1:]))]
        ).encode(),
        "pipe.csv": "\n".join(lines).replace(",", "|").encode("utf-8-sig"),
        "quoted.csv": "\n".join(f'"{line}"'.replace(",", '","') for line in lines).encode(),
        "packed.csv.gz": gzip.compress(plain.read_bytes()),
    }
    right = prepare(plain, plain)
    for name, content in variants.items():
        (tmp_path / name).write_bytes(content)
        found = prepare(plain, tmp_path / name)
        assert np.array_equal(found.x_test, right.x_test), name
        assert f"{ROWS} of {ROWS} test rows repeat" in "\n".join(found.warnings), name


def test_the_index_that_pandas_writes_is_no_shift(tmp_path):
    paths = []
    for k in (0, 1):
        frame = pd.DataFrame({"c": RANDOM(k).standard_normal(ROWS - 200 * k)})
        paths.append(tmp_path / f"{k}.csv")
        frame.to_csv(paths[-1])
    found = call(tmp_path, *paths)
    assert found["verdict"] == "no_shift"
    assert "column 'Unnamed: 0' is a number of the row: ignored" in found["warnings"]


def test_a_column_that_changes_its_type_in_a_long_file(tmp_path):
    """pandas reads a long file in parts: the same code becomes 7 here and "007" there."""
    codes = [f"{k % 20:03d}" for k in range(300_000)]
    train, test = codes.copy(), codes.copy()
    train[-1] = "none of them"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = prepare(*pair(tmp_path, train, test))
    assert len(np.unique(np.concatenate(table.bins["c"]))) <= 22


# ---------------------------------------------------------------- currencies and units
def test_two_currencies_are_not_compared(tmp_path):
    for texts in (["${}", "€{}"], ["{} USD", "{} CNY"], ["{}元", "£{}"]):
        train, test = ([form.format(7 * k + 1) for k in range(ROWS)] for form in texts)
        found = prepare(*pair(tmp_path, train, test))
        assert "c" not in found.bins
        assert any("amounts in" in warning for warning in found.warnings)


@pytest.mark.parametrize("forms", [("${}", "{} USD"), ("¥{}", "{}元"), ("€ {}", "{} EUR")])
def test_one_currency_in_two_spellings(forms):
    found = column(*([form.format(k) for k in range(200)] for form in forms))
    assert np.array_equal(found.train, found.test) and "currency" in found.note


def test_a_unit_that_one_table_leaves_out_is_said():
    found = column([f"{k} kg" for k in range(200)], [float(k) for k in range(200)])
    assert found.note == "numbers of kg, which TEST does not say"


@pytest.mark.parametrize("times", [100, 1000, 1e6, 1e9])
def test_numbers_in_another_unit_are_said(times):
    values = RANDOM(0).uniform(1, 2, ROWS)
    small, large = values, times * RANDOM(1).uniform(1, 2, ROWS)
    assert f"those of TEST are some {times:g} times those of TRAIN" in column(small, large).note
    assert f"those of TRAIN are some {times:g} times" in column(large, small).note
    assert column(values, 40 * values).note == column(values, -values).note == ""


@pytest.mark.parametrize("level", ["Ｎｅｗ　Ｙｏｒｋ", "New\u00a0York", "New  York", " New York\t"])
def test_one_text_in_many_spellings(level):
    found = column([level, "LA"] * 50, ["New York", "LA"] * 50)
    assert found.kind == "text" and np.array_equal(found.train, found.test)
    accents = column(["cafe\u0301", "thé"] * 50, ["café", "the\u0301"] * 50)
    assert np.array_equal(accents.train, accents.test)


def test_on_and_off_are_truth():
    found = column(["on", "off"] * 50, [1, 0] * 50)
    assert found.kind == "number" and np.array_equal(found.train, found.test)


# ---------------------------------------------------------------- numbers that are far from others
@pytest.mark.parametrize("odd", [[1e12], [1e12, -1e9, 1e300], [-99999999], [1e9] * 3])
def test_a_few_huge_numbers_hide_nothing(tmp_path, odd):
    x = RANDOM(0).standard_normal((2, ROWS)) + np.array([[0.0], [1.0]])
    x[0, : len(odd)] = odd
    table = prepare(*pair(tmp_path, *x))
    assert auc_of(table) == pytest.approx(0.7602, abs=0.02)
    assert "D sees ranks" in table.taken_for["c"]


@pytest.mark.parametrize(
    "change, auc",
    [
        (lambda x, shift: np.exp(3 * (x + shift)), 0.7602),
        (lambda x, shift: np.tan(np.pi * norm.cdf(x)) + shift, 0.5 + np.arctan(0.5) / np.pi),
    ],
)
def test_heavy_tails(tmp_path, change, auc):
    x = RANDOM(0).standard_normal((2, ROWS))
    table = prepare(*pair(tmp_path, change(x[0], 0), change(x[1], 1)))
    assert auc_of(table) == pytest.approx(auc, abs=0.03)


def test_the_largest_numbers_of_all(tmp_path):
    most = 1.7e308 * np.sign(RANDOM(0).standard_normal((2, ROWS)))
    table = prepare(*pair(tmp_path, *most))
    assert not table.taken_for and table.x_train.shape[1] == 2
    assert sorted(set(np.sign(table.x_train[:, 0]))) == [-1, 1]


def test_infinite_numbers_are_said(tmp_path):
    train = [*RANDOM(0).standard_normal(ROWS - 2), "inf", "-inf"]
    table = prepare(*pair(tmp_path, train, RANDOM(1).standard_normal(ROWS)))
    assert table.taken_for["c"] == "numbers; taken for missing: 2 infinite in TRAIN"


def test_a_sentinel_in_the_row_of_the_others_is_none():
    assert column(list(range(50, 100)) * 40, list(range(50)) * 40).note == ""


# ---------------------------------------------------------------- dates
@pytest.mark.parametrize(
    "form",
    [
        "%d-%m-%y",
        "%B %d %Y",
        "%A, %B %d, %Y",
        "%a %d %b %Y",
        "%d. %m. %Y",
        "%Y_%m_%d",
        "%Y%m%dT%H%M%S",
        "%Y%m%dT%H%M%SZ",
        "%d/%b/%Y:%H:%M:%S",
        "%Y年%m月%d日 %H时%M分",
        "%a, %d %b %Y %H:%M:%S +0000",
        "%Y-%m-%d %H:%M:%S+00",
    ],
)
def test_dates_of_more_forms(form):
    found = column(days(2019), days(2019, form))
    assert found.kind == "number" and np.array_equal(found.train, found.test)
    assert days(2019, form)[0] in found.note or "%Y-%m-%d" in found.note


@pytest.mark.parametrize("day", ["9999-12-31", "1900-01-01", "0001-01-01", "1970-01-01"])
def test_a_day_that_may_mean_missing_is_said(tmp_path, day):
    """9999-12-31 lies beyond what nanoseconds reach."""
    train, test = days(2019), days(2019)[::-1]
    train[:40] = [day] * 40
    found = call(tmp_path, *pair(tmp_path, train, test))
    assert f"{day} stands in 40 rows of TRAIN only" in found["taken_for"]["c"]


def test_old_days():
    found = column(["1500-01-01", "1500-01-03"] * 50, ["01.01.1500", "02.01.1500"] * 50)
    assert found.train[1] - found.test[1] == 86400


def test_a_zone_in_one_table_only_is_said():
    found = column(["2020-01-05 10:00+08:00"] * 60, ["2020-01-05 02:00"] * 60)
    assert found.train[0] == found.test[0] and "only TRAIN names a time zone" in found.note


# ---------------------------------------------------------------- copies
def test_rows_that_are_copies_are_said(tmp_path):
    x = RANDOM(0).standard_normal((2, 200))
    found = prepare(*pair(tmp_path, np.tile(x[0], 5), np.tile(x[1], 5)))
    assert not any("are the same as others" in warning for warning in found.warnings)  # z differs
    frames = [pd.DataFrame({"c": np.tile(side, 5)}) for side in x]
    paths = [write(tmp_path / f"{k}.csv", frame) for k, frame in enumerate(frames)]
    assert "800 of 1000 rows of TRAIN are the same as others" in "\n".join(prepare(*paths).warnings)


# ---------------------------------------------------------------- files
def packed_in_zip(content, *names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


def test_content_decides_what_a_file_is(tmp_path):
    frame = pd.DataFrame({"c": rooms(0), "z": RANDOM(0).standard_normal(ROWS).round(6)})
    plain = write(tmp_path / "plain.csv", frame)
    content = plain.read_bytes()
    right = prepare(plain, plain)
    variants = {
        "bzip2.csv": bz2.compress(content),
        "xz.csv": lzma.compress(content),
        "gzip.csv": gzip.compress(content),
        "plain.csv.gz": content,
        "zip.csv": packed_in_zip(content, "a.csv"),
        "lines.jsonl": frame.to_json(orient="records", lines=True, double_precision=12).encode(),
        "lines.csv": frame.to_json(orient="records", lines=True, double_precision=12).encode(),
        "mac.csv": content.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
    }
    for name, variant in variants.items():
        (tmp_path / name).write_bytes(variant)
        found = prepare(plain, tmp_path / name)
        assert np.array_equal(found.x_test, right.x_test), name


@pytest.mark.parametrize(
    "content, said",
    [
        (packed_in_zip(b"c\n1\n", "a.csv", "b.csv"), "the zip holds 2 files"),
        (packed_in_zip(b"", "xl/workbook.xml", "b.xml"), "an Excel workbook"),
        ("c,z\n1,2\n".encode("utf-16-le"), "bytes of 0"),
        (b'[{"c": 1},\n {"c": 2}]\n', "not one object a line"),
        (b"c,z\n1,2\n\xff\x81", "not UTF-8"),
        ("c,z\n".encode("utf-16") + b"\x00", "not UTF-16"),
        (("c,z\n" + "北京,1\n" * 9).encode() + b"\xe5\x8c,2\n", "broken characters: 1"),
        (gzip.compress(b"c\n1\n", mtime=0)[:-9], "not a table"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, said):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        tables.read_table(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


def test_a_file_without_names_is_suspected(tmp_path):
    """Both first lines begin with the same number."""
    for name in "ab":
        (tmp_path / name).write_text("7,0.5\n" + "".join(f"{k % 9},{k}\n" for k in range(ROWS)))
    warned = prepare(tmp_path / "a", tmp_path / "b").warnings
    assert "does the first line of each file hold the names?" in "\n".join(warned)


def test_an_unknown_separator_is_suspected(tmp_path):
    text = "c^z\n" + "".join(f"{k % 3}^{k % 2}\n" for k in range(ROWS))
    (tmp_path / "a.csv").write_text(text)
    warned = prepare(tmp_path / "a.csv", tmp_path / "a.csv").warnings
    assert "a.csv: one column; the separators known are" in "\n".join(warned)


# ---------------------------------------------------------------- what is written reads back
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "decimal comma": ";"}


def spelled(value: float, style: str, decimal: str) -> str:
    if style == "grouped":
        return f"{int(value):,}".replace(",", "," if decimal == "." else ".")
    text = repr(float(value)) if style == "float" else str(int(value))
    return text.replace(".", decimal)


def written(values, style: str, decimal: str, blank: str | None) -> pd.DataFrame:
    """A table of text with every tenth value of c missing, if `blank` is given."""
    texts = [spelled(value, style, decimal) for value in values]
    texts = [blank if blank is not None and k % 10 == 3 else t for k, t in enumerate(texts)]
    z = RANDOM(len(values)).standard_normal(len(values))
    return pd.DataFrame({"c": texts, "z": [f"{v:.6f}".replace(".", decimal) for v in z]})


@settings(
    max_examples=30,
    deadline=None,
    phases=(Phase.reuse, Phase.generate),  # a table is small enough to look at as it is
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.01, 1.0, 100.0, 1e4, 1e6]),
    digits=st.sampled_from([2, 4, 7, 17]),
    kind=st.sampled_from(list(SEPARATORS)),
    style=st.sampled_from(["float", "whole", "grouped"]),
    blank=st.sampled_from(["", "?", "NA", "unknown", None]),
)
def test_the_same_table_in_every_form_gives_the_same_auc(
    tmp_path_factory, seed, scale, digits, kind, style, blank
):
    folder = tmp_path_factory.mktemp("forms")
    values = scale * RANDOM(seed).standard_normal((2, 150)) + [[0], [scale / 2]]
    values = np.vectorize(lambda v: float(f"{v:.{digits}g}"))(values)
    train, test = values if style == "float" else np.round(values)
    decimal = "," if kind == "decimal comma" else "."
    simple = "float" if style == "float" else "whole"
    plain_blank = None if blank is None else ""
    a = write(folder / "a.csv", written(train, simple, ".", plain_blank))
    b = write(folder / "b.csv", written(test, simple, ".", plain_blank))
    other = written(test, style, decimal, blank)
    c = write(folder / "c.csv", other, sep=SEPARATORS[kind])
    right, found = prepare(a, b), prepare(a, c)
    assert np.array_equal(found.x_train, right.x_train)
    assert np.array_equal(found.x_test, right.x_test)
    assert abs(auc_of(found) - auc_of(right)) < 1e-12


def test_chinese_names_of_columns_are_drawn_as_words(tmp_path):
    d = RANDOM(0).random(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a character that its fonts lack
        figure = split.plot_scores(d, d, {"年龄": 0.8, "city": 0.6}, split.fonts_for_chinese())
        figure.savefig(tmp_path / "scores.png")
