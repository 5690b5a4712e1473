"""simpler_glove beside the author's C and gensim: CPU time, memory, loss and quality in one run.

Run:  python tests/benchmarks/bench_simpler_glove.py CORPUS.txt --author PATH/build --epochs 30 \\
          --out bench.json

CORPUS.txt: plain text, a document a line. The author's programs (bojone/simpler_glove, built) also
by SIMPLER_GLOVE_BUILD; gensim if installed and --gensim-epochs is given. A peer that is not there
gives a row that says "not run". Means over the seeds of each setting close the file.

Every stage is a process of its own, interpreter start and imports included; CPU time is user +
system of all threads, memory the largest resident set. Losses are exact, computed by one function
from the saved vectors.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "simpler_glove"))
import cli
from corpus import fetch, load_corpus, read_analogies, read_similarity
from least_squares import PairTargets, objective
from vectors import WordVectors, analogy_accuracy, word_similarity

FOLDER = Path(cli.__file__).parent
COUNT = """import sys; sys.path.insert(0, sys.argv[1])
from corpus import load_corpus
words, counts, pairs, _ = load_corpus([sys.argv[2]])
"""
TRAIN = (
    COUNT
    + """
import json
import adagrad, least_squares
from vector_files import save_vectors
options = json.loads(sys.argv[4])
solver = options.pop("solver", "least-squares")
weighting = {key: options.pop(key) for key in ("x_max", "alpha", "truncate") if key in options}
if solver == "adagrad":
    options["epochs"] = options.pop("sweeps", 30)
    options.pop("unseen_weight", None)
fit = adagrad.fit_rounds if solver == "adagrad" else least_squares.fit
report = lambda row: print(json.dumps(row), flush=True)
result = fit(pairs, counts, **options, weighting=weighting, report=report)
save_vectors(sys.argv[3], words, result["vectors"], counts, options)
"""
)
GENSIM = """import sys, json, numpy as np
from gensim.models import Word2Vec
model = Word2Vec(
    corpus_file=sys.argv[1], vector_size=128, window=10, negative=5, sg=1, min_count=5, workers=2,
    epochs=int(sys.argv[3]), seed=int(sys.argv[4]),
)
np.savez(sys.argv[2], words=np.array(model.wv.index_to_key), vectors=model.wv.vectors)
"""

LAUNCH = """import os, sys
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(process, 0)
with open(sys.argv[1], "w", encoding="ascii") as file:
    print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=file)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run(command: list, stdin: Path | None = None, stdout: Path | None = None) -> dict:
    """{cpu_s, wall_s, peak_mb, out, err} of one process.

    It is started by a small process of its own: Linux counts the memory of whoever starts a program
    as the program's.
    """
    with (
        open(stdin or os.devnull, "rb") as source,
        open(stdout, "wb") if stdout else tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.NamedTemporaryFile("r") as used,
    ):
        started = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-c", LAUNCH, used.name, *map(str, command)],
            stdin=source,
            stdout=out,
            stderr=err,
        )
        wall = time.perf_counter() - started
        err.seek(0)
        text = err.read().decode(errors="replace")
        if process.returncode:
            raise OSError(f"{command[0]} failed ({process.returncode}): {text[-500:]}")
        cpu, peak = map(float, used.read().split())
        result = {"cpu_s": cpu, "wall_s": wall, "peak_mb": peak / 1024, "err": text}
        if not stdout:
            out.seek(0)
            result["out"] = out.read().decode()
    return result


def slim(measured: dict) -> dict:
    return {key: round(measured[key], 2) for key in ("cpu_s", "wall_s", "peak_mb")}


def author_counts(path: Path, size: int):
    """(rows, columns, counts) of the C program's records with word1 > word2, in our order."""
    records = np.fromfile(path, np.dtype([("i", "<i4"), ("j", "<i4"), ("x", "<f8")]))
    records = records[records["i"] > records["j"]]
    order = np.argsort((records["i"].astype(np.int64) - 1) * size + records["j"] - 1)
    return records["i"][order] - 1, records["j"][order] - 1, records["x"][order].astype(np.int64)


def quality(words: np.ndarray, vectors: np.ndarray) -> dict:
    """WordSim-353 Spearman and analogy accuracy (questions-words, 30,000 most frequent words)."""
    known = WordVectors(words, vectors)
    similarity = word_similarity(known, read_similarity(fetch("wordsim353")))
    sections = read_analogies(fetch("questions-words"))
    found = analogy_accuracy(known, sections, 30_000, baseline=False)
    answer = {
        "wordsim353": similarity["spearman"],
        "wordsim353_pairs": similarity["covered"],
        "analogies": found["accuracy"] or 0.0,
        "analogy_questions": found["covered"],
    }
    for kind, wanted in (("syntactic", True), ("semantic", False)):
        rows = [row for name, row in found["sections"].items() if name.startswith("gram") is wanted]
        right, asked = (sum(column) for column in zip(*rows, strict=True)) if rows else (0, 0)
        if asked:
            answer[f"analogies_{kind}"] = right / asked
    return answer


def summary(means: dict, author: dict | str) -> dict:
    """What the README quotes, under names without braces: ours by setting, gensim, the author's."""
    names = {
        "article": {"unseen_weight": 0},
        "default": {"unseen_weight": 3.0},
    }
    found = {}
    for name, options in names.items():
        key = f"ours {json.dumps(options)}"
        if key in means:
            found[name] = {**means[key], "analogies_percent": 100 * means[key]["analogies"]}
    if "gensim" in means:
        percent = 100 * means["gensim"]["analogies"]
        found["gensim"] = {**means["gensim"], "analogies_percent": percent}
    if isinstance(author, dict):
        keys = ("loss", "wordsim353")
        found["author"] = {key: author[key] for key in keys}
        found["author"]["analogies_percent"] = 100 * author["analogies"]
        found["author"]["cpu_s"] = author["total_30_epochs_cpu_s"]
        if "article" in found:
            found["times_less_cpu"] = found["author"]["cpu_s"] / found["article"]["cpu_s"]
    return found


def means_over_seeds(rows: dict) -> dict:
    """{setting without its seed: means, number of seeds, times less CPU time than gensim}."""
    groups = {}
    for name, row in rows.items():
        if not isinstance(row, dict) or not name.startswith(("ours {", "gensim seed")):
            continue
        if name.startswith("ours {"):
            options = json.loads(name[5:])
            options.pop("seed")
            name = f"ours {json.dumps(options)}"
        else:
            name = "gensim"
        groups.setdefault(name, []).append(row)
    means = {
        name: {
            "seeds": len(group),
            **{
                key: float(np.mean([row[key] for row in group]))
                for key in ("cpu_s", "peak_mb", "wordsim353", "analogies")
            },
        }
        for name, group in groups.items()
    }
    for name in means if "gensim" in means else []:
        means[name]["times_less_cpu_than_gensim"] = means["gensim"]["cpu_s"] / means[name]["cpu_s"]
    return means


def plot(rows: dict):
    """Loss over CPU time from the text file on: the author's C (as it prints) and ours (exact)."""
    curves = {}
    if isinstance(rows.get("author_training"), dict):
        author, counting = rows["author_training"], rows["author_counting"]["cpu_s"]
        epochs = np.arange(1, len(author["printed"]) + 1)
        seconds = counting + epochs * author["cpu_s_per_epoch"]
        curves["the author's C, AdaGrad"] = "C1", seconds, list(map(float, author["printed"]))
    for name, row in rows.items():
        options = json.loads(name[5:]) if name.startswith("ours {") else {}
        adagrad = options.get("solver") == "adagrad"
        if adagrad or (options.get("unseen_weight") == 0 and not options["seed"]):
            label, color = ("our AdaGrad", "C4") if adagrad else ("our least squares", "C0")
            before = row["cpu_s"] - row["history"][-1]["cpu_s"]
            seconds = [before + point["cpu_s"] for point in row["history"]]
            curves[label] = color, seconds, [point["loss"] for point in row["history"]]
    figure, axes = cli.subplots()
    for name, (color, seconds, losses) in curves.items():
        axes.plot(seconds, losses, "o-", markersize=4, color=color)
        place = seconds[0], losses[0]
        axes.annotate(name, place, (8, 2), textcoords="offset points", color=color)
    axes.set(xlabel="CPU time from the text file on, all threads [s]")
    axes.set(ylabel="loss per record (eq. 19 weights)", xscale="log", yscale="log")
    axes.set(title=f"{rows['corpus']}, {rows['bytes'] / 1e6:.1f} MB")
    axes.margins(x=0.15, y=0.15)
    return figure


def main(argv=None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--author", type=Path, default=os.environ.get("SIMPLER_GLOVE_BUILD"))
    parser.add_argument(
        "--epochs", type=int, default=30, help="of the author's C; fewer than 30 are extrapolated"
    )
    parser.add_argument(
        "--compare-counts", action="store_true", help="every pair count with the C program's"
    )
    parser.add_argument(
        "--options", nargs="*", default=['{"unseen_weight": 0}'], help="JSON for fit, one run each"
    )
    parser.add_argument("--gensim-epochs", type=int, default=0)
    parser.add_argument(
        "--gensim-seeds", type=int, nargs="+", default=[1], help="a training of gensim's each"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path, help="PNG of loss over CPU time")
    parser.add_argument("--scratch", type=Path)
    args = parser.parse_args(argv)
    rows = {
        "corpus": args.corpus.name,
        "bytes": args.corpus.stat().st_size,
        "load": os.getloadavg(),
    }

    def note(name, row):
        rows[name] = row
        print(f"{name}: {json.dumps(row, default=float)}", flush=True)
        args.out.write_text(json.dumps(rows, indent=1, default=float) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        folder = Path(folder)
        ours = [sys.executable, "-c"]
        note("ours_counting", slim(run(ours + [COUNT, FOLDER, args.corpus])))
        words, counts, pairs, _ = load_corpus([args.corpus])
        data = None
        if args.author:
            build = Path(args.author)
            steps = [
                run(
                    [build / "vocab_count", "-min-count", 5, "-verbose", 0],
                    args.corpus,
                    folder / "vocab.txt",
                ),
                run(
                    [
                        build / "cooccur",
                        "-memory",
                        4,
                        "-vocab-file",
                        folder / "vocab.txt",
                        "-window-size",
                        10,
                        "-verbose",
                        0,
                        "-overflow-file",
                        folder / "overflow",
                    ],
                    args.corpus,
                    folder / "pairs.bin",
                ),
                run(
                    [
                        build / "shuffle",
                        "-memory",
                        4,
                        "-verbose",
                        0,
                        "-temp-file",
                        folder / "temp_shuffle",
                    ],
                    folder / "pairs.bin",
                    folder / "shuffled.bin",
                ),
            ]
            note(
                "author_counting",
                {
                    **{
                        key: round(sum(step[key] for step in steps), 2)
                        for key in ("cpu_s", "wall_s")
                    },
                    "peak_mb": max(step["peak_mb"] for step in steps),
                },
            )
            rows["counting_ratio"] = (
                rows["author_counting"]["cpu_s"] / rows["ours_counting"]["cpu_s"]
            )
            if args.compare_counts:
                theirs = [
                    line.split()
                    for line in (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
                ]
                i, j, x = author_counts(folder / "pairs.bin", len(words))
                mine = pairs.tocoo()
                note(
                    "equal_to_author",
                    {
                        "words": [word for word, _ in theirs] == words.tolist(),
                        "word_counts": [int(count) for _, count in theirs] == counts.tolist(),
                        "pair_counts": bool(
                            np.array_equal(i, mine.row)
                            and np.array_equal(j, mine.col)
                            and np.array_equal(x, mine.data)
                        ),
                        "pairs": int(pairs.nnz),
                    },
                )
                del mine, i, j, x
            (folder / "pairs.bin").unlink()
            if args.epochs:
                trained = run(
                    [
                        build / "glove",
                        "-threads",
                        2,
                        "-vector-size",
                        128,
                        "-iter",
                        args.epochs,
                        "-eta",
                        0.1,
                        "-x-max",
                        100,
                        "-alpha",
                        0.75,
                        "-input-file",
                        folder / "shuffled.bin",
                        "-vocab-file",
                        folder / "vocab.txt",
                        "-save-file",
                        folder / "author",
                        "-verbose",
                        1,
                        "-binary",
                        0,
                        "-model",
                        0,
                    ]
                )
                lines = (folder / "author.txt").read_text(encoding="utf-8").splitlines()
                read = dict(line.split(" ", 1) for line in lines if line.count(" ") >= 128)
                vectors = np.array(
                    [
                        np.array(read[word].split()[:128], np.float32)
                        if word in read
                        else np.zeros(128)
                        for word in words.tolist()
                    ],
                    np.float32,
                )
                data = PairTargets(pairs, counts)
                per_epoch = trained["cpu_s"] / args.epochs
                note(
                    "author_training",
                    {
                        **slim(trained),
                        "epochs": args.epochs,
                        "cpu_s_per_epoch": per_epoch,
                        "loss": objective(vectors, vectors, data)[0],
                        "printed": [
                            line.split("cost:")[1].strip()
                            for line in trained["err"].splitlines()
                            if "cost:" in line
                        ],
                        "total_30_epochs_cpu_s": rows["author_counting"]["cpu_s"] + 30 * per_epoch,
                        "total_is": "measured"
                        if args.epochs == 30
                        else f"extrapolated from {args.epochs} epochs",
                        **quality(words, vectors),
                    },
                )
        else:
            note("author_counting", "not run")
        for options in args.options:
            options = {"seed": args.seed, **json.loads(options)}
            trained = run(
                ours + [TRAIN, FOLDER, args.corpus, folder / "ours.npz", json.dumps(options)]
            )
            with np.load(folder / "ours.npz") as saved:
                vectors = saved["vectors"]
            history = [json.loads(line) for line in trained["out"].splitlines()]
            row = {
                **slim(trained),
                "loss": history[-1]["loss"],
                "history": history,
                **quality(words, vectors),
            }
            if "author_training" in rows:
                row["times_less_cpu"] = (
                    rows["author_training"]["total_30_epochs_cpu_s"] / trained["cpu_s"]
                )
            note(f"ours {json.dumps(options)}", row)
        for seed in args.gensim_seeds if args.gensim_epochs else []:
            try:
                trained = run(
                    ours + [GENSIM, args.corpus, folder / "gensim.npz", args.gensim_epochs, seed]
                )
                with np.load(folder / "gensim.npz") as saved:
                    note(
                        f"gensim seed {seed}",
                        {
                            **slim(trained),
                            "epochs": args.gensim_epochs,
                            **quality(saved["words"], saved["vectors"]),
                        },
                    )
            except OSError as error:
                note(f"gensim seed {seed}", f"not run ({str(error)[-200:]})")
    note("means", means_over_seeds(rows))
    note("summary", summary(rows["means"], rows.get("author_training", "not run")))
    if args.figure:
        plot(rows).savefig(args.figure, dpi=150)
    return rows


if __name__ == "__main__":
    main()
