"""One objective that needs more than y_true and y_pred, in six forms that Keras 3 runs.

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Used by: experiments/idioms.py, which trains all six and compares the curves

Symbols: h → code (a hidden layer)   p → probabilities   N → batch
         L = CE(y, p) + 0.05·mean(h²)
Each form returns (compiled model, arrange): `model.fit(*arrange(x, y))` trains it. Take the one
that fits.
"""

import keras
import numpy as np
from keras import ops

from losses import pass_through

WEIGHT = 0.05  # of mean(h²) in the objective
INPUTS = 20
CODE = 8
CLASSES = 4


def cross_entropy(y_true, y_pred):
    """(N,) from one-hot rows and probabilities."""
    return keras.losses.categorical_crossentropy(y_true, y_pred)


def objective(y_true, probabilities, code):
    """L, a scalar."""
    return ops.mean(cross_entropy(y_true, probabilities)) + WEIGHT * ops.mean(ops.square(code))


def network() -> tuple:
    """(input, code h, probabilities p); set the seed first and every form starts alike."""
    x = keras.Input((INPUTS,))
    code = keras.layers.Dense(CODE, activation="tanh", name="code")(x)
    return x, code, keras.layers.Dense(CLASSES, activation="softmax", name="p")(code)


def loss_function():
    def loss(y_true, y_pred):
        return objective(y_true, y_pred[:, :CLASSES], y_pred[:, CLASSES:])

    x, code, p = network()
    model = keras.Model(x, keras.layers.Concatenate()([p, code]))
    model.compile("adam", loss)
    return model, lambda x, y: (x, y)


def loss_as_output():
    def row_loss(tensors):
        y_true, probabilities, code = tensors
        penalty = ops.mean(ops.square(code), -1, keepdims=True)
        return ops.expand_dims(cross_entropy(y_true, probabilities), -1) + WEIGHT * penalty

    x, code, p = network()
    y = keras.Input((CLASSES,))
    loss = keras.layers.Lambda(row_loss, output_shape=(1,))([y, p, code])
    model = keras.Model([x, y], loss)
    model.compile("adam", pass_through)
    return model, lambda x, y: ([x, y], np.zeros((len(x), 1), "float32"))


class CodePenalty(keras.layers.Layer):
    """Hands its input on and adds weight · mean(h²) to the model's loss."""

    def call(self, code):
        self.add_loss(WEIGHT * ops.mean(ops.square(code)))
        return code


def layer_add_loss():
    x = keras.Input((INPUTS,))
    code = CodePenalty()(keras.layers.Dense(CODE, activation="tanh", name="code")(x))
    model = keras.Model(x, keras.layers.Dense(CLASSES, activation="softmax", name="p")(code))
    model.compile("adam", cross_entropy)
    return model, lambda x, y: (x, y)


def two_outputs():
    def mean_square(code):
        return ops.mean(ops.square(code), -1, keepdims=True)

    x, code, p = network()
    penalty = keras.layers.Lambda(mean_square, output_shape=(1,))(code)
    model = keras.Model(x, [p, penalty])
    model.compile("adam", [cross_entropy, pass_through], loss_weights=[1.0, WEIGHT])
    return model, lambda x, y: (x, [y, np.zeros((len(x), 1), "float32")])


class WithComputeLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return objective(y, *y_pred)


def compute_loss():
    x, code, p = network()
    model = WithComputeLoss(x, [p, code])
    model.compile("adam")
    return model, lambda x, y: (x, y)


class WithTrainStep(keras.Model):
    """train_step is the one form that is written per backend. Its log must not be named `loss`: see
    experiments/idioms.py."""

    if keras.backend.backend() == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            x, y = data
            with tf.GradientTape() as tape:
                loss = objective(y, *self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply(gradients, self.trainable_weights)
            return {"objective": loss}
    elif keras.backend.backend() == "torch":

        def train_step(self, data):
            x, y = data
            self.zero_grad()
            loss = objective(y, *self(x, training=True))
            loss.backward()
            gradients = [weight.value.grad for weight in self.trainable_weights]
            self.optimizer.apply(gradients, self.trainable_weights)
            return {"objective": loss.detach()}
    else:

        def train_step(self, state, data):
            import jax

            trainable, other, slots, metrics = state
            x, y = data

            def loss_of(trainable):
                outputs, updated = self.stateless_call(trainable, other, x, training=True)
                return objective(y, *outputs), updated

            (loss, other), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
            trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
            return {"objective": loss}, (trainable, other, slots, metrics)


def train_step():
    x, code, p = network()
    model = WithTrainStep(x, [p, code])
    model.compile("adam")
    return model, lambda x, y: (x, y)


FORMS = {
    "loss function": loss_function,
    "loss as output": loss_as_output,
    "layer add_loss": layer_add_loss,
    "two outputs": two_outputs,
    "compute_loss": compute_loss,
    "train_step": train_step,
}
