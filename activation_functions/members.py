"""Many small networks trained at once: one Keras model whose second axis is the member.

A member has its own weights, learning rate, first bias and order of the data, so that all seeds
and settings of an activation function cost one training.
"""

import numpy as np

from activations import ACTIVATIONS, evaluate
from quiet_keras import keras, ops

HIDDEN = (64,) * 4
# E[g(z)], z ~ N(0, 1), is SHARES @ g(NODES); even in number, so that no node is on the kink at 0
NODES = (np.arange(20_000) + 0.5) / 1000 - 10
SHARES = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()


def gain_of(name: str) -> float:
    """1/√E[f(z)²]: W ~ N(0, gain²/fan_in) keeps the variance of u = f(u')·W at 1."""
    value = evaluate(ACTIVATIONS[name], NODES).astype("float64")
    return float(1 / np.sqrt(SHARES @ value**2))


class MemberDense(keras.layers.Layer):
    """A Dense layer for each member: (members, batch, inputs) → (members, batch, units).

    The kernel is rate·v with v trained. Under Adam, whose steps do not depend on the size of the
    gradient, member m then learns rates[m] times as fast as the optimiser's rate says; under SGD
    rates[m]² times.
    """

    def __init__(self, units: int, gain: float, rates, offsets, seed: int):
        super().__init__()
        self.units = units
        self.gain = gain
        self.rates = np.float32(rates)[:, None, None]
        self.offsets = np.float32(offsets)[:, None, None]
        self.seed = seed

    def build(self, shape):
        members, _, inputs = shape
        start = np.random.default_rng(self.seed).normal(size=(members, inputs, self.units))
        start *= self.gain / inputs**0.5
        self.kernel = self.add_weight(shape=start.shape, initializer="zeros", name="kernel")
        self.bias = self.add_weight(
            shape=(members, 1, self.units), initializer="zeros", name="bias"
        )
        self.kernel.assign((start / self.rates).astype("float32"))
        self.bias.assign(self.offsets / self.rates + np.zeros(self.bias.shape, "float32"))

    def call(self, x):
        rates = ops.convert_to_tensor(self.rates)
        return ops.matmul(x, self.kernel * rates) + self.bias * rates


class MembersFirst(keras.layers.Layer):
    """(batch, members, ·) → (members, batch, ·), `members` of them; with None, the way back."""

    def __init__(self, members: int | None):
        super().__init__()
        self.members = members

    def compute_output_shape(self, shape):
        return (self.members, None, shape[2]) if self.members else (None, shape[0], shape[2])

    def call(self, x):
        return ops.transpose(x, (1, 0, 2))


def build_network(name: str, inputs: int, classes: int, rates, offsets, seed: int) -> tuple:
    """(classifier, probe) of one activation function, a member for each of `rates` and `offsets`.

    The classifier gives logits (batch, members, classes); the probe gives u = h·W + b, (members,
    batch, units), of every hidden layer.
    """
    keras.utils.set_random_seed(seed)
    x = keras.Input((len(rates), inputs))
    h = MembersFirst(len(rates))(x)
    probes = []
    gain = 1.0  # the input has variance 1
    for layer, units in enumerate(HIDDEN):
        u = MemberDense(units, gain, rates, offsets, seed * 1000 + layer)(h)
        probes.append(u)
        h = keras.layers.Activation(ACTIVATIONS[name])(u)
        gain = gain_of(name)
    logits = MemberDense(classes, gain, rates, np.zeros(len(rates)), seed * 1000 + 99)(h)
    return keras.Model(x, MembersFirst(None)(logits)), keras.Model(x, probes)


class Shuffled(keras.utils.PyDataset):
    """Batches (batch, members, features), in an order of its own for every member and epoch."""

    def __init__(self, x, y, members: int, batch: int, seed: int):
        super().__init__()
        self.x = x
        self.y = y
        self.members = members
        self.batch = batch
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self):
        rows = np.tile(np.arange(len(self.x)), (self.members, 1))
        self.order = self.rng.permuted(rows, axis=1).T

    def __len__(self):
        return len(self.x) // self.batch

    def __getitem__(self, i):
        rows = self.order[i * self.batch : (i + 1) * self.batch]
        return self.x[rows], self.y[rows]


def member_accuracy(model, x: np.ndarray, y: np.ndarray, members: int) -> np.ndarray:
    """Accuracy of every member, (members,)."""
    hits = []
    for i in range(0, len(x), 1000):
        same = np.repeat(x[i : i + 1000, None], members, 1)
        logits = ops.convert_to_numpy(model(same))
        hits.append(logits.argmax(-1) == y[i : i + 1000, None])
    return np.concatenate(hits).mean(0)
