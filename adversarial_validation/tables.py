"""Two tables of any kind → numbers that a discriminator can look at.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Differs from the article: it begins where the rows are vectors already.
"""

import gzip
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

FEWEST_ROWS = 100  # a side; below that neither D nor its test mean anything
MOST_LEVELS = 30  # indicators of a column of text, the rarer levels share one


# ---------------------------------------------------------------- reading
def read_table(path: Path) -> pd.DataFrame:
    """CSV (separator , ; or tab, UTF-8, may be .gz) or parquet → frame.

    ValueError or OSError, in one line, for a file that is no such table.
    """
    if path.suffix == ".parquet":
        try:
            return pd.read_parquet(path)
        except ImportError:
            raise ValueError(f"{path}: parquet needs the package pyarrow; or save as CSV") from None
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(",;\t", key=header.count)
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", skipinitialspace=True)
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise ValueError(f"{path} is not UTF-8 text ({reason}): save it as UTF-8") from None
    except (ValueError, EOFError, zlib.error) as error:  # pandas' parser errors are ValueErrors
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is not a table: {reason}") from None


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


def choose_columns(train, test, target: str | None, drop: list) -> tuple:
    """Names of the columns that D may look at, and warnings on those that it may not.

    ValueError where nothing is left.
    """
    check_request(train, test, target, drop)
    warnings = []
    if target in test.columns:
        warnings.append(f"target {target!r} is in TEST too: not shown to D")
    only = [str(name) for name in train.columns.symmetric_difference(test.columns)]
    only = [name for name in only if name != target]
    if only:
        warnings.append(f"columns in one table only, ignored: {', '.join(only)}")
    if any(re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", name) for name in only):
        warnings.append(
            "a column is named by a number: does the first line of each file hold the names?"
        )
    columns = []
    for name in train.columns.intersection(test.columns, sort=False):
        if name == target or name in drop:
            continue
        useless = why_useless(train[name], test[name])
        if useless:
            warnings.append(f"column {name!r} is {useless}: ignored")
        else:
            columns.append(name)
    if not columns:
        raise ValueError(
            "TRAIN and TEST have no usable column in common; "
            "the first line of each names the columns"
        )
    hashes = [pd.util.hash_pandas_object(frame[columns], index=False) for frame in (train, test)]
    repeated = int(np.isin(hashes[1], hashes[0]).sum())
    if repeated:
        warnings.append(
            f"{repeated} of {len(test)} test rows repeat a training row in every shared column"
        )
    return columns, warnings


def why_useless(train: pd.Series, test: pd.Series) -> str | None:
    """Why D shall not look at a column, None if it may."""
    both = train, test
    if all(side.isna().all() for side in both):
        return "all missing"
    first = train.dropna().iloc[0] if train.notna().any() else None
    if all(side.notna().all() and (side == first).all() for side in both):
        return "constant"
    if not is_number(train, test) and train.nunique() > max(50, len(train) // 2):
        return "text that hardly repeats (an identifier?)"
    return None


def is_number(train: pd.Series, test: pd.Series) -> bool:
    return all(pd.api.types.is_numeric_dtype(side) or side.isna().all() for side in (train, test))


# ---------------------------------------------------------------- numbers
def encode(train, test, columns: list) -> tuple:
    """→ x_train, x_test float32 (rows, features), mean 0 and sd 1 over both; and coarse bins.

    Numbers: the median where one is missing, an indicator of that, clipped to 5 sd. Others:
    indicators of the 30 commonest levels. Bins, {column: (train, test)} of int8: deciles of the
    pooled numbers, or the levels; -1 and the last one stand for missing and rare ones.
    """
    features, bins = [], {}
    for name in columns:
        encode_one = encode_number if is_number(train[name], test[name]) else encode_text
        found, code = encode_one(train[name], test[name])
        features += found
        if code is not None:
            bins[name] = code[: len(train)], code[len(train) :]
    x = np.empty((len(train) + len(test), len(features)), np.float32)
    for j, value in enumerate(features):
        spread = value.std(dtype=np.float64) or 1.0
        x[:, j] = np.clip((value - value.mean(dtype=np.float64)) / spread, -5, 5)
        features[j] = None  # frees memory as it goes
    return x[: len(train)], x[len(train) :], bins


def encode_number(train: pd.Series, test: pd.Series) -> tuple:
    """→ (one or two features, bins); nothing where all is missing."""
    sides = [side.to_numpy(np.float32, na_value=np.nan) for side in (train, test)]
    value = np.concatenate(sides)
    value[~np.isfinite(value)] = np.nan
    missing = np.isnan(value)
    if missing.all():
        return [], None
    some = value[~missing][:: max(1, len(value) // 100_000)]
    deciles = np.quantile(some, np.linspace(0.1, 0.9, 9))
    code = np.where(missing, -1, np.searchsorted(deciles, value, side="left")).astype(np.int8)
    value[missing] = deciles[4]
    return [value, missing.astype(np.float32)] if missing.any() else [value], code


def encode_text(train: pd.Series, test: pd.Series) -> tuple:
    """→ (an indicator per level, bins)."""
    text = pd.concat([train.astype("string"), test.astype("string")], ignore_index=True)
    common = text.value_counts().index[:MOST_LEVELS]
    level = pd.Categorical(text, categories=common).codes.astype(np.int8)
    level[(level < 0) & text.notna().to_numpy()] = len(common)
    return [(level == k).astype(np.float32) for k in np.unique(level)], level
