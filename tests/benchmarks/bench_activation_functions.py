"""Speed of our activation functions beside Keras's own and of the forms of x·min(1, eˣ), as ratios to ReLU in one run.

Run: python tests/benchmarks/bench_activation_functions.py
"""
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from activation_functions.gallery import ACTIVATIONS, FORMS
from activation_functions.linear_network import es_gradient, flush, initial_parameters

PEERS = {"swish": keras.activations.silu, "gelu": keras.activations.gelu, "mish": keras.activations.mish,
         "selu": keras.activations.selu, "softplus": keras.activations.softplus, "elu": keras.activations.elu}


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
    print(f"ReLU, forward and backward, a million floats: {unit * 1000:.2f} ms; others as multiples of it")
    for name, function in ACTIVATIONS.items():
        line = f"{name:14s} {seconds(forward_and_backward(function)) / unit:6.2f}"
        if name in PEERS:
            line += f"   Keras {seconds(forward_and_backward(PEERS[name])) / unit:6.2f}"
        print(line)
    for name, function in FORMS.items():
        print(f"tick, {name:8s} {seconds(forward_and_backward(function)) / unit:6.2f}")
    rng = np.random.default_rng(0)
    parameters, x = initial_parameters(0.5, rng), rng.normal(size=(256, 784)).astype("float32")
    step = seconds(lambda: es_gradient(parameters, x, np.zeros(256, int), 0.2, 4, rng), 5)
    print(f"evolution: {2048 / step:.0f} forward passes a second with their share of the gradient")
    eager = seconds(lambda: flush(tf.constant(x)).numpy())
    print(f"flush of {x.size} floats in eager TensorFlow: {eager * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
