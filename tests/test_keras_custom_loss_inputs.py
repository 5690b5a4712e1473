"""Inputs that people really have: shapes on which a loss means nothing, advice, questions.

Each example has its exact value or its one line of refusal, and neighbours of its kind.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer_search import AnswerSearch
from conftest import load
from docs import pages
from losses import (
    batch_triplet_loss,
    center_distance,
    check_labels,
    cosine,
    smoothed_cross_entropy,
    triplet_loss,
)

F = "float32"


# ------------------------------------------------------------ the mixed loss
def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1\): one class is always certain"):
        smoothed_cross_entropy([[1.0]], [[0.2]], 0.1)


def test_two_columns_give_the_binary_value():
    found = np.array(smoothed_cross_entropy([[1.0, 0.0]], [[0.2, 0.8]], 0.1))
    assert found == pytest.approx([-(0.95 * np.log(0.2) + 0.05 * np.log(0.8))], rel=1e-6)
    assert found == pytest.approx([1.540123], abs=1e-6)


@pytest.mark.parametrize(
    "true, pred",
    [
        ((3,), (3, 4)),  # class numbers
        ((3, 1), (3, 4)),  # class numbers in a column, which would be broadcast
        ((1, 4), (3, 4)),  # one row for all
        ((4,), (4,)),  # one sample without its axis
        ((), ()),
        ((3, 4), (3, 5)),
        ((3, 4), (3, 2, 4)),  # a label for each text, a prediction for each word
        ((3, 1), (3, 1)),  # yes or no in one column
        ((3, 2, 1), (3, 2, 1)),
    ],
)
@pytest.mark.parametrize("from_logits", [False, True])
def test_shapes_without_a_meaning_are_refused(true, pred, from_logits):
    with pytest.raises(ValueError, match="shape"):
        smoothed_cross_entropy(np.ones(true, F), np.ones(pred, F), from_logits=from_logits)


def test_a_prediction_for_each_word_is_the_loss_of_each_word():
    g = np.random.default_rng(0)
    p = g.dirichlet(np.ones(5), size=(3, 2)).astype(F)
    hot = np.eye(5, dtype=F)[g.integers(5, size=(3, 2))]
    found = np.array(smoothed_cross_entropy(hot, p))
    rows = np.array(smoothed_cross_entropy(hot.reshape(6, 5), p.reshape(6, 5)))
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found.ravel(), rows, rtol=1e-6)


@pytest.mark.parametrize("pred_type", ["int32", "int64", "uint8", "float64", "float16", bool])
@pytest.mark.parametrize("true_type", ["int32", "float64", bool])
def test_types_of_numbers_do_not_change_the_value(pred_type, true_type):
    """Whole numbers are probabilities too; the targets must not be cut to whole numbers."""
    hot, p = np.eye(3)[[0, 1]], np.eye(3)[[0, 2]]
    found = np.array(smoothed_cross_entropy(hot.astype(true_type), p.astype(pred_type)))
    assert found[1] > 5 and np.isfinite(found).all()
    soft = np.array(smoothed_cross_entropy([[0.5, 0.5, 0]], p[:1].astype(pred_type), 0.0))
    assert soft > 3  # half of −log 1e-7 and none of the other half


def test_training_a_model_of_one_output_is_refused():
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", smoothed_cross_entropy)
    with pytest.raises(ValueError, match="one class is always certain"):
        model.fit(np.ones((4, 2), F), np.ones((4, 1), F), verbose=0)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, 1.5, float("nan")])
def test_epsilon_outside_its_range_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        smoothed_cross_entropy(np.eye(3, dtype=F), np.eye(3, dtype=F), epsilon)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 8), st.integers(1, 5), st.floats(0, 0.99), st.integers(0, 10**6), st.booleans()
)
def test_the_mixed_loss_is_the_formula_on_any_rows(classes, rows, epsilon, seed, from_logits):
    g = np.random.default_rng(seed)
    z = g.normal(size=(rows, classes)) * 2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    hot = np.eye(classes)[g.integers(classes, size=rows)]
    expected = -(1 - epsilon) * (hot * np.log(p)).sum(1) - epsilon * np.log(p).mean(1)
    given_rows = (z if from_logits else p).astype(F)
    found = smoothed_cross_entropy(hot.astype(F), given_rows, epsilon, from_logits)
    np.testing.assert_allclose(np.array(found), expected, rtol=2e-5, atol=1e-6)


# ------------------------------------------------------------ triplets
@pytest.mark.parametrize(
    "a, b",
    [
        ((3, 4), (3, 5)),
        ((3, 4), (1, 4)),  # would be broadcast
        ((4,), (4,)),
        ((3, 2, 4), (3, 2, 4)),
        ((3, 1), (3, 1)),  # a cosine of one number is ±1, and its gradient 0
    ],
)
def test_codes_without_a_cosine_are_refused(a, b):
    with pytest.raises(ValueError, match="codes have shapes"):
        cosine(np.ones(a, F), np.ones(b, F))


@pytest.mark.parametrize(
    "right, wrong", [((3,), (3,)), ((3, 4), (3, 4)), ((3, 1), (1, 4)), ((3, 1), (4, 1)), ((), ())]
)
def test_cosines_that_do_not_fit_are_refused(right, wrong):
    with pytest.raises(ValueError, match="right cosines have shape"):
        triplet_loss(np.ones(right, F), np.ones(wrong, F))


@pytest.mark.parametrize("margin", [0, -0.1, 2.5, float("nan")])
def test_a_margin_that_no_two_cosines_differ_by_is_refused(margin):
    with pytest.raises(ValueError, match="margin"):
        triplet_loss(np.ones((3, 1), F), np.ones((3, 1), F), margin)


def batch(rows=4):
    g = np.random.default_rng(3)
    return g.normal(size=(2, rows, 5)).astype(F), np.arange(rows, dtype="int32")[:, None]


@pytest.mark.parametrize(
    "right_id, right_ids",
    [
        (np.arange(4), np.arange(4)[:, None]),  # numbers without a column
        (np.arange(4)[:, None], np.arange(4)),
        (np.arange(4)[:, None], np.arange(3)[:, None]),
        (np.arange(8).reshape(4, 2), np.arange(4)[:, None]),
    ],
)
def test_names_of_answers_that_do_not_fit_are_refused(right_id, right_ids):
    (q, r), _ = batch()
    with pytest.raises(ValueError, match="right_id has shape"):
        batch_triplet_loss(q, r, right_id.astype("int32"), right_ids.astype("int32"))


def test_a_batch_of_one_is_refused():
    (q, r), names = batch(1)
    with pytest.raises(ValueError, match="batch of one"):
        batch_triplet_loss(q, r, names, names)


@pytest.mark.parametrize("width", [0, 1])
def test_the_own_answer_is_never_a_wrong_one(width):
    """Also where the list of right answers is empty, or forgets it: else L = m for ever."""
    (q, r), names = batch()
    forgotten = np.full((4, width), -1, "int32")
    listed = np.array(batch_triplet_loss(q, r, names, names))
    np.testing.assert_allclose(np.array(batch_triplet_loss(q, r, names, forgotten)), listed)


def test_one_answer_to_two_questions_of_a_batch_is_wrong_for_neither():
    (q, r), names = batch()
    r[1], names[1] = r[0], names[0]
    found = np.array(batch_triplet_loss(q, r, names, np.full((4, 1), -1, "int32")))[:2, 0]

    def cos(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    for i in (0, 1):
        hinges = [max(0, 0.1 + cos(q[i], r[k]) - cos(q[i], r[i])) for k in (2, 3)]
        active = [hinge for hinge in hinges if hinge > 0]
        assert found[i] == pytest.approx(sum(active) / max(1, len(active)), abs=1e-6)


# ------------------------------------------------------------ center loss
@pytest.mark.parametrize(
    "features, centres",
    [
        ((3, 4), (3, 1, 4)),  # an Embedding's output that was not flattened
        ((3, 4), (1, 4)),
        ((3, 4), (4,)),
        ((3, 4), (3, 5)),
        ((4,), (4,)),
    ],
)
def test_centres_that_do_not_fit_are_refused(features, centres):
    with pytest.raises(ValueError, match="features have shape"):
        center_distance(np.ones(features, F), np.ones(centres, F))


@pytest.mark.parametrize(
    "labels, words",
    [
        ([0, 10], "0 to 10: must lie in 0 … 9"),
        ([-1, 3], "-1 to 3"),
        ([0.5, 3], "not all whole"),
        ([float("nan"), 3], "not all whole"),
        (["0", "3"], "not all whole"),
        (np.eye(10), r"shape \(10, 10\): must be class numbers"),
        ([[0], [3]], r"shape \(2, 1\)"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        check_labels(labels, 10)


def test_labels_that_are_whole_numbers_pass():
    for labels in ([], [0, 9], np.array([0.0, 9.0]), np.array([0, 9], "uint8")):
        assert len(check_labels(labels, 10)) == len(labels)


# ------------------------------------------------------------ advice is tested like code
@pytest.fixture(scope="module")
def table():
    """What the idioms and the advice beside them do here and now."""
    script = load("keras_custom_loss/experiments/idioms.py")
    return script.try_idioms(script.make_data(0))


@pytest.mark.slow
def test_every_cell_of_the_advice_works(table):
    advice = [(row["idiom"]["en"], part) for row in table for part in row["instead"]]
    failing = [(idiom, part) for idiom, part in advice if part["verdict"] != "works"]
    assert len(advice) > 25 and failing == []


@pytest.mark.slow
def test_every_idiom_that_does_not_work_has_advice(table):
    for row in table:
        assert bool(row["instead"]) == (row["verdict"] != "works"), row["idiom"]["en"]


@pytest.mark.slow
def test_the_page_shows_the_table_of_today(table):
    import keras

    run = pages.recorded("keras_custom_loss")["idioms"]
    if run["versions"]["keras"] != keras.__version__:
        pytest.skip("the page's table is of another Keras")
    assert [{**row, "error": ""} for row in table] == [
        {**row, "error": ""} for row in run["metrics"]["table"]
    ]


@pytest.mark.slow
def test_what_the_loaders_say_about_lambdas(table):
    """The advice of old, `safe_mode=False`, fails for a lambda that names `ops`."""
    found = {row["idiom"]["en"]: row for row in table}
    row = found["the same with `safe_mode=False`, if the lambda uses `ops`"]
    assert row["verdict"] == "fails" and row["error"].startswith("NameError")


# ------------------------------------------------------------ questions
@pytest.mark.parametrize(
    "question, language",
    [
        ("租房保险包括什么?", "zh"),
        ("IRA是什么？", "zh"),  # a word of the other script
        ("Does renters insurance cover theft?", "en"),
        ("401k", "en"),
    ],
)
def test_the_language_is_that_of_the_question(question, language):
    assert load("keras_custom_loss/answer.py").language_of(question) == language


@pytest.mark.parametrize("question", ["", "   ", "？！", "42", "🙂"])
def test_a_question_without_words_is_refused(question):
    with pytest.raises(ValueError, match="neither a Chinese character nor a letter"):
        load("keras_custom_loss/answer.py").language_of(question)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04cut short"])
def test_damaged_weights_are_named(content, tmp_path):
    path = tmp_path / "answer_zh.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="answer_zh.npz holds no weights"):
        load("keras_custom_loss/answer.py").restore(None, path)


def test_weights_of_something_else_are_named(tmp_path):
    path = tmp_path / "answer_zh.npz"
    np.savez(path, other=np.zeros(3))
    splits = {"train": [("aabb", [0], [1])], "valid": [("aabb", [0], [1])]}
    search = AnswerSearch(splits, ["aabbcc", "bbccdd", "aaddbb"], "zh", 8, 20)
    with pytest.raises(ValueError, match="answer_zh.npz holds no weights"):
        load("keras_custom_loss/answer.py").restore(search, path)
