"""Models that people write: each of a kind that once gave a wrong answer, with its exact value.

Five neighbours stand beside each example. What cannot be computed is refused in one line; what can
is right in every method; and what a method refuses costs the others nothing.
"""

import argparse

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import load
from expressions import evaluate, names_in, parse_expression, surely_finite
from generated_step import compile_step
from moments import exact_moments, mean_field
from reaction_network import parse_network
from state_space import build, lost, solve_within, stiff_exponential
from stochastic_simulation import simulate
from tau_leaping import KINDS, tau_leap

tool = load("master_equation/simulate.py")
RANDOM = ("exact", *KINDS)


class Run:
    """What `simulate.py MODEL …` said and wrote."""

    def __init__(self, folder, text, *words):
        path = folder / "model.txt"
        path.write_text(text.replace(" / ", "\n"), encoding="utf-8")
        parser = argparse.ArgumentParser()
        tool.flags(parser)
        parser.add_argument("--quick", action="store_true")
        args = parser.parse_args([str(path), *words])
        args.out_dir = folder
        self.metrics, _, self.figures = tool.main(args)
        rows = (folder / "simulate.csv").read_text(encoding="utf-8").splitlines()
        table = np.array([row.split(",") for row in rows[1:]], dtype=float)
        self.table = dict(zip(rows[0].split(","), table.T, strict=True))
        self.arrays = dict(np.load(folder / "simulate.npz"))
        self.not_run = self.metrics.get("not_run", {})

    def at_end(self, method, name):
        """(mean, sd) of the last time; sd is NaN where a method has none."""
        spread = self.table.get(f"{method}_sd_{name}", [np.nan])[-1]
        return self.table[f"{method}_mean_{name}"][-1], spread

    def distributions(self):
        return {k: v for k, v in self.arrays.items() if "_distribution_" in k}


@pytest.fixture
def run(tmp_path):
    return lambda text, *words: Run(tmp_path, text, *words)


def near(mean, sd, n=10_000):
    """A simulated mean within 4.5 standard errors of the exact one."""
    return pytest.approx(mean, abs=4.5 * sd / np.sqrt(n) + 1e-9)


def refusal(run, text, *words):
    with pytest.raises(ValueError) as caught:
        run(text, *words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- a reaction that has run out
def test_a_reaction_runs_out(run):
    found = run("species X = 20 / 2X -> 0 : 0.02", "--times", "0,5,50")
    assert found.table["states_mean_X"] == pytest.approx([20, 6.86770, 1.06402], abs=5e-6)
    assert found.table["states_sd_X"] == pytest.approx([0, 2.09517, 1.02985], abs=5e-6)
    for k, mean in enumerate(found.table["states_mean_X"]):
        assert found.table["exact_mean_X"][k] == near(mean, found.table["states_sd_X"][k])


@pytest.mark.parametrize(
    "text, left",
    [
        ("species X = 5 / 3X -> 0 : 1", {"X": 2}),
        ("species X = 3 / species Y = 5 / X + Y -> 0 : 1", {"X": 0, "Y": 2}),
        ("species X = 7 / 2X -> X : 1", {"X": 1}),
        ("species X = 1 / 2X -> 0 : 1", {"X": 1}),
        ("species X = 6 / 2X -> 0 : = 0.5*X*(X - 1)", {"X": 0}),
        ("species X = 4 / X -> 0 : = -X*(0 - 1)", {"X": 0}),
        ("species X = 4 / X -> 0 : 0", {"X": 4}),
    ],
)
def test_every_method_stops_where_nothing_can_happen(run, text, left):
    found = run(text, "--methods", "exact", "states", "explicit", "--times", "0,1000")
    assert not found.not_run
    for name, count in left.items():
        for method in ("exact", "states", "explicit"):
            mean, sd = found.at_end(method, name)
            assert mean == pytest.approx(count, abs=1e-8) and sd == pytest.approx(0, abs=1e-4)


# ---------------------------------------------------------------- whatever the parser admits
def test_a_comparison_is_a_number(run):
    text = "species X = 0 / 0 -> X : = 10*(X < 20) / X -> 0 : 1"
    found = run(text, "--methods", "exact", "states", "explicit", "mean-field", "--times", "0,50")
    assert not found.not_run
    mean, sd = found.at_end("states", "X")
    assert mean == pytest.approx(9.98131, abs=5e-6)
    assert found.at_end("exact", "X")[0] == near(mean, sd)


LAWS = {  # a law → the same in Python, for single numbers
    "10*(X < 20)": lambda X, Y: 10 * (X < 20),
    "2 < X < 5": lambda X, Y: float(2 < X < 5),
    "(X < 3) + (X < 6) + (Y >= 2)": lambda X, Y: (X < 3) + (X < 6) + (Y >= 2),
    "(X > 1)*(Y > 1)*X": lambda X, Y: (X > 1) * (Y > 1) * X,
    "min(X, 3, Y)": lambda X, Y: min(X, 3, Y),
    "max(X, 2, Y, 5)": lambda X, Y: max(X, 2, Y, 5),
    "min(X)": lambda X, Y: X,
    "(X == 3) + 2*(X != 3)": lambda X, Y: 1 if X == 3 else 2,
    "X > 2 and Y < 4 or X == 0": lambda X, Y: float(X > 2 and Y < 4 or X == 0),
    "not X": lambda X, Y: float(not X),
    "0 <= X <= Y <= 9": lambda X, Y: float(X <= Y <= 9),
    "+X + -(-Y)": lambda X, Y: X + Y,
    "2**X": lambda X, Y: 2**X,
    "X**2 + Y**3 + X**0.5": lambda X, Y: X**2 + Y**3 + X**0.5,
    "exp(-X) + sqrt(Y) + log(1 + X)": lambda X, Y: np.exp(-X) + Y**0.5 + np.log(1 + X),
    "7": lambda X, Y: 7,
}


def wait_of(network):
    """The total rate that the generated code uses, at X, Y = 0 … 7: from its wait with u = 1/e."""
    grid = np.array([[x, y] for x in range(8) for y in range(8)], dtype=float).T
    wait, _, buffers = compile_step(network, [0, 1])
    t, u, low = np.zeros(64), np.full((2, 64), np.exp(-1)), np.full(64, np.inf)
    with np.errstate(all="ignore"):
        wait(list(grid), t, list(u), list(np.empty((buffers, 64))), low)
        return grid, 1 / t


@pytest.mark.parametrize("law", LAWS)
def test_every_method_computes_the_law_that_was_written(law):
    network = parse_network(f"species X = 2\nspecies Y = 1\n0 -> X : = {law}\n0 -> Y : 1")
    grid, total = wait_of(network)
    expected = np.array([LAWS[law](*map(float, column)) for column in grid.T])
    assert total - 1 == pytest.approx(expected, abs=1e-9)
    assert network.propensities(grid)[0] == pytest.approx(expected)
    assert network.propensities(grid, large_numbers=True)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "law, said",
    [
        ("exp(X, 2)", "exp takes one value"),
        ("min()", "min takes values"),
        ("min(X, key=2)", "min takes values"),
        ("exp*X", "only numbers"),
        ("abs(X)", "unknown function 'abs'"),
        ("X^2", "a power is written **"),
        ("X % 2", "only numbers"),
        ("1 if X else 2", "only numbers"),
        ("X in Y", "comparisons are"),
        ("X = 2", "== compares"),
        ("X < 'a'", "only numbers"),
        ("10**10**10", "cannot be computed"),
        ("(-8)**0.5 + 0*X", "must be"),
        ("1e400*X", "must be finite"),
        ("X.real", "only numbers"),
        ("X[0]", "only numbers"),
        ("True*X", "only numbers"),
        ("lambda: 1", "cannot read"),
        ("~X", "only + and - and not"),
        ("-" * 5000 + "X", "cannot read"),
    ],
)
def test_what_cannot_be_computed_is_refused_while_reading(law, said):
    for statement in (f"X -> 0 : = {law}", f"X -> 0 : 1\nobserve y = {law}"):
        with pytest.raises(ValueError, match="^model") as caught:
            parse_network(f"species X = 3\nspecies Y = 1\n{statement}")
        assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, said",
    [
        ("species min = 1 / min -> 0 : 1", "'min' is a word"),
        ("species if = 1 / if -> 0 : 1", "'if' is a word"),
        ("species X = 1 / X -> 0 : 2*X", "a law of counts begins with ="),
        ("species X = 1 / X -> 0 : 1 / at 2: X = 1, X = 2", "sets X twice"),
        ("species X = 1 / X -> 0 : 1 / at 2: Z = 1", "unknown species 'Z'"),
        ("species X = 1 / X -> 0 : 1 / when X = 0: X = 1", "== compares"),
        ("species X = 1 / X -> 0 : 1 / when Z > 0: X = 1", "'Z'"),
        ("species X = 1 / X -> 0 : 1 / observe r = 1/(X - 1)", "'observe r' is inf at the start"),
        ("species X = 1 / X -> 0 : 1 / observe X = 2", "already taken"),
        ("species X = 9007199254740992 / X -> 0 : 1", "counts end at"),
    ],
)
def test_other_statements_are_refused_in_one_line(text, said):
    with pytest.raises(ValueError) as caught:
        parse_network(text.replace(" / ", "\n"))
    assert said in str(caught.value) and "\n" not in str(caught.value)


# ---------------------------------------------------------------- 'when' acts when it becomes true
def test_when_acts_once_as_its_condition_becomes_true(run):
    text = "species X = 0 / species Y = 0 / 0 -> X : 1 / 0 -> Y : 1 / when X > 4: Y = 0"
    found = run(text, "--methods", "exact", "states", "--times", "0,50")
    mean, sd = found.at_end("states", "Y")
    assert (mean, sd) == (pytest.approx(45, abs=1e-6), pytest.approx(7.0711, abs=5e-5))
    assert found.at_end("exact", "Y")[0] == near(45, sd)
    assert found.at_end("exact", "Y")[1] == pytest.approx(sd, rel=0.03)


@pytest.mark.parametrize(
    "text, name, mean",
    [
        # true at the start: it does not become true
        ("species X = 9 / 0 -> X : 1 / when X > 4: X = 0", "X", 14),
        # each third arrival, a clock
        ("species X = 0 / 0 -> X : 1 / when X >= 3: X = 0", "X", None),
        # set off by an event at a time
        ("species X = 0 / species Y = 7 / 0 -> X : 0 / at 2: X = 5 / when X > 4: Y = 1", "Y", 1),
        # one sets off the other
        (
            "species X = 2 / species Y = 0 / species Z = 0 / 0 -> X : 1"
            " / when X == 3: Y = 1 / when Y > 0: Z = 6",
            "Z",
            None,
        ),
        # set off again each time that it has been false
        ("species X = 3 / species N = 0 / X -> 0 : 1 / when X == 0: X = 3", "X", None),
        # what it sets keeps the condition true: it does not act again
        ("species X = 0 / 0 -> X : 1 / when X > 1: X = 10", "X", None),
        # a conservation law that an event breaks
        ("species A = 4 / species B = 0 / A -> B : 1 / when A == 0: A = 4", "B", None),
    ],
)
def test_when_is_the_same_in_simulation_and_on_the_state_space(text, name, mean):
    network = parse_network(text.replace(" / ", "\n"))
    space, p, _ = solve_within(network, [1.0, 5.0], tolerance=1e-9)
    means, sds = space.moments(p)
    drawn = simulate(network, [1.0, 5.0], 20_000, seed=3)
    for k in range(2):
        assert drawn["mean"][name][k] == near(means[name][k], sds[name][k], 20_000)
        assert drawn["sd"][name][k] == pytest.approx(sds[name][k], rel=0.05, abs=1e-6)
    if mean is not None:
        assert means[name][1] == pytest.approx(mean, abs=1e-6)


def test_statements_that_set_each_other_off_for_ever_are_named():
    text = "species X = 0\n0 -> X : 1\nwhen X == 1: X = 2\nwhen X == 2: X = 1"
    with pytest.raises(ValueError, match="without end"):
        simulate(parse_network(text), [9.0], 10)


# ---------------------------------------------------------------- observables, not whole numbers
def test_an_observable_is_a_share(run):
    text = "species X = 70 / X -> 0 : 0.01 / observe c = X/100"
    found = run(text, "--times", "0:20:51")
    mean, sd = found.at_end("states", "c")
    assert (mean, sd) == (pytest.approx(0.573112, abs=5e-7), pytest.approx(0.032232, abs=5e-7))
    assert found.at_end("exact", "c")[0] == near(mean, sd)
    for name, table in found.distributions().items():
        assert table.sum(axis=1) == pytest.approx(np.ones(51), abs=1e-9), name
    assert found.arrays["states_values_c"] == pytest.approx(np.arange(71) / 100)


@pytest.mark.parametrize(
    "law, value",
    [
        ("X/2", lambda x: x / 2),
        ("X/3", lambda x: x / 3),
        ("sqrt(X)", np.sqrt),
        ("X - 30", lambda x: x - 30),
        ("-X", lambda x: -x),
        ("(X > 5)", lambda x: 1.0 * (x > 5)),
        ("exp(X)", np.exp),
        ("1/(1 + X)", lambda x: 1 / (1 + x)),
        ("0.1 + 0.2 + 0*X", lambda x: 0.3 + 0 * x),
    ],
)
def test_distributions_of_observables(run, law, value):
    text = f"species X = 12 / X -> 0 : 0.5 / observe c = {law}"
    found = run(text, "--times", "0,1,4", "--methods", "exact", "states")
    assert not found.not_run
    law_of_x = found.arrays["states_distribution_X"]
    for method in ("states", "exact"):
        table, values = found.arrays[f"{method}_distribution_c"], found.arrays[f"{method}_values_c"]
        assert table.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-9)
        mean = found.table[f"{method}_mean_c"]
        assert table @ values == pytest.approx(mean, rel=1e-9)
        assert (np.diff(values) > 0).all()
    expected = law_of_x @ value(found.arrays["states_values_X"])
    assert found.table["states_mean_c"] == pytest.approx(expected, rel=1e-9)


def test_an_observable_with_too_many_values_has_moments_and_no_distribution(monkeypatch, run):
    monkeypatch.setattr("stochastic_simulation.MOST_VALUES", 8)
    text = "species X = 40 / X -> 0 : 0.1 / observe c = X/7"
    found = run(text, "--times", "0,3", "--methods", "exact", "--trajectories", "500")
    assert "no distribution of c" in found.metrics["exact"]["note"]
    assert found.at_end("exact", "c")[0] == pytest.approx(found.at_end("exact", "X")[0] / 7)


# ---------------------------------------------------------------- large populations
def test_a_thousand_million(run):
    text = "species X = 1000000000 / 0 -> X : 1"
    found = run(text, "--methods", "exact", "--times", "0,100")
    assert found.at_end("exact", "X")[1] == pytest.approx(10.0, rel=0.03)
    assert found.at_end("exact", "X")[0] == near(1_000_000_100, 10)


@pytest.mark.parametrize("start", [2**31 - 50, 2**31, 3 * 10**9, 10**12, 10**15])
def test_counts_above_what_32_bits_hold(start):
    network = parse_network(f"species X = {start}\n0 -> X : 1\nobserve gap = X - {start}")
    result = simulate(network, [0.0, 100.0], 3000, keep=True, histograms=True)
    assert (result["states"][0] == start).all()
    gap = result["states"][1, 0].astype(float) - start
    assert gap.mean() == near(100, 10, 3000) and gap.std() == pytest.approx(10, rel=0.05)
    assert result["sd"]["X"][1] == pytest.approx(gap.std()) == result["sd"]["gap"][1]
    values, counts = result["histograms"]["X"]
    assert (counts.sum(axis=1) == 3000).all() and values[0] == start


def test_moments_of_large_populations_agree():
    network = parse_network("species X = 100000000\n0 -> X : 5\nX -> 0 : 1e-8")
    mean, sd = exact_moments(network, [100.0])
    drawn = simulate(network, [100.0], 10_000, seed=1)
    assert drawn["mean"]["X"][0] == near(mean["X"][0], sd["X"][0])
    assert drawn["sd"]["X"][0] == pytest.approx(sd["X"][0], rel=0.03)


# ---------------------------------------------------------------- one stage refuses, others do not
def test_the_mean_field_of_a_thousand_million(run):
    text = "species X = 1000000000 / X -> 0 : 1"
    found = run(text, "--methods", "mean-field", "--times", "0:5:6")
    assert found.at_end("mean-field", "X")[0] == pytest.approx(6_737_947, abs=1)
    assert "path_times" not in found.arrays and set(found.figures) == {"simulate_means"}


def test_a_reset_and_its_mean_field(run):
    text = "species A = 50 / A -> 0 : 1 / when A == 0: A = 50"
    found = run(text, "--times", "0,400")
    harmonic = sum(1 / k for k in range(1, 51))
    mean, sd = found.at_end("states", "A")
    assert mean == pytest.approx(50 / harmonic, abs=5e-6) == pytest.approx(11.11307, abs=5e-6)
    assert found.at_end("exact", "A")[0] == near(mean, sd)
    assert list(found.not_run) == ["mean-field"] and "when" in found.not_run["mean-field"]


RUNAWAY = "species X = 1 / 0 -> X : = X**3"  # infinite by t = 1/2 in the mean field


@pytest.mark.parametrize(
    "text, words, refused",
    [
        ("species X = 5 / X -> 2X : 3", ["exact", "mean-field", "--max-steps", "256"], "exact"),
        ("species X = 0 / 0 -> X : 9", ["states", "mean-field", "--limit", "X=3"], "states"),
        ("species X = 50 / X -> 0 : 1", ["states", "explicit", "--tau", "1e-9"], "explicit"),
        ("species X = 5 / X -> 0 : 1 / when X == 1: X = 5", ["states", "implicit"], "implicit"),
        ("species X = 9000000 / X -> 0 : 1e-9", ["states", "exact"], "states"),
        (RUNAWAY, ["mean-field", "states", "--limit", "X=99", "--tolerance", "0.9"], "mean-field"),
        ("species X = 5 / 0 -> X : 1 / X -> 0 : 1", ["states", "exact", "--solver", "eigen"], None),
    ],
)
def test_what_one_method_refuses_costs_the_others_nothing(run, text, words, refused):
    found = run(text, "--times", "0,1,2", "--trajectories", "300", "--methods", *words)
    assert list(found.not_run) == ([refused] if refused else [])
    methods = [word for word in words if word in tool.METHODS and word != refused]
    assert methods
    for method in methods:
        assert np.isfinite(found.table[f"{method}_mean_X"]).all()
        assert method in found.metrics


# ---------------------------------------------------------------- species that only events move
def test_a_switch_that_an_event_turns_off(run):
    text = "species on = 1 / species X = 0 / 0 -> X : = 10*on / X -> 0 : 0.1 / at 20: on = 0"
    words = ["--tau", "0.25", "--trajectories", "2000"]
    found = run(text, "--times", "0,50", "--methods", *tool.METHODS, *words)
    assert not found.not_run
    exact = 100 * (1 - np.exp(-2)) * np.exp(-3)
    mean, sd = found.at_end("states", "X")
    assert mean == pytest.approx(4.304912, abs=5e-7) == pytest.approx(exact)
    assert found.at_end("mean-field", "X")[0] == pytest.approx(exact, rel=1e-6)
    for method in RANDOM:
        bias = 0.0 if method == "exact" else 0.2
        error = 4.5 * sd / np.sqrt(2000) + bias
        assert found.at_end(method, "X")[0] == pytest.approx(mean, abs=error), method
        assert found.at_end(method, "on")[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "species on = 0 / species X = 0 / 0 -> X : = on / X -> 0 : 1 / at 1: on = 7",
        "species a = 1 / species b = 2 / species X = 0 / 0 -> X : = a*b / X -> 0 : 1"
        " / at 1: a = 3, b = 0 / at 2: b = 4",
        "species on = 0 / species X = 0 / 0 -> X : = 1 + 3*on / X -> 0 : 1 / when X > 3: on = 1",
        "species on = 5 / species X = 3 / X -> 0 : 1 / at 1: on = 0",
        "species on = 1 / species X = 0 / 0 -> X : = 2*on / X -> 0 : 1 / at 0: on = 2",
        "species on = 1 / species X = 0 / 0 -> X : = 2*on / X -> 0 : 1 / at 99: on = 0",
        "species on = 1 / species X = 4 / X -> 0 : = on*X / at 1: X = 4 / at 1: on = 2",
    ],
)
def test_other_switches(text):
    network = parse_network(text.replace(" / ", "\n"))
    times = [0.5, 1.0, 3.0]
    space, p, _ = solve_within(network, times, tolerance=1e-9)
    means, sds = space.moments(p)
    drawn = simulate(network, times, 20_000, seed=2)
    for name in network.species:
        for k in range(3):
            assert drawn["mean"][name][k] == near(means[name][k], sds[name][k], 20_000)
    if network.affine():
        closed = exact_moments(network, times)
        assert closed[0]["X"] == pytest.approx(means["X"], abs=1e-6)
        assert closed[1]["X"] == pytest.approx(sds["X"], abs=1e-5)


# ---------------------------------------------------------------- laws that lead below zero
BELOW_ZERO = [
    "species X = 5 / X -> 0 : = 1",
    "species X = 5 / 0 -> X : 0.5 / X -> 0 : = 1",
    "species X = 5 / 2X -> 0 : = X",
    "species X = 5 / species Y = 2 / X + Y -> 0 : = X",
    "species X = 5 / X -> 0 : = 0.1 + X",
    "species X = 8 / 3X -> 0 : = X*(X - 1)",
]


@pytest.mark.parametrize("text", BELOW_ZERO)
@pytest.mark.parametrize("method", ["exact", "states", "explicit", "implicit"])
def test_a_law_that_leads_below_zero_is_named(run, text, method):
    said = refusal(run, text, "--methods", method, "--times", "0,40", "--trajectories", "500")
    # an implicit leap may refuse before its counts are few enough
    assert "multiply it by" in said or (method == "implicit" and "above zero" in said)


@pytest.mark.parametrize("text", [BELOW_ZERO[0], BELOW_ZERO[1], BELOW_ZERO[4]])
def test_the_mean_field_does_not_go_below_zero(run, text):
    said = refusal(run, text, "--methods", "mean-field", "--times", "0,40")
    assert "takes X below 0" in said


def test_states_with_a_limit_say_the_same(run):
    words = ["--methods", "states", "--limit", "X=5", "--times", "0,10"]
    assert "takes X below 0" in refusal(run, BELOW_ZERO[0], *words)
    found = run("species X = 5 / X -> 0 : = 1*(X >= 1)", *words)
    assert found.at_end("states", "X")[0] == pytest.approx(0.042903, abs=5e-7)


@pytest.mark.parametrize(
    "text",
    [
        "species A = 10 / species B = 0 / A -> B : = 10 - B",  # zero where A is, by conservation
        "species X = 5 / X -> 0 : = min(X, 2)",
        "species X = 5 / X -> 0 : = 3*X/(1 + X)",
        "species X = 5 / 2X -> 0 : = X*(X - 1)/2",
        "species X = 5 / 0 -> X : 0.5 / X -> 0 : = 1*(X >= 1)",
    ],
)
def test_laws_that_end_at_zero_run_in_every_method(run, text):
    methods = ["exact", "states", "explicit", "--tau", "0.01"]
    found = run(text, "--times", "0,3", "--methods", *methods)
    assert not found.not_run
    name = "A" if "species A" in text else "X"
    mean, sd = found.at_end("states", name)
    assert found.at_end("exact", name)[0] == near(mean, sd)
    assert found.at_end("explicit", name)[0] == pytest.approx(mean, abs=5 * sd / 100 + 0.05)


def test_a_rate_that_becomes_negative_is_named():
    network = parse_network("species X = 0\n0 -> X : = 10.5 - X\n0 -> X : 1\nX -> 0 : 0.1")
    with pytest.raises(ValueError, match="negative"):
        simulate(network, [30.0], 50)
    with pytest.raises(ValueError, match="negative"):
        solve_within(network, [30.0], {"X": 40})


# ---------------------------------------------------------------- leaps keep conservation laws
def test_leaps_keep_what_is_conserved(run):
    text = "species A = 10 / species B = 0 / A -> B : 1"
    found = run(text, "--methods", "explicit", "--tau", "1", "--times", "0,20")
    assert found.at_end("explicit", "B") == (10, 0)
    assert "halved" in found.metrics["explicit"]["note"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text, conserved",
    [
        ("species A = 10 / species B = 0 / A -> B : 1", [1, 1]),
        (
            "species A = 3 / species B = 0 / species C = 1 / A -> B : 1 / B -> C : 2 / C -> A : 3",
            [1, 1, 1],
        ),
        ("species P = 9 / species P2 = 0 / 2P -> P2 : 0.3 / P2 -> 2P : 0.1", [1, 2]),
        (
            "species S = 20 / species I = 2 / species R = 0 / S + I -> 2I : 0.3 / I -> R : 1",
            [1, 1, 1],
        ),
        (
            "species E = 2 / species S = 9 / species C = 0 / species P = 0"
            " / E + S -> C : 1 / C -> E + S : 1 / C -> E + P : 2",
            [0, 1, 1, 1],
        ),
        (
            "species A = 5 / species B = 0 / A -> B : = 2*A/(1 + A) / B -> A : 0.2 / at 2: A = 5",
            None,
        ),
    ],
)
def test_every_kind_of_leap_keeps_conservation_laws(kind, text, conserved):
    network = parse_network(text.replace(" / ", "\n"))
    states = tau_leap(network, [1.0, 1.9, 6.0], 400, 0.8, kind, seed=1)["states"]
    assert (states >= 0).all()
    if conserved:
        start = np.dot(conserved, network.initial)
        kept = np.einsum("s,tsn->tn", np.array(conserved, float), states)
        assert kept == pytest.approx(np.full(kept.shape, start))


# ---------------------------------------------------------------- names, lines and times as written
@pytest.mark.parametrize(
    "name", ["greater", "less", "equal", "e", "pi", "time", "times", "np", "w"]
)
def test_names_that_the_program_uses_itself_are_free(run, name):
    text = f"species {name} = 5 / {name} -> 0 : = {name}*({name} >= 1)*(not ({name} == 9))"
    found = run(text, "--methods", "exact", "states", "explicit", "--times", "0,5")
    assert not found.not_run
    assert found.at_end("states", name)[0] == pytest.approx(5 * np.exp(-5), abs=1e-9)


def test_names_of_other_alphabets_are_refused():
    """Python takes X and a full-width 1 for X1."""
    with pytest.raises(ValueError, match="names are of"):
        parse_network("species X1 = 5\nspecies X１ = 50\nX1 -> 0 : 1\nX１ -> 0 : = 2*X１")


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_comment_ends_with_its_line(end):
    network = parse_network(f"species X = 5 # note{end}X -> 0 : 3\r\nX -> 0 : 1\rX -> X : 2")
    assert network.reactions == ("X -> 0 : 1", "X -> X : 2")


def test_minus_zero_is_zero(run):
    found = run("species X = 3 / parameter k = -0.0 / X -> 0 : k / X -> 0 : -0", "--times", "0,5")
    assert not found.not_run
    for method in ("exact", "states", "mean-field"):
        assert found.at_end(method, "X")[0] == 3


@pytest.mark.parametrize(
    "times, moment", [("0:0.3:4", "0.1"), ("0.3", "0.1*3"), ("0:0.7:8", "0.6")]
)
def test_an_event_at_a_time_of_output_has_happened(run, times, moment):
    text = f"species X = 3 / X -> 0 : 0 / at {moment}: X = 7"
    found = run(text, "--methods", *tool.METHODS, "--times", times, "--trajectories", "10")
    at = np.flatnonzero(np.isclose(found.table["time"], eval(moment)))[0]
    for method in tool.METHODS:
        expected = np.where(np.arange(len(found.table["time"])) >= at, 7, 3)
        assert found.table[f"{method}_mean_X"].tolist() == expected.tolist(), method


@pytest.mark.parametrize(
    "text", ["0:50:1", "0:1:1000000000000", "5,5", "2,1", "1:0:3", "0:5", "nan"]
)
def test_times_that_mean_nothing_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        tool.read_times(text)


def test_a_limit_of_lambda(run):
    words = ["--methods", "states", "--times", "0,5", "--limit", "lambda=5"]
    found = run("species lambda = 5 / lambda -> 0 : 1", *words)
    assert found.at_end("states", "lambda_")[0] == pytest.approx(5 * np.exp(-5), abs=1e-9)


# ---------------------------------------------------------------- what is not finite
def test_a_law_that_an_infinite_number_bounds(run):
    found = run("species X = 5 / X -> 0 : = min(X, exp(1000))", "--times", "0,5")
    assert not found.not_run
    assert found.at_end("states", "X")[0] == pytest.approx(5 * np.exp(-5), abs=1e-9)


@pytest.mark.parametrize(
    "text, values",
    [
        ("observe r = 1/X", [np.inf, np.nan]),
        ("observe r = log(X)", [-np.inf, np.nan]),
        ("observe r = X/(X + Y)", [np.nan, np.nan]),
        ("observe r = sqrt(X - 1)", [np.nan, np.nan]),
    ],
)
def test_an_observable_without_a_value_costs_the_others_nothing(run, recwarn, text, values):
    model = f"species X = 5 / species Y = 2 / X -> 0 : 1 / Y -> 0 : 1 / {text}"
    methods = ["exact", "states", "explicit"]
    found = run(model, "--times", "0,5", "--methods", *methods)
    assert not found.not_run and not recwarn.list and found.figures
    for method in methods:
        assert found.at_end(method, "X")[0] == near(5 * np.exp(-5), 0.183)
        assert found.at_end(method, "r") == pytest.approx(values, nan_ok=True)
        assert "not finite: r" in found.metrics[method]["note"]
        assert f"{method}_distribution_r" not in found.arrays


@pytest.mark.parametrize(
    "text",
    [
        "species Y = 0 / species X = 3 / X -> 0 : 1 / 0 -> Y : = 1/X / 0 -> X : 1",
        "species X = 3 / species Y = 0 / 0 -> X : = 1/X / X -> 0 : 1 / 0 -> Y : 1",
        "species X = 3 / 0 -> X : = X**(-2) / X -> 0 : 1",
        "species X = 0 / 0 -> X : = 10.5 - X / 0 -> X : 8 / X -> 0 : 0.1",
        "species X = 1 / species Y = 90 / 0 -> Y : 10 / 0 -> X : 1 / X -> 0 : = 2*(Y > 100)",
    ],
)
@pytest.mark.parametrize("method", ["exact", "states", "explicit", "implicit"])
def test_a_rate_that_is_none_is_refused_in_every_method(run, text, method):
    said = refusal(run, text, "--methods", method, "--times", "0,9", "--trajectories", "500")
    assert "finite" in said or "must be a number" in said or "multiply it by" in said


@pytest.mark.parametrize(
    "law, finite",
    [
        ("X/(1 + X)", True),
        ("k*X**2/(k**2 + X**2)", True),
        ("exp(-X)*X", True),
        ("log(1 + X) + sqrt(X)", True),
        ("X/Y", False),
        ("exp(X)", False),
        ("X**(-1)", False),
        ("(X - 3)**0.5", False),
        ("1/(1 - 1)", False),
    ],
)
def test_laws_that_are_surely_finite(law, finite):
    network = parse_network("species X = 4\nspecies Y = 1\nparameter k = 2\nX -> X : = X")
    assert surely_finite(parse_expression(law), network.constants) == finite


@pytest.mark.parametrize(
    "law, needed, guarded",
    [
        ("X", 1, True),
        ("X*(X - 1)", 2, True),
        ("2*X*Y/(1 + X + Y)", 1, True),
        ("min(X, Y)", 1, True),
        ("(X >= 2)*Y", 2, True),
        ("X", 2, False),
        ("Y > 100", 1, False),
        ("max(X, Y)", 1, False),
        ("X + Y - Y", 1, False),
    ],
)
def test_laws_whose_form_shows_that_they_end_at_zero(law, needed, guarded):
    network = parse_network(f"species X = 4\nspecies Y = 101\n{needed}X -> 0 : = {law}")
    assert (network.unguarded == []) == guarded


def test_a_condition_that_is_not_a_number_is_not_true():
    text = "species X = 2\nspecies N = 0\nX -> 0 : 1\nwhen 0*(1/X): N = 1"
    with np.errstate(all="ignore"):
        found = simulate(parse_network(text), [99.0], 50)
    assert found["mean"]["N"][0] == 0


# ---------------------------------------------------------------- numbers that are far apart
def test_an_observable_that_falls_by_many_powers_of_ten(run):
    text = "species X = 300 / X -> 0 : 1 / observe c = 10**X"
    found = run(text, "--methods", "exact", "states", "--times", "0,5", "--trajectories", "500")
    exact = (1 + 9 * np.exp(-5)) ** 300
    assert not found.not_run
    assert found.at_end("states", "c")[0] == pytest.approx(exact, rel=1e-6)
    assert 1 <= found.at_end("exact", "c")[0] < 1e12


def test_counts_that_pass_the_largest_are_refused(run):
    text = "species X = 9007199254740990 / 0 -> X : 100"
    assert "2**53" in refusal(run, text, "--methods", "exact", "--times", "0,5")
    with pytest.raises(ValueError, match="at most 1,000,000 molecules"):
        parse_network("species X = 0\n0 -> 9007199254740993X : 1")


@pytest.mark.parametrize("fast", [1e9, 1e12, 1e15])
def test_a_stiff_network_of_few_states(fast):
    """A and B share the molecules at once; half of them are lost at 0.001."""
    text = f"species A = 20\nspecies B = 0\nspecies C = 0\nA -> B : {fast}\nB -> A : {fast}"
    space, p, _ = solve_within(parse_network(text + "\nB -> C : 1e-3"), [5.0])
    means, sds = space.moments(p)
    lost_each = 1 - np.exp(-0.0025)
    assert means["C"][0] == pytest.approx(20 * lost_each, rel=2e-6)
    assert sds["C"][0] == pytest.approx(np.sqrt(20 * lost_each * (1 - lost_each)), rel=2e-6)
    assert p.sum() == pytest.approx(1, abs=1e-12)


def test_a_stiff_open_network_keeps_count_of_what_it_loses():
    network = parse_network("species X = 0\n0 -> X : 1e9\nX -> 0 : 1e8")
    space, p, used = solve_within(network, [5.0], {"X": 80})
    mean, sd = space.moments(p)
    assert used == "dense" and mean["X"][0] == pytest.approx(10, abs=1e-9)
    assert sd["X"][0] == pytest.approx(np.sqrt(10), abs=1e-9)
    with pytest.raises(ValueError, match="enlarge that limit"):
        solve_within(network, [5.0], {"X": 20})


@pytest.mark.parametrize("duration", [1e-3, 1.0, 30.0])
def test_the_dense_exponential_is_that_of_scipy(duration):
    space = build(parse_network("species X = 3\n0 -> X : 4\nX -> 0 : 1"), {"X": 12})
    expected = scipy.linalg.expm(space.generator.toarray() * duration)
    assert stiff_exponential(space.generator, space.escape, duration) == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize("text", ["species X = 3 / X -> X : 1", "species X = 3 / X -> 0 : 0"])
def test_networks_in_which_nothing_moves(run, text):
    found = run(text, "--times", "0,5")
    assert not found.not_run and found.at_end("states", "X") == (3, 0)


def test_a_leap_that_is_too_long_is_named(run):
    text = "species X = 0 / 0 -> X : 1000 / X -> 0 : 10"
    words = ["--methods", "explicit", "--trajectories", "300", "--times", "0,20", "--tau", "0.25"]
    assert "choose a smaller --tau" in run(text, *words).metrics["explicit"]["note"]


# ---------------------------------------------------------------- files
def test_a_model_saved_by_an_older_chinese_editor(tmp_path, capsys):
    (tmp_path / "model.txt").write_bytes("species X = 3  # 兔子\nX -> 0 ： 1\n".encode("gb18030"))
    network, _ = tool.read_model(str(tmp_path / "model.txt"))
    assert network == parse_network("species X = 3\nX -> 0 : 1")
    assert "read as GB18030" in capsys.readouterr().out
    (tmp_path / "model.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="not a text file"):
        tool.read_model(str(tmp_path / "model.txt"))


# ---------------------------------------------------------------- properties
NUMBERS = st.integers(0, 9).map(str) | st.sampled_from(["0.5", "2.25", "1e-3"])
ATOMS = NUMBERS | st.sampled_from(["X", "Y"])


def larger(inner):
    """Expressions made of expressions."""
    pairs = st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    compares = st.tuples(inner, st.sampled_from(["<", ">=", "==", "!="]), inner)
    chains = st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} < {p[1]} <= {p[2]})")
    calls = st.tuples(st.sampled_from(["min", "max"]), st.lists(inner, min_size=1, max_size=4))
    return st.one_of(
        pairs,
        compares.map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        chains,
        calls.map(lambda p: f"{p[0]}({', '.join(p[1])})"),
        inner.map(lambda text: f"(-{text})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]} and not {p[1]})"),
    )


EXPRESSIONS = st.recursive(ATOMS, larger, max_leaves=12)


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS)
def test_expressions_mean_the_same_in_every_method(text):
    grid = np.array([[x, y] for x in range(8) for y in range(8)], dtype=float).T
    counts = {"X": grid[0], "Y": grid[1]}
    value = np.broadcast_to(evaluate(text, counts), 64)
    single = [evaluate(text, {"X": x, "Y": y}) for x, y in grid.T]
    assert value == pytest.approx(np.array(single, dtype=float), nan_ok=True)
    assert names_in(text) <= {"X", "Y"}
    try:
        network = parse_network(f"species X = 2\nspecies Y = 1\n0 -> X : = {text}\n0 -> Y : 1")
    except ValueError as error:
        assert "must be 0 or more" in str(error)  # a negative rate at the start
        return
    _, total = wait_of(network)
    assert total - 1 == pytest.approx(np.maximum(value, 0), rel=1e-9, abs=1e-6)


@st.composite
def closed_networks(draw):
    """Conversions and dimerisations of three species, in which A + B + 2C is conserved."""
    counts = draw(st.tuples(*[st.integers(0, 4)] * 3))
    steps = st.sampled_from(["A -> B", "B -> A", "A + B -> C", "C -> A + B", "2A -> C", "C -> 2B"])
    chosen = draw(st.lists(steps, min_size=1, max_size=5, unique=True))
    rates = draw(st.lists(st.sampled_from([0.1, 0.5, 2.0]), min_size=5, max_size=5))
    lines = [f"species {name} = {count}" for name, count in zip("ABC", counts, strict=True)]
    lines += [f"{step} : {rate}" for step, rate in zip(chosen, rates, strict=False)]
    return "\n".join([*lines, "observe half = (A + B)/2"])


@settings(max_examples=40, deadline=None)
@given(closed_networks(), st.integers(0, 10**6))
def test_small_closed_networks(text, seed):
    """Distributions sum to 1, conservation laws hold, moments agree within sampling error."""
    network = parse_network(text)
    times, weights = [0.3, 2.0], np.array([1.0, 1.0, 2.0])
    total = weights @ network.initial
    space, p, _ = solve_within(network, times)
    assert lost(p) < 1e-9 and p.sum(axis=1) == pytest.approx([1, 1], abs=1e-9)
    assert weights @ space.states == pytest.approx(np.full(len(space.start), total))
    for name in space.outputs():
        assert space.marginal(p, name)[1].sum(axis=1) == pytest.approx([1, 1], abs=1e-9)
    means, sds = space.moments(p)
    drawn = simulate(network, times, 4000, seed, keep=True, histograms=True)
    assert (np.einsum("s,tsn->tn", weights, drawn["states"]) == total).all()
    for name in means:
        assert (drawn["histograms"][name][1].sum(axis=1) == 4000).all()
        for k in range(2):
            error = 6 * sds[name][k] / np.sqrt(4000) + 1e-9
            assert drawn["mean"][name][k] == pytest.approx(means[name][k], abs=error)
    for kind in KINDS:
        leapt = tau_leap(network, times, 50, 0.5, kind, seed)["states"]
        kept = np.einsum("s,tsn->tn", weights, leapt)
        assert (leapt >= 0).all() and kept == pytest.approx(np.full(kept.shape, total), abs=1e-6)
    field = mean_field(network, times)
    assert field["A"] + field["B"] + 2 * field["C"] == pytest.approx([total] * 2, abs=1e-6)


NAMES = st.sampled_from(["X", "Y2", "_z", "alpha", "lambda", "Long_name"])


@st.composite
def model_texts(draw):
    """(text, what it says): species, rates and reactions, in any spelling that is allowed."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    counts = draw(st.lists(st.integers(0, 10**6), min_size=4, max_size=4))
    space = draw(st.sampled_from([" ", "  ", "\t", "　"]))
    lines = [f"species{space}{n} ={space}{c}" for n, c in zip(names, counts, strict=False)]
    reactions, sides = draw(st.integers(1, 4)), []
    for _ in range(reactions):
        left = draw(st.dictionaries(st.sampled_from(names), st.integers(1, 3), max_size=2))
        right = draw(st.dictionaries(st.sampled_from(names), st.integers(1, 3), max_size=2))
        rate = draw(st.sampled_from([0.0, 1.5, 1e-4, 2e5]))
        arrow = draw(st.sampled_from(["->", "→", "－＞"]))
        written = [
            " + ".join(f"{m if m > 1 else ''}{space}{n}" for n, m in side.items()) or "0"
            for side in (left, right)
        ]
        colon = draw(st.sampled_from([":", "："]))
        comment = draw(st.sampled_from(["", " # a comment", "   "]))
        lines.append(f"{written[0]} {arrow} {written[1]} {colon} {rate!r}{comment}")
        sides.append((left, right, rate))
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    return end.join(lines), dict(zip(names, counts, strict=False)), sides


@settings(max_examples=100, deadline=None)
@given(model_texts())
def test_what_is_written_reads_back(model):
    text, counts, sides = model
    network = parse_network(text)
    own = {name: name.replace("lambda", "lambda_") for name in counts}
    assert network.species == tuple(own.values()) and network.initial == tuple(counts.values())
    assert len(network.reactions) == len(sides)
    for r, (left, right, _) in enumerate(sides):
        for i, name in enumerate(counts):
            assert network.changes[i][r] == right.get(name, 0) - left.get(name, 0)
    y = np.full((len(counts), 1), 7.0)
    ways = {1: 7, 2: 21, 3: 35}  # of choosing 1, 2, 3 of 7
    for rate, (left, _, k) in zip(network.propensities(y)[:, 0], sides, strict=True):
        assert rate == pytest.approx(k * np.prod([ways[m] for m in left.values()]))
