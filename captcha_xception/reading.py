"""Reading with a trained network: keep it, load it, ask it, and score its answers.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503

A model is two files: NAME.keras with the weights, and NAME.json with what the numbers mean (which
network, classes, length, size of the images).

Symbols: 全对率 → whole_accuracy, all letters right   p₁ … p₄ → position_accuracy
         Πpᵢ → product_of_positions
Differs from the article: its loop scored 10,100 test images drawn with replacement; here each is
visited once, and the rate has an interval.
"""

import json
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import scipy

from captcha_files import first_line, load_facts
from networks import build_model, keras


# ---------------------------------------------------------------- files
def save_model(model, path: Path, facts: dict) -> None:
    """Write `path` (.keras) and the .json beside it; each appears whole or not at all."""
    partial = path.with_name(f"{path.stem}.part.keras")
    model.save(partial)
    note = path.with_name(f"{path.stem}.json.part")
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    note.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)
    os.replace(note, path.with_suffix(".json"))


def load_model(path: Path):
    """A trained model and its facts. ValueError in one line if the files do not fit each other.

    The network is built by build_model and only its weights are read from the file: no code that a
    file holds is run, and an older Keras reads what a newer one wrote.
    """
    path = Path(path)
    facts = load_facts(path)
    model = build_model(
        facts["model"],
        tuple(facts["shape"]),
        facts["length"],
        len(facts["classes"]),
        resize=facts.get("resize"),
    )
    load_weights(model, path)
    return model, facts


def load_weights(model, path: Path) -> None:
    """Weights of a .keras or .weights.h5 file into `model`; ValueError if they do not fit."""
    try:
        model.load_weights(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be used as a model ({first_line(error)})") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        _, length, classes = model.output_shape
        raise ValueError(
            f"{path}: does not match {model.name} for {length} characters of {classes} classes "
            f"({first_line(error)})"
        ) from None


# ---------------------------------------------------------------- answers
def logits_of(model, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Logits (count, length, classes), float64, of uint8 images (count, height, width, 3)."""
    pieces = []
    for start in range(0, len(images), batch_size):
        logits = model.predict_on_batch(images[start : start + batch_size])
        pieces.append(keras.ops.convert_to_numpy(logits).astype(np.float64))
    return np.concatenate(pieces)


def predict_classes(model, images: np.ndarray) -> np.ndarray:
    """The likeliest class of every letter, (count, length)."""
    return logits_of(model, images).argmax(axis=-1)


def texts_of(logits: np.ndarray, classes: str) -> tuple[list, np.ndarray]:
    """What was read, and how sure: the product over the letters of the highest softmax value."""
    probabilities = scipy.special.softmax(logits, axis=-1)
    confidence = probabilities.max(axis=-1).prod(axis=-1)
    texts = ["".join(classes[number] for number in row) for row in logits.argmax(axis=-1)]
    return texts, confidence


def class_numbers(labels: list, classes: str) -> np.ndarray:
    """Labels → int32 (count, length). ValueError for a character that is not among the classes."""
    foreign = sorted(set("".join(labels)) - set(classes))
    if foreign:
        raise ValueError(f"the labels hold {foreign[0]!r}; the classes are {classes}")
    rows = [[classes.index(character) for character in label] for label in labels]
    return np.array(rows, np.int32)


# ---------------------------------------------------------------- evaluation
def score(predicted: np.ndarray, targets: np.ndarray, classes: str) -> dict:
    """全对率 with its 95 % interval, accuracy of each letter, their product, and the confusions.

    predicted, targets: class numbers (count, length).
    """
    hits = predicted == targets
    # 全对率: all letters of an image right
    whole = hits.all(axis=1)
    # pᵢ and Πpᵢ; the whole exceeds it, since a hard picture is hard for all letters
    positions = hits.mean(axis=0)
    wrong = Counter(zip(targets[~hits].tolist(), predicted[~hits].tolist(), strict=True))
    confused = [
        {"drawn": classes[drawn], "read": classes[read], "times": times}
        for (drawn, read), times in wrong.most_common(12)
    ]
    return {
        "test_images": len(hits),
        "whole_accuracy": float(whole.mean()),
        "whole_accuracy_95": wilson_interval(int(whole.sum()), len(hits)),
        "position_accuracy": positions.tolist(),
        "product_of_positions": float(positions.prod()),
        "confused": confused,
    }


def wilson_interval(right: int, count: int) -> list[float]:
    """95 % interval of a share (Wilson 1927): honest near 0 and 1."""
    interval = scipy.stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    return [interval.low, interval.high]
