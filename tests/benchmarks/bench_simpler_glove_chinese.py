"""simpler_glove beside gensim's skip-gram on Chinese: CPU time, word similarity and analogies.

Run:  python tests/benchmarks/bench_simpler_glove_chinese.py CORPUS.txt.xz --out bench.json

CORPUS: segmented text, a paragraph a line. train.py runs with its defaults, and its counting and
training count, without the second fit of its check; gensim's window, length and least count are
the same, its other settings its own. Both are asked wordsim-240 and all of CA-translated.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_simpler_glove import GENSIM, run

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "simpler_glove"))
import cli
from corpus import fetch, read_analogies, read_similarity
from evaluate import evaluate
from vector_files import load_vectors, open_packed
from vectors import WordVectors

TRAIN = Path(cli.__file__).parent / "train.py"


def quality(words, vectors) -> dict:
    similarity = {"wordsim240": read_similarity(fetch("wordsim240"))}
    analogy = {"ca-translated": read_analogies(fetch("ca-translated"))}
    found = evaluate(WordVectors(words, vectors), similarity, analogy, len(words))
    return {
        "wordsim240": found["wordsim240"]["score"],
        "wordsim240_pairs": found["wordsim240"]["covered"],
        "analogies_percent": 100 * found["ca-translated"]["score"],
        "analogy_questions": found["ca-translated"]["covered"],
    }


def ours(corpus: Path, folder: Path) -> tuple:
    """What train.py measured of itself, and the quality of its vectors."""
    run([sys.executable, TRAIN, corpus, "--out-dir", folder])
    metrics = json.loads((folder / "train.json").read_text(encoding="utf-8"))["metrics"]
    row = {"cpu_s": metrics["counting_cpu_s"] + metrics["training_cpu_s"]}
    return metrics, row | quality(*load_vectors(folder / "vectors.npz")[:2])


def skip_gram(corpus: Path, folder: Path, epochs: int) -> dict:
    plain, saved = folder / "corpus.txt", folder / "gensim.npz"
    with open_packed(corpus) as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file)
    used = run([sys.executable, "-c", GENSIM, plain, saved, epochs, 0])
    with np.load(saved) as archive:
        found = quality(archive["words"], archive["vectors"])
    return {"epochs": epochs, "cpu_s": used["cpu_s"]} | found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--gensim-epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        metrics, default = ours(args.corpus, Path(place))
        gensim = skip_gram(args.corpus, Path(place), args.gensim_epochs)
    answer = {"corpus": args.corpus.name}
    answer |= {key: metrics[key] for key in ("tokens", "vocabulary", "pairs")}
    answer |= {"default": default, "gensim": gensim}
    answer["times_less_cpu"] = gensim["cpu_s"] / default["cpu_s"]
    args.out.write_text(json.dumps(answer, indent=1), encoding="utf-8")
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
