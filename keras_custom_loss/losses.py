"""The post's three losses as functions that paste.

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Used by: train.py's experiments, answer.py; train.py itself holds the post's shorter forms

Symbols: ε → epsilon   K → classes   p → y_pred   q → y_true (one-hot); in a triplet: question
         A_right, A_wrong → right, wrong   m → margin   x → features   c_y → centres   N → batch
They stay finite and keep a finite gradient where the short forms do not (p = 0, a vector of
zeros), are the same on TensorFlow, JAX and PyTorch, and refuse shapes on which they mean nothing.
"""

import numpy as np
from keras import config, ops


# ---------------------------------------------------------------- shapes
def fits(shape, pattern: tuple) -> bool:
    """Whether a shape has the sizes of the pattern; None, on either side, is any size."""
    pairs = list(zip(shape, pattern, strict=False))
    return len(shape) == len(pattern) and all(a == b or None in (a, b) for a, b in pairs)


# ---------------------------------------------------------------- 1: mixed with a uniform target
def smoothed_cross_entropy(y_true, y_pred, epsilon: float = 0.1, from_logits: bool = False):
    """(1−ε)·CE(y_true, p) + ε·CE(1/K, p) of each row, for `compile(loss=smoothed_cross_entropy)`.

    y_true: (N, K), rows that sum to 1. y_pred: (N, K), probabilities, or logits with from_logits.
    Logits are exact at any size; probabilities are clipped at 1e-7, as Keras does. Returns (N,).
    Raises ValueError for shapes that differ, for K = 1 and for ε outside [0, 1).
    """
    y_pred = ops.convert_to_tensor(y_pred)
    if "float" not in str(y_pred.dtype):
        y_pred = ops.cast(y_pred, "float32")
    y_true = ops.convert_to_tensor(y_true, dtype=y_pred.dtype)
    check_rows(y_true.shape, y_pred.shape, epsilon)
    if from_logits:
        log_p = ops.log_softmax(y_pred, axis=-1)
    else:
        tiny = config.epsilon()
        p = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
        log_p = ops.log(ops.clip(p, tiny, 1 - tiny))
    # L = −(1−ε) Σ qᵢ log pᵢ − ε Σ (1/K) log pᵢ
    return -(1 - epsilon) * ops.sum(y_true * log_p, axis=-1) - epsilon * ops.mean(log_p, axis=-1)


def check_rows(true_shape, pred_shape, epsilon: float) -> None:
    true_shape, pred_shape = tuple(true_shape), tuple(pred_shape)
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon {epsilon}: must lie in [0, 1)")
    if len(pred_shape) < 2 or not fits(true_shape, pred_shape):
        raise ValueError(
            f"y_true has shape {true_shape}, y_pred {pred_shape}: both must be (N, K); "
            "turn class numbers into rows with keras.utils.to_categorical"
        )
    if pred_shape[-1] == 1:
        raise ValueError(
            f"y_pred has shape {pred_shape}: one class is always certain; for yes or no give two "
            "columns, or use keras.losses.BinaryCrossentropy(label_smoothing=…)"
        )


def best_probability(epsilon: float, classes: int) -> float:
    """p_y = 1−ε+ε/K, where the mixed loss is smallest."""
    return 1 - epsilon + epsilon / classes


# ---------------------------------------------------------------- 2: triplets
def unit(x):
    """x / |x| along the last axis. A vector shorter than 1e-4 is divided by 1e-4 instead, so that
    the vector of zeros has a finite gradient."""
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, 1e-8))


def cosine(a, b):
    """cos of the angle between the rows of a and b, both (N, d) with d > 1; returns (N, 1).

    Raises ValueError for shapes that differ, and for d = 1, where a cosine is ±1 and never moves.
    """
    if len(a.shape) != 2 or a.shape[1] == 1 or not fits(b.shape, tuple(a.shape)):
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"codes have shapes {shapes}: both must be (N, d), d above 1")
    # cos(a, b) = a·b / |a||b|
    return ops.sum(unit(a) * unit(b), axis=-1, keepdims=True)


def triplet_loss(right_cosine, wrong_cosine, margin: float = 0.1):
    """max(0, m + cos(q, A_wrong) − cos(q, A_right)), elementwise.

    right_cosine: (N, 1). wrong_cosine: (N, 1), or (N, W) for W wrong answers of a question.
    Raises ValueError for other shapes and for a margin outside (0, 2].
    """
    right, wrong = tuple(right_cosine.shape), tuple(wrong_cosine.shape)
    if not 0 < margin <= 2:
        raise ValueError(f"margin {margin}: must lie in (0, 2], as a difference of cosines does")
    if len(right) != 2 or right[1] != 1 or not fits(wrong, (right[0], None)):
        shapes = f"right cosines have shape {right}, wrong {wrong}"
        raise ValueError(f"{shapes}: must be (N, 1) and (N, W)")
    # L = max(0, m + cos(q, A_wrong) − cos(q, A_right))
    return ops.relu(margin + wrong_cosine - right_cosine)


def mean_of_active(losses):
    """The mean of the losses above 0 in each row, and 0 where there is none: (N, W) → (N, 1)."""
    active = ops.sum(ops.cast(losses > 0, losses.dtype), axis=-1, keepdims=True)
    return ops.sum(losses, axis=-1, keepdims=True) / ops.maximum(active, 1.0)


def batch_triplet_loss(question, right, right_id, right_ids, margin: float = 0.1):
    """The loss of every question against the right answers of all other questions of its batch.

    question, right: codes (N, d). right_id: (N, 1), the number of each answer. right_ids: (N, R),
    the numbers of all right answers of each question, which are no wrong ones for it; filled up
    with −1. Returns (N, 1), the mean over the answers within the margin. (The hardest one alone
    makes all codes equal within an epoch, where L = m; the mean starts gently, then turns hard.)
    Raises ValueError for other shapes and for a batch of one, which has no wrong answer.
    """
    check_batch(tuple(question.shape), tuple(right_id.shape), tuple(right_ids.shape))
    # row i, column j: question i before the right answer of question j; all (N, N)
    own = ops.equal(ops.transpose(right_id), right_id)  # also where right_ids forgets it
    names = ops.reshape(right_id, (1, -1, 1))
    listed = ops.any(ops.equal(ops.expand_dims(right_ids, 1), names), axis=-1)
    is_right = ops.logical_or(own, listed)
    cosines = ops.matmul(unit(question), ops.transpose(unit(right)))
    # a right answer's cosine falls below −1 − m, so that its loss is 0
    wrong_cosines = cosines - 4.0 * ops.cast(is_right, cosines.dtype)
    return mean_of_active(triplet_loss(cosine(question, right), wrong_cosines, margin))


def check_batch(codes: tuple, right_id: tuple, right_ids: tuple) -> None:
    if codes[0] == 1:
        raise ValueError("a batch of one question has no wrong answers: take 2 or more")
    if not fits(right_id, (codes[0], 1)) or not fits(right_ids, (codes[0], None)):
        shapes = f"right_id has shape {right_id}, right_ids {right_ids}"
        raise ValueError(f"{shapes}: must be (N, 1) and (N, R) for codes {codes}")


def active_fraction(y_true, y_pred):
    """Share of rows whose loss is not 0: a metric that reads the loss, for that is the output."""
    return ops.mean(ops.cast(y_pred > 0, "float32"))


def pass_through(y_true, y_pred):
    """The post's `lambda y_true, y_pred: y_pred`; as a named function it can be saved."""
    return y_pred


# ---------------------------------------------------------------- 3: center loss
def center_distance(features, centres):
    """‖x − c‖² of each row, kept as a column so that it can be a model's output.

    features, centres: (N, d). Returns (N, 1). Raises ValueError for shapes that differ.
    """
    if len(features.shape) != 2 or not fits(centres.shape, tuple(features.shape)):
        shapes = f"features have shape {tuple(features.shape)}, centres {tuple(centres.shape)}"
        raise ValueError(f"{shapes}: both must be (N, d); flatten the Embedding's (N, 1, d)")
    # ‖x − c_y‖²
    return ops.sum(ops.square(features - centres), axis=-1, keepdims=True)


def check_labels(labels, classes: int) -> np.ndarray:
    """Class numbers (N,) as they are, or ValueError.

    A label out of range is an error on one backend and a NaN or another class's row on another.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels have shape {labels.shape}: must be class numbers, (N,)")
    if labels.dtype.kind not in "iuf" or not np.all(labels == np.round(labels)):
        raise ValueError("labels are not all whole numbers")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        found = f"labels run from {labels.min()} to {labels.max()}"
        raise ValueError(f"{found}: must lie in 0 … {classes - 1}")
    return labels


def scatter_ratio(features: np.ndarray, labels: np.ndarray) -> float:
    """tr S_W / tr S_B: what center loss makes small.

    The squared distance of features (n, d) to the mean of their class, over that of the class
    means to the mean of all (each class weighted by its size). 0: every class is a point. Scale
    does not matter.
    """
    centre = features.mean(0)
    within, between = 0.0, 0.0
    for label in np.unique(labels):
        own = features[labels == label]
        within += np.sum((own - own.mean(0)) ** 2)
        between += len(own) * np.sum((own.mean(0) - centre) ** 2)
    return float(within / between)
