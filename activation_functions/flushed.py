"""A network of matrix products and scalings, with no activation, and what flushing makes of it.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647, and the post it opens with:
         https://openai.com/index/nonlinear-computation-in-deep-linear-networks (2017)

TensorFlow on a CPU is the subject: its kernels flush denormals, |x| < 2⁻¹²⁶, to 0. What is scaled
down by 2⁻¹²⁵ and up again is therefore kept where |u| ≥ 1/2 and is 0 elsewhere; that this is what
happens, and what undoes it, is shown by experiments/float_rounding.py.

Symbols: scaling 2¹²⁵ → SCALE_UP   u = h·W + b → pre-activation   flush(u) = (u·2⁻¹²⁵)·2¹²⁵ → flush
"""

import numpy as np

from quiet_keras import keras, tf
from tasks import shift

SCALE_DOWN = np.float32(2.0**-125)
SCALE_UP = np.float32(2.0**125)
LAYERS = (784, 512, 512, 10)  # OpenAI's network: 669 706 parameters

SPREAD = 0.2  # sd of u in hidden units as `surrogate` starts …
OFFSET = 0.3  # … and their mean: one in six is over 1/2
WIDTH = 0.5  # of the triangle on either side of the jump
AREA = 0.5  # under the triangle; the jump is 1/2 high
RATE = 2e-3  # Adam's highest
DROPOUT = 0.1  # share of hidden units left out
SHIFT = 1  # pixels by which a digit is moved


# ---------------------------------------------------------------- the network
def openai_network(parameters: list, x):
    """Logits (n, 10) by OpenAI's graph, as printed: h stays in units of 2⁻¹²⁵ between layers."""
    w1, b1, w2, b2, w3, b3 = parameters
    h1 = (x @ w1 + b1) * SCALE_DOWN
    h2 = h1 @ w2 + b2 * SCALE_DOWN
    return (h2 @ w3 + b3 * SCALE_DOWN) * SCALE_UP


def flush(u):
    """(u·2⁻¹²⁵)·2¹²⁵: the identity on paper; on TensorFlow tensors on a CPU, 0 where |u| < 1/2."""
    return (u * SCALE_DOWN) * SCALE_UP


def flush_emulated(u):
    """The same function in words: u where |u| ≥ 1/2 (the product keeps the sign of zero, too)."""
    return u * (np.abs(u) >= 0.5)


def forward(parameters: list, x, activation):
    """Logits (n, 10): u = h·W + b, h = activation(u), the last layer too. NumPy or TensorFlow.

    With `flush` this is OpenAI's graph, scaled down and up in every layer by itself: in units of
    2⁻¹²⁵ a CPU flushes the partial sums of the matrix product as well, and nothing is left.
    """
    for weights, bias in zip(parameters[::2], parameters[1::2], strict=True):
        x = activation(x @ weights + bias)
    return x


def initial_parameters(gain: float, rng: np.random.Generator) -> list:
    """[W1, b1, W2, b2, W3, b3]: W ~ N(0, gain²/fan_in), b = 0. He's gain is √2, as OpenAI's."""
    parameters = []
    for inputs, units in zip(LAYERS[:-1], LAYERS[1:], strict=True):
        weights = rng.normal(size=(inputs, units)) * gain / inputs**0.5
        parameters += [weights.astype("float32"), np.zeros(units, "float32")]
    return parameters


def accuracy(parameters: list, data: tuple, activation) -> float:
    """Share of digits named right; TensorFlow eager, in batches, so that `flush` does flush."""
    x = data[0].reshape(len(data[0]), -1)
    hits = []
    for i in range(0, len(x), 5000):
        logits = forward(parameters, tf.constant(x[i : i + 5000]), activation).numpy()
        hits.append(logits.argmax(1) == data[1][i : i + 5000])
    return float(np.concatenate(hits).mean())


# ---------------------------------------------------------------- what a gradient sees of the flush
@tf.custom_gradient
def flush_blind(u):
    """Forward the flush, backward the identity: all that back-propagation knows of it."""

    def gradient(upstream):
        return upstream

    return u * tf.cast(tf.abs(u) >= 0.5, u.dtype), gradient


@tf.custom_gradient
def flush_surrogate(u):
    """Forward the flush, backward what its jump is worth.

    d/du u·[|u| ≥ ½] = [|u| ≥ ½] + ½·δ(|u| − ½), with a triangle of half-width WIDTH for δ and AREA
    for ½.
    """
    size = tf.abs(u)
    kept = tf.cast(size >= 0.5, u.dtype)

    def gradient(upstream):
        triangle = tf.maximum(0.0, 1.0 - tf.abs(size - 0.5) / WIDTH) * (AREA / WIDTH)
        return upstream * (kept + triangle)

    return u * kept, gradient


# ---------------------------------------------------------------- training by a gradient
ACTIVATIONS = {
    "linear": tf.identity,
    "backprop": flush_blind,
    "surrogate": flush_surrogate,
    "relu": tf.nn.relu,
}


class MovedDigits(keras.utils.PyDataset):
    """Batches of digits, in a new order and moved anew by up to a pixel in every epoch."""

    def __init__(self, x, y, batch: int, rng: np.random.Generator):
        super().__init__()
        self.x = x
        self.y = y
        self.batch = batch
        self.rng = rng
        self.on_epoch_end()

    def on_epoch_end(self):
        self.order = self.rng.permutation(len(self.x))
        self.moved = shift(self.x, SHIFT, self.rng).reshape(len(self.x), -1)

    def __len__(self):
        return len(self.x) // self.batch

    def __getitem__(self, i):
        rows = self.order[i * self.batch : (i + 1) * self.batch]
        return self.moved[rows], self.y[rows]


def build_network(method: str) -> keras.Model:
    """Dense, activation, Dropout, twice, and Dense(10).

    `surrogate` and `relu` normalise u over the batch, which is affine, so that it can be folded
    into W and b. `backprop` is OpenAI's: He's weights, nothing else.
    """
    spread = keras.initializers.Constant(SPREAD if method == "surrogate" else 1.0)
    offset = keras.initializers.Constant(OFFSET if method == "surrogate" else 0.0)
    model = keras.Sequential([keras.Input((LAYERS[0],))])
    for units in LAYERS[1:-1]:
        model.add(keras.layers.Dense(units, kernel_initializer="he_normal"))
        if method in ("surrogate", "relu"):
            normalise = keras.layers.BatchNormalization(
                epsilon=1e-5, gamma_initializer=spread, beta_initializer=offset
            )
            model.add(normalise)
        model.add(keras.layers.Activation(ACTIVATIONS[method]))
        model.add(keras.layers.Dropout(DROPOUT))
    model.add(keras.layers.Dense(LAYERS[-1], kernel_initializer="he_normal"))
    return model


def folded(model: keras.Model) -> list:
    """[W1, b1, W2, b2, W3, b3] of a trained network, with its normalisation in W and b."""
    parameters = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            parameters += [np.array(weight) for weight in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, shifted, mean, variance = layer.get_weights()
            factor = scale / np.sqrt(variance + layer.epsilon)
            parameters[-2] = parameters[-2] * factor
            parameters[-1] = (parameters[-1] - mean) * factor + shifted
    return parameters


def falling_rate(highest: float, steps: int):
    """Learning rate: up to `highest` in a tenth of the steps, 100 at most, then a cosine to 0."""
    warm_up = min(100, steps // 10 + 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=highest, warmup_steps=warm_up
    )


def train_by_gradient(method: str, train: tuple, epochs: int, batch: int, seed: int, watch) -> list:
    """Adam on the cross-entropy; the same moved images and dropout for every method.

    watch(parameters, digits seen) is called about a dozen times. Returns [W1, b1, …, b3].
    """
    keras.utils.set_random_seed(seed)
    digits = MovedDigits(*train, batch, np.random.default_rng(seed))
    model = build_network(method)
    model.compile(
        keras.optimizers.Adam(falling_rate(RATE, len(digits) * epochs)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice

    def after_epoch(epoch, logs):
        if epoch % max(1, epochs // 12) == 0 or epoch == epochs - 1:
            watch(folded(model), (epoch + 1) * len(digits) * batch)

    watching = keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)
    model.fit(digits, epochs=epochs, verbose=0, callbacks=[watching])
    return folded(model)
