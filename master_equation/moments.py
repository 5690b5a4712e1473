"""Mean-field equations, exact moments of affine networks, and the exact moments of tau-leaping on them.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/moments.py
Time:    7 s on one core (AMD EPYC 2.6 GHz)

Multiply the master equation by y and sum: d⟨y⟩/dt = ν⟨a(y)⟩. Where a is affine, a = b + J·y, the moments close:
    dm/dt = ν a(m),   dC/dt = A·C + C·Aᵀ + ν diag(a(m)) νᵀ   with A = νJ.
Elsewhere ⟨a(y)⟩ ≠ a(⟨y⟩); the mean-field equation dm/dt = ν a(m) ignores that, and the figure shows what it costs.

Symbols: m → mean   C → covariance   ν → Network.nu   a = b + J·y → affine_parts
Differs from the article: all of it comes after the article's last equation.
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
from scipy.integrate import solve_ivp
from scipy.linalg import expm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from master_equation.networks import Network, load_network
from master_equation.state_space import solve_within
from master_equation.stochastic_simulation import simulate

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- method
def mean_field(network: Network, times: np.ndarray) -> dict:
    """dm/dt = ν a(m) with the laws for large numbers (k·m²/2 in place of k·m(m−1)/2). {name: (T,)}. Raises
    ValueError."""
    if network.triggers:
        raise ValueError("the mean-field equation has no meaning for 'when' statements")
    times, nu = np.asarray(times, dtype=float), network.nu
    m, now, rows, done = np.array(network.initial, dtype=float), 0.0, [], 0
    for moment, values in (*network.timed, (np.inf, {})):
        stop = int(np.searchsorted(times, moment, side="left"))
        marks = np.append(times[done:stop], min(moment, times[-1]))
        if marks[-1] > now:
            with np.errstate(all="ignore"):
                result = solve_ivp(lambda _, y: nu @ network.propensities(y[:, None], True)[:, 0], (now, marks[-1]), m,
                                   "LSODA", t_eval=np.unique(marks), rtol=1e-9, atol=1e-9)
            if not result.success or not np.isfinite(result.y).all():
                raise ValueError(f"the mean-field equation has no solution up to t = {times[-1]:g}: {result.message}")
            path = result.y[:, np.searchsorted(result.t, marks)]
        else:
            path = np.repeat(m[:, None], len(marks), axis=1)
        rows.append(path[:, :-1])
        m, now, done = path[:, -1].copy(), marks[-1], stop
        if done == len(times):
            break
        for name, value in values.items():
            m[network.species.index(name)] = value
    return network.outputs(np.concatenate(rows, axis=1))


def affine_parts(function, size: int) -> tuple:
    """(b, J) of f(y) = b + J·y, read off at 0 and the unit vectors. f: (S, n) → (R, n)."""
    at = function(np.concatenate([np.zeros((size, 1)), np.eye(size)], axis=1))
    return at[:, 0], at[:, 1:] - at[:, :1]


def output_moments(network: Network, means: list, covariances: list) -> tuple:
    """({name: mean (T,)}, {name: sd (T,)}) of species and (affine) observables."""
    size, names = len(network.species), list(network.outputs(np.zeros((len(network.species), 1))))
    b, gradient = affine_parts(lambda y: np.stack(list(network.outputs(y).values())), size)
    means, variances = np.array(means) @ gradient.T + b, np.einsum("is,tsr,ir->ti", gradient, covariances, gradient)
    return dict(zip(names, means.T)), dict(zip(names, np.sqrt(np.maximum(variances, 0)).T))


def exact_moments(network: Network, times: np.ndarray) -> tuple:
    """Mean and sd from the closed moment equations, by matrix exponentials. Raises ValueError if a law is not
    affine."""
    if not network.affine():
        raise ValueError("the moment equations do not close: a law is not affine, or there is a 'when' statement")
    times, nu, size = np.asarray(times, dtype=float), network.nu, len(network.species)
    b, jacobian = affine_parts(network.propensities, size)
    drift = nu @ jacobian

    def derivative(z):   # z = (m, C, 1)
        m, c = z[:size], z[size:-1].reshape(size, size)
        rates = b * z[-1] + jacobian @ m
        return np.concatenate([nu @ rates, (drift @ c + c @ drift.T + (nu * rates) @ nu.T).ravel(), [0]])

    matrix = np.stack([derivative(unit) for unit in np.eye(size + size * size + 1)], axis=1)
    z, now, cache, rows = np.concatenate([network.initial, np.zeros(size * size), [1]]), 0.0, {}, {}
    marks = sorted({*times, *(moment for moment, _ in network.timed if moment <= times[-1])})
    for mark in marks:
        key = float(f"{mark - now:.12g}")
        if key not in cache:
            cache[key] = expm(matrix * key)
        z, now = cache[key] @ z, mark
        for _, values in (event for event in network.timed if event[0] == mark):
            for i, value in ((network.species.index(name), value) for name, value in values.items()):
                z[i] = value
                c = z[size:-1].reshape(size, size)   # a view
                c[i, :] = c[:, i] = 0
        rows[mark] = z.copy()
    chosen = [rows[t] for t in times]
    return output_moments(network, [z[:size] for z in chosen],
                          np.array([z[size:-1].reshape(size, size) for z in chosen]))


def leap_moments(network: Network, times: np.ndarray, tau: float, kind: str) -> tuple:
    """Exact mean and sd of tau-leaping on an affine network (as long as it does not touch zero). The bias of the method
    is this minus `exact_moments`. Each interval between `times` is cut into equal leaps of at most tau."""
    nu, size = network.nu, len(network.species)
    b, jacobian = affine_parts(network.propensities, size)
    drift, unit = nu @ jacobian, np.eye(size)
    after = {"explicit": 0.0, "implicit": 1.0, "trapezoidal": 0.5}[kind]   # share of a(y) taken at the end of the leap
    m, c, now, means, covariances = np.array(network.initial, dtype=float), np.zeros((size, size)), 0.0, [], []
    for mark in times:
        leaps = max(1, int(np.ceil((mark - now) / tau - 1e-9)))
        step = (mark - now) / leaps
        inverse = np.linalg.inv(unit - after * step * drift)
        forward = inverse @ (unit + (1 - after) * step * drift)
        for _ in range(leaps):
            noise = inverse @ nu
            c = forward @ c @ forward.T + step * (noise * (b + jacobian @ m)) @ noise.T
            m = forward @ m + step * inverse @ nu @ b
        now = mark
        means.append(m)
        covariances.append(c)
    return output_moments(network, means, np.array(covariances))


# ---------------------------------------------------------------- figures
def plot_mean_field(curves: dict) -> Figure:
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    for axes, (title, (times, field, exact, how)) in zip(figure.subplots(2, 3).ravel(), curves.items()):
        axes.plot(times, exact, color="C1" if "trajectories" in how else "C0", label=how)
        axes.plot(times, field, "--", color="C5", label="mean-field equation")
        axes.set(title=title, xlabel="time")
        axes.legend(fontsize=7)
    figure.supylabel("mean count")
    return figure


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_house_flags(parser)
    return parser.parse_args(argv)


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
    curves, metrics = {}, {}
    for model, name in (("immigration-death", "X"), ("dimerisation", "P"), ("schlogl", "X"), ("toggle", "X"),
                        ("sir", "I"), ("lotka-volterra", "prey")):
        network, end = load_network(model)
        times = np.linspace(0, end, 51)
        if network.affine():
            exact, how = exact_moments(network, times)[0][name], "master equation, moments"
        elif model in ("sir", "lotka-volterra"):
            n = 100 if args.quick else 4000 if model == "sir" else 200
            exact, how = simulate(network, times, n, args.seed)["mean"][name], f"{n} exact trajectories"
        else:
            space, p, _ = solve_within(network, times)
            exact, how = space.moments(p)[0][name], "master equation, states"
        field = mean_field(network, times)[name]
        curves[f"{model}: {name}"] = (times, field, exact, how)
        metrics[model] = {"exact": exact[-1], "mean_field": field[-1],
                          "largest_difference": np.abs(field - exact).max() / np.abs(exact).max()}
        print(f"{model}: {name} at t = {end:g}: {how} {exact[-1]:.4g}, mean-field {field[-1]:.4g}")
    figures = ["moments_mean_field.png"]
    plot_mean_field(curves).savefig(args.out_dir / figures[0], dpi=150)
    return save_results(args, "moments", metrics, [], figures, started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
