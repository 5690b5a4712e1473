"""Which way of writing a custom loss still works, and what is written instead of the others?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/experiments/idioms.py
         KERAS_BACKEND=torch python keras_custom_loss/experiments/idioms.py

Symbols: h → code (a hidden layer)   p → probabilities   N → batch
         L = CE(y, p) + 0.05·mean(h²), a loss that needs more than y_true and y_pred
Two questions: do all six forms of six_forms.py train the same network? And of the idioms of 2017,
which work, fail, or are silently wrong with the Keras that is installed? Every cell of the table
(keras2.md), the advice too, is a function here that is run and compared with numpy.
Differs from the article: its two forms (loss as output, two outputs) are here beside four others.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli


def flags(parser):
    parser.add_argument("--steps", type=cli.between(1, 1000), default=20, help="of each form")
    parser.add_argument("--seed", **cli.SEED)


cli.parse(flags)  # answers --help and a mistyped flag before TensorFlow is imported
import importlib
import itertools
import tempfile

from keras_tools import encoded, load_keras

load_keras()
import keras
import numpy as np
from keras import ops
from scipy.special import softmax

from six_forms import (
    CLASSES,
    CODE,
    FORMS,
    INPUTS,
    WEIGHT,
    CodePenalty,
    WithTrainStep,
    cross_entropy,
    network,
)

ROWS = 64


# ---------------------------------------------------------------- the six forms
def make_data(seed: int) -> tuple:
    """(x (64, 20) float32, one-hot y (64, 4) float32): noise, enough to compare curves."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(ROWS, INPUTS)).astype("float32")
    return x, np.eye(CLASSES, dtype="float32")[generator.integers(CLASSES, size=ROWS)]


def training_curve(form, data: tuple, steps: int, seed: int) -> list:
    """Value of L before each step (the whole data are one batch, so an epoch is a step)."""
    keras.utils.set_random_seed(seed)
    model, arrange = form()
    model.optimizer.build(model.trainable_variables)  # else Keras traces its first step twice
    options = {"batch_size": ROWS, "epochs": steps, "shuffle": False, "verbose": 0}
    logs = model.fit(*arrange(*data), **options).history
    return [float(value) for value in logs.get("objective", logs.get("loss"))]


def first_log(model, x, y=None, name: str = "loss", **options) -> float:
    """What fit reports of the first step. It takes five, all rows in one batch: TensorFlow warns
    of every graph that is compiled for less."""
    options = {"batch_size": ROWS, "epochs": 5, "shuffle": False, "verbose": 0} | options
    model.optimizer.build(model.trainable_variables)
    return model.fit(x, y, **options).history[name][0]


def same_curve(name: str):
    """Does the form train as `loss function` does?"""

    def run(x, y):
        forms = FORMS["loss function"], FORMS[name]
        one, other = (training_curve(form, (x, y), 5, 0) for form in forms)
        return np.allclose(one, other, atol=1e-6)

    return run


# ---------------------------------------------------------------- idioms: the backend's functions
def old_backend(*names):
    """keras.backend has no such functions any more, or has and they work."""

    def run(x, y):
        return all(getattr(keras.backend, name) for name in names)

    return run


def ops_for_mean(x, y):
    pairs = [(ops.mean, np.mean), (ops.sum, np.sum), (ops.square, np.square), (ops.exp, np.exp)]
    return all(np.allclose(ops.convert_to_numpy(f(x)), g(x), rtol=1e-4) for f, g in pairs)


def categorical(place):
    def run(x, y):
        p = softmax(x[:, :CLASSES], axis=1)
        values = ops.convert_to_numpy(place.categorical_crossentropy(y, p))
        return np.allclose(values, -np.log(p[y == 1]), rtol=1e-4)

    return run


def ctc_by_hand(logits: np.ndarray, label: list) -> float:
    """−log of the summed probability of all paths that read `label`; class 0 is the blank."""
    p = softmax(np.float64(logits), axis=1)
    total = 0.0
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        read = [symbol for symbol, _ in itertools.groupby(path) if symbol]
        if read == label:
            total += np.prod(p[np.arange(len(path)), path])
    return -np.log(total)


def ctc_with_lengths(x, y):
    """Two texts of 5 and 3 steps, labels of 2 and 1 symbols; the rest is filling."""
    logits, labels = x[:10, :CLASSES].reshape(2, 5, CLASSES), np.array([[1, 3], [2, 0]], "int32")
    lengths = np.array([2, 1], "int32"), np.array([5, 3], "int32")
    values = ops.convert_to_numpy(ops.ctc_loss(labels, logits, *lengths, mask_index=0))
    expected = [ctc_by_hand(logits[0], [1, 3]), ctc_by_hand(logits[1, :3], [2])]
    return np.allclose(values, expected, rtol=1e-4)


def ctc_class(x, y):
    """Labels are filled up with 0, and all five steps of each row are read."""
    logits, labels = x[:10, :CLASSES].reshape(2, 5, CLASSES), np.array([[1, 3], [2, 0]], "int32")
    values = ops.convert_to_numpy(keras.losses.CTC(reduction=None)(labels, logits))
    expected = [ctc_by_hand(logits[0], [1, 3]), ctc_by_hand(logits[1], [2])]
    return np.allclose(values, expected, rtol=1e-4)


def backend_gradient(x, y):
    """Of Σ x², which is 2x."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensor = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = tf.reduce_sum(tensor**2)
        return np.allclose(tape.gradient(value, tensor), 2 * x)
    if keras.backend.backend() == "jax":
        import jax

        return np.allclose(jax.grad(lambda t: (t**2).sum())(x), 2 * x)
    import torch

    tensor = torch.tensor(x, requires_grad=True)
    (tensor**2).sum().backward()
    return np.allclose(tensor.grad, 2 * x)


def model_of_inner_tensor(x, y):
    inputs, code, p = network()
    model = keras.Model(inputs, p)
    inner = keras.Model(model.input, model.get_layer("code").output)
    kernel, bias = (ops.convert_to_numpy(w) for w in model.get_layer("code").weights)
    return np.allclose(encoded(inner, x), np.tanh(x @ kernel + bias), atol=1e-5)


def tensorflow_on_a_symbol(x, y):
    import tensorflow as tf

    tf.reduce_mean(keras.Input((INPUTS,)))
    return True


def ops_on_a_symbol(x, y):
    inputs = keras.Input((INPUTS,))
    model = keras.Model(inputs, ops.mean(inputs, axis=-1))
    return np.allclose(encoded(model, x), x.mean(-1), atol=1e-5)


class RowMean(keras.layers.Layer):
    def call(self, inputs):
        return ops.mean(inputs, axis=-1)


def layer_on_a_symbol(x, y):
    inputs = keras.Input((INPUTS,))
    return np.allclose(encoded(keras.Model(inputs, RowMean()(inputs)), x), x.mean(-1), atol=1e-5)


def normalized_dot(x, y):
    a, b = x[: ROWS // 2], x[ROWS // 2 :]
    cosine = keras.layers.dot(
        [ops.convert_to_tensor(a), ops.convert_to_tensor(b)], -1, normalize=True
    )
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.allclose(ops.convert_to_numpy(cosine)[:, 0], np.sum(a * b, 1) / lengths, atol=1e-5)


# ---------------------------------------------------------------- idioms: compile and fit
def small_model(units: int = 1) -> keras.Model:
    return keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(units, name="only")])


def weighted_loss(reduce):
    """One row weighs 1 and the rest 0: the loss must be that row's."""

    def run(x, y):
        def loss(y_true, y_pred):
            return reduce(ops.mean(ops.square(y_true - y_pred), -1))

        model = small_model(CLASSES)
        model.compile("sgd", loss)
        weight = np.eye(1, ROWS, dtype="float32")[0]
        expected = np.mean((y[0] - encoded(model, x)[0]) ** 2) / ROWS
        return np.isclose(first_log(model, x, y, sample_weight=weight), expected, rtol=1e-4)

    return run


def loss_closes_over_a_tensor(x, y):
    inputs, code, p = network()
    model = keras.Model(inputs, p)
    model.compile(
        "adam", lambda y_true, y_pred: cross_entropy(y_true, y_pred) + ops.mean(ops.square(code))
    )
    return first_log(model, x, y) > 0


def model_add_loss(x, y):
    inputs, code, p = network()
    keras.Model(inputs, p).add_loss(ops.mean(ops.square(code)))
    return True


def add_loss_alone(x, y):
    inputs = keras.Input((INPUTS,))
    model = keras.Model(inputs, CodePenalty()(keras.layers.Dense(CODE)(inputs)))
    model.compile("adam")
    expected = WEIGHT * np.mean(encoded(model, x) ** 2)
    return np.isclose(first_log(model, x), expected, rtol=1e-4)


def loss_for_one_of_two(losses, named: bool = False):
    """Two outputs, a loss for p alone: the total must be that of p."""

    def run(x, y):
        inputs, code, p = network()
        target = np.zeros((ROWS, CODE), "float32")
        model = keras.Model(inputs, {"p": p, "code": code} if named else [p, code])
        model.compile("adam", losses)
        expected = np.mean((y - encoded(keras.Model(inputs, p), x)) ** 2)
        targets = {"p": y} if named else [y, target]
        return np.isclose(first_log(model, x, targets), expected, rtol=1e-4)

    return run


def accuracy_shown(positional: bool):
    def run(x, y):
        model = small_model(CLASSES)
        if positional:
            model.compile("adam", "mse", ["accuracy"])
        else:
            model.compile("adam", loss="mse", metrics=["accuracy"])
        expected = np.mean(encoded(model, x).argmax(1) == y.argmax(1))
        return np.isclose(first_log(model, x, y, "accuracy"), expected)

    return run


def accuracy_of_one_of_two(metrics):
    def run(x, y):
        inputs, code, p = network()
        model = keras.Model(inputs, [p, code])
        model.compile("adam", loss=["mse", None], metrics=metrics)
        expected = np.mean(encoded(keras.Model(inputs, p), x).argmax(1) == y.argmax(1))
        targets = [y, np.zeros((ROWS, CODE), "float32")]
        return np.isclose(first_log(model, x, targets, "p_accuracy"), expected)

    return run


def generator_of(kind):
    """Two inputs and two targets for each batch, in lists or in tuples."""

    def run(x, y):
        def batches():
            while True:
                yield kind([x, x]), kind([y, y])

        first, second = keras.Input((INPUTS,)), keras.Input((INPUTS,))
        ends = [keras.layers.Dense(CLASSES)(first), keras.layers.Dense(CLASSES)(second)]
        model = keras.Model([first, second], ends)
        model.compile(keras.optimizers.SGD(0.0), ["mse", "mse"])
        outputs = [encoded(keras.Model(model.inputs, end), x, x) for end in ends]
        expected = sum(np.mean((y - output) ** 2) for output in outputs)
        options = {"batch_size": None, "steps_per_epoch": 1}
        return np.isclose(first_log(model, batches(), **options), expected, rtol=1e-4)

    return run


def train_step_logs(name: str):
    """A train_step that returns {name: loss} and no more: is it what fit reports?"""

    class Model(WithTrainStep):
        def train_step(self, *arguments):
            result = super().train_step(*arguments)
            logs = result[0] if isinstance(result, tuple) else result
            logs[name] = logs.pop("objective")
            return result

    def run(x, y):
        inputs, code, p = network()
        model = Model(inputs, [p, code])
        model.compile("adam")
        return first_log(model, x, y, name) > 0.1

    return run


def fit_generator(x, y):
    return bool(small_model().fit_generator)


class TwoBatches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, number):
        part = slice(number * ROWS // 2, (number + 1) * ROWS // 2)
        return self.x[part], self.y[part]


def fit_dataset(x, y):
    model = small_model(CLASSES)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    expected = np.mean((y - encoded(model, x)) ** 2)
    return np.isclose(first_log(model, TwoBatches(x, y), batch_size=None), expected, rtol=1e-4)


def metrics_tensors(x, y):
    return bool(small_model().metrics_tensors)


def metric_of_an_output(x, y):
    """The mean of an inner tensor in the progress bar: it is an output, and its metric reads it."""

    def code_mean(y_true, y_pred):
        return ops.mean(y_pred, axis=-1)

    inputs, code, p = network()
    model = keras.Model(inputs, [p, code])
    model.compile("adam", loss=["mse", None], metrics=[[], [code_mean]])
    expected = encoded(keras.Model(inputs, code), x).mean()
    targets = [y, np.zeros((ROWS, CODE), "float32")]
    return np.isclose(first_log(model, x, targets, "code_code_mean"), expected, atol=1e-5)


# ---------------------------------------------------------------- idioms: making and saving
def saved_and_loaded(function, **options):
    """A Lambda layer of x², saved and loaded: is it still x²?"""

    def run(x, y):
        inputs = keras.Input((INPUTS,))
        layer = function if isinstance(function, keras.layers.Layer) else None
        layer = layer or keras.layers.Lambda(function, output_shape=(INPUTS,))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            keras.Model(inputs, layer(inputs)).save(path)
            again = keras.models.load_model(path, **options)
        return np.allclose(encoded(again, x), x**2, rtol=1e-5)

    return run


@keras.saving.register_keras_serializable("kexue")
def squared(t):
    return ops.square(t)


class Squared(keras.layers.Layer):
    def call(self, inputs):
        return ops.square(inputs)


def imported(module: str, name: str):
    def run(x, y):
        return bool(getattr(importlib.import_module(module), name))

    return run


def model_arguments(first: str, second: str):
    def run(x, y):
        inputs, _, p = network()
        return encoded(keras.Model(**{first: inputs, second: p}), x).shape == y.shape

    return run


def adam_rate(name: str):
    def run(x, y):
        return np.isclose(float(keras.optimizers.Adam(**{name: 0.02}).learning_rate), 0.02)

    return run


# ---------------------------------------------------------------- the table
CHINESE = {  # of what stands in English in `rows`; code is the same in both
    "an output of the model": "改作模型的输出",
    "`self.add_loss` in a layer": "在层里调用 `self.add_loss`",
    "a function with a name and `@keras.saving.register_keras_serializable()`": (
        "有名字的函数，加 `@keras.saving.register_keras_serializable()`"
    ),
    "a Layer, and `load_model(…, custom_objects={'Squared': Squared})`": (
        "自定义 Layer，再用 `load_model(…, custom_objects={'Squared': Squared})`"
    ),
    "a lambda that names no module, `lambda t: t**2`": (
        "不用任何模块名的 lambda，如 `lambda t: t**2`"
    ),
    "one value for each row": "每个样本返回一个值",
    "`loss=f(y_true, y_pred)` of `keras.ops`": "用 `keras.ops` 写的 `loss=f(y_true, y_pred)`",
    "loss as the output, `loss=lambda y_true, y_pred: y_pred`": (
        "把 loss 作为输出，`loss=lambda y_true, y_pred: y_pred`"
    ),
    "two outputs, `loss=[f, g]`, `loss_weights=[1, λ]`": (
        "两个输出，`loss=[f, g]`，`loss_weights=[1, λ]`"
    ),
    "`self.add_loss` in a layer, `compile(optimizer)`, no y": (
        "层里 `self.add_loss`，`compile(optimizer)`，不给 y"
    ),
    "`keras.ops.mean`, sum, square, exp …": "`keras.ops.mean`，sum、square、exp 等同理",
    "`keras.ops.ctc_loss`: logits, both lengths, blank 0": (
        "`keras.ops.ctc_loss`：输入 logits 和两种长度，空白为 0"
    ),
    "`keras.losses.CTC()`: labels filled up with 0, all steps read": (
        "`keras.losses.CTC()`：标签用 0 补齐，每一步都参与"
    ),
    "the backend's own gradient": "后端自己的求导",
    "`tf.reduce_mean` of a model's tensor": "对模型里的张量用 `tf.reduce_mean`",
    "a Layer that calls it": "写进一个 Layer",
    "a loss that closes over an inner tensor": "loss 闭包里用到中间张量",
    "`loss={'p': f}` where the outputs are a list": "输出是列表时用 `loss={'p': f}`",
    "outputs in a dict, `{'p': p, …}`": "输出改为字典 `{'p': p, …}`",
    "`metrics=['accuracy']` for two outputs": "两个输出只写 `metrics=['accuracy']`",
    "a generator of batches `[x1, x2], [y1, y2]`": "生成器按 `[x1, x2], [y1, y2]` 给出批次",
    "`train_step` returns `{'loss': …}` alone": "`train_step` 只返回 `{'loss': …}`",
    "another name": "换个名字",
    "a loss that returns its mean, with `sample_weight`": "loss 返回均值，又给 `sample_weight`",
    "loading a saved `Lambda(lambda …)`": "加载保存过的 `Lambda(lambda …)`",
    "the same with `safe_mode=False`, if the lambda uses `ops`": (
        "同上加 `safe_mode=False`，而 lambda 里用了 `ops`"
    ),
    "`fit` of a `keras.utils.PyDataset`": "用 `fit`，数据写成 `keras.utils.PyDataset`",
    "an output, and `metrics=[…]` of compile": "改作输出，用 compile 的 `metrics=[…]`",
}


def rows() -> list:
    """[(idiom, how it is run, [(what to write instead, how that is run)])]."""
    inner = ("an output of the model", same_curve("two outputs"))
    layer = ("`self.add_loss` in a layer", same_curve("layer add_loss"))
    registered = (
        "a function with a name and `@keras.saving.register_keras_serializable()`",
        saved_and_loaded(squared),
    )
    own_layer = (
        "a Layer, and `load_model(…, custom_objects={'Squared': Squared})`",
        saved_and_loaded(Squared(), custom_objects={"Squared": Squared}),
    )
    names_nothing = (
        "a lambda that names no module, `lambda t: t**2`",
        saved_and_loaded(lambda t: t**2, safe_mode=False),
    )
    one_row = ("one value for each row", weighted_loss(lambda loss: loss))
    return [
        ("`loss=f(y_true, y_pred)` of `keras.ops`", weighted_loss(lambda loss: loss), []),
        (
            "loss as the output, `loss=lambda y_true, y_pred: y_pred`",
            same_curve("loss as output"),
            [],
        ),
        ("two outputs, `loss=[f, g]`, `loss_weights=[1, λ]`", same_curve("two outputs"), []),
        ("`self.add_loss` in a layer, `compile(optimizer)`, no y", add_loss_alone, []),
        ("`dot([a, b], -1, normalize=True)`", normalized_dot, []),
        ("`loss=[f, None]`", loss_for_one_of_two(["mse", None]), []),
        ("`K.mean`", old_backend("mean"), [("`keras.ops.mean`, sum, square, exp …", ops_for_mean)]),
        (
            "`K.categorical_crossentropy`",
            old_backend("categorical_crossentropy"),
            [
                ("`keras.losses.categorical_crossentropy`", categorical(keras.losses)),
                ("`keras.ops.categorical_crossentropy`", categorical(ops)),
            ],
        ),
        (
            "`K.ctc_batch_cost`",
            old_backend("ctc_batch_cost"),
            [
                ("`keras.ops.ctc_loss`: logits, both lengths, blank 0", ctc_with_lengths),
                ("`keras.losses.CTC()`: labels filled up with 0, all steps read", ctc_class),
            ],
        ),
        (
            "`K.gradients`",
            old_backend("gradients"),
            [("the backend's own gradient", backend_gradient)],
        ),
        (
            "`K.function`",
            old_backend("function"),
            [("`keras.Model(model.input, layer.output)`", model_of_inner_tensor)],
        ),
        (
            "`tf.reduce_mean` of a model's tensor",
            tensorflow_on_a_symbol,
            [("`keras.ops.mean`", ops_on_a_symbol), ("a Layer that calls it", layer_on_a_symbol)],
        ),
        ("a loss that closes over an inner tensor", loss_closes_over_a_tensor, [inner, layer]),
        ("`model.add_loss(tensor)`", model_add_loss, [layer]),
        (
            "`loss={'p': f}` where the outputs are a list",
            loss_for_one_of_two({"p": "mse"}),
            [
                ("`loss=[f, None]`", loss_for_one_of_two(["mse", None])),
                ("outputs in a dict, `{'p': p, …}`", loss_for_one_of_two({"p": "mse"}, named=True)),
            ],
        ),
        (
            "`compile('adam', f, ['accuracy'])`",
            accuracy_shown(positional=True),
            [("`compile('adam', loss=f, metrics=['accuracy'])`", accuracy_shown(positional=False))],
        ),
        (
            "`metrics=['accuracy']` for two outputs",
            accuracy_of_one_of_two(["accuracy"]),
            [("`metrics=[['accuracy'], []]`", accuracy_of_one_of_two([["accuracy"], []]))],
        ),
        (
            "a generator of batches `[x1, x2], [y1, y2]`",
            generator_of(list),
            [("`(x1, x2), (y1, y2)`", generator_of(tuple))],
        ),
        (
            "`train_step` returns `{'loss': …}` alone",
            train_step_logs("loss"),
            [("another name", train_step_logs("objective_value"))],
        ),
        ("a loss that returns its mean, with `sample_weight`", weighted_loss(ops.mean), [one_row]),
        (
            "loading a saved `Lambda(lambda …)`",
            saved_and_loaded(lambda t: ops.square(t)),
            [registered, own_layer],
        ),
        (
            "the same with `safe_mode=False`, if the lambda uses `ops`",
            saved_and_loaded(lambda t: ops.square(t), safe_mode=False),
            [registered, own_layer, names_nothing],
        ),
        (
            "`model.fit_generator`",
            fit_generator,
            [("`fit` of a `keras.utils.PyDataset`", fit_dataset)],
        ),
        (
            "`model.metrics_tensors`",
            metrics_tensors,
            [("an output, and `metrics=[…]` of compile", metric_of_an_output)],
        ),
        (
            "`from keras.layers.merge import dot`",
            imported("keras.layers.merge", "dot"),
            [("`from keras.layers import dot`", imported("keras.layers", "dot"))],
        ),
        (
            "`Model(input=…, output=…)`",
            model_arguments("input", "output"),
            [("`Model(inputs=…, outputs=…)`", model_arguments("inputs", "outputs"))],
        ),
        (
            "`Adam(lr=…)`",
            adam_rate("lr"),
            [("`Adam(learning_rate=…)`", adam_rate("learning_rate"))],
        ),
    ]


def attempt(run, data: tuple) -> tuple:
    """(works | fails | silently wrong, the error's first line)."""
    keras.utils.set_random_seed(0)
    try:
        return ("works" if run(*data) else "silently wrong"), ""
    except Exception as problem:  # any kind of failure is what this table is about
        text = str(problem).strip().splitlines() or [""]
        return "fails", f"{type(problem).__name__}: {text[0].strip()}"[:100]


def both(text: str) -> dict:
    return {"en": text, "zh": CHINESE.get(text, text)}


def try_idioms(data: tuple) -> list:
    """[{idiom, verdict, error, instead: [{text, verdict, error}]}] for the Keras installed."""
    table = []
    for idiom, run, instead in rows():
        verdict, error = attempt(run, data)
        advice = []
        for text, other in instead:
            found = attempt(other, data)
            advice.append({"text": both(text), "verdict": found[0], "error": found[1]})
        row = {"idiom": both(idiom), "verdict": verdict, "error": error, "instead": advice}
        table.append(row)
    return table


# ---------------------------------------------------------------- figure
def plot_curves(curves: dict):
    """Left: the curves lie on each other; right: how far each is from the first."""
    figure, (left, right) = cli.subplots(1, 2, height=3.8)
    first = np.array(next(iter(curves.values())))
    for number, (name, curve) in enumerate(curves.items()):
        width = 2 * (len(curves) - number)
        left.plot(curve, color=f"C{number}", label=name, lw=width, alpha=0.6)
        right.plot(np.abs(np.array(curve) - first) + 1e-9, "o-", ms=3, color=f"C{number}")
    right.axhline(1e-6, color="0.4", ls="--", lw=1)
    left.set(xlabel="step", ylabel="loss", title="six forms of one objective")
    right.set(xlabel="step", yscale="log", title="distance to the first form, + 1e-9")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def main(args):
    data = make_data(args.seed)
    steps = min(args.steps, 5) if args.quick else args.steps
    curves, difference = {}, {}
    for name, form in FORMS.items():
        curves[name] = training_curve(form, data, steps, args.seed)
        distance = np.abs(np.subtract(curves[name], curves["loss function"]))
        difference[name] = float(distance.max())
        ends = f"{curves[name][0]:.6f} → {curves[name][-1]:.6f}"
        print(f"{name:15s} {ends}   largest difference {difference[name]:.1e}")
    table = try_idioms(data)
    for row in table:
        print(f"{row['verdict']:15s} {row['idiom'][cli.LANGUAGE]}  {row['error']}")
        for advice in row["instead"]:
            print(f"{'':15s} → {advice['text'][cli.LANGUAGE]}: {advice['verdict']}")
    verdicts = [row["verdict"] for row in table]
    metrics = {
        "backend": keras.backend.backend(),
        "steps": steps,
        "curves": curves,
        "difference": difference,
        "largest_difference": max(difference.values()),
        "table": table,
        "counts": {name: verdicts.count(name) for name in ("works", "fails", "silently wrong")},
    }
    return metrics, [], {"idioms_curves": plot_curves(curves)}


if __name__ == "__main__":
    cli.run(main, flags)
