"""How good are word vectors? Word similarity and analogies, with covered and total; any files.

Article: 更别致的词向量模型(五)：有趣的结果 https://kexue.fm/archives/4677
Run:     python simpler_glove/evaluate.py                       ours beside the article's loss
         python simpler_glove/evaluate.py mine.npz theirs.txt   a row a file
Symbols: A + B − C → answer_analogies of vectors.py (3CosAdd on unit vectors, as gensim)
Differs from the article: it shows nine analogies (experiments/analogies.py) and no benchmark; here
         are WordSim-240 and 353, CA-translated (Chen et al. 2015), Google's questions-words.
"""

from pathlib import Path

import numpy as np

import cli
from corpus import fetch, read_analogies, read_similarity
from variants import COLORS, LABELS, train_variants
from vector_files import load_vectors
from vectors import WordVectors, analogy_accuracy, word_similarity

SIMILARITY = ("wordsim240", "wordsim353")
ANALOGY = ("ca-translated", "questions-words")
SETTINGS = ("corpus", "mode", "unseen_weight", "truncate")  # of a file of train.py, worth telling


def flags(parser):
    parser.add_argument("vectors", nargs="*", help="vector files (none: ours and the article's)")
    words = cli.between(4, 10**9)
    restricted = "analogies among so many frequent words"
    parser.add_argument("--restrict", type=words, default=300_000, help=restricted)
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


def read_sets(names: tuple[str, ...], read, data_dir: Path | None) -> dict:
    """name → content of the evaluation sets that are here; a missing one is told and left out."""
    found = {}
    for name in names:
        try:
            found[name] = read(fetch(name, data_dir))
        except OSError as error:
            missing = str(error).splitlines()[0]
            print(f"{missing} Left out; python data/download.py {name} fetches it", flush=True)
    return found


def description(vectors: WordVectors) -> str:
    """Size, first words, norms and settings of the vectors, in a line."""
    size, dimensions = vectors.vectors.shape
    first = " ".join(vectors.words[:8])
    norms = f"{vectors.norms.min():.2f} to {vectors.norms.max():.2f}"
    known = {key: vectors.config[key] for key in SETTINGS if key in vectors.config}
    settings = f"; {known}" if known else ""
    return f"{size:,} words, {dimensions} dimensions, norms {norms}: {first} …{settings}"


def tell_case(vectors: WordVectors, similarity: dict, analogy: dict) -> None:
    """Say how many words of the sets were found in another case than they are written."""
    asked = {word for pairs in similarity.values() for pair in pairs for word in pair[:2]}
    for sections in analogy.values():
        asked.update(word for _, questions in sections for four in questions for word in four)
    other = [word for word in asked if word not in vectors.index and vectors.find(word) is not None]
    if other:
        example = min(other)
        read_as = vectors.words[vectors.find(example)]
        print(f"  {len(other)} words are read in the vectors' case, as {example} → {read_as}")


def evaluate(vectors: WordVectors, similarity: dict, analogy: dict, restrict: int) -> dict:
    """Name of a set → its numbers, of which `score` is ρ or the accuracy."""
    row = {}
    for name, pairs in similarity.items():
        row[name] = word_similarity(vectors, pairs)
        row[name]["score"] = row[name]["spearman"]
    for name, sections in analogy.items():
        row[name] = analogy_accuracy(vectors, sections, restrict)
        row[name]["score"] = row[name]["accuracy"]
    return row


# ---------------------------------------------------------------- figures
def plot_scores(rows: dict[str, dict]):
    """A group of bars per set, a bar per file."""
    first = next(iter(rows.values()))
    names = [name for name in first if any(row[name]["score"] is not None for row in rows.values())]
    figure, axes = cli.subplots(height=3.8)
    width = 0.8 / len(rows)
    for number, (label, row) in enumerate(rows.items()):
        places = np.arange(len(names)) + (number - (len(rows) - 1) / 2) * width
        scores = [row[name]["score"] or 0 for name in names]
        named = LABELS.get(label, Path(label).name)
        bars = axes.bar(places, scores, width, label=named, color=COLORS.get(label, f"C{number}"))
        axes.bar_label(bars, fmt="%.2f", fontsize=9)
    labels = [f"{name}\n{first[name]['covered']} of {first[name]['total']}" for name in names]
    axes.set_xticks(range(len(names)), labels)
    axes.set(ylabel="Spearman's ρ (wordsim), accuracy (others)")
    axes.margins(y=0.15)
    axes.legend(frameon=False)
    return figure


def main(args):
    if args.vectors:
        loaded = {path: load_vectors(Path(path)) for path in args.vectors}
    else:
        loaded = train_variants(args, ["default", "article", "untruncated"])
    similarity = read_sets(SIMILARITY, read_similarity, args.data_dir)
    analogy = read_sets(ANALOGY, read_analogies, args.data_dir)
    rows = {}
    for label, arrays in loaded.items():
        vectors = WordVectors(*arrays)
        print(f"{label}: {description(vectors)}", flush=True)
        rows[label] = evaluate(vectors, similarity, analogy, args.restrict)
        tell_case(vectors, similarity, analogy)
        for name, score in rows[label].items():
            found = f"covered {score['covered']} of {score['total']}"
            value = "no pair known" if score["score"] is None else f"{score['score']:.3f}"
            print(f"{label:12s} {name:16s} {value}  ({found})", flush=True)
    scored = any(score["score"] is not None for row in rows.values() for score in row.values())
    figures = {"evaluate_scores": plot_scores(rows)} if scored else {}
    return {"scores": rows}, [], figures


if __name__ == "__main__":
    cli.run(main, flags)
