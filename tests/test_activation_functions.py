"""activation_functions against float64 formulas, scipy.special, finite differences and exact arithmetic."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_script
from scipy import special

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("linear_network.py is about TensorFlow", allow_module_level=True)

from activation_functions import compare, depth, float_rounding, gallery, linear_network  # noqa: E402

FOLDER = ROOT / "activation_functions"
RELU = lambda x: np.maximum(x, 0)                                                          # noqa: E731
ELU = lambda x, a=1.0: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0)))                  # noqa: E731
REFERENCE = {   # float64, written independently of gallery.py
    "sigmoid": special.expit, "tanh": np.tanh, "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1), "relu": RELU, "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "prelu_0.25": lambda x: np.where(x > 0, x, 0.25 * x), "elu": ELU,
    "selu": lambda x: 1.0507009873554804934 * ELU(x, 1.6732632423543772848), "softplus": lambda x: np.logaddexp(x, 0),
    "swish": lambda x: x * special.expit(x), "swish_beta_2": lambda x: x * special.expit(2 * x),
    "gelu": lambda x: x * special.ndtr(x), "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "hard_shrink": lambda x: np.where(np.abs(x) >= 0.5, x, 0),
    "relu_squared": lambda x: RELU(x) ** 2, "tick": lambda x: np.where(x > 0, x, x * np.exp(np.minimum(x, 0))),
}
POINTS = np.float32([*np.linspace(-12, 12, 4801), *np.linspace(-1e4, 1e4, 2001), *np.geomspace(1e-30, 1, 61), 0, -0.0])


def test_every_function_has_a_reference():
    assert set(REFERENCE) == set(gallery.ACTIVATIONS)


@pytest.mark.parametrize("name", REFERENCE)
def test_value_is_right_to_a_few_units_in_the_last_place(name):
    x = POINTS.astype("float64")
    value, exact = gallery.evaluate(gallery.ACTIVATIONS[name], POINTS), REFERENCE[name](x)
    scale = np.maximum(np.abs(exact), np.minimum(np.abs(x), 1)) + 1e-30   # last place of f, or of x where f is smaller
    most = 8 if name == "gelu" else 4   # 1 + erf cancels on the negative side
    assert np.max(np.abs(value - exact) / scale) <= most * 2.0 ** -23


@pytest.mark.parametrize("name", REFERENCE)
def test_limits_and_nan(name):
    value = gallery.evaluate(gallery.ACTIVATIONS[name], np.float32([-np.inf, np.inf, np.nan]))
    low, high = (REFERENCE[name](np.float64(v)) for v in (-1e6, 1e6))
    for found, limit in ((value[0], low), (value[1], high)):
        assert (found == np.inf * np.sign(limit)) if abs(limit) > 1e3 else abs(found - limit) < 1e-6
    assert np.isnan(value[2])


@pytest.mark.parametrize("name", REFERENCE)
def test_derivative_is_finite_and_that_of_the_formula(name):
    function, h = gallery.ACTIVATIONS[name], 1e-5
    assert np.isfinite(gallery.derivative(function, POINTS)).all()
    x = np.linspace(-6, 6, 241) + 0.0123   # off the kinks
    numeric = (REFERENCE[name](x + h) - REFERENCE[name](x - h)) / (2 * h)
    np.testing.assert_allclose(gallery.derivative(function, x), numeric, atol=2e-6)


def test_slope_at_zero():
    for name, slope in (("sigmoid", 0.25), ("swish", 0.5), ("gelu", 0.5), ("mish", 0.6), ("tick", 1),
                        ("softplus", 0.5), ("tanh", 1)):
        assert gallery.derivative(gallery.ACTIVATIONS[name], np.float32([0.0]))[0] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("name, low, at", [("tick", -np.exp(-1), -1.0), ("swish", -0.278464543, -1.278464543),
                                           ("gelu", -0.169971, -0.751792), ("mish", -0.308843, -1.192431)])
def test_minima(name, low, at):
    row = gallery.describe(gallery.ACTIVATIONS[name], 4001)
    assert row["minimum"] == pytest.approx(low, abs=2e-6) and row["minimum_at"] == pytest.approx(at, abs=1e-4)


def test_naive_form_is_the_only_one_with_bad_gradients():
    checks = gallery.check_forms()
    assert checks.pop("naive")["gradient_not_finite"] > 0
    assert all(row["gradient_not_finite"] == row["value_not_finite"] == 0 for row in checks.values())


def test_gates():
    a, b = (np.random.default_rng(s).normal(size=100).astype("float32") for s in (0, 1))
    for name, gate in (("glu", special.expit), ("reglu", RELU), ("geglu", lambda x: x * special.ndtr(x)),
                       ("swiglu", lambda x: x * special.expit(x)), ("bilinear", lambda x: x)):
        value = keras.ops.convert_to_numpy(gallery.GATES[name](a, b))
        np.testing.assert_allclose(value, a * gate(b.astype("float64")), atol=1e-6)


def test_trained_beta_gets_a_gradient():
    layer = gallery.TrainableSwish()
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(tf.constant([[1.0, -2.0]])))
    s = special.expit(np.array([1.0, -2.0]))
    expected = (np.array([1, 4]) * s * (1 - s)).sum()
    assert tape.gradient(value, layer.beta.value).numpy() == pytest.approx(expected, abs=1e-6)


# ---------------------------------------------------------------- the rounding
def test_the_flush_is_hard_shrink_bit_for_bit():
    check = float_rounding.check_identity(np.random.default_rng(1), 1_000_000)
    assert check["bits_unlike_emulation"] == 0
    assert check["values_unlike_hard_shrink"] == check["of_these_at_exactly_half"] == 2
    assert check["numpy_largest_change"] < 1e-7


@pytest.fixture(scope="module")
def modes():
    rng = np.random.default_rng(0)
    parameters = linear_network.initial_parameters(1.0, rng)
    x = rng.normal(size=(64, 784)).astype("float32")
    emulated = linear_network.forward(parameters, x, linear_network.flush_emulated)
    return float_rounding.execution_modes(parameters, x), emulated


@pytest.mark.parametrize("name", ["TensorFlow eager", "tf.function, optimiser off", "Keras predict, optimiser off"])
def test_the_flush_survives(modes, name):
    """Fails if a graph optimiser has folded the scalings away."""
    close = np.isclose(modes[0][name], modes[1], atol=1e-4).mean()   # a unit on the threshold may fall either way
    assert close > 0.98


@pytest.mark.parametrize("name", ["NumPy, keeps denormals", "tf.function, default", "Keras predict, default"])
def test_the_flush_is_gone(modes, name):
    linear = modes[0]["NumPy, keeps denormals"]
    np.testing.assert_allclose(modes[0][name], linear, atol=1e-4)
    assert np.abs(linear - modes[1]).max() > 0.1


def test_superposition():
    parameters = linear_network.initial_parameters(1.0, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(40, 784)).astype("float32")
    assert float_rounding.superposition_error(parameters, x, linear_network.flush) < 1e-4
    assert float_rounding.superposition_error(parameters, x, linear_network.flush, tf.constant) > 1e-2


def test_surrogate_gradient_is_that_of_a_blurred_step():
    u = np.float32([-2.0, -0.5, -0.2, 0.0, 0.25, 0.5, 0.75, 3.0])
    activation = linear_network.make_activation("surrogate", width=0.5, area=0.5)
    slope = gallery.derivative(activation, u)
    np.testing.assert_allclose(slope, [1, 2, 0.4, 0, 0.5, 2, 1.5, 1], atol=1e-6)
    assert (gallery.derivative(linear_network.make_activation("backprop"), u) == 1).all()


def test_evolution_estimates_the_gradient():
    """Where nothing is flushed (|u| is large) the estimate points along the exact gradient of the linear network."""
    rng = np.random.default_rng(0)
    parameters = linear_network.initial_parameters(1.0, rng)
    parameters[1][:], parameters[3][:] = 20, 1000
    x, y = rng.normal(size=(8, 784)).astype("float32"), rng.integers(0, 10, 8)
    variables = [tf.Variable(p) for p in parameters]
    with tf.GradientTape() as tape:
        logits = linear_network.forward(variables, tf.constant(x), lambda u: u)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
    exact = [g.numpy() for g in tape.gradient(loss, variables)]
    estimate = linear_network.es_gradient(parameters, x, y, 0.01, 400, rng)
    for layer, least in ((5, 0.9), (4, 0.9)):
        a, b = exact[layer].ravel(), estimate[layer].ravel()
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > least


def test_shift_moves_by_at_most_one_pixel():
    x = np.zeros((200, 28, 28), "float32")
    x[:, 10, 20] = 1
    moved = linear_network.shift(x, 1, np.random.default_rng(0))
    _, down, right = np.nonzero(moved)
    assert moved.sum() == 200 and {*down} == {9, 10, 11} and {*right} == {19, 20, 21}


def test_surrogate_learns_what_the_linear_network_cannot():
    """XOR of two patches: the flushed network, trained and evaluated in TensorFlow; the same weights in NumPy fail."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 28, 28)).astype("float32") * 0.1
    x[:, 8:20, 8:20] += rng.choice([-1, 1], 2000)[:, None, None]
    sign = rng.choice([-1, 1], 2000)
    x[:, 0:8, :] += sign[:, None, None]
    y = ((x[:, 14, 14] > 0) == (sign > 0)).astype("int32")
    tf.random.set_seed(0)
    parameters = linear_network.train_by_gradient("surrogate", (x[:1500], y[:1500]), 6, 64, rng, lambda *_: None)
    test = (x[1500:], y[1500:])
    flushed = linear_network.accuracy(parameters, test, linear_network.flush)
    in_numpy = linear_network.forward(parameters, test[0].reshape(500, -1), linear_network.flush).argmax(1)
    assert flushed > 0.95 and (in_numpy == test[1]).mean() < 0.8


# ---------------------------------------------------------------- comparison and depth
@pytest.mark.parametrize("name, gain", [("relu", 2 ** 0.5), ("tanh", 1.5925), ("sigmoid", 1.8462), ("selu", 1.0),
                                        ("swish", 1.6765), ("gelu", 1.5335), ("mish", 1.4868), ("tick", 1.3575)])
def test_gains(name, gain):
    assert compare.gain_of(name) == pytest.approx(gain, abs=1e-3)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "selu"])
def test_gradient_factor_is_within_fifteen_percent_of_theory(name):
    row = depth.gradients_by_depth(name, np.random.default_rng(3), 50, 300)
    assert row["factor"] == pytest.approx(row["theory"], rel=0.15)


def test_members_are_independent_networks():
    """A member's output is that of a plain network with its weights, and its step is Adam's at its own rate."""
    model, _ = compare.build_network("relu", 5, 3, [1e-3, 1e-2], [0.0, 0.5], 0)
    x = np.random.default_rng(0).normal(size=(7, 2, 5)).astype("float32")
    h, dense = x[:, 1], [layer for layer in model.layers if isinstance(layer, compare.MemberDense)]
    for layer in dense:
        kernel, bias = (keras.ops.convert_to_numpy(weight)[1] * 1e-2 for weight in (layer.kernel, layer.bias))
        u = h @ kernel + bias
        h = np.maximum(u, 0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x))[:, 1], u, atol=1e-5)
    before = keras.ops.convert_to_numpy(dense[0].kernel)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1.0), loss=loss)
    model.train_on_batch(x, np.zeros((7, 2), "int32"))
    step = np.abs(keras.ops.convert_to_numpy(dense[0].kernel) - before).max((1, 2)) * [1e-3, 1e-2]
    np.testing.assert_allclose(step, [1e-3, 1e-2], rtol=0.05)


def test_interval_is_students():
    from scipy import stats
    values = [0.9, 0.92, 0.91, 0.95, 0.93]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    row = compare.interval(values)
    assert [row["mean"] - row["half_width"], row["mean"] + row["half_width"]] == pytest.approx([low, high])


# ---------------------------------------------------------------- other backends, bad input
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("script", ["gallery", "compare"])
def test_other_backends(backend, script, tmp_path):
    pytest.importorskip(backend)
    finished = subprocess.run([sys.executable, str(FOLDER / f"{script}.py"), "--quick", "--out-dir", str(tmp_path)],
                              env={**os.environ, "KERAS_BACKEND": backend, "KEXUE_OFFLINE": "1"},
                              capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    results = json.loads((tmp_path / f"{script}.json").read_text(encoding="utf-8"))
    if script == "gallery":
        assert results["metrics"]["backend"] == backend and all(claim["holds"] for claim in results["claims"])


@pytest.mark.parametrize("script, flags, word", [
    ("linear_network", ["--methods", "magic"], "--methods"), ("linear_network", ["--epochs", "0"], "--epochs"),
    ("linear_network", ["--es-steps", "-1"], "--es-steps"), ("compare", ["--seeds", "1"], "--seeds"),
    ("depth", ["--depth", "1"], "--depth"), ("float_rounding", ["--weights", "nowhere.npz"], "--weights")])
def test_bad_flags_end_in_one_line(script, flags, word, tmp_path):
    finished = run_script(FOLDER / f"{script}.py", *flags, "--out-dir", tmp_path)
    assert finished.returncode == 2 and word in finished.stderr and "Traceback" not in finished.stderr


def test_weights_without_the_method(tmp_path):
    np.savez(tmp_path / "w.npz", other=np.zeros(3))
    with pytest.raises(ValueError, match="no weights called surrogate_0"):
        float_rounding.load_weights(tmp_path / "w.npz", "surrogate")
