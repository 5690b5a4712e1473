"""An evolution strategy that scales: units perturbed in blocks, layer by layer, losses only.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647

evolution.py perturbs all 1034 units at once, and the effect of one drowns in that of the others.
Here a unit is perturbed alone where that costs next to nothing (layers 3 and 2), and in layer 1
among 64 whose signs are orthogonal, so that their effects cancel from each other's estimates.

    layer 3   each logit by ±0.1                              10 pairs of passes a digit
    layer 2   each unit by ±σ: z changes by one row of W3     512 pairs
    layer 1   blocks of 64 units by ±σ, signs: 16 rows of a   8·16 pairs
              Hadamard matrix

What comes out is g ≈ ∂L/∂u of every unit of every layer. The parameters follow from u = BN(h·W) by
the chain rule of this affine map alone: no derivative of the flush is taken, and no error flows
back from layer to layer.
"""

import numpy as np
from scipy.linalg import hadamard

from evolution import random_signs
from flushed import LAYERS, RATE, MovedDigits, build_network, falling_rate, folded
from quiet_keras import keras, tf

SIGMA = 0.3  # perturbation of u in hidden units …
SIGMA_LOGITS = 0.1  # … and of logits
BLOCK = 64  # units of layer 1 that are perturbed together
ROWS = 16  # orthogonal sign patterns a block
UNITS = LAYERS[1]
PASSES = 2 * (UNITS // BLOCK * ROWS + UNITS + LAYERS[-1])  # of one digit, in a step


def cross_entropy(logits, labels):
    """−log softmax(logits)[label]: logits (n, …, 10), labels one-hot (n, 10) → (n, …)."""
    labels = tf.reshape(labels, [labels.shape[0]] + [1] * (len(logits.shape) - 2) + [-1])
    return tf.reduce_logsumexp(logits, -1) - tf.reduce_sum(logits * labels, -1)


def fl(u):
    """flush(u) in words: a compiled graph would fold the scalings away."""
    return tf.where(tf.abs(u) >= 0.5, u, 0.0)


def logits_gradient(z, labels):
    """∂L/∂z (n, 10) from pairs of losses at z ± 0.1·e_k."""
    steps = SIGMA_LOGITS * tf.eye(LAYERS[-1])
    up = cross_entropy(z[:, None] + steps, labels)
    down = cross_entropy(z[:, None] - steps, labels)
    return (up - down) / (2 * SIGMA_LOGITS)


def one_at_a_time(u, z, weights, labels):
    """∂L/∂u (n, units) of the last hidden layer: unit j alone moves z by one row of `weights`."""
    h = fl(u)
    up = (fl(u + SIGMA) - h)[:, :, None] * weights
    down = (fl(u - SIGMA) - h)[:, :, None] * weights
    losses = cross_entropy(z[:, None] + up, labels) - cross_entropy(z[:, None] + down, labels)
    return losses / (2 * SIGMA)


def block_by_block(u1, u2, weights2, weights3, bias3, labels, order, rows, signs):
    """∂L/∂u1 (n, units), the units perturbed in blocks with orthogonal signs.

    order: a random order of the units, dealt into blocks of BLOCK; rows (P, BLOCK): random rows of
    a Hadamard matrix; signs (n, units): signs f of its own for every digit and unit.
    u1 ± σ·f moves h1 by c ± a, of which c is the same for both signs.
    """
    h = fl(u1)
    up = fl(u1 + SIGMA) - h
    down = fl(u1 - SIGMA) - h
    swing = tf.gather(signs * (up - down) / 2, order, axis=1)  # a, with the sign f
    common = tf.gather((up + down) / 2, order, axis=1)  # c
    weights2 = tf.gather(weights2, order)
    parts = []
    for first in range(0, UNITS, BLOCK):
        block = slice(first, first + BLOCK)
        centre = (u2 + common[:, block] @ weights2[block])[:, None]
        # T_p = (r_p∘a)·W2: (n, ROWS, units of layer 2)
        moved = tf.tensordot(swing[:, None, block] * rows, weights2[block], 1)
        plus = tf.tensordot(fl(centre + moved), weights3, 1) + bias3
        minus = tf.tensordot(fl(centre - moved), weights3, 1) + bias3
        difference = cross_entropy(plus, labels) - cross_entropy(minus, labels)  # D_p
        parts.append(difference @ rows)
    back = tf.argsort(order)
    estimate = signs * tf.gather(tf.concat(parts, 1), back, axis=1) / (2 * SIGMA * rows.shape[0])
    return tf.where(up == down, 0.0, estimate)


def train_by_blocks(train: tuple, epochs: int, batch: int, seed: int, watch) -> list:
    """Adam on these estimates; digits, rate and network as in flushed.train_by_gradient.

    watch(parameters, forward passes of one digit) is called about a dozen times. Returns
    [W1, b1, …, b3].
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    digits = MovedDigits(*train, batch, rng)
    model = build_network("surrogate")
    dense1, dense2, dense3 = (x for x in model.layers if isinstance(x, keras.layers.Dense))
    normal1, normal2 = (x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    optimizer = keras.optimizers.Adam(falling_rate(RATE, len(digits) * epochs))
    optimizer.build(model.trainable_variables)
    patterns = hadamard(BLOCK).astype("float32")

    @tf.function(jit_compile=True, autograph=False)  # its loops are Python's own
    def step(x, y, order, rows, signs):
        labels = tf.one_hot(y, LAYERS[-1])
        with tf.GradientTape() as tape:
            u1 = normal1(dense1(x), training=True)
            h1 = tf.stop_gradient(fl(u1))
            before = dense2(h1)
            u2 = normal2(before, training=True)
            h2 = tf.stop_gradient(fl(u2))
            z = dense3(h2)
            # normalisation at this batch's variance is part of the weights between u1 and u2
            scale = normal2.gamma / tf.sqrt(tf.math.reduce_variance(before, 0) + normal2.epsilon)
            between = dense2.kernel * scale
            g3 = logits_gradient(z, labels)
            g2 = one_at_a_time(u2, z, dense3.kernel, labels)
            g1 = block_by_block(
                u1, u2, between, dense3.kernel, dense3.bias, labels, order, rows, signs
            )
            # its gradient is the mean of g1·∂u1 + g2·∂u2 + g3·∂z: affine maps, all three
            credit = 0.0
            for g, u in ((g1, u1), (g2, u2), (g3, z)):
                credit += tf.reduce_sum(tf.stop_gradient(g) * u) / batch
        gradient = tape.gradient(credit, model.trainable_variables)
        optimizer.apply(gradient, model.trainable_variables)

    for epoch in range(epochs):
        for i in range(len(digits)):
            order = rng.permutation(UNITS).astype("int32")
            rows = patterns[rng.permutation(BLOCK)[:ROWS]]
            step(*digits[i], order, rows, random_signs((batch, UNITS), rng))
        digits.on_epoch_end()
        if epoch % max(1, epochs // 12) == 0 or epoch == epochs - 1:
            watch(folded(model), (epoch + 1) * len(digits) * batch * PASSES)
    return folded(model)
