"""A discriminator whose odds can be trusted: cross-fitted, stopped by a held-out part, and a test that keeps its level.

Article: 如何划分一个跟测试集更接近的验证集? https://kexue.fm/archives/7805
Run:     python adversarial_validation/discriminator.py         (--quick for a look)
Time:    52 s on 2 busy cores (19 CPU-s)

Symbols: p, q → density of the training and the test inputs   D(x) → d, probability "x is from test"
         w(x) = q/p = D/(1-D) → weights, mean 1   ESS = (Σw)²/Σw² → effective_sample_share × n
Differs from the article: it warns of over-fitting and names the two cures (a held-out part, logistic regression); here
         both are measured, with a third that it leaves out: D scores no row that it was fitted on.
"""
import argparse
import json
import os
import platform
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import kstest, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
FIT_ROWS = 20_000         # rows a side that one D is fitted on: more do not move a linear D, all rows are scored
TEST_ROWS = 4_000         # rows a side of the permutation test
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)   # C of the logistic D, weakest first; a held-out part stops the walk


# ---------------------------------------------------------------- data
def gaussian_pair(rows: int, features: int, random: np.random.Generator) -> tuple:
    """Train N(0, I), test N(e₁, I): the exact weights are exp(x₁ − ½) → (x_train, x_test, exact weights)."""
    x_train, x_test = random.standard_normal((2, rows, features))
    x_test[:, 0] += 1
    return x_train, x_test, np.exp(x_train[:, 0] - 0.5)


# ---------------------------------------------------------------- method
def area_under_curve(scores_train: np.ndarray, scores_test: np.ndarray) -> float:
    """P(a test row scores above a training row), ties count half."""
    ranks = rankdata(np.concatenate([scores_train, scores_test]))
    n, m = len(scores_train), len(scores_test)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))


def fit_discriminator(x, is_test, random: np.random.Generator, kind: str = "logistic", may_be_constant: bool = True):
    """D with equal say of both sides, stopped by a held-out fifth → function of x giving D in (0, 1).

    logistic: C grows while the held-out loss falls; D = 1/2 where no C beats log 2 (unless may_be_constant is False).
    network: one hidden layer (Keras), batches of equal halves, epochs chosen by the held-out loss.
    """
    held = random.random(len(x)) < 0.2
    if kind == "network":
        return fit_network(x[~held], is_test[~held], x[held], is_test[held], random)
    balance = np.where(is_test[held], 0.5 / is_test[held].mean(), 0.5 / (1 - is_test[held].mean()))
    best, best_loss = None, np.log(2) if may_be_constant else np.inf     # log 2 is the loss of D = 1/2
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=100).fit(x[~held], is_test[~held])
        probability = np.clip(model.predict_proba(x[held])[:, 1], 1e-6, 1 - 1e-6)
        loss = -np.average(np.log(np.where(is_test[held], probability, 1 - probability)), weights=balance)
        if loss >= best_loss:
            break
        best, best_loss = model, loss
    return (lambda rows: np.full(len(rows), 0.5)) if best is None else (lambda rows: best.predict_proba(rows)[:, 1])


def fit_network(x, is_test, x_held, is_test_held, random: np.random.Generator, epochs: int = 60, patience: int = 4):
    """The network D (Keras). It keeps the epoch with the lowest held-out loss and stops after `patience` worse ones."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    keras.utils.set_random_seed(int(random.integers(2 ** 31)))
    sides = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    steps = -(-max(map(len, sides)) // 32)

    class EqualHalves(keras.utils.PyDataset):                            # 32 of train and 32 of test in every batch
        def __len__(self):
            return steps

        def __getitem__(self, index):
            if index == 0:
                self.order = [np.resize(random.permutation(side), 32 * steps) for side in sides]
            rows = np.concatenate([order[32 * index:32 * (index + 1)] for order in self.order])
            return x[rows].astype("float32"), is_test[rows].astype("float32")[:, None]
    model = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Dense(64, "relu"),
                              keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy", jit_compile=False)
    balance = np.where(is_test_held, 0.5 / is_test_held.mean(), 0.5 / (1 - is_test_held.mean()))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
    history = model.fit(EqualHalves(), epochs=epochs, verbose=0, shuffle=False, callbacks=[stop],
                        validation_data=(x_held.astype("float32"), is_test_held.astype("float32")[:, None], balance),
                        validation_batch_size=4096).history
    if min(history["val_loss"]) >= np.log(2):               # never better than D = 1/2
        return lambda rows: np.full(len(rows), 0.5)
    return lambda rows: model.predict(rows.astype("float32"), batch_size=4096, verbose=0)[:, 0].astype(float)


def crossfit_discriminator(x_train, x_test, random: np.random.Generator, folds: int = 5,
                           kind: str = "logistic") -> tuple:
    """D of every row by a model that did not see it → (D of train rows, D of test rows), float64 in (0, 1)."""
    sides, out = (x_train, x_test), [np.empty(len(x_train)), np.empty(len(x_test))]
    fold = [random.permutation(len(x)) % folds for x in sides]
    for k in range(folds):
        rows = [random.permutation(np.flatnonzero(f != k))[:FIT_ROWS] for f in fold]
        x = np.concatenate([side[r] for side, r in zip(sides, rows)])
        d = fit_discriminator(x, np.arange(len(x)) >= len(rows[0]), random, kind)
        for side, f, values in zip(sides, fold, out):
            values[f == k] = d(side[f == k])
    return tuple(np.clip(values, 1e-6, 1 - 1e-6) for values in out)


def permutation_test(x_train, x_test, random: np.random.Generator, draws: int = 999) -> tuple:
    """Is there any shift? D fitted on one half, the other half's AUC against shuffled labels → (AUC, p).

    Given D, the scored rows are exchangeable under no shift; pooled cross-fitted scores are not.
    """
    halves = []
    for x in (x_train, x_test):
        rows = random.permutation(len(x))[:2 * TEST_ROWS]
        halves.append((x[rows[:len(rows) // 2]], x[rows[len(rows) // 2:]]))
    x = np.concatenate([halves[0][0], halves[1][0]])
    d = fit_discriminator(x, np.arange(len(x)) >= len(halves[0][0]), random, may_be_constant=False)
    scores = [d(half[1]) for half in halves]
    ranks, m = rankdata(np.concatenate(scores)), len(scores[1])
    observed = ranks[len(scores[0]):].sum()
    shuffled = np.array([random.permutation(ranks)[:m].sum() for _ in range(draws)])
    return area_under_curve(*scores), float((1 + np.sum(shuffled >= observed)) / (1 + draws))


def cap_weights(w: np.ndarray) -> np.ndarray:
    """Mean 1, none above √n (truncated importance sampling, Ionides 2008): one row must not decide the score."""
    w = w / w.mean()
    return np.minimum(w, np.sqrt(len(w)))


def effective_sample_share(w: np.ndarray) -> float:
    """ESS/n = (Σw)²/(n Σw²): 1 for equal weights, 1/n if one row has it all."""
    return float(w.sum() ** 2 / (len(w) * (w ** 2).sum()))


# ---------------------------------------------------------------- evaluation
def discriminators_of_every_kind(x_train, x_test, random: np.random.Generator, keras_too: bool) -> dict:
    """D of the training rows by discriminators from over-fitted to careful."""
    x = np.concatenate([x_train, x_test])
    is_test = np.arange(len(x)) >= len(x_train)
    fold, n, seed = random.permutation(len(x)) % 5, len(x_train), int(random.integers(2 ** 31))

    def network(stop):
        return MLPClassifier(64, alpha=0, early_stopping=stop, max_iter=200, random_state=seed, learning_rate_init=3e-3)

    def trees(stop):
        return HistGradientBoostingClassifier(max_iter=300, early_stopping=stop, random_state=seed)

    def unseen(make):                                                    # cross-fitted
        d = np.empty(len(x))
        for k in range(5):
            d[fold == k] = make(True).fit(x[fold != k], is_test[fold != k]).predict_proba(x[fold == k])[:, 1]
        return d[:n]
    found = {"trees, over-fitted": trees(False).fit(x, is_test).predict_proba(x_train)[:, 1],
             "trees, stopped, unseen rows": unseen(trees),
             "network, over-fitted": network(False).fit(x, is_test).predict_proba(x_train)[:, 1],
             "network, stopped, unseen rows": unseen(network),
             "logistic, unseen rows": crossfit_discriminator(x_train, x_test, random)[0]}
    if keras_too:
        found["Keras, stopped, unseen rows"] = crossfit_discriminator(x_train, x_test, random, 2, "network")[0]
    return {name: np.clip(d, 1e-6, 1 - 1e-6) for name, d in found.items()}


def measure_weights(d: np.ndarray, x1: np.ndarray, exact: np.ndarray) -> dict:
    """How far D/(1−D) is from q/p: error of log w, squared error of w (both of mean 1), and the test mean of x₁ (1)."""
    w = d / (1 - d)
    w = w / w.mean()
    return {"ess": effective_sample_share(w), "largest": float(w.max()), "error": float(np.mean((w - exact) ** 2)),
            "log_error": float(np.std(np.log(w) - np.log(exact))), "mean_of_x1": float(w @ x1 / w.sum())}


def p_values_without_shift(runs: int, random: np.random.Generator) -> np.ndarray:
    """p of the permutation test on `runs` pairs of equal tables (150 + 150 rows, 5 columns): uniform if it is right."""
    return np.array([permutation_test(*random.standard_normal((2, 150, 5)), random)[1] for _ in range(runs)])


# ---------------------------------------------------------------- figures
def plot_weights(exact: np.ndarray, found: dict, p_values: np.ndarray) -> Figure:
    """Estimated against exact weights, one panel per discriminator; last the p-values against the uniform law."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for axes, (name, w) in zip(panels, found.items()):   # six at most
        axes.loglog(exact, w, ".", ms=2, color="C3" if "unseen" in name else "C0")
        axes.loglog([0.01, 100], [0.01, 100], "k-", lw=0.8)
        axes.set(title=f"{name}\nESS/n {effective_sample_share(w):.2f}", xlabel="exact q/p", xlim=(0.01, 100),
                 ylim=(1e-4, 1e3))
        axes.title.set_fontsize(9)
    for axes in panels[len(found):-1]:
        axes.set_axis_off()
    panels[0].set_ylabel("D/(1−D), mean 1")
    panels[-1].plot(np.sort(p_values), (np.arange(len(p_values)) + 0.5) / len(p_values), "C3")
    panels[-1].plot([0, 1], [0, 1], "k-", lw=0.8)
    panels[-1].set(title=f"permutation p, no shift\n{len(p_values)} runs", xlabel="p", ylabel="share of runs below p")
    panels[-1].title.set_fontsize(9)
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="rows a side of the Gaussian pair, at least 100")
    parser.add_argument("--features", type=int, default=10, help="columns of the pair, the shift is in the first")
    parser.add_argument("--runs", type=int, default=200, help="runs without shift for the p-value, at least 20")
    parser.add_argument("--draws", type=int, default=3, help="Gaussian pairs, at least 1")
    parser.add_argument("--no-keras", action="store_true", help="leave the Keras network out")
    add_house_flags(parser)
    args = parser.parse_args(argv)
    for flag, least in (("rows", 100), ("features", 1), ("runs", 20), ("draws", 1)):
        if getattr(args, flag) < least:
            parser.error(f"--{flag} {getattr(args, flag)}: must be at least {least}")
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
    args.out_dir.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", category=ConvergenceWarning)       # the over-fitted one is meant to be cut off
    random = np.random.default_rng(args.seed)
    rows, runs = (300, 40) if args.quick else (args.rows, args.runs)
    table, draws = {}, 2 if args.quick else args.draws
    with threadpool_limits(1):                                           # small problems: threads only get in the way
        for draw in range(draws):
            x_train, x_test, exact = gaussian_pair(rows, args.features, random)
            exact /= exact.mean()
            found = discriminators_of_every_kind(x_train, x_test, random, draw == 0 and not args.no_keras)
            for name, d in found.items():
                table.setdefault(name, []).append(measure_weights(d, x_train[:, 0], exact))
            if draw == 0:
                shown = exact, {name: d / (1 - d) / np.mean(d / (1 - d)) for name, d in found.items()}
        p_values = p_values_without_shift(runs, random)
    table = {name: {key: float(np.mean([run[key] for run in group])) for key in group[0]} | {
        "miss": float(np.mean([abs(run["mean_of_x1"] - 1) for run in group]))} for name, group in table.items()}
    uniform = kstest(p_values, "uniform")
    metrics = {"discriminators": table, "exact_ess": np.exp(-1), "draws": draws, "p_values": p_values.tolist(),
               "ks_distance": uniform.statistic, "ks_p": uniform.pvalue, "share_below_0.05": np.mean(p_values < 0.05)}
    for name, row in table.items():
        print(f"{name:30s} ESS/n {row['ess']:.3f} (exact 0.368)  largest {row['largest']:8.1f}  sd of log error "
              f"{row['log_error']:.2f}  mean of x1 {row['mean_of_x1']:.3f} (exact 1), off by {row['miss']:.3f}")
    print(f"p-values without shift: KS distance {uniform.statistic:.3f}, p {uniform.pvalue:.2f} over {runs} runs")
    plot_weights(*shown, p_values).savefig(args.out_dir / "discriminator_weights.png", dpi=100)
    over = {name: row["log_error"] for name, row in table.items() if "over" in name}
    mended = {kind: table[f"{kind}, stopped, unseen rows"]["log_error"] / over[f"{kind}, over-fitted"]
              for kind in ("trees", "network")}
    linear = table["logistic, unseen rows"]["log_error"] / min(over.values())
    claims = [{"id": "C3.6", "claim": "an over-fitted D gives degenerate weights; stopping or a logistic D helps",
               "expected": "error of log w: stopped below 0.8 of the over-fitted D's, logistic below half",
               "measured": f"over-fitted {', '.join(f'{k} {v:.2f}' for k, v in over.items())}; stopped and unseen over "
                           f"that: trees {mended['trees']:.2f}, network {mended['network']:.2f}; logistic {linear:.2f}",
               "holds": bool(max(mended.values()) < 0.8 and linear < 0.5)}]
    return save_results(args, "discriminator", metrics, claims, ["discriminator_weights.png"], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
