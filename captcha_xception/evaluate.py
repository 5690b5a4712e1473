"""How good is a trained reader on captchas it has never seen, what does it confuse, where does it
look?

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/evaluate.py
         python captcha_xception/evaluate.py --weights MODEL.keras --samples FOLDER

Symbols: 全对率 → whole_accuracy   p₁ … p₄ → position_accuracy   Πpᵢ → product_of_positions
Differs from the article: its loop drew 10,100 test images with replacement; here each is visited
once.
"""

import os
import time
from pathlib import Path

import numpy as np

import cli
from batch_stream import BatchStream
from captcha_files import LABEL_PARTS, FewColours, load_facts, read_samples


# ---------------------------------------------------------------- method
def reject_curve(sure: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share answered, and accuracy among those, when only the surest are answered.

    sure: confidences (count,); right: whether the whole captcha was read right (count,).
    """
    order = np.argsort(-sure, kind="stable")
    answered = np.arange(1, len(sure) + 1)
    return answered / len(sure), np.cumsum(right[order]) / answered


def occlusion_map(model, image: np.ndarray, size: int = 11, step: int = 4) -> np.ndarray:
    """How much each letter's probability falls when a patch is greyed out.

    image: uint8 (height, width, 3). Returns (length, rows, columns): patches of `size` pixels whose
    corners lie `step` apart (Zeiler and Fergus 2014).
    """
    import scipy

    from reading import logits_of

    height, width, _ = image.shape
    corners = []
    for top in range(0, height - size + 1, step):
        corners += [(top, left) for left in range(0, width - size + 1, step)]
    covered = np.repeat(image[None], 1 + len(corners), axis=0)  # the first one is whole
    for number, (top, left) in enumerate(corners, 1):
        covered[number, top : top + size, left : left + size] = np.median(image, axis=(0, 1))
    probabilities = scipy.special.softmax(logits_of(model, covered), axis=-1)
    read = probabilities[0].argmax(axis=-1)
    kept = probabilities[:, np.arange(len(read)), read]  # (1 + patches, length)
    falls = kept[0] - kept[1:]
    rows = len(range(0, height - size + 1, step))
    return falls.T.reshape(len(read), rows, -1)


# ---------------------------------------------------------------- figures
def plot_errors(confused: list, answered: np.ndarray, accuracy: np.ndarray):
    """The most frequent confusions; accuracy of the answers against the share answered."""
    figure, (left, right) = cli.subplots(1, 2, height=3.6)
    names = [f"{row['drawn']} read as {row['read']}" for row in confused]
    left.barh(names[::-1], [row["times"] for row in confused][::-1])
    left.set(xlabel="times in the test")
    right.plot(answered, accuracy)
    right.set(xlabel="share answered, the surest first", ylabel="answers wholly right")
    return figure


def plot_where(images: np.ndarray, texts: list, maps: list):
    """Captchas, and for each letter in red where covering a patch takes its probability away."""
    columns = 1 + len(texts[0])
    height = 0.3 + 0.9 * len(images)
    figure, grid = cli.subplots(len(images), columns, height=height, squeeze=False)
    for row, image, text, falls in zip(grid, images, texts, maps, strict=True):
        row[0].imshow(image)
        pale = 255 - (255 - image.mean(axis=2)) * 0.6
        frame = (0, image.shape[1], image.shape[0], 0)
        for axes, fall, letter in zip(row[1:], falls, text, strict=True):
            axes.imshow(pale, cmap="gray", vmin=0, vmax=255)
            fall = fall.clip(0, 1)
            axes.imshow(np.ones_like(fall), cmap="Reds", vmin=0, vmax=1.3, alpha=fall, extent=frame)
            axes.set_title(letter)
    for axes in grid.flat:
        axes.set_axis_off()
    return FewColours(figure, 128)


# ---------------------------------------------------------------- command line
def flags(parser):
    weights = cli.FOLDER / "weights" / "compact.keras"
    add = parser.add_argument
    add("--weights", type=Path, default=weights, help="a model of train.py")
    add("--samples", type=Path, help="folder of labelled images (else they are drawn)")
    add("--label-part", choices=LABEL_PARTS, default="auto", help="of a file's name: its label")
    add("--test-images", type=cli.between(20, 10**7), default=5000, help="unseen images to draw")
    add("--seed", **cli.SEED)


def labelled_images(args, facts: dict) -> tuple[np.ndarray, list]:
    """A folder's images and labels; ValueError if the model reads another size or alphabet."""
    cased = facts["classes"] != facts["classes"].lower()
    samples = read_samples(args.samples, facts["length"], cased, args.label_part)
    if list(samples.images.shape[1:]) != list(facts["shape"]):
        height, width, _ = samples.images.shape[1:]
        wanted = f"{facts['shape'][1]}×{facts['shape'][0]}"
        raise ValueError(f"{args.samples}: {width}×{height} pixels, {args.weights} reads {wanted}")
    return samples.images, samples.labels


def drawn_images(args, facts: dict) -> tuple[np.ndarray, np.ndarray]:
    """Images that training never draws, and their class numbers."""
    from training import TEST_START

    settings = {
        "classes": facts["classes"],
        "length": facts["length"],
        "seed": args.seed,
        "case_sensitive": facts["classes"] != facts["classes"].lower(),
    }
    with BatchStream(settings, workers=os.cpu_count() or 2) as stream:
        return stream.arrays(TEST_START, args.test_images)


def main(args):
    facts = load_facts(args.weights)
    classes = facts["classes"]
    if args.quick:
        args.test_images = min(args.test_images, 300)
    if args.samples:
        images, labels = labelled_images(args, facts)

    from reading import class_numbers, load_model, logits_of, score, texts_of

    if args.samples:
        targets = class_numbers(labels, classes)
    else:
        images, targets = drawn_images(args, facts)
    model, _ = load_model(args.weights)
    started = time.perf_counter()
    logits = logits_of(model, images)
    seconds = time.perf_counter() - started
    texts, sure = texts_of(logits, classes)
    predicted = logits.argmax(axis=-1)
    right = (predicted == targets).all(axis=1)
    answered, accuracy = reject_curve(sure, right)
    metrics = {
        **score(predicted, targets, classes),
        "images_per_second": round(len(images) / seconds, 1),
        "mean_confidence": float(sure.mean()),
        "accuracy_of_the_surest_nine_tenths": float(accuracy[len(sure) * 9 // 10 - 1]),
    }
    low, high = metrics["whole_accuracy_95"]
    print(
        f"whole-captcha accuracy {metrics['whole_accuracy']:.4f} [{low:.4f}, {high:.4f}] on "
        f"{len(images)} unseen images, {metrics['images_per_second']:.0f} images/s; per letter "
        f"{np.round(metrics['position_accuracy'], 4).tolist()}"
    )
    maps = [occlusion_map(model, image) for image in images[:3]]
    figures = {
        "evaluate_errors": plot_errors(metrics["confused"], answered, accuracy),
        "evaluate_where": plot_where(images[:3], texts[:3], maps),
    }
    return metrics, [], figures


if __name__ == "__main__":
    cli.run(main, flags)
