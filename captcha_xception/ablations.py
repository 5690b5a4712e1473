"""What the article guesses about its captcha network, measured: one run per guess, the rest equal.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503 and 4138
Run:     python captcha_xception/ablations.py                 (--quick: every stage on a handful of images, no result)
         python captcha_xception/ablations.py --only own_heads shared_head
Time:    about 10 minutes of CPU (Intel Xeon with AVX-512), half of that on 2 free cores

mixed case: A and a are one class (C1.5: is that what holds accuracy back?) against 52 classes on the same images, and
against lower case only. heads: one Dense per letter against one for all (C1.6), against CTC; flattened: each head sees
all columns in a row, as the heads of 2016, not what `look` picks for it. frozen: a backbone that learned ten digits
first, then letters with its weights fixed or free (C1.4).
Differs from the article: the compact network from nothing instead of Xception from ImageNet; for C1.4 digits stand in
for ImageNet, whose weights need a download.
"""
import argparse
import json
import os
import platform
import string
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from captcha_xception.batch_stream import BatchStream

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ != "__mp_main__":      # the processes that draw batches import this file, and need no Keras
    import keras
    from keras import layers

    from captcha_xception.evaluate import TEST_START, merge, predict_classes, slices, wilson_interval
    from captcha_xception.networks import PEAK_RATE, build_model, compact_features, compile_model, one_cycle

HERE = Path(__file__).resolve().parent
SHAPE, LENGTH, LETTERS = (53, 129, 3), 4, string.ascii_lowercase
VARIANTS = ("cased_52_classes", "lower_case_only", "own_heads", "flattened", "shared_head", "ctc", "frozen",
            "trainable")


# ---------------------------------------------------------------- data
def settings(variant: str, seed: int) -> dict:
    """Of the generator. All variants but lower_case_only see the same images."""
    return {"classes": LETTERS, "length": LENGTH, "seed": seed, "mixed_case": variant != "lower_case_only",
            "label_as_drawn": variant == "cased_52_classes"}


def fold_case(numbers: np.ndarray) -> np.ndarray:
    """Class numbers of a…zA…Z → of a…z."""
    return numbers % 26


# ---------------------------------------------------------------- method
def build_flattened(shape: tuple = SHAPE, length: int = LENGTH, classes: int = 26):
    """A Dense per position, each on all columns in a row."""
    images = layers.Input(shape, dtype="uint8")
    x = layers.Flatten()(compact_features(layers.Rescaling(1 / 127.5, -1)(images)))
    heads = [layers.Reshape((1, classes))(layers.Dense(classes)(x)) for _ in range(length)]
    return keras.Model(images, layers.Concatenate(axis=1)(heads), name="compact")


def build_shared_head(shape: tuple = SHAPE, length: int = LENGTH, classes: int = 26):
    """RepeatVector + TimeDistributed(Dense): every position gets the same vector and the same weights."""
    images = layers.Input(shape, dtype="uint8")
    x = layers.Flatten()(compact_features(layers.Rescaling(1 / 127.5, -1)(images)))
    x = layers.RepeatVector(length)(x)
    return keras.Model(images, layers.TimeDistributed(layers.Dense(classes))(x), name="compact")


def build_ctc(shape: tuple = SHAPE, classes: int = 26):
    """One Dense for the 17 columns of the feature map; class 0 is CTC's blank. → logits (batch, 17, classes + 1)."""
    images = layers.Input(shape, dtype="uint8")
    x = compact_features(layers.Rescaling(1 / 127.5, -1)(images))
    return keras.Model(images, layers.Dense(classes + 1)(x), name="compact")


def ctc_text(best: np.ndarray, length: int = LENGTH) -> np.ndarray:
    """Greedy CTC: best classes (count, columns) → letters (count, length), repeats merged, no blanks, −1 padded."""
    texts = np.full((len(best), length), -1)
    for row, path in enumerate(best):
        letters = [now - 1 for now, before in zip(path, np.r_[0, path[:-1]]) if now and now != before]
        if len(letters) == length:                       # another number of letters is wrong anyway
            texts[row] = letters
    return texts


def fit(model, batches, steps: int, peak: float, shift: int = 0) -> None:
    """One pass; shift is added to the targets (CTC counts letters from 1)."""
    for step, (images, targets) in enumerate(batches):
        model.optimizer.learning_rate.assign(one_cycle(step / steps, peak))
        loss = model.train_on_batch(images, targets + shift)
    print(f"    loss of the last batch {float(loss):.3f}", flush=True)


def train_variant(variant: str, args: argparse.Namespace, stream: BatchStream, start: int = 0):
    """A compact network trained on images start … start + args.images − 1 of `stream`."""
    keras.utils.set_random_seed(args.seed)
    builders = {"flattened": build_flattened, "shared_head": build_shared_head, "ctc": build_ctc}
    if variant in builders:
        model = builders[variant]()
    else:
        model = build_model("compact", SHAPE, LENGTH, 52 if variant == "cased_52_classes" else 26)
    if variant in ("frozen", "trainable"):
        model = transfer(args, model, freeze=variant == "frozen")
    peak = PEAK_RATE / 2 if variant == "ctc" else PEAK_RATE     # at the full rate CTC stays with its blanks
    if variant == "ctc":
        model.compile(keras.optimizers.Adam(peak, beta_2=0.99), keras.losses.CTC())
    else:
        compile_model(model, peak)
    fit(model, stream.batches(start, args.images, args.batch_size), -(-args.images // args.batch_size), peak,
        shift=int(variant == "ctc"))
    return model


def transfer(args: argparse.Namespace, model, freeze: bool):
    """`model` with the backbone of a network that first learned to read digits; frozen: only the heads still learn."""
    if "digits" not in _learned:
        drawn = {"classes": string.digits, "length": LENGTH, "seed": args.seed + 1}
        stream = BatchStream(drawn, args.workers, args.batch_size)
        digits = build_model("compact", SHAPE, LENGTH, 10)
        compile_model(digits, PEAK_RATE)
        fit(digits, stream.batches(0, args.images, args.batch_size), -(-args.images // args.batch_size), PEAK_RATE)
        stream.close()
        _learned["digits"] = [layer.get_weights() for layer in digits.layers]
    for layer, weights in zip(model.layers, _learned["digits"]):
        if not layer.name.startswith("letter_"):
            layer.set_weights(weights)
            layer.trainable = not freeze
    return model


_learned: dict = {}                # the digit reader, trained once for both of its variants


# ---------------------------------------------------------------- evaluation
def score(variant: str, model, test: tuple) -> dict:
    """Letters and whole captchas right, case ignored, and how far the positions' outputs differ at most."""
    predicted, truth = predict_classes(model, slices(*test))
    if variant == "ctc":
        predicted = ctc_text(predicted)
    elif variant == "cased_52_classes":
        predicted, truth = fold_case(predicted), fold_case(truth)
    hits = predicted == truth
    whole = hits.all(axis=1)
    return {"letter_accuracy": float(hits.mean()), "whole_accuracy": float(whole.mean()),
            "whole_accuracy_95": list(wilson_interval(int(whole.sum()), len(whole))),
            "position_accuracy": hits.mean(axis=0).tolist()}


def claims_of(rows: dict, spread: float | None) -> list:
    """C1.4, C1.5, C1.6; a claim whose variants were not run cannot be judged."""
    def pair(worse: str, better: str):
        if worse not in rows or better not in rows:
            return None, f"--only left out {worse} or {better}"
        low, high = rows[worse], rows[better]
        return (bool(low["whole_accuracy_95"][1] < high["whole_accuracy_95"][0]),
                f"{worse} {low['whole_accuracy']:.3f}, {better} {high['whole_accuracy']:.3f}")

    frozen, frozen_text = pair("frozen", "trainable")
    merged, merged_text = pair("own_heads", "cased_52_classes")
    lower = f"; lower_case_only {rows['lower_case_only']['whole_accuracy']:.3f}" if "lower_case_only" in rows else ""
    shared = rows.get("shared_head")
    return [{"id": "C1.4", "claim": "a frozen backbone of another task is not enough, all layers must learn",
             "expected": "frozen below trainable (not measured there)",
             "measured": frozen_text + " (digits stand in for ImageNet)", "holds": frozen},
            {"id": "C1.5", "claim": "A and a in one class hold accuracy back",
             "expected": "one class below two (a guess)",
             "measured": merged_text + lower, "holds": merged},
            {"id": "C1.6",
             "claim": "one head with shared weights on one vector cannot read: all positions answer alike",
             "expected": "identical outputs",
             "measured": f"largest difference between positions {spread:.1e}, whole {shared['whole_accuracy']:.3f}"
                         if shared else "--only left out shared_head",
             "holds": bool(spread == 0 and shared["whole_accuracy"] < 0.01) if shared else None}]


# ---------------------------------------------------------------- figures
def plot_rows(rows: dict) -> Figure:
    """Whole-captcha and letter accuracy per variant, 95 % intervals on the former."""
    names = list(rows)[::-1]
    figure = Figure(figsize=(6.5, 0.8 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    whole = np.array([rows[name]["whole_accuracy"] for name in names])
    low, high = np.array([rows[name]["whole_accuracy_95"] for name in names]).T
    errors = [np.maximum(0, whole - low), np.maximum(0, high - whole)]
    axes.errorbar(whole, names, xerr=errors, fmt="o", label="whole captcha")
    axes.plot([rows[name]["letter_accuracy"] for name in names], names, "x", label="per letter")
    axes.set(xlabel="accuracy on unseen captchas, case ignored", xlim=(-0.03, 1.03))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS, help="variants to run")
    parser.add_argument("--images", type=int, default=20000, help="training images of each variant")
    parser.add_argument("--test-images", type=int, default=2000, help="unseen images")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that draw")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.quick:
        args.images, args.test_images, args.batch_size = min(args.images, 96), min(args.test_images, 40), 32
        args.only = [name for name in args.only if name in ("own_heads", "shared_head", "ctc", "frozen")] or args.only
    for flag, value, low, high in (("--images", args.images, 64, 10**8), ("--test-images", args.test_images, 20, 10**7),
                                   ("--batch-size", args.batch_size, 2, 10**4), ("--workers", args.workers, 1, 256)):
        if not low <= value <= high:
            parser.error(f"{flag} {value}: must lie in {low} … {high}")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    def seed(text: str) -> int:
        return range(10**9).index(int(text))               # else ValueError, from which argparse makes its message
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random draw, 0 … 999999999")
    parser.add_argument("--out-dir", type=Path, default=HERE / "outputs", help="where results and figures go")
    parser.add_argument("--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR, else data/.cache)")


def save_results(args: argparse.Namespace, script: str, metrics: dict, claims: list, figures: list,
                 started: float) -> dict:
    """Write <out-dir>/<script>.json in one move and return what it holds."""
    packages = [name for name in ("numpy", "scipy", "keras", "tensorflow", "matplotlib") if name in sys.modules]
    results = {
        "script": script, "quick": args.quick, "seed": args.seed,
        "config": {key: str(value) if isinstance(value, Path) else value
                   for key, value in vars(args).items() if key not in ("out_dir", "data_dir")},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": f"{os.cpu_count()} cores, {platform.machine()}", "seconds": round(time.perf_counter() - started, 1),
        "metrics": metrics, "claims": claims, "figures": figures,
    }
    path = args.out_dir / f"{script}.json"
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(results, ensure_ascii=False, indent=1, default=float) + "\n", encoding="utf-8")
    os.replace(partial, path)
    for claim in claims:
        verdict = {True: "holds", False: "does NOT hold", None: "not measurable here"}[claim["holds"]]
        print(f"{claim['id']} {verdict}: {claim['claim']} | article: {claim['expected']} | here: {claim['measured']}")
    print(f"{'QUICK RUN, not results. ' if args.quick else ''}Wrote {path} in {results['seconds']} s")
    return results


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    _learned.clear()
    rows, spread, drawn, stream = {}, None, None, None
    for variant in sorted(dict.fromkeys(args.only), key=VARIANTS.index):
        begun = time.perf_counter()
        print(f"{variant}: {args.images} images", flush=True)
        if drawn != settings(variant, args.seed):              # most variants share a stream and its test images
            if stream:
                stream.close()
            drawn = settings(variant, args.seed)
            stream = BatchStream(drawn, args.workers, max(250, args.batch_size))
            test = merge(stream.batches(TEST_START, args.test_images, 250))
        model = train_variant(variant, args, stream)
        rows[variant] = {**score(variant, model, test), "seconds": round(time.perf_counter() - begun, 1)}
        print(f"    per letter {rows[variant]['letter_accuracy']:.3f}, whole {rows[variant]['whole_accuracy']:.3f}",
              flush=True)
        if variant == "shared_head":
            logits = keras.ops.convert_to_numpy(model.predict_on_batch(test[0][:100]))
            spread = float(np.ptp(logits, axis=1).max())
    stream.close()
    plot_rows(rows).savefig(args.out_dir / "ablations_rows.png", dpi=150)
    return save_results(args, "ablations", rows, claims_of(rows, spread), ["ablations_rows.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
