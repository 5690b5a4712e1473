"""Does the author's AdaGrad reach the loss, and does GloVe's order of the same steps break it?

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/experiments/solvers.py   (10,000 lines of People's Daily)
Symbols: η → rate   G → sums (eq. 23), see adagrad.py
Differs from the article: his random order of single records is one of rounds (adagrad.py).
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import adagrad
import cli
import least_squares
from corpus import DEFAULT_CORPUS, load_corpus

COLORS = {"least squares": "C0", "AdaGrad": "C1", "AdaGrad, loss × 10": "C4"}


def flags(parser):
    names = "files or known corpora, as in train.py"
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS], help=names)
    epochs = "passes of AdaGrad (the article: 25 to 30)"
    parser.add_argument("--epochs", type=cli.between(1, 1000), default=4, help=epochs)
    lines = cli.between(1, 10**9)
    parser.add_argument("--documents", type=lines, default=10_000, help="lines of the corpus")
    parser.add_argument("--dim", type=cli.between(1, 10**5), default=128, help="length of a vector")
    parser.add_argument("--seed", **cli.SEED)
    parser.add_argument("--data-dir", **cli.DATA_DIR)


def compare(pairs, counts: np.ndarray, epochs: int, options: dict) -> dict[str, list[dict]]:
    """Name of a run → its history; all on the article's loss (unseen weight 0)."""
    histories = {}

    def note(name, fitted):
        histories[name] = fitted["history"]
        last = histories[name][-1]
        told = f"loss {last['loss']:.6f} after {last['sweep']} passes, {last['cpu_s']:.1f} CPU s"
        print(f"{name}: {told}", flush=True)

    def rounds(name, epochs, truncate=True, **changes):
        changes |= {"weighting": {"truncate": truncate}, "epochs": epochs}
        with np.errstate(all="ignore"):  # to overflow is what is asked of GloVe's order
            note(name, adagrad.fit_rounds(pairs, counts, **changes, **options))

    note("least squares", least_squares.fit(pairs, counts, unseen_weight=0.0, **options))
    rounds("AdaGrad", epochs)
    rounds("AdaGrad, loss × 10", epochs, loss_scale=10.0)
    for truncate in (True, False):
        for scale in (1.0, 10.0):
            name = f"GloVe's order, loss × {scale:g}{'' if truncate else ', not truncated'}"
            rounds(name, 1, truncate, loss_scale=scale, accumulate_first=False)
    rounds("AdaGrad, loss × 10, not truncated", 1, False, loss_scale=10.0)
    return histories


def check(histories: dict[str, list[dict]]) -> tuple[dict, list]:
    """(metrics, C7.7 and C7.12) of compare's histories."""
    last = {name: history[-1]["loss"] for name, history in histories.items()}
    nan = [name for name, loss in last.items() if not np.isfinite(loss)]
    broken = [name for name in nan if name.startswith("GloVe")]
    sums_first = [name for name in nan if name.startswith("AdaGrad")]
    plain = [name for name in broken if "× 10" not in name]
    ratio = last["AdaGrad, loss × 10"] / last["AdaGrad"]
    metrics = {
        "loss": {name: "NaN" if name in nan else loss for name, loss in last.items()},
        "cpu_s": {name: history[-1]["cpu_s"] for name, history in histories.items()},
        "history": {name: rows for name, rows in histories.items() if not name.startswith("GloVe")},
        "loss_ratio_scale_10": ratio,
        "epochs": len(histories["AdaGrad"]),
    }
    settings = [name.removeprefix("GloVe's order, ") for name in broken]
    orders = {
        "glove": len(broken),
        "sums_first": len(sums_first),
        "broken": "; ".join(settings) or "none",
    }
    scales = {"ratio": ratio, "tenfold": last["AdaGrad, loss × 10"], "plain": last["AdaGrad"]}
    claims = [
        cli.claim("C7.7", orders, bool(plain) and not sums_first),
        cli.claim("C7.12", scales, abs(ratio - 1) < 0.1),
    ]
    return metrics, claims


def plot_loss(histories: dict[str, list[dict]]):
    """Exact loss over CPU time, a curve per solver."""
    figure, axes = cli.subplots()
    for name, color in COLORS.items():
        seconds = [row["cpu_s"] for row in histories[name]]
        losses = [row["loss"] for row in histories[name]]
        axes.plot(seconds, losses, "o-", color=color)
        last = seconds[-1], losses[-1]
        axes.annotate(name, last, (8, 0), textcoords="offset points", color=color, va="center")
    axes.set(xlabel="CPU time of all threads [s]", ylabel="loss per record (eq. 19 weights)")
    axes.set(xscale="log", yscale="log")
    axes.margins(x=0.3)
    axes.set_xlim(right=4 * max(history[-1]["cpu_s"] for history in histories.values()))
    return figure


def main(args):
    limit = min(args.documents, 1000) if args.quick else args.documents
    epochs = min(args.epochs, 2) if args.quick else args.epochs
    dim = min(args.dim, 32) if args.quick else args.dim
    words, counts, pairs, _ = load_corpus(args.corpus, data_dir=args.data_dir, limit=limit)
    print(f"vocabulary {len(words):,}, {pairs.nnz:,} pairs", flush=True)
    histories = compare(pairs, counts, epochs, {"dim": dim, "seed": args.seed, "threads": 1})
    metrics, claims = check(histories)
    return metrics, claims, {"solvers_loss": plot_loss(histories)}


if __name__ == "__main__":
    cli.run(main, flags)
