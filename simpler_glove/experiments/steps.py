"""How few conjugate-gradient steps a word are enough? The loss over CPU time for 1, 3, 6 and 20.

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/experiments/steps.py   (5,000 lines of People's Daily)
Symbols: see least_squares.py, whose solver this is.
Differs from the article: the solver is ours; the loss is his (unseen weight 0).
"""

import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cli
from corpus import DEFAULT_CORPUS, load_corpus
from least_squares import PairTargets, objective, start_vectors, sweep


def flags(parser):
    names = "files or known corpora, as in train.py"
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS], help=names)
    lines = cli.between(1, 10**9)
    parser.add_argument("--documents", type=lines, default=5000, help="lines of the corpus")
    parser.add_argument("--sweeps", type=cli.between(1, 1000), default=5, help="passes")
    parser.add_argument("--dim", type=cli.between(1, 10**5), default=128, help="length of a vector")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


def follow_loss(pairs, counts, dim: int, steps: int, sweeps: int, seed: int) -> list[dict]:
    """[{cpu_s, loss}] after each sweep, one thread; the measuring is not timed."""
    data = PairTargets(pairs, counts)
    rng = np.random.default_rng(seed)
    vectors, _ = start_vectors(len(counts), dim, "shared", 10, rng)
    history = []
    spent = 0.0
    with threadpool_limits(1, user_api="blas"):
        for _ in range(sweeps):
            before = time.process_time()
            sweep(vectors, vectors, data, 0.0, 0.1, steps, threads=1)
            spent += time.process_time() - before
            history.append({"cpu_s": spent, "loss": objective(vectors, vectors, data)[0]})
    return history


def plot_steps(histories: dict[int, list[dict]]):
    """Loss over CPU time, a curve per number of steps."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = cli.subplots()
    for steps, history in histories.items():
        seconds = [row["cpu_s"] for row in history]
        losses = [row["loss"] for row in history]
        (line,) = axes.plot(seconds, losses, "o-")
        name = f"{steps} step{'s' * (steps > 1)}"
        first = seconds[0], losses[0]
        axes.annotate(name, first, (8, 3), textcoords="offset points", color=line.get_color())
    axes.set(xlabel="CPU time [s]", ylabel="loss per record (eq. 19 weights)")
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):  # 0.02, 0.05, 0.1 … not powers of ten, which run together
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1, y=0.15)
    return figure


def main(args):
    limit = min(args.documents, 1000) if args.quick else args.documents
    dim = min(args.dim, 32) if args.quick else args.dim
    words, counts, pairs, _ = load_corpus(args.corpus, data_dir=args.data_dir, limit=limit)
    histories = {}
    for steps in (1, 3, 6, 20):
        histories[steps] = follow_loss(pairs, counts, dim, steps, args.sweeps, args.seed)
        last = histories[steps][-1]
        told = f"loss {last['loss']:.6f} after {last['cpu_s']:.1f} CPU s"
        print(f"{steps} steps a word: {told}", flush=True)
    metrics = {"vocabulary": len(words), "pairs": int(pairs.nnz), "history": histories}
    return metrics, [], {"steps_loss": plot_steps(histories)}


if __name__ == "__main__":
    cli.run(main, flags)
