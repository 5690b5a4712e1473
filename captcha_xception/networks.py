"""The networks that train.py trains, and what a training step of each costs on this machine.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503 and 4138
Run:     python captcha_xception/networks.py                            (--quick for a few steps each)
Time:    20 s on 2 cores (AMD EPYC), 2 GB for Xception

All of them: one image in, a head per letter out. compact: a small network for two cores. cnn2016: post 4138.
Any network of keras.applications: the article's, average pooling, then Dropout 0.5 and Dense(26) per letter.
Differs from the article: images keep their 53×129 pixels (it shrank them to 50×120) and all networks of
keras.applications take pixels in [−1, 1], as Xception does.
"""
import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from keras import layers

HERE = Path(__file__).resolve().parent
PEAK_RATE = 1e-2                   # highest learning rate of the compact network, at batch 64


# ---------------------------------------------------------------- method
def convolve(x, filters: int, kernel=3, strides=1, padding="same", relu=True):
    """Convolution, batch normalisation, ReLU."""
    x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if relu else x


def compact_features(x):
    """A small network for a CPU: strided entry and a residual block as Xception's, but of plain convolutions, which
    a CPU runs faster than separable ones; columns kept apart.

    x: (batch, 53, 129, 3) in [−1, 1] → (batch, 17, 128): a vector per 8 pixels of width. No average over the
    picture, because from nothing the network must find out which letter stands where.
    """
    x = convolve(x, 16, strides=2)
    x = convolve(x, 32, strides=2)
    x = convolve(x, 48)
    x = convolve(x, 96, strides=2)
    x = layers.ReLU()(layers.Add()([x, convolve(convolve(x, 96), 96, relu=False)]))
    x = convolve(x, 128, strides=(2, 1))
    x = convolve(x, 128, (x.shape[1], 1), padding="valid")
    return layers.Reshape((x.shape[2], x.shape[3]))(x)


def look(columns, length: int) -> list:
    """What each position's head sees: the mean of the columns, weighted by a softmax that the whole word steers.

    columns: (batch, n, channels) → `length` times (batch, channels). All heads so read the same letter shapes, wherever
    they stand; on the flattened map each head has to learn every letter at every column. Position k starts with its
    weight on the k-th part of the width.
    """
    count = columns.shape[1]
    context = layers.Conv1D(16, 3, padding="same", use_bias=False)(columns)
    context = layers.Flatten()(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(context)))
    seen = []
    for position in range(length):
        layer = layers.Dense(count, kernel_initializer="zeros", name=f"look_{position + 1}", dtype="float32")
        weights = layers.Softmax(dtype="float32")(layer(context))
        middle = (np.arange(count) + 0.5) / count * length - (position + 0.5)         # in letters
        layer.bias.assign(-4 * middle ** 2)
        seen.append(layers.Dot(axes=1)([weights, columns]))
    return seen


def cnn2016_features(x):
    """The network of post 4138: pooling before ReLU, no activation after the first convolution. x: pixels 1 − x/255."""
    for block in range(4):
        x = layers.Conv2D(32, 3)(x)
        x = layers.MaxPooling2D(2)(x)
        if block in (1, 2):
            x = layers.ReLU()(x)
    return layers.ReLU()(layers.Flatten()(x))


def build_model(name: str, shape: tuple, length: int, classes: int, weights: str | None = None,
                dropout: float = 0.0):
    """uint8 images (batch, height, width, 3) → logits (batch, length, classes), each position its own Dense.

    name: compact, cnn2016, or a network of keras.applications (any case); weights: imagenet, or None for nothing;
    dropout: of the compact network: images that are never seen twice need none. The article's rate is 0.5.
    """
    images = layers.Input(shape, dtype="uint8", name="image")
    if name == "cnn2016":
        x = layers.Permute((2, 1, 3))(images)                       # the author fed width × height
        features, dropout = cnn2016_features(layers.Rescaling(-1 / 255, 1)(x)), 0.0
    elif name == "compact":
        features = look(compact_features(layers.Rescaling(1 / 127.5, -1)(images)), length)
    else:
        known = {key.lower(): key for key in dir(keras.applications) if key[0].isupper()}
        if name.lower() not in known:
            raise ValueError(f"--model {name}: allowed are compact, cnn2016 and the {len(known)} networks of "
                             "keras.applications, such as xception, vgg16, resnet50")
        x = layers.Rescaling(1 / 127.5, -1)(images)
        backbone = getattr(keras.applications, known[name.lower()])(
            include_top=False, input_tensor=x, pooling="avg", weights="imagenet" if weights == "imagenet" else None)
        features, dropout = backbone.output, 0.5                    # average pooling, Dropout 0.5: the article
    heads = []
    for position in range(length):
        x = features[position] if isinstance(features, list) else features
        x = layers.Dropout(dropout, seed=position)(x) if dropout else x
        x = layers.Dense(classes, name=f"letter_{position + 1}", dtype="float32")(x)
        heads.append(layers.Reshape((1, classes), dtype="float32")(x))
    logits = layers.Concatenate(axis=1, dtype="float32")(heads) if length > 1 else heads[0]
    return keras.Model(images, logits, name=name.lower())


def one_cycle(progress: float, peak: float, warm: float = 0.2) -> float:
    """Learning rate at `progress` in [0, 1]: a straight rise over the first fifth, then a cosine down to zero."""
    if progress < warm:
        return peak * (0.05 + 0.95 * progress / warm)
    return peak * 0.5 * (1 + np.cos(np.pi * min(1.0, (progress - warm) / (1 - warm))))


def compile_model(model, learning_rate: float) -> None:
    """Adam and the mean cross-entropy over the letters; with a shorter memory for the short runs of the compact net."""
    model.compile(keras.optimizers.Adam(learning_rate, beta_2=0.99 if model.name == "compact" else 0.999),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True))


# ---------------------------------------------------------------- evaluation
def training_speed(model, batch_size: int, seconds: float, classes: int = 26) -> float:
    """Images per second of training steps on random pixels in memory, for about `seconds` after a first step."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch_size, *model.input_shape[1:]), dtype=np.uint8)
    targets = random.integers(0, classes, (batch_size, model.output_shape[1]))
    model.train_on_batch(images, targets)
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < seconds:
        model.train_on_batch(images, targets)
        steps += 1
    return steps * batch_size / (time.perf_counter() - started)


# ---------------------------------------------------------------- figures
def plot_speeds(speeds: dict) -> Figure:
    """Training images per second, logarithmic."""
    figure = Figure(figsize=(5.5, 0.6 + 0.5 * len(speeds)), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(speeds)[::-1], list(speeds.values())[::-1], log=True)
    axes.set(xlabel="training, images per second", xlim=(1, 10 ** np.ceil(np.log10(max(speeds.values())))))
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["compact", "cnn2016", "xception"], help="which to measure")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure each, at least one step")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.quick:
        args.seconds, args.batch_size, args.models = min(args.seconds, 0.5), min(args.batch_size, 8), args.models[:2]
    if not 2 <= args.batch_size <= 10000:
        parser.error(f"--batch-size {args.batch_size}: must lie in 2 … 10000")
    if not 0 < args.seconds <= 3600:
        parser.error(f"--seconds {args.seconds}: must lie in (0, 3600]")
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
    metrics = {}
    for name in args.models:
        keras.utils.set_random_seed(args.seed)
        model = build_model(name, (53, 129, 3), 4, 26)
        compile_model(model, 1e-3)
        speed = training_speed(model, args.batch_size, args.seconds)
        metrics[name] = {"parameters": model.count_params(), "images_per_second": round(speed, 1),
                         "hours_for_a_million_images": round(1e6 / speed / 3600, 2)}
        print(f"{name}: {model.count_params()} parameters, {speed:.1f} images/s in training")
    plot_speeds({name: row["images_per_second"] for name, row in metrics.items()}).savefig(
        args.out_dir / "networks_speed.png", dpi=150)
    return save_results(args, "networks", metrics, [], ["networks_speed.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
