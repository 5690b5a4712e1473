"""Speed of our activation functions beside Keras's own, and of the forms of x·min(1, eˣ).

Run: python tests/benchmarks/bench_activation_functions.py

Ratios to ReLU in the same run.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "activation_functions"))
import numpy as np

from activations import ACTIVATIONS, FORMS
from evolution import es_gradient
from flushed import flush, initial_parameters
from quiet_keras import keras, tf

PEERS = {
    "swish": keras.activations.silu,
    "gelu": keras.activations.gelu,
    "mish": keras.activations.mish,
    "selu": keras.activations.selu,
    "softplus": keras.activations.softplus,
    "elu": keras.activations.elu,
}


def seconds(call, repeats: int = 15) -> float:
    """Fastest of some calls, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def forward_and_backward(function):
    x = tf.random.stateless_normal((1000, 1000), (0, 0))

    @tf.function
    def call():
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(function(x))
        return tape.gradient(value, x)

    return lambda: call().numpy()


def main() -> None:
    unit = seconds(forward_and_backward(ACTIVATIONS["relu"]))
    print(f"ReLU, forward and backward, a million floats: {unit * 1000:.2f} ms; others ÷ that")
    for name, function in ACTIVATIONS.items():
        line = f"{name:14s} {seconds(forward_and_backward(function)) / unit:6.2f}"
        if name in PEERS:
            line += f"   Keras {seconds(forward_and_backward(PEERS[name])) / unit:6.2f}"
        print(line)
    for name, function in FORMS.items():
        print(f"tick, {name:8s} {seconds(forward_and_backward(function)) / unit:6.2f}")
    rng = np.random.default_rng(0)
    parameters = initial_parameters(0.5, rng)
    x = rng.normal(size=(256, 784)).astype("float32")
    step = seconds(lambda: es_gradient(parameters, x, np.zeros(256, int), 0.2, 4, rng), 5)
    print(f"evolution: {2048 / step:.0f} forward passes a second with their share of the gradient")
    eager = seconds(lambda: flush(tf.constant(x)).numpy())
    print(f"flush of {x.size} floats in eager TensorFlow: {eager * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
