"""The two real tasks of this folder: handwritten digits and a census. x float32, y int32.

Data: mnist_6k  500 training and 100 test images of each digit of MNIST; or MNIST itself, 60 000
                and 10 000, fetched by data/download.py
      adult     48 842 answers of the US census of 1994: is an income above 50 000 dollars?
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch

# name in data/registry.json → bytes of the header of that IDX file
MNIST = {"train-images": 16, "train-labels": 8, "t10k-images": 16, "t10k-labels": 8}
ADULT_NUMBERS = [0, 2, 4, 10, 11, 12]  # columns: age, weight, years of school, gain, loss, hours
ADULT_WORDS = [1, 3, 5, 6, 7, 8, 9, 13]  # columns: kind of work, school, …, country
ADULT_INCOME = 14


# ---------------------------------------------------------------- digits
def read_mnist(full: bool, data_dir: Path | None) -> tuple:
    """x_train, y_train, x_test, y_test: pixels uint8 (n, 28, 28), digits int32 (n,).

    full: all of MNIST, not the 6000 digits that ship. Raises OSError where it cannot be fetched.
    """
    if full:
        arrays = [
            np.frombuffer(fetch(f"mnist-{part}", data_dir).read_bytes(), np.uint8, offset=header)
            for part, header in MNIST.items()
        ]
    else:
        with np.load(fetch("mnist_6k", data_dir)) as archive:
            arrays = [archive[key] for key in ("x_train", "y_train", "x_test", "y_test")]
    x_train, y_train, x_test, y_test = arrays
    x_train = x_train.reshape(-1, 28, 28)
    x_test = x_test.reshape(-1, 28, 28)
    return x_train, y_train.astype("int32"), x_test, y_test.astype("int32")


def load_digits(full: bool, data_dir: Path | None) -> tuple:
    """(x_train, y_train), (x_test, y_test): pixels (n, 28, 28), standardised as a whole."""
    x_train, y_train, x_test, y_test = read_mnist(full, data_dir)
    mean = np.float32(x_train.mean())
    sd = np.float32(x_train.std())
    x_train = (x_train.astype("float32") - mean) / sd
    x_test = (x_test.astype("float32") - mean) / sd
    return (x_train, y_train), (x_test, y_test)


def load_small_digits(full: bool, data_dir: Path | None) -> tuple:
    """x_train, y_train, x_test, y_test: pixels averaged to 14×14, standardised, (n, 196)."""
    x_train, y_train, x_test, y_test = read_mnist(full, data_dir)
    x_train = average_pixels(x_train)
    x_test = average_pixels(x_test)
    mean = x_train.mean()
    sd = x_train.std()
    return (x_train - mean) / sd, y_train, (x_test - mean) / sd, y_test


def average_pixels(x: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels: (n, 28, 28) → (n, 196)."""
    return x.reshape(-1, 14, 2, 14, 2).mean((2, 4), dtype="float32").reshape(-1, 196)


def shift(x: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Every image of (n, 28, 28) moved by up to ±pixels both ways, the border background."""
    padded = np.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels)), constant_values=x.min())
    down, right = rng.integers(0, 2 * pixels + 1, (2, len(x), 1)) + np.arange(28)
    image = np.arange(len(x))
    return padded[image[:, None, None], down[:, :, None], right[:, None, :]]


# ---------------------------------------------------------------- census
def load_adult(full: bool, data_dir: Path | None) -> tuple:
    """x_train, y_train, x_test, y_test of Adult; 5000 rows of each part, or all with `full`.

    log(1 + number), standardised; a column of 0 and 1 for each word that the training part has.
    """
    import pandas

    tables = [
        pandas.read_csv(fetch(name, data_dir), header=None, comment="|", skipinitialspace=True)
        for name in ("adult-train", "adult-test")
    ]
    words = {column: sorted(tables[0][column].unique()) for column in ADULT_WORDS}
    rows = None if full else 5000
    x_train, x_test = (adult_columns(table[:rows], words) for table in tables)
    y_train, y_test = (adult_rich(table[:rows]) for table in tables)
    numbers = x_train[:, : len(ADULT_NUMBERS)]
    mean = numbers.mean(0)
    sd = numbers.std(0)
    for x in (x_train, x_test):
        x[:, : len(mean)] = (x[:, : len(mean)] - mean) / sd
    return x_train, y_train, x_test, y_test


def adult_columns(table, words: dict) -> np.ndarray:
    """(rows, 6 + number of words) float32: logarithms of the numbers, then the words."""
    parts = [np.log1p(table[ADULT_NUMBERS].to_numpy("float32"))]
    for column, known in words.items():
        parts.append(table[column].to_numpy()[:, None] == np.array(known, object))
    return np.concatenate(parts, 1, dtype="float32")


def adult_rich(table) -> np.ndarray:
    """1 where the income is above 50 000 dollars, else 0."""
    return table[ADULT_INCOME].str.startswith(">50K").to_numpy("int32")
