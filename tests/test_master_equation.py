"""master_equation against closed forms, a second implementation, and the suite's own tables."""

import argparse

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.stats import binom, poisson, skellam

import master_equation_dsmts as dsmts
import ornstein_uhlenbeck
from conftest import ROOT, load, run_script
from generated_step import generate_step
from master_equation_planted_bugs import WATCHED, faulty_simulation
from moments import exact_moments, leap_moments, mean_field
from reaction_network import MODELS, load_network, parse_network
from state_space import build, eigen, lost, solve, solve_within, uniformisation
from stochastic_simulation import CHUNK, plain_simulation, simulate
from tau_leaping import jacobian, tau_leap

derivation = load("master_equation/run.py")
tool = load("master_equation/simulate.py")
exact_laws = load("master_equation/experiments/exact_laws.py")
fokker_planck = load("master_equation/experiments/fokker_planck.py")
h_theorem = load("master_equation/experiments/h_theorem.py")


def dense(network, limits):
    """The generator by a plain loop over states and reactions, from the definition."""
    space = build(network, limits)
    index = {tuple(s): i for i, s in enumerate(space.states.T.tolist())}
    matrix = np.zeros((len(index),) * 2)
    for state, i in index.items():
        for r, rate in enumerate(network.propensities(np.array(state, dtype=float)[:, None])[:, 0]):
            after = tuple(int(a + c) for a, c in zip(state, network.nu[:, r], strict=True))
            matrix[i, i] -= rate
            if after in index:
                matrix[index[after], i] += rate
    return space, matrix


# ---------------------------------------------------------------- networks
def test_mass_action_counts_ways_to_choose():
    network = parse_network(
        "species X = 5\nspecies Y = 4\nparameter k = 0.5\n2X + Y -> 0 : k\n3X -> X : 6\n0 -> Y : 7"
    )
    assert network.propensities(np.array([[5.0], [4.0]]))[:, 0] == pytest.approx(
        [0.5 * 10 * 4, 6 * 10, 7]
    )
    assert network.propensities(np.array([[5.0], [4.0]]), large_numbers=True)[
        :, 0
    ] == pytest.approx([25, 125, 7])
    assert network.changes == ((-2, -2, 0), (-1, 0, 1))


def test_text_form_reads_constants_observables_and_events():
    network = parse_network(
        "species X = 3 # a comment\nconstant A = 1e2\nparameter lambda = 2*3\n"
        "parameter k = lambda/A\nA + X -> A + 2X : k\nX -> 0 : = k*X**2/(1 + max(X, 2))\n"
        "observe y = 2*X - 1\n"
        "at 4: X = 1\nat 2: X = 7\nwhen X > 9: X = 0"
    )
    assert network.propensities(np.array([[3.0]]))[:, 0] == pytest.approx(
        [0.06 * 100 * 3, 0.06 * 9 / 4]
    )
    assert network.outputs(np.array([[3.0]]))["y"] == [5]
    assert [moment for moment, _ in network.timed] == [2, 4] and network.triggers[0][0] == "X > 9"
    assert not network.affine() and load_network("telegraph")[0].affine()


def test_a_model_may_be_written_on_a_chinese_keyboard():
    wide = parse_network("species X ＝ 3\n2X　→ X ： ＝ 0.5＊X＊（X－1）\nat 4： X = 1")
    assert wide == parse_network("species X = 3\n2X -> X : = 0.5*X*(X-1)\nat 4: X = 1")


def test_a_model_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "model.txt").write_bytes(b"\xef\xbb\xbfspecies\tX = 3\r\nX -> 0 : 1\r\n")
    assert tool.read_model(str(tmp_path / "model.txt"))[0] == parse_network(
        "species X = 3\nX -> 0 : 1"
    )


@pytest.mark.parametrize(
    "text, words",
    [
        ("species X = -1\nX -> 0 : 1", "line 1: X = -1"),
        ("species X = 1.5\nX -> 0 : 1", "whole number"),
        ("species X = 1\nX -> 0 : -2", "line 2: rate constant -2"),
        ("species X = 1\nX -> Y : 1", "unknown species 'Y'"),
        ("species X = 1\nX -> 0 : k", "unknown parameter 'k'"),
        ("species X = 1\nX -> 0 : = k*X", "'k'"),
        ("species X = 1\nX -> 0 : = X - 5", "rate of 'X -> 0"),
        ("species X = 0\nX -> 0 : = 1/X", "rate of"),
        ("species X = 1\nX -> 0 : = 1/0", "cannot be computed"),
        ("species X = 1\nX = 0", "cannot read 'X = 0'"),
        ("X = 1", "'species X = 100'"),
        ("species 兔 = 1", "names are of a-z"),
        ("species X = 1\nX <-> 0 : 1", "one arrow"),
        ("species X = 1\nspecies X = 2\nX -> 0 : 1", "already taken"),
        ("species X = 1\nX -> 0 : = __import__('os').getpid()", "only numbers"),
        ("species X = 1\nX -> 0 : = (X", "cannot read the expression"),
        ("species X = 1", "at least one species and one reaction"),
        ("species X = 1\nX -> 0 : 1/0", "line 2"),
    ],
)
def test_bad_models_are_named(text, words):
    with pytest.raises(ValueError, match="model") as caught:
        parse_network(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model, conserved",
    [
        ("isomerisation", ["B + A"]),
        ("dimerisation", ["P2 + 0.5 P"]),
        ("telegraph", ["on + off"]),
        ("sir", ["R + S + I"]),
        ("ehrenfest", ["right + left"]),
        ("toggle", []),
        ("birth-death", []),
    ],
)
def test_conservation_laws(model, conserved):
    assert load_network(model)[0].conservation_laws() == conserved


def test_which_models_have_closed_moments():
    closed = {model for model in MODELS if load_network(model)[0].affine()}
    affine = {"decay", "immigration-death", "isomerisation", "telegraph", "birth-death"}
    assert closed == affine | {"random-walk", "ehrenfest"}


def test_the_code_for_sir_is_sixteen_calls_on_two_work_rows():
    source, buffers = generate_step(load_network("sir")[0], [0, 1, 2])
    assert (source.count("np."), buffers) == (16, 2)


# ---------------------------------------------------------------- simulation
@pytest.mark.parametrize(
    "model, name, law",
    [
        ("random-walk", "x", lambda n, t: skellam.pmf(n, t, t)),
        ("immigration-death", "X", lambda n, t: poisson.pmf(n, 100 * -np.expm1(-0.1 * t))),
        ("isomerisation", "A", lambda n, t: binom.pmf(n, 100, (1 + 2 * np.exp(-0.15 * t)) / 3)),
    ],
)
def test_simulation_draws_from_the_law(model, name, law):
    network, _ = load_network(model)
    result = simulate(network, [2.0, 9.0], 10_000, seed=5, histograms=True)
    values, counts = result["histograms"][name]
    for row, t in zip(counts, (2.0, 9.0), strict=True):
        span = np.arange(values[0] - 60, values[-1] + 61)
        full = np.zeros(len(span))
        full[60 : 60 + len(row)] = row
        assert exact_laws.chi_square(full, law(span, t)) > 1e-3
        assert exact_laws.chi_square(full, law(span - 1, t)) < 1e-6  # one count off is seen


@pytest.mark.parametrize("model", ["dimerisation", "telegraph", "toggle", "birth-death"])
def test_simulation_agrees_with_the_master_equation(model):
    network, end = load_network(model)
    times = np.linspace(0, end, 11)
    space, p, _ = solve_within(network, times)
    mean, sd = space.moments(p)
    z, y = dsmts.score(simulate(network, times, 20_000, seed=1), mean, sd)
    assert dsmts.misses(z, 4) == 0 and dsmts.misses(y, 7) == 0


def test_fast_simulation_agrees_with_the_plain_one():
    network = parse_network(
        "species S = 60\nspecies I = 3\nspecies R = 0\nS + I -> 2I : 0.005\nI -> R : 0.1\n"
        "R -> S : 0.02\nI -> 0 : = 0.01*I**2/(1 + I)"
    )
    times = np.linspace(0.5, 30, 12)
    fast = simulate(network, times, 20_000, seed=2)
    plain = faulty_simulation(network, times, 20_000, seed=3)
    for name in "SIR":
        error = np.hypot(fast["sd"][name], plain["sd"][name]) / np.sqrt(20_000)
        assert (np.abs(fast["mean"][name] - plain["mean"][name]) < 4.5 * error).all()
        assert fast["sd"][name] == pytest.approx(plain["sd"][name], rel=0.04)


def test_the_loop_to_copy_draws_from_the_same_law():
    """The README's loop against the fast simulation and the exact moments."""
    changes = np.array([[1], [-1]])
    rng, times, n = np.random.default_rng(6), [0.0, 3.0, 12.0], 3000

    def propensities(x):
        return np.array([10.0, 0.5 * x[0]])

    paths = [plain_simulation(changes, propensities, [2], times, rng)[:, 0] for _ in range(n)]
    plain = np.array(paths)
    network = parse_network("species X = 2\n0 -> X : 10\nX -> 0 : 0.5")
    mean, sd = exact_moments(network, times)
    assert (plain[:, 0] == 2).all()
    for k in (1, 2):
        error = sd["X"][k] / np.sqrt(n)
        assert abs(plain[:, k].mean() - mean["X"][k]) < 4 * error
        assert plain[:, k].std() == pytest.approx(sd["X"][k], rel=4 / np.sqrt(2 * n))
    fast = simulate(network, times, 40_000, seed=3, keep=True)["states"][2, 0]
    law = np.bincount(fast, minlength=80) / 40_000
    histogram = np.bincount(plain[:, 2].astype(int), minlength=80)
    assert exact_laws.chi_square(histogram, law) > 1e-3
    assert exact_laws.chi_square(histogram, np.roll(law, 1)) < 1e-6  # one off is seen
    still = plain_simulation(changes, lambda x: np.zeros(2), [7], [0.0, 1e9], rng)
    assert still.tolist() == [[7], [7]]  # nothing can happen


def test_results_depend_on_the_seed_alone():
    network, end = load_network("sir")
    times, n = [10.0, 60.0], 2 * CHUNK + 100
    one = simulate(network, times, n, seed=7, keep=True)
    for options in (
        {"block_size": 1},
        {"block_size": 10**9},
        {"processes": 2, "block_size": CHUNK},
        {"processes": 3},
    ):
        other = simulate(network, times, n, seed=7, keep=True, **options)
        assert np.array_equal(one["states"], other["states"]) and one["events"] == other["events"]
        assert all(np.array_equal(one["sd"][k], other["sd"][k]) for k in one["sd"])
    assert not np.array_equal(
        one["states"], simulate(network, times, n, seed=8, keep=True)["states"]
    )
    assert not np.array_equal(one["states"][..., :CHUNK], one["states"][..., CHUNK : 2 * CHUNK])
    assert (one["states"].sum(axis=1) == 1000).all()  # R follows from the conservation law


def test_summary_is_that_of_the_states():
    network, _ = load_network("dimerisation")
    result = simulate(network, [0, 1, 20], CHUNK + 50, seed=1, keep=True, histograms=True)
    assert result["states"][0, 0].tolist() == [100] * (CHUNK + 50)
    for i, name in enumerate(network.species):
        assert result["mean"][name] == pytest.approx(result["states"][:, i].mean(axis=1))
        assert result["sd"][name] == pytest.approx(result["states"][:, i].std(axis=1))
        values, counts = result["histograms"][name]
        seen = result["states"][2, i] - int(values[0])
        assert counts[2].tolist() == np.bincount(seen, minlength=len(values)).tolist()


def test_events_counted_once():
    network, _ = load_network("sir")
    result = simulate(network, [20.0, 100.0], 700, keep=True)
    susceptible, _, recovered = result["states"][-1]
    assert (
        result["events"] == (999 - susceptible + recovered).sum()
    )  # infections and recoveries up to the last time


def test_events_at_times_and_on_conditions():
    network = parse_network("species X = 9\n0 -> X : 3\nX -> 0 : 1\nat 5: X = 50")
    result = simulate(network, [4.0, 5.0, 6.0], 20_000, seed=3)
    mean, sd = exact_moments(network, [4.0, 5.0, 6.0])
    assert result["mean"]["X"][1] == 50 and result["sd"]["X"][1] == 0
    assert np.sqrt(20_000) * abs(result["mean"]["X"][2] - mean["X"][2]) / sd["X"][2] < 4
    assert mean["X"][2] == pytest.approx(3 + 47 * np.exp(-1))
    # a clock of three marks, each 1/3 in the end
    network = parse_network("species X = 0\n0 -> X : 1\nwhen X >= 3: X = 0")
    result = simulate(network, [50.0], 9000, seed=3, histograms=True)
    assert result["histograms"]["X"][1][0] == pytest.approx([3000] * 3, abs=4 * np.sqrt(2000))


def test_limits_stop_runaway_models():
    network = parse_network("species X = 1\nX -> 2X : 5")
    with pytest.raises(ValueError, match="grow without bound"):
        simulate(network, [50.0], 10, max_steps=3000)
    with pytest.raises(ValueError, match="gave up"):
        simulate(network, [50.0], 10, max_seconds=0.2)
    with pytest.raises(ValueError, match="takes X below 0"):
        simulate(parse_network("species X = 3\nX -> 0 : = 2 + 0*X"), [1.0, 2.0, 50.0], 10)


@pytest.mark.parametrize("times", [[], [1, 1], [2, 1], [-1, 2], [np.nan], [np.inf]])
def test_bad_times(times):
    with pytest.raises(ValueError, match="times must be"):
        simulate(load_network("decay")[0], times, 10)


@pytest.mark.parametrize("model", list(MODELS))
def test_generated_code_computes_the_laws(model):
    network, _ = load_network(model)
    carried = list(range(len(network.species)))
    source, buffers = generate_step(network, carried)
    space = {"np": np}
    exec(source, space)
    rng, n = np.random.default_rng(0), 64
    x = rng.integers(3, 40, (len(carried), n)).astype(float)
    before, t, u = x.copy(), np.zeros(n), rng.random((2, n))
    rates, draws = network.propensities(before), u.copy()
    work = list(np.full((buffers, n), np.nan))
    space["wait"](list(x), t, list(u), work, np.full(n, np.inf))
    assert t == pytest.approx(-np.log(draws[0]) / rates.sum(axis=0))
    space["fire"](list(x), list(u), work, np.empty(n, bool))
    reaction = (draws[1] * rates.sum(axis=0) >= rates.cumsum(axis=0)[:-1]).sum(axis=0)
    assert (x - before == network.nu[:, reaction]).all()


# ---------------------------------------------------------------- state space
@pytest.mark.parametrize(
    "model, limits",
    [
        ("dimerisation", {"P": 100}),
        ("toggle", {"X": 7, "Y": 9}),
        ("sir", {"S": 9, "I": 10}),
        ("telegraph", {"off": 1, "on": 1, "M": 12}),
        ("ehrenfest", {"left": 40}),
    ],
)
def test_generator_is_that_of_the_definition(model, limits):
    text = MODELS[model][0].replace("999", "9")
    network = parse_network(text)
    space, matrix = dense(network, limits)
    assert np.abs(space.generator.toarray() - matrix).max() < 1e-12
    assert (
        len(space.start)
        == {"dimerisation": 51, "toggle": 80, "sir": 65, "telegraph": 26, "ehrenfest": 41}[model]
    )


def test_solvers_agree():
    network, _ = load_network("toggle")
    space, times = build(network, {"X": 18, "Y": 18}), [3.0, 10.0, 20.0]
    exact = [expm(space.generator.toarray() * t) @ space.start for t in times]
    for method in ("uniformisation", "expm_multiply", "dense"):
        assert np.abs(solve(space, times, method)[0] - exact).max() < 1e-12
    space = build(parse_network("species X = 60\n0 -> X : 50\nX -> 0 : 1"), {"X": 120})
    exact = [expm(space.generator.toarray() * t) @ space.start for t in times]
    assert np.abs(eigen(space.generator, space.start, np.array(times)) - exact).max() < 1e-12


def test_certificate_bounds_the_error():
    network = parse_network("species X = 0\n0 -> X : 10\nX -> 0 : 1")
    truth = poisson.pmf(np.arange(16), 10 * -np.expm1(-3.0))
    p, _ = solve(build(network, {"X": 15}), [3.0])
    gone = lost(p)
    assert 1e-3 < gone < 0.5 and (p[0] <= truth + 1e-15).all()
    assert np.abs(truth - p[0]).sum() <= gone + 1e-15
    with pytest.raises(ValueError, match=r"loses 0\.\d+ of the probability .* X > 15: enlarge"):
        solve_within(network, [3.0], {"X": 15})
    space, p, _ = solve_within(network, [3.0], tolerance=1e-12)  # limits found by itself
    assert lost(p) <= 1e-12


def test_schlogl():
    network, _ = load_network("schlogl")
    space = build(network, {"X": 1100})
    p, method = solve(space, [4.0])
    mean, sd = space.moments(p)
    assert method == "eigen"
    assert mean["X"][0] == pytest.approx(309.8847, abs=5e-5) and sd["X"][0] == pytest.approx(
        216.0086, abs=5e-5
    )
    assert p[0][space.states[0] < 256].sum() == pytest.approx(0.5161, abs=5e-5)
    slow = uniformisation(space.generator, space.start, 0.2)
    assert np.abs(slow - solve(space, [0.2], "eigen")[0][0]).max() < 1e-13
    metrics, _ = fokker_planck.check_schlogl(20_001)
    assert metrics["modes"] == [82, 563] and metrics["valley"] == 256
    assert metrics["p_low"] == pytest.approx(0.2203, abs=5e-5)
    assert metrics["switching_time"] == pytest.approx(50307.9, abs=0.05)


def test_ehrenfest_and_telegraph():
    assert exact_laws.check_ehrenfest()["eigenvalue_error"] < 1e-8
    law = exact_laws.beta_poisson(np.arange(60), 0.25, 0.15, 15.0)
    assert law.sum() == pytest.approx(1, abs=1e-12) and law @ np.arange(60) == pytest.approx(
        15 * 0.25 / 0.4
    )
    space, p, _ = solve_within(load_network("telegraph")[0], [100.0], tolerance=1e-12)
    values, table = space.marginal(p, "M")
    assert np.abs(table[0] - exact_laws.beta_poisson(values, 0.25, 0.15, 15.0)).max() < 1e-12


# ---------------------------------------------------------------- moments and leaps
def test_exact_moments():
    network, _ = load_network("birth-death")
    mean, sd = exact_moments(network, [0.0, 7.0, 50.0])
    growth = np.exp(-0.01 * np.array([0.0, 7.0, 50.0]))
    assert mean["X"] == pytest.approx(100 * growth, rel=1e-12)
    assert sd["X"] == pytest.approx(np.sqrt(100 * 0.21 / -0.01 * growth * (growth - 1)), rel=1e-10)
    with pytest.raises(ValueError, match="not affine"):
        exact_moments(load_network("dimerisation")[0], [1.0])


def test_mean_field():
    network, _ = load_network("dimerisation")

    def rate(_, y):  # dP/dt = −2·k₁P²/2 + 2k₂P₂
        return [-0.001 * y[0] ** 2 + 0.02 * y[1], 0.0005 * y[0] ** 2 - 0.01 * y[1]]

    expected = solve_ivp(rate, (0, 50), [100, 0], rtol=1e-10, atol=1e-10).y[:, -1]
    assert mean_field(network, [0.0, 50.0])["P"][1] == pytest.approx(expected[0], rel=1e-6)


@pytest.mark.parametrize(
    "kind, ratio", [("explicit", 1 / (1 - 0.1)), ("implicit", 2 / 2.2), ("trapezoidal", 1.0)]
)
def test_leap_bias_is_the_predicted_one(kind, ratio):
    network = parse_network("species X = 100\n0 -> X : 100\nX -> 0 : 1")
    mean, sd = leap_moments(network, [40.0], 0.2, kind)
    assert sd["X"][0] ** 2 / mean["X"][0] == pytest.approx(ratio, rel=1e-6)
    result = tau_leap(network, [40.0], 20_000, 0.2, kind, seed=4)
    assert result["sd"]["X"][0] ** 2 / sd["X"][0] ** 2 == pytest.approx(
        1, abs=5 * np.sqrt(2 / 20_000)
    )
    assert np.sqrt(20_000) * abs(result["mean"]["X"][0] - mean["X"][0]) / sd["X"][0] < 4


def test_leap_of_decay_and_jacobian():
    network = parse_network("species X = 10000\nX -> 0 : 0.1")
    result = tau_leap(network, [10.0], 4000, 0.5)
    exact = 10_000 * 0.95**20
    assert abs(result["mean"]["X"][0] - exact) < 4 * result["sd"]["X"][0] / np.sqrt(4000)
    assert leap_moments(network, [10.0], 0.5, "explicit")[0]["X"][0] == pytest.approx(exact)
    network, _ = load_network("toggle")
    y = np.array([[4.0, 7.0], [2.0, 5.0]])
    shift = network.propensities(y + [[1e-6], [0]]) - network.propensities(y - [[1e-6], [0]])
    slopes = jacobian(network, y)[:, :, 0].T
    assert slopes == pytest.approx(shift / 2e-6, abs=1e-8)


# ---------------------------------------------------------------- derivation
def test_two_forms_and_the_constraint():
    rng = np.random.default_rng(1)
    rates, p = rng.normal(size=(9, 9)), rng.dirichlet(np.ones(9))
    loop = np.zeros(9)
    for x in range(9):
        for y in range(9):
            loop[x] += rates[x, y] * p[y] - rates[y, x] * p[x]
    assert derivation.master_equation(rates, p) == pytest.approx(loop)
    assert derivation.first_form(derivation.constrain(rates), p) == pytest.approx(loop)
    assert np.abs(derivation.constrain(rates).sum(axis=0)).max() < 1e-14


def test_claims_fail_when_the_code_is_broken(monkeypatch):
    def said(name, measured, holds):
        return {"id": name, "holds": bool(holds)}

    def verdicts():
        found, claims, _ = derivation.main(argparse.Namespace(quick=True, seed=0, states=8))
        return {claim["id"]: claim["holds"] for claim in claims}

    monkeypatch.setattr(derivation.cli, "claim", said)
    assert verdicts() == {f"C4.{k}": True for k in range(1, 7)}

    def by_rows(rates):
        return rates - np.diag(rates.sum(axis=1))

    monkeypatch.setattr(derivation, "constrain", by_rows)
    broken = verdicts()
    assert not broken["C4.1"] and not broken["C4.2"] and not broken["C4.4"]


def test_ou_rates_hold_detailed_balance():
    x = np.linspace(-3, 3, 31)
    rates = ornstein_uhlenbeck.ou_rates(x)
    theta, diffusion = ornstein_uhlenbeck.THETA, ornstein_uhlenbeck.DIFFUSION
    rest = np.exp(-theta * x**2 / (2 * diffusion))
    flux = rates * rest[None, :]
    assert np.abs(flux - flux.T).max() < 1e-10 * flux.max() and (rates >= 0).all()


# ---------------------------------------------------------------- entropy and Fokker–Planck
def test_entropy_production():
    assert h_theorem.entropy_production(
        h_theorem.ring_rates(2, 1), np.full(3, 1 / 3)
    ) == pytest.approx(np.log(2))
    assert h_theorem.entropy_production(h_theorem.ring_rates(2, 0), np.full(3, 1 / 3)) == np.inf
    rates = np.random.default_rng(0).exponential(size=(5, 5))
    rest = h_theorem.stationary(rates)
    assert (
        np.abs(h_theorem.generator_of(rates) @ rest).max() < 1e-12
        and h_theorem.entropy_production(rates, rest) > 0
    )
    run = h_theorem.relax(rates, np.eye(5)[0], np.linspace(0, 3, 50))
    assert run["largest_rise"] < 1e-14 and run["distance"][0] == pytest.approx(-np.log(rest[0]))


def test_fluctuation_theorem():
    entropies, weights, _ = h_theorem.path_entropies(
        2.0, 1.0, np.array([0.6, 0.3, 0.1]), 0.7, 60_000, 3
    )
    values = np.exp(-entropies)
    average = weights @ values
    assert abs(average - 1) < 4 * np.sqrt(np.sum(weights**2 * (values - average) ** 2))
    assert abs(weights @ np.exp(-0.5 * entropies) - 1) > 0.05  # any other exponent does not do


def test_mean_times():
    birth, death = fokker_planck.sis_rates(2.0, 12)
    matrix = np.diag(-(birth + death)[1:]) + np.diag(birth[1:-1], 1) + np.diag(death[2:], -1)
    assert fokker_planck.extinction_time(birth, death, 7) == pytest.approx(
        np.linalg.solve(matrix, -np.ones(12))[6]
    )
    brown = fokker_planck.fokker_planck_time(
        lambda x: 0 * x, lambda x: 2 + 0 * x, 1.0, 0.0, 3.0, 20_001
    )
    assert brown == pytest.approx(3 * 1 - 0.5, rel=1e-3)  # T = (wall·x − x²/2)/D with D = 1
    up = fokker_planck.passage_time(np.full(9, 2.0), np.append(0, np.full(8, 2.0)), 0, 9)
    assert up == pytest.approx(9 * 10 / 2 / 2)  # symmetric walk reflected at 0


# ---------------------------------------------------------------- the suite
@pytest.mark.parametrize("model, n, speed", [("001-01", 100, 1), ("001-03", 100, 10)])
def test_birth_and_death_by_their_formula(model, n, speed):
    text = (
        WATCHED["001-01"]
        .replace("0.11", f"{0.11 * speed}")
        .replace("= 0.1\n", f"= {0.1 * speed}\n")
    )
    growth = np.exp(-0.01 * speed * dsmts.TIMES[1:])
    mean, sd = exact_moments(parse_network(text), dsmts.TIMES)
    assert mean["X"][1:] == pytest.approx(n * growth, rel=1e-9)
    assert sd["X"][1:] == pytest.approx(np.sqrt(n * 21 * growth * (1 - growth)), rel=1e-7)


@pytest.mark.parametrize(
    "rate, size, death, limit", [(10, 1, 0.1, 220), (1, 5, 0.2, 130), (1, 10, 0.4, 190)]
)
def test_batches_by_their_formula(rate, size, death, limit):
    network = parse_network(f"species X = 0\n0 -> {size}X : {rate}\nX -> 0 : {death}")
    t = dsmts.TIMES[1:]
    one, two = (1 - np.exp(-death * t)) / death, (1 - np.exp(-2 * death * t)) / (2 * death)
    solved = dsmts.solve_exactly(network, {"X": limit}, 3000)
    assert set(solved) == {"moments", "states"}
    for mean, sd, *_ in solved.values():
        variance = rate * size * (one - two + size * two)
        assert mean["X"][1:] == pytest.approx(rate * size * one, rel=1e-9)
        assert sd["X"][1:] == pytest.approx(np.sqrt(variance), rel=1e-8)


def test_the_suite_is_read_from_its_own_files_and_met():
    """All 39 models: translated from SBML-shorthand, solved, and compared with the tables."""
    try:
        dsmts.published("001-01", None)
    except OSError:
        pytest.skip("the suite is not at hand (python data/download.py dsmts)")
    assert len(dsmts.MODELS) == 39
    for model in dsmts.MODELS:
        truth, digits = dsmts.published(model, None)
        solved = dsmts.solve_exactly(dsmts.read_model(model, None), dsmts.limits_of(model), 1500)
        for solver, values in solved.items():
            error = dsmts.relative_error(values, truth, digits)
            assert error <= dsmts.TOLERANCE, (model, solver)


def test_shorthand_becomes_text():
    shorthand = """@model:3.1.1=Test "test"
@compartments
 Cell=0.5
@species
 Cell:[X]=100 s
 Cell:Y=3
 Cell:Sink=0 sb
 Cell:z=0 s
@parameters
 k=0.1
@rules
 z = 2*X
@reactions
@r=One
 X -> Sink
 k*X*Y : k=2
@events
 reset= t>=22.5 : X=20; Y=1
 other= X>30 : X=0"""
    assert dsmts.translate(shorthand).splitlines() == [
        "parameter Cell = 0.5",
        "species X = 50",
        "species Y = 3",
        "constant Sink = 0",
        "parameter k=0.1",
        "observe z = 2*X",
        "X -> Sink : = (2)*X*(Y/Cell)",
        "at 22.5: X=20, Y=1",
        "when X>30: X=0",
    ]


def test_score_sees_a_wrong_mean_and_a_wrong_spread():
    draws = np.random.default_rng(0).normal(50, 5, (40, 10_000))
    result = {"n": 10_000, "mean": {"X": draws.mean(axis=1)}, "sd": {"X": draws.std(axis=1)}}

    def scores(mean, sd):
        return dsmts.score(result, {"X": np.full(40, mean)}, {"X": np.full(40, sd)})

    z, y = scores(50.0, 5.0)
    assert dsmts.misses(z, 3) <= 1 and dsmts.misses(y, 5) == 0
    assert 0.6 < z["X"].std() < 1.5 and 0.6 < y["X"].std() < 1.5
    assert dsmts.misses(scores(50.5, 5.0)[0], 3) == 40
    assert dsmts.misses(scores(50.0, 4.0)[1], 5) == 40


# ---------------------------------------------------------------- the tool
def arguments(tmp_path, *words):
    parser = argparse.ArgumentParser()
    tool.flags(parser)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(list(map(str, words)))
    args.out_dir = tmp_path
    return args


@pytest.mark.parametrize(
    "words, said",
    [
        (["nope"], "neither a file nor one of"),
        (["decay", "--times", "1,1"], "--times"),
        (["decay", "--times", "a"], "--times"),
        (["decay", "--times", "0:5:0"], "--times"),
        (["decay", "--trajectories", "0"], "--trajectories: 0"),
        (["decay", "--tau", "-1"], "--tau: -1"),
        (["decay", "--limit", "X"], "--limit"),
        (["immigration-death", "--methods", "states", "--limit", "X=90"], "enlarge that limit"),
        (["decay", "--methods", "states", "--limit", "Z=9"], "unknown species 'Z'"),
        (
            ["lotka-volterra", "--methods", "states", "--limit", "prey=9000", "predator=9000"],
            "lower the limits",
        ),
        (["birth-death", "--methods", "states", "--solver", "eigen"], "eigen"),
        (["sir", "--methods", "exact", "--max-steps", "256"], "gave up after 256 steps"),
    ],
)
def test_bad_input_is_named(tmp_path, capsys, words, said):
    with pytest.raises((ValueError, SystemExit)) as caught:
        tool.main(arguments(tmp_path, *words))
    message = str(caught.value)
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 2
        message = capsys.readouterr().err.splitlines()[-1]
    assert said in message and "\n" not in message
    assert not list(tmp_path.glob("simulate.*"))


def test_bad_input_is_one_line_and_status_2(tmp_path):
    script = ROOT / "master_equation" / "simulate.py"
    finished = run_script(script, "nope", "--out-dir", tmp_path, cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and len(finished.stderr.splitlines()) == 1


def test_simulate_writes_tables(tmp_path):
    model = tmp_path / "model.txt"
    model.write_text("species X = 4\nX -> 0 : 0.5\nobserve twice = 2*X\n", encoding="utf-8")
    methods = ["--methods", "exact", "states", "explicit", "mean-field"]
    size = ["--times", "0:4:5", "--trajectories", "500"]
    metrics, claims, figures = tool.main(arguments(tmp_path, model, *methods, *size))
    rows = (tmp_path / "simulate.csv").read_text(encoding="utf-8").splitlines()
    last = dict(zip(rows[0].split(","), map(float, rows[-1].split(",")), strict=True))
    assert len(rows) == 6 and claims == [] and set(figures) > {"simulate_means"}
    assert last["states_mean_twice"] == pytest.approx(8 * np.exp(-2))
    assert last["mean-field_mean_X"] == pytest.approx(4 * np.exp(-2), rel=1e-6)
    assert metrics["states"]["mean_at_end"]["X"] == pytest.approx(4 * np.exp(-2))
    arrays = np.load(tmp_path / "simulate.npz")
    assert arrays["states_distribution_X"][-1] == pytest.approx(binom.pmf(range(5), 4, np.exp(-2)))
    assert arrays["states_values_twice"].tolist() == list(range(9))
    assert arrays["paths_X"].shape == (400, 5)
