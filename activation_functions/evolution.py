"""Evolution strategies: the gradient of a network from its losses alone.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647

A non-linearity without a derivative can still be trained so, the article says, at a price in time.
This is the plain form, which perturbs every unit at once. It does not scale: block_evolution.py has
one that does, and experiments/estimators.py shows why.

NumPy, with the flush in words (flush_emulated): a population is one matrix product.
"""

import numpy as np
from scipy.special import logsumexp

from flushed import flush_emulated, initial_parameters
from quiet_keras import keras, tf

SIGMA = 0.2  # size of a perturbation of u
PAIRS = 4  # individuals and their mirror images for each digit
BATCH = 256  # digits a step


def random_signs(shape: tuple, rng: np.random.Generator) -> np.ndarray:
    """−1 and +1 in equal shares, float32, from single random bits."""
    count = int(np.prod(shape))
    bits = np.unpackbits(np.frombuffer(rng.bytes((count + 7) // 8), np.uint8))[:count]
    return (bits.astype("float32") * 2 - 1).reshape(shape)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """−log softmax(logits)[label] of every row."""
    return logsumexp(logits, 1) - logits[np.arange(len(logits)), labels]


def es_gradient(parameters: list, x: np.ndarray, y: np.ndarray, sigma: float, pairs: int, rng):
    """Estimate of the gradient for [W1, b1, W2, b2, W3, b3], from losses alone.

    Every digit meets `pairs` antithetic pairs of individuals, u = h·W + b ± σ·e, with signs e of
    their own in every unit of every layer. The bias is the gene, so that one matrix product serves
    the whole population. With D = (L₊ − L₋)/2σ the estimate is ∂L/∂b ≈ D·e and, u being linear in
    W, ∂L/∂W ≈ hᵀ·(D·e), where h is the mean input of the pair.
    """
    n = len(x) * pairs
    plus, minus = x, x
    memory = []  # per layer: h₊, h₋, e
    for layer, (weights, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        signs = random_signs((n, len(bias)), rng)
        memory.append((plus, minus, signs))
        if layer == 0:  # the same input for every individual: one product, then copies
            u_plus = u_minus = np.repeat(x @ weights + bias, pairs, 0)
        else:
            u_plus = plus @ weights + bias
            u_minus = minus @ weights + bias
        plus = u_plus + sigma * signs
        minus = u_minus - sigma * signs
        if layer < 2:
            plus = flush_emulated(plus)
            minus = flush_emulated(minus)
    labels = np.repeat(y, pairs)
    # D = (L₊ − L₋)/2σ, and the mean over the population
    difference = (cross_entropy(plus, labels) - cross_entropy(minus, labels)) / (2 * sigma * n)
    gradient = []
    for plus, minus, signs in memory:
        credit = difference[:, None] * signs
        if len(plus) != n:  # the first layer: sum over the individuals of a digit
            credit = credit.reshape(len(x), pairs, -1).sum(1)
        gradient += [((plus + minus) / 2).T @ credit, credit.sum(0)]
    return gradient


def train_by_evolution(train: tuple, steps: int, rng: np.random.Generator, watch) -> list:
    """Adam on es_gradient; the estimates are mostly noise, in which weights walk rate·√steps.

    watch(parameters, forward passes of one digit) is called 25 times. Returns [W1, b1, …, b3].
    """
    x = train[0].reshape(len(train[0]), -1)
    y = train[1]
    variables = [keras.Variable(p) for p in initial_parameters(0.5, rng)]
    optimizer = keras.optimizers.Adam()
    optimizer.build(variables)

    @tf.function
    def update(*gradient):
        optimizer.apply(gradient, variables)

    for step in range(1, steps + 1):
        parameters = [variable.numpy() for variable in variables]
        chosen = rng.integers(0, len(x), BATCH)
        gradient = es_gradient(parameters, x[chosen], y[chosen], SIGMA, PAIRS, rng)
        warm_up = min(1, step / 50)
        optimizer.learning_rate = 0.03 / steps**0.5 * warm_up * (1 - (step - 1) / steps)
        update(*map(tf.constant, gradient))
        if step % max(1, steps // 25) == 0 or step == steps:
            watch([variable.numpy() for variable in variables], step * BATCH * PAIRS * 2)
    return [variable.numpy() for variable in variables]
