"""Is the PMI of two sets of words the sum of the PMIs of their pairs? Exactly, on a constructed law; roughly, on text.

Article: 更别致的词向量模型(二)：对语言进行建模 https://kexue.fm/archives/4669 (and 4671 for f)
Run:     python simpler_glove/pmi_additivity.py
Time:    6 CPU s on one core (AMD EPYC), 0.3 GB

Symbols: R(Q, A) = P(Q, A) / (P(Q) P(A)) → exp of set_pmi (eq. 2)   Σ_i Σ_j PMI(q_i, a_j) → pair_sum (eq. 7)
         f(x + y − z) = f(x) f(y) / f(z) → additive_solutions (eq. 13)
Differs from the article: it proves the lemma and stops; here both hypotheses are built, broken, and measured on text,
         and the functional equation is solved, which leaves a constant: f = C·exp(αx).
"""
import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.vectors import default_documents  # noqa: E402

HERE = Path(__file__).resolve().parent
LEAST_EXPECTED = 20     # triples the lemma expects to see so often: the count's own noise is then about 1/√20 = 0.22


# ---------------------------------------------------------------- method: the lemma on a constructed law
def independent_law(sources: int, targets: int, rng: np.random.Generator, link: float = 0.0) -> np.ndarray:
    """Joint table P(q_1 … q_k, a_1 … a_l), shape (2^l,)·k + (2,)·l, that satisfies both hypotheses of the lemma.

    Each q_i is uniform on 2^l values and P(a_j = 1 | q) = p_j Π_i (1 + ε_ij s_j(q_i)), s_j = ±1 the j-th bit of q_i.
    Bits are independent, so q and a are independent among themselves, and given each other, yet q tells of a.
    link > 0 breaks it: q_2 repeats q_1 with that probability."""
    values = 2 ** targets
    signs = 1 - 2.0 * (np.arange(values)[:, None] >> np.arange(targets) & 1)       # (2^l, l)
    strengths = rng.uniform(0.2, 0.6, (sources, targets))                           # ε_ij
    rates = np.full([values] * sources + [targets], rng.uniform(0.05, 0.2, targets))
    for i in range(sources):
        shape = [1] * sources + [targets]
        shape[i] = values
        rates = rates * (1 + strengths[i] * signs).reshape(shape)
    prior = np.full([values] * sources, values ** -float(sources))
    if link and sources > 1:
        same = np.eye(values).reshape([values, values] + [1] * (sources - 2))
        prior = prior * (1 - link + link * values * same)
    joint = prior
    for j in range(targets):
        rate = rates[..., j].reshape([values] * sources + [1] * j)
        joint = np.stack([joint * (1 - rate), joint * rate], axis=-1)
    return joint


def set_pmi(joint: np.ndarray, sources: int, chosen: tuple, sets: tuple) -> float:
    """PMI of two sets of events: chosen[v] is the value of variable v, sets = (variables of Q, variables of A)."""
    def probability(variables):
        others = tuple(v for v in range(joint.ndim) if v not in variables)
        return joint.sum(axis=others)[tuple(chosen[v] for v in sorted(variables))]
    first, second = sets
    return float(np.log(probability((*first, *second)) / (probability(first) * probability(second))))


def additivity_error(joint: np.ndarray, sources: int, chosen: tuple) -> tuple[float, float]:
    """(PMI(Q, A), PMI(Q, A) − Σ_i Σ_j PMI(q_i, a_j)) of one joint table (article eq. 7)."""
    queries, answers = range(sources), range(sources, joint.ndim)
    whole = set_pmi(joint, sources, chosen, (tuple(queries), tuple(answers)))
    pair_sum = sum(set_pmi(joint, sources, chosen, ((i,), (j,))) for i in queries for j in answers)
    return whole, whole - pair_sum


def additive_solutions(points: int = 9) -> np.ndarray:
    """Basis (m, points) of g = log f on a grid with g(x + y − z) = g(x) + g(y) − g(z): the null space of the system."""
    rows = []
    for x in range(points):
        for y in range(points):
            for z in range(points):
                if 0 <= x + y - z < points:
                    row = np.zeros(points)
                    for place, sign in ((x + y - z, 1), (x, -1), (y, -1), (z, 1)):
                        row[place] += sign
                    rows.append(row)
    _, singular, axes = np.linalg.svd(np.array(rows), full_matrices=False)
    return axes[singular < 1e-9 * singular[0]]


# ---------------------------------------------------------------- evaluation: the lemma on text
def blocks_of_text(documents, vocabulary: list[str], length: int) -> np.ndarray:
    """float32 (blocks, words) of 0/1: which word occurs in which run of `length` tokens (no run crosses a line)."""
    index = {word: column for column, word in enumerate(vocabulary)}
    rows, columns, total = [], [], 0
    for tokens in documents:
        for start in range(0, len(tokens) - length + 1, length):
            present = {index[token] for token in tokens[start:start + length] if token in index}
            rows.extend([total] * len(present))
            columns.extend(present)
            total += 1
    presence = np.zeros((total, len(vocabulary)), np.float32)
    presence[rows, columns] = 1
    return presence


def measure_triples(presence: np.ndarray, least: float = LEAST_EXPECTED) -> dict:
    """Measured PMI({q1, q2}, a) beside PMI(q1, a) + PMI(q2, a), over all triples where the lemma expects ≥ least.

    The choice rests on the lemma's expectation, not on what was seen, so that it does not bend the answer.
    Returns arrays measured, predicted, link = PMI(q1, q2), expected (count)."""
    total, words = presence.shape
    single = presence.sum(axis=0, dtype=np.float64)
    pair = (presence.T @ presence).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(pair * total / np.outer(single, single))
    found = {name: [] for name in ("measured", "predicted", "link", "expected")}
    for q1 in range(words):
        inside = presence[presence[:, q1] > 0]
        triple = (inside.T @ inside).astype(np.float64)              # (q2, a): blocks that hold q1, q2 and a
        predicted = pmi[q1][None, :] + pmi                           # PMI(q1, a) + PMI(q2, a), (q2, a)
        expected = pair[q1][:, None] * single[None, :] / total * np.exp(predicted)
        q2, a = np.nonzero(expected >= least)
        keep = (q2 > q1) & (a != q1) & (a != q2)
        q2, a = q2[keep], a[keep]
        seen = np.maximum(triple[q2, a], 0.5)                        # a zero count as half a one
        found["measured"].append(np.log(seen * total / (pair[q1, q2] * single[a])))
        found["predicted"].append(predicted[q2, a])
        found["link"].append(pmi[q1, q2])
        found["expected"].append(expected[q2, a])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def summarize(triples: dict) -> dict:
    """Numbers of the comparison; RMS in nats, beside the RMS of saying 0 and of one pair's PMI alone."""
    measured, predicted, link = triples["measured"], triples["predicted"], triples["link"]
    departure = measured - predicted
    near, far = np.abs(link) < 0.1, np.abs(link) > np.log(2)
    rms = lambda x: float(np.sqrt(np.mean(x ** 2))) if len(x) else float("nan")   # noqa: E731
    return {"triples": len(measured), "correlation": float(np.corrcoef(measured, predicted)[0, 1]),
            "slope": float(np.polyfit(predicted, measured, 1)[0]),
            "rms_departure": rms(departure), "mean_departure": float(departure.mean()),
            "rms_of_saying_zero": rms(measured), "rms_counting_noise": rms(triples["expected"] ** -0.5),
            "rms_departure_unlinked": rms(departure[near]), "rms_departure_linked": rms(departure[far]),
            "mean_departure_linked": float(departure[far].mean()) if far.any() else float("nan")}


# ---------------------------------------------------------------- figures
def plot_text(triples: dict, rng: np.random.Generator) -> Figure:
    """Left: measured against predicted PMI; right: the departure against PMI(q1, q2), mean and quartiles."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = left.hexbin(triples["predicted"], triples["measured"], gridsize=50, bins="log", cmap="Blues", mincnt=1)
    ends = np.percentile(np.r_[triples["predicted"], triples["measured"]], [0.1, 99.9])
    left.plot(ends, ends, color="C1", label="the lemma")
    left.set(xlim=ends, ylim=ends, xlabel="PMI(q₁, a) + PMI(q₂, a), nats", ylabel="PMI({q₁, q₂}, a) measured, nats")
    left.legend(loc="upper left")
    figure.colorbar(shown, ax=left, label="triples")
    departure, link = triples["measured"] - triples["predicted"], triples["link"]
    edges = np.unique(np.percentile(link, np.linspace(1, 99, 13)))
    place = np.digitize(link, edges)
    bins = [(link[place == b].mean(), *np.percentile(departure[place == b], [25, 50, 75]))
            for b in range(1, len(edges)) if (place == b).sum() > 10]
    middle, low, median, high = np.array(bins).T
    right.fill_between(middle, low, high, alpha=0.3)
    right.plot(middle, median, "o-", label="median and quartiles on text")
    right.axhline(0, color="C1", label="the lemma")
    right.set(xlabel="PMI(q₁, q₂), nats (independent: 0)", ylabel="measured − predicted, nats")
    right.legend()
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--block", type=int, default=50, help="tokens of a run of text in which words are together")
    parser.add_argument("--words", type=int, default=500, help="most frequent words whose triples are measured")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    if args.block < 2:
        parser.error(f"--block {args.block}: must be at least 2")
    if args.words < 3:
        parser.error(f"--words {args.words}: must be at least 3")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    def seed(text: str) -> int:
        return range(10**9).index(int(text))               # else ValueError, from which argparse makes its message
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random draw, 0 … 999999999")
    parser.add_argument("--out-dir", type=Path, default=HERE / "outputs", help="where results and figures go")
    parser.add_argument("--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR, else data/.cache)")


def save_results(args: argparse.Namespace, script: str, metrics: dict, claims: list, figures: list,
                 started: float) -> dict:
    """Write <out-dir>/<script>.json in one move and return what it holds."""
    packages = [name for name in ("numpy", "scipy", "keras", "tensorflow", "matplotlib") if name in sys.modules]
    results = {
        "script": script, "quick": args.quick, "seed": args.seed,
        "config": {key: str(value) if isinstance(value, Path) else value
                   for key, value in vars(args).items() if key not in ("out_dir", "data_dir")},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": f"{os.cpu_count()} cores, {platform.machine()}", "seconds": round(time.perf_counter() - started, 1),
        "metrics": metrics, "claims": claims, "figures": figures,
    }
    path = args.out_dir / f"{script}.json"
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(results, ensure_ascii=False, indent=1, default=float) + "\n", encoding="utf-8")
    os.replace(partial, path)
    for claim in claims:
        verdict = {True: "holds", False: "does NOT hold", None: "not measurable here"}[claim["holds"]]
        print(f"{claim['id']} {verdict}: {claim['claim']} | article: {claim['expected']} | here: {claim['measured']}")
    print(f"{'QUICK RUN, not results. ' if args.quick else ''}Wrote {path} in {results['seconds']} s")
    return results


def main(argv=None) -> dict:
    started = time.perf_counter()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)
    exact = [additivity_error(independent_law(k, m, rng), k, (0,) * k + (1,) * m)
             for k, m in ((1, 1), (2, 1), (2, 2), (3, 2), (3, 3))]
    broken, broken_error = additivity_error(independent_law(2, 2, rng, link=0.3), 2, (0, 0, 1, 1))
    worst = max(abs(error) for _, error in exact)
    print(f"constructed: PMI(Q, A) up to {max(whole for whole, _ in exact):.2f} nats, worst departure {worst:.1e}; "
          f"q₁ linked to q₂: {broken:.2f} nats, departure {broken_error:+.2f}", flush=True)

    basis = additive_solutions()
    line = np.vander(np.arange(basis.shape[1]), 2)          # columns x and 1
    residual = float(np.abs(basis.T - line @ np.linalg.lstsq(line, basis.T, rcond=None)[0]).max())

    documents = default_documents(args)
    counts = {}
    for tokens in documents:
        for token in tokens:
            counts[token] = counts.get(token, 0) + 1
    letters = (word for word in sorted(counts, key=counts.get, reverse=True) if word.isalnum())
    vocabulary = [word for word, _ in zip(letters, range(args.words))]
    presence = blocks_of_text(documents, vocabulary, args.block)
    triples = measure_triples(presence)
    if len(triples["measured"]) < 100:
        raise ValueError(f"only {len(triples['measured'])} triples of words occur often enough; "
                         "more text, more --words or a longer --block is needed")
    text = summarize(triples)
    print(f"text: {len(presence):,} runs of {args.block} tokens, {text['triples']:,} triples, correlation "
          f"{text['correlation']:.2f}, RMS departure {text['rms_departure']:.2f} nats", flush=True)
    figures = ["pmi_additivity_text.png"]
    plot_text(triples, rng).savefig(args.out_dir / figures[0], dpi=150)
    metrics = {"constructed_worst_departure": worst, "constructed_broken_departure": broken_error,
               "constructed_largest_pmi": max(whole for whole, _ in exact), "solutions": len(basis),
               "solutions_line_residual": residual, "blocks": len(presence), "words": len(vocabulary), **text}
    better = text["rms_departure"] < text["rms_of_saying_zero"] and text["correlation"] > 0.5
    claims = [
        {"id": "C7.1", "claim": "PMI(Q, A) = Σ PMI(q, a): exact under naive independence, approximate on text",
         "expected": "exact; approximate", "holds": bool(worst < 1e-12 and abs(broken_error) > 0.01 and better),
         "measured": f"constructed law: {worst:.0e} (with q₁ linked to q₂: {broken_error:+.2f}); text: correlation "
                     f"{text['correlation']:.2f}, RMS departure {text['rms_departure']:.2f} of "
                     f"{text['rms_of_saying_zero']:.2f} nats, {text['rms_counting_noise']:.2f} of it counting noise"},
        {"id": "C7.2", "claim": "f(x + y − z) = f(x) f(y) / f(z), f continuous ⇒ f = exp(αx)",
         "expected": "one family, exp(αx)", "holds": bool(len(basis) == 1),
         "measured": f"{len(basis)}-dimensional space of log f, off a straight line by {residual:.0e}: f = C·exp(αx); "
                     "C = 1 needs f(0) = 1 besides (PMI 0 where ⟨v, v⟩ = 0)"},
    ]
    return save_results(args, "pmi_additivity", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
