"""Is the PMI of two sets of words the sum of the PMIs of their pairs? Exactly by law; on text?

Article: 更别致的词向量模型(二), (三) https://kexue.fm/archives/4669 https://kexue.fm/archives/4671
Run:     python simpler_glove/experiments/additivity.py
Symbols: R(Q, A) = P(Q, A) / (P(Q) P(A)) → exp of set_pmi (eq. 2)
         Σ_i Σ_j PMI(q_i, a_j) → pair_sum (eq. 7)   f(x + y − z) = f(x) f(y) / f(z) →
         additive_solutions (eq. 13)
Differs from the article: it proves the lemma and stops; here both hypotheses are built, broken, and
         measured on text, and the functional equation is solved.
"""

import itertools
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import default_documents

# triples that the lemma expects to see so often: the count's own noise is then about 1/√20 = 0.22
LEAST_EXPECTED = 20


def flags(parser):
    block = "tokens of a run of text in which words are together"
    parser.add_argument("--block", type=cli.between(2, 10**6), default=50, help=block)
    words = "most frequent words whose triples are measured"
    parser.add_argument("--words", type=cli.between(3, 10**5), default=500, help=words)
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


# ---------------------------------------------------------------- the lemma on a constructed law
def independent_law(
    sources: int, targets: int, rng: np.random.Generator, link: float = 0.0
) -> np.ndarray:
    """Joint table P(q_1 … q_k, a_1 … a_l) that satisfies both hypotheses of the lemma.

    Shape (2^l,)·k + (2,)·l. Each q_i is uniform on 2^l values and
    P(a_j = 1 | q) = p_j Π_i (1 + ε_ij s_j(q_i)), s_j = ±1 the j-th bit of q_i. Bits are
    independent, so q and a are independent among themselves, and given each other, yet q tells of
    a. link > 0 breaks it: q_2 repeats q_1 with that probability.
    """
    values = 2**targets
    bits = np.arange(values)[:, None] >> np.arange(targets) & 1
    signs = 1 - 2.0 * bits  # (2^l, l)
    strengths = rng.uniform(0.2, 0.6, (sources, targets))  # ε_ij
    rates = np.full([values] * sources + [targets], rng.uniform(0.05, 0.2, targets))
    for i in range(sources):
        shape = [1] * sources + [targets]
        shape[i] = values
        rates = rates * (1 + strengths[i] * signs).reshape(shape)
    joint = np.full([values] * sources, values ** -float(sources))
    if link and sources > 1:
        same = np.eye(values).reshape([values, values] + [1] * (sources - 2))
        joint = joint * (1 - link + link * values * same)
    for j in range(targets):
        rate = rates[..., j].reshape([values] * sources + [1] * j)
        joint = np.stack([joint * (1 - rate), joint * rate], axis=-1)
    return joint


def set_pmi(joint: np.ndarray, chosen: tuple, first: tuple, second: tuple) -> float:
    """PMI of two sets of variables, each at its chosen value: log R (eq. 2)."""

    def probability(variables):
        others = tuple(v for v in range(joint.ndim) if v not in variables)
        return joint.sum(axis=others)[tuple(chosen[v] for v in sorted(variables))]

    both = probability((*first, *second))
    return float(np.log(both / (probability(first) * probability(second))))


def additivity_error(joint: np.ndarray, sources: int, chosen: tuple) -> tuple[float, float]:
    """(PMI(Q, A), PMI(Q, A) − Σ_i Σ_j PMI(q_i, a_j)) of one joint table (eq. 7)."""
    queries, answers = tuple(range(sources)), tuple(range(sources, joint.ndim))
    whole = set_pmi(joint, chosen, queries, answers)
    pair_sum = sum(
        set_pmi(joint, chosen, (i,), (j,)) for i, j in itertools.product(queries, answers)
    )
    return whole, whole - pair_sum


def constructed(rng: np.random.Generator) -> dict:
    """The lemma on laws of several sizes, and on one whose q₁ and q₂ are linked."""
    exact = []
    for sources, targets in ((1, 1), (2, 1), (2, 2), (3, 2), (3, 3)):
        joint = independent_law(sources, targets, rng)
        exact.append(additivity_error(joint, sources, (0,) * sources + (1,) * targets))
    linked = independent_law(2, 2, rng, link=0.3)
    _, broken = additivity_error(linked, 2, (0, 0, 1, 1))
    return {
        "constructed_worst_departure": max(abs(error) for _, error in exact),
        "constructed_broken_departure": broken,
        "constructed_largest_pmi": max(whole for whole, _ in exact),
    }


# ---------------------------------------------------------------- the functional equation
def additive_solutions(points: int = 9) -> np.ndarray:
    """Basis (m, points) of g = log f on a grid with g(x + y − z) = g(x) + g(y) − g(z) (eq. 13)."""
    rows = []
    for x, y, z in itertools.product(range(points), repeat=3):
        if 0 <= x + y - z < points:
            row = np.zeros(points)
            for place, sign in ((x + y - z, 1), (x, -1), (y, -1), (z, 1)):
                row[place] += sign
            rows.append(row)
    _, singular, axes = np.linalg.svd(np.array(rows), full_matrices=False)
    return axes[singular < 1e-9 * singular[0]]  # the null space


def solve_equation() -> dict:
    """Dimension of the solutions, and how far they lie from straight lines."""
    basis = additive_solutions()
    line = np.vander(np.arange(basis.shape[1]), 2)  # columns x and 1
    fitted = line @ np.linalg.lstsq(line, basis.T, rcond=None)[0]
    residual = float(np.abs(basis.T - fitted).max())
    return {"solutions": len(basis), "solutions_line_residual": residual}


# ---------------------------------------------------------------- the lemma on text
def frequent_words(documents, most: int) -> list[str]:
    """The most frequent words made of letters and digits."""
    counts = Counter(itertools.chain.from_iterable(documents))
    letters = (word for word, _ in counts.most_common() if word.isalnum())
    return list(itertools.islice(letters, most))


def blocks_of_text(documents, vocabulary: list[str], length: int) -> np.ndarray:
    """float32 (blocks, words) of 0/1: which word occurs in which run of `length` tokens.

    No run crosses a line.
    """
    index = {word: column for column, word in enumerate(vocabulary)}
    rows = []
    columns = []
    total = 0
    for tokens in documents:
        for start in range(0, len(tokens) - length + 1, length):
            run = tokens[start : start + length]
            present = {index[token] for token in run if token in index}
            rows.extend([total] * len(present))
            columns.extend(present)
            total += 1
    presence = np.zeros((total, len(vocabulary)), np.float32)
    presence[rows, columns] = 1
    return presence


def measure_triples(presence: np.ndarray, least: float = LEAST_EXPECTED) -> dict:
    """PMI({q1, q2}, a) beside PMI(q1, a) + PMI(q2, a) where the lemma expects ≥ least.

    The choice rests on the lemma's expectation, not on what was seen, so that it does not bend the
    answer. Returns arrays measured, predicted, link = PMI(q1, q2), expected (count).
    """
    total, words = presence.shape
    single = presence.sum(axis=0, dtype=np.float64)
    pair = (presence.T @ presence).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(pair * total / np.outer(single, single))
    found = {name: [] for name in ("measured", "predicted", "link", "expected")}
    for q1 in range(words):
        inside = presence[presence[:, q1] > 0]
        triple = (inside.T @ inside).astype(np.float64)  # (q2, a): blocks that hold q1, q2 and a
        predicted = pmi[q1][None, :] + pmi  # PMI(q1, a) + PMI(q2, a), (q2, a)
        expected = pair[q1][:, None] * single[None, :] / total * np.exp(predicted)
        q2, a = np.nonzero(expected >= least)
        keep = (q2 > q1) & (a != q1) & (a != q2)
        q2, a = q2[keep], a[keep]
        seen = np.maximum(triple[q2, a], 0.5)  # a zero count as half a one
        found["measured"].append(np.log(seen * total / (pair[q1, q2] * single[a])))
        found["predicted"].append(predicted[q2, a])
        found["link"].append(pmi[q1, q2])
        found["expected"].append(expected[q2, a])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def summarize(triples: dict) -> dict:
    """Numbers of the comparison in nats, beside those of saying 0 and of the counts' own noise."""
    measured = triples["measured"]
    predicted = triples["predicted"]
    link = triples["link"]
    departure = measured - predicted
    near, far = np.abs(link) < 0.1, np.abs(link) > np.log(2)
    return {
        "triples": len(measured),
        "correlation": float(np.corrcoef(measured, predicted)[0, 1]),
        "slope": float(np.polyfit(predicted, measured, 1)[0]),
        "rms_departure": rms(departure),
        "mean_departure": float(departure.mean()),
        "rms_of_saying_zero": rms(measured),
        "rms_counting_noise": rms(triples["expected"] ** -0.5),
        "rms_departure_unlinked": rms(departure[near]),
        "rms_departure_linked": rms(departure[far]),
        "mean_departure_linked": float(departure[far].mean()) if far.any() else float("nan"),
    }


# ---------------------------------------------------------------- figures
def plot_text(triples: dict):
    """Left: measured over predicted PMI; right: the departure over PMI(q1, q2), with quartiles."""
    figure, (left, right) = cli.subplots(1, 2, height=4)
    predicted = triples["predicted"]
    measured = triples["measured"]
    link = triples["link"]
    shown = left.hexbin(predicted, measured, gridsize=50, bins="log", cmap="Blues", mincnt=1)
    ends = np.percentile(np.r_[predicted, measured], [0.1, 99.9])
    left.plot(ends, ends, color="C1", label="the lemma")
    left.set(xlim=ends, ylim=ends, xlabel="PMI(q₁, a) + PMI(q₂, a) [nat]")
    left.set(ylabel="PMI({q₁, q₂}, a) measured [nat]")
    left.legend(loc="upper left", frameon=False)
    figure.colorbar(shown, ax=left, label="triples of words")
    departure = measured - predicted
    edges = np.unique(np.percentile(link, np.linspace(1, 99, 13)))
    place = np.digitize(link, edges)
    bins = []
    for number in range(1, len(edges)):
        inside = place == number
        if inside.sum() > 10:
            quartiles = np.percentile(departure[inside], [25, 50, 75])
            bins.append((link[inside].mean(), *quartiles))
    middle, low, median, high = np.array(bins).T
    right.fill_between(middle, low, high, alpha=0.3)
    right.plot(middle, median, "o-", label="text: median, quartiles")
    right.axhline(0, color="C1", label="the lemma")
    right.set(xlabel="PMI(q₁, q₂) [nat], 0: independent", ylabel="measured − predicted [nat]")
    right.legend(frameon=False)
    return figure


@threadpool_limits.wrap(limits=1)  # small matrices: threads only get in the way
def main(args):
    metrics = constructed(np.random.default_rng(args.seed)) | solve_equation()
    documents = default_documents(args.data_dir, args.quick)
    vocabulary = frequent_words(documents, args.words)
    presence = blocks_of_text(documents, vocabulary, args.block)
    triples = measure_triples(presence)
    if len(triples["measured"]) < 100:
        number = len(triples["measured"])
        raise ValueError(
            f"only {number} triples of words occur often enough; more --words or a longer --block"
        )
    text = summarize(triples)
    metrics |= {"blocks": len(presence), "words": len(vocabulary), **text}
    runs = f"{len(presence):,} runs of {args.block} tokens"
    print(f"text: {runs}, {text['triples']:,} triples of words", flush=True)
    added = {
        "correlation": text["correlation"],
        "exact": metrics["constructed_worst_departure"],
        "broken": metrics["constructed_broken_departure"],
        "rms": text["rms_departure"],
        "rms_of_zero": text["rms_of_saying_zero"],
    }
    exact = added["exact"] < 1e-12 and abs(added["broken"]) > 0.01
    better = added["rms"] < added["rms_of_zero"] and added["correlation"] > 0.5
    solved = {
        "dimension": metrics["solutions"],
        "residual": metrics["solutions_line_residual"],
    }
    claims = [
        cli.claim("C7.1", added, exact and better),
        cli.claim("C7.2", solved, solved["dimension"] == 1),
    ]
    return metrics, claims, {"additivity_text": plot_text(triples)}


if __name__ == "__main__":
    cli.run(main, flags)
