"""simpler_glove: inputs that people really have, each with its exact answer or one line of refusal.

Each block begins with an example from public bug reports of tools for word vectors; what follows
are its neighbours.
"""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectors as questions
from conftest import ROOT, load
from corpus import fetch, load_corpus, read_analogies, read_documents, read_similarity
from vector_files import export_word2vec, load_vectors, save_vectors
from vectors import WordVectors

explore = load("simpler_glove/explore.py")
evaluate = load("simpler_glove/evaluate.py")
SIMPLE = b"cat 1 2\ndog 3 4\n"


def text_of(words, table) -> bytes:
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, table, strict=True)]
    return "\n".join(lines).encode() + b"\n"


def read(path: Path, data: bytes) -> tuple[list, np.ndarray, list]:
    """(words, vectors, what was told) of a file with these bytes."""
    path.write_bytes(data)
    told = []
    words, table, _, _ = load_vectors(path, told.append)
    return words.tolist(), table, told


# ---------------------------------------------------------------- one rule of case
COUNTRIES = ["Greece", "Athens", "Iraq", "Baghdad", "Thailand", "Bangkok"]
CASES = {
    "as written": str,
    "lower": str.lower,
    "upper": str.upper,
    "swapped": str.swapcase,
    "first letter small": lambda word: word[0].lower() + word[1:],
}


def capitals(spell=str) -> WordVectors:
    """Countries and their capitals: capital = country + e₄."""
    table = np.zeros((6, 4), np.float32)
    table[::2, :3] = np.eye(3)
    table[1::2] = table[::2] + [0, 0, 0, 1]
    return WordVectors([spell(word) for word in COUNTRIES], table)


@pytest.mark.parametrize("case", CASES)
def test_questions_are_found_in_the_case_of_the_vectors(case):
    sections = read_analogies(fetch("questions-words"))
    found = questions.analogy_accuracy(capitals(CASES[case]), sections)
    assert (found["covered"], found["accuracy"]) == (9, 1.0)


def test_evaluate_on_a_file_with_capitals(tmp_path, run):
    path = tmp_path / "capitals.txt"
    path.write_bytes(text_of(COUNTRIES, capitals().vectors))
    done = run(ROOT / "simpler_glove/evaluate.py", path, "--out-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "questions-words  1.000  (covered 9 of 19544)" in done.stdout
    assert "case" not in done.stdout
    path.write_bytes(text_of(map(str.lower, COUNTRIES), capitals().vectors))
    done = run(ROOT / "simpler_glove/evaluate.py", path, "--out-dir", tmp_path)
    assert "(covered 9 of 19544)" in done.stdout
    assert "6 words are read in the vectors' case, as Athens → athens" in done.stdout


def test_a_word_as_written_goes_before_the_same_word_in_another_case(capsys):
    found = WordVectors(["us", "US", "Apple"], np.eye(3, dtype=np.float32))
    assert [found.find(word) for word in ("us", "US", "Us", "apple", "pear")] == [0, 1, 0, 2, None]
    prompt = explore.Prompt(found)
    prompt.ask("importance apple")
    assert capsys.readouterr().out == "apple: read as Apple\napple 1.00\n"
    assert prompt.ask("similarity APPLE / Apple") == 1.0
    assert capsys.readouterr().out == "APPLE: read as Apple\ncosine 1.00\n"


def test_word_similarity_in_capitals_is_that_in_small_letters():
    rng = np.random.default_rng(0)
    pairs = read_similarity(fetch("wordsim240"))
    pairs += [("Tiger", "Cat", 7.35), ("Jaguar", "Car", 7.27), ("FBI", "Fingerprint", 6.94)]
    words = sorted({word for pair in pairs for word in pair[:2]})
    table = rng.normal(size=(len(words), 5)).astype(np.float32)
    exact = questions.word_similarity(WordVectors(words, table), pairs)
    small = questions.word_similarity(WordVectors([w.lower() for w in words], table), pairs)
    assert exact == small and exact["covered"] == 243


# ---------------------------------------------------------------- an unknown word is no answer
@pytest.mark.parametrize(
    "line, told",
    [
        ("similarity Paris / London", "Paris: not among the 2 words"),
        ("similarity cat / London", "London: not among the 2 words"),
        ("similarity London / cat", "London: not among the 2 words"),
        ("similarity cat /", "takes two sentences"),
        ("similarity / cat", "takes two sentences"),
        ("keywords Paris London", "Paris London: not among"),
        ("keywords 巴黎伦敦", "巴黎 伦敦: not among"),
        ("related Paris", "Paris: not among"),
        ("related cat Paris", "Paris: not among"),
        ("similar cats", "cats: not among the 2 words; near spellings: cat"),
        ("analogy cat dog Paris", "Paris: not among"),
        ("importance cat Paris", "Paris: not among"),
    ],
)
def test_an_unknown_word_is_named_and_nothing_answered(line, told, capsys):
    prompt = explore.Prompt(WordVectors(["cat", "dog"], np.eye(2, dtype=np.float32)))
    with pytest.raises(ValueError, match=told.replace("/", ".")):
        prompt.ask(line)
    assert capsys.readouterr().out == ""


def test_unknown_words_among_known_ones_are_told(capsys):
    prompt = explore.Prompt(WordVectors(["cat", "dog"], np.eye(2, dtype=np.float32)))
    assert prompt.ask("similarity cat Paris / cat") == 1.0
    assert capsys.readouterr().out == "Paris: not among the 2 words, left out\ncosine 1.00\n"


@pytest.mark.parametrize("line", ["related zero", "similar zero", "similarity zero / cat"])
def test_a_zero_vector_has_no_neighbours(line):
    table = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    with pytest.raises(ValueError, match="zero|constant"):
        explore.Prompt(WordVectors(["zero", "cat", "dog"], table)).ask(line)


# ---------------------------------------------------------------- a word that stands twice
def test_the_first_of_two_equal_words_counts_as_in_gensim(tmp_path):
    words, table, told = read(tmp_path / "v.txt", b"cat 1 2\ndog 3 4\ncat 5 6\n")
    assert words == ["cat", "dog"] and table.tolist() == [[1, 2], [3, 4]]
    assert told == ["v.txt: line 3: cat stands twice; the first is kept, 1 left out"]


def test_repeats_under_a_header_in_binary_and_in_npz(tmp_path):
    gensim = pytest.importorskip("gensim.models")
    path = tmp_path / "v.txt"
    words, table, told = read(path, b"3 2\ncat 1 2\ncat 5 6\ndog 3 4\n")
    peer = gensim.KeyedVectors.load_word2vec_format(str(path))
    assert words == [word for word in peer.index_to_key if word] and "line 3" in told[0]
    assert (table == peer.vectors[:2]).all()
    row = np.array([1, 2], "<f4").tobytes()
    data = b"2 2\ncat " + row + b"\ncat " + row[::-1] + b"\n"
    assert read(tmp_path / "v.bin", data)[0] == ["cat"]
    save_vectors(tmp_path / "v.npz", ["a", "b", "a"], np.eye(3), [3, 2, 1], {})
    words, table, counts, _ = load_vectors(tmp_path / "v.npz", told.append)
    assert words.tolist() == ["a", "b"] and counts.tolist() == [3, 2] and len(table) == 2
    assert WordVectors(["a", "a"], [[1, 0], [0, 1]]).find("a") == 0


# ---------------------------------------------------------------- what is wrong with a file
def test_a_word_cut_inside_a_character_is_left_out_by_line_and_name(tmp_path):
    data = "银行 1 2\n".encode() + "经济".encode()[:-1] + b" 3 4\n" + "足球 5 6\n".encode()
    words, table, told = read(tmp_path / "v.txt", data)
    assert words == ["银行", "足球"] and table.tolist() == [[1, 2], [5, 6]]
    assert len(told) == 1 and "line 2: the word 经\ufffd is not UTF-8" in told[0]


def test_gbk_text_is_read_and_said(tmp_path):
    data = "银行 1 2\n一 3 4\n经济 5 6\ncat 7 8\n".encode("gbk")
    words, _, told = read(tmp_path / "v.txt", data)
    assert words == ["银行", "一", "经济", "cat"]
    assert told == ["v.txt: not UTF-8 but GBK (line 1 …): read as GBK"]
    words, _, told = read(tmp_path / "w.txt", b"4 2\n" + data)
    assert words == ["银行", "一", "经济", "cat"] and "line 2" in told[0]


@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz", "v.txt.bz2", "v.txt.xz", "v.zip", "v"])
@pytest.mark.parametrize("pack", ["plain", "gz", "bz2", "xz", "zip"])
def test_vectors_are_read_packed_in_any_way_under_any_name(tmp_path, pack, name):
    if pack == "zip":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/", "")
            archive.writestr("folder/vectors.txt", SIMPLE)
        data = (tmp_path / name).read_bytes()
    else:
        packers = {"plain": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
        data = packers[pack](SIMPLE)
    words, table, told = read(tmp_path / name, data)
    assert words == ["cat", "dog"] and table.tolist() == [[1, 2], [3, 4]] and told == []


@pytest.mark.parametrize(
    "data, told",
    [
        (b"", "the file is empty"),
        (b"\n", "the first line is empty"),
        (b"<!DOCTYPE html>\n<html>\n", "line 1 is no word with its numbers"),
        (b"version https://git-lfs.github.com/spec/v1\n", "line 1 is no word with its numbers"),
        ("cat 1 2\n".encode("utf-16"), "the text is UTF-16; save it as UTF-8"),
        (b"3 2\ncat 1 2\ndog 3 4\n", "cut short: 2 words, 3 announced"),
        (b"cat 1 2\ndog 3\n", r"line 2 \(dog\) has not 2 numbers"),
        (b"cat 1 2\n\ndog 3 4\n", r"line 2 \(empty\) has not 2 numbers"),
        (b"cat 1,5 2,5\n", "line 1 is no word with its numbers"),
        (b"cat 1 2\rdog 3 4\r", "line 1 has carriage returns inside"),
        (b"2 2\ncat 1 2 3\ndog 4 5 6\n", "2 of 2 lines hold more than 2 numbers"),
        (b"cat nan 2\n", "no word with finite numbers is left"),
        (b"9999999999 300\ncat \x00\x01", "cut short: 6 bytes for 9,999,999,999 words announced"),
        (gzip.compress(SIMPLE * 99, mtime=0)[:-9], "packed file is cut short or damaged"),
        (lzma.compress(SIMPLE)[:-9], "packed file is cut short or damaged"),
        (bz2.compress(SIMPLE)[:20] + b"damaged" * 9, "packed file is cut short or damaged"),
        (b"BZh but no bzip2\n", "line 1 is no word with its numbers"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_as_it_is(tmp_path, data, told):
    with pytest.raises(ValueError, match=told) as caught:
        read(tmp_path / "v.txt", data)
    assert str(caught.value).startswith(str(tmp_path / "v.txt")) and "\n" not in str(caught.value)


def test_an_archive_of_two_files_is_refused_by_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.txt", SIMPLE)
        archive.writestr("b.txt", SIMPLE)
    with pytest.raises(ValueError, match="holds 2 files .a.txt, b.txt"):
        load_vectors(tmp_path / "two.zip")


@pytest.mark.parametrize(
    "data, words, told",
    [
        (b"\xef\xbb\xbfcat 1 2\r\ndog 3 4\r\n", ["cat", "dog"], []),
        (b"cat\t1\t2\ndog\t3\t4\n", ["cat", "dog"], []),
        (b"cat  1   2\ndog 3 4\n", ["cat", "dog"], []),
        (b"New York 1 2\ndog 3 4\n", ["New York", "dog"], []),
        (b"2 2\nNew York 1 2\n. . . 3 4\n", ["New York", ". . ."], []),
        (b"1998 1 2\n1999 3 4\n", ["1998", "1999"], []),
        (b"3 2\nRoute 66 1 2\ncat 3 4\ndog 5 6\n", ["Route 66", "cat", "dog"], []),
        (b"1 2\ncat 1 2\ndog 3 4\n", ["cat", "dog"], ["1 words announced, 2 there"]),
        (b"cat 1 2\ndog 3 inf\n", ["cat"], ["line 2: a number of dog is not finite"]),
        (b"cat 1 2\ndog 3 1e99\n", ["cat"], ["line 2: a number of dog is not finite"]),
        (b"cat 1 2\ndog 3 4", ["cat", "dog"], ["the last line has no end"]),
        ("扬　姚 1 2\n".encode(), ["扬　姚"], []),
        ("a\u2028b 1 2\nc\x85d 3 4\n".encode(), ["a\u2028b", "c\x85d"], []),
    ],
)
def test_what_can_be_used_is_used_and_the_rest_told(tmp_path, data, words, told):
    found, _, lines = read(tmp_path / "v.txt", data)
    assert found == words and len(lines) == len(told)
    assert all(part in line for part, line in zip(told, lines, strict=True))


# ---------------------------------------------------------------- words are no fixed-width strings
def counted(tmp_path, data: bytes) -> dict:
    (tmp_path / "corpus.txt").write_bytes(data)
    words, counts, _, _ = load_corpus([tmp_path / "corpus.txt"], min_count=1)
    return dict(zip(words.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize(
    "odd", [b"cat\0 fish", b"\0cat fish", b"c\0at fish\0", b"\xef\xbb\xbfcat fish", b"cat \0 fish"]
)
def test_a_nul_or_byte_order_mark_is_no_part_of_a_word(tmp_path, odd):
    data = b"cat dog\n" * 20 + (odd + b"\n") * 20
    assert counted(tmp_path, data) == {"cat": 40, "dog": 20, "fish": 20}


def test_a_very_long_word_costs_its_own_length_only(tmp_path):
    long = "=" * 1_000_000
    text = f"{long} {' '.join(f'w{i}' for i in range(2000))}\n"
    found = counted(tmp_path, text.encode())
    assert found[long] == 1 and len(found) == 2001  # an array of str would take 8 GB
    save_vectors(tmp_path / "v.npz", list(found), np.ones((2001, 2)), list(found.values()), {})
    assert (tmp_path / "v.npz").stat().st_size < 2_000_000
    assert load_vectors(tmp_path / "v.npz")[0].tolist() == list(found)


def test_a_nul_at_the_end_of_a_word_is_kept_in_files_of_vectors(tmp_path):
    save_vectors(tmp_path / "v.npz", ["cat", "cat\0"], np.eye(2), [2, 1], {})
    assert load_vectors(tmp_path / "v.npz")[0].tolist() == ["cat", "cat\0"]
    assert read(tmp_path / "v.txt", b"cat 1 2\ncat\0 3 4\n")[0] == ["cat", "cat\0"]


def test_files_of_earlier_versions_still_load(tmp_path):
    np.savez(tmp_path / "v.npz", words=np.array(["cat", "dog"]), vectors=np.eye(2))
    words, table, counts, config = load_vectors(tmp_path / "v.npz")
    assert words.tolist() == ["cat", "dog"] and table.dtype == np.float32
    assert counts is None and config == {}


@pytest.mark.parametrize(
    "data, told",
    [
        ("cat\n银行 经济\n".encode("gbk"), r"byte 4 \(line 2\) is not UTF-8; convert GBK"),
        (b"cat\ncat \xff\n", r"byte 8 \(line 2\) is not UTF-8; convert it"),
        ("cat dog\n".encode("utf-16"), "the text is UTF-16"),
    ],
)
def test_a_corpus_in_another_encoding_is_refused_by_line(tmp_path, data, told):
    (tmp_path / "corpus.txt").write_bytes(data)
    with pytest.raises(ValueError, match=told) as caught:
        list(read_documents([tmp_path / "corpus.txt"]))
    assert "corpus.txt" in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_on_any_system(tmp_path, end):
    (tmp_path / "corpus.txt").write_bytes(end.join(["a b", "", "c", ""]).encode())
    found = [words for words in read_documents([tmp_path / "corpus.txt"]) if words]
    assert found == [["a", "b"], ["c"]]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_corpus_is_read_by_what_it_holds_not_by_its_name(tmp_path, pack):
    (tmp_path / "corpus.gz").write_bytes(pack("银行 经济\n".encode()))
    assert list(read_documents([tmp_path / "corpus.gz"])) == [["银行", "经济"]]
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        archive.writestr("corpus.txt", "银行 经济\n")
    assert list(read_documents([tmp_path / "corpus.zip"])) == [["银行", "经济"]]


# ---------------------------------------------------------------- words that hold blanks
ODD = ["扬　姚", "New York", "New", "York", "a\u00a0b", "　", "cat", "的"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("扬　姚", ["扬　姚"]),
        ("cat 扬　姚 的", ["cat", "扬　姚", "的"]),
        ("New York", ["New York"]),
        ("York New York", ["York", "New York"]),
        ("a\u00a0b", ["a\u00a0b"]),
        ("　", ["　"]),
        ("cat　的", ["cat", "的"]),
        ("  cat  ", ["cat"]),
        ("cat dog", ["cat", "dog"]),
    ],
)
def test_a_query_is_looked_up_whole_before_it_is_split(text, words):
    assert WordVectors(ODD, np.eye(8)).split(text) == words


def test_a_long_text_is_split_in_no_time():
    text = " ".join(["cat", "New", "York", "dog"] * 5000)
    assert WordVectors(ODD, np.eye(8)).split(text) == ["cat", "New York", "dog"] * 5000


@pytest.mark.parametrize("word", ODD)
def test_every_known_word_can_be_asked_for(word, capsys):
    rng = np.random.default_rng(0)
    prompt = explore.Prompt(WordVectors(ODD, rng.normal(size=(8, 4))), top=3)
    answer = prompt.ask(f"related {word}")
    assert len(answer) == 3 and word not in dict(answer)
    assert prompt.ask(f"importance {word}")[0][0] == word
    assert prompt.ask(f"similarity {word} / {word}") == pytest.approx(1, abs=1e-6)


# ---------------------------------------------------------------- what is written reads back
WORDS = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1),
    min_size=1,
    max_size=6,
    unique=True,
)


@settings(max_examples=100, deadline=None)
@given(words=WORDS, data=st.data())
def test_npz_files_read_back(tmp_path_factory, words, data):
    path = tmp_path_factory.getbasetemp() / "back.npz"
    table = np.array(data.draw(numbers(len(words))), np.float32)
    save_vectors(path, words, table, np.arange(len(words)), {"word": words[0]})
    found, back, counts, config = load_vectors(path)
    assert found.tolist() == words and config == {"word": words[0]}
    assert np.array_equal(back, table) and counts.tolist() == list(range(len(words)))


@settings(max_examples=100, deadline=None)
@given(words=WORDS, data=st.data())
def test_exported_text_reads_back(tmp_path_factory, words, data):
    path = tmp_path_factory.getbasetemp() / "back.txt"
    table = np.array(data.draw(numbers(len(words))), np.float32)
    export_word2vec(path, words, table)
    found, back, _, _ = load_vectors(path)
    assert found.tolist() == words
    np.testing.assert_allclose(back, table, rtol=1e-5)


def numbers(rows: int):
    number = st.floats(-1e6, 1e6, width=32)
    return st.lists(st.lists(number, min_size=3, max_size=3), min_size=rows, max_size=rows)


def test_a_word_with_a_line_break_is_not_exported(tmp_path):
    with pytest.raises(ValueError, match="line break"):
        export_word2vec(tmp_path / "v.txt", ["a\nb"], np.eye(1))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- gensim's own files and tests
def gensim_file(name: str) -> Path:
    utils = pytest.importorskip("gensim.test.utils")
    path = Path(utils.datapath(name))
    if not path.is_file():
        pytest.skip(f"this gensim has no {name}")
    return path


@pytest.mark.parametrize(
    "name, header",
    [
        ("word2vec_pre_kv_c", True),
        ("test_glove.txt", False),
        ("euclidean_vectors.bin", True),
        ("poincare_vectors.bin", True),
        ("high_precision.kv.txt", True),
        ("high_precision.kv.bin", True),
        ("lee_fasttext.vec", True),
        ("crime-and-punishment.vec", True),
        ("toy-model.vec", True),
    ],
)
def test_gensim_s_files_are_read_as_gensim_reads_them(name, header):
    models = pytest.importorskip("gensim.models")
    path = gensim_file(name)
    binary = name.endswith(".bin")
    peer = models.KeyedVectors.load_word2vec_format(str(path), binary=binary, no_header=not header)
    words, table, _, _ = load_vectors(path, lambda line: None)
    assert words.tolist() == peer.index_to_key
    np.testing.assert_array_equal(table, peer.vectors)


def test_gensim_s_tests_of_keyed_vectors_hold_for_ours():
    """most_similar, its topn and its left-out words, similarity: as in test_keyedvectors.py."""
    models = pytest.importorskip("gensim.models")
    path = gensim_file("euclidean_vectors.bin")
    peer = models.KeyedVectors.load_word2vec_format(str(path), binary=True)
    ours = WordVectors(*load_vectors(path))
    expected = [word for word, _ in peer.most_similar("war", topn=5)]
    assert [word for word, _ in ours.related("war", 5, cosine=True)] == expected
    assert len(ours.related("war", 10**6)) == len(peer) - 1
    for first in ("war", "conflict", "year"):
        for word, cosine in ours.related(first, 5, cosine=True):
            assert cosine == pytest.approx(peer.similarity(first, word), abs=1e-5)
    three = ("war", "conflict", "year")
    query = peer["war"] + peer["conflict"] - peer["year"]  # sums of vectors, not of unit vectors
    near = [word for word, _ in peer.similar_by_vector(query, topn=13) if word not in three]
    expected = near[:10]
    assert [word for word, _ in ours.analogy("war", "conflict", "year")] == expected
    with pytest.raises(ValueError, match="not among"):
        ours.related("not_in_vocab")


def test_gensim_s_damaged_files_are_told():
    told = []
    words, _, _, _ = load_vectors(gensim_file("pang_lee_polarity_fasttext.vec"), told.append)
    assert len(words) == 1689 and "line 150" in told[0] and "5 in all" in told[0]
    with pytest.raises(ValueError, match="cut short: 1 words, 3 announced"):
        load_vectors(gensim_file("pretrained.vec"))


def test_gensim_s_word_pairs_hold_for_ours():
    """test_evaluate_word_pairs of gensim: ρ on wordsim353, unknown words left out."""
    models = pytest.importorskip("gensim.models")
    path = gensim_file("word2vec_pre_kv_c")
    pairs = gensim_file("wordsim353.tsv")
    peer = models.KeyedVectors.load_word2vec_format(str(path))
    ours = WordVectors(*load_vectors(path))
    _, spearman, unknown = peer.evaluate_word_pairs(str(pairs))
    found = questions.word_similarity(ours, read_similarity(pairs))
    assert found["spearman"] == pytest.approx(spearman.statistic, abs=1e-3)  # near ties
    assert 100 * (1 - found["covered"] / found["total"]) == pytest.approx(unknown)
    assert found["covered"] > 3
