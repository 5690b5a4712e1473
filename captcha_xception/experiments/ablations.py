"""What the posts guess about their captcha network, measured: one run per guess, the rest equal.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503 and 4138
Run:     python captcha_xception/experiments/ablations.py
         python captcha_xception/experiments/ablations.py --only own_heads shared_head

- case: A and a in one class (own_heads) against 52 classes on the same images (cased_52_classes)
  and against lower case drawn only (lower_case_only). C1.5: does one class hold accuracy back?
- heads: a Dense for each letter on what `look` picks for it (own_heads), on all columns in a row
  (flattened, the heads of 2016), one Dense for all letters (shared_head, C1.6), and CTC (ctc).
- layers: a backbone that learned ten digits first, then letters with its weights fixed or free
  (frozen, trainable: C1.4).

Differs from the article: the compact network from nothing instead of Xception from ImageNet; for
C1.4 digits stand in for ImageNet, whose weights are a download.
"""

import os
import string
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli

VARIANTS = {  # and how the figure calls them
    "cased_52_classes": "case: A and a are two classes",
    "lower_case_only": "case: lower case only",
    "own_heads": "heads: one for each letter",
    "flattened": "heads: on the flattened picture",
    "shared_head": "heads: one for all letters",
    "ctc": "heads: CTC",
    "frozen": "layers: backbone frozen",
    "trainable": "layers: all trained",
}
QUICK = ("own_heads", "shared_head", "ctc", "frozen")


def flags(parser):
    add = parser.add_argument
    add("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS, help="variants to run")
    add("--images", type=cli.between(64, 10**8), default=20_000, help="training images of each")
    add("--test-images", type=cli.between(20, 10**7), default=2000, help="unseen images")
    add("--batch-size", type=cli.between(2, 10_000), default=64, help="images of a step")
    spare = max(1, (os.cpu_count() or 2) - 1)
    add("--workers", type=cli.between(1, 256), default=spare, help="processes that draw")
    add("--seed", **cli.SEED)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import numpy as np

from batch_stream import BatchStream
from networks import (
    PEAK_RATE,
    build_model,
    compact_features,
    compile_model,
    keras,
    layers,
    one_cycle,
)
from reading import logits_of, wilson_interval
from training import TEST_START

SHAPE = (53, 129, 3)
LENGTH = 4
LETTERS = string.ascii_lowercase


# ---------------------------------------------------------------- data
def settings(variant: str, seed: int) -> dict:
    """Of the generator. All variants but lower_case_only see the same images."""
    return {
        "classes": LETTERS,
        "length": LENGTH,
        "seed": seed,
        "mixed_case": variant != "lower_case_only",
        "label_as_drawn": variant == "cased_52_classes",
    }


def fold_case(numbers: np.ndarray) -> np.ndarray:
    """Class numbers of a…zA…Z → of a…z."""
    return numbers % 26


# ---------------------------------------------------------------- networks
def compact_input() -> tuple:
    """The input, and the compact network's features of it, (batch, 17, 128)."""
    images = layers.Input(SHAPE, dtype="uint8")
    return images, compact_features(layers.Rescaling(1 / 127.5, -1)(images))


def build_flattened(classes: int = 26):
    """A Dense for each letter, on all columns in a row."""
    images, columns = compact_input()
    x = layers.Flatten()(columns)
    heads = [layers.Reshape((1, classes))(layers.Dense(classes)(x)) for _ in range(LENGTH)]
    return keras.Model(images, layers.Concatenate(axis=1)(heads), name="compact")


def build_shared_head(classes: int = 26):
    """RepeatVector and TimeDistributed(Dense): every letter gets one vector and the same weights,
    so all letters get the same answer."""
    images, columns = compact_input()
    x = layers.RepeatVector(LENGTH)(layers.Flatten()(columns))
    return keras.Model(images, layers.TimeDistributed(layers.Dense(classes))(x), name="compact")


def build_ctc(classes: int = 26):
    """A Dense for the 17 columns; class 0 is CTC's blank. → logits (batch, 17, classes + 1)."""
    images, columns = compact_input()
    return keras.Model(images, layers.Dense(classes + 1)(columns), name="compact")


def ctc_text(best: np.ndarray, length: int = LENGTH) -> np.ndarray:
    """Greedy CTC: repeats merged, blanks dropped.

    best: classes (count, columns) → letters (count, length), all −1 for another number of letters.
    """
    texts = np.full((len(best), length), -1)
    for row, path in enumerate(best):
        before = np.concatenate([[0], path[:-1]])
        letters = path[(path != 0) & (path != before)] - 1
        if len(letters) == length:
            texts[row] = letters
    return texts


# ---------------------------------------------------------------- training
def fit(model, batches, steps: int, peak: float, shift: int = 0) -> None:
    """One pass; `shift` is added to the targets, since CTC counts letters from 1."""
    for step, (images, targets) in enumerate(batches):
        model.optimizer.learning_rate.assign(one_cycle(step / steps, peak))
        loss = model.train_on_batch(images, targets + shift)
    print(f"    loss of the last batch {float(loss):.3f}", flush=True)


def digit_reader(args) -> list:
    """The weights, layer by layer, of a compact network that learned to read digits."""
    drawn = {"classes": string.digits, "length": LENGTH, "seed": args.seed + 1}
    model = build_model("compact", SHAPE, LENGTH, 10)
    compile_model(model, PEAK_RATE)
    with BatchStream(drawn, args.workers, args.batch_size) as stream:
        batches = stream.batches(0, args.images, args.batch_size)
        fit(model, batches, -(-args.images // args.batch_size), PEAK_RATE)
    return [layer.get_weights() for layer in model.layers]


def take_over(model, learned: list, freeze: bool) -> None:
    """Give `model` all learned layers but the heads; frozen, only its heads learn on."""
    for layer, weights in zip(model.layers, learned, strict=True):
        if not layer.name.startswith("letter_"):
            layer.set_weights(weights)
            layer.trainable = not freeze


def train_variant(variant: str, args, stream: BatchStream, learned: dict):
    """A network trained on the first args.images images of `stream`.

    learned: where the digit reader is kept between the two variants that begin with it.
    """
    keras.utils.set_random_seed(args.seed)
    builders = {"flattened": build_flattened, "shared_head": build_shared_head, "ctc": build_ctc}
    if variant in builders:
        model = builders[variant]()
    else:
        classes = 52 if variant == "cased_52_classes" else 26
        model = build_model("compact", SHAPE, LENGTH, classes)
    if variant in ("frozen", "trainable"):
        if not learned:
            learned["digits"] = digit_reader(args)
        take_over(model, learned["digits"], freeze=variant == "frozen")
    peak = PEAK_RATE
    if variant == "ctc":
        peak = PEAK_RATE / 2  # at the full rate CTC stays with its blanks
        model.compile(keras.optimizers.Adam(peak, beta_2=0.99), keras.losses.CTC())
    else:
        compile_model(model, peak)
    batches = stream.batches(0, args.images, args.batch_size)
    steps = -(-args.images // args.batch_size)
    fit(model, batches, steps, peak, shift=int(variant == "ctc"))
    return model


# ---------------------------------------------------------------- evaluation
def score(variant: str, logits: np.ndarray, truth: np.ndarray) -> dict:
    """Letters and whole captchas right, case ignored."""
    predicted = logits.argmax(axis=-1)
    if variant == "ctc":
        predicted = ctc_text(predicted)
    elif variant == "cased_52_classes":
        predicted = fold_case(predicted)
        truth = fold_case(truth)
    hits = predicted == truth
    whole = hits.all(axis=1)
    return {
        "letter_accuracy": float(hits.mean()),
        "whole_accuracy": float(whole.mean()),
        "whole_accuracy_95": wilson_interval(int(whole.sum()), len(whole)),
        "position_accuracy": hits.mean(axis=0).tolist(),
    }


def below(worse: dict, better: dict) -> bool:
    """Are the 95 % intervals apart, `worse` below?"""
    return worse["whole_accuracy_95"][1] < better["whole_accuracy_95"][0]


def claims_of(rows: dict, spread: float | None) -> list:
    """C1.4, C1.5, C1.6, where the variants they compare were run.

    spread: the largest difference between two positions' outputs of the shared head.
    """
    whole = {name: row["whole_accuracy"] for name, row in rows.items()}
    claims = []
    if {"frozen", "trainable"} <= set(rows):
        measured = {"frozen": whole["frozen"], "trainable": whole["trainable"]}
        claims.append(cli.claim("C1.4", measured, below(rows["frozen"], rows["trainable"])))
    if {"own_heads", "cased_52_classes"} <= set(rows):
        merged, apart = rows["own_heads"], rows["cased_52_classes"]
        gain = apart["whole_accuracy"] - merged["whole_accuracy"]
        measured = {
            "gain": gain,
            "merged": merged["whole_accuracy"],
            "apart": apart["whole_accuracy"],
        }
        claims.append(cli.claim("C1.5", measured, below(merged, apart)))
    if "shared_head" in rows:
        measured = {"whole_accuracy": whole["shared_head"], "spread": spread}
        holds = spread == 0 and whole["shared_head"] < 0.01
        claims.append(cli.claim("C1.6", measured, holds))
    return claims


# ---------------------------------------------------------------- figures
def plot_rows(rows: dict):
    """Whole captchas right, with 95 % intervals, and letters right, of each variant."""
    names = [VARIANTS[name] for name in rows][::-1]
    found = list(rows.values())[::-1]
    figure, axes = cli.subplots(height=1.2 + 0.4 * len(names))
    whole = np.array([row["whole_accuracy"] for row in found])
    low, high = np.array([row["whole_accuracy_95"] for row in found]).T
    errors = [np.maximum(0, whole - low), np.maximum(0, high - whole)]
    axes.errorbar(whole, names, xerr=errors, fmt="o", label="whole captcha, 95 % interval")
    axes.plot([row["letter_accuracy"] for row in found], names, "x", label="a letter")
    axes.axvline(rows.get("own_heads", found[0])["whole_accuracy"], color="grey", linewidth=0.5)
    axes.set(xlabel="right on unseen captchas, case ignored", xlim=(-0.03, 1.03))
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.4, 1))
    return figure


def main(args):
    if args.quick:
        args.images = min(args.images, 96)
        args.test_images = min(args.test_images, 40)
        args.batch_size = 32
        args.only = [name for name in args.only if name in QUICK] or args.only
    rows = {}
    learned = {}
    spread = None
    drawn = None
    stream = None
    for variant in [name for name in VARIANTS if name in args.only]:
        begun = time.perf_counter()
        print(f"{variant}: {args.images} images", flush=True)
        if drawn != settings(variant, args.seed):  # most variants share a stream
            if stream:
                stream.close()
            drawn = settings(variant, args.seed)
            stream = BatchStream(drawn, args.workers, max(250, args.batch_size))
            images, truth = stream.arrays(TEST_START, args.test_images)
        model = train_variant(variant, args, stream, learned)
        logits = logits_of(model, images)
        row = score(variant, logits, truth)
        rows[variant] = {**row, "seconds": round(time.perf_counter() - begun, 1)}
        print(
            f"    per letter {row['letter_accuracy']:.3f}, whole {row['whole_accuracy']:.3f}",
            flush=True,
        )
        if variant == "shared_head":
            spread = float(np.ptp(logits[:100], axis=1).max())
    stream.close()
    return rows, claims_of(rows, spread), {"ablations_rows": plot_rows(rows)}


if __name__ == "__main__":
    cli.run(main, flags)
