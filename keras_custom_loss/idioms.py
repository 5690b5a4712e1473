"""Which way of writing a custom loss still works, and do all that work train the same network?

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493
Run:     python keras_custom_loss/idioms.py            (--quick: fewer steps)
Time:    9 s on 2 cores (Intel Xeon)

Symbols: h → code (a hidden layer)   p → probabilities   N → batch
         L = CE(y, p) + 0.05·mean(h²), a loss that needs more than y_true and y_pred
Makes:   idioms_table.md, one row per idiom, made by running it on the installed Keras
Differs from the article: its two forms (loss as output, two outputs) are here next to the four that came later.
"""
import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))
from six_forms import (CLASSES, CODE, FORMS, INPUTS, WEIGHT, CodePenalty, WithTrainStep,  # noqa: E402
                       cross_entropy, loss_function, network)

HERE = Path(__file__).resolve().parent
ROWS = 64


# ---------------------------------------------------------------- data
def make_data(seed: int) -> tuple:
    """(x (64, 20) float32, one-hot y (64, 4) float32): noise, enough to compare curves."""
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(ROWS, INPUTS)).astype("float32"),
            np.eye(CLASSES, dtype="float32")[generator.integers(CLASSES, size=ROWS)])


# ---------------------------------------------------------------- method: the six forms
def training_curve(form, data: tuple, steps: int, seed: int) -> list:
    """Value of L before each step (the whole data are one batch, so an epoch is a step)."""
    keras.utils.set_random_seed(seed)
    model, arrange = form()
    logs = model.fit(*arrange(*data), batch_size=ROWS, epochs=steps, shuffle=False, verbose=0).history
    return [float(value) for value in logs.get("objective", logs.get("loss"))]


# ---------------------------------------------------------------- method: the idioms of 2017, each one run
def small_model(units: int = 1) -> keras.Model:
    return keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(units, name="only")])


def old_backend(*names):
    def run(x, y):
        for name in names:
            getattr(keras.backend, name)
        return True
    return run


def tensorflow_on_a_symbol(x, y):
    import tensorflow as tf
    tf.reduce_mean(keras.Input((INPUTS,)))
    return True


def loss_closes_over_a_tensor(x, y):
    inputs, code, p = network()
    model = keras.Model(inputs, p)
    model.compile("adam", lambda y_true, y_pred: cross_entropy(y_true, y_pred) + WEIGHT * ops.mean(ops.square(code)))
    model.fit(x, y, verbose=0)
    return True


def model_add_loss(x, y):
    inputs, code, p = network()
    model = keras.Model(inputs, p)
    model.add_loss(ops.mean(ops.square(code)))
    return True


def same_curve_as_loss_function(name):
    def run(x, y):
        return np.allclose(*(training_curve(form, (x, y), 2, 0) for form in (loss_function, FORMS[name])), atol=1e-6)
    return run


def add_loss_alone(x, y):
    inputs = keras.Input((INPUTS,))
    model = keras.Model(inputs, CodePenalty()(keras.layers.Dense(CODE)(inputs)))
    model.compile("adam")
    expected = WEIGHT * np.mean(model.predict(x, verbose=0) ** 2)
    return np.isclose(model.fit(x, batch_size=ROWS, verbose=0).history["loss"][0], expected, rtol=1e-4)


def loss_for_one_of_two(losses):
    def run(x, y):
        inputs, code, p = network()
        model = keras.Model(inputs, [p, code])
        model.compile("adam", losses)
        return np.isfinite(model.fit(x, [y, np.zeros((ROWS, CODE))], verbose=0).history["loss"][0])
    return run


def positional_metrics(x, y):
    model = small_model(CLASSES)
    model.compile("adam", "mse", ["accuracy"])
    model.fit(x, y, verbose=0)
    return True


def train_step_logs_loss(x, y):
    class Model(WithTrainStep):
        def train_step(self, *arguments):
            result = super().train_step(*arguments)
            logs = result[0] if isinstance(result, tuple) else result
            logs["loss"] = logs.pop("objective")
            return result
    inputs, code, p = network()
    model = Model(inputs, [p, code])
    model.compile("adam")
    return model.fit(x, y, batch_size=ROWS, verbose=0).history["loss"][0] > 0.1


def saved_lambda(safe_mode):
    def run(x, y):
        inputs = keras.Input((INPUTS,))
        model = keras.Model(inputs, keras.layers.Lambda(lambda t: ops.square(t), output_shape=(INPUTS,))(inputs))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            again = keras.models.load_model(path, safe_mode=safe_mode)
        return np.allclose(again.predict(x, verbose=0), x ** 2, rtol=1e-5)
    return run


def weighted_loss(reduce):
    """One row weighs 1 and the rest 0: the loss must be that row's."""
    def run(x, y):
        model = small_model(CLASSES)
        model.compile("sgd", lambda y_true, y_pred: reduce(ops.mean(ops.square(y_true - y_pred), -1)))
        weight = np.eye(1, ROWS, dtype="float32")[0]
        expected = np.mean((y[0] - model.predict(x, verbose=0)[0]) ** 2) / ROWS
        loss = model.fit(x, y, batch_size=ROWS, sample_weight=weight, verbose=0).history["loss"][0]
        return np.isclose(loss, expected, rtol=1e-4)
    return run


def normalized_dot(x, y):
    cosine = keras.layers.dot([ops.convert_to_tensor(x), ops.convert_to_tensor(x)], -1, normalize=True)
    return np.allclose(ops.convert_to_numpy(cosine), 1, atol=1e-5)


def attribute(get):
    def run(x, y):
        get(small_model(), x, y)
        return True
    return run


IDIOMS = [  # idiom, how it is run, what to write instead
    ("`loss=f(y_true, y_pred)` with `keras.ops` inside", weighted_loss(lambda rows: rows), ""),
    ("loss as the output, `loss=lambda y_true, y_pred: y_pred`", same_curve_as_loss_function("loss as output"), ""),
    ("two outputs, `loss=[f, g]`, `loss_weights=[1, λ]`", same_curve_as_loss_function("two outputs"), ""),
    ("`self.add_loss` in a layer, `compile(optimizer)`, no y", add_loss_alone, ""),
    ("`dot([a, b], -1, normalize=True)`", normalized_dot, ""),
    ("`K.mean`", old_backend("mean"), "`keras.ops.mean`; the same for sum, square, log …"),
    ("`K.categorical_crossentropy`", old_backend("categorical_crossentropy"), "`keras.losses.…` or `keras.ops.…`"),
    ("`K.ctc_batch_cost`", old_backend("ctc_batch_cost"), "`keras.losses.CTC()` (takes logits, blank is 0)"),
    ("`K.gradients`, `K.function`", old_backend("gradients", "function"), "the backend's own gradient; `keras.Model`"),
    ("`tf.reduce_mean(tensor of the model)`", tensorflow_on_a_symbol, "`keras.ops.mean`, or wrap it in a Layer"),
    ("loss that closes over an inner tensor", loss_closes_over_a_tensor, "make it an output, or `add_loss` in a layer"),
    ("`model.add_loss(tensor)`", model_add_loss, "a layer that calls `self.add_loss`"),
    ("`loss={'p': f}` for one of two outputs", loss_for_one_of_two({"p": "mse"}), "`loss=[f, None]`"),
    ("`loss=[f, None]`", loss_for_one_of_two(["mse", None]), ""),
    ("`compile('adam', f, ['accuracy'])`", positional_metrics, "`compile('adam', loss=f, metrics=['accuracy'])`"),
    ("`train_step` returns `{'loss': …}` and no more", train_step_logs_loss, "another key, or update a metric"),
    ("loss returns a mean, with `sample_weight`", weighted_loss(ops.mean), "return one value per row"),
    ("load a saved `Lambda(lambda …)`", saved_lambda(True), "`load_model(…, safe_mode=False)`, or a Layer"),
    ("`model.fit_generator`", attribute(lambda m, x, y: m.fit_generator), "`fit` with a `keras.utils.PyDataset`"),
    ("`model.metrics_tensors`", attribute(lambda m, x, y: m.metrics_tensors), "`metrics=[…]` of compile"),
    ("`Model(input=…, output=…)`", attribute(lambda m, x, y: keras.Model(input=m.inputs, output=m.outputs)),
     "`Model(inputs=…, outputs=…)`"),
    ("`Adam(lr=…)`", attribute(lambda m, x, y: keras.optimizers.Adam(lr=1e-3)), "`Adam(learning_rate=…)`"),
]


def try_idioms(data: tuple) -> list:
    """[{idiom, verdict: works | fails | silently wrong, error, instead}] for the Keras that is installed."""
    table = []
    for idiom, run, instead in IDIOMS:
        keras.utils.set_random_seed(0)
        error = ""
        try:
            verdict = "works" if run(*data) else "silently wrong"
        except Exception as problem:  # any kind of failure is what this table is about
            verdict, lines = "fails", [line.strip() for line in str(problem).splitlines() if line.strip()]
            error = f"{type(problem).__name__}: {lines[0] if lines else ''}"[:100]
        table.append({"idiom": idiom, "verdict": verdict, "error": error,
                      "instead": "" if verdict == "works" else instead})
    return table


def as_markdown(table: list) -> str:
    head = [f"| written as | Keras {keras.__version__} | write instead |", "| --- | --- | --- |"]
    return "\n".join(head + ["| {idiom} | {verdict} | {instead} |".format(**row) for row in table]) + "\n"


# ---------------------------------------------------------------- figures
def plot_curves(curves: dict) -> Figure:
    """Left: the curves lie on each other; right: how far each is from the first."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    first = np.array(next(iter(curves.values())))
    for number, (name, curve) in enumerate(curves.items()):
        left.plot(curve, color=f"C{number}", label=name, lw=2 * (len(curves) - number), alpha=0.6)
        right.plot(np.abs(np.array(curve) - first) + 1e-9, "o-", ms=3, color=f"C{number}", label=name)
    right.axhline(1e-6, color="0.4", ls="--", lw=1)
    left.set(xlabel="step", ylabel="loss", title="six forms of one objective")
    right.set(xlabel="step", yscale="log", title="|loss − loss of the first form| + 1e-9")
    left.legend(fontsize=8)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="training steps per form")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f"--steps {args.steps}: must be 1 or more")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    def seed(text: str) -> int:
        return range(10**9).index(int(text))               # else ValueError, from which argparse makes its message
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random draw, 0 … 999999999")
    parser.add_argument("--out-dir", type=Path, default=HERE / "outputs", help="where results and figures go")
    parser.add_argument("--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR, else data/.cache)")


def save_results(args: argparse.Namespace, script: str, metrics: dict, claims: list, figures: list,
                 started: float) -> dict:
    """Write <out-dir>/<script>.json in one move and return what it holds."""
    packages = [name for name in ("numpy", "scipy", "keras", "tensorflow", "matplotlib") if name in sys.modules]
    results = {
        "script": script, "quick": args.quick, "seed": args.seed,
        "config": {key: str(value) if isinstance(value, Path) else value
                   for key, value in vars(args).items() if key not in ("out_dir", "data_dir")},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": f"{os.cpu_count()} cores, {platform.machine()}", "seconds": round(time.perf_counter() - started, 1),
        "metrics": metrics, "claims": claims, "figures": figures,
    }
    path = args.out_dir / f"{script}.json"
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(results, ensure_ascii=False, indent=1, default=float) + "\n", encoding="utf-8")
    os.replace(partial, path)
    for claim in claims:
        verdict = {True: "holds", False: "does NOT hold", None: "not measurable here"}[claim["holds"]]
        print(f"{claim['id']} {verdict}: {claim['claim']} | article: {claim['expected']} | here: {claim['measured']}")
    print(f"{'QUICK RUN, not results. ' if args.quick else ''}Wrote {path} in {results['seconds']} s")
    return results


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    data, steps = make_data(args.seed), min(args.steps, 3) if args.quick else args.steps
    curves = {name: training_curve(form, data, steps, args.seed) for name, form in FORMS.items()}
    reference = np.array(curves["loss function"])
    difference = {name: float(np.abs(np.array(curve) - reference).max()) for name, curve in curves.items()}
    for name, curve in curves.items():
        print(f"{name:15s} {curve[0]:.6f} → {curve[-1]:.6f}   largest difference {difference[name]:.1e}")
    table = try_idioms(data)
    for row in table:
        print(f"{row['verdict']:15s} {row['idiom']}  {row['error']}")
    partial = args.out_dir / "idioms_table.md.part"
    partial.write_text(as_markdown(table), encoding="utf-8")
    os.replace(partial, args.out_dir / "idioms_table.md")
    plot_curves(curves).savefig(args.out_dir / "idioms_curves.png", dpi=150)
    metrics = {"backend": keras.backend.backend(), "steps": steps, "curves": curves, "difference": difference,
               "largest_difference": max(difference.values()), "table": table,
               "counts": {verdict: sum(row["verdict"] == verdict for row in table)
                          for verdict in ("works", "fails", "silently wrong")}}
    return save_results(args, "idioms", metrics, [], ["idioms_curves.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
