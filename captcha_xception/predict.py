"""Read captchas with the compact network that ships with this folder, or with one of your own.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/predict.py IMAGE_OR_FOLDER …     (none: it draws a dozen)
         python captcha_xception/predict.py --json --min-confidence 0.9 IMAGE …

confidence: the product over the letters of the highest softmax value. Below --min-confidence the
text is "?". Every image is looked at before TensorFlow is imported.
Differs from the article: it published no weights.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

import cli
from captcha_files import FewColours, list_images, load_facts, one_line, open_captcha
from draw_captcha import CaptchaGenerator

DEMONSTRATION = 1 << 42  # numbers of images that neither training nor test draws


def look_at(files: list[Path], shape: tuple) -> tuple[np.ndarray, list[Path], dict]:
    """The images that can be read, their files, and for every other file the reason why not."""
    images = []
    kept = []
    bad = {}
    for path in files:
        try:
            images.append(open_captcha(path, shape))
            kept.append(path)
        except ValueError as error:
            bad[path] = str(error)
            if len(files) > 1:
                print(f"skipped {error}", file=sys.stderr)
    if not images:
        first = next(iter(bad.values()))
        reason = first if len(bad) == 1 else f"none of the {len(bad)} files can be read"
        if first.endswith(f"pixels, not {shape[1]}×{shape[0]}"):
            reason += "; for another size: train.py --samples FOLDER, then --weights MODEL here"
        raise ValueError(reason)
    return np.stack(images), kept, bad


def draw_dozen(seed: int) -> tuple[np.ndarray, list[str]]:
    """Twelve captchas that no network was trained on, and their labels."""
    generator = CaptchaGenerator(seed=seed)
    images, targets = generator.batch(DEMONSTRATION, 12)
    return images, [generator.text(row) for row in targets]


# ---------------------------------------------------------------- figures
def plot_readings(images: np.ndarray, texts: list, confidences: np.ndarray, labels: list):
    """Up to 16 images with what was read; red where a known label differs."""
    count = min(16, len(images))
    rows = -(-count // 4)
    figure, grid = cli.subplots(rows, 4, height=1.1 * rows, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, axes in zip(range(count), grid.flat, strict=False):
        wrong = labels and labels[number] != texts[number]
        axes.imshow(images[number])
        title = f"{texts[number]}  {confidences[number]:.2f}"
        axes.set_title(title, color="C3" if wrong else "black")
    return FewColours(figure)


# ---------------------------------------------------------------- command line
def flags(parser):
    weights = cli.FOLDER / "weights" / "compact.keras"
    add = parser.add_argument
    add("images", nargs="*", help="files or folders; none: a demonstration")
    add("--weights", type=Path, default=weights, help="a model of train.py")
    add("--min-confidence", type=cli.between(0, 1, float), default=0.0, help="below it: '?'")
    add("--json", action="store_true", help="print one JSON list and nothing else")
    add("--seed", **cli.SEED)


def main(args):
    facts = load_facts(args.weights)
    bad = {}
    labels = []
    if args.images:
        images, files, bad = look_at(list_images(args.images), facts["shape"])
        names = [one_line(path) for path in files]
    else:
        images, labels = draw_dozen(args.seed)
        names = [f"drawn:{label}" for label in labels]

    from reading import load_model, logits_of, texts_of

    model, facts = load_model(args.weights)
    started = time.perf_counter()
    texts, confidences = texts_of(logits_of(model, images), facts["classes"])
    seconds = time.perf_counter() - started
    sure = confidences >= args.min_confidence
    texts = [text if enough else "?" for text, enough in zip(texts, sure, strict=True)]

    rows = []
    for name, text, confidence in zip(names, texts, confidences, strict=True):
        rows.append({"file": name, "text": text, "confidence": round(float(confidence), 4)})
    if args.json:
        rows += [{"file": one_line(path), "text": None, "error": bad[path]} for path in bad]
        print(json.dumps(rows, ensure_ascii=False))
        return None
    for row in rows:
        print(f"{row['text']}  {row['confidence']:.4f}  {row['file']}")
    metrics = {
        "images": len(rows),
        "skipped_files": len(bad),
        "seconds_reading": round(seconds, 3),
        "images_per_second": round(len(rows) / seconds, 1),
        "rejected": texts.count("?"),
        "mean_confidence": float(confidences.mean()),
    }
    if labels:
        metrics["right"] = sum(text == label for text, label in zip(texts, labels, strict=True))
        print(f"{metrics['right']} of {len(rows)} drawn captchas read right")
    figures = {"predict_readings": plot_readings(images, texts, confidences, labels)}
    return metrics, [], figures


if __name__ == "__main__":
    cli.run(main, flags)
