"""What the posts guess about their captcha network, measured: one run per guess, the rest equal.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503 and 4138
Run:     python captcha_xception/experiments/ablations.py
         python captcha_xception/experiments/ablations.py --only own_heads shared_head
         python captcha_xception/experiments/ablations.py --images 100000 --every 10000 \
                --test-images 5000 --bfloat16               as long as train.py trains by default

- case: A and a in one class (own_heads) against 52 classes on the same images (cased_52_classes)
  and against lower case drawn only (lower_case_only). C1.5: does one class hold accuracy back?
- heads: a Dense for each letter on what `look` picks for it (own_heads), on all columns in a row
  (flattened, the heads of 2016), one Dense for all letters (shared_head, C1.6), and CTC (ctc).
- layers: a backbone that learned ten digits first, then letters with its weights fixed or free
  (frozen, trainable: C1.4).

Differs from the article: the compact network from nothing instead of Xception from ImageNet; for
C1.4 digits stand in for ImageNet, whose weights are a download.
"""

import functools
import itertools
import json
import logging
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
    add("--seeds", type=cli.between(1, 100), default=1, help="runs of each, from --seed on")
    add("--every", type=cli.between(64, 10**8), default=20_000, help="images between two looks")
    add("--test-images", type=cli.between(20, 10**7), default=2000, help="unseen images")
    add("--batch-size", type=cli.between(2, 10_000), default=64, help="images of a step")
    add("--bfloat16", action="store_true", help="short numbers: faster on chips that have them")
    add("--resume", action="store_true", help="keep the runs that are finished in --out-dir")
    add("--seed", **cli.SEED)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import numpy as np
import scipy

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
RATES = {"ctc": PEAK_RATE / 2}  # highest learning rates; at the full one CTC stays with its blanks


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


def dense(classes: int):
    return layers.Dense(classes, dtype="float32")  # a softmax is taken of long numbers


def build_flattened(classes: int = 26):
    """A Dense for each letter, on all columns in a row."""
    images, columns = compact_input()
    x = layers.Flatten()(columns)
    heads = [layers.Reshape((1, classes))(dense(classes)(x)) for _ in range(LENGTH)]
    return keras.Model(images, layers.Concatenate(axis=1)(heads), name="compact")


def build_shared_head(classes: int = 26):
    """RepeatVector and TimeDistributed(Dense): every letter gets one vector and the same weights,
    so all letters get the same answer."""
    images, columns = compact_input()
    x = layers.RepeatVector(LENGTH)(layers.Flatten()(columns))
    return keras.Model(images, layers.TimeDistributed(dense(classes))(x), name="compact")


def build_ctc(classes: int = 26):
    """A Dense for the 17 columns; class 0 is CTC's blank. → logits (batch, 17, classes + 1)."""
    images, columns = compact_input()
    return keras.Model(images, dense(classes + 1)(columns), name="compact")


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
def fit(model, batches, steps: int, peak: float, shift: int = 0, watch=None) -> None:
    """One pass; `shift` is added to the targets, since CTC counts letters from 1.

    watch(step, loss): called after every step, counted from 1.
    """
    for step, (images, targets) in enumerate(batches):
        model.optimizer.learning_rate.assign(one_cycle(step / steps, peak))
        loss = float(model.train_on_batch(images, targets + shift))
        if watch:
            watch(step + 1, loss)


def digit_reader(args, seed: int) -> list:
    """The weights, layer by layer, of a compact network that learned to read digits."""
    drawn = {"classes": string.digits, "length": LENGTH, "seed": seed + 1}
    model = build_model("compact", SHAPE, LENGTH, 10)
    compile_model(model, PEAK_RATE)
    with open_stream(drawn, args) as stream:
        batches = stream.batches(0, args.images, args.batch_size)
        fit(model, batches, -(-args.images // args.batch_size), PEAK_RATE)
    return [layer.get_weights() for layer in model.layers]


def take_over(model, learned: list, freeze: bool) -> None:
    """Give `model` all learned layers but the heads; frozen, only its heads learn on."""
    for layer, weights in zip(model.layers, learned, strict=True):
        if not layer.name.startswith("letter_"):
            layer.set_weights(weights)
            layer.trainable = not freeze


def untrained(variant: str, digits: list | None):
    """The network of a variant, compiled; `digits`: what digit_reader returned."""
    builders = {"flattened": build_flattened, "shared_head": build_shared_head, "ctc": build_ctc}
    if variant in builders:
        model = builders[variant]()
    else:
        classes = 52 if variant == "cased_52_classes" else 26
        model = build_model("compact", SHAPE, LENGTH, classes)
    if digits:
        take_over(model, digits, freeze=variant == "frozen")
    compile_model(model, RATES.get(variant, PEAK_RATE))
    if variant == "ctc":
        model.compile(model.optimizer, keras.losses.CTC())
    return model


def run_variant(variant: str, args, seed: int, data: tuple, learned: dict) -> dict:
    """Train on the first args.images images of a stream; what came out on the test images.

    The curve on the way is measured on the first 1,000 of them. data: (stream, test images, their
    classes); learned: where the digit reader is kept between the two variants that begin with it.
    """
    stream, images, truth = data
    begun = time.perf_counter()
    keras.utils.set_random_seed(seed)
    if variant in ("frozen", "trainable") and "digits" not in learned:
        learned["digits"] = digit_reader(args, seed)
    model = untrained(variant, learned["digits"] if variant in ("frozen", "trainable") else None)

    history = []
    steps = -(-args.images // args.batch_size)
    between = max(1, args.every // args.batch_size)

    def watch(step: int, loss: float) -> None:
        if step == steps or (step % between == 0 and steps - step > between / 2):
            count = len(images) if step == steps else 1000
            logits = logits_of(model, images[:count])
            row = score(variant, logits, truth[:count])
            if variant == "shared_head":  # the largest difference between two letters' outputs
                row["spread"] = float(np.ptp(logits[:100], axis=1).max())
            seen = min(args.images, step * args.batch_size)
            history.append({"images": seen, "loss": loss, **row})
            print(
                f"    {seen} images, loss {loss:.3f}, per letter {row['letter_accuracy']:.3f}, "
                f"whole {row['whole_accuracy']:.3f}",
                flush=True,
            )

    batches = stream.batches(0, args.images, args.batch_size)
    peak = RATES.get(variant, PEAK_RATE)
    fit(model, batches, steps, peak, shift=int(variant == "ctc"), watch=watch)
    seconds = round(time.perf_counter() - begun, 1)
    return {"seed": seed, **history[-1], "history": history, "seconds": seconds}


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
        "test_images": len(whole),
        "letter_accuracy": float(hits.mean()),
        "whole_accuracy": float(whole.mean()),
        "whole_accuracy_95": wilson_interval(int(whole.sum()), len(whole)),
        "position_accuracy": hits.mean(axis=0).tolist(),
    }


def pooled(runs: list) -> dict:
    """A variant's runs with several seeds as one: the test images of all of them."""
    count = sum(run["test_images"] for run in runs)
    right = sum(round(run["whole_accuracy"] * run["test_images"]) for run in runs)
    return {
        "letter_accuracy": float(np.mean([run["letter_accuracy"] for run in runs])),
        "whole_accuracy": right / count,
        "whole_accuracy_95": wilson_interval(right, count),
        "position_accuracy": np.mean([run["position_accuracy"] for run in runs], axis=0).tolist(),
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "runs": runs,
    }


def below(worse: dict, better: dict) -> bool:
    """Are the 95 % intervals apart, `worse` below?"""
    return worse["whole_accuracy_95"][1] < better["whole_accuracy_95"][0]


def mean_interval(gains: list) -> tuple[float, float]:
    """95 % interval of the mean of a few numbers (Student's t); one number says nothing."""
    if len(gains) < 2:
        return -1.0, 1.0
    error = scipy.stats.sem(gains) * scipy.stats.t.ppf(0.975, len(gains) - 1)
    return float(np.mean(gains) - error), float(np.mean(gains) + error)


def case_gain(merged: dict, apart: dict) -> tuple[dict, bool]:
    """C1.5: how much better 52 classes read than 26, seed by seed on the same images."""
    pairs = zip(merged["runs"], apart["runs"], strict=True)
    gains = [two["whole_accuracy"] - one["whole_accuracy"] for one, two in pairs]
    low, high = mean_interval(gains)
    measured = {
        "gain": float(np.mean(gains)),
        "low": low,
        "high": high,
        "merged": merged["whole_accuracy"],
        "apart": apart["whole_accuracy"],
        "seeds": len(gains),
    }
    return measured, low > 0


def claims_of(rows: dict) -> list:
    """C1.4, C1.5, C1.6, where the variants they compare were run."""
    whole = {name: row["whole_accuracy"] for name, row in rows.items()}
    claims = []
    if {"frozen", "trainable"} <= set(rows):
        measured = {"frozen": whole["frozen"], "trainable": whole["trainable"]}
        claims.append(cli.claim("C1.4", measured, below(rows["frozen"], rows["trainable"])))
    if {"own_heads", "cased_52_classes"} <= set(rows):
        claims.append(cli.claim("C1.5", *case_gain(rows["own_heads"], rows["cased_52_classes"])))
    if "shared_head" in rows:
        spread = max(run["spread"] for run in rows["shared_head"]["runs"])
        measured = {"whole_accuracy": whole["shared_head"], "spread": spread}
        holds = spread == 0 and whole["shared_head"] < 0.01
        claims.append(cli.claim("C1.6", measured, holds))
    return claims


# ---------------------------------------------------------------- figures
def spread_out(heights: list, gap: float) -> np.ndarray:
    """Heights of labels: in the same order, at least `gap` apart, and hardly moved."""
    order = np.argsort(heights, kind="stable")
    placed = np.array(heights, float)[order]
    for _ in range(200):
        overlap = np.maximum(0, gap - np.diff(placed)) / 2
        placed[:-1] -= overlap
        placed[1:] += overlap
    found = np.empty(len(placed))
    found[order] = placed
    return found


def default_curve() -> list:
    """Of own_heads in short, the recorded default run of train.py: [(images seen, 全对率)]."""
    path = cli.FOLDER / "results" / "train.json"
    if not path.exists():
        return []
    history = json.loads(path.read_text(encoding="utf-8"))["metrics"]["history"]
    return [(point["images"], point["whole_accuracy"]) for point in history]


def plot_curves(rows: dict):
    """Whole captchas right against images seen, the mean of the seeds and their range."""
    figure, axes = cli.subplots(height=4.6)
    curves = []
    if "own_heads" not in rows and default_curve():
        seen, whole = zip(*default_curve(), strict=True)
        curves.append(("C2", "train.py: a head for each letter", seen, np.array([whole])))
    for variant, row in rows.items():
        histories = [run["history"] for run in row["runs"]]
        seen = [point["images"] for point in histories[0]]
        whole = np.array([[point["whole_accuracy"] for point in run] for run in histories])
        colour = f"C{list(VARIANTS).index(variant)}"
        curves.append((colour, VARIANTS[variant], seen, whole))
    heights = spread_out([whole[:, -1].mean() for *_, whole in curves], gap=0.07)
    for (colour, name, seen, whole), height in zip(curves, heights, strict=True):
        end = whole[:, -1].mean()
        axes.plot(seen, whole.mean(axis=0), "-" if len(seen) > 1 else "o", color=colour)
        axes.fill_between(seen, whole.min(axis=0), whole.max(axis=0), color=colour, alpha=0.25)
        axes.annotate(
            f"{end:.3f} {name}",
            (seen[-1], end),
            xytext=(1.03, height),
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "relpos": (0, 0.5)},
        )
    longest = max(seen[-1] for _, _, seen, _ in curves)
    axes.set(xlabel="training images seen", ylabel="captchas wholly right, unseen")
    axes.set(xlim=(0, longest), ylim=(-0.02, 1.02))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


# ---------------------------------------------------------------- command line
def open_stream(drawn: dict, args) -> BatchStream:
    return BatchStream(drawn, max(1, (os.cpu_count() or 2) - 1), max(250, args.batch_size))


def finished_runs(args, path: Path) -> dict:
    """Of an interrupted call with the same flags: "variant seed" → run. ValueError otherwise."""
    names = ("images", "every", "test_images", "batch_size", "bfloat16")
    flags = {name: getattr(args, name) for name in names}
    if not (args.resume and path.exists()):
        return {"flags": flags}
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["flags"] != flags:
        raise ValueError(f"--resume {path}: was made with {kept['flags']}")
    return kept


def main(args):
    if args.quick:
        args.images = min(args.images, 96)
        args.test_images = min(args.test_images, 40)
        args.batch_size = 32
        args.only = [name for name in args.only if name in QUICK] or args.only
    if args.bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    # a network, a graph: TensorFlow takes eight of them for one that is traced again and again
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    variants = [name for name in VARIANTS if name in args.only]
    seeds = range(args.seed, args.seed + args.seeds)
    path = args.out_dir / "ablations.runs.json"
    kept = finished_runs(args, path)
    for seed in seeds:
        learned = {}
        missing = [name for name in variants if f"{name} {seed}" not in kept]
        for drawn, names in itertools.groupby(missing, functools.partial(settings, seed=seed)):
            with open_stream(drawn, args) as stream:  # most variants share one
                data = stream, *stream.arrays(TEST_START, args.test_images)
                for name in names:
                    print(f"{name}: {args.images} images, seed {seed}", flush=True)
                    kept[f"{name} {seed}"] = run_variant(name, args, seed, data, learned)
                    path.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    rows = {name: pooled([kept[f"{name} {seed}"] for seed in seeds]) for name in variants}
    return rows, claims_of(rows), {"ablations_curves": plot_curves(rows)}


if __name__ == "__main__":
    cli.run(main, flags)
