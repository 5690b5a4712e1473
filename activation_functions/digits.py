"""Real handwritten digits for the scripts of this folder: MNIST, whole or the 6000 that ship with the repository.

Article: 浅谈神经网络中激活函数的设计 https://kexue.fm/archives/4647
Data:    mnist_6k (500 training and 100 test images of each digit), or MNIST's 60 000 + 10 000 by data/download.py
"""
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.download import fetch


def read_mnist(full: bool, data_dir: Path | None) -> tuple:
    """x_train, y_train, x_test, y_test: pixels uint8 (n, 28, 28), digits int32 (n,)."""
    if full:
        parts = {"train-images": 16, "train-labels": 8, "t10k-images": 16, "t10k-labels": 8}   # bytes of the IDX header
        arrays = [np.frombuffer(fetch(f"mnist-{part}", data_dir).read_bytes(), np.uint8, offset=header)
                  for part, header in parts.items()]
    else:
        with np.load(fetch("mnist_6k", data_dir)) as archive:
            arrays = [archive[key] for key in ("x_train", "y_train", "x_test", "y_test")]
    return (arrays[0].reshape(-1, 28, 28), arrays[1].astype("int32"),
            arrays[2].reshape(-1, 28, 28), arrays[3].astype("int32"))


def shift(x: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Every image of (n, 28, 28) moved by up to ±pixels in both directions, the border filled with the background."""
    padded = np.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels)), constant_values=x.min())
    down, right = rng.integers(0, 2 * pixels + 1, (2, len(x), 1)) + np.arange(28)
    return padded[np.arange(len(x))[:, None, None], down[:, :, None], right[:, None, :]]
