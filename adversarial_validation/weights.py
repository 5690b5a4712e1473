"""A discriminator D of training and test rows, and the weights w = D/(1−D) that it gives.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Symbols: p(x), q(x) → density of the training and the test inputs, label 0 and 1
         D(x) = q/(p+q) → d, the chance that x is a test row
         w(x) = q/p = D/(1−D) → weights, scaled to mean 1
         ESS = (Σw)²/Σw² → effective_sample_share × n
Differs from the article: it names two guards against an over-fitted D, a held-out part that stops
         the training and a logistic D; both are here. It lets D score the rows that it was fitted
         on; here every row is scored by a D that has not seen it, and no weight exceeds √n.

run.py has the article's own D, in thirty lines of numpy. scikit-learn and Keras are imported where
they are used, so that a script's --help need not wait for them.
"""

import os

import numpy as np
import scipy
from threadpoolctl import threadpool_limits

FIT_ROWS = 20_000  # rows a side that one D is fitted on: more do not move a linear D
TEST_ROWS = 4_000  # rows a side of the permutation test
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic D, the weakest D first
GUESSING = np.log(2)  # the loss of D = 1/2


# ---------------------------------------------------------------- the discriminator
@threadpool_limits.wrap(limits=1)  # small products: threads only get in the way
def fit_logistic(x, is_test, random: np.random.Generator, may_be_constant: bool = True):
    """The logistic D: C grows for as long as the loss on a held-out fifth of the rows falls.

    x (rows, features), is_test (rows,) of bool → function of rows giving D in (0, 1). Where no C
    beats guessing, D is 1/2 everywhere, unless may_be_constant is False.
    """
    from sklearn.linear_model import LogisticRegression

    held = random.random(len(x)) < 0.2
    x_fit = x[~held]
    x_held = x[held]
    label = is_test[~held].astype(int)  # scikit-learn codes bools one by one
    best = None
    best_loss = GUESSING if may_be_constant else np.inf
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=100)
        model.fit(x_fit, label)
        loss = balanced_log_loss(model.predict_proba(x_held)[:, 1], is_test[held])
        if loss >= best_loss:
            break
        best, best_loss = model, loss
    if best is None:
        return always_one_half
    return lambda rows: best.predict_proba(rows)[:, 1]


def fit_network(x, is_test, random: np.random.Generator, may_be_constant: bool = True):
    """D with one hidden layer (Keras): batches of equal halves, stopped by a held-out fifth.

    Arguments and answer are those of fit_logistic. The epoch with the lowest held-out loss is kept;
    four worse ones after it end the training.
    """
    keras = import_keras()
    held = random.random(len(x)) < 0.2
    keras.utils.set_random_seed(int(random.integers(2**31)))
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((x.shape[1],)), layers.Dense(64, "relu"), layers.Dense(1, "sigmoid")]
    )
    model.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice
    x_held = x[held].astype("float32")
    is_test_held = is_test[held].astype("float32")[:, None]
    history = model.fit(
        equal_batches(x[~held], is_test[~held], random),
        epochs=60,
        verbose=0,
        shuffle=False,
        callbacks=[keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)],
        validation_data=(x_held, is_test_held, balance(is_test[held])),
        validation_batch_size=4096,
    ).history
    if may_be_constant and min(history["val_loss"]) >= GUESSING:
        return always_one_half

    def d(rows):
        scores = model.predict(rows.astype("float32"), batch_size=4096, verbose=0)
        return scores[:, 0].astype(float)

    return d


def equal_batches(x, is_test, random: np.random.Generator, half: int = 32):
    """Batches for Keras with `half` training and `half` test rows each, as the post asks.

    The smaller table starts again when it is used up.
    """
    keras = import_keras()
    sides = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    batches = -(-max(map(len, sides)) // half)

    class EqualBatches(keras.utils.PyDataset):
        def __len__(self):
            return batches

        def __getitem__(self, index):
            if index == 0:
                shuffled = [random.permutation(side) for side in sides]
                self.orders = [np.resize(order, half * batches) for order in shuffled]
            now = slice(half * index, half * (index + 1))
            rows = np.concatenate([order[now] for order in self.orders])
            return x[rows].astype("float32"), is_test[rows].astype("float32")[:, None]

    return EqualBatches()


def import_keras():
    """Keras, without the notices that TensorFlow writes to stderr while it is loaded."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import keras
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    return keras


DISCRIMINATORS = {"logistic": fit_logistic, "network": fit_network}


def always_one_half(rows) -> np.ndarray:
    """The D that sees no difference."""
    return np.full(len(rows), 0.5)


def balance(is_test: np.ndarray) -> np.ndarray:
    """Weights of rows that give both tables an equal say, mean 1."""
    share = is_test.mean()
    return np.where(is_test, 0.5 / share, 0.5 / (1 - share))


def balanced_log_loss(d: np.ndarray, is_test: np.ndarray) -> float:
    """½(−E_p[log(1−D)] − E_q[log D]), the loss of the post halved: log 2 where D = 1/2."""
    d = np.clip(d, 1e-6, 1 - 1e-6)
    losses = -np.log(np.where(is_test, d, 1 - d))
    return float(np.average(losses, weights=balance(is_test)))


def crossfit_discriminator(
    x_train, x_test, random: np.random.Generator, folds: int = 5, kind: str = "logistic"
) -> tuple:
    """D of every row, by a model that did not see it.

    x_train (n, features), x_test (m, features) → D of the training rows (n,) and of the test rows
    (m,), float64 in (0, 1).
    """
    sides = x_train, x_test
    answers = [np.empty(len(x)) for x in sides]
    fold_of = [random.permutation(len(x)) % folds for x in sides]
    for k in range(folds):
        others = [random.permutation(np.flatnonzero(fold != k))[:FIT_ROWS] for fold in fold_of]
        x = np.concatenate([side[rows] for side, rows in zip(sides, others, strict=True)])
        is_test = np.arange(len(x)) >= len(others[0])
        d = DISCRIMINATORS[kind](x, is_test, random)
        for side, fold, answer in zip(sides, fold_of, answers, strict=True):
            answer[fold == k] = d(side[fold == k])
    return tuple(np.clip(answer, 1e-6, 1 - 1e-6) for answer in answers)


def permutation_test(
    x_train, x_test, random: np.random.Generator, draws: int = 999, kind: str = "logistic"
) -> tuple:
    """Is there any shift? D is fitted on one half of the rows and judged on the other → (AUC, p).

    p is the share of shuffled labels that reach the AUC. Given D, the rows that it scores are
    exchangeable where there is no shift; the scores of crossfit_discriminator are not.
    """
    fitted, judged = [], []
    for x in (x_train, x_test):
        rows = random.permutation(len(x))[: 2 * TEST_ROWS]
        half = len(rows) // 2
        fitted.append(x[rows[:half]])
        judged.append(x[rows[half:]])
    x = np.concatenate(fitted)
    is_test = np.arange(len(x)) >= len(fitted[0])
    d = DISCRIMINATORS[kind](x, is_test, random, may_be_constant=False)
    scores = [d(rows) for rows in judged]
    ranks = scipy.stats.rankdata(np.concatenate(scores))
    m = len(scores[1])
    observed = ranks[-m:].sum()
    shuffled = np.array([random.permutation(ranks)[:m].sum() for _ in range(draws)])
    p_value = (1 + np.sum(shuffled >= observed)) / (1 + draws)
    return area_under_curve(*scores), float(p_value)


# ---------------------------------------------------------------- the weights
def cap_weights(w: np.ndarray) -> np.ndarray:
    """w of mean 1, none above √n (truncated importance sampling, Ionides 2008).

    One row must not decide the score.
    """
    w = w / w.mean()
    return np.minimum(w, np.sqrt(len(w)))


def effective_sample_share(w: np.ndarray) -> float:
    """ESS/n = (Σw)²/(n Σw²): 1 for equal weights, 1/n if one row has it all."""
    return float(w.sum() ** 2 / (len(w) * (w**2).sum()))


def area_under_curve(scores_train: np.ndarray, scores_test: np.ndarray) -> float:
    """AUC: the chance that a test row scores above a training row, ties count half."""
    from sklearn.metrics import roc_auc_score

    is_test = np.repeat([0, 1], [len(scores_train), len(scores_test)])
    return float(roc_auc_score(is_test, np.concatenate([scores_train, scores_test])))


def gap_ratio(gaps: np.ndarray, gaps_random: np.ndarray, random: np.random.Generator) -> list:
    """Mean gap over the random split's mean gap → [ratio, low, high], 95 % bootstrap over seeds.

    gaps, gaps_random (seeds,): |validation − test| of a strategy and of the random split.
    """

    def ratio(ours, theirs, axis=-1):
        return ours.mean(axis) / theirs.mean(axis)

    interval = scipy.stats.bootstrap(
        (gaps, gaps_random),
        ratio,
        paired=True,
        method="percentile",
        n_resamples=2000,
        rng=random,
    ).confidence_interval
    return [float(ratio(gaps, gaps_random)), float(interval.low), float(interval.high)]


def test_like_weights(x_train, x_test, folds: int = 5, seed: int = 0) -> np.ndarray:
    """w = q/p of the training rows by scikit-learn alone: what to copy into a project of one's own.

    x_train (n, features), x_test (m, features) → (n,) of mean 1 at most, none above √n. D is fitted
    on other rows than it scores, and both tables have an equal say.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate([x_train, x_test])
    is_test = np.arange(len(x)) >= len(x_train)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced"))
    cv = StratifiedKFold(folds, shuffle=True, random_state=seed)
    d = cross_val_predict(model, x, is_test, cv=cv, method="predict_proba")[: len(x_train), 1]
    w = d / (1 - d)
    return np.minimum(w / w.mean(), len(w) ** 0.5)  # then np.average(score_of_each_row, weights=w)


def ulsif_weights(x_train, x_test, random: np.random.Generator, centres: int = 100) -> np.ndarray:
    """A specialist to compare with: uLSIF (Kanamori et al. 2009) → w of the training rows.

    ŵ(x) = Σ_l α_l k(x, c_l) with α = (H + λI)⁻¹h; σ and λ by its own loss on a held-out third.
    """
    c = x_test[random.permutation(len(x_test))[:centres]]

    def squared_distances(x):  # (rows, centres)
        squares = (x**2).sum(1)[:, None] + (c**2).sum(1) - 2 * x @ c.T
        return np.maximum(squares, 0)

    to_train = squared_distances(x_train)
    to_test = squared_distances(x_test)
    keep_p = random.random(len(x_train)) < 2 / 3
    keep_q = random.random(len(x_test)) < 2 / 3
    best, best_loss = None, np.inf
    for sigma2 in np.median(to_train) * np.array([0.1, 0.3, 1.0, 3.0]):
        k_p = np.exp(-to_train / (2 * sigma2))
        k_q = np.exp(-to_test / (2 * sigma2))
        h_matrix = k_p[keep_p].T @ k_p[keep_p] / keep_p.sum()
        h = k_q[keep_q].mean(0)
        for penalty in (1e-3, 1e-2, 1e-1, 1.0):
            alpha = np.maximum(np.linalg.solve(h_matrix + penalty * np.eye(len(c)), h), 0)
            loss = 0.5 * np.mean((k_p[~keep_p] @ alpha) ** 2) - np.mean(k_q[~keep_q] @ alpha)
            if loss < best_loss:
                best, best_loss = k_p @ alpha, loss
    return best + 1e-12
