"""activation_functions against float64 formulas, scipy.special, finite differences, arithmetic."""

import json

import numpy as np
import pytest
from scipy import linalg, special, stats

import activations
import block_evolution
import evolution
import flushed
import members
import tasks
from conftest import ROOT, load, run_script
from quiet_keras import keras, ops, tf

if tf is None:
    pytest.skip("the flush is about TensorFlow", allow_module_level=True)

FOLDER = ROOT / "activation_functions"
EXPERIMENTS = FOLDER / "experiments"


def relu(x):
    return np.maximum(x, 0)


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


REFERENCE = {  # float64, written independently of activations.py
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "relu": relu,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "prelu_0.25": lambda x: np.where(x > 0, x, 0.25 * x),
    "elu": elu,
    "selu": lambda x: 1.0507009873554804934 * elu(x, 1.6732632423543772848),
    "softplus": lambda x: np.logaddexp(x, 0),
    "swish": lambda x: x * special.expit(x),
    "swish_beta_2": lambda x: x * special.expit(2 * x),
    "gelu": lambda x: x * special.ndtr(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_shrink": lambda x: np.where(np.abs(x) >= 0.5, x, 0),
    "relu_squared": lambda x: relu(x) ** 2,
    "tick": lambda x: np.where(x > 0, x, x * np.exp(np.minimum(x, 0))),
}
POINTS = np.float32(
    [
        *np.linspace(-12, 12, 4801),
        *np.linspace(-1e4, 1e4, 2001),
        *np.geomspace(1e-30, 1, 61),
        0,
        -0.0,
    ]
)


# ---------------------------------------------------------------- the functions
def test_every_function_has_a_reference():
    assert set(REFERENCE) == set(activations.ACTIVATIONS)


@pytest.mark.parametrize("name", REFERENCE)
def test_value_is_right_to_a_few_units_in_the_last_place(name):
    x = POINTS.astype("float64")
    value = activations.evaluate(activations.ACTIVATIONS[name], POINTS)
    exact = REFERENCE[name](x)
    # last place of f, or of x where f is smaller
    scale = np.maximum(np.abs(exact), np.minimum(np.abs(x), 1)) + 1e-30
    most = 4
    assert np.max(np.abs(value - exact) / scale) <= most * 2.0**-23


@pytest.mark.parametrize("name", REFERENCE)
def test_limits_and_nan(name):
    edges = np.float32([-np.inf, np.inf, np.nan])
    value = activations.evaluate(activations.ACTIVATIONS[name], edges)
    for found, far in zip(value, (-1e6, 1e6), strict=False):
        limit = REFERENCE[name](np.float64(far))
        if abs(limit) > 1e3:
            assert found == np.inf * np.sign(limit)
        else:
            assert abs(found - limit) < 1e-6
    assert np.isnan(value[2])


@pytest.mark.parametrize("name", REFERENCE)
def test_derivative_is_finite_and_that_of_the_formula(name):
    function = activations.ACTIVATIONS[name]
    assert np.isfinite(activations.derivative(function, POINTS)).all()
    x = np.linspace(-6, 6, 241) + 0.0123  # off the kinks
    h = 1e-5
    numeric = (REFERENCE[name](x + h) - REFERENCE[name](x - h)) / (2 * h)
    np.testing.assert_allclose(activations.derivative(function, x), numeric, atol=2e-6)


@pytest.mark.parametrize(
    "name, slope",
    [
        ("sigmoid", 0.25),
        ("swish", 0.5),
        ("gelu", 0.5),
        ("mish", 0.6),
        ("tick", 1),
        ("softplus", 0.5),
        ("tanh", 1),
    ],
)
def test_slope_at_zero(name, slope):
    found = activations.derivative(activations.ACTIVATIONS[name], np.float32([0.0]))
    assert found[0] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize(
    "name, low, at",
    [
        ("tick", -np.exp(-1), -1.0),
        ("swish", -0.278464543, -1.278464543),
        ("gelu", -0.169971, -0.751792),
        ("mish", -0.308843, -1.192431),
    ],
)
def test_minima(name, low, at):
    row = activations.describe(activations.ACTIVATIONS[name], 4001)
    assert row["minimum"] == pytest.approx(low, abs=2e-6)
    assert row["minimum_at"] == pytest.approx(at, abs=1e-4)


def test_gates():
    a, b = (np.random.default_rng(seed).normal(size=100).astype("float32") for seed in (0, 1))
    for name, gate in (
        ("glu", special.expit),
        ("reglu", relu),
        ("geglu", REFERENCE["gelu"]),
        ("swiglu", REFERENCE["swish"]),
        ("bilinear", lambda x: x),
    ):
        value = ops.convert_to_numpy(activations.GATES[name](a, b))
        np.testing.assert_allclose(value, a * gate(b.astype("float64")), atol=1e-6)


def test_trained_beta_gets_a_gradient():
    layer = activations.TrainableSwish()
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(tf.constant([[1.0, -2.0]])))
    s = special.expit(np.array([1.0, -2.0]))
    expected = (np.array([1, 4]) * s * (1 - s)).sum()
    assert tape.gradient(value, layer.beta.value).numpy() == pytest.approx(expected, abs=1e-6)


# ---------------------------------------------------------------- the post's script
@pytest.fixture(scope="module")
def post():
    return load("activation_functions/run.py")


def test_naive_form_is_the_only_one_with_bad_gradients(post):
    checks = post.forms_of_tick()
    assert checks.pop("naive")["gradient_not_finite"] > 0
    for row in checks.values():
        assert row["gradient_not_finite"] == row["value_not_finite"] == 0


def test_saturation_of_the_post(post):
    """P(|f'(z)| < 0.1) and the share of −10 … 10 against closed forms."""
    table = post.saturation()
    # σ' = 0.1 where σ = (1 − √0.6)/2
    edge = special.logit((1 + 0.6**0.5) / 2)
    assert table["sigmoid"]["saturated_fraction"] == pytest.approx(
        2 * special.ndtr(-edge), abs=1e-4
    )
    assert table["sigmoid"]["saturated_axis"] == pytest.approx(1 - edge / 10, abs=1e-4)
    assert table["sigmoid"]["power_of_steepest"] == pytest.approx(0.25**10)
    assert table["relu"]["saturated_fraction"] == pytest.approx(0.5, abs=1e-4)
    # |(1 + x)eˣ| = 0.1 at −1 + W(±0.1e), on three branches of Lambert's W
    near = -1 + special.lambertw([0.1 * np.e, -0.1 * np.e]).real
    far = -1 + special.lambertw(-0.1 * np.e, -1).real
    share = special.ndtr(far) + special.ndtr(near[0]) - special.ndtr(near[1])
    assert table["tick"]["saturated_fraction"] == pytest.approx(share, abs=1e-4)


def test_a_tied_gate_is_swish_and_another_gate_is_not(post, monkeypatch):
    assert post.tied_gate(np.random.default_rng(0)) <= 1e-6
    monkeypatch.setattr(activations, "glu", activations.reglu)
    assert post.tied_gate(np.random.default_rng(0)) > 0.1


# ---------------------------------------------------------------- the rounding
@pytest.fixture(scope="module")
def float_rounding():
    return load("activation_functions/experiments/float_rounding.py")


def test_the_flush_is_hard_shrink_bit_for_bit(float_rounding):
    check = float_rounding.check_identity(np.random.default_rng(1), 1_000_000)
    assert check["bits_unlike_emulation"] == 0
    assert check["values_unlike_hard_shrink"] == check["of_these_at_exactly_half"] == 2
    assert check["numpy_largest_change"] < 1e-7


@pytest.fixture(scope="module")
def modes(float_rounding):
    rng = np.random.default_rng(0)
    parameters = flushed.initial_parameters(1.0, rng)
    x = rng.normal(size=(64, 784)).astype("float32")
    emulated = flushed.forward(parameters, x, flushed.flush_emulated)
    return float_rounding.execution_modes(parameters, x), emulated


@pytest.mark.parametrize(
    "name", ["TensorFlow eager", "tf.function, optimiser off", "Keras predict, optimiser off"]
)
def test_the_flush_survives(modes, name):
    """Fails if a graph optimiser has folded the scalings away."""
    logits, emulated = modes
    close = np.isclose(logits[name], emulated, atol=1e-4).mean()
    assert close > 0.98  # a unit on the threshold may fall either way


@pytest.mark.parametrize(
    "name", ["NumPy, keeps denormals", "tf.function, default", "Keras predict, default"]
)
def test_the_flush_is_gone(modes, name):
    logits, emulated = modes
    linear = logits["NumPy, keeps denormals"]
    np.testing.assert_allclose(logits[name], linear, atol=1e-4)
    assert np.abs(linear - emulated).max() > 0.1


def test_openai_graph_is_all_zeros_on_a_cpu_and_linear_in_numpy():
    rng = np.random.default_rng(0)
    parameters = flushed.initial_parameters(2**0.5, rng)
    x = rng.normal(size=(8, 784)).astype("float32")
    assert (flushed.openai_network(parameters, tf.constant(x)).numpy() == 0).all()
    linear = flushed.forward(parameters, x, lambda u: u)
    np.testing.assert_allclose(flushed.openai_network(parameters, x), linear, atol=1e-4)


def test_superposition(float_rounding):
    parameters = flushed.initial_parameters(1.0, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(40, 784)).astype("float32")
    error = float_rounding.superposition_error
    assert error(parameters, x, flushed.flush) < 1e-4
    assert error(parameters, x, flushed.flush, tf.constant) > 1e-2


def test_surrogate_gradient_is_that_of_a_blurred_step():
    u = np.float32([-2.0, -0.5, -0.2, 0.0, 0.25, 0.5, 0.75, 3.0])
    slope = activations.derivative(flushed.flush_surrogate, u)
    np.testing.assert_allclose(slope, [1, 2, 0.4, 0, 0.5, 2, 1.5, 1], atol=1e-6)
    assert (activations.derivative(flushed.flush_blind, u) == 1).all()
    for function in (flushed.flush_surrogate, flushed.flush_blind):
        np.testing.assert_array_equal(function(tf.constant(u)), flushed.flush_emulated(u))


def test_folding_keeps_the_network():
    """A trained network in its evaluation mode, and the three affine maps that it becomes."""
    keras.utils.set_random_seed(0)
    model = flushed.build_network("surrogate")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=(300, 784)).astype("float32")
    model.fit(x, rng.integers(0, 10, 300), epochs=2, verbose=0)
    parameters = flushed.folded(model)
    h = x
    for weights, bias in zip(parameters[:4:2], parameters[1:4:2], strict=True):
        h = flushed.flush_emulated(h @ weights + bias)
    close = np.isclose(h @ parameters[4] + parameters[5], model(x), atol=1e-3).all(1)
    assert close.mean() > 0.9  # a unit on the threshold may fall either way


def test_evolution_estimates_the_gradient():
    """Where nothing is flushed (|u| is large), it points along the linear network's gradient."""
    rng = np.random.default_rng(0)
    parameters = flushed.initial_parameters(1.0, rng)
    parameters[1][:] = 20
    parameters[3][:] = 1000
    x = rng.normal(size=(8, 784)).astype("float32")
    y = rng.integers(0, 10, 8)
    variables = [tf.Variable(p) for p in parameters]
    with tf.GradientTape() as tape:
        logits = flushed.forward(variables, tf.constant(x), lambda u: u)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
    exact = [g.numpy() for g in tape.gradient(loss, variables)]
    estimate = evolution.es_gradient(parameters, x, y, 0.01, 400, rng)
    for layer in (5, 4):
        a = exact[layer].ravel()
        b = estimate[layer].ravel()
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9


@pytest.fixture(scope="module")
def unflushed():
    """u1, u2, z, (W2, W3, b3), labels of a network in which no unit comes near ½ or jumps."""
    rng = np.random.default_rng(0)
    w2, w3 = (rng.normal(size=shape).astype("float32") / 30 for shape in ((512, 512), (512, 10)))
    u1 = 5 + rng.normal(size=(8, 512)).astype("float32") * 0.1
    u2 = u1 @ w2 + 1000
    b3 = -u2.mean(0) @ w3
    labels = np.eye(10, dtype="float32")[rng.integers(0, 10, 8)]
    return u1, u2, u2 @ w3 + b3, (w2, w3, b3), labels


def exact_gradients(u1, u2, z, weights, labels):
    """∂L/∂u1, ∂L/∂u2, ∂L/∂z where the network is linear."""
    w2, w3, _ = weights
    g3 = special.softmax(z, 1) - labels
    g2 = g3 @ w3.T
    return g2 @ w2.T, g2, g3


def test_perturbed_logits_and_single_units_give_the_gradient(unflushed):
    u1, u2, z, weights, labels = unflushed
    _, g2, g3 = exact_gradients(*unflushed)
    found = block_evolution.logits_gradient(tf.constant(z), labels)
    np.testing.assert_allclose(found, g3, atol=2e-3)
    found = block_evolution.one_at_a_time(tf.constant(u2), tf.constant(z), weights[1], labels)
    np.testing.assert_allclose(found, g2, atol=2e-3 * np.abs(g2).max())


def test_orthogonal_blocks_give_the_gradient(unflushed):
    """With all 64 rows the effects of the other units of a block cancel, whatever the order."""
    u1, u2, _, weights, labels = unflushed
    rng = np.random.default_rng(1)
    rows = linalg.hadamard(64).astype("float32")
    signs = evolution.random_signs((8, 512), rng)
    order = rng.permutation(512)
    found = block_evolution.block_by_block(
        tf.constant(u1), tf.constant(u2), *map(tf.constant, weights), labels, order, rows, signs
    ).numpy()
    exact = exact_gradients(*unflushed)[0]
    assert (found * exact).sum() / np.linalg.norm(found) / np.linalg.norm(exact) > 0.98


def test_a_unit_that_no_perturbation_switches_gets_no_credit(unflushed):
    u1, u2, _, weights, labels = unflushed
    u1 = u1.copy()
    u1[:, :100] = 0.1  # 0.1 ± 0.3 stay below ½
    rng = np.random.default_rng(1)
    rows = linalg.hadamard(64).astype("float32")[:4]
    signs = evolution.random_signs((8, 512), rng)
    found = block_evolution.block_by_block(
        tf.constant(u1), tf.constant(u2), *weights, labels, rng.permutation(512), rows, signs
    ).numpy()
    assert (found[:, :100] == 0).all() and (found[:, 100:] != 0).mean() > 0.9


def test_blocks_learn_what_the_linear_network_cannot():
    """XOR of two patches again, from losses alone."""
    train, test = xor_of_patches()
    parameters = block_evolution.train_by_blocks(train, 6, 64, 0, lambda *seen: None)
    assert flushed.accuracy(parameters, test, flushed.flush) > 0.9


def test_shift_moves_by_at_most_one_pixel():
    x = np.zeros((200, 28, 28), "float32")
    x[:, 10, 20] = 1
    moved = tasks.shift(x, 1, np.random.default_rng(0))
    _, down, right = np.nonzero(moved)
    assert moved.sum() == 200
    assert {*down} == {9, 10, 11} and {*right} == {19, 20, 21}


def xor_of_patches() -> tuple:
    """(x_train, y_train), (x_test, y_test): is the sign of the middle that of the upper rim?"""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 28, 28)).astype("float32") * 0.1
    x[:, 8:20, 8:20] += rng.choice([-1, 1], 2000)[:, None, None]
    sign = rng.choice([-1, 1], 2000)
    x[:, 0:8, :] += sign[:, None, None]
    y = ((x[:, 14, 14] > 0) == (sign > 0)).astype("int32")
    return (x[:1500], y[:1500]), (x[1500:], y[1500:])


def test_surrogate_learns_what_the_linear_network_cannot():
    """XOR of two patches, evaluated in TensorFlow; the same weights in NumPy fail."""
    train, test = xor_of_patches()
    parameters = flushed.train_by_gradient("surrogate", train, 6, 64, 0, lambda *seen: None)
    in_numpy = flushed.forward(parameters, test[0].reshape(500, -1), flushed.flush).argmax(1)
    assert flushed.accuracy(parameters, test, flushed.flush) > 0.95
    assert (in_numpy == test[1]).mean() < 0.8


# ---------------------------------------------------------------- comparison and depth
@pytest.fixture(scope="module")
def compare():
    return load("activation_functions/experiments/compare.py")


@pytest.mark.parametrize(
    "name, gain",
    [
        ("relu", 2**0.5),
        ("tanh", 1.5925),
        ("sigmoid", 1.8462),
        ("selu", 1.0),
        ("swish", 1.6765),
        ("gelu", 1.5335),
        ("mish", 1.4868),
        ("tick", 1.3575),
    ],
)
def test_gains(name, gain):
    assert members.gain_of(name) == pytest.approx(gain, abs=1e-3)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "selu"])
def test_gradient_factor_is_within_fifteen_percent_of_theory(name):
    depth = load("activation_functions/experiments/depth.py")
    row = depth.gradients_by_depth(name, np.random.default_rng(3), 50, 300)
    assert row["factor"] == pytest.approx(row["theory"], rel=0.15)


def test_members_are_independent_networks():
    """A member is a plain network with its weights, and its step is Adam's at its own rate."""
    model, _ = members.build_network("relu", 5, 3, [1e-3, 1e-2], [0.0, 0.5], 0)
    x = np.random.default_rng(0).normal(size=(7, 2, 5)).astype("float32")
    h = x[:, 1]
    dense = [layer for layer in model.layers if isinstance(layer, members.MemberDense)]
    for layer in dense:
        kernel = ops.convert_to_numpy(layer.kernel)[1] * 1e-2
        bias = ops.convert_to_numpy(layer.bias)[1] * 1e-2
        u = h @ kernel + bias
        h = np.maximum(u, 0)
    np.testing.assert_allclose(ops.convert_to_numpy(model(x))[:, 1], u, atol=1e-5)
    before = ops.convert_to_numpy(dense[0].kernel)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1.0), loss=loss)
    model.train_on_batch(x, np.zeros((7, 2), "int32"))
    step = np.abs(ops.convert_to_numpy(dense[0].kernel) - before).max((1, 2)) * [1e-3, 1e-2]
    np.testing.assert_allclose(step, [1e-3, 1e-2], rtol=0.05)


def test_interval_is_students(compare):
    values = [0.9, 0.92, 0.91, 0.95, 0.93]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    row = compare.interval(values)
    ends = [row["mean"] - row["half_width"], row["mean"] + row["half_width"]]
    assert ends == pytest.approx([low, high])


def test_the_comparison_can_come_out_any_way(compare):
    """C6.4 with a clear advantage, with one that hides behind its interval, and a disadvantage."""
    keys = [
        f"{pair}, {task}"
        for pair in ("swish − relu", "tick − swish")
        for task in ("mnist", "adult")
    ]

    def judged(mean, half_width):
        return compare.judge_order(dict.fromkeys(keys, {"mean": mean, "half_width": half_width}))

    assert judged(0.002, 0.003)["holds"]
    assert not judged(0.002, 0.008)["holds"]
    assert not judged(-0.02, 0.003)["holds"]


def test_the_bias_claim_needs_an_advantage_that_shrinks(compare):
    def judged(advantage, lost):
        gained = {"tick, mnist": [{"mean": advantage, "half_width": 0.001}]}
        return compare.judge_bias(gained, {"tick, mnist": {"mean": lost, "half_width": 0.001}})

    assert judged(0.01, 0.005)["holds"]
    assert not judged(0.01, -0.005)["holds"]
    assert not judged(0.0, 0.005)["holds"]


def test_the_gallery_has_room_for_one_more_function(monkeypatch):
    pytest.importorskip("keras")
    gallery = load("activation_functions/experiments/gallery.py")
    one_more = {**gallery.ACTIVATIONS, "mine": gallery.ACTIVATIONS["relu"]}
    monkeypatch.setattr(gallery, "ACTIVATIONS", one_more)
    row = {"saturated_fraction": 0.5, "minimum": None}
    figure = gallery.plot_gallery(dict.fromkeys(one_more, row))
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert len(titles) == 19
    assert titles[-1] == "mine, 50% saturated"


# ---------------------------------------------------------------- other backends, bad input
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize(
    "script",
    [
        "run",
        "experiments/gallery",
        pytest.param("experiments/compare", marks=pytest.mark.thorough),
    ],
)
def test_other_backends(backend, script, tmp_path):
    pytest.importorskip(backend)
    path = FOLDER / f"{script}.py"
    finished = run_script(path, "--quick", "--out-dir", tmp_path, KERAS_BACKEND=backend)
    assert finished.returncode == 0, finished.stderr[-2000:]
    results = json.loads((tmp_path / f"{path.stem}.json").read_text(encoding="utf-8"))
    if script != "experiments/compare":
        assert results["metrics"]["backend"] == backend
        assert all(claim["holds"] for claim in results["claims"])


@pytest.mark.parametrize(
    "script, flags, word",
    [
        ("linear_network", ["--methods", "magic"], "--methods"),
        ("linear_network", ["--epochs", "0"], "--epochs"),
        ("linear_network", ["--es-steps", "-1"], "--es-steps"),
        ("compare", ["--seeds", "1"], "--seeds"),
        ("depth", ["--depth", "1"], "--depth"),
        ("float_rounding", ["--weights", "nowhere.npz"], "--weights"),
    ],
)
def test_bad_flags_end_in_one_line(script, flags, word, tmp_path):
    finished = run_script(EXPERIMENTS / f"{script}.py", *flags, "--out-dir", tmp_path)
    assert finished.returncode == 2
    assert word in finished.stderr and "Traceback" not in finished.stderr


def test_the_flush_is_tensorflows_whatever_backend_is_set(tmp_path):
    path = EXPERIMENTS / "float_rounding.py"
    finished = run_script(path, "--quick", "--out-dir", tmp_path, KERAS_BACKEND="jax")
    assert finished.returncode == 0 and finished.stderr == "", finished.stderr[-2000:]


def test_weights_that_are_no_network(float_rounding, tmp_path):
    def refuses(message):
        with pytest.raises(ValueError, match=message):
            float_rounding.load_weights(tmp_path / "w.npz", "surrogate")

    np.savez(tmp_path / "w.npz", other=np.zeros(3))
    refuses("no surrogate_0")
    np.savez(tmp_path / "w.npz", **{f"surrogate_{i}": np.zeros(3) for i in range(6)})
    refuses("not a network")
    (tmp_path / "w.npz").write_bytes(b"PK\x03\x04 cut short")
    refuses("not an .npz file")
    (tmp_path / "w.npz").write_text("text")
    refuses("not an .npz file")


def test_the_functions_that_the_post_prints_are_those_that_are_measured(post):
    x = np.linspace(-20, 20, 4001)
    forms = {"tick_max": activations.tick_max, "tick_relu": activations.tick_relu}
    for name in ("sigmoid", "relu", "leaky_relu", "swish", "tick"):
        forms[name] = activations.ACTIVATIONS[name]
    for name, function in forms.items():
        printed = getattr(post, name)(x)
        assert activations.evaluate(function, x) == pytest.approx(printed, abs=2e-6), name
    a, b = np.random.default_rng(0).normal(size=(2, 500)).astype("float32")
    gated = np.asarray(activations.glu(a, b))
    assert gated == pytest.approx(post.glu(a, b), abs=1e-6)
