"""master_equation against closed forms, a second implementation, and the published tables where they are at hand."""
import numpy as np
import pytest
from conftest import ROOT, run_script
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.stats import binom, poisson, skellam

from master_equation import derivation, dsmts, exact_laws, fokker_planck, h_theorem
from master_equation import simulate as simulate_script
from master_equation.generated_step import generate_step
from master_equation.moments import exact_moments, leap_moments, mean_field
from master_equation.networks import MODELS, load_network, parse_network
from master_equation.planted_bugs import plain_simulation
from master_equation.state_space import build, eigen, lost, solve, solve_within, uniformisation
from master_equation.stochastic_simulation import CHUNK, simulate
from master_equation.tau_leaping import jacobian, tau_leap

FOLDER = ROOT / "master_equation"


def dense(network, limits):
    """The generator by a plain loop over states and reactions, from the definition."""
    space = build(network, limits)
    index = {tuple(s): i for i, s in enumerate(space.states.T.tolist())}
    matrix = np.zeros((len(index),) * 2)
    for state, i in index.items():
        for r, rate in enumerate(network.propensities(np.array(state, dtype=float)[:, None])[:, 0]):
            after = tuple(int(a + c) for a, c in zip(state, network.nu[:, r]))
            matrix[i, i] -= rate
            if after in index:
                matrix[index[after], i] += rate
    return space, matrix


# ---------------------------------------------------------------- networks
def test_mass_action_counts_ways_to_choose():
    network = parse_network("species X = 5\nspecies Y = 4\nparameter k = 0.5\n2X + Y -> 0 : k\n3X -> X : 6\n0 -> Y : 7")
    assert network.propensities(np.array([[5.0], [4.0]]))[:, 0] == pytest.approx([0.5 * 10 * 4, 6 * 10, 7])
    assert network.propensities(np.array([[5.0], [4.0]]), large_numbers=True)[:, 0] == pytest.approx([25, 125, 7])
    assert network.changes == ((-2, -2, 0), (-1, 0, 1))


def test_text_form_reads_constants_observables_and_events():
    network = parse_network("species X = 3 # a comment\nconstant A = 1e2\nparameter lambda = 2*3\n"
                            "parameter k = lambda/A\nA + X -> A + 2X : k\nX -> 0 : = k*X**2/(1 + max(X, 2))\n"
                            "observe y = 2*X - 1\n"
                            "at 4: X = 1\nat 2: X = 7\nwhen X > 9: X = 0")
    assert network.propensities(np.array([[3.0]]))[:, 0] == pytest.approx([0.06 * 100 * 3, 0.06 * 9 / 4])
    assert network.outputs(np.array([[3.0]]))["y"] == [5]
    assert [moment for moment, _ in network.timed] == [2, 4] and network.triggers[0][0] == "X > 9"
    assert not network.affine() and load_network("telegraph")[0].affine()


def test_a_model_may_be_written_on_a_chinese_keyboard():
    wide = parse_network("species X ＝ 3\n2X　→ X ： ＝ 0.5＊X＊（X－1）\nat 4： X = 1")
    assert wide == parse_network("species X = 3\n2X -> X : = 0.5*X*(X-1)\nat 4: X = 1")


def test_a_model_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "model.txt").write_bytes(b"\xef\xbb\xbfspecies\tX = 3\r\nX -> 0 : 1\r\n")
    assert load_network(str(tmp_path / "model.txt"))[0] == parse_network("species X = 3\nX -> 0 : 1")


@pytest.mark.parametrize("text, words", [
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
])
def test_bad_models_are_named(text, words):
    with pytest.raises(ValueError, match="model") as caught:
        parse_network(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


# ---------------------------------------------------------------- simulation
@pytest.mark.parametrize("model, name, law", [
    ("random-walk", "x", lambda n, t: skellam.pmf(n, t, t)),
    ("immigration-death", "X", lambda n, t: poisson.pmf(n, 100 * -np.expm1(-0.1 * t))),
    ("isomerisation", "A", lambda n, t: binom.pmf(n, 100, (1 + 2 * np.exp(-0.15 * t)) / 3)),
])
def test_simulation_draws_from_the_law(model, name, law):
    network, _ = load_network(model)
    result = simulate(network, [2.0, 9.0], 10_000, seed=5, histograms=True)
    low, counts = result["histograms"][name]
    for row, t in zip(counts, (2.0, 9.0)):
        span = np.arange(low - 60, low + len(row) + 60)
        full = np.zeros(len(span))
        full[60:60 + len(row)] = row
        assert exact_laws.chi_square(full, law(span, t)) > 1e-3
        assert exact_laws.chi_square(full, law(span - 1, t)) < 1e-6   # one count off is seen


@pytest.mark.parametrize("model", ["dimerisation", "telegraph", "toggle", "birth-death"])
def test_simulation_agrees_with_the_master_equation(model):
    network, end = load_network(model)
    times = np.linspace(0, end, 11)
    space, p, _ = solve_within(network, times)
    mean, sd = space.moments(p)
    z, y = dsmts.score(simulate(network, times, 20_000, seed=1), mean, sd)
    assert dsmts.misses(z, 4) == 0 and dsmts.misses(y, 7) == 0


def test_fast_simulation_agrees_with_the_plain_one():
    network = parse_network("species S = 60\nspecies I = 3\nspecies R = 0\nS + I -> 2I : 0.005\nI -> R : 0.1\n"
                            "R -> S : 0.02\nI -> 0 : = 0.01*I**2/(1 + I)")
    times = np.linspace(0.5, 30, 12)
    fast, plain = simulate(network, times, 20_000, seed=2), plain_simulation(network, times, 20_000, seed=3)
    for name in "SIR":
        error = np.hypot(fast["sd"][name], plain["sd"][name]) / np.sqrt(20_000)
        assert (np.abs(fast["mean"][name] - plain["mean"][name]) < 4.5 * error).all()
        assert fast["sd"][name] == pytest.approx(plain["sd"][name], rel=0.04)


def test_results_depend_on_the_seed_alone():
    network, end = load_network("sir")
    times, n = [10.0, 60.0], 2 * CHUNK + 100
    one = simulate(network, times, n, seed=7, keep=True)
    for options in ({"block_size": 1}, {"block_size": 10**9}, {"processes": 2, "block_size": CHUNK}, {"processes": 3}):
        other = simulate(network, times, n, seed=7, keep=True, **options)
        assert np.array_equal(one["states"], other["states"]) and one["events"] == other["events"]
        assert all(np.array_equal(one["sd"][k], other["sd"][k]) for k in one["sd"])
    assert not np.array_equal(one["states"], simulate(network, times, n, seed=8, keep=True)["states"])
    assert not np.array_equal(one["states"][..., :CHUNK], one["states"][..., CHUNK:2 * CHUNK])
    assert (one["states"].sum(axis=1) == 1000).all()   # R follows from the conservation law


def test_summary_is_that_of_the_states():
    network, _ = load_network("dimerisation")
    result = simulate(network, [0, 1, 20], CHUNK + 50, seed=1, keep=True, histograms=True)
    assert result["states"][0, 0].tolist() == [100] * (CHUNK + 50)
    for i, name in enumerate(network.species):
        assert result["mean"][name] == pytest.approx(result["states"][:, i].mean(axis=1))
        assert result["sd"][name] == pytest.approx(result["states"][:, i].std(axis=1))
        low, counts = result["histograms"][name]
        assert counts[2].tolist() == np.bincount(result["states"][2, i] - low, minlength=counts.shape[1]).tolist()


def test_events_counted_once():
    network, _ = load_network("sir")
    result = simulate(network, [20.0, 100.0], 700, keep=True)
    susceptible, _, recovered = result["states"][-1]
    assert result["events"] == (999 - susceptible + recovered).sum()   # infections and recoveries up to the last time


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
    with pytest.raises(ValueError, match="negative or not a number"):
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
    space["wait"](list(x), t, list(u), work)
    assert t == pytest.approx(-np.log(draws[0]) / rates.sum(axis=0))
    space["fire"](list(x), list(u), work, np.empty(n, bool))
    reaction = (draws[1] * rates.sum(axis=0) >= rates.cumsum(axis=0)[:-1]).sum(axis=0)
    assert (x - before == network.nu[:, reaction]).all()


# ---------------------------------------------------------------- state space
@pytest.mark.parametrize("model, limits", [("dimerisation", {"P": 100}), ("toggle", {"X": 7, "Y": 9}),
                                           ("sir", {"S": 9, "I": 10}),
                                           ("telegraph", {"off": 1, "on": 1, "M": 12}), ("ehrenfest", {"left": 40})])
def test_generator_is_that_of_the_definition(model, limits):
    text = MODELS[model][0].replace("999", "9")
    network = parse_network(text)
    space, matrix = dense(network, limits)
    assert np.abs(space.generator.toarray() - matrix).max() < 1e-12
    assert len(space.start) == {"dimerisation": 51, "toggle": 80, "sir": 65, "telegraph": 26, "ehrenfest": 41}[model]


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
    space, p, _ = solve_within(network, [3.0], tolerance=1e-12)   # limits found by itself
    assert lost(p) <= 1e-12


def test_schlogl():
    network, _ = load_network("schlogl")
    space = build(network, {"X": 1100})
    p, method = solve(space, [4.0])
    mean, sd = space.moments(p)
    assert method == "eigen"
    assert mean["X"][0] == pytest.approx(309.8847, abs=5e-5) and sd["X"][0] == pytest.approx(216.0086, abs=5e-5)
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
    assert law.sum() == pytest.approx(1, abs=1e-12) and law @ np.arange(60) == pytest.approx(15 * 0.25 / 0.4)
    space, p, _ = solve_within(load_network("telegraph")[0], [100.0], tolerance=1e-12)
    assert np.abs(space.marginal(p, "M")[1][0] - exact_laws.beta_poisson(np.arange(len(space.marginal(p, "M")[1][0])),
                                                                         0.25, 0.15,
                                                                         15.0)).max() < 1e-12


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

    def rate(_, y):   # dP/dt = −2·k₁P²/2 + 2k₂P₂
        return [-0.001 * y[0] ** 2 + 0.02 * y[1], 0.0005 * y[0] ** 2 - 0.01 * y[1]]
    expected = solve_ivp(rate, (0, 50), [100, 0], rtol=1e-10, atol=1e-10).y[:, -1]
    assert mean_field(network, [0.0, 50.0])["P"][1] == pytest.approx(expected[0], rel=1e-6)


@pytest.mark.parametrize("kind, ratio", [("explicit", 1 / (1 - 0.1)), ("implicit", 2 / 2.2), ("trapezoidal", 1.0)])
def test_leap_bias_is_the_predicted_one(kind, ratio):
    network = parse_network("species X = 100\n0 -> X : 100\nX -> 0 : 1")
    mean, sd = leap_moments(network, [40.0], 0.2, kind)
    assert sd["X"][0] ** 2 / mean["X"][0] == pytest.approx(ratio, rel=1e-6)
    result = tau_leap(network, [40.0], 20_000, 0.2, kind, seed=4)
    assert result["sd"]["X"][0] ** 2 / sd["X"][0] ** 2 == pytest.approx(1, abs=5 * np.sqrt(2 / 20_000))
    assert np.sqrt(20_000) * abs(result["mean"]["X"][0] - mean["X"][0]) / sd["X"][0] < 4


def test_leap_of_decay_and_jacobian():
    network = parse_network("species X = 10000\nX -> 0 : 0.1")
    result = tau_leap(network, [10.0], 4000, 0.5)
    exact = 10_000 * 0.95 ** 20
    assert abs(result["mean"]["X"][0] - exact) < 4 * result["sd"]["X"][0] / np.sqrt(4000)
    assert leap_moments(network, [10.0], 0.5, "explicit")[0]["X"][0] == pytest.approx(exact)
    network, _ = load_network("toggle")
    y = np.array([[4.0, 7.0], [2.0, 5.0]])
    shift = network.propensities(y + [[1e-6], [0]]) - network.propensities(y - [[1e-6], [0]])
    assert jacobian(network, y)[:, :, 0].T == pytest.approx(shift / 2e-6, abs=1e-8)


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


def test_claims_fail_when_the_code_is_broken(monkeypatch, tmp_path):
    def verdicts():
        results = derivation.main(["--quick", "--out-dir", str(tmp_path)])
        return {claim["id"]: claim["holds"] for claim in results["claims"]}
    assert verdicts() == {f"C4.{k}": True for k in range(1, 7)}
    monkeypatch.setattr(derivation, "constrain", lambda rates: rates - np.diag(rates.sum(axis=1)))   # rows for columns
    broken = verdicts()
    assert not broken["C4.1"] and not broken["C4.2"] and not broken["C4.4"]


def test_ou_rates_hold_detailed_balance():
    x = np.linspace(-3, 3, 31)
    rates = derivation.ou_rates(x)
    rest = np.exp(-derivation.THETA * x ** 2 / (2 * derivation.DIFFUSION))
    flux = rates * rest[None, :]
    assert np.abs(flux - flux.T).max() < 1e-10 * flux.max() and (rates >= 0).all()


# ---------------------------------------------------------------- entropy and Fokker–Planck
def test_entropy_production():
    assert h_theorem.entropy_production(h_theorem.ring_rates(2, 1), np.full(3, 1 / 3)) == pytest.approx(np.log(2))
    assert h_theorem.entropy_production(h_theorem.ring_rates(2, 0), np.full(3, 1 / 3)) == np.inf
    rates = np.random.default_rng(0).exponential(size=(5, 5))
    rest = h_theorem.stationary(rates)
    assert np.abs(h_theorem.generator_of(rates) @ rest).max() < 1e-12 and h_theorem.entropy_production(rates, rest) > 0
    run = h_theorem.relax(rates, np.eye(5)[0], np.linspace(0, 3, 50))
    assert run["largest_rise"] < 1e-14 and run["distance"][0] == pytest.approx(-np.log(rest[0]))


def test_fluctuation_theorem():
    entropies, weights, _ = h_theorem.path_entropies(2.0, 1.0, np.array([0.6, 0.3, 0.1]), 0.7, 60_000, 3)
    values = np.exp(-entropies)
    average = weights @ values
    assert abs(average - 1) < 4 * np.sqrt(np.sum(weights ** 2 * (values - average) ** 2))
    assert abs(weights @ np.exp(-0.5 * entropies) - 1) > 0.05   # any other exponent does not do


def test_mean_times():
    birth, death = fokker_planck.sis_rates(2.0, 12)
    matrix = np.diag(-(birth + death)[1:]) + np.diag(birth[1:-1], 1) + np.diag(death[2:], -1)
    assert fokker_planck.extinction_time(birth, death, 7) == pytest.approx(np.linalg.solve(matrix, -np.ones(12))[6])
    brown = fokker_planck.fokker_planck_time(lambda x: 0 * x, lambda x: 2 + 0 * x, 1.0, 0.0, 3.0, 20_001)
    assert brown == pytest.approx(3 * 1 - 0.5, rel=1e-3)   # T = (wall·x − x²/2)/D with D = 1
    up = fokker_planck.passage_time(np.full(9, 2.0), np.append(0, np.full(8, 2.0)), 0, 9)
    assert up == pytest.approx(9 * 10 / 2 / 2)   # symmetric walk reflected at 0


# ---------------------------------------------------------------- the suite
def test_suite_models_by_closed_forms():
    """The exact solvers against the formulas behind the suite's tables."""
    t = dsmts.TIMES[1:]
    growth = np.exp(-0.01 * t)
    for model, n, speed in (("001-01", 100, 1), ("001-03", 100, 10), ("001-05", 10_000, 1), ("001-11", 100, 0.5),
                            ("001-18", 100, .5)):
        growth = np.exp(-0.01 * speed * t)
        mean, sd = exact_moments(parse_network(dsmts.MODELS[model][0]), dsmts.TIMES)
        assert mean["X"][1:] == pytest.approx(n * growth, rel=1e-9)
        assert sd["X"][1:] == pytest.approx(np.sqrt(n * 21 * growth * (1 - growth)), rel=1e-7)
    for model, a, b, m in (("002-02", 10, 1, 0.1), ("004-01", 1, 5, 0.2), ("004-02", 1, 10, 0.4), ("004-03", 1, 100,
                                                                                                   4)):
        solved = dsmts.solve_exactly(parse_network(dsmts.MODELS[model][0]), dsmts.MODELS[model][1], 3000)
        one, two = (1 - np.exp(-m * t)) / m, (1 - np.exp(-2 * m * t)) / (2 * m)
        for mean, sd, *_ in solved.values():
            assert mean["X"][1:] == pytest.approx(a * b * one, rel=1e-9)
            assert sd["X"][1:] == pytest.approx(np.sqrt(a * (b * (one - two) + b * b * two)), rel=1e-8)
    for model in ("003-05", "003-06", "003-07"):   # one dimer model in four dresses
        first, other = (dsmts.solve_exactly(parse_network(dsmts.MODELS[m][0]), dsmts.MODELS[m][1], 3000)["states"]
                        for m in ("003-01", model))
        assert first[0]["P2"] == pytest.approx(other[0]["P2"], rel=1e-10)


def test_suite_tables():
    try:
        dsmts.published("001-01", None)
    except OSError:
        pytest.skip("the published tables are not at hand (python data/download.py dsmts)")
    assert len(dsmts.MODELS) == 39
    for model, (text, limits) in dsmts.MODELS.items():
        truth, digits = dsmts.published(model, None)
        for solver, values in dsmts.solve_exactly(parse_network(text), limits, 1500).items():
            assert dsmts.relative_error(values, truth, digits) <= dsmts.TOLERANCE, (model, solver)


def test_score_sees_a_wrong_mean_and_a_wrong_spread():
    rng = np.random.default_rng(0)
    draws = rng.normal(50, 5, (40, 10_000))
    result = {"n": 10_000, "mean": {"X": draws.mean(axis=1)}, "sd": {"X": draws.std(axis=1)}}
    z, y = dsmts.score(result, {"X": np.full(40, 50.0)}, {"X": np.full(40, 5.0)})
    assert dsmts.misses(z, 3) <= 1 and dsmts.misses(y, 5) == 0 and 0.6 < z["X"].std() < 1.5 and 0.6 < y["X"].std() < 1.5
    z, _ = dsmts.score(result, {"X": np.full(40, 50.5)}, {"X": np.full(40, 5.0)})
    _, y = dsmts.score(result, {"X": np.full(40, 50.0)}, {"X": np.full(40, 4.0)})
    assert dsmts.misses(z, 3) == 40 and dsmts.misses(y, 5) == 40


# ---------------------------------------------------------------- command line
@pytest.mark.parametrize("flags, words", [
    (["nope"], "neither a file nor one of"),
    (["decay", "--times", "1,1"], "--times"),
    (["decay", "--times", "a"], "--times"),
    (["decay", "--trajectories", "0"], "--trajectories 0"),
    (["decay", "--tau", "-1"], "--tau -1"),
    (["decay", "--limit", "X"], "--limit"),
    (["immigration-death", "--methods", "states", "--limit", "X=90"], "enlarge that limit"),
    (["decay", "--methods", "states", "--limit", "Z=9"], "unknown species 'Z'"),
    (["lotka-volterra", "--methods", "states", "--limit", "prey=9000", "predator=9000"], "lower the limits"),
    (["birth-death", "--methods", "states", "--solver", "eigen"], "eigen"),
    (["sir", "--methods", "exact", "--max-steps", "256"], "gave up after 256 steps"),
])
def test_bad_input_is_named(tmp_path, capsys, flags, words):
    with pytest.raises((ValueError, SystemExit)) as caught:
        simulate_script.main([*flags, "--out-dir", str(tmp_path)])
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 2
        message = capsys.readouterr().err.splitlines()[-1]
    else:
        message = str(caught.value)
    assert words in message and "\n" not in message
    assert not list(tmp_path.glob("simulate.*"))


def test_bad_input_is_one_line_and_status_2(tmp_path):
    finished = run_script(FOLDER / "simulate.py", "nope", "--out-dir", tmp_path, cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and len(finished.stderr.splitlines()) == 1


def test_simulate_writes_tables(tmp_path):
    model = tmp_path / "model.txt"
    model.write_text("species X = 4\nX -> 0 : 0.5\nobserve twice = 2*X\n", encoding="utf-8")
    simulate_script.main([str(model), "--methods", "exact", "states", "explicit", "mean-field", "--times", "0:4:5",
                          "--trajectories", "500", "--out-dir", str(tmp_path)])
    rows = (tmp_path / "simulate.csv").read_text(encoding="utf-8").splitlines()
    header, last = rows[0].split(","), [float(v) for v in rows[-1].split(",")]
    assert len(rows) == 6 and last[header.index("states_mean_twice")] == pytest.approx(8 * np.exp(-2))
    assert last[header.index("mean-field_mean_X")] == pytest.approx(4 * np.exp(-2), rel=1e-6)
    arrays = np.load(tmp_path / "simulate.npz")
    assert arrays["states_distribution_X"][-1] == pytest.approx(binom.pmf(np.arange(5), 4, np.exp(-2)))
