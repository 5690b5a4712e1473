"""keras_custom_loss: every loss against a float64 closed form and central differences; the same on each backend."""
import importlib.util
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import ROOT, run_script

FOLDER = ROOT / "keras_custom_loss"
BACKENDS = ["tensorflow", "jax", "torch"]

# Run once per backend in a process of its own: values and gradients of every loss for fixed inputs, as one JSON object.
PROBE = """
    import json, sys
    sys.path[:0] = [FOLDER, ROOT]
    import numpy as np
    import keras
    from keras import ops
    from label_smoothing import smoothed_cross_entropy
    from triplet_loss import batch_triplet_loss, cosine, triplet_loss
    from center_loss import center_distance

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
            grads = jax.grad(lambda *t: ops.sum(function(*t)), argnums=tuple(range(len(arrays))))(*arrays)
        else:
            import torch
            tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
            ops.sum(function(*tensors)).backward()
            grads = [t.grad for t in tensors]
        return [ops.convert_to_numpy(g).tolist() for g in grads]

    cases = json.load(open(CASES, encoding="utf-8"))
    a = {name: np.asarray(value) for name, value in cases.items()}
    f = lambda name: a[name].astype("float32")
    functions = {
        "smoothed": (lambda z: smoothed_cross_entropy(f("hot"), z, 0.1, from_logits=True), ["logits"]),
        "huge": (lambda z: smoothed_cross_entropy(f("hot"), z, 0.1, from_logits=True), ["huge_logits"]),
        "probabilities": (lambda p: smoothed_cross_entropy(f("hot"), p, 0.1), ["probabilities"]),
        "triplet": (lambda q, r, w: triplet_loss(cosine(q, r), cosine(q, w), 0.1), ["q", "r", "w"]),
        "zero": (lambda q, r, w: triplet_loss(cosine(q, r), cosine(q, w), 0.1), ["zeros", "r", "w"]),
        "tie": (lambda q, r, w: triplet_loss(cosine(q, r), cosine(q, w), 0.1), ["q", "r", "r"]),
        "beyond": (lambda q, r, w: triplet_loss(cosine(q, r), cosine(q, w), 0.1), ["q", "q", "opposite"]),
        "batch": (lambda q, r: batch_triplet_loss(q, r, a["right_id"].astype("int32"),
                  a["right_ids"].astype("int32"), 0.1), ["q", "r"]),
        "center": (center_distance, ["q", "r"]),
        "center tie": (center_distance, ["q", "q"]),
    }
    answer = {}
    for name, (function, inputs) in functions.items():
        arrays = [f(i) for i in inputs]
        value = ops.convert_to_numpy(function(*[ops.convert_to_tensor(x) for x in arrays]))
        answer[name] = {"value": value.tolist(), "gradient": gradient(function, *arrays)}
    keras_value = keras.losses.CategoricalCrossentropy(label_smoothing=0.1, from_logits=True, reduction=None)
    answer["keras logits"] = ops.convert_to_numpy(keras_value(f("hot"), f("logits"))).tolist()
    keras_value = keras.losses.CategoricalCrossentropy(label_smoothing=0.1, reduction=None)
    answer["keras probabilities"] = ops.convert_to_numpy(keras_value(f("hot"), f("probabilities"))).tolist()
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
    """Cosine; a vector shorter than 1e-4 counts as divided by 1e-4 (so a zero vector has cosine 0)."""
    def length(x):
        return np.maximum(np.linalg.norm(x, axis=-1), 1e-4)
    return np.sum(a * b, -1) / (length(a) * length(b))


def triplet(q, r, w, margin=0.1):
    return np.maximum(0, margin + cos(q, w) - cos(q, r))[:, None]


def batch_triplet(q, r, right_id, right_ids, margin=0.1):
    """A double loop over questions and all answers of the batch."""
    rows = []
    for i in range(len(q)):
        hinges = [max(0, margin + cos(q[i], a) - cos(q[i], r[i]))
                  for a, name in zip(r, right_id[:, 0]) if name not in right_ids[i]]
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
    arrays = {"hot": np.eye(k)[g.integers(k, size=n)], "logits": logits, "huge_logits": huge,
              "probabilities": softmax(logits), "q": q, "r": r, "w": w, "zeros": np.zeros((n, d)), "opposite": -q,
              "right_id": np.arange(n)[:, None],
              "right_ids": np.array([[0, -1], [1, 3], [2, -1], [3, 9], [4, 0], [5, -1]])}
    # float32 numbers, so that both sides see the same inputs
    return {name: a.astype("float32").astype("float64") for name, a in arrays.items()}


answers = {}


def probe(backend, cases, tmp_path_factory):
    if backend not in answers:
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not installed")
        file = tmp_path_factory.mktemp("cases") / "cases.json"
        file.write_text(json.dumps({name: a.tolist() for name, a in cases.items()}), encoding="utf-8")
        code = f"FOLDER, ROOT, CASES = {str(FOLDER)!r}, {str(ROOT)!r}, {str(file)!r}\n" + textwrap.dedent(PROBE)

        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600,
                                  env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"})
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
        np.testing.assert_allclose(found[name]["value"], expected, rtol=1e-6, atol=1e-6, err_msg=f"{backend} {name}")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_central_differences(backend, cases, tmp_path_factory):
    found = probe(backend, cases, tmp_path_factory)
    for name, (function, inputs) in forms(cases).items():
        # at ±1000 a step must be seen next to 1000; the loss is piecewise linear there but for ties, where softmax is
        # still smooth; the zero vector's cosine is linear within 1e-4, so its step is far below that
        expected = central_differences(function, inputs, step=1e-4 if name == "huge" else 1e-6)
        for got, wanted in zip(found[name]["gradient"], expected):
            assert np.isfinite(got).all(), f"{backend} {name}"
            noise = 1e-5 * np.abs(wanted).max() + 1e-6  # float32 where terms of size 1 cancel, as in a tie
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=noise, err_msg=f"{backend} {name}")


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
    np.testing.assert_allclose(found["probabilities"]["value"], found["keras probabilities"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_backends_agree(backend, cases, tmp_path_factory):
    one, other = probe("tensorflow", cases, tmp_path_factory), probe(backend, cases, tmp_path_factory)
    for name in forms(cases):
        np.testing.assert_allclose(one[name]["value"], other[name]["value"], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def scripts():
    pytest.importorskip("keras")
    sys.path.insert(0, str(FOLDER))
    try:
        import answer_ranking
        import center_loss
        import idioms
        import insurance_qa
        import label_smoothing
        import six_forms
        import triplet_loss
    finally:
        sys.path.remove(str(FOLDER))
    import types
    return types.SimpleNamespace(center=center_loss, idioms=idioms, corpus=insurance_qa, smoothing=label_smoothing,
                                 forms=six_forms, triplet=triplet_loss, ranking=answer_ranking)


def test_the_smallest_smoothed_loss_is_where_the_article_says(scripts):
    """Scan p_y for K = 10, ε = 0.1: least at 0.91, where the loss is 0.5003 and the logit gap ln 91."""
    p = np.linspace(0.5, 0.999, 4991)
    rows = np.concatenate([p[:, None], np.repeat((1 - p)[:, None] / 9, 9, axis=1)], axis=1)
    hot = np.repeat(np.eye(10)[:1], len(p), axis=0)
    loss = np.array(scripts.smoothing.smoothed_cross_entropy(hot.astype("float32"), rows.astype("float32"), 0.1))
    assert p[loss.argmin()] == pytest.approx(scripts.smoothing.best_probability(0.1, 10), abs=2e-3)
    assert loss.min() == pytest.approx(0.5003, abs=1e-4)
    best = rows[np.abs(p - 0.91).argmin()]
    assert np.log(best[0] / best[1]) == pytest.approx(np.log(91), abs=1e-3)


def test_calibration_of_a_hand_made_case(scripts):
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.65, 0.35]])
    error, rows = scripts.smoothing.calibration(p, np.array([0, 1, 0, 0]))
    assert error == pytest.approx(0.5 * abs(0.95 - 0.5) + 0.5 * abs(0.65 - 1))
    assert rows.shape == (2, 3)


def test_losses_raise_with_the_shapes(scripts):
    ones = np.ones((3, 4), "float32")
    with pytest.raises(ValueError, match=r"\(3,\).*\(3, 4\)"):
        scripts.smoothing.smoothed_cross_entropy(np.zeros(3, "float32"), ones)
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(3, 5\)"):
        scripts.triplet.cosine(ones, np.ones((3, 5), "float32"))
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(2, 4\)"):
        scripts.center.center_distance(ones, np.ones((2, 4), "float32"))
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        scripts.triplet.triplet_loss(ones, ones)
    with pytest.raises(ValueError, match="margin -1"):
        scripts.triplet.triplet_loss(ones[:, :1], ones, margin=-1)
    with pytest.raises(ValueError, match="epsilon 1"):
        scripts.smoothing.smoothed_cross_entropy(ones, ones, epsilon=1.0)
    with pytest.raises(ValueError, match="0 to 10.*0 … 9"):
        scripts.center.check_labels(np.array([0, 10]), 10)


def test_dummy_target_has_no_effect_at_all(scripts):
    assert scripts.triplet.dummy_difference(3) == 0.0


def test_embedding_is_dense_on_one_hot(scripts):
    assert scripts.center.embedding_difference(1) == 0.0


def test_two_outputs_equal_one(scripts):
    g = np.random.default_rng(0)
    data = (g.random((640, 28, 28, 1), dtype="float32"), g.integers(10, size=640).astype("int32"))
    assert scripts.center.total_difference(data, 0.2, 0) < 1e-5


def test_scatter_ratio_and_knn_of_hand_made_points(scripts):
    points, labels = np.array([[0.0], [2], [10], [12]]), np.array([0, 0, 1, 1])
    assert scripts.center.scatter_ratio(points, labels) == pytest.approx(4 / 100)
    assert scripts.center.scatter_ratio(points * 7 + 3, labels) == pytest.approx(4 / 100)
    gallery = np.array([[0.0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9]])
    assert scripts.center.knn_accuracy(gallery, np.repeat([0, 1], 3), np.array([[0.5, 0.5], [7, 7]]),
                                       np.array([0, 1]), k=3) == 1


def test_all_six_forms_give_one_curve(scripts):
    data = scripts.idioms.make_data(0)
    curves = [scripts.idioms.training_curve(form, data, 4, 0) for form in scripts.forms.FORMS.values()]
    assert curves[0][-1] < curves[0][0]
    np.testing.assert_allclose(curves, np.repeat(curves[:1], len(curves), 0), atol=1e-6)
    # the first point by hand: the loss of the untrained network
    import keras
    keras.utils.set_random_seed(0)
    x, code, p = scripts.forms.network()
    h, q = keras.Model(x, [code, p]).predict(data[0], verbose=0)
    by_hand = -np.mean(np.log(q[data[1] == 1])) + 0.05 * np.mean(np.float64(h) ** 2)
    assert curves[0][0] == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.slow
def test_the_readme_shows_the_table_that_the_script_makes(tmp_path):
    """The idioms are run here and now; README and results/ must say the same (for the Keras they name)."""
    finished = run_script(FOLDER / "idioms.py", "--quick", "--out-dir", tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    made = (tmp_path / "idioms_table.md").read_text(encoding="utf-8").splitlines()
    readme = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    if not any(made[0] == line for line in readme):
        pytest.skip("the README's table is of another Keras")
    shown = [line for line in readme if line.startswith("| ") and line.split(" | ")[0] in
             {row.split(" | ")[0] for row in made[2:]}]
    assert shown == made[2:]


def test_tokens_and_ranks(scripts):
    assert scripts.corpus.tokenize("保险公司好", "zh", {"保险", "公司"}) == ["保险", "公司", "好"]
    assert scripts.corpus.tokenize("It's  Term-Life 5!", "en", set()) == ["it's", "term", "life", "5"]
    rows = [("a", [0], [1, 2]), ("b", [1], [0, 2])]
    scores = np.array([[3.0, 1, 1], [2, 2, 5]])
    found = scripts.corpus.rank_scores(rows, lambda i, ids: scores[i][np.array(ids)])
    assert found == {"top1": 0.5, "mrr": pytest.approx((1 + 1 / 3) / 2)}  # the tie with answer 0 is lost


def test_bm25_against_the_formula_spelled_out(scripts):
    answers, question = ["aab", "abab", "bcc"], "abc"
    counts, weights = scripts.corpus.bm25([question], answers, "zh")
    got = (weights @ counts[0].T).toarray()[:, 0]
    pairs = [[a[i:i + 2] for i in range(len(a) - 1)] for a in answers]
    mean = np.mean([len(p) for p in pairs])
    for score, own in zip(got, pairs):
        expected = 0.0
        for pair in ("ab", "bc"):
            df, tf = sum(pair in p for p in pairs), own.count(pair)
            idf, length = np.log(1 + (3 - df + 0.5) / (df + 0.5)), 0.25 + 0.75 * len(own) / mean
            expected += idf * tf * 2.5 / (tf + 1.5 * length)
        assert score == pytest.approx(expected)


def test_term_codes_are_a_tf_idf_cosine(scripts):
    """With places enough that no two terms meet, the dot product is the cosine spelled out; unknown text has code 0."""
    answers, question = ["aab", "abab", "abcc", "bcca"], "abcab"
    encode, codes = scripts.corpus.make_term_codes(answers, "zh", 1_000_003)
    pairs = [[text[i:i + 2] for i in range(len(text) - 1)] for text in (*answers, question)]
    frequency = {pair: sum(pair in own for own in pairs[:4]) for own in pairs for pair in own}

    def weights(own):
        return {pair: np.sqrt(np.log(1 + (4 - frequency[pair] + 0.5) / (frequency[pair] + 0.5)))
                * own.count(pair) / (own.count(pair) + 1.5) for pair in own if frequency[pair] >= 2}
    asked = weights(pairs[4])
    for code, own in zip(codes, map(weights, pairs[:4])):
        expected = sum(asked[pair] * own.get(pair, 0) for pair in asked) / np.sqrt(
            sum(w * w for w in asked.values()) * sum(w * w for w in own.values()))
        assert code @ encode([question])[0] == pytest.approx(expected, abs=1e-5)
    assert not encode(["zzz"]).any()


def test_the_second_model_adds_the_loss_of_both_parts(scripts):
    import keras
    keras.utils.set_random_seed(0)
    g = np.random.default_rng(1)
    model, ask, answer = scripts.triplet.build_models(0.1, True, 2, 50, 5, 9, wrongs=3, term_size=16)
    model.set_weights([w + 0.3 * g.normal(size=w.shape) for w in model.get_weights()])  # the term map starts as 0
    ids = [g.integers(1, 50, size=(6, length)).astype("int32") for length in (5, 9)]
    names = [np.arange(6)[:, None].astype("int32"), np.array([[i, -1] for i in range(6)], "int32")]
    terms = [g.normal(size=shape).astype("float32") for shape in ((6, 16), (6, 16), (6, 3, 16))]
    q, a = (encoder.predict(inputs, verbose=0).astype("float64") for encoder, inputs in
            ((ask, [ids[0], terms[0]]), (answer, [ids[1], terms[1]])))
    np.testing.assert_allclose(np.linalg.norm(q[:, 64:], axis=1), 1, atol=1e-5)
    assert np.abs(cos(q[:, 64:], terms[0]) - 1).max() > 0.01  # the question passes one layer more, the answer does not
    np.testing.assert_allclose(cos(a[:, 64:], terms[1]), 1, atol=1e-5)
    hinges = np.stack([triplet(q[:, 64:], a[:, 64:], terms[2][:, w])[:, 0] for w in range(3)], 1)
    expected = batch_triplet(q[:, :64], a[:, :64], *names) + (
        hinges.sum(1) / np.maximum(1, (hinges > 0).sum(1)))[:, None]
    np.testing.assert_allclose(model.predict([*ids, *names, *terms], verbose=0), expected, rtol=1e-4, atol=1e-5)
    both = scripts.ranking.blended(q, 64, 3.0) @ scripts.ranking.blended(a, 64, 3.0).T
    np.testing.assert_allclose(both, (q[:, :64] @ a[:, :64].T + 3 * q[:, 64:] @ a[:, 64:].T) / 4)


@pytest.mark.slow
def test_the_model_learns_on_a_slice(scripts):
    """The default recipe on a fifth of the training questions: training brings more than the terms hold untrained.
    (It takes all of them to pass BM25, see test_recorded_runs_learned.)"""
    pytest.importorskip("insuranceqa_data")
    corpus, ranking, script = scripts.corpus, scripts.ranking, scripts.triplet
    args = script.parse_args(["--term-size", "1024", "--batch-size", "128"])
    splits, answers = corpus.load_corpus("zh", None, {"train": (2500, 40), "valid": (400, 1), "test": (500, 40)})
    ids, answer_ids = corpus.make_ids([row[0] for row in splits["train"]], answers, "zh", 5000, (12, 48))
    terms, answer_terms = corpus.make_term_codes(answers, "zh", args.term_size)
    encoders, inputs = (lambda texts: ids(texts, 12), terms), [answer_ids, answer_terms]
    models, curves = script.train(args, splits, encoders, inputs, True, 3)
    assert curves["random ranked"][-1] > 0.85 and curves["random active"][-1] < curves["random active"][0] - 0.3
    rows = splits["test"]
    questions = [encode([row[0] for row in rows]) for encode in encoders]
    asked, codes = (ranking.blended(model.predict(part, batch_size=1024, verbose=0), 64, 4.0)
                    for model, part in ((models[1], questions), (models[2], inputs)))
    found = corpus.rank_scores(rows, lambda i, places: codes[places] @ asked[i])
    untrained = corpus.rank_scores(rows, lambda i, places: answer_terms[places] @ questions[1][i])
    assert found["mrr"] > untrained["mrr"] + 0.01 and untrained["mrr"] > 0.2


def test_pools_of_wrong_answers(scripts):
    rows, train = [("a", [0], [1, 2, 3])], [("b", [2], [0]), ("c", [3], [])]
    pools = scripts.ranking.make_pools(rows, train, 300, 0)
    assert pools[""] == rows and pools["unseen_"] == [("a", [0], [1])]
    drawn = pools["drawn_"][0][2]
    assert len(drawn) > 100 and 0 not in drawn and max(drawn) < 300


def test_the_corpus_keeps_test_questions_out_of_training(scripts):
    pytest.importorskip("insuranceqa_data")
    splits, answers = scripts.corpus.load_corpus("zh")
    assert len(answers) == 27413
    train, test = ({row[0] for row in splits[name]} for name in ("train", "test"))
    assert not train & test and len(train) == len(splits["train"])
    assert all(not set(right) & set(wrong) for _, right, wrong in splits["test"])


@pytest.mark.parametrize("script, flags, words", [
    ("label_smoothing", ["--epsilon", "1"], "--epsilon 1.0: must lie in [0, 1)"),
    ("label_smoothing", ["--epsilon", "-0.1"], "--epsilon -0.1"), ("triplet_loss", ["--margin", "-1"], "--margin -1.0"),
    ("triplet_loss", ["--ask", "  "], "the question is empty"), ("center_loss", ["--weight", "-1"], "--weight -1.0"),
    ("idioms", ["--steps", "0"], "--steps 0")])
def test_bad_flags_end_with_one_line(script, flags, words, tmp_path):
    finished = run_script(FOLDER / f"{script}.py", *flags, "--out-dir", tmp_path / "out")
    assert finished.returncode == 2 and words in finished.stderr and "Traceback" not in finished.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("script", ["label_smoothing", "center_loss", "idioms", "triplet_loss"])
def test_scripts_run_on_other_backends(script, backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    finished = run_script(FOLDER / f"{script}.py", "--quick", "--out-dir", tmp_path, KERAS_BACKEND=backend, timeout=600)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert json.loads((tmp_path / f"{script}.json").read_text(encoding="utf-8"))["metrics"]["backend"] == backend


def test_recorded_runs_learned():
    recorded = {name: json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))["metrics"]
                for name in ("label_smoothing", "center_loss", "triplet_loss", "idioms")}
    assert abs(recorded["label_smoothing"]["smoothed_train_p_true"] - 0.91) < 0.02
    assert recorded["center_loss"]["scatter_fold"] >= 3 and recorded["center_loss"]["accuracy_change_points"] >= -0.5
    triplet_run = recorded["triplet_loss"]
    assert triplet_run["hard_top1"] > max(5 * triplet_run["chance_top1"], triplet_run["random_top1"])
    for key in ("top1", "mrr"):
        assert triplet_run[f"hard_terms_{key}"] > triplet_run[f"bm25_{key}"]
    assert recorded["idioms"]["largest_difference"] < 1e-6
