"""The small network of 2016 as its post trains it: which letters are hard, and is 0.46 learned or
memorised?

Article: 端到端的腾讯验证码识别(46%正确率) https://kexue.fm/archives/4138
Run:     python captcha_xception/experiments/network_2016.py
         python captcha_xception/experiments/network_2016.py --images 100000 --passes 30

The post's script scores the images that it trained on. Here a tenth is kept apart, so that both
numbers are seen: of the images trained on, and of unseen ones.

Symbols: 全对率 → whole_accuracy   p₁ … p₄ → position_accuracy   Πpᵢ → product_of_positions
Differs from the article: drawn captchas; Adam on the mean of the four cross-entropies.
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    add = parser.add_argument
    add("--images", type=cli.between(300, 10**6), default=20_000, help="nine tenths to train on")
    add("--passes", type=cli.between(1, 1000), default=8, help="epochs (the article: 30)")
    add("--batch-size", type=cli.between(2, 10_000), default=256, help="as in the article")
    add("--bfloat16", action="store_true", help="short numbers: faster on chips that have them")
    add("--seed", **cli.SEED)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported

import numpy as np

from draw_captcha import CaptchaGenerator
from networks import build_model, compile_model, keras
from reading import predict_classes, score
from training import KeptImages, epoch_row, split

# train.py --model cnn2016 on 2,700,000 images, 30 times 90,000: the article's length
LONG_RUN = cli.FOLDER / "results" / "train.cnn2016.json"
BAR_COLOURS = {
    "post, images trained on": "grey",
    "as long as the post, unseen images": "C1",
    "this run, images trained on": "#ffdfc0",
    "this run, unseen images": "#ffbb78",
}


# ---------------------------------------------------------------- method
def train_2016(model, source: KeptImages, passes: int, unseen: tuple) -> list:
    """Passes over the images in memory; returns the history, measured on the unseen images."""
    history = []
    seen = 0
    started = time.perf_counter()
    for number in range(1, passes + 1):
        losses = []
        for images, targets in source.batches(number - 1, seen):
            model.reset_metrics()  # some versions of Keras return a running mean
            losses.append(float(model.train_on_batch(images, targets)))
            seen += len(images)
        seconds = time.perf_counter() - started
        hits = predict_classes(model, unseen[0]) == unseen[1]
        history.append(epoch_row(number, seen, float(np.mean(losses)), seconds, hits))
    return history


# ---------------------------------------------------------------- figures
def plot_letters(trained: dict, unseen: dict):
    """Letters and whole captchas right: the post's numbers, those of the run that is kept in
    results/, as long as the post's, and those of this run."""
    figure, axes = cli.subplots(height=4)
    names = ["letter 1", "letter 2", "letter 3", "letter 4", "product", "whole"]
    rows = {"post, images trained on": [0.89, 0.72, 0.73, 0.87, 0.41, 0.46]}
    if LONG_RUN.is_file():
        kept = json.loads(LONG_RUN.read_text(encoding="utf-8"))["metrics"]
        rows["as long as the post, unseen images"] = numbers_of(kept)
    rows["this run, images trained on"] = numbers_of(trained)
    rows["this run, unseen images"] = numbers_of(unseen)
    for place, (label, values) in enumerate(rows.items()):
        left = np.arange(len(names)) + (place - 1.5) * 0.2
        axes.bar(left, values, 0.19, label=label, color=BAR_COLOURS[label])
    axes.set_xticks(np.arange(len(names)), names)
    axes.set(ylabel="share right", ylim=(0, 1.3))
    axes.legend(frameon=False, ncols=2, loc="upper center", columnspacing=1)
    return figure


def numbers_of(scores: dict) -> list:
    summary = [scores["product_of_positions"], scores["whole_accuracy"]]
    return [*scores["position_accuracy"], *summary]


def main(args):
    if args.quick:
        args.images = min(args.images, 1000)
        args.passes = min(args.passes, 2)
    keras.utils.set_random_seed(args.seed)
    if args.bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    generator = CaptchaGenerator(seed=args.seed)
    images, targets = generator.batch(0, args.images)
    rows, held = split(args.images, args.seed)
    unseen = images[held], targets[held]
    model = build_model("cnn2016", images.shape[1:], 4, 26)
    compile_model(model, 1e-3)
    print(f"cnn2016: {model.count_params()} parameters, {len(rows)} images, {args.passes} passes")
    source = KeptImages(images[rows], targets[rows], args.batch_size, args.seed)
    history = train_2016(model, source, args.passes, (unseen[0][:1000], unseen[1][:1000]))

    sample = rows[: len(held)]  # as many of the images trained on
    trained = score(predict_classes(model, images[sample]), targets[sample], generator.classes)
    fresh = score(predict_classes(model, unseen[0]), unseen[1], generator.classes)
    whole = fresh["whole_accuracy"]
    product = fresh["product_of_positions"]
    print(f"whole {trained['whole_accuracy']:.4f} of images trained on, {whole:.4f} of unseen ones")
    measured = {
        "whole_accuracy": whole,
        "product": product,
        "position_accuracy": [round(share, 3) for share in fresh["position_accuracy"]],
    }
    claims = [cli.claim("C1.2", measured, holds=0.30 <= whole <= 0.60 and product < whole)]
    metrics = {"trained_on": trained, "unseen": fresh, "history": history}
    return metrics, claims, {"network_2016_letters": plot_letters(trained, fresh)}


if __name__ == "__main__":
    cli.run(main, flags)
