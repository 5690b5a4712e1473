"""Does the author's AdaGrad reach the loss, and does GloVe's order of the same steps break it?

Article: 更别致的词向量模型(四)：模型的求解 https://kexue.fm/archives/4675
Run:     python simpler_glove/adagrad.py                  (10,000 lines of People's Daily; --quick for a look)
Time:    65 s of one core (AMD EPYC), 0.2 GB

Symbols: η → rate   G → sums (of squared gradients, from 1; eq. 23)   λ_ij → weights   v_i → target, source
Differs from the article: rounds of pairs without a common word replace his random order of single records, which gives
numpy whole arrays to work on and stays one of the orders in which single records could come.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simpler_glove.count import DEFAULT_CORPUS, load_corpus  # noqa: E402
from simpler_glove.least_squares import PairTargets  # noqa: E402

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- method
def adagrad_epoch(target: np.ndarray, source: np.ndarray, sums: tuple, data: PairTargets, rng: np.random.Generator,
                  rate: float = 0.1, loss_scale: float = 1.0, accumulate_first: bool = True) -> None:
    """The author's update for every record, in rounds of pairs that share no word (i + j ≡ k mod n): each round equals
    its pairs taken one after another. accumulate_first=False is GloVe's order: step by the old sum, add η²g² after."""
    size = len(target)
    if "rounds" not in vars(data):
        row = np.repeat(np.arange(size), data.full)
        keep = data.columns < row
        row, column, x = row[keep], data.columns[keep].astype(np.int64), data.counts[keep]
        order = np.argsort((row + column) % size, kind="stable")
        row, column, x = row[order], column[order], x[order]
        targets = data.log_of[x] - data.row_offset[row] - data.column_offset[column]
        cuts = np.searchsorted((row + column) % size, np.arange(size + 1))
        data.rounds = row, column, data.weight_of[x], targets, cuts
    row, column, weights, targets, cuts = data.rounds

    def update(vectors, total, which, gradient):
        if accumulate_first:                                   # G ← G + g²;  v ← v − η g/√G   (eq. 23, as in his code)
            seen = total[which] + gradient * gradient
            vectors[which] -= rate * gradient / np.sqrt(seen + 1e-8)
        else:
            gradient = rate * gradient
            seen = total[which]
            vectors[which] -= gradient / np.sqrt(seen)
            seen += gradient * gradient
        total[which] = seen

    for turn in range(2):                                      # every pair is two records, (i, j) and (j, i)
        for k in rng.permutation(size):
            some = slice(cuts[k], cuts[k + 1])
            i, j = (row[some], column[some])[::1 if turn else -1]
            v, u = target[i], source[j]
            error = (loss_scale * weights[some] * (np.einsum("nd,nd->n", v, u) - targets[some]))[:, None]
            update(target, sums[0], i, error * u)
            update(source, sums[-1], j, error * v)


# ---------------------------------------------------------------- evaluation
def compare(pairs, counts: np.ndarray, epochs: int, options: dict) -> dict[str, list[dict]]:
    """Histories of the solvers on one corpus, all on the article's loss (unseen weight 0)."""
    from simpler_glove.train import fit   # here, because train.py imports adagrad_epoch from this file

    runs = {"least squares": {"solver": "cg"}, "AdaGrad": {"sweeps": epochs}, "AdaGrad, loss × 10": {
        "sweeps": epochs, "loss_scale": 10.0}}
    for truncate in (True, False):
        for scale in (1.0, 10.0):
            runs[f"GloVe's order, loss × {scale:g}{'' if truncate else ', not truncated'}"] = {
                "sweeps": 1, "accumulate_first": False, "loss_scale": scale, "truncate": truncate}
    runs["AdaGrad, loss × 10, not truncated"] = {"sweeps": 1, "loss_scale": 10.0, "truncate": False}
    histories = {}
    for name, changes in runs.items():
        with np.errstate(all="ignore"):
            changes = {"solver": "adagrad", "unseen_weight": 0.0, **changes, **options}
            histories[name] = fit(pairs, counts, **changes)["history"]
        last = histories[name][-1]
        print(f"{name}: loss {last['loss']:.6f} after {last['sweep']} passes, {last['cpu_s']:.1f} CPU s")
    return histories


def check(histories: dict[str, list[dict]]) -> tuple[dict, list]:
    """C7.7 and C7.12."""
    last = {name: history[-1]["loss"] for name, history in histories.items()}
    broken = [name for name, loss in last.items() if name.startswith("GloVe") and not np.isfinite(loss)]
    stable = all(np.isfinite(loss) for name, loss in last.items() if name.startswith("AdaGrad"))
    plain = "GloVe's order, loss × 1" in broken or "GloVe's order, loss × 1, not truncated" in broken
    ratio = last["AdaGrad, loss × 10"] / last["AdaGrad"]
    epochs = len(histories["AdaGrad"])
    metrics = {"loss": {name: loss if np.isfinite(loss) else "NaN" for name, loss in last.items()},
               "cpu_s": {name: history[-1]["cpu_s"] for name, history in histories.items()},
               "history": {name: history for name, history in histories.items() if not name.startswith("GloVe")},
               "loss_ratio_scale_10": ratio, "epochs": epochs}
    return metrics, [
        {"id": "C7.7", "claim": "AdaGrad in GloVe's order (step first) gives NaN on this loss, sums first do not",
         "expected": "NaN; no NaN", "holds": plain and stable,
         "measured": f"NaN in: {'; '.join(broken) or 'none'}; accumulating first: {'never' if stable else 'NaN too'}"},
        {"id": "C7.12", "claim": "AdaGrad hardly feels a loss multiplied by 10", "expected": "loss within 10 %",
         "measured": f"loss {last['AdaGrad, loss × 10']:.5f} against {last['AdaGrad']:.5f} after {epochs} epochs "
                     f"(ratio {ratio:.2f}); the sums start at 1, which is large for gradients this small",
         "holds": abs(ratio - 1) < 0.1}]


# ---------------------------------------------------------------- figures
def plot_loss(histories: dict[str, list[dict]]) -> Figure:
    """Exact loss over CPU time, one curve per name."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, history in histories.items():
        points = [(point["cpu_s"], point["loss"]) for point in history]
        line, = axes.plot(*zip(*points), "o-", markersize=3)
        axes.annotate(name, points[0], xytext=(6, 4), textcoords="offset points", color=line.get_color())
    axes.set(xlabel="CPU time, all threads [s]", ylabel="loss per record (eq. 19 weights)", xscale="log", yscale="log")
    axes.margins(0.15)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("corpus", nargs="*", default=[DEFAULT_CORPUS], help="files or known corpora, as in train.py")
    parser.add_argument("--epochs", type=int, default=4, help="passes of AdaGrad (the article: 25 to 30)")
    parser.add_argument("--documents", type=int, default=10000, help="lines taken of the corpus")
    parser.add_argument("--dim", type=int, default=128, help="length of a vector")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for name in ("epochs", "documents", "dim"):
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
    words, counts, pairs, _ = load_corpus(args.corpus, folder=args.out_dir, data_dir=args.data_dir,
                                          limit=min(args.documents, 1000) if args.quick else args.documents)
    print(f"vocabulary {len(words)}, {pairs.nnz} pairs")
    options = {"dim": min(args.dim, 32) if args.quick else args.dim, "seed": args.seed, "threads": 1}
    histories = compare(pairs, counts, min(args.epochs, 2) if args.quick else args.epochs, options)
    metrics, claims = check(histories)
    figures = ["adagrad_loss.png"]
    plot_loss({name: histories[name] for name in ("least squares", "AdaGrad", "AdaGrad, loss × 10")}
              ).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "adagrad", metrics, claims, figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
