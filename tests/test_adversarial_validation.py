"""adversarial_validation: numbers against closed forms and brute force, the tool on bad tables."""

import argparse
import gzip

import numpy as np
import pytest
from scipy.stats import kstest, mannwhitneyu, norm

import shifted_tasks
import split
import train_valid_test
import weights
from conftest import ROOT, load, run_script
from docs import pages

pd = pytest.importorskip("pandas")
FOLDER = ROOT / "adversarial_validation"
gaussian_shift = load("adversarial_validation/experiments/gaussian_shift.py")
label_shift = load("adversarial_validation/experiments/label_shift.py")
overfitted = load("adversarial_validation/experiments/overfitted_discriminator.py")
validation_gap = load("adversarial_validation/experiments/validation_gap.py")
density_ratio = load("tests/benchmarks/bench_adversarial_validation_density_ratio.py")
article = load("adversarial_validation/run.py")
RANDOM = np.random.default_rng


# ---------------------------------------------------------------- the method
def test_area_under_curve_counts_pairs():
    a, b = RANDOM(0).integers(0, 5, 40).astype(float), RANDOM(1).integers(1, 6, 30).astype(float)
    pairs = np.mean([(y > x) + 0.5 * (y == x) for x in a for y in b])
    assert weights.area_under_curve(a, b) == pytest.approx(pairs)


def test_rank_sum_of_counts_is_that_of_the_rows():
    random = RANDOM(0)
    scores = random.integers(0, 4, 9) / 4  # levels of equal score are one
    below, above = random.integers(0, 9, 40), random.integers(2, 9, 30)
    counts = [np.bincount(levels, minlength=9) for levels in (below, above)]
    right = mannwhitneyu(scores[above], scores[below], alternative="greater", method="asymptotic")
    auc, p_value = split.rank_sum_test(scores, *counts)
    assert auc == right.statistic / (40 * 30) and p_value == right.pvalue
    assert split.rank_sum_test(np.zeros(9), *counts) == (0.5, 1.0)


def test_gaussian_case_is_exact():
    random = RANDOM(0)
    logit = gaussian_shift.fit_logit(*gaussian_shift.gaussian_pair(200_000, 200_000, random))
    assert np.abs(logit - [1, 0, -0.5]).max() < 0.03
    measured = gaussian_shift.measure_discriminator(
        logit, *gaussian_shift.gaussian_pair(400_000, 400_000, random)
    )
    assert measured["auc"] == pytest.approx(0.76025, rel=0.005)
    assert measured["kl"] == pytest.approx(0.5, rel=0.02) and measured["mean_w"] == pytest.approx(
        1, rel=0.02
    )
    assert measured["ess"] == pytest.approx(np.exp(-1), rel=0.05)


def test_unequal_batches_move_the_intercept_alone():
    pair = gaussian_shift.gaussian_pair(80_000, 20_000, RANDOM(3))
    moved = gaussian_shift.fit_logit(*pair, equal_say=False) - gaussian_shift.fit_logit(*pair)
    assert moved[2] == pytest.approx(np.log(0.25), abs=0.02) and np.abs(moved[:2]).max() < 0.03


def test_exact_cuts_match_a_large_sample():
    x = RANDOM(1).standard_normal(1_000_000)
    w = np.exp(x - 0.5)
    exact = gaussian_shift.exact_cuts()
    for name, values in gaussian_shift.cut_every_way(w, x, RANDOM(2)).items():
        assert values.mean() == pytest.approx(exact[name][0], abs=0.02), name
        assert values.var() == pytest.approx(exact[name][1], abs=0.02), name
    assert exact["top 10 % by D"][0] == pytest.approx(norm.pdf(norm.ppf(0.9)) / 0.1)


def test_no_row_is_scored_by_a_discriminator_that_saw_it(monkeypatch):
    def guarded(x, is_test, random):
        known = set(x[:, 0])

        def score(rows):
            assert not known & set(rows[:, 0])
            return np.full(len(rows), 0.25)

        return score

    monkeypatch.setitem(weights.DISCRIMINATORS, "logistic", guarded)
    ids = np.arange(500.0)[:, None]
    d, d_test = weights.crossfit_discriminator(ids[:300], ids[300:], RANDOM(0))
    assert (d == 0.25).all() and (d_test == 0.25).all() and len(d) == 300 and len(d_test) == 200


def test_without_shift_the_discriminator_says_one_half():
    x = RANDOM(0).standard_normal((2, 3000, 10))
    d, _ = weights.crossfit_discriminator(*x, RANDOM(1))
    assert d.std() < 0.03 and weights.effective_sample_share(d / (1 - d)) > 0.97


def test_weights_are_near_exact_and_capped():
    x_train, x_test, exact = overfitted.gaussian_tables(5000, 5, RANDOM(0))
    d, _ = weights.crossfit_discriminator(x_train, x_test, RANDOM(1))
    w = weights.cap_weights(d / (1 - d))
    assert np.average(x_train[:, 0], weights=w) == pytest.approx(1, abs=0.1)
    assert np.corrcoef(w, exact)[0, 1] > 0.95
    one = np.ones(100)
    one[0] = 1e9
    assert (
        weights.cap_weights(one).max() <= 10 and weights.cap_weights(np.ones(7)).tolist() == [1] * 7
    )
    assert weights.effective_sample_share(np.ones(9)) == 1
    assert weights.effective_sample_share(np.array([1, 0, 0, 0.0])) == 0.25


@pytest.mark.slow
def test_p_values_are_uniform_without_shift():
    values = overfitted.p_values_without_shift(200, RANDOM(5))
    assert kstest(values, "uniform").pvalue > 0.01
    assert 0.01 <= np.mean(values < 0.05) <= 0.10


def test_p_value_sees_a_shift():
    x = RANDOM(0).standard_normal((2, 400, 3)) + np.array([0, 0.5])[:, None, None]
    assert weights.permutation_test(*x, RANDOM(1))[1] <= 0.002


@pytest.mark.slow
def test_keras_network_sees_what_a_line_cannot():
    pytest.importorskip("keras")
    random = RANDOM(0)
    x_train, x_test = random.standard_normal((600, 2)), 0.4 * random.standard_normal((600, 2))
    d, d_test = weights.crossfit_discriminator(x_train, x_test, random, 2, "network")
    assert weights.area_under_curve(d, d_test) > 0.75 and d.min() > 0 and d.max() < 1


# ---------------------------------------------------------------- specialists, labels, three sets
def test_diabetes_sample_of_the_documentation():
    _, y, rows, oracle = density_ratio.biased_diabetes()
    assert y[rows].mean() == pytest.approx(142.3891402714932, abs=1e-9)
    assert np.average(y[rows], weights=oracle) == pytest.approx(149.257, abs=5e-4)
    found = density_ratio.run_diabetes(RANDOM(0))
    assert abs(found["D/(1−D) on age"] - found["oracle"]) < 0.1


def test_ulsif_finds_a_gaussian_ratio():
    random = RANDOM(0)
    x_train, x_test = random.standard_normal((1000, 1)), random.standard_normal((1000, 1)) + 1
    w = weights.ulsif_weights(x_train, x_test, random)
    assert np.corrcoef(w, np.exp(x_train[:, 0] - 0.5))[0, 1] > 0.9 and w.min() > 0


def test_kliep_and_kmm_follow_the_exact_weights():
    random = RANDOM(0)
    x_train, x_test = random.standard_normal((300, 1)), random.standard_normal((600, 1)) + 1
    exact = np.exp(x_train[:, 0] - 0.5)
    kliep, kmm = (
        density_ratio.kliep_weights(x_train, x_test, random),
        density_ratio.kmm_weights(x_train, x_test),
    )
    assert kliep.mean() == pytest.approx(1, abs=0.01) and kliep.min() > 0
    for w in (kliep, kmm):
        assert (
            np.corrcoef(w, exact)[0, 1] > 0.6
            and abs(np.average(x_train[:, 0], weights=w) - 1) < 0.3
        )


def test_logistic_beats_equal_weights_and_ulsif_on_the_toy():
    errors = density_ratio.run_toy((1, 10), 3, 0, False)
    for d in (1, 10):
        ours = np.mean(errors["D/(1−D), one logistic"][d])
        assert all(
            ours < np.mean(errors[name][d]) for name in ("uLSIF", "KLIEP", "KMM", "equal weights")
        )


def test_bbse_solves_a_known_confusion():
    y = np.repeat([0, 1], 5000)
    guess = np.where(np.arange(10_000) % 10 < 2, 1 - y, y)  # right in 80 % of the cases
    shares = np.array([0.1, 0.9])
    predicted = np.array([0.8 * 0.1 + 0.2 * 0.9, 0.2 * 0.1 + 0.8 * 0.9])
    guess_test = np.repeat([0, 1], np.round(predicted * 1000).astype(int))
    assert label_shift.bbse_class_weights(y, guess, guess_test, 2) == pytest.approx(
        shares / 0.5, abs=1e-6
    )


def test_optimism_formulas():
    assert train_valid_test.expected_best_normal(1) == pytest.approx(0, abs=1e-9)
    assert train_valid_test.expected_best_normal(2) == pytest.approx(1 / np.sqrt(np.pi), rel=1e-6)
    assert train_valid_test.expected_best_normal(10) == pytest.approx(1.538753, rel=1e-5)
    brute = RANDOM(0).binomial(50, 0.5, (200_000, 10)).max(1).mean() / 50 - 0.5
    assert train_valid_test.exact_optimism(10, 50) == pytest.approx(brute, abs=5e-4)
    assert train_valid_test.exact_optimism(1, 50) == pytest.approx(0, abs=1e-12)


def test_predicted_optimism_knows_correlation():
    same = np.repeat(RANDOM(0).random((1, 4000)) < 0.7, 20, 0)
    other = RANDOM(0).random((20, 4000)) < 0.7
    assert train_valid_test.predicted_optimism(same, 100, RANDOM(1)) == pytest.approx(0, abs=3e-3)
    assert train_valid_test.predicted_optimism(other, 100, RANDOM(1)) > 0.05


# ---------------------------------------------------------------- tasks and experiment
@pytest.fixture(scope="module")
def tables():
    return shifted_tasks.load_tables()


def test_tasks_keep_train_and_test_apart(tables):
    task = shifted_tasks.make_task("digits:select=1", tables, 0)
    both = {row.tobytes() for row in task["x_train"]} & {row.tobytes() for row in task["x_test"]}
    assert not both and len(task["odds"]) == len(task["x_train"]) and task["odds"].min() > 0
    again = shifted_tasks.make_task("digits:select=1", tables, 0)
    assert all(np.array_equal(task[key], again[key]) for key in task)
    noise = shifted_tasks.make_task("adult:noise", tables, 0)
    assert 0.2 < np.mean(noise["y_train"]) < 0.45


def test_exact_odds_bring_the_test_mean(tables):
    task = shifted_tasks.make_task("adult:select=1", tables, 0)
    target = task["x_test"].mean(0)
    before = np.abs(task["x_train"].mean(0) - target).mean()
    assert (
        np.abs(np.average(task["x_train"], axis=0, weights=task["odds"]) - target).mean()
        < 0.35 * before
    )


def test_weighted_validation_beats_the_random_split(tables):
    runs = [
        validation_gap.run_task(shifted_tasks.make_task("adult:select=1", tables, seed), seed, True)
        for seed in (0, 1)
    ]
    mean = {
        key: np.mean([run[key]["absolute"] for run in runs])
        for key in ("random", "weight_d", "weight_odds")
    }
    assert mean["weight_odds"] < 0.5 * mean["random"] and mean["weight_odds"] < mean["weight_d"]


def test_gap_ratio_and_its_interval():
    ours = 0.05 + 0.01 * (np.arange(10) % 2)
    ratio, low, high = weights.gap_ratio(ours, np.full(10, 0.2), RANDOM(0))
    assert ratio == pytest.approx(0.275) and 0.25 <= low < ratio < high <= 0.3


def test_mean_gaps_leave_a_task_out_where_a_class_was_lost():
    runs = [
        {"task": "a", "random": {"absolute": 0.4}, "top_k": {"absolute": 0.1}},
        {"task": "b", "random": {"absolute": 0.8}},
    ]
    gaps, gaps_random = validation_gap.mean_gaps(runs, ["a", "b"], "top_k")
    assert gaps.tolist() == [0.1] and gaps_random.tolist() == [0.4]


# ---------------------------------------------------------------- the article's script
def test_the_articles_discriminator_finds_the_logit_of_two_gaussians():
    random = RANDOM(0)
    x_train, x_test, exact = overfitted.gaussian_tables(20_000, 3, random)
    d = article.train_discriminator(x_train, x_test[:2000], random, epochs=30)
    logit = np.log(article.weights_of(d(x_train)))
    assert np.abs(logit - np.log(exact)).max() < 0.5
    assert np.mean(article.weights_of(d(x_train))) == pytest.approx(1, abs=0.05)  # equal batches


def test_the_loss_of_a_discriminator_that_sees_nothing():
    half = np.full(10, 0.5)
    assert article.discriminator_loss(half, half) == pytest.approx(2 * np.log(2))
    assert weights.balanced_log_loss(half, np.arange(10) < 3) == pytest.approx(np.log(2))


def test_gradient_is_that_of_the_loss():
    """One step of the article's D moves the slope along the finite difference of its loss."""
    random = RANDOM(0)
    x, z = random.standard_normal((1, 3)), random.standard_normal((1, 3))
    many_x, many_z = np.repeat(x, 10, 0), np.repeat(z, 10, 0)
    d = article.train_discriminator(many_x, many_z, random, epochs=1, half=8, rate=1e-3)
    moved = np.array([np.log(article.weights_of(d(row))) for row in np.eye(3)])
    moved -= np.log(article.weights_of(d(np.zeros(3))))

    def loss(slope):
        return article.discriminator_loss(article.sigmoid(x @ slope), article.sigmoid(z @ slope))

    step = 1e-6 * np.eye(3)
    gradient = np.array([(loss(e) - loss(-e)) / 2e-6 for e in step])
    assert moved == pytest.approx(-1e-3 * gradient, rel=1e-3)


def test_drawing_and_weighting_agree():
    random = RANDOM(0)
    x = random.standard_normal(100_000)
    w = np.exp(x - 0.5)
    drawn = article.draw_validation(w, 100_000, random)
    assert x[drawn].mean() == pytest.approx(article.weighted_score(x, w), abs=0.02)
    assert len(np.unique(drawn)) < len(drawn)


# ---------------------------------------------------------------- the tool
def make_csv(path, rows=300, shift=0.0, seed=0, target=True, **columns):
    random = RANDOM(seed)
    frame = pd.DataFrame(
        {"a": random.normal(shift, 1, rows), "b": random.choice(["x", "y", "ü"], rows)}
    )
    frame.loc[::7, "a"] = np.nan
    if target:
        frame["y"] = random.integers(0, 2, rows)
    frame.assign(**columns).to_csv(path, index=False, encoding="utf-8")
    return path


def call(tmp_path, *flags):
    """split.py in this process → {"metrics": …}; its ValueError is not caught."""
    parser = argparse.ArgumentParser()
    split.flags(parser)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args([*map(str, flags), "-o", str(tmp_path / "out")])
    args.out_dir.mkdir(exist_ok=True)
    return {"metrics": split.main(args)[0]}


def test_split_writes_both_cuts_without_leakage(tmp_path):
    train, test = make_csv(tmp_path / "a.csv", 600), make_csv(tmp_path / "b.csv", 400, 1, 1, False)
    metrics = call(tmp_path, train, test, "--target", "y")["metrics"]
    assert (
        metrics["verdict"] == "weights"
        and 0.6 < metrics["auc"] < 0.85
        and metrics["p_value"] < 0.01
    )
    assert next(iter(metrics["auc_of_column"])) == "a"
    out = {
        name: pd.read_csv(tmp_path / "out" / f"split_{name}.csv")
        for name in ("weights", *split.CUTS)
    }
    for kind in ("weighted", "sampled"):
        valid, rest = set(out[f"validation_{kind}"]["row"]), set(out[f"training_{kind}"]["row"])
        assert not valid & rest and valid | rest == set(range(600))
    assert len(out["validation_sampled"]) == 120 > out["validation_sampled"]["row"].nunique()
    assert out["weights"]["weight"].mean() == pytest.approx(1, abs=0.01)
    table = pd.read_csv(train)
    shifted = np.average(table["a"].fillna(0), weights=out["weights"]["weight"])
    assert shifted > table["a"].mean() + 0.4
    drawn = table["a"].iloc[out["validation_sampled"]["row"]].mean()
    assert drawn > table["a"].mean() + 0.4
    assert not list((tmp_path / "out").glob("*.part"))


def test_split_without_shift_says_so(tmp_path):
    train, test = make_csv(tmp_path / "a.csv", 600), make_csv(tmp_path / "b.csv", 400, 0, 1, False)
    assert call(tmp_path, train, test, "--target", "y")["metrics"]["verdict"] == "no_shift"
    assert (pd.read_csv(tmp_path / "out" / "split_weights.csv")["weight"] == 1).all()


def test_split_without_overlap_refuses_the_cut(tmp_path):
    train, test = make_csv(tmp_path / "a.csv", 600), make_csv(tmp_path / "b.csv", 400, 30, 1, False)
    (tmp_path / "out").mkdir()
    stale = tmp_path / "out" / "split_validation_weighted.csv"
    stale.write_text("of an earlier run", encoding="utf-8")
    assert call(tmp_path, train, test, "--target", "y")["metrics"]["verdict"] == "no_overlap"
    assert not stale.exists() and (tmp_path / "out" / "split_weights.csv").exists()


def test_split_asks_for_a_header_and_for_the_right_order(tmp_path):
    train = make_csv(tmp_path / "a.csv", 600, c=np.arange(600))
    test = make_csv(tmp_path / "b.csv", 400, 1, 1, False, c=np.arange(400))
    with pytest.raises(ValueError, match="are the two swapped"):
        call(tmp_path, test, train, "--target", "y")
    named = call(tmp_path, train, test, "--target", "y", "--drop", "a, b")["metrics"]
    assert list(named["auc_of_column"]) == ["c"] and not any(
        "named by a number" in w for w in named["warnings"]
    )
    for path, first in ((train, "0.25,x,0,7"), (test, "0.5,x,8")):
        path.write_text(
            "\n".join([first, *path.read_text(encoding="utf-8").splitlines()[1:]]), encoding="utf-8"
        )
    found = call(tmp_path, train, test)["metrics"]["warnings"]
    assert any("does the first line of each file hold the names?" in warning for warning in found)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 500)[:-9])
    with pytest.raises(ValueError, match="cut.csv.gz is not a table"):
        call(tmp_path, tmp_path / "cut.csv.gz", test)


def test_split_repeats(tmp_path):
    train, test = make_csv(tmp_path / "a.csv"), make_csv(tmp_path / "b.csv", 200, 1, 1)
    first = call(tmp_path, train, test, "--target", "y")["metrics"]
    assert first == call(tmp_path, train, test, "--target", "y")["metrics"]


def test_split_warns_by_name(tmp_path):
    more = {"same": 1, "empty": np.nan, "name": [f"n{i}" for i in range(300)]}
    train = make_csv(tmp_path / "a.csv", only_here=2, **more)
    test = make_csv(tmp_path / "b.csv", **more)
    warnings = "\n".join(call(tmp_path, train, test, "--target", "y")["metrics"]["warnings"])
    for text in (
        "target 'y' is in TEST",
        "'same' is constant",
        "'empty' is all missing",
        "'name' is text that hardly",
        "one table only, ignored: only_here",
        "300 of 300 test rows repeat",
    ):
        assert text in warnings


@pytest.mark.parametrize(
    "case, message",
    [
        ("missing file", "nowhere.csv"),
        ("missing target", "no column 'q'"),
        ("missing drop", "no column 'z'"),
        ("nothing in common", "no usable column in common"),
        ("few rows", "99 rows"),
        ("not UTF-8", "not UTF-8"),
        ("empty file", "is not a table"),
        ("broken", "is not a table"),
        ("one table", "TEST"),
        ("fraction", "--fraction: 1.5"),
    ],
)
def test_bad_input_is_one_line(tmp_path, case, message):
    train, test = make_csv(tmp_path / "a.csv"), make_csv(tmp_path / "b.csv", seed=1, target=False)
    flags = ["--target", "y"]
    if case == "missing file":
        test = tmp_path / "nowhere.csv"
    elif case == "missing target":
        flags = ["--target", "q"]
    elif case == "missing drop":
        flags += ["--drop", "z"]
    elif case == "nothing in common":
        pd.DataFrame({"other": range(300)}).to_csv(test, index=False)
    elif case == "few rows":
        make_csv(test, 99)
    elif case == "not UTF-8":
        test.write_bytes(b"a,b\n1,gro\x81\xff\n" * 200)
    elif case == "empty file":
        test.write_bytes(b"")
    elif case == "broken":
        test.write_text("a,b\n1,2\n" + "1,2,3,4\n" * 200, encoding="utf-8")
    elif case == "fraction":
        flags += ["--fraction", "1.5"]
    finished = run_script(
        FOLDER / "split.py",
        train,
        *([] if case == "one table" else [test]),
        *flags,
        "--out-dir",
        tmp_path / "out",
        cwd=tmp_path,
    )
    assert finished.returncode == 2 and message in finished.stderr, finished.stderr
    assert "Traceback" not in finished.stderr and not list((tmp_path / "out").glob("*"))
    assert len([line for line in finished.stderr.splitlines() if "error" in line]) == 1


@pytest.mark.parametrize(
    "script, flags, message",
    [
        ("experiments/validation_gap", ["--tasks", "moon"], "--tasks moon"),
        ("experiments/validation_gap", ["--seeds", "1"], "--seeds: 1"),
        ("experiments/gaussian_shift", ["--rows", "5"], "--rows: 5"),
        ("experiments/overfitted_discriminator", ["--runs", "1"], "--runs: 1"),
        ("experiments/label_shift", ["--seeds", "0"], "--seeds: 0"),
        ("train_valid_test", ["--repeats", "1"], "--repeats: 1"),
        ("run", ["--draws", "1"], "--draws: 1"),
        ("split", ["--seed", "-1"], "--seed: -1"),
    ],
)
def test_bad_flags(script, flags, message, tmp_path):
    finished = run_script(FOLDER / f"{script}.py", *flags, "--out-dir", tmp_path / "out")
    assert finished.returncode == 2 and message in finished.stderr
    assert "Traceback" not in finished.stderr and not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    "script",
    ["run", "split", "train_valid_test", "experiments/validation_gap", "experiments/label_shift"],
)
def test_help_and_wrong_flags_load_no_slow_package(script):
    for flags, status in ((["--help"], 0), (["--nix"], 2)):
        finished = run_script("-X", "importtime", FOLDER / f"{script}.py", *flags)
        assert finished.returncode == status
        loaded = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
        assert not loaded & {"pandas", "sklearn", "keras", "scipy.stats", "matplotlib"}


def test_recorded_results_hold_what_the_readme_says():
    recorded = pages.recorded("adversarial_validation")["validation_gap"]["metrics"]
    ratio = recorded["ratio_overlapping"]["weight_odds"]
    assert ratio[0] <= 0.5 and ratio[1] < ratio[0] < ratio[2]
    assert len(recorded["overlapping_tasks"]) >= 4
    assert all(
        value[0] <= 1.1
        for name, value in recorded["ratio_by_task"].items()
        if shifted_tasks.TASKS[name][1] != "covariate"
    )
