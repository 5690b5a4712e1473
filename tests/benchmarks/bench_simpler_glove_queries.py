"""Queries over 70,000 × 128 vectors beside gensim and a full sort in float64 (the author's way).

Run:  python tests/benchmarks/bench_simpler_glove_queries.py [--vectors FILE]

Prints milliseconds a neighbour query (median of alternated runs), CPU and wall seconds of all
questions of questions-words, and whether the answers are equal. gensim missing: its rows say "not
run". Without --vectors, vectors are drawn at random around planted analogies: time does not depend
on their values.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "simpler_glove"))
from corpus import fetch, read_analogies
from vector_files import load_vectors
from vectors import WordVectors, analogy_accuracy

try:
    from gensim.models import KeyedVectors
except ImportError:
    KeyedVectors = None


def draw_vectors(
    sections: list, size: int, dimension: int, rng: np.random.Generator
) -> WordVectors:
    """Random vectors that hold the words of the questions and solve a part of them."""
    words = list(
        dict.fromkeys(
            word for _, questions in sections for question in questions for word in question
        )
    )
    table = rng.normal(size=(size, dimension)).astype(np.float32)
    index = {word: row for row, word in enumerate(words)}
    for _, questions in sections:
        shift = 2 * rng.normal(size=dimension)
        for a, b, _, _ in questions:
            table[index[b]] = table[index[a]] + shift + rng.normal(size=dimension)
    return WordVectors(words + [f"filler{i}" for i in range(size - len(words))], table)


def alternate(functions: dict, queries: list, rounds: int = 5) -> dict[str, np.ndarray]:
    """Median (wall, CPU) milliseconds a query of each function, their runs taken in turn."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            started = np.array([time.perf_counter(), time.process_time()])
            for query in queries:
                function(query)
            spent = np.array([time.perf_counter(), time.process_time()]) - started
            times[name].append(1000 * spent / len(queries))
    return {name: np.median(values, axis=0) for name, values in times.items()}


def timed(function):
    """(result, CPU seconds of all threads, wall seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=Path, help="vector file in place of random vectors")
    parser.add_argument("--words", type=int, default=70_000, help="words of the random vectors")
    parser.add_argument(
        "--analogy-words", type=int, default=30_000, help="most frequent words that may answer"
    )
    parser.add_argument("--questions", type=int, default=9000, help="analogy questions")
    args = parser.parse_args()
    rng, left, sections = np.random.default_rng(0), args.questions, []
    for name, questions in read_analogies(fetch("questions-words")):
        sections.append((name, questions[:left]))
        left -= len(sections[-1][1])
    sections = [section for section in sections if section[1]]
    vectors = (
        WordVectors(*load_vectors(args.vectors))
        if args.vectors
        else draw_vectors(sections, args.words, 128, rng)
    )
    double = vectors.vectors.astype(np.float64)
    queries = vectors.words[rng.choice(len(vectors.words), 100, replace=False)].tolist()

    def full_sort(word):
        scores = double @ double[vectors.index[word]]
        return scores.argsort()[::-1][:11]

    functions = {
        "ours, inner product": vectors.related,
        "ours, cosine": lambda word: vectors.related(word, 10, True),
        "float64 and full sort": full_sort,
    }
    keyed = None
    if KeyedVectors:
        keyed = KeyedVectors(vectors.vectors.shape[1])
        keyed.add_vectors(vectors.words.tolist(), vectors.vectors)
        keyed.fill_norms()
        functions["gensim most_similar"] = keyed.most_similar
        pairs = [(keyed.most_similar(query), vectors.related(query, 10, True)) for query in queries]
        same = sum(
            [word for word, _ in theirs] == [word for word, _ in ours] for theirs, ours in pairs
        )
        print(f"neighbours: {same} of {len(queries)} lists of ten equal to gensim's")
    shape = f"{vectors.vectors.shape[0]:,} × {vectors.vectors.shape[1]}"
    for name, (wall, cpu) in alternate(functions, queries).items():
        print(
            f"neighbour query, {shape}: {name:24s} {wall:.2f} ms wall, {cpu:.2f} ms CPU", flush=True
        )
    if not keyed:
        print("gensim: not run")

    ours, cpu, wall = timed(
        lambda: analogy_accuracy(vectors, sections, args.analogy_words, baseline=False)
    )
    print(
        f"analogies: ours    {cpu:.2f} CPU s, {wall:.2f} s wall, "
        f"accuracy {ours['accuracy']:.4f} of {ours['covered']}"
    )
    if keyed:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "questions.txt"
            path.write_text(
                "".join(
                    f": {name}\n" + "".join(" ".join(question) + "\n" for question in questions)
                    for name, questions in sections
                ),
                encoding="utf-8",
            )
            (accuracy, told), peer_cpu, peer_wall = timed(
                lambda: keyed.evaluate_word_analogies(path, restrict_vocab=args.analogy_words)
            )
        right = {section["section"]: len(section["correct"]) for section in told[:-1]}
        equal = all(right[name] == count for name, (count, _) in ours["sections"].items())
        answers = "equal" if equal else "DIFFER"
        print(
            f"analogies: gensim  {peer_cpu:.2f} CPU s, {peer_wall:.2f} s wall, "
            f"accuracy {accuracy:.4f}; right answers by section {answers}; "
            f"ratio {peer_cpu / cpu:.1f} CPU, {peer_wall / wall:.1f} wall"
        )
    else:
        print("analogies: gensim not run")


if __name__ == "__main__":
    main()
