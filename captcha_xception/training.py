"""Training that can be stopped and resumed: epochs, checkpoints, an end by images or by minutes.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503

Where images come from, drawn or read from files, is an object with `batches(epoch, seen)`; the loop
does not know which.
"""

import functools
import json
import os
import string
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from batch_stream import BatchStream
from captcha_files import Samples, first_line
from networks import PEAK_RATE, build_model, compile_model, keras, one_cycle
from reading import class_numbers, load_weights, predict_classes, save_model, score

# numbers of images: training draws 0, 1, 2 …, and never one of the test or the validation
TEST_START = 1 << 40
VALIDATION_START = 1 << 41


# ---------------------------------------------------------------- where images come from
@dataclass
class DrawnImages:
    """Captchas drawn while training, each seen once."""

    stream: BatchStream
    batch_size: int
    per_epoch: int
    limit: int | None  # images in all; None: no end

    def batches(self, epoch: int, seen: int):
        count = self.per_epoch
        if self.limit is not None:
            count = min(count, self.limit - seen)
        return self.stream.batches(seen, count, self.batch_size)


@dataclass
class KeptImages:
    """Images in memory, all of them in each epoch, in an order of (seed, epoch) alone."""

    images: np.ndarray
    targets: np.ndarray
    batch_size: int
    seed: int

    def batches(self, epoch: int, seen: int):
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield self.images[rows], self.targets[rows]


def split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nine tenths to train, one tenth to test: disjoint, the same for the same count and seed."""
    order = np.random.default_rng(seed).permutation(count)
    held = count // 10
    return order[: count - held], order[count - held :]


# ---------------------------------------------------------------- the loop
@dataclass
class End:
    """When training ends: after a number of images, or after minutes."""

    images: int
    minutes: float | None = None

    def share(self, seen: int, seconds: float) -> float:
        """The share of the run that is over; 1 and more: it ends."""
        return seconds / (60 * self.minutes) if self.minutes else seen / self.images


def train(
    model,
    source: DrawnImages | KeptImages,
    validation: tuple,
    end: End,
    schedule: Callable | None,
    history: list,
    keep: Callable,
) -> list:
    """Epochs after those that `history` holds, until the end; returns the longer history.

    validation: (images, targets); schedule: the learning rate as a function of the share of the
    run, or None for a constant one; keep(history): called after each epoch, to write a checkpoint.
    """
    seen = history[-1]["images"] if history else 0
    spent = history[-1]["seconds"] if history else 0.0
    while end.share(seen, spent) < 1:
        first = seen
        started = time.perf_counter()
        total = 0.0
        bar = tqdm(unit=" images", desc=f"epoch {len(history) + 1}", leave=False, disable=None)
        for images, targets in source.batches(len(history), seen):
            if schedule:
                share = end.share(seen, spent + time.perf_counter() - started)
                model.optimizer.learning_rate.assign(schedule(share))
            model.reset_metrics()  # some versions of Keras return a running mean
            total += float(model.train_on_batch(images, targets)) * len(images)
            seen += len(images)
            bar.update(len(images))
            if end.share(seen, spent + time.perf_counter() - started) >= 1:
                break
        bar.close()
        loss = total / (seen - first)
        if not np.isfinite(loss):
            raise ValueError(
                f"epoch {len(history) + 1}: the loss is {loss}; try a smaller --learning-rate"
            )
        seconds = time.perf_counter() - started
        spent += seconds
        hits = predict_classes(model, validation[0]) == validation[1]
        history.append(epoch_row(len(history) + 1, seen, loss, spent, hits))
        keep(history)
    return history


def epoch_row(epoch: int, seen: int, loss: float, seconds: float, hits: np.ndarray) -> dict:
    """What a history keeps of an epoch, and a line that says so.

    seen, seconds: since the run began; loss: per letter; hits: (count, length), right or wrong.
    """
    whole = float(hits.all(axis=1).mean())
    print(
        f"epoch {epoch}: {seen} images, loss {loss:.3f}, per letter {hits.mean():.3f}, "
        f"whole {whole:.3f}, {seen / seconds:.0f} images/s",
        flush=True,
    )
    return {
        "images": seen,
        "loss": loss,
        "seconds": round(seconds, 2),
        "position_accuracy": hits.mean(axis=0).tolist(),
        "whole_accuracy": whole,
    }


# ---------------------------------------------------------------- a run from flags to model
@dataclass
class Run:
    """What training came to."""

    model: keras.Model  # uint8 images → logits, float32
    facts: dict  # what is written beside it
    history: list[dict]  # of the epochs
    predicted: np.ndarray  # classes read in the test images, (count, length)
    truth: np.ndarray


def summary(run: Run, skipped: int) -> dict:
    """What is recorded of a run: its size, its time, 全对率 and the rest of `score`, its epochs."""
    spent = run.history[-1]
    return {
        "parameters": run.model.count_params(),
        "images_seen": spent["images"],
        "skipped_files": skipped,
        "training_seconds": round(spent["seconds"], 1),
        "cpu_seconds": round(sum(os.times()[:4]), 1),  # of all cores and processes
        "images_per_second": round(spent["images"] / spent["seconds"], 1),
        **score(run.predicted, run.truth, run.facts["classes"]),
        "history": run.history,
    }


def facts_of(options, model: str, classes: str, length: int, shape: tuple) -> dict:
    """What a model's numbers mean, and the flags of train.py that made it."""
    return {
        "model": model,
        "classes": classes,
        "length": length,
        "shape": list(shape),
        "images": options.images,
        "minutes": options.minutes,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }


def train_network(options, samples: Samples | None, resize: tuple | None = None) -> Run:
    """Train a network of networks.py as the flags of train.py say, on a folder's samples or, for
    None, on captchas drawn meanwhile; resize: (height, width) to which images are brought."""
    if samples:
        targets = class_numbers(samples.labels, samples.classes)
        rows, held = split(len(targets), options.seed)
        kept = (samples.images[rows], targets[rows])
        source = KeptImages(*kept, options.batch_size, options.seed)
        test = (samples.images[held], targets[held])
        validation = (test[0][:1000], test[1][:1000])
        return train_on(options, source, samples.classes, validation, test, resize)

    classes = string.ascii_letters if options.case_sensitive else string.ascii_lowercase
    drawn = {
        "classes": classes,
        "length": options.length or 4,
        "seed": options.seed,
        "case_sensitive": options.case_sensitive,
    }
    workers = max(1, (os.cpu_count() or 2) - 1)
    with BatchStream(drawn, workers, max(250, options.batch_size)) as stream:
        validation = stream.arrays(VALIDATION_START, min(1000, options.test_images))
        test = stream.arrays(TEST_START, options.test_images)
        per_epoch = min(5_000 if resize else 10_000, options.images)
        limit = None if options.minutes else options.images
        source = DrawnImages(stream, options.batch_size, per_epoch, limit)
        return train_on(options, source, classes, validation, test, resize)


def train_on(options, source, classes: str, validation: tuple, test: tuple, resize=None) -> Run:
    """Build or resume the network, train it on `source`, and read the test images."""
    shape = validation[0].shape[1:]
    length = validation[1].shape[1]
    facts = facts_of(options, options.model, classes, length, shape)
    if resize:
        facts["resize"] = list(resize)
    peak = options.learning_rate or (PEAK_RATE if options.model == "compact" else 1e-3)
    schedule = None
    if options.model in ("compact", "xception"):
        schedule = functools.partial(one_cycle, peak=peak)
    if options.bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")

    checkpoint = options.out_dir / f"{options.model}.checkpoint.keras"
    history = []
    if options.resume and checkpoint.exists():
        model, history = load_checkpoint(checkpoint, facts)
    else:
        dropout = 0.2 if isinstance(source, KeptImages) else 0.0  # drawn images come only once
        imagenet = options.weights if options.weights == "imagenet" else None
        model = build_model(options.model, shape, length, len(classes), imagenet, dropout, resize)
        if options.weights and not imagenet:
            load_weights(model, options.weights)
        compile_model(model, peak)
    print(
        f"{options.model}: {model.count_params()} parameters, images {shape[1]}×{shape[0]}, "
        f"{length} of {len(classes)} letters"
    )

    end = End(options.images, options.minutes)
    keep = functools.partial(save_checkpoint, model, checkpoint, facts)
    history = train(model, source, validation, end, schedule, history, keep)

    # the finished model: float32 everywhere, without Adam's memory
    keras.config.set_dtype_policy("float32")
    finished = build_model(options.model, shape, length, len(classes), resize=resize)
    finished.set_weights(model.get_weights())
    facts = {**facts, "images": history[-1]["images"]}
    return Run(finished, facts, history, predict_classes(finished, test[0]), test[1])


# ---------------------------------------------------------------- stopping and going on
def save_checkpoint(model, path: Path, facts: dict, history: list) -> None:
    """The model with Adam's memory, and beside it the run so far."""
    notes = {**facts, "history": history, "dropout": dropout_states(model)}
    save_model(model, path, notes)


def load_checkpoint(path: Path, facts: dict) -> tuple:
    """Model and history of an interrupted run; ValueError if it is not the same run."""
    try:
        noted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        for key, value in facts.items():
            if noted.get(key) != value:
                earlier = noted.get(key)
                raise ValueError(f"was made with {key} = {earlier!r}, this run has {value!r}")
        model = keras.saving.load_model(path)
        set_dropout_states(model, noted["dropout"])
        return model, noted["history"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"--resume {path}: {first_line(error)}") from None


def dropout_generators(model) -> list:
    generators = [getattr(layer, "seed_generator", None) for layer in model.layers]
    return [generator for generator in generators if generator is not None]


def dropout_states(model) -> list:
    """Where every Dropout layer's random stream stands, which a .keras file does not keep."""
    generators = dropout_generators(model)
    return [keras.ops.convert_to_numpy(generator.state).tolist() for generator in generators]


def set_dropout_states(model, states: list) -> None:
    for generator, state in zip(dropout_generators(model), states, strict=True):
        generator.state.assign(np.array(state, generator.state.dtype))
