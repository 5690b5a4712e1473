"""Train a network that reads a four-letter captcha whole: one image in, four letters out, nothing is cut.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503 and 4138
Run:     python captcha_xception/train.py                                            (--quick for a one-minute look)
         python captcha_xception/train.py --model cnn2016 --images 1000000           the network of 2016
         python captcha_xception/train.py --model xception --weights imagenet --images 1000000 --batch-size 100
         python captcha_xception/train.py --samples DIR --length 4                   your own labelled images
Time:    TIME_LINE

Symbols: 全对率 → whole_accuracy, all letters right   p₁…p₄ → position_accuracy   Πpᵢ → product_of_positions
Differs from the article: images are drawn while training, each seen once, unless --samples names a folder; the four
softmax heads are stacked into one output (batch, 4, 26), their mean cross-entropy is the article's sum over four.
"""
import argparse
import json
import os
import platform
import string
import sys
import time
import zipfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from make_samples import BatchStream

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ != "__mp_main__":      # the processes that draw batches import this file, and need no Keras
    import keras
    from keras import layers

HERE = Path(__file__).resolve().parent
PEAK_RATE = 3e-3                    # of the compact model, at batch 64
TEST_START = 1 << 40               # training draws images 0, 1, 2 …; the test draws from here on: never the same image
VALIDATION_START = 1 << 41
COLOURS = {"compact": "C0", "cnn2016": "C1", "xception": "C2"}


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
                raise ValueError(f"{len(bad)} bad images among {len(files)} (more than 1 %), the last: {bad[-1]}") from None
            continue
        images.append(pixels)
        kept.append(label if case_sensitive else label.lower())
    if len(images) < 20:
        raise ValueError(f"{folder}: {len(images)} readable images, at least 20 are needed")
    return np.stack(images), kept, len(bad)


def split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nine tenths to train, one tenth to test: disjoint, the same for the same count and seed."""
    order = np.random.default_rng(seed).permutation(count)
    return order[:count - count // 10], order[count - count // 10:]


def epoch_batches(images: np.ndarray, targets: np.ndarray, batch_size: int, seed: int, epoch: int):
    """One pass over arrays in memory in an order of (seed, epoch) alone."""
    order = np.random.default_rng((seed, epoch)).permutation(len(images))
    for start in range(0, len(order), batch_size):
        rows = order[start:start + batch_size]
        yield images[rows], targets[rows]


# ---------------------------------------------------------------- method
def convolve(x, filters: int, kernel=3, strides=1, padding="same", separable=False, relu=True):
    """Convolution, batch normalisation, ReLU: the unit that Xception is built of."""
    kind = layers.SeparableConv2D if separable else layers.Conv2D
    x = kind(filters, kernel, strides=strides, padding=padding, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if relu else x


def compact_features(x):
    """A small Xception for a CPU: plain 3×3 entry, separable residual blocks at 1/8 size, columns kept apart.

    x: (batch, 53, 129, 3) in [−1, 1] → (batch, 1, 9, 128). Four steps of stride 2; no average over the picture,
    because from nothing the network must find out which letter stands where.
    """
    x = convolve(x, 16, strides=2)
    x = convolve(x, 32, strides=2)
    x = convolve(x, 48)
    x = convolve(x, 96, strides=2)
    x = convolve(x, 96)
    x = convolve(x, 192, strides=2)
    return convolve(x, 128, (x.shape[1], 1), padding="valid")


def cnn2016_features(x):
    """The network of post 4138: pooling before ReLU, no activation after the first convolution. x: pixels 1 − x/255."""
    for block in range(4):
        x = layers.Conv2D(32, 3)(x)
        x = layers.MaxPooling2D(2)(x)
        if block in (1, 2):
            x = layers.ReLU()(x)
    return layers.ReLU()(layers.Flatten()(x))


def build_model(name: str, shape: tuple, length: int, classes: int, weights: str | None = None):
    """uint8 images (batch, height, width, 3) → logits (batch, length, classes), each position its own Dense.

    name: compact, cnn2016, or a network of keras.applications (any case); weights: imagenet, a file, or None.
    """
    images = layers.Input(shape, dtype="uint8", name="image")
    if name == "cnn2016":
        x = layers.Permute((2, 1, 3))(images)                       # the author fed width × height
        features, dropout = cnn2016_features(layers.Rescaling(-1 / 255, 1)(x)), 0
    elif name == "compact":
        features = layers.Flatten()(compact_features(layers.Rescaling(1 / 127.5, -1)(images)))
        dropout = 0.2
    else:
        known = {key.lower(): key for key in dir(keras.applications) if key[0].isupper()}
        if name.lower() not in known:
            raise ValueError(f"--model {name}: allowed are compact, cnn2016, {', '.join(sorted(known))}")
        x = layers.Rescaling(1 / 127.5, -1)(images)
        backbone = getattr(keras.applications, known[name.lower()])(
            include_top=False, input_tensor=x, pooling="avg", weights="imagenet" if weights == "imagenet" else None)
        features, dropout = backbone.output, 0.5                    # average pooling, Dropout 0.5: the article
    heads = []
    for position in range(length):
        x = layers.Dropout(dropout, seed=position)(features) if dropout else features
        heads.append(layers.Reshape((1, classes))(layers.Dense(classes, name=f"letter_{position + 1}")(x)))
    return keras.Model(images, layers.Concatenate(axis=1)(heads) if length > 1 else heads[0], name=name.lower())


def compile_model(model, learning_rate: float, steps: int | None):
    """Adam; with `steps` the rate rises over the first 30 % and falls to zero along a cosine, else it is constant."""
    rate = learning_rate
    if steps:
        warm = max(1, int(0.3 * steps))
        rate = keras.optimizers.schedules.CosineDecay(learning_rate / 20, max(1, steps - warm), alpha=0.0,
                                                      warmup_target=learning_rate, warmup_steps=warm)
    model.compile(keras.optimizers.Adam(rate, beta_2=0.99), keras.losses.SparseCategoricalCrossentropy(from_logits=True))


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


# ---------------------------------------------------------------- training
def merge(batches) -> tuple[np.ndarray, np.ndarray]:
    """All batches of one pass as two arrays."""
    images, targets = zip(*batches)
    return np.concatenate(images), np.concatenate(targets)


def load_weights(model, path: str) -> None:
    """Weights of a .weights.h5 or .keras file into `model`; ValueError in one line if they do not fit."""
    try:
        if path.endswith(".keras"):
            model.set_weights(keras.saving.load_model(path, compile=False).get_weights())
        else:
            model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"--weights {path}: {str(error).splitlines()[0]}") from None


def save_model(model, path: Path, facts: dict) -> None:
    """`path` (.keras) and beside it a .json with what the numbers mean: classes, size. Written whole or not at all."""
    partial = path.with_name(f"{path.stem}.part.keras")
    model.save(partial)
    note = path.with_name(path.stem + ".json.part")
    note.write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
    os.replace(note, path.with_suffix(".json"))


def train(model, batches_of_epoch, validation, epochs: int, checkpoint: Path, facts: dict, history: list) -> list:
    """Run the epochs that `history` does not hold yet; checkpoint after each. validation: (images, targets)."""
    for epoch in range(len(history), epochs):
        model.reset_metrics()
        started, seen, loss = time.perf_counter(), 0, float("nan")
        for images, targets in batches_of_epoch(epoch):
            loss = float(model.train_on_batch(images, targets))      # mean over the epoch so far
            seen += len(images)
            if sys.stdout.isatty():
                print(f"\\repoch {epoch + 1}/{epochs}: {seen} images, loss {loss:.3f} ", end="", flush=True)
        if not np.isfinite(loss):
            raise ValueError(f"epoch {epoch + 1}: the loss is {loss}; try a smaller --learning-rate")
        seconds = time.perf_counter() - started
        predicted, truth = predict_classes(model, [(validation[0][i:i + 250], validation[1][i:i + 250])
                                                   for i in range(0, len(validation[0]), 250)])
        hits = predicted == truth
        history.append({"images": seen + (history[-1]["images"] if history else 0), "loss": loss,
                        "seconds": seconds + (history[-1]["seconds"] if history else 0),
                        "position_accuracy": hits.mean(axis=0).tolist(), "whole_accuracy": float(hits.all(axis=1).mean())})
        print(f"epoch {epoch + 1}/{epochs}: {history[-1]['images']} images, loss {loss:.3f}, per letter "
              f"{hits.mean():.3f}, whole {history[-1]['whole_accuracy']:.3f}, {seen / seconds:.0f} images/s", flush=True)
        save_model(model, checkpoint, {**facts, "history": history})
    return history


def load_checkpoint(path: Path, facts: dict):
    """Model and history of an interrupted run; ValueError if it is not the same run."""
    try:
        noted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        different = [key for key in facts if noted.get(key) != facts[key]]
        if different:
            raise ValueError(f"was made with {different[0]} = {noted.get(different[0])!r}, this run has {facts[different[0]]!r}")
        return keras.saving.load_model(path), noted["history"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"--resume {path}: {str(error).splitlines()[0]}") from None


# ---------------------------------------------------------------- figures
def plot_curves(histories: dict) -> Figure:
    """Whole-captcha accuracy and loss against images seen. histories: model name → list of epochs."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, history in histories.items():
        seen = [row["images"] / 1000 for row in history]
        whole = [row["whole_accuracy"] for row in history]
        left.plot(seen, whole, ".-", color=COLOURS.get(name, "C3"))
        left.annotate(name, (seen[-1], whole[-1]), xytext=(3, 3), textcoords="offset points", color=COLOURS.get(name, "C3"))
        right.plot(seen, [row["loss"] for row in history], ".-", color=COLOURS.get(name, "C3"), label=name)
    left.axhline(0.85, color="grey", linestyle="--", linewidth=1)
    left.text(0.02, 0.86, "article, Xception: 0.85", color="grey", fontsize=8, transform=left.get_yaxis_transform())
    left.axhline(0.46, color="grey", linestyle=":", linewidth=1)
    left.text(0.02, 0.47, "article, 2016 (training images): 0.46", color="grey", fontsize=8, transform=left.get_yaxis_transform())
    left.set(xlabel="thousand images seen", ylabel="whole-captcha accuracy, unseen", ylim=(-0.02, 1.03))
    left.margins(x=0.12)
    right.set(xlabel="thousand images seen", ylabel="cross-entropy per letter (nats)")
    right.legend(frameon=False)
    return figure


def plot_confusions(confused: list) -> Figure:
    """The most frequent mistakes."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.barh([f"{row['drawn']} read as {row['read']}" for row in confused][::-1], [row["times"] for row in confused][::-1])
    axes.set(xlabel="times in the test")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="compact", help="compact, cnn2016, or a keras.applications name (xception)")
    parser.add_argument("--weights", help="imagenet, or a weights file for the model; None starts from nothing")
    parser.add_argument("--samples", type=Path, help="folder of labelled images (…abcd.jpg) instead of the generator")
    parser.add_argument("--length", type=int, help="letters per image (generator: 4; --samples: the file name's last)")
    parser.add_argument("--case-sensitive", action="store_true", help="A and a are two classes")
    parser.add_argument("--images", type=int, default=180000, help="images to train on; --samples: repeated to reach it")
    parser.add_argument("--test-images", type=int, default=2000, help="unseen images to test on (generator)")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step (the article: 100)")
    parser.add_argument("--learning-rate", type=float, help="peak (compact: 0.003), constant otherwise (0.001)")
    parser.add_argument("--resume", action="store_true", help="go on from <out-dir>/<model>.keras")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    args.model = args.model.lower()
    if args.quick:
        args.images, args.test_images = min(args.images, 2000), min(args.test_images, 200)
    for flag, value, low, high in (("--length", args.length or 4, 1, 12), ("--images", args.images, 64, 10**9),
                                   ("--test-images", args.test_images, 20, 10**7), ("--seed", args.seed, 0, 10**9),
                                   ("--batch-size", args.batch_size, 2, 10**4)):
        if not low <= value <= high:
            parser.error(f"{flag} {value}: must lie in {low} … {high}")
    if args.learning_rate is not None and not 0 < args.learning_rate < 1:
        parser.error(f"--learning-rate {args.learning_rate}: must lie in (0, 1)")
    if args.samples and not args.samples.is_dir():
        parser.error(f"--samples {args.samples}: no such folder")
    if args.weights and args.weights != "imagenet" and not Path(args.weights).is_file():
        parser.error(f"--weights {args.weights}: neither 'imagenet' nor a file")
    if args.weights == "imagenet" and args.model in ("compact", "cnn2016"):
        parser.error(f"--weights imagenet: there are none for --model {args.model}; allowed: a file, or leave it out")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random draw")
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


def claims_of(args, metrics: dict) -> list:
    """C1.1, C1.2 and C1.3, each from the model that they speak of."""
    whole, product = metrics["whole_accuracy"], metrics["product_of_positions"]
    letters = " / ".join(f"{value:.3f}" for value in metrics["position_accuracy"])
    other = "measured by another --model; see README"
    first = args.model == "compact" and not args.samples
    claims = [{"id": "C1.1", "claim": "one network with a head per letter reads the whole image, no segmentation",
               "expected": "whole-captcha accuracy far above chance (2e-6); 0.85 in 2017",
               "measured": f"{whole:.3f} from nothing after {args.images} images" if first else other,
               "holds": whole >= 0.85 if first else None}]
    claims.append({"id": "C1.2", "claim": "the 48,712-parameter network of 2016 gets about half, more than Πpᵢ",
                   "expected": "0.46 whole; 0.89 / 0.72 / 0.73 / 0.87; product 0.41",
                   "measured": f"{whole:.3f} whole; {letters}; product {product:.3f}" if args.model == "cnn2016" else other,
                   "holds": bool(0.30 <= whole <= 0.60 and product < whole) if args.model == "cnn2016" else None})
    claims.append({"id": "C1.3", "claim": "fine-tuned Xception reads at least 0.85 after a million draws", "expected": "≥ 0.85",
                   "measured": f"{whole:.3f}" if args.model == "xception" else "needs a GPU: " + other,
                   "holds": whole >= 0.85 if args.model == "xception" else None})
    return claims


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    checkpoint, skipped = args.out_dir / f"{args.model}.keras", 0
    if args.samples:
        images, labels, skipped = read_samples(args.samples, args.length, args.case_sensitive)
        classes = "".join(sorted(set("".join(labels))))
        targets = np.array([[classes.index(character) for character in label] for label in labels], np.int32)
        rows, held = split(len(images), args.seed)
        test, validation = (images[held], targets[held]), (images[held][:1000], targets[held][:1000])
        images, targets = images[rows], targets[rows]
        shape, length, per_epoch = images.shape[1:], targets.shape[1], len(images)
        stream = None
    else:
        classes, length = string.ascii_letters if args.case_sensitive else string.ascii_lowercase, args.length or 4
        stream = BatchStream({"classes": classes, "length": length, "seed": args.seed,
                              "case_sensitive": args.case_sensitive}, workers=max(1, (os.cpu_count() or 2) - 1))
        per_epoch = min(10000, args.images)
        validation = merge(stream.batches(VALIDATION_START, min(1000, args.test_images), 250))
        test = merge(stream.batches(TEST_START, args.test_images, 250))
        shape = validation[0].shape[1:]
    epochs, steps_per_epoch = max(1, round(args.images / per_epoch)), -(-per_epoch // args.batch_size)
    facts = {"model": args.model, "classes": classes, "length": length, "shape": list(shape), "images": args.images,
             "batch_size": args.batch_size, "seed": args.seed}
    if args.resume and checkpoint.exists():
        model, history = load_checkpoint(checkpoint, facts)
    else:
        model, history = build_model(args.model, shape, length, len(classes), args.weights), []
        if args.weights and args.weights != "imagenet":
            load_weights(model, args.weights)
        compact = args.model == "compact"
        compile_model(model, args.learning_rate or (PEAK_RATE if compact else 1e-3),
                      epochs * steps_per_epoch if compact else None)
    print(f"{args.model}: {model.count_params()} parameters, {epochs} epochs of {per_epoch} images {shape[1]}×{shape[0]}")

    def batches_of_epoch(epoch: int):
        if stream:
            return stream.batches(epoch * per_epoch, per_epoch, args.batch_size)
        return epoch_batches(images, targets, args.batch_size, args.seed, epoch)

    try:
        history = train(model, batches_of_epoch, validation, epochs, checkpoint, facts, history)
    finally:
        if stream:
            stream.close()
    predicted, truth = predict_classes(model, [(test[0][i:i + 250], test[1][i:i + 250]) for i in range(0, len(test[0]), 250)])
    metrics = {"parameters": model.count_params(), "images_seen": history[-1]["images"], "skipped_files": skipped,
               "training_seconds": round(history[-1]["seconds"], 1),
               "images_per_second": round(history[-1]["images"] / history[-1]["seconds"], 1),
               **evaluate(predicted, truth, classes), "history": history}
    low, high = metrics["whole_accuracy_95"]
    print(f"whole-captcha accuracy {metrics['whole_accuracy']:.4f} [{low:.4f}, {high:.4f}] on {len(truth)} unseen images; "
          f"product of the letters {metrics['product_of_positions']:.4f}; model in {checkpoint}")
    histories = {path.stem.split(".")[1]: json.loads(path.read_text(encoding="utf-8"))["metrics"]["history"]
                 for path in sorted((HERE / "results").glob("train.*.json"))}     # recorded runs, for comparison
    plot_curves({**histories, args.model: history}).savefig(args.out_dir / "train_curves.png", dpi=150)
    plot_confusions(metrics["confused"]).savefig(args.out_dir / "train_confusions.png", dpi=150)
    return save_results(args, "train", metrics, claims_of(args, metrics),
                        ["train_curves.png", "train_confusions.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
