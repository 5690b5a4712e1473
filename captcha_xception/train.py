"""Train a network that reads a four-letter captcha whole: one image in, four letters out.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/train.py
         python captcha_xception/train.py --samples FOLDER                    your own images
         python captcha_xception/train.py --model article --weights imagenet --images 1000000 \
                --batch-size 100                                             the post's own run

Symbols: 全对率 → whole_accuracy, all letters right   p₁ … p₄ → position_accuracy
         Πpᵢ → product_of_positions
Differs from the article: its Xception (--model article) takes hours without a GPU, so the default
trains the compact network of networks.py: from nothing, in minutes, on two cores. The post's
samples are gone; draw_captcha.py draws others, for the compact network a new one at every step.

TensorFlow is imported in the functions that use it: --help and a wrong flag need not wait for it.
"""

import argparse
import json
import string
import time
from pathlib import Path

import numpy as np

import cli
from captcha_files import LABEL_PARTS, Samples, read_samples
from draw_captcha import CaptchaGenerator

ARTICLE_SAMPLES = 100_000
ARTICLE_SIZE = (50, 120)  # height and width to which the post brings its images
ARTICLE_EPOCHS = 10  # of 1,000 batches of 100 each
COLOURS = {"compact": "C0", "cnn2016": "C1", "article": "C2", "xception": "C2"}


# ---------------------------------------------------------------- the post: samples and labels
def drawn_samples(args) -> Samples:
    """As many as the post published: the generator stands in for them."""
    classes = string.ascii_letters if args.case_sensitive else string.ascii_lowercase
    generator = CaptchaGenerator(classes, args.length or 4, args.seed, args.case_sensitive)
    images, targets = generator.batch(0, 500 if args.quick else ARTICLE_SAMPLES)
    return Samples(images, [generator.text(row) for row in targets])


# ---------------------------------------------------------------- the post: network
def network_input(images: np.ndarray):
    """uint8 images (count, height, width, 3) → 50×120 pixels in [−1, 1], which Xception takes."""
    from networks import keras

    small = keras.ops.image.resize(images.astype("float32"), ARTICLE_SIZE)
    return keras.applications.xception.preprocess_input(small)


def build_article(weights: str | None, length: int = 4, classes: int = 26):
    """Xception without its top, average pooling, then for each letter Dropout and a softmax."""
    from networks import keras

    image = keras.Input((*ARTICLE_SIZE, 3))
    xception = keras.applications.Xception(
        include_top=False, weights=weights, input_tensor=image, pooling="avg"
    )
    xception.trainable = True  # all layers: what ImageNet taught does not suit captchas
    letters = []
    for _ in range(length):
        x = keras.layers.Dropout(0.5)(xception.output)
        letters.append(keras.layers.Dense(classes, activation="softmax")(x))
    model = keras.Model(image, letters)
    # the loss: the sum of four cross-entropies Σᵢ −log pᵢ(yᵢ)
    model.compile(optimizer="adam", loss=["sparse_categorical_crossentropy"] * length)
    return model


# ---------------------------------------------------------------- the post: training
def draw_batches(images: np.ndarray, targets: np.ndarray, rows: np.ndarray, size: int, seed: int):
    """Endless batches (input, four labels), drawn with replacement from the training rows."""
    random = np.random.default_rng(seed)
    while True:
        chosen = random.choice(rows, size)
        yield network_input(images[chosen]), tuple(targets[chosen].T)


def read_article(model, images: np.ndarray) -> np.ndarray:
    """The likeliest class of every letter, (count, length)."""
    pieces = []
    for start in range(0, len(images), 100):
        outputs = model.predict_on_batch(network_input(images[start : start + 100]))
        pieces.append(np.stack([np.argmax(output, axis=1) for output in outputs], axis=1))
    return np.concatenate(pieces)


def train_article(args, samples: Samples):
    """The post's run, from samples to 全对率."""
    from reading import class_numbers
    from training import Run, epoch_row, facts_of, split

    images = samples.images
    targets = class_numbers(samples.labels, samples.classes)
    rows, held = split(len(images), args.seed)  # nine tenths to train, one tenth to test
    model = build_article(args.weights, targets.shape[1], len(samples.classes))
    batches = draw_batches(images, targets, rows, args.batch_size, args.seed)
    epochs = 1 if args.quick else ARTICLE_EPOCHS
    steps = max(1, round(args.images / args.batch_size / epochs))  # the post: 1,000 of 100 images
    history = []
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        fitted = model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        seconds = time.perf_counter() - started
        loss = fitted.history["loss"][-1] / targets.shape[1]  # the sum over letters → a letter
        hits = read_article(model, images[held[:1000]]) == targets[held[:1000]]
        history.append(epoch_row(epoch, epoch * steps * args.batch_size, loss, seconds, hits))
    # 全对率: all letters of an image right, over the whole test set, every image once
    predicted = read_article(model, images[held])
    whole = (predicted == targets[held]).all(axis=1).mean()
    print(f"the post's network reads {whole:.4f} of {len(held)} images wholly right")
    reader = stacked(model, images.shape[1:], samples.classes)
    facts = facts_of(args, "xception", samples.classes, targets.shape[1], images.shape[1:])
    facts["resize"] = ARTICLE_SIZE
    return Run(reader, facts, history, predicted, targets[held])


def stacked(model, shape: tuple, classes: str):
    """The post's network as one that predict.py reads with: one output, and any size put in."""
    from networks import build_model

    reader = build_model("xception", shape, len(model.outputs), len(classes), resize=ARTICLE_SIZE)
    reader.set_weights(model.get_weights())
    return reader


# ---------------------------------------------------------------- evaluation
def claims_of(args, metrics: dict) -> list:
    """C1.1 from the compact network on drawn captchas, C1.3 from the post's Xception."""
    whole = metrics["whole_accuracy"]
    low = metrics["whole_accuracy_95"][0]
    claims = []
    if args.model == "compact" and not args.samples:
        measured = {"whole_accuracy": whole, "low": low, "images": metrics["images_seen"]}
        claims.append(cli.claim("C1.1", measured, holds=low > 0.85))
    if args.model in ("article", "xception"):
        claims.append(cli.claim("C1.3", {"whole_accuracy": f"{whole:.4f}"}, holds=whole >= 0.85))
    elif not args.samples:
        claims.append(cli.claim("C1.3", {"whole_accuracy": "–"}, holds=None))
    return claims


# ---------------------------------------------------------------- figures
def plot_curves(model: str, history: list):
    """全对率 against images seen, of this run and of the longer ones that are kept in results/."""
    figure, axes = cli.subplots(height=3.6)
    grey = {"color": "grey", "transform": axes.get_yaxis_transform()}
    axes.axhline(0.85, color="grey", linestyle="--", linewidth=1)
    axes.text(0.99, 0.84, "post, Xception: 0.85", ha="right", va="top", **grey)
    axes.axhline(0.46, color="grey", linestyle="--", linewidth=1)
    axes.text(0.42, 0.47, "post, network of 2016: 0.46", **grey)
    curves = [(model, f"{model}, this run", history)]
    for path in sorted((cli.FOLDER / "results").glob("train.*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        name = run["config"]["model"]
        text = "compact, as shipped" if path.stem == "train.shipped" else name
        curves.append((name, text, run["metrics"]["history"]))
    for name, text, history in curves:
        seen = [row["images"] for row in history]
        whole = [row["whole_accuracy"] for row in history]
        colour = COLOURS.get(name, "C3")
        axes.plot(seen, whole, "-" if len(seen) > 1 else "o", color=colour)
        if name == "xception":  # beside the curve, whose end lies among the others'
            rises = int(np.argmax(np.array(whole) > 0.3))
            axes.text(1.07 * seen[rises], whole[rises] - 0.04, text, color=colour)
            continue
        axes.text(seen[-1], whole[-1] + 0.02, text, color=colour, ha="right")
    axes.set(xscale="log", ylim=(-0.02, 1.08), xlabel="training images seen")
    axes.set(ylabel="captchas wholly right, unseen")
    return figure


# ---------------------------------------------------------------- command line
def folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return Path(text)


def weights(text: str) -> str:
    if text != "imagenet" and not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: neither 'imagenet' nor a file")
    return text


def flags(parser):
    add = parser.add_argument
    add("--model", type=str.lower, default="compact", help="or article, cnn2016, xception, vgg16 …")
    add("--weights", type=weights, help="to begin with: imagenet or a file")
    add("--samples", type=folder, help="folder of labelled images (else they are drawn)")
    add("--length", type=cli.between(1, 12), help="letters (else 4, or as the names say)")
    add("--label-part", choices=LABEL_PARTS, default="auto", help="of a file's name: its label")
    add("--case-sensitive", action="store_true", help="A and a are two classes")
    add("--images", type=cli.between(64, 10**9), default=100_000, help="to train on")
    add("--minutes", type=cli.between(0.001, 10_000, float), help="train for so long instead")
    add("--test-images", type=cli.between(20, 10**7), default=2000, help="to draw for the test")
    add("--batch-size", type=cli.between(2, 10_000), default=64, help="(the article: 100)")
    rate = cli.between(1e-9, 0.99, float)
    add("--learning-rate", type=rate, help="(else 0.01 at its peak for compact, 0.001)")
    add("--bfloat16", action="store_true", help="short numbers: faster on chips that have them")
    add("--resume", action="store_true", help="go on from <out-dir>/<model>.checkpoint.keras")
    add("--seed", **cli.SEED)


def check(args) -> None:
    """ValueError for flags that do not go together."""
    if args.weights == "imagenet" and args.model in ("compact", "cnn2016"):
        raise ValueError(f"--weights imagenet: there are none for --model {args.model}")
    ours = ("minutes", "resume", "bfloat16", "learning_rate")
    if args.model == "article" and any(getattr(args, name) for name in ours):
        raise ValueError(
            "--model article trains as the post does, without --minutes, --resume, --bfloat16 and "
            "--learning-rate; --model xception has them"
        )
    if args.quick:
        args.images = min(args.images, 64 if args.model == "article" else 2000)
        args.test_images = min(args.test_images, 200)


def main(args):
    check(args)
    samples = None
    if args.samples:
        samples = read_samples(args.samples, args.length, args.case_sensitive, args.label_part)
    elif args.model == "article":
        samples = drawn_samples(args)

    from networks import keras
    from reading import save_model
    from training import summary, train_network

    keras.utils.set_random_seed(args.seed)
    if args.model == "article":
        run = train_article(args, samples)
    else:  # the post's network gets images of the post's size
        run = train_network(args, samples, ARTICLE_SIZE if args.model == "xception" else None)

    finished = args.out_dir / f"{args.model}.keras"
    save_model(run.model, finished, run.facts)
    metrics = summary(run, samples.skipped if samples else 0)
    low, high = metrics["whole_accuracy_95"]
    print(
        f"whole-captcha accuracy {metrics['whole_accuracy']:.4f} [{low:.4f}, {high:.4f}] on "
        f"{len(run.truth)} unseen images; product of the letters "
        f"{metrics['product_of_positions']:.4f}; model in {finished}"
    )
    figures = {"train_curves": plot_curves(args.model, run.history)}
    return metrics, claims_of(args, metrics), figures


if __name__ == "__main__":
    cli.run(main, flags)
