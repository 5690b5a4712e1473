"""How well does a trained model read captchas that it has never seen, what does it confuse, and where does it look?

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503 and 4138
Run:     python captcha_xception/evaluate.py                                  (--quick for a one-minute look)
         python captcha_xception/evaluate.py --weights MODEL.keras --samples DIR
Time:    25 s of CPU (AMD EPYC)

Symbols: 全对率 → whole_accuracy, all letters right   p₁…p₄ → position_accuracy   Πpᵢ → product_of_positions
Differs from the article: its loop drew 10,100 test images with replacement; here each is visited once.
"""
import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from captcha_xception.batch_stream import BatchStream
from captcha_xception.draw_captcha import save_pictures

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ != "__mp_main__":      # the processes that draw batches import this file, and need no Keras
    import keras

    from captcha_xception.predict import load_reader

HERE = Path(__file__).resolve().parent
TEST_START = 1 << 40               # training draws images 0, 1, 2 …; the test from here on: never the same image


# ---------------------------------------------------------------- data
def read_samples(folder: Path, length: int | None, case_sensitive: bool) -> tuple[np.ndarray, list, int]:
    """Images uint8 (count, height, width, 3), labels, and how many files were skipped.

    The label is what follows the last "_" of the file's stem; with `length`, its last `length` characters.
    """
    files = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"))
    if not files:
        raise ValueError(f"{folder}: holds no .jpg, .png or .bmp image")
    labels = [path.stem[-length:] if length else path.stem.rsplit("_", 1)[-1] for path in files]
    usual = length or Counter(map(len, labels)).most_common(1)[0][0]
    images, kept, sizes, bad = [], [], Counter(), []
    for path, label in zip(files, labels):
        try:
            if len(label) != usual:
                raise ValueError(f"label {label!r} has {len(label)} characters, the others {usual}")
            if not (label.isascii() and label.isalnum()):
                raise ValueError(f"label {label!r} has a character that is neither letter nor digit")
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            sizes[pixels.shape] += 1
            if pixels.shape != sizes.most_common(1)[0][0]:
                raise ValueError(f"size {pixels.shape[1]}×{pixels.shape[0]} differs from the others'")
        except (OSError, ValueError, SyntaxError) as error:
            bad.append(f"{path}: {error}".replace("\n", " "))
            print(f"skipped {bad[-1]}", file=sys.stderr)
            if len(bad) > max(1, 0.01 * len(files)):
                raise ValueError(f"{len(bad)} bad among {len(files)} (more than 1 %), the last: {bad[-1]}") from None
            continue
        images.append(pixels)
        kept.append(label if case_sensitive else label.lower())
    if len(images) < 20:
        raise ValueError(f"{folder}: {len(images)} readable images, at least 20 are needed")
    return np.stack(images), kept, len(bad)


def slices(images: np.ndarray, targets: np.ndarray, size: int = 250):
    """Arrays in pieces, each image once."""
    for start in range(0, len(images), size):
        yield images[start:start + size], targets[start:start + size]


def merge(batches) -> tuple[np.ndarray, np.ndarray]:
    """All batches of one pass as two arrays."""
    images, targets = zip(*batches)
    return np.concatenate(images), np.concatenate(targets)


# ---------------------------------------------------------------- evaluation
def wilson_interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): honest near 0 and 1."""
    share = right / count
    centre, spread = share + z * z / (2 * count), z * ((share * (1 - share) + z * z / (4 * count)) / count) ** 0.5
    return (centre - spread) / (1 + z * z / count), (centre + spread) / (1 + z * z / count)


def evaluate(predicted: np.ndarray, targets: np.ndarray, classes: str) -> dict:
    """predicted, targets: class numbers (count, length), each test image one row."""
    hits = predicted == targets
    right = int(hits.all(axis=1).sum())
    low, high = wilson_interval(right, len(hits))
    pairs = Counter(zip(targets[~hits].tolist(), predicted[~hits].tolist())).most_common(12)
    return {"test_images": len(hits), "whole_accuracy": right / len(hits), "whole_accuracy_95": [low, high],
            "position_accuracy": hits.mean(axis=0).tolist(), "product_of_positions": float(hits.mean(axis=0).prod()),
            "confused": [{"drawn": classes[a], "read": classes[b], "times": times} for (a, b), times in pairs]}


def predict_classes(model, batches) -> tuple[np.ndarray, np.ndarray]:
    """One pass over (images, targets) batches: predicted and true class numbers."""
    pairs = [(np.argmax(keras.ops.convert_to_numpy(model.predict_on_batch(images)), axis=-1), targets)
             for images, targets in batches]
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def reject_curve(sure: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share answered, and accuracy among those, when only the surest are answered. sure, right: (count,)."""
    order = np.argsort(-sure, kind="stable")
    answered = np.arange(1, len(sure) + 1)
    return answered / len(sure), np.cumsum(right[order]) / answered


def occlusion_map(model, image: np.ndarray, size: int = 11, step: int = 4) -> np.ndarray:
    """How much each letter's probability falls when a patch at (y, x) is greyed out: (length, rows, columns)."""
    height, width, _ = image.shape
    tops, lefts = range(0, height - size + 1, step), range(0, width - size + 1, step)
    covered = np.repeat(image[None], 1 + len(tops) * len(lefts), axis=0)
    for number, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        covered[number + 1, top:top + size, left:left + size] = np.median(image, axis=(0, 1))
    logits = np.concatenate([np.asarray(keras.ops.convert_to_numpy(model.predict_on_batch(piece)))
                             for piece, _ in slices(covered, covered)]).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    odds /= odds.sum(axis=-1, keepdims=True)
    read = odds[0].argmax(axis=-1)
    kept = odds[:, np.arange(len(read)), read]                  # (1 + patches, length)
    return (kept[0] - kept[1:]).T.reshape(len(read), len(tops), len(lefts))


# ---------------------------------------------------------------- figures
def plot_confusions(confused: list) -> Figure:
    """The most frequent mistakes."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.barh([f"{row['drawn']} read as {row['read']}" for row in confused][::-1],
              [row["times"] for row in confused][::-1])
    axes.set(xlabel="times in the test")
    return figure


def plot_reject(answered: np.ndarray, accuracy: np.ndarray) -> Figure:
    """Accuracy of the answers against the share answered."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(answered, accuracy)
    axes.set(xlabel="share answered, the surest first", ylabel="accuracy of the answers")
    return figure


def plot_where(model, images: np.ndarray, classes: str) -> Figure:
    """Three captchas and, per letter, where covering a patch hurts it."""
    images = images[:3]
    maps = [occlusion_map(model, image) for image in images]
    read = np.argmax(keras.ops.convert_to_numpy(model.predict_on_batch(images)), axis=-1)
    figure = Figure(figsize=(1.5 * (len(maps[0]) + 1), 0.85 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), len(maps[0]) + 1, squeeze=False)
    for row, image, falls, letters in zip(grid, images, maps, read):
        row[0].imshow(image)
        for axes, fall, letter in zip(row[1:], falls, letters):
            axes.imshow(image)
            shown = axes.imshow(fall, extent=(0, image.shape[1], image.shape[0], 0), cmap="magma", alpha=0.65,
                                vmin=0, vmax=1, interpolation="bilinear")
            axes.set_title(classes[letter], fontsize=9, pad=2)
    for axes in grid.flat:
        axes.set_axis_off()
    figure.colorbar(shown, ax=grid, label="fall of its probability", shrink=0.8)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--weights", type=Path, default=HERE / "weights" / "compact.keras", help="a model of train.py")
    parser.add_argument("--samples", type=Path, help="folder of labelled images instead of drawn ones")
    parser.add_argument("--test-images", type=int, default=5000, help="unseen images to draw")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.quick:
        args.test_images = min(args.test_images, 300)
    if not 20 <= args.test_images <= 10**7:
        parser.error(f"--test-images {args.test_images}: must lie in 20 … 10000000")
    if args.samples and not args.samples.is_dir():
        parser.error(f"--samples {args.samples}: no such folder")
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
    model, facts = load_reader(args.weights)
    classes = facts["classes"]
    if args.samples:
        images, labels, _ = read_samples(args.samples, facts["length"], classes != classes.lower())
        foreign = sorted(set("".join(labels)) - set(classes))
        if foreign:
            raise ValueError(f"{args.samples}: the labels hold {foreign[0]!r}; {args.weights} reads only {classes}")
        if list(images.shape[1:]) != facts["shape"]:
            raise ValueError(f"{args.samples}: images are {images.shape[1:]}, {args.weights} reads "
                             f"{tuple(facts['shape'])}")
        targets = np.array([[classes.index(character) for character in label] for label in labels], np.int32)
    else:
        stream = BatchStream({"classes": classes, "length": facts["length"], "seed": args.seed,
                              "case_sensitive": classes != classes.lower()}, workers=os.cpu_count() or 2)
        images, targets = merge(stream.batches(TEST_START, args.test_images, 250))
        stream.close()
    reading = time.perf_counter()
    logits = np.concatenate([keras.ops.convert_to_numpy(model.predict_on_batch(piece))
                             for piece, _ in slices(images, targets)])
    seconds = time.perf_counter() - reading
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    sure = (odds.max(axis=-1) / odds.sum(axis=-1)).prod(axis=-1)
    predicted = logits.argmax(axis=-1)
    right = (predicted == targets).all(axis=1)
    answered, accuracy = reject_curve(sure, right)
    metrics = {**evaluate(predicted, targets, classes), "images_per_second": round(len(images) / seconds, 1),
               "mean_confidence": float(sure.mean()),
               "accuracy_of_the_surest_nine_tenths": float(accuracy[len(sure) * 9 // 10 - 1])}
    low, high = metrics["whole_accuracy_95"]
    print(f"whole-captcha accuracy {metrics['whole_accuracy']:.4f} [{low:.4f}, {high:.4f}] on {len(images)} unseen "
          f"images, per letter {np.round(metrics['position_accuracy'], 4).tolist()}, "
          f"{metrics['images_per_second']:.0f} images/s")
    figures = {"evaluate_confusions.png": plot_confusions(metrics["confused"]),
               "evaluate_reject.png": plot_reject(answered, accuracy),
               "evaluate_where.png": plot_where(model, images, classes)}
    for name, figure in figures.items():
        save_pictures(figure, args.out_dir / name)
    return save_results(args, "evaluate", metrics, [], list(figures), started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
