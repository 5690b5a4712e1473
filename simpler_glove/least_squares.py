"""How few conjugate-gradient steps a word fit all PMI values to inner products? The solver that train.py uses.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/least_squares.py          (5,000 lines of People's Daily; --quick for a look)
Time:    20 s on 2 cores (AMD EPYC), 0.2 GB

Symbols: v_i → vectors (eq. 8)   PMI(w_i, w_j) → targets (eq. 15)   λ_ij = min(1, x_ij/x_max)^α → weights (eq. 19)
         x_ij → pairs (count.py)   w0 → unseen_weight, λ → penalty (both ours)
Differs from the article: with all other vectors held fixed the loss is quadratic in one vector, so each word is a
small least-squares problem; a few steps of conjugate gradients, word after word, replace AdaGrad on single pairs.
"""
import argparse
import itertools
import json
import os
import platform
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.count import DEFAULT_CORPUS, load_corpus  # noqa: E402

HERE = Path(__file__).resolve().parent
ROWS_AT_ONCE = 4096      # pairs gathered at once: 4096 vectors of 128 floats are 2 MB, near the cache of a core


# ---------------------------------------------------------------- method
class PairTargets:
    """Weights and PMI targets of the pairs, worked out row by row from the counts, which alone are kept."""

    def __init__(self, pairs: csr_matrix, counts: np.ndarray, x_max: float = 100, alpha: float = 0.75,
                 truncate: bool = True):
        self.lower = np.diff(pairs.indptr)                    # a row of the full matrix begins with the lower triangle
        full = pairs + pairs.T.tocsr()
        full.sort_indices()
        self.indptr, self.columns, self.counts = full.indptr.astype(np.int64), full.indices, full.data
        self.full = np.diff(self.indptr)
        self.records = len(self.counts)                       # ordered pairs (i, j), i ≠ j
        x = np.arange(self.counts.max(initial=0) + 1.0)
        x[0] = 1
        self.weight_of = ((np.minimum(x / x_max, 1) if truncate else x / x_max) ** alpha).astype(np.float32)   # eq. 19
        self.log_of = np.log(x).astype(np.float32)
        # PMI = ln x_ij − ln Σx − ln c_i − ln c_j + 2 ln Σc
        log_probability = np.log(counts) - np.log(counts.sum())
        self.row_offset = (log_probability + np.log(max(float(self.counts.sum(dtype=np.int64)), 1))).astype(np.float32)
        self.column_offset = log_probability.astype(np.float32)

    def batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Rows with many pairs first, those of like length together: few rows, about ROWS_AT_ONCE pairs a batch."""
        order = np.argsort(-lengths, kind="stable")
        lengths, cuts = lengths[order], [0]
        while cuts[-1] < len(order):
            rows = min(64, len(order) // 32, ROWS_AT_ONCE // max(int(lengths[cuts[-1]]), 1))
            cuts.append(cuts[-1] + max(rows, 1))
        return [order[a:b] for a, b in itertools.pairwise(cuts)]

    def read(self, rows: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(columns, weights, targets) of rows, each (rows, longest), padded with weight 0."""
        place = self.indptr[rows, None] + np.arange(max(int(lengths[rows].max()), 1))
        inside = place < (self.indptr[rows] + lengths[rows])[:, None]
        np.minimum(place, self.records - 1, out=place)
        columns, x = self.columns.take(place), self.counts.take(place)
        weights = self.weight_of.take(x)
        weights *= inside
        return columns, weights, self.log_of.take(x) - self.row_offset[rows, None] - self.column_offset.take(columns)


def solve_rows(start: np.ndarray, gathered: np.ndarray, weights: np.ndarray, targets: np.ndarray, own: np.ndarray,
               gram: np.ndarray, unseen_weight: float, penalty: float, steps: int) -> np.ndarray:
    """Conjugate-gradient steps for a few words at once, the vectors of all others held fixed; the core of the method.

    Minimises over x = v_i  Σ_j λ_ij (⟨x, v_j⟩ − PMI_ij)² + w0 Σ_{j≠i} ⟨x, v_j⟩² + penalty |x|²  from x = start, that is
    (Σ_j λ_ij v_j v_jᵀ + w0 (VᵀV − v_i v_iᵀ) + penalty) x = Σ_j λ_ij PMI_ij v_j, without ever forming the matrix.
    start, own: (b, d); gathered: (b, m, d) the v_j; weights, targets: (b, m); gram: (d, d) VᵀV. Returns (b, d).
    """
    def unseen(x):
        return unseen_weight * (x @ gram - own * np.sum(own * x, 1, keepdims=True)) + penalty * x

    def pull_back(values):
        return np.matmul(values[:, None, :], gathered)[:, 0]

    x = start.copy()
    r = pull_back(weights * (targets - np.matmul(gathered, x[:, :, None])[:, :, 0])) - unseen(x)
    p, rr = r.copy(), np.sum(r * r, 1, keepdims=True)
    for _ in range(steps):
        Ap = pull_back(weights * np.matmul(gathered, p[:, :, None])[:, :, 0]) + unseen(p)
        step = rr / np.maximum(np.sum(p * Ap, 1, keepdims=True), 1e-30)
        x += step * p
        r -= step * Ap
        rr, before = np.sum(r * r, 1, keepdims=True), rr
        p = r + (rr / np.maximum(before, 1e-30)) * p
    return x


def in_threads(threads: int, work, batches: list, together: int, finish=None) -> list:
    """work(batch) for every batch, `together` at a time in `threads` threads; finish(batches, results) after a round.

    The results do not depend on the number of threads. Ctrl-C waits for the round at most.
    """
    results, pool = [], ThreadPoolExecutor(threads)
    try:
        for first in range(0, len(batches), together):
            some = batches[first:first + together]
            done = list((pool.map if threads > 1 else map)(work, some))
            if finish:
                finish(some, done)
            else:
                results += done
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def gather(vectors: np.ndarray, columns: np.ndarray, scratch=threading.local()) -> np.ndarray:
    """vectors[columns] into memory that each thread uses again and again."""
    need = columns.size * vectors.shape[1]
    if len(getattr(scratch, "floats", ())) < need:
        scratch.floats = np.empty(max(need, 2 * ROWS_AT_ONCE * vectors.shape[1]), np.float32)
    out = scratch.floats[:need].reshape(*columns.shape, vectors.shape[1])
    return vectors.take(columns, axis=0, out=out, mode="clip")


def sweep(target: np.ndarray, source: np.ndarray, data: PairTargets, unseen_weight: float, penalty: float, steps: int,
          threads: int) -> None:
    """Improve every row of `target` in place, given `source` (the same array for one vector per word).

    Batches are solved two at a time from the same state and then written: one thread and two give the same bytes.
    """
    gram = source.T @ source

    def work(rows):
        columns, weights, targets = data.read(rows, data.full)
        return solve_rows(target[rows], gather(source, columns), weights, targets,
                          source[rows], gram, unseen_weight, penalty, steps)

    def write(batches, solved):
        rows, after = np.concatenate(batches), np.concatenate(solved)
        if source is target and unseen_weight:
            np.add(gram, after.T @ after - target[rows].T @ target[rows], out=gram)
        target[rows] = after

    in_threads(threads, work, data.batches(data.full), 2, write)


def objective(target: np.ndarray, source: np.ndarray, data: PairTargets, threads: int = 1) -> tuple[float, float]:
    """(article's loss, unseen term), exact, each ½ λ (…)² per record as the author prints it (w0 left out)."""
    shared = source is target
    lengths = data.lower if shared else data.full

    def work(rows):
        columns, weights, targets = data.read(rows, lengths)
        errors = np.matmul(gather(source, columns), target[rows][:, :, None])[:, :, 0] - targets
        return float(np.dot((weights * errors).ravel(), errors.ravel()))

    total = sum(in_threads(threads, work, [rows for rows in data.batches(lengths) if lengths[rows].any()], 16))
    gram_target, gram_source = target.T.astype(float) @ target, source.T.astype(float) @ source
    unseen = np.sum(gram_target * gram_source) - np.sum(np.einsum("id,id->i", target, source, dtype=float) ** 2)
    return total * (2 if shared else 1) / 2 / data.records, float(unseen) / 2 / data.records


# ---------------------------------------------------------------- evaluation
def follow_loss(pairs: csr_matrix, counts: np.ndarray, dim: int, steps: int, sweeps: int, seed: int) -> list[dict]:
    """[{cpu_s, loss}] per sweep of the article's loss, one thread, the measuring not timed."""
    data = PairTargets(pairs, counts)
    vectors = ((np.random.default_rng(seed).random((len(counts), dim)) - 0.5) / dim * 10).astype(np.float32)
    history, spent = [], 0.0
    with threadpool_limits(1, user_api="blas"):
        for _ in range(sweeps):
            before = time.process_time()
            sweep(vectors, vectors, data, 0.0, 0.1, steps, threads=1)
            spent += time.process_time() - before
            history.append({"cpu_s": spent, "loss": objective(vectors, vectors, data)[0]})
    return history


# ---------------------------------------------------------------- figures
def plot_steps(histories: dict[int, list[dict]]) -> Figure:
    """Loss over CPU time for several numbers of steps per word."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for steps, history in histories.items():
        points = [(point["cpu_s"], point["loss"]) for point in history]
        line, = axes.plot(*zip(*points), "o-", markersize=3)
        axes.annotate(f"{steps} step{'s' * (steps > 1)}", points[-1], xytext=(4, 0), textcoords="offset points",
                      color=line.get_color())
    axes.set(xlabel="CPU time [s]", ylabel="loss per record (eq. 19 weights)", yscale="log")
    axes.margins(x=0.2)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS], help="files or known corpora, as in train.py")
    parser.add_argument("--documents", type=int, default=5000, help="lines taken of the corpus")
    parser.add_argument("--sweeps", type=int, default=5, help="passes over the words")
    parser.add_argument("--dim", type=int, default=128, help="length of a vector")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("documents", "sweeps", "dim"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: must be at least 1")
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
    args.out_dir.mkdir(parents=True, exist_ok=True)   # before any work
    limit, dim = (min(args.documents, 1000), min(args.dim, 32)) if args.quick else (args.documents, args.dim)
    words, counts, pairs, _ = load_corpus(args.corpus, folder=args.out_dir, data_dir=args.data_dir, limit=limit)
    histories = {}
    for steps in (1, 3, 6, 20):
        histories[steps] = follow_loss(pairs, counts, dim, steps, args.sweeps, args.seed)
        last = histories[steps][-1]
        print(f"{steps} steps a word: loss {last['loss']:.6f} after {last['cpu_s']:.1f} CPU s")
    figures = ["least_squares_steps.png"]
    plot_steps(histories).savefig(args.out_dir / figures[0], dpi=150)
    metrics = {"vocabulary": len(words), "pairs": int(pairs.nnz), "history": histories}
    return save_results(args, "least_squares", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
