"""Word vectors whose inner product is the PMI of two words: counting, fitting, saving, export.

Article: 更别致的词向量模型(三)：描述相关的模型, (四)：模型的求解 https://kexue.fm/archives/4671 https://kexue.fm/archives/4675
Run:     python simpler_glove/train.py                  (People's Daily, January 1998; --quick for a look)
         python simpler_glove/train.py sotu my.txt.xz --mode concat --export vectors.txt
Time:    10 s on 2 cores (AMD EPYC), 0.4 GB

Symbols: v_i → vectors (eq. 8)   PMI(w_i, w_j) → target (eq. 15)   λ_ij = min(1, x_ij/x_max)^α → weight (eq. 19)
         x_ij → pairs (count.py)   c_i → counts   w0 → unseen_weight, λ → penalty (both ours)
Differs from the article: weighted least squares by conjugate gradients, word by word, instead of AdaGrad pair by pair
(--solver adagrad is his); --unseen-weight holds pairs that never met near PMI 0 (0: the article's loss to the letter).
"""
import argparse
import contextlib
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.adagrad import adagrad_epoch  # noqa: E402
from simpler_glove.count import DEFAULT_CORPUS, load_corpus  # noqa: E402
from simpler_glove.least_squares import PairTargets, objective, sweep  # noqa: E402

HERE = Path(__file__).resolve().parent
CLAIM_PMI = "the inner product of two word vectors is the PMI of the words in the corpus"


# ---------------------------------------------------------------- data
def save_vectors(path: Path, words: np.ndarray, vectors: np.ndarray, counts: np.ndarray, config: dict) -> None:
    """One .npz: words (str, most frequent first), vectors (float32), counts (int64), config (JSON); in one move."""
    path = Path(path)
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez(file, words=np.asarray(words, str), vectors=np.asarray(vectors, np.float32),
                 counts=np.asarray(counts, np.int64), config=json.dumps(config, ensure_ascii=False, default=str))


def export_word2vec(path: Path, words: np.ndarray, vectors: np.ndarray) -> None:
    """The text format of word2vec, which gensim and others load: 'n d', then a word and its d numbers a line."""
    with replacing(Path(path)) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, vector in zip(words, vectors.tolist()):
            file.write(f"{word} {' '.join(f'{value:.6g}' for value in vector)}\n")


@contextlib.contextmanager
def replacing(path: Path):
    """A name to write to, moved to `path` only when all went well."""
    partial = path.with_name(path.name + ".part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# ---------------------------------------------------------------- method
def fit(pairs: csr_matrix, counts: np.ndarray, dim: int = 128, mode: str = "shared", solver: str = "cg",
        sweeps: int = 4, steps: int = 3, unseen_weight: float = 0.001, penalty: float = 0.1, x_max: float = 100,
        alpha: float = 0.75, truncate: bool = True, threads: int = 2, seed: int = 0, report=None,
        measure: bool = True, keep_interrupted: bool = False, **adagrad) -> dict:
    """Fit word vectors to the PMI of the counted pairs.

    pairs: (n, n) lower triangle of counts (count_pairs); counts: (n,) of the words. mode: shared (one vector per word,
    the article), concat or sum (centre and context vectors). one thread and two give the same bytes.
    Returns vectors (n, d) float32 (concat: 2d), centre, context, history [{sweep, loss, unseen, cpu_s, wall_s}],
    interrupted (with keep_interrupted Ctrl-C ends the fit, and the vectors are those of the last finished sweep).
    """
    size = len(counts)
    if dim > size:
        raise ValueError(f"dimension {dim} is larger than the vocabulary of {size} words; lower --dim")
    if not pairs.nnz:
        raise ValueError("no two different words meet within a window: nothing to fit")
    data = PairTargets(pairs, counts, x_max, alpha, truncate)
    rng = np.random.default_rng(seed)
    spread = 10 if solver == "cg" else 1                       # 10 times the author's start
    tables = [((rng.random((size, dim)) - 0.5) / dim * spread).astype(np.float32)
              for _ in range(1 if mode == "shared" else 2)]
    target, source = tables[0], tables[-1]
    sums = [np.ones_like(table) for table in tables]
    history, finished, interrupted = [], [table.copy() for table in tables], False
    cpu, wall = time.process_time(), time.perf_counter()
    with threadpool_limits(1, user_api="blas"):
        try:
            for number in range(1, sweeps + 1):
                if solver == "cg":
                    effort = 2 * steps if number == 1 else steps
                    sweep(target, source, data, unseen_weight, penalty, effort, threads)
                    if mode != "shared":
                        sweep(source, target, data, unseen_weight, penalty, effort, threads)
                else:
                    adagrad_epoch(target, source, sums, data, rng, **adagrad)
                spent = {"sweep": number, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
                if measure or number == sweeps:
                    spent["loss"], spent["unseen"] = objective(target, source, data, threads)
                finished = [table.copy() for table in tables]
                history.append(spent)
                if report:
                    report(spent)
        except KeyboardInterrupt:
            if not keep_interrupted or not history:
                raise
            interrupted = True
    centre, context = finished[0], finished[-1]
    vectors = {"shared": lambda: centre, "sum": lambda: centre + context,
               "concat": lambda: np.hstack([centre, context])}[mode]()
    return {"vectors": vectors, "centre": centre, "context": context, "history": history, "interrupted": interrupted}


# ---------------------------------------------------------------- evaluation
def inner_and_pmi(fitted: dict, pairs: csr_matrix, counts: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """(⟨v_i, v_j⟩, PMI counted in the corpus) of `pairs` (part of a lower triangle whose counts sum to `total`)."""
    some, log_probability = pairs.tocoo(), np.log(counts / counts.sum())
    inner = np.einsum("nd,nd->n", fitted["centre"][some.row], fitted["context"][some.col])
    pmi = np.log(some.data / (2 * total)) - log_probability[some.row] - log_probability[some.col]
    return inner, pmi


def check_pmi(fitted: dict, pairs: csr_matrix, counts: np.ndarray, options: dict,
              least: int = 10) -> tuple[dict, list, Figure | None]:
    """C7.3 on pairs that met at least `least` times: all of them, and a tenth held out from a second fit."""
    some, rng = pairs.tocoo(), np.random.default_rng(options["seed"])
    frequent = some.data >= least
    held_out = frequent & (rng.random(len(some.data)) < 0.1)

    def part(mask):
        return csr_matrix((some.data[mask], (some.row[mask], some.col[mask])), shape=pairs.shape)

    if held_out.sum() < 10:
        return {}, [{"id": "C7.3", "claim": CLAIM_PMI, "expected": "close", "holds": None,
                     "measured": f"too few pairs met {least} times in a corpus this small"}], None
    blind = fit(part(~held_out), counts, **options, measure=False)
    inner, pmi = inner_and_pmi(fitted, part(frequent), counts, pairs.data.sum(dtype=np.int64))
    unseen = inner_and_pmi(blind, part(held_out), counts, pairs.data.sum(dtype=np.int64))
    metrics = {"pmi_correlation_frequent": float(np.corrcoef(inner, pmi)[0, 1]),
               "pmi_correlation_held_out": float(np.corrcoef(*unseen)[0, 1]),
               "pmi_pairs_frequent": int(frequent.sum()), "pmi_pairs_held_out": int(held_out.sum())}
    return metrics, [{
        "id": "C7.3", "claim": CLAIM_PMI, "expected": "close (correlation above 0.8, held out above 0.5)",
        "measured": f"correlation {metrics['pmi_correlation_frequent']:.3f} on {frequent.sum()} pairs seen ≥ {least} "
                    f"times, {metrics['pmi_correlation_held_out']:.3f} on {held_out.sum()} of them held out",
        "holds": metrics["pmi_correlation_frequent"] > 0.8 and metrics["pmi_correlation_held_out"] > 0.5}
    ], plot_pmi(inner, pmi)


# ---------------------------------------------------------------- figures
def plot_pmi(inner: np.ndarray, pmi: np.ndarray) -> Figure:
    """Density of (PMI, ⟨v_i, v_j⟩) over pairs, with the line on which the model puts them."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    low, high = float(min(pmi.min(), inner.min())), float(max(pmi.max(), inner.max()))
    axes.hexbin(pmi, inner, gridsize=60, bins="log", extent=(low, high, low, high))
    axes.axline((0, 0), slope=1, color="C3", linewidth=1)
    axes.set(xlabel="PMI counted in the corpus [nat]", ylabel="inner product ⟨v_i, v_j⟩ [nat]")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS],
                        help="text files (.txt .gz .xz .bz2; a document a line) or peoples-daily-199801, sotu, text8")
    parser.add_argument("--segment", action="store_true", help="cut raw Chinese text into words with jieba")
    parser.add_argument("--min-count", type=int, default=5, help="least occurrences of a word")
    parser.add_argument("--window", type=int, default=10, help="words on each side")
    parser.add_argument("--memory", type=float, default=1.0, help="GB for counting; more goes through temporary files")
    parser.add_argument("--dim", type=int, default=128, help="length of a vector")
    parser.add_argument("--mode", choices=("shared", "concat", "sum"), default="shared", help="vectors per word")
    parser.add_argument("--solver", choices=("cg", "adagrad"), default="cg", help="adagrad is the author's")
    parser.add_argument("--sweeps", type=int, help="passes over the pairs (default: 4, adagrad 30)")
    parser.add_argument("--unseen-weight", type=float, default=0.001, help="weight of PMI 0 on all pairs; article: 0")
    parser.add_argument("--x-max", type=float, default=100.0, help="count from which a pair has full weight (eq. 19)")
    parser.add_argument("--alpha", type=float, default=0.75, help="power of the weight (x/x_max)^α; 0.25 is flatter")
    parser.add_argument("--no-truncate", action="store_true", help="weight (x/x_max)^α without the minimum with 1")
    parser.add_argument("--threads", type=int, default=2, help="1 or 2, with the same result")
    parser.add_argument("--export", type=Path, metavar="FILE", help="also write the text format of word2vec")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("min_count", "window", "dim", "threads", "sweeps", "unseen_weight"):
        value, least = getattr(args, name), 0 if name == "unseen_weight" else 1
        if value is not None and not value >= least:
            parser.error(f"--{name.replace('_', '-')} {value}: must be at least {least}")
    if not args.memory > 0:
        parser.error(f"--memory {args.memory}: must be a positive number of GB")
    for name in ("x_max", "alpha"):
        if not 0 < getattr(args, name) < float("inf"):
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: must be a positive number")
    if args.export and not args.export.absolute().parent.is_dir():
        parser.error(f"--export {args.export}: there is no directory {args.export.absolute().parent}")
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
    started, cpu = time.perf_counter(), time.process_time()
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)   # before any work
    words, counts, pairs, documents = load_corpus(
        args.corpus, args.segment, args.min_count, window=args.window, memory=args.memory * 1e9, folder=args.out_dir,
        data_dir=args.data_dir, limit=3000 if args.quick else None)
    counting = time.process_time() - cpu
    print(f"{documents} documents, {counts.sum()} words kept, vocabulary {len(words)}, {pairs.nnz} pairs, "
          f"{counting:.1f} CPU s")
    options = {
        "dim": min(args.dim, 32) if args.quick else args.dim, "mode": args.mode, "solver": args.solver,
        "sweeps": args.sweeps or (4 if args.solver == "cg" else 2 if args.quick else 30), "threads": args.threads,
        "unseen_weight": args.unseen_weight if args.solver == "cg" else 0.0, "truncate": not args.no_truncate,
        "x_max": args.x_max, "alpha": args.alpha, "seed": args.seed}
    fitted = fit(pairs, counts, **options, keep_interrupted=True, report=lambda h: print(
        f"sweep {h['sweep']}: loss {h['loss']:.6f}, unseen {h['unseen']:.3f}, {h['cpu_s']:.1f} CPU s, "
        f"{h['wall_s']:.1f} s"))
    config = {**options, "corpus": [str(name) for name in args.corpus], "window": args.window,
              "min_count": args.min_count, "sweeps_done": len(fitted["history"])}
    save_vectors(args.out_dir / "vectors.npz", words, fitted["vectors"], counts, config)
    if args.export:
        export_word2vec(args.export, words, fitted["vectors"])
    if fitted["interrupted"]:
        print(f"saved the vectors of sweep {config['sweeps_done']}")
        raise KeyboardInterrupt
    last = fitted["history"][-1]
    metrics = {"documents": documents, "tokens": int(counts.sum()), "vocabulary": len(words), "pairs": int(pairs.nnz),
               "loss": last["loss"], "unseen": last["unseen"], "counting_cpu_s": counting,
               "training_cpu_s": last["cpu_s"], "training_wall_s": last["wall_s"], "history": fitted["history"]}
    more, claims, figure = check_pmi(fitted, pairs, counts, options)
    figures = ["train_pmi.png"] if figure else []
    if figure:
        figure.savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "train", {**metrics, **more}, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
