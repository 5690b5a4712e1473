"""Numpy code for one step of a network's exact simulation: every operation in place, in buffers that fit the cache.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/generated_step.py [MODEL]      (prints the code generated for a model)
Time:    1 s on one core

Symbols: a_r → laws of the network   A_k = a_0 + … + a_k → sums   τ = −ln(u₀)/a₀ → wait   u₁a₀ ≥ A_k → fire
Differs from the article: it has no simulation. stochastic_simulation.py runs the code made here.
"""
import argparse
import ast
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from master_equation.networks import MODELS, Network, load_network, parse_expression

HERE = Path(__file__).resolve().parent
UFUNCS = {ast.Add: "np.add", ast.Sub: "np.subtract", ast.Mult: "np.multiply", ast.Div: "np.divide", ast.Pow: "np.power"}
CALLS = {"exp": "np.exp", "log": "np.log", "sqrt": "np.sqrt", "min": "np.minimum", "max": "np.maximum"}


# ---------------------------------------------------------------- method
def generate_step(network: Network, carried: list) -> tuple:
    """Source of `wait(x, t, u, w)` and `fire(x, u, w, flag)`, as numpy calls into buffers, and the number of buffers.

    x: rows of the carried species, w: work rows, u: two rows of uniforms. `wait` advances t to the next jump and leaves
    the cumulative propensities in w; `fire` picks the reaction, u₁a₀ ≥ A_k, and applies its change.
    """
    rows = {network.species[i]: f"x[{k}]" for k, i in enumerate(carried)}
    lines, free, buffers = [], [], 0

    def new():
        nonlocal buffers
        if free:
            return free.pop()
        buffers += 1
        return f"w[{buffers - 1}]"

    def call(function, *operands, keep=()):
        out = next((o for o in operands if str(o).startswith("w[") and o not in keep), None) or new()
        lines.append(f"{function}({', '.join(map(str, operands))}, out={out})")
        free.extend({o for o in operands if str(o).startswith("w[") and o != out and o not in keep} - set(free))
        return out

    def emit(node):
        if isinstance(node, ast.Constant):
            return float(node.value)
        if isinstance(node, ast.Name):
            return rows[node.id] if node.id in rows else float(network.constants[node.id])
        if isinstance(node, ast.UnaryOp):
            value = emit(node.operand)
            if isinstance(node.op, ast.UAdd):
                return value
            return -value if isinstance(value, float) else call("np.negative", value)
        if isinstance(node, ast.Call):
            values = [emit(argument) for argument in node.args]
            return call(CALLS[node.func.id], *values)
        left = emit(node.left)
        if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant) and node.right.value in (2, 3):
            if isinstance(left, float):
                return left ** node.right.value
            square = call("np.multiply", left, left, keep=(left,))
            if node.right.value == 2:
                return square
            return call("np.multiply", square, left)
        right = emit(node.right)
        if isinstance(left, float) and isinstance(right, float):
            return float(eval(compile(ast.Expression(ast.fix_missing_locations(
                ast.BinOp(ast.Constant(left), node.op, ast.Constant(right)))), "<constant>", "eval")))
        if isinstance(node.op, ast.Mult) and 1.0 in (left, right):
            return right if left == 1.0 else left
        return call(UFUNCS[type(node.op)], left, right)

    sums = []
    for law in network.laws:   # A_k = a_0 + … + a_k
        rate = emit(parse_expression(law).body)
        previous = sums[-1] if sums else 0.0
        if isinstance(rate, float) and isinstance(previous, float):
            sums.append(previous + rate)
        else:
            sums.append(rate if previous == 0.0 else call("np.add", previous, rate, keep=(previous,)))
    total = call("np.add", sums[-1], 0.0, keep=sums) if any(network.custom) else sums[-1]   # −0.0 → 0.0
    wait = ["def wait(x, t, u, w):", *lines, "np.log(u[0], out=u[0])", f"np.divide(u[0], {total}, out=u[0])",
            "np.subtract(t, u[0], out=t)"]   # τ = −ln(u)/a₀

    lines.clear()
    nu = network.nu[carried]
    steps = np.diff(nu, axis=1)   # change of reaction k+1 minus change of reaction k
    if len(sums) > 1:
        lines.append(f"np.multiply(u[1], {total}, out=u[1])")
    flags = []
    for k in range(len(sums) - 1):
        lines.append(f"np.greater_equal(u[1], {sums[k]}, out=flag)")
        own = str(sums[k]).startswith("w[") and sums[k] not in sums[:k] and sums[k] not in sums[k + 1:]
        flags.append(sums[k] if own else new())
        lines.append(f"np.copyto({flags[-1]}, flag)")
    for s in range(len(carried)):
        if nu[s, 0]:
            lines.append(f"np.add(x[{s}], {nu[s, 0]}, out=x[{s}])")
        for k, flag in enumerate(flags):
            if abs(steps[s, k]) == 1:
                lines.append(f"np.{'add' if steps[s, k] > 0 else 'subtract'}(x[{s}], {flag}, out=x[{s}])")
            elif steps[s, k]:
                lines.append(f"np.multiply({flag}, {steps[s, k]}, out=u[1])")
                lines.append(f"np.add(x[{s}], u[1], out=x[{s}])")
    return "\n    ".join(wait) + "\n" + "\n    ".join(["def fire(x, u, w, flag):", *lines, "return"]), buffers


def compile_step(network: Network, carried: list) -> tuple:
    """(wait, fire, number of buffers) of a network; `carried` lists the species that the simulation keeps."""
    source, buffers = generate_step(network, carried)
    space = {"np": np}
    exec(compile(source, "<generated step>", "exec"), space)  # noqa: S102  the source is ours, its laws are checked
    return space["wait"], space["fire"], buffers


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("model", nargs="?", default="sir", help=f"a text file or one of: {', '.join(MODELS)}")
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
    network, _ = load_network(args.model)
    source, buffers = generate_step(network, list(range(len(network.species))))
    print(source)
    metrics = {"model": args.model, "numpy_calls": source.count("np."), "buffers": buffers}
    return save_results(args, "generated_step", metrics, [], [], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
