"""Load Keras in silence; and a model's output without compiling a graph for it."""

import os

import numpy as np


def load_keras() -> None:
    """Import Keras without the notices that TensorFlow writes to stderr while it loads.

    TF_CPP_MIN_LOG_LEVEL comes too late for them: TensorFlow reads it after it has spoken. So
    stderr is closed meanwhile; an error is raised as ever. Call this before `import keras`.
    """
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        __import__("keras")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def encoded(model, *inputs: np.ndarray, rows: int = 1024) -> np.ndarray:
    """The model's output for all rows of its inputs.

    A plain call: predict() compiles a graph for every model and every number of rows, which costs
    more than it saves here, and TensorFlow warns of it ("triggered tf.function retracing").
    """
    from keras import ops

    parts = []
    for start in range(0, len(inputs[0]), rows):
        batch = [part[start : start + rows] for part in inputs]
        output = model(batch if len(batch) > 1 else batch[0], training=False)
        parts.append(ops.convert_to_numpy(output))
    return np.concatenate(parts)
