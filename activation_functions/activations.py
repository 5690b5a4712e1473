"""The activation functions of the article and their descendants, and what each is like.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647

Only keras.ops are used, so that TensorFlow, JAX and PyTorch (KERAS_BACKEND) run the same lines.
A function takes a float tensor and returns one of the same shape. Values and slopes keep their
digits in the tails, have their limits at ±inf, and at a kink the slope of one side: that of the
left, or of the middle piece of three, on every backend (a clip would split it in JAX).

Symbols: σ → sigmoid   x·σ(βx) → swish   x·min(1, eˣ) → tick, the author's   ⊗ → glu and its kin
"""

import functools
import math

import numpy as np
from scipy.optimize import minimize_scalar

from quiet_keras import keras, ops

# E f = 0 and E f² = 1 under N(0, 1) hold for these two
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
FLOOR = -1000.0  # e^-1000 is 0 in every float
CEILING = 1e30  # from here on x·σ(x) is x to the last digit
SATURATED = 0.1  # "saturated": |f'(x)| below this


# ---------------------------------------------------------------- functions of one input
def sigmoid(x):
    """σ(x) = 1/(1 + e⁻ˣ); on the right as 1 − σ(−x), whose slope keeps its digits there."""
    return ops.where(x < 0, ops.sigmoid(x), 1.0 - ops.sigmoid(-x))


def tanh(x):
    """(eˣ − e⁻ˣ)/(eˣ + e⁻ˣ) = 2σ(2x) − 1; beyond ±1 by σ, for the digits of the slope."""
    far = ops.sign(x) * (1.0 - 2.0 * ops.sigmoid(-2.0 * ops.abs(x)))
    return ops.where(ops.abs(x) < 1.0, ops.tanh(x), far)


def relu(x):
    """max(x, 0)."""
    return ops.relu(x)


def leaky_relu(x, slope=0.01):
    """x for x > 0, else slope·x; PReLU is this function with `slope` trained."""
    return ops.where(x > 0, x, slope * x)


def elu(x, alpha=1.0):
    """x for x > 0, else α(eˣ − 1); near 0 by expm1, which keeps the digits that eˣ − 1 cancels."""
    low = ops.minimum(ops.maximum(x, FLOOR), 1.0)
    return ops.where(x > 0, x, alpha * ops.where(x < -1, ops.exp(low) - 1.0, ops.expm1(low)))


def selu(x):
    """elu scaled to keep mean 0 and variance 1."""
    return SELU_SCALE * elu(x, SELU_ALPHA)


def softplus(x):
    """log(1 + eˣ); not logaddexp(x, 0), whose slope at exactly 0 is 1 in TensorFlow, not 1/2."""
    return ops.softplus(x)


def with_limits(function):
    """`function` between FLOOR and CEILING, x itself above, and f(FLOOR), which is 0, below.

    At -inf x·σ(x) is else -inf·0 = NaN, and at +inf its slope is.
    """

    @functools.wraps(function)
    def limited(x, *parameters, **named):
        inside = ops.minimum(ops.maximum(x, FLOOR), CEILING)
        return ops.where(x > CEILING, x, function(inside, *parameters, **named))

    return limited


@with_limits
def swish(x, beta=1.0):
    """x·σ(βx), β > 0 a number or a trained tensor."""
    return x * sigmoid(beta * x)


@with_limits
def gelu(x):
    """x·Φ(x), Φ the normal distribution function: exact, and by erfc, as 1 + erf cancels left."""
    return 0.5 * x * ops.erfc(-x * math.sqrt(0.5))


@with_limits
def mish(x):
    """x·tanh(softplus(x))."""
    return x * tanh(softplus(x))


def hard_sigmoid(x):
    """clip(x/6 + 1/2, 0, 1): Keras 3 and PyTorch; Keras 2 had x/5 + 1/2."""
    middle = x / 6.0 + 0.5
    return ops.where(x < -3, 0.0, ops.where(x > 3, 1.0, middle))


def hard_tanh(x):
    """clip(x, −1, 1)."""
    return ops.where(x < -1, -1.0, ops.where(x > 1, 1.0, x))


@with_limits
def hard_swish(x):
    """x·hard_sigmoid(x)."""
    return x * hard_sigmoid(x)


def hard_shrink(x, threshold=0.5):
    """x where |x| ≥ threshold, else 0: what flushing makes of (x·2⁻¹²⁵)·2¹²⁵ (flushed.py)."""
    return ops.where(ops.abs(x) < threshold, 0.0, x)  # NaN stays NaN


def tick_naive(x):
    """The article's formula as printed: x·min(1, eˣ). Its gradient is NaN where eˣ overflows."""
    return x * ops.minimum(1.0, ops.exp(x))


def tick_max(x):
    """Safe form 1: max(x, x·e^-|x|)."""
    return ops.maximum(x, x * ops.exp(-ops.abs(x)))


def tick_relu(x):
    """Safe form 2: x + relu(x·e^-|x| − x). Right to ε·|x|; below x = -16 all of f cancels."""
    return x + ops.relu(x * ops.exp(-ops.abs(x)) - x)


def tick(x):
    """The author's function, x·min(1, eˣ): x for x > 0, else x·eˣ; also right at ±inf."""
    low = ops.minimum(ops.maximum(x, -1000.0), 1.0)  # e^-1000 is 0; right of 0 it is not used
    return ops.where(x > 0, x, low * ops.exp(low))


# ---------------------------------------------------------------- gates
def bilinear(a, b):
    """a ⊗ b: gates take a = W₁x + b₁ and b = W₂x + b₂; here the product is all there is."""
    return a * b


def glu(a, b):
    """a ⊗ σ(b); with a = b (tied weights) it is Swish."""
    return a * sigmoid(b)


def reglu(a, b):
    return a * relu(b)


def geglu(a, b):
    return a * gelu(b)


def swiglu(a, b):
    return a * swish(b)


# ---------------------------------------------------------------- functions with a weight
class TrainableSwish(keras.layers.Layer):
    """x·σ(βx) with one trained β per layer, started at 1."""

    def build(self, input_shape):
        self.beta = self.add_weight(shape=(), initializer="ones", name="beta")

    def call(self, x):
        return swish(x, self.beta)


# ---------------------------------------------------------------- by name
ACTIVATIONS = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "hard_sigmoid": hard_sigmoid,
    "hard_tanh": hard_tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "prelu_0.25": lambda x: leaky_relu(x, 0.25),
    "elu": elu,
    "selu": selu,
    "softplus": softplus,
    "swish": swish,
    "swish_beta_2": lambda x: swish(x, 2.0),
    "gelu": gelu,
    "mish": mish,
    "hard_swish": hard_swish,
    "hard_shrink": hard_shrink,
    "relu_squared": lambda x: ops.square(ops.relu(x)),
    "tick": tick,
}
COMPARED = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "swish", "gelu", "mish", "tick")
COLORS = {"relu": "C0", "swish": "C1", "tick": "C2"}  # in all figures; other functions are grey
GATES = {"bilinear": bilinear, "glu": glu, "reglu": reglu, "geglu": geglu, "swiglu": swiglu}
FORMS = {"naive": tick_naive, "max": tick_max, "relu": tick_relu, "exp_min": tick}


# ---------------------------------------------------------------- values, slopes, properties
def evaluate(function, x: np.ndarray) -> np.ndarray:
    """f(x) as a NumPy array, in the dtype of x (JAX computes in float32 unless told otherwise)."""
    return ops.convert_to_numpy(function(ops.convert_to_tensor(x, dtype=str(x.dtype))))


def derivative(function, x: np.ndarray) -> np.ndarray:
    """f'(x) of an elementwise function by the automatic differentiation of the backend in use."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda t: ops.sum(function(t)))(ops.convert_to_tensor(x)))
    if keras.backend.backend() == "torch":
        import torch

        tensor = torch.tensor(x, requires_grad=True)
        return torch.autograd.grad(function(tensor).sum(), tensor)[0].detach().numpy()
    import tensorflow as tf

    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = function(tensor)
    return tape.gradient(value, tensor).numpy()


def describe(function, points: int = 100_001) -> dict:
    """What a function is like on [-10, 10] and under z ~ N(0, 1), by quadrature on `points` points.

    minimum, minimum_at: of a dip (None without one); range; slope_min, slope_max
    saturated_fraction:  P(|f'(z)| < 0.1)
    gain, chi:           1/√E[f²], which keeps the variance of a layer, and E[f'²]/E[f²], the factor
                         by which a layer then multiplies the squared gradient (mean-field theory)
    """
    x = np.linspace(-10, 10, points)
    normal = np.exp(-(x**2) / 2)
    normal /= normal.sum()
    value = evaluate(function, x).astype("float64")
    slope = derivative(function, x).astype("float64")
    second_moment = normal @ value**2
    row = {
        "minimum": None,
        "minimum_at": None,
        "slope_min": slope.min(),
        "slope_max": slope.max(),
        "range": [value.min(), value.max()],
        "saturated_fraction": normal[np.abs(slope) < SATURATED].sum(),
        "gain": 1 / math.sqrt(second_moment),
        "chi": normal @ slope**2 / second_moment,
    }
    if value.min() < min(value[0], value[-1]) - 1e-6:  # a dip inside, not a plateau or an end
        at = x[np.argmin(value)]
        found = minimize_scalar(
            lambda t: float(evaluate(function, np.array([t]))[0]),
            bounds=(at - 0.1, at + 0.1),
            method="bounded",
            options={"xatol": 1e-9},
        )
        row.update(minimum=found.fun, minimum_at=found.x)
    return {key: rounded(number) for key, number in row.items()}


def rounded(number):
    return None if number is None else np.round(number, 6).tolist()
