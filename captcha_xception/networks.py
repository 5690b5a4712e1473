"""Networks that read a captcha whole: the compact one, that of 2016, and those of Keras.

Article: 基于Xception的腾讯验证码识别(样本+代码) https://kexue.fm/archives/4503 and 4138

All of them: an image in, a row of 26 logits for each letter out. The post's own Xception, with
four outputs, stands in train.py; `build_model("xception", …)` is the same network with its outputs
stacked, as any network of keras.applications can be had.

Differs from the article: the softmax is left to the loss, which is the mean of the letters' cross-
entropies where the post takes their sum; images keep their 53×129 pixels.
"""

import contextlib
import os

import numpy as np


@contextlib.contextmanager
def stderr_closed():
    """For the import of TensorFlow, whose notices about itself no setting silences."""
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with stderr_closed():
    import keras
    from keras import layers

PEAK_RATE = 1e-2  # highest learning rate of the compact network, at batches of 64


# ---------------------------------------------------------------- the compact network
def convolve(x, filters: int, kernel=3, strides=1, padding="same", relu: bool = True):
    """A convolution, then batch normalisation, then ReLU unless told otherwise."""
    x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if relu else x


def compact_features(x):
    """A small network for a CPU that keeps the columns of the picture apart.

    x: (batch, 53, 129, 3) in [−1, 1] → (batch, 17, 128): a vector for every 8 pixels of width. A
    strided entry and a residual block as Xception's, but of plain convolutions, which a CPU runs
    faster than separable ones. No average over the picture, because from nothing the network must
    find out which letter stands where.
    """
    x = convolve(x, 16, strides=2)  # 27 × 65
    x = convolve(x, 32, strides=2)  # 14 × 33
    x = convolve(x, 48)
    x = convolve(x, 96, strides=2)  # 7 × 17
    residual = convolve(convolve(x, 96), 96, relu=False)
    x = layers.ReLU()(layers.Add()([x, residual]))
    x = convolve(x, 128, strides=(2, 1))  # 4 × 17
    x = convolve(x, 128, (x.shape[1], 1), padding="valid")  # 1 × 17: the whole height at once
    return layers.Reshape((x.shape[2], x.shape[3]))(x)


def look(columns, length: int) -> list:
    """What each letter's head sees: a mean of the columns, weighted by a softmax.

    columns: (batch, n, channels) → `length` times (batch, channels). The whole word steers the
    weights. All heads so read the same letter shapes, wherever they stand; on a flattened map each
    head would have to learn every letter at every column. Letter k starts with its weight on the
    k-th part of the width.
    """
    count = columns.shape[1]
    context = layers.Conv1D(16, 3, padding="same", use_bias=False)(columns)
    context = layers.Flatten()(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(context)))
    seen = []
    for position in range(length):
        name = f"look_{position + 1}"
        layer = layers.Dense(count, kernel_initializer="zeros", name=name, dtype="float32")
        weights = layers.Softmax(dtype="float32")(layer(context))
        # distance of a column from the middle of the letter's part, in letters
        distance = (np.arange(count) + 0.5) / count * length - (position + 0.5)
        layer.bias.assign(-4 * distance**2)
        seen.append(layers.Dot(axes=1)([weights, columns]))
    return seen


# ---------------------------------------------------------------- the network of 2016
def cnn2016_features(x):
    """Post 4138: pooling before ReLU, and no ReLU after the first convolution. x: 1 − pixel/255."""
    for block in range(4):
        x = layers.Conv2D(32, 3)(x)
        x = layers.MaxPooling2D(2)(x)
        if block in (1, 2):
            x = layers.ReLU()(x)
    return layers.ReLU()(layers.Flatten()(x))


# ---------------------------------------------------------------- all of them
def build_model(
    name: str,
    shape: tuple,
    length: int,
    classes: int,
    weights: str | None = None,
    dropout: float = 0.0,
    resize: tuple | None = None,
):
    """uint8 images (batch, height, width, 3) → logits (batch, length, classes).

    name: compact, cnn2016, or a network of keras.applications in any case of letters, which gets
    the post's average pooling and Dropout 0.5; weights: imagenet, or None for random ones; dropout:
    of the compact network, for images that are seen many times; resize: (height, width) to which
    images are brought first. ValueError for an unknown name.
    """
    images = layers.Input(shape, dtype="uint8", name="image")
    x = layers.Resizing(*resize)(images) if resize else images
    if name == "cnn2016":
        x = layers.Permute((2, 1, 3))(x)  # the author fed width × height
        features = cnn2016_features(layers.Rescaling(-1 / 255, 1)(x))
        features = [features] * length
        dropout = 0.0
    elif name == "compact":
        features = look(compact_features(layers.Rescaling(1 / 127.5, -1)(x)), length)
    else:
        features = [keras_features(name, layers.Rescaling(1 / 127.5, -1)(x), weights)] * length
        dropout = 0.5

    heads = []
    for position, x in enumerate(features):
        if dropout:
            x = layers.Dropout(dropout, seed=position)(x)
        x = layers.Dense(classes, name=f"letter_{position + 1}", dtype="float32")(x)
        heads.append(layers.Reshape((1, classes), dtype="float32")(x))
    logits = layers.Concatenate(axis=1, dtype="float32")(heads) if length > 1 else heads[0]
    return keras.Model(images, logits, name=name.lower())


def keras_features(name: str, x, weights: str | None):
    """The average-pooled features of a network of keras.applications. x: pixels in [−1, 1]."""
    known = {key.lower(): key for key in dir(keras.applications) if key[0].isupper()}
    if name.lower() not in known:
        raise ValueError(
            f"--model {name}: allowed are article, compact, cnn2016 and the {len(known)} networks "
            "of keras.applications, such as xception, vgg16, resnet50"
        )
    build = getattr(keras.applications, known[name.lower()])
    network = build(include_top=False, input_tensor=x, pooling="avg", weights=weights)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # of 0.99 the means of forty layers lag hundreds of steps behind
    return network.output


def compile_model(model, learning_rate: float) -> None:
    """Adam, with a shorter memory for the short runs of the compact network, and the mean of the
    letters' cross-entropies."""
    beta_2 = 0.99 if model.name == "compact" else 0.999
    model.compile(
        keras.optimizers.Adam(learning_rate, beta_2=beta_2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice


def one_cycle(progress: float, peak: float, warm: float = 0.2) -> float:
    """Learning rate at `progress` in [0, 1]: a straight rise over the first fifth, then half a
    cosine down to zero."""
    if progress < warm:
        return peak * (0.05 + 0.95 * progress / warm)
    falling = min(1.0, (progress - warm) / (1 - warm))
    return peak * 0.5 * (1 + np.cos(np.pi * falling))
