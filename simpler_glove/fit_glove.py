"""What does GloVe's own objective give on the same counts? The foil of the article: two vector sets and free biases.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/fit_glove.py              (People's Daily, January 1998; --quick for a look)
Time:    TIME on 2 cores (AMD EPYC), 0.3 GB

Symbols: v_i → centre   v̂_j → context   b_i, b̂_j → centre_bias, context_bias (eq. 17)   x_ij → pairs   λ_ij → weights
Differs from the article: the same least-squares sweeps as train.py, in turn over centre and context words, in place of
GloVe's AdaGrad. The loss is unchanged by a common shift c of all vectors (eq. 18); a small penalty picks one solution.
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
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.count import DEFAULT_CORPUS, load_corpus  # noqa: E402
from simpler_glove.least_squares import PairTargets, objective, sweep  # noqa: E402
from simpler_glove.train import save_vectors  # noqa: E402

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- method
def fit_glove(pairs: csr_matrix, counts: np.ndarray, dim: int = 128, sweeps: int = 4, steps: int = 3,
              penalty: float = 0.1, x_max: float = 100, alpha: float = 0.75, threads: int = 2, seed: int = 0,
              report=None) -> dict:
    """Minimise GloVe's Σ λ_ij (⟨v_i, v̂_j⟩ + b_i + b̂_j − ln x_ij)² + penalty (…)² over centre, context and both biases.

    pairs: (n, n) lower triangle of counts; counts: (n,). Returns vectors = centre + context (n, d) float32 as GloVe
    saves them, centre, context, centre_bias, context_bias (n,), loss (mean of ½ λ (…)² per record).
    """
    size = len(counts)
    if dim > size:
        raise ValueError(f"dimension {dim} is larger than the vocabulary of {size} words")
    data, rng = PairTargets(pairs, counts, x_max, alpha), np.random.default_rng(seed)
    data.row_offset[:] = 0                                     # the target is ln x_ij minus the other side's bias
    sides = [((rng.random((size, dim + 1)) - 0.5) / dim * 10).astype(np.float32) for _ in range(2)]   # [v, b], [v̂, b̂]
    one = np.ones((size, 1), np.float32)
    with threadpool_limits(1, user_api="blas"):
        for number in range(1, sweeps + 1):
            for mine, other in ((0, 1), (1, 0)):
                # ⟨v_i, v̂_j⟩ + b_i = ⟨[v_i, b_i], [v̂_j, 1]⟩: linear least squares in [v_i, b_i]
                data.column_offset = sides[other][:, -1].copy()
                features = np.hstack([sides[other][:, :-1], one])
                sweep(sides[mine], features, data, 0.0, penalty, 2 * steps if number == 1 else steps, threads)
            data.column_offset = sides[0][:, -1].copy()
            loss = objective(sides[1], np.hstack([sides[0][:, :-1], one]), data, threads)[0]
            if report:
                report(number, loss)
    (centre, centre_bias), (context, context_bias) = [(side[:, :-1], side[:, -1]) for side in sides]
    return {"vectors": centre + context, "centre": centre, "context": context, "centre_bias": centre_bias,
            "context_bias": context_bias, "loss": loss}


# ---------------------------------------------------------------- figures
def plot_norms(vectors: np.ndarray) -> Figure:
    """Norm of the vectors over the rank of the word."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(np.arange(1, len(vectors) + 1), np.linalg.norm(vectors, axis=1), ".", markersize=2)
    axes.set(xlabel="rank of the word by frequency", ylabel="norm of GloVe's centre + context vector")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS], help="files or known corpora, as in train.py")
    parser.add_argument("--dim", type=int, default=128, help="length of a vector")
    parser.add_argument("--sweeps", type=int, default=4, help="passes over the pairs")
    parser.add_argument("--threads", type=int, default=2, help="1 repeats byte for byte")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("dim", "sweeps", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: must be at least 1")
    return args


def add_house_flags(parser: argparse.ArgumentParser) -> None:
    """The four flags that every script of this repository takes."""
    parser.add_argument("--quick", action="store_true", help="every stage on little data, under a minute; not results")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random draw")
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
    words, counts, pairs, _ = load_corpus(args.corpus, folder=args.out_dir, data_dir=args.data_dir,
                                          limit=2000 if args.quick else None)
    cpu = time.process_time()
    fitted = fit_glove(pairs, counts, min(args.dim, 32) if args.quick else args.dim, args.sweeps, threads=args.threads,
                       seed=args.seed, report=lambda number, loss: print(f"sweep {number}: GloVe's loss {loss:.6f}"))
    cpu = time.process_time() - cpu
    save_vectors(args.out_dir / "glove.npz", words, fitted["vectors"], counts, {"objective": "GloVe", "dim": args.dim})
    norms = np.linalg.norm(fitted["vectors"], axis=1)
    print("largest norms:", " ".join(words[np.argsort(-norms)[:20]]))
    figures = ["fit_glove_norms.png"]
    plot_norms(fitted["vectors"]).savefig(args.out_dir / figures[0], dpi=150)
    metrics = {"vocabulary": len(words), "loss": fitted["loss"], "training_cpu_s": cpu,
               "norm_top_100_words": float(norms[:100].mean()), "norm_all_words": float(norms.mean())}
    return save_results(args, "fit_glove", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
