"""Word vectors whose inner product is the PMI of two words: count, set the targets, fit, check.

Article: 更别致的词向量模型(一)至(六) https://kexue.fm/archives/4667 4669 4671 4675 4677 4681
Run:     python simpler_glove/train.py               (People's Daily, January 1998 → vectors.npz)
         python simpler_glove/train.py my.txt.xz --segment --min-count 10 --export vectors.txt
Symbols: c_i → counts   x_ij → pairs   P̃(w_i) → word_share   P̃(w_i, w_j) → pair_share
         log R(w_i, w_j) = PMI → pmi (eq. 2, 15, 16)   λ_ij → weight (eq. 19)   v_i → v[i] (eq. 8)
         η → rate   G → G (eq. 23)
Differs from the article: the default solver is ours, weighted least squares word by word, and it
         holds pairs that never met near PMI 0; --solver adagrad --unseen-weight 0 is his to the
         letter. A reader of the posts meets:

 (二) eq. 1–2    relevance R and PMI                      pmi
      eq. 3–7    R of sets of words is a product of R     experiments/additivity.py
 (三) eq. 8–13   R = f(⟨v_i, v_j⟩), and f is exp          experiments/additivity.py
      eq. 14–15  the model ⟨v_i, v_j⟩ = PMI               check_pmi: does it hold?
 (四)            counting words and pairs                 counting.py, experiments/count.py
      eq. 16     targets from counts; the loss            pmi; least_squares.py, objective
      eq. 17–18  GloVe, and why it is ill-posed           experiments/glove.py
      eq. 19     the weights                              weigh
      eq. 21–23  AdaGrad                                  adagrad_step; experiments/solvers.py
                 one vector a word or two                 experiments/modes.py
 (五) eq. 24–29  what the norm says                       experiments/norms.py
                 analogies                                experiments/analogies.py
      eq. 30–39  related and similar words                vectors.py, experiments/similar_words.py
      eq. 40–46  keywords, sentences                      vectors.py, experiments/glove.py and
                                                          experiments/sentiment.py
 (六)            using vectors                            explore.py, evaluate.py
"""

import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

import adagrad
import cli
import least_squares
from corpus import DEFAULT_CORPUS, QUICK_DOCUMENTS, load_corpus
from counting import MIN_COUNT, split_pairs
from vector_files import export_word2vec, save_vectors

OFTEN = 10  # meetings from which on the PMI of a pair is known to about 1/√10 = 0.3 nat
POSITIVE = cli.between(1e-9, 1e9, float)


def flags(parser):
    add = parser.add_argument_group("corpus").add_argument
    names = (
        "files (.txt .gz .xz .bz2, a document a line; a dump of Wikipedia, .xml.bz2) or "
        "peoples-daily-199801, sotu, text8, zhwiki, enwiki"
    )
    add("corpus", nargs="*", default=[DEFAULT_CORPUS], help=names)
    add("--segment", action="store_true", help="cut raw Chinese with jieba")
    add("--min-count", type=cli.between(1, 10**9), default=MIN_COUNT, help="occurrences of a word")
    add("--window", type=cli.between(1, 10**4), default=10, help="words on each side")
    add("--memory", type=POSITIVE, default=1.0, help="GB for counting")
    add("--data-dir", **cli.DATA_DIR)
    add = parser.add_argument_group("model").add_argument
    add("--dim", type=cli.between(1, 10**5), default=128, help="length of a vector")
    add("--x-max", type=POSITIVE, default=100.0, help="x_max of eq. 19")
    add("--alpha", type=POSITIVE, default=0.75, help="α of eq. 19")
    add("--no-truncate", action="store_true", help="eq. 19 without the minimum")
    unseen = "of all pairs at PMI 0, beside that of those that met; article: 0"
    add("--unseen-weight", type=cli.between(0, 1e9, float), default=3.0, help=unseen)
    modes = ("shared", "concat", "sum")
    add("--mode", choices=modes, default="shared", help="v, [v, v̂] or v + v̂")
    add = parser.add_argument_group("solver").add_argument
    solvers = ("least-squares", "adagrad", "adagrad-rounds")
    which = "adagrad: the author's, a record at a time; in rounds: the same steps, fast"
    add("--solver", choices=solvers, default="least-squares", help=which)
    add("--sweeps", type=cli.between(1, 10**6), help="passes (else 4, AdaGrad 30)")
    add("--threads", type=cli.between(1, 1024), default=2, help="do not change the vectors")
    add("--export", type=Path, metavar="FILE", help="also as word2vec text")
    add("--seed", **cli.SEED)


# ------------------------------------------------ (二), (三): ⟨v_i, v_j⟩ = log R(w_i, w_j)
def pmi(pairs: csr_matrix, counts: np.ndarray, total: int) -> np.ndarray:
    """PMI in nats of the pairs i > j that met, in the order of pairs.tocoo().

    pairs (n, n): lower triangle of x_ij; counts (n,): c_i; total: the sum of x_ij over i > j.
    """
    some = pairs.tocoo()
    # P̃(w_i) = c_i / Σ c   and   P̃(w_i, w_j) = x_ij / Σ x over ordered pairs, hence the 2
    word_share = counts / counts.sum()
    pair_share = some.data / (2 * total)
    # eq. 2, 15, 16: PMI = log R(w_i, w_j) = log P̃(w_i, w_j) / (P̃(w_i) P̃(w_j))
    log_share = np.log(word_share)
    return np.log(pair_share) - log_share[some.row] - log_share[some.col]


def inner_products(fitted: dict, pairs: csr_matrix, at_once: int = 1 << 16) -> np.ndarray:
    """⟨v_i, v_j⟩ (modes with two vectors: ⟨v_i, v̂_j⟩) of the same pairs, so many at once."""
    some = pairs.tocoo()
    inner = np.empty(some.nnz, np.float32)
    for first in range(0, some.nnz, at_once):
        block = slice(first, first + at_once)
        v_i = fitted["centre"][some.row[block]]
        v_j = fitted["context"][some.col[block]]
        inner[block] = np.einsum("nd,nd->n", v_i, v_j)
    return inner


# ------------------------------------------------ (四): the loss Σ λ_ij (⟨v_i, v_j⟩ − PMI_ij)²
def weigh(x: np.ndarray, x_max: float, alpha: float, truncate: bool) -> np.ndarray:
    """λ_ij of pairs that met x times."""
    # eq. 19: λ_ij = (min{x_ij / x_max, 1})^α, or (x_ij / x_max)^α not truncated
    ratio = np.minimum(x / x_max, 1) if truncate else x / x_max
    return ratio**alpha


def adagrad_step(
    v: np.ndarray, G: np.ndarray, i: int, j: int, target: float, weight: float, rate: float = 0.1
) -> None:
    """The author's step for one record (i, j): v (n, d) and the sums G (n, d) change in place."""
    # λ_ij (⟨v_i, v_j⟩ − PMI_ij)
    error = weight * (v[i] @ v[j] - target)
    # eq. 21, 22: the gradients of the loss, its factor 2 dropped
    gradient_i = error * v[j]
    gradient_j = error * v[i]
    # eq. 23: v ← v − η g / √(G + 10⁻⁸), where G holds the squares of all gradients up to this one;
    # the post prints the sum up to the one before, his program adds first, and so does this
    G[i] += gradient_i**2
    G[j] += gradient_j**2
    v[i] -= rate * gradient_i / np.sqrt(G[i] + 1e-8)
    v[j] -= rate * gradient_j / np.sqrt(G[j] + 1e-8)


def fit_adagrad(pairs, counts, dim, epochs, seed, threads, weighting, **reporting) -> dict:
    """The author's solver: every record, (i, j) and (j, i), once an epoch in random order."""
    data = least_squares.PairTargets(pairs, counts, **weighting)  # measures the loss only
    rng = np.random.default_rng(seed)
    v, _ = least_squares.start_vectors(len(counts), dim, "shared", 1, rng)
    G = np.ones_like(v)  # the author's sums begin at 1
    some = pairs.tocoo()
    targets = pmi(pairs, counts, some.data.sum(dtype=np.int64))
    weights = weigh(some.data, **weighting)

    def one_epoch(_):
        # every pair twice a pass: (i, j) and (j, i) take the same step
        order = rng.permutation(2 * len(targets)) % len(targets)
        for n in tqdm(order, unit=" records", leave=False, disable=None):
            adagrad_step(v, G, some.row[n], some.col[n], targets[n], weights[n])

    return least_squares.run_sweeps(one_epoch, epochs, v, v, data, "shared", threads, **reporting)


def fit(pairs: csr_matrix, counts: np.ndarray, args, **reporting) -> dict:
    """The vectors by the solver that was asked for.

    The default is ours (least_squares.py): with all other vectors held fixed the loss is quadratic
    in one vector, so four sweeps over the words reach what his thirty epochs over the pairs reach.
    It has the same targets and weights as above, of eq. 15 and 19, a row of pairs at a time.
    """
    weighting = {"x_max": args.x_max, "alpha": args.alpha, "truncate": not args.no_truncate}
    options = {"dim": args.dim, "seed": args.seed, "threads": args.threads, "weighting": weighting}
    if args.solver == "adagrad":
        return fit_adagrad(pairs, counts, epochs=args.sweeps, **options, **reporting)
    options["mode"] = args.mode
    if args.solver == "adagrad-rounds":
        return adagrad.fit_rounds(pairs, counts, epochs=args.sweeps, **options, **reporting)
    options["unseen_weight"] = args.unseen_weight
    return least_squares.fit(pairs, counts, sweeps=args.sweeps, **options, **reporting)


# ------------------------------------------------ does it hold? C7.3
def check_pmi(fitted: dict, often, held_out, others, counts, args) -> tuple[dict, list, dict]:
    """⟨v_i, v_j⟩ against PMI on pairs that met often: all, and a tenth held out from a second fit.

    Returns metrics, claims and figures; none where the corpus is too small.
    """
    if held_out.nnz < 10:
        print(f"C7.3 not measured: too few pairs met {OFTEN} times in a corpus this small")
        return {}, [], {}
    total = others.data.sum(dtype=np.int64) + held_out.data.sum(dtype=np.int64)
    blind = fit(others, counts, args, measure=False)
    inner = inner_products(fitted, often)
    target = pmi(often, counts, total)
    unseen = inner_products(blind, held_out), pmi(held_out, counts, total)
    seen_correlation = float(np.corrcoef(inner, target)[0, 1])
    unseen_correlation = float(np.corrcoef(*unseen)[0, 1])
    metrics = {
        "pmi_correlation_frequent": seen_correlation,
        "pmi_correlation_held_out": unseen_correlation,
        "pmi_pairs_frequent": often.nnz,
        "pmi_pairs_held_out": held_out.nnz,
    }
    measured = {"correlation": seen_correlation, "held_out": unseen_correlation}
    claim = cli.claim("C7.3", measured, seen_correlation > 0.8 and unseen_correlation > 0.5)
    return metrics, [claim], {"train_pmi": plot_pmi(inner, target)}


def plot_pmi(inner: np.ndarray, target: np.ndarray):
    """Density of (PMI, ⟨v_i, v_j⟩) over pairs, with the line on which the model puts them."""
    figure, axes = cli.subplots(height=4.5)
    low, high = np.quantile(np.concatenate([inner, target]), [0.0005, 0.9995])
    extent = (low, high, low, high)
    shown = axes.hexbin(target, inner, gridsize=60, bins="log", extent=extent, cmap="Blues")
    axes.axline((0, 0), slope=1, color="C1")
    axes.annotate("the model", (0.8 * high, 0.8 * high), (-70, 12), textcoords="offset points")
    axes.set(xlabel="PMI counted in the corpus [nat]", ylabel="inner product ⟨v_i, v_j⟩ [nat]")
    figure.colorbar(shown, ax=axes, label="pairs of words")
    return figure


# ------------------------------------------------ all together
def complete(args) -> None:
    """Settings that depend on others."""
    if args.export and not args.export.absolute().parent.is_dir():
        raise ValueError(f"--export {args.export}: there is no directory of this name")
    if args.solver != "least-squares":
        args.unseen_weight = 0.0
    if args.solver == "adagrad" and args.mode != "shared":
        raise ValueError(f"--mode {args.mode}: with --solver least-squares or adagrad-rounds only")
    args.sweeps = args.sweeps or (4 if args.solver == "least-squares" else 30)
    if args.quick:
        args.dim = min(args.dim, 32)
        args.sweeps = min(args.sweeps, 4 if args.solver == "least-squares" else 2)


def report(spent: dict) -> None:
    print(
        f"sweep {spent['sweep']}: loss {spent['loss']:.6f}, unseen {spent['unseen']:.3f}, "
        f"{spent['cpu_s']:.1f} CPU s, {spent['wall_s']:.1f} s",
        flush=True,
    )


def count(args) -> tuple:
    """(words, their counts, pairs that met, what is recorded of them)."""
    started = time.process_time()
    words, counts, pairs, documents = load_corpus(
        args.corpus,
        args.segment,
        args.min_count,
        window=args.window,
        memory=args.memory * 1e9,
        folder=args.out_dir,
        data_dir=args.data_dir,
        limit=QUICK_DOCUMENTS if args.quick else None,
    )
    sizes = {
        "documents": documents,
        "tokens": int(counts.sum()),
        "vocabulary": len(words),
        "pairs": int(pairs.nnz),
    }
    print(", ".join(f"{number:,} {name}" for name, number in sizes.items()), flush=True)
    return words, counts, pairs, sizes | {"counting_cpu_s": time.process_time() - started}


def save(args, words: list, counts: np.ndarray, fitted: dict) -> None:
    """Leave the vectors and the settings that made them in --out-dir, and where --export says."""
    config = {key: value for key, value in vars(args).items() if key not in ("out_dir", "data_dir")}
    config |= {"truncate": not args.no_truncate, "sweeps_done": len(fitted["history"])}
    save_vectors(args.out_dir / "vectors.npz", words, fitted["vectors"], counts, config)
    if args.export:
        export_word2vec(args.export, words, fitted["vectors"])


def main(args):
    complete(args)
    words, counts, pairs, metrics = count(args)
    fitted = fit(pairs, counts, args, report=report, keep_interrupted=True)
    save(args, words, counts, fitted)
    history = fitted["history"]
    if fitted["interrupted"]:
        print(f"saved the vectors of sweep {len(history)}")
        raise KeyboardInterrupt
    metrics |= {
        "loss": history[-1]["loss"],
        "unseen": history[-1]["unseen"],
        "training_cpu_s": history[-1]["cpu_s"],
        "training_wall_s": history[-1]["wall_s"],
        "history": history,
    }
    parts = split_pairs(pairs, OFTEN, args.seed)
    del pairs  # one table of all pairs beside the solver's own is enough
    more, claims, figures = check_pmi(fitted, *parts, counts, args)
    return metrics | more, claims, figures


if __name__ == "__main__":
    cli.run(main, flags)
