"""Activation functions where floats get small, large or undefined, on every backend.

Rows: gelu(-5), (-5.5), (-6) in float32, and x·min(1, eˣ) at -inf as it is copied from the README.
Their neighbours: the tails of every other function and slope, ±inf, kinks, other precisions.
"""

import json
import re

import numpy as np
import pytest
from scipy import special

import activations
from conftest import ROOT, run_script

EPSILON = 2.0**-23  # of float32
TAILS = [
    -80,
    -60,
    -40,
    -30,
    -20,
    -15,
    -12,
    -10,
    -8,
    -7,
    -6,
    -5.5,
    -5,
    -4,
    -3,
    3,
    5,
    8,
    10,
    20,
    40,
    80,
]
NEAR = [-2, -1.5, -0.5, -1e-3, -1e-10, 1e-10, 1e-3, 0.5, 1.5]
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


def sigmoid(x):
    return special.expit(x)


def softplus(x):
    return np.logaddexp(x, 0)


def elu(x):
    return x if x > 0 else np.expm1(x)


def elu_slope(x):
    return 1 if x > 0 else np.exp(x)


def sech(x):
    return 1 / np.cosh(x)


EXACT = {  # name → (f, f') of a float64, in forms that do not cancel in the tails
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "tanh": (np.tanh, lambda x: sech(x) ** 2),
    "softplus": (softplus, sigmoid),
    "swish": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x))),
    "swish_beta_2": (
        lambda x: x * sigmoid(2 * x),
        lambda x: sigmoid(2 * x) * (1 + 2 * x * sigmoid(-2 * x)),
    ),
    "gelu": (
        lambda x: x * special.ndtr(x),
        lambda x: special.ndtr(x) + x * np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5,
    ),
    "mish": (
        lambda x: x * np.tanh(softplus(x)),
        lambda x: np.tanh(softplus(x)) + x * sigmoid(x) * sech(softplus(x)) ** 2,
    ),
    "elu": (elu, elu_slope),
    "selu": (
        lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * np.expm1(x)),
        lambda x: SELU_SCALE * (1 if x > 0 else SELU_ALPHA * np.exp(x)),
    ),
    "tick": (
        lambda x: x if x > 0 else x * np.exp(x),
        lambda x: 1 if x > 0 else (1 + x) * np.exp(x),
    ),
}
# slopes on the left of each kink, or of the middle piece of three
KINKS = {
    "relu": {0: 0},
    "leaky_relu": {0: 0.01},
    "prelu_0.25": {0: 0.25},
    "elu": {0: 1},
    "selu": {0: SELU_SCALE * SELU_ALPHA},
    "tick": {0: 1},
    "hard_sigmoid": {-3: 1 / 6, 3: 1 / 6},
    "hard_tanh": {-1: 1, 1: 1},
    "hard_swish": {-3: -0.5, 3: 1.5},
    "hard_shrink": {-0.5: 1, 0.5: 1},
    "relu_squared": {0: 0},
}
# f(-inf), f(inf), f'(-inf), f'(inf)
LIMITS = {
    "sigmoid": (0, 1, 0, 0),
    "tanh": (-1, 1, 0, 0),
    "hard_sigmoid": (0, 1, 0, 0),
    "hard_tanh": (-1, 1, 0, 0),
    "relu": (0, np.inf, 0, 1),
    "leaky_relu": (-np.inf, np.inf, 0.01, 1),
    "prelu_0.25": (-np.inf, np.inf, 0.25, 1),
    "elu": (-1, np.inf, 0, 1),
    "selu": (-SELU_SCALE * SELU_ALPHA, np.inf, 0, SELU_SCALE),
    "softplus": (0, np.inf, 0, 1),
    "swish": (0, np.inf, 0, 1),
    "swish_beta_2": (0, np.inf, 0, 1),
    "gelu": (0, np.inf, 0, 1),
    "mish": (0, np.inf, 0, 1),
    "hard_swish": (0, np.inf, 0, 1),
    "hard_shrink": (-np.inf, np.inf, 1, 1),
    "relu_squared": (0, np.inf, 0, np.inf),
    "tick": (0, np.inf, 0, 1),
}
ELSEWHERE = f"""
import json, sys
sys.path.insert(0, {str(ROOT / "activation_functions")!r})
import numpy as np
import activations
found = {{}}
for name, points in json.load(sys.stdin).items():
    x = np.float32(points)
    function = activations.ACTIVATIONS[name]
    values = activations.evaluate(function, x).tolist()
    found[name] = [values, activations.derivative(function, x).tolist()]
json.dump(found, sys.stdout)
"""


def test_lists_are_complete():
    smooth_or_kinked = set(EXACT) | set(KINKS)
    assert smooth_or_kinked == set(LIMITS) == set(activations.ACTIVATIONS)


@pytest.fixture(scope="module", params=["tensorflow", "jax", "torch"])
def found(request, tmp_path_factory):
    """name → (points, values, slopes) of one backend, computed in a process of its own."""
    pytest.importorskip(request.param)
    points = {
        name: [*TAILS, *NEAR, *KINKS.get(name, {}), -np.inf, np.inf]
        for name in activations.ACTIVATIONS
    }
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "points.json").write_text(json.dumps(points))
    source = ELSEWHERE.replace("sys.stdin", f"open({str(folder / 'points.json')!r})")
    (folder / "elsewhere.py").write_text(source, encoding="utf-8")
    finished = run_script(folder / "elsewhere.py", KERAS_BACKEND=request.param)
    assert finished.returncode == 0, finished.stderr[-2000:]
    numbers = json.loads(finished.stdout)
    return {name: (points[name], *numbers[name]) for name in points}


@pytest.mark.parametrize("name", EXACT)
def test_digits_of_values_and_slopes_in_the_tails(found, name):
    """Relative errors; the slope's near its zero against the terms that cancel there."""
    points, values, slopes = found[name]
    for x, value, slope in zip(points, values, slopes, strict=True):
        if not np.isfinite(x) or x in KINKS.get(name, {}):
            continue
        exact = EXACT[name][0](np.float64(np.float32(x)))
        exact_slope = EXACT[name][1](np.float64(np.float32(x)))
        # the rounding of x·√½ alone moves Φ(x) by x²·ε/2
        allowed = (8 + (x * x / 2 if name == "gelu" else 0)) * EPSILON
        assert abs(value - exact) <= allowed * abs(exact) + 1e-37, f"{name}({x})"
        smallest = 0.05 if -4 < x < 0 else 0
        size = max(abs(exact_slope), smallest)
        assert abs(slope - exact_slope) <= 2 * allowed * size + 1e-37, f"{name}'({x})"


@pytest.mark.parametrize("x, exact", [(-5, -1.433258e-6), (-5.5, -1.044426e-7), (-6, -5.9195e-9)])
def test_gelu_on_the_left(found, x, exact):
    points, values, _ = found["gelu"]
    assert values[points.index(x)] == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("name", KINKS)
def test_slopes_at_kinks(found, name):
    points, _, slopes = found[name]
    for x, slope in KINKS[name].items():
        assert slopes[points.index(x)] == pytest.approx(slope, rel=1e-6), x


@pytest.mark.parametrize("name", LIMITS)
def test_values_and_slopes_at_infinity(found, name):
    _, values, slopes = found[name]
    assert [*values[-2:], *slopes[-2:]] == pytest.approx(LIMITS[name], rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", LIMITS)
def test_other_precisions_keep_their_type_and_limits(name, dtype):
    from quiet_keras import ops

    x = ops.cast([-np.inf, -1.0, 0.25, np.inf], dtype)
    value = activations.ACTIVATIONS[name](x)
    assert value.dtype == x.dtype
    value = ops.convert_to_numpy(ops.cast(value, "float64"))
    assert value[[0, 3]] == pytest.approx(LIMITS[name][:2], rel=1e-2, abs=1e-4)
    exact = activations.evaluate(activations.ACTIVATIONS[name], np.array([-1.0, 0.25]))
    np.testing.assert_allclose(value[1:3], exact, atol=0.01)


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_tick_as_the_readme_gives_it(page):
    """At ±inf, at 0, where eˣ overflows, far left, and at NaN."""
    text = (ROOT / "activation_functions" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    block = next(block for block in blocks if "def tick(x)" in block)
    exec(block, names := {})
    x = np.float32([-np.inf, np.inf, 0, 100, -100, np.nan])
    value = activations.evaluate(names["tick"], x)
    np.testing.assert_array_equal(value, np.float32([0, np.inf, 0, 100, 0, np.nan]))
    slope = activations.derivative(names["tick"], x[:5])
    np.testing.assert_allclose(slope, [0, 1, 1, 1, 0], atol=1e-37)


@pytest.mark.parametrize("name", LIMITS)
def test_a_plain_number_is_an_input_and_whole_numbers_are_never_wrong(name):
    function = activations.ACTIVATIONS[name]
    exact = activations.evaluate(function, np.array([-2.0, 3.0]))
    for x, value in zip((-2.0, 3.0), exact, strict=True):
        assert float(function(x)) == pytest.approx(value, rel=1e-6, abs=1e-7)
    try:
        whole = np.asarray(function(np.array([-2, 3])))
    except Exception:  # each backend has its own word for "not of this type"
        return
    np.testing.assert_allclose(whole, exact, rtol=1e-6, atol=1e-7)
