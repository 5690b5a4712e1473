"""Fit inner products to PMI, word by word: weighted least squares instead of AdaGrad.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Symbols: v_i → target[i]   PMI(w_i, w_j) → targets (eq. 15)   λ_ij → weights (eq. 19)
         x_ij → pairs (counting.py)   w0, q_i → w0, popularity of PairTargets (ours)
Differs from the article: with all other vectors held fixed the loss is quadratic in one vector, so
each word is a small least-squares problem; a few steps of conjugate gradients, word after word,
replace AdaGrad on single pairs. And pairs that never met are held near PMI 0, the more firmly the
oftener their words meet others; with unseen_weight 0 the loss is his.
"""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

ROWS_AT_ONCE = 4096  # pairs gathered at once: 4096 vectors of 128 floats are 2 MB, near the cache


# ---------------------------------------------------------------- one word
def solve_rows(
    start: np.ndarray,
    gathered: np.ndarray,
    weights: np.ndarray,
    targets: np.ndarray,
    own: np.ndarray,
    gram: np.ndarray,
    unseen_weight: np.ndarray,
    penalty: float,
    steps: int,
) -> np.ndarray:
    """Conjugate gradients for a few words at once, the vectors of all others held fixed.

    Minimises over x = v_i, from x = start,
        Σ_j λ_ij (⟨x, v_j⟩ − PMI_ij)² + w0 q_i Σ_{j≠i} q_j ⟨x, v_j⟩² + penalty |x|²,
    that is, it solves, without ever forming the matrix,
        (Σ_j λ_ij v_j v_jᵀ + w0 q_i (Σ_j q_j v_j v_jᵀ − q_i v_i v_iᵀ) + penalty) x
            = Σ_j λ_ij PMI_ij v_j.
    start (b, d): the vectors v_i; gathered (b, m, d): the v_j; weights, targets (b, m);
    own (b, d): √q_i v_i; gram (d, d): Σ_j q_j v_j v_jᵀ; unseen_weight (b, 1): w0 q_i.
    Returns (b, d).
    """

    def unseen(x):
        return unseen_weight * (x @ gram - own * np.sum(own * x, 1, keepdims=True)) + penalty * x

    def inner(x):  # ⟨x, v_j⟩, (b, m)
        return np.matmul(gathered, x[:, :, None])[:, :, 0]

    def pull_back(values):  # Σ_j values_j v_j, (b, d)
        return np.matmul(values[:, None, :], gathered)[:, 0]

    x = start.copy()
    residual = pull_back(weights * (targets - inner(x))) - unseen(x)
    direction = residual.copy()
    square = np.sum(residual * residual, 1, keepdims=True)
    for _ in range(steps):
        image = pull_back(weights * inner(direction)) + unseen(direction)
        length = square / np.maximum(np.sum(direction * image, 1, keepdims=True), 1e-30)
        x += length * direction
        residual -= length * image
        before = square
        square = np.sum(residual * residual, 1, keepdims=True)
        direction = residual + (square / np.maximum(before, 1e-30)) * direction
    return x


# ---------------------------------------------------------------- all words
class PairTargets:
    """Weights and PMI targets, worked out row by row from the counts, which alone are kept."""

    def __init__(
        self,
        pairs: csr_matrix,
        counts: np.ndarray,
        x_max: float = 100,
        alpha: float = 0.75,
        truncate: bool = True,
        power: float = 0.75,
    ):
        """pairs (n, n): lower triangle of counts; counts (n,): of the words; power: see w0."""
        if not pairs.nnz:
            raise ValueError("no two different words meet within a window: nothing to fit")
        # a row of the full matrix is one of the triangle and one of its mirror image
        self.triangle = pairs if pairs.has_sorted_indices else pairs.sorted_indices()
        self.mirror = pairs.T.tocsr()
        self.lower = np.diff(self.triangle.indptr)
        self.full = self.lower + np.diff(self.mirror.indptr)
        self.records = 2 * pairs.nnz  # ordered pairs (i, j), i ≠ j
        # tables over x = 0, 1, … : eq. 19 and ln x
        x = np.arange(pairs.data.max() + 1.0)
        x[0] = 1
        ratio = x / x_max
        self.weight_of = ((np.minimum(ratio, 1) if truncate else ratio) ** alpha).astype(np.float32)
        self.log_of = np.log(x).astype(np.float32)
        # PMI = ln x_ij − ln Σx − ln c_i − ln c_j + 2 ln Σc
        log_probability = np.log(counts) - np.log(counts.sum())
        log_total = np.log(2.0 * pairs.data.sum(dtype=np.int64))
        self.row_offset = (log_probability + log_total).astype(np.float32)
        self.column_offset = log_probability.astype(np.float32)
        # a word's weight in all its pairs, Σ_j λ_ij, to a power; 1 on average
        seen_weight = self.row_weights(self.triangle) + self.row_weights(self.mirror)
        popularity = seen_weight**power
        popularity /= popularity.mean()
        self.popularity = popularity.astype(np.float32)
        # w0 q_i q_j on every pair i ≠ j is in sum what the pairs that met weigh in sum
        self.w0 = seen_weight.sum() / (popularity.sum() ** 2 - np.sum(popularity**2))

    def row_weights(self, half: csr_matrix) -> np.ndarray:
        """Σ_j λ_ij of every row i of the triangle or its mirror image, (n,)."""
        sums = np.empty(half.shape[0])
        few = 16  # rows at once: those of frequent words are long
        running = np.zeros(1)
        for first in range(0, len(sums), few):
            before = running[-1] if first % ROWS_AT_ONCE else 0.0  # so that it does not grow large
            ends = half.indptr[first : first + few + 1]
            weights = self.weight_of.take(half.data[ends[0] : ends[-1]])
            running = np.cumsum(np.append(before, weights))
            sums[first : first + few] = np.diff(running[ends - ends[0]])
        return sums

    def batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Rows with many pairs first, those of like length together: ~ROWS_AT_ONCE pairs each."""
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
        cuts = [0]
        while cuts[-1] < len(order):
            longest = max(int(lengths[cuts[-1]]), 1)
            rows = min(64, len(order) // 32, ROWS_AT_ONCE // longest)
            cuts.append(cuts[-1] + max(rows, 1))
        return [order[first:last] for first, last in itertools.pairwise(cuts)]

    def read(
        self, rows: np.ndarray, lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(columns, weights, targets) of rows, each (rows, longest), padded with weight 0."""
        place = np.arange(max(int(lengths[rows].max()), 1))
        lower = self.lower[rows, None]
        in_triangle = place < lower
        first = self.triangle.indptr[rows, None] + place
        second = self.mirror.indptr[rows, None] + place - lower

        def both(of_triangle, of_mirror):
            some = of_mirror.take(second, mode="clip")
            np.copyto(some, of_triangle.take(first, mode="clip"), where=in_triangle)
            return some

        columns = both(self.triangle.indices, self.mirror.indices)
        x = both(self.triangle.data, self.mirror.data)
        weights = self.weight_of.take(x)
        weights *= place < lengths[rows, None]  # what pads a row weighs nothing
        offsets = self.column_offset.take(columns)
        return columns, weights, self.log_of.take(x) - self.row_offset[rows, None] - offsets


def sweep(
    target: np.ndarray,
    source: np.ndarray,
    data: PairTargets,
    unseen_weight: float,
    penalty: float,
    steps: int,
    threads: int,
) -> None:
    """Improve every row of `target` in place, given `source` (the same array in shared mode).

    unseen_weight: Σ w0 q_i q_j of all pairs, in units of Σ λ_ij of those that met. Batches are
    solved two at a time from the same state and then written, so that one thread and two give the
    same bytes.
    """
    root = np.sqrt(data.popularity)[:, None]
    firmness = np.float32(unseen_weight * data.w0) * data.popularity[:, None]  # w0 q_i
    gram = (root * source).T @ (root * source)  # Σ_j q_j v_j v_jᵀ

    def work(rows):
        columns, weights, targets = data.read(rows, data.full)
        gathered = gather(source, columns)
        start = target[rows]
        own = root[rows] * source[rows]
        return solve_rows(
            start, gathered, weights, targets, own, gram, firmness[rows], penalty, steps
        )

    def write(batches, solved):
        rows = np.concatenate(batches)
        after = np.concatenate(solved)
        if source is target and unseen_weight:
            old, new = root[rows] * target[rows], root[rows] * after
            np.add(gram, new.T @ new - old.T @ old, out=gram)
        target[rows] = after

    in_threads(threads, work, data.batches(data.full), 2, write)


def objective(
    target: np.ndarray, source: np.ndarray, data: PairTargets, threads: int = 1
) -> tuple[float, float]:
    """(the article's loss, Σ q_i q_j ⟨v_i, v_j⟩² / 2 over all i ≠ j), exact, per record.

    The author's program prints the same mean.
    """
    shared = source is target
    lengths = data.lower if shared else data.full

    def work(rows):
        columns, weights, targets = data.read(rows, lengths)
        inner = np.matmul(gather(source, columns), target[rows][:, :, None])[:, :, 0]
        errors = inner - targets
        return float(np.dot((weights * errors).ravel(), errors.ravel()))

    batches = [rows for rows in data.batches(lengths) if lengths[rows].any()]
    total = sum(in_threads(threads, work, batches, 16))
    q = data.popularity[:, None]
    gram_target = (q * target).T.astype(float) @ target
    gram_source = (q * source).T.astype(float) @ source
    own = np.einsum("id,id->i", q * target, source, dtype=float)
    unseen = np.sum(gram_target * gram_source) - np.sum(own**2)
    return total * (2 if shared else 1) / 2 / data.records, float(unseen) / 2 / data.records


def in_threads(threads: int, work, batches: list, together: int, finish=None) -> list:
    """work(batch) for every batch, `together` at a time; finish(batches, results) after a round.

    The results do not depend on the number of threads. Ctrl-C waits for the round at most.
    """
    results = []
    pool = ThreadPoolExecutor(threads)
    try:
        for first in range(0, len(batches), together):
            some = batches[first : first + together]
            done = list((pool.map if threads > 1 else map)(work, some))
            if finish:
                finish(some, done)
            else:
                results += done
    finally:
        pool.shutdown(cancel_futures=True)
    return results


SCRATCH = threading.local()


def gather(vectors: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """vectors[columns] into memory that each thread uses again and again."""
    need = columns.size * vectors.shape[1]
    if len(getattr(SCRATCH, "floats", ())) < need:
        SCRATCH.floats = np.empty(max(need, 2 * ROWS_AT_ONCE * vectors.shape[1]), np.float32)
    out = SCRATCH.floats[:need].reshape(*columns.shape, vectors.shape[1])
    return vectors.take(columns, axis=0, out=out, mode="clip")


# ---------------------------------------------------------------- the whole fit
def fit(
    pairs: csr_matrix,
    counts: np.ndarray,
    dim: int = 128,
    mode: str = "shared",
    sweeps: int = 4,
    steps: int = 3,
    unseen_weight: float = 3.0,
    penalty: float = 0.1,
    threads: int = 2,
    seed: int = 0,
    weighting: dict | None = None,
    **reporting,
) -> dict:
    """Fit word vectors to the PMI of the counted pairs by sweeps of least squares.

    pairs (n, n): lower triangle of counts (count_pairs); counts (n,): of the words; mode: shared
    (one vector per word, the article), concat or sum (centre and context vectors); steps: of
    conjugate gradients a word; unseen_weight: see sweep; weighting: x_max, alpha, truncate, power
    of PairTargets. One thread and two give the same bytes. Returns what run_sweeps returns, which
    takes `reporting`.
    """
    data = PairTargets(pairs, counts, **(weighting or {}))
    rng = np.random.default_rng(seed)
    target, source = start_vectors(len(counts), dim, mode, 10, rng)  # 10 times the author's start

    def one_sweep(number):
        effort = 2 * steps if number == 1 else steps
        sweep(target, source, data, unseen_weight, penalty, effort, threads)
        if mode != "shared":
            sweep(source, target, data, unseen_weight, penalty, effort, threads)

    return run_sweeps(one_sweep, sweeps, target, source, data, mode, threads, **reporting)


def start_vectors(size: int, dim: int, mode: str, spread: float, rng: np.random.Generator):
    """(target, source) float32 (size, dim), uniform in ±spread / 2 dim; one array in shared mode.

    spread 1 is the author's start.
    """
    if dim > size:
        raise ValueError(
            f"dimension {dim} is larger than the vocabulary of {size} words; lower --dim"
        )
    tables = [
        ((rng.random((size, dim)) - 0.5) / dim * spread).astype(np.float32)
        for _ in range(1 if mode == "shared" else 2)
    ]
    return tables[0], tables[-1]


def run_sweeps(
    one_sweep,
    sweeps: int,
    target: np.ndarray,
    source: np.ndarray,
    data: PairTargets,
    mode: str,
    threads: int = 1,
    report=None,
    measure: bool = True,
    keep_interrupted: bool = False,
) -> dict:
    """Call one_sweep(1 … sweeps), which changes target and source, and measure after each.

    report: called with each row of the history; measure: the loss after every sweep, not the last
    alone; keep_interrupted: Ctrl-C ends the fit, with the vectors of the last finished sweep.
    Returns vectors (n, d) float32 (concat: 2d), centre, context, history [{sweep, cpu_s, wall_s,
    loss, unseen}], interrupted.
    """
    history = []
    finished = None
    interrupted = False
    cpu, wall = time.process_time(), time.perf_counter()
    with threadpool_limits(1, user_api="blas"):
        try:
            for number in range(1, sweeps + 1):
                one_sweep(number)
                spent = {"sweep": number, "cpu_s": time.process_time() - cpu}
                spent["wall_s"] = time.perf_counter() - wall
                if measure or number == sweeps:
                    spent["loss"], spent["unseen"] = objective(target, source, data, threads)
                centre = target.copy()
                context = centre if source is target else source.copy()
                finished = centre, context
                history.append(spent)
                if report:
                    report(spent)
        except KeyboardInterrupt:
            if not keep_interrupted or not history:
                raise
            interrupted = True
    centre, context = finished
    vectors = {"shared": centre, "sum": centre + context}.get(mode)
    if vectors is None:
        vectors = np.hstack([centre, context])
    return {
        "vectors": vectors,
        "centre": centre,
        "context": context,
        "history": history,
        "interrupted": interrupted,
    }
