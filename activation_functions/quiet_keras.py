"""Keras, its ops, and TensorFlow, loaded without the notices that TensorFlow writes to stderr.

TF_CPP_MIN_LOG_LEVEL comes too late for them, so stderr is closed while they load. Everything in
this folder therefore writes `from quiet_keras import keras, ops, tf`.
"""

import os
import sys

stderr = os.dup(2)
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 2)
try:
    import keras
    from keras import ops
finally:
    os.dup2(stderr, 2)
    os.close(stderr)
    os.close(nowhere)

tf = sys.modules.get("tensorflow")  # None where KERAS_BACKEND is jax or torch

__all__ = ["keras", "ops", "tf"]
