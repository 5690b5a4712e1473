"""Read captchas with the compact network that ships with this folder, or with one you trained.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503
Run:     python captcha_xception/predict.py IMAGE_OR_FOLDER …       (nothing named: it draws a dozen and reads them)
         python captcha_xception/predict.py --json --min-confidence 0.9 IMAGE …
Time:    4 s of CPU, nearly all of it Keras' own start; then 700 images/s on 2 cores (AMD EPYC)

confidence: the product over the letters of the highest softmax value. Below --min-confidence the text is "?".
Differs from the article: it published no weights.
"""
import argparse
import contextlib
import json
import os
import platform
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from captcha_xception.draw_captcha import CaptchaGenerator, save_pictures

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ != "__mp_main__":      # the processes that draw batches may import this file, and need no Keras
    import keras

    from captcha_xception.networks import build_model

HERE = Path(__file__).resolve().parent
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
DEMONSTRATION = 1 << 42            # image numbers that neither training nor test draws


# ---------------------------------------------------------------- data
def list_images(paths: list) -> list:
    """The files named, and the images inside the folders named, sorted. ValueError for an empty folder."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise ValueError(f"{path}: holds no {', '.join(SUFFIXES)} image")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder")
    return files


def decode(path: Path, shape: tuple) -> np.ndarray:
    """uint8 (height, width, 3); ValueError naming file and reason if it is no image or not of this size."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable image ({str(error).splitlines()[0]})") from None
    if pixels.shape != tuple(shape):
        raise ValueError(f"{path}: is {pixels.shape[1]}×{pixels.shape[0]}, the model reads {shape[1]}×{shape[0]}")
    return pixels


# ---------------------------------------------------------------- method
def load_reader(path: Path):
    """A trained model and what it reads: weights from the .keras file, the network from the .json beside it.

    The network is built by build_model, not read from the file: no code of the file is executed, and older versions of
    Keras, which do not understand a newer one's description of a layer, read it too.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        model = build_model(facts["model"], tuple(facts["shape"]), facts["length"], len(facts["classes"]))
        try:
            model.load_weights(path)
        except (ValueError, IndexError) as error:
            raise ValueError(f"does not match {path.with_suffix('.json').name}, which says {facts['model']}, "
                             f"{facts['length']} characters of {len(facts['classes'])} classes, size {facts['shape']} "
                             f"({str(error).splitlines()[0]})") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be used as a model: {(str(error) or repr(error)).splitlines()[0]}") from None
    return model, facts


def read(model, classes: str, images: np.ndarray, batch_size: int = 128) -> tuple[list, np.ndarray]:
    """Texts and confidences of uint8 images (count, height, width, 3)."""
    texts, confidences = [], []
    for start in range(0, len(images), batch_size):
        logits = keras.ops.convert_to_numpy(model.predict_on_batch(images[start:start + batch_size])).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        highest = (odds / odds.sum(axis=-1, keepdims=True)).max(axis=-1)
        confidences.append(highest.prod(axis=-1))
        texts += ["".join(classes[number] for number in row) for row in logits.argmax(axis=-1)]
    return texts, np.concatenate(confidences)


# ---------------------------------------------------------------- figures
def plot_readings(images: np.ndarray, texts: list, confidences: np.ndarray, labels: list | None) -> Figure:
    """Up to 16 images with what was read; red where a known label differs."""
    columns, count = 4, min(16, len(images))
    rows = -(-count // columns)
    figure = Figure(figsize=(1.4 * columns, 0.8 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for number, axes in zip(range(count), figure.axes):
        axes.imshow(images[number])
        wrong = labels is not None and labels[number] != texts[number]
        axes.set_title(f"{texts[number]}  {confidences[number]:.2f}", fontsize=9, pad=2,
                       color="C3" if wrong else "black")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("images", nargs="*", help="files or folders; none: a demonstration")
    parser.add_argument("--weights", type=Path, default=HERE / "weights" / "compact.keras", help="a model of train.py")
    parser.add_argument("--min-confidence", type=float, default=0.0, help="below it the text is '?'")
    parser.add_argument("--json", action="store_true", help="print one JSON list, nothing else")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.min_confidence <= 1:
        parser.error(f"--min-confidence {args.min_confidence}: must lie in [0, 1]")
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
    with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):
        rows, results = run(args, started)
    if args.json:
        print(json.dumps(rows, ensure_ascii=False))
    return results


def run(args: argparse.Namespace, started: float) -> tuple[list, dict]:
    """Read what was asked for; rows of {file, text, confidence} and the results as saved."""
    files = list_images(args.images)                       # a bad name is told before Keras loads the model
    model, facts = load_reader(args.weights)
    loaded, labels, skipped = time.perf_counter(), None, 0
    if files:
        images, kept = [], []
        for path in files:
            try:
                images.append(decode(path, facts["shape"]))
                kept.append(path)
            except ValueError as error:
                skipped += 1
                if skipped > 0.01 * len(files):            # so a single bad file alone is an error
                    raise ValueError(f"{error}" + (f"; {skipped} of {len(files)} files are bad, more than 1 %"
                                                   if len(files) > 1 else "")) from None
                print(f"skipped {error}", file=sys.stderr)
        images, names = np.stack(images), [str(path) for path in kept]
    else:
        generator = CaptchaGenerator(seed=args.seed)
        pairs = [generator.draw(DEMONSTRATION + number) for number in range(12)]
        images, labels = np.stack([image for image, _ in pairs]), [label for _, label in pairs]
        names = [f"drawn:{label}" for label in labels]
    texts, confidences = read(model, facts["classes"], images)
    seconds = time.perf_counter() - loaded
    texts = [text if sure >= args.min_confidence else "?" for text, sure in zip(texts, confidences)]
    rows = [{"file": name, "text": text, "confidence": round(float(sure), 4)}
            for name, text, sure in zip(names, texts, confidences)]
    for row in rows:
        print(f"{row['text']}  {row['confidence']:.4f}  {row['file']}")
    metrics = {"images": len(rows), "skipped_files": skipped, "seconds_reading": round(seconds, 3),
               "images_per_second": round(len(rows) / seconds, 1), "rejected": texts.count("?"),
               "mean_confidence": float(confidences.mean())}
    if labels:
        metrics["right"] = sum(text == label for text, label in zip(texts, labels))
        print(f"{metrics['right']} of {len(rows)} drawn captchas read right")
    save_pictures(plot_readings(images, texts, confidences, labels), args.out_dir / "predict_readings.png")
    return rows, save_results(args, "predict", metrics, [], ["predict_readings.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
