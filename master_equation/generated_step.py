"""One step of an exact simulation as numpy code made for a network: in place, in the cache.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Symbols: a_r → laws of the network   A_k = a_0 + … + a_k → sums   τ = −ln(u₀)/a₀   u₁a₀ ≥ A_k

`print(generate_step(network, carried)[0])` shows the code for a network. For SIR it is 16 calls of
numpy on two work rows; stochastic_simulation.py runs it for thousands of trajectories at a time.
"""

import ast

import numpy as np

from expressions import OPERATORS, UFUNCS, parse_expression
from reaction_network import Network


class Writer:
    """Writes an expression as numpy calls, each into a work row w[i] that is free by then."""

    def __init__(self, rows: dict, constants: dict):
        self.rows = rows  # name of a species → its row, x[k]
        self.constants = constants
        self.lines = []
        self.free = []
        self.buffers = 0

    def new(self) -> str:
        if self.free:
            return self.free.pop()
        self.buffers += 1
        return f"w[{self.buffers - 1}]"

    def call(self, function: str, *operands, keep=()) -> str:
        """A line function(operands, out=row); the row is one of the operands' where it may be."""
        spent = [o for o in operands if str(o).startswith("w[") and o not in keep]
        out = spent[0] if spent else self.new()
        self.lines.append(f"{function}({', '.join(map(str, operands))}, out={out})")
        self.free.extend(set(spent) - {out} - set(self.free))
        return out

    def value(self, node: ast.expr):
        """The row that will hold the value of an expression, or the value, if it is a number."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.rows.get(node.id) or float(self.constants[node.id])
        if isinstance(node, ast.UnaryOp):
            value = self.value(node.operand)
            return -value if isinstance(value, float) else self.call("np.negative", value)
        if isinstance(node, ast.Call):
            values = [self.value(argument) for argument in node.args]
            return self.apply(UFUNCS[node.func.id], *values)
        left = self.value(node.left)
        if isinstance(node.op, ast.Pow) and not isinstance(left, float):
            power = getattr(node.right, "value", None)
            if power in (2, 3):
                return self.power(left, power)
        right = self.value(node.right)
        if isinstance(node.op, ast.Mult) and 1.0 in (left, right):
            return right if left == 1.0 else left
        return self.apply(OPERATORS[type(node.op)], left, right)

    def apply(self, function: np.ufunc, *values):
        if all(isinstance(value, float) for value in values):
            with np.errstate(all="ignore"):
                return float(function(*values))
        return self.call(f"np.{function.__name__}", *values)

    def power(self, row: str, power: int) -> str:
        square = self.call("np.multiply", row, row, keep=(row,))
        return square if power == 2 else self.call("np.multiply", square, row)


def generate_step(network: Network, carried: list) -> tuple:
    """(source, number of work rows) of `wait(x, t, u, w, low)` and `fire(x, u, w, flag)`.

    x: rows of the carried species, w: work rows, u: two rows of uniforms. `wait` advances t to the
    next jump and leaves the cumulative propensities in w; `fire` picks the reaction, u₁a₀ ≥ A_k,
    and applies its change. `low` keeps the lowest of all that must not be negative.
    """
    rows = {network.species[i]: f"x[{k}]" for k, i in enumerate(carried)}
    writer = Writer(rows, network.constants)
    sums = write_wait(network, writer)
    wait = ["def wait(x, t, u, w, low):", *writer.lines]
    writer.lines = []
    write_fire(network.nu[carried], sums, writer)
    fire = ["def fire(x, u, w, flag):", *writer.lines, "return"]
    return "\n    ".join(wait) + "\n" + "\n    ".join(fire), writer.buffers


def write_wait(network: Network, writer: Writer) -> list:
    """t += τ, τ = −ln(u₀)/a₀. Returns the rows of A_0, …, A_(R−1); the last one is a₀."""
    watched = dict.fromkeys(writer.rows[name] for _, name, _ in network.unguarded)
    for row in watched:
        writer.lines.append(f"np.minimum(low, {row}, out=low)")
    sums = []
    for r, law in enumerate(network.laws):
        rate = writer.value(parse_expression(law))
        if r in network.unbounded_laws and isinstance(rate, str):
            zero = writer.call("np.multiply", rate, 0.0, keep=(rate,))  # ∞·0 is not a number
            writer.lines.append(f"np.minimum(low, {zero}, out=low)")
            writer.free.append(zero)
        if r in network.unsure_laws and isinstance(rate, str):
            writer.lines.append(f"np.minimum(low, {rate}, out=low)")
            rate = writer.call("np.maximum", rate, 0.0)
        previous = sums[-1] if sums else 0.0
        if isinstance(rate, float) and isinstance(previous, float):
            sums.append(previous + rate)
        elif previous == 0.0:
            sums.append(rate)
        else:
            sums.append(writer.call("np.add", previous, rate, keep=(previous,)))
    total = sums[-1]
    if all(may_be_minus_zero(network, r) for r in range(len(network.laws))):
        total = writer.call("np.add", total, 0.0, keep=sums)  # −0.0 → 0.0
    writer.lines += [
        "np.log(u[0], out=u[0])",
        f"np.divide(u[0], {total}, out=u[0])",
        "np.subtract(t, u[0], out=t)",
    ]
    if len(sums) > 1:
        writer.total = total
    return sums


def may_be_minus_zero(network: Network, reaction: int) -> bool:
    """0·(0 − 1) is −0.0, and −ln(u)/−0.0 a wait of minus infinity."""
    return network.custom[reaction] or "(" in network.laws[reaction]


def write_fire(nu: np.ndarray, sums: list, writer: Writer) -> None:
    """x += ν_r, where r is the number of A_k with u₁a₀ ≥ A_k."""
    if len(sums) > 1:
        writer.lines.append(f"np.multiply(u[1], {writer.total}, out=u[1])")
    flags = []
    for k in range(len(sums) - 1):
        writer.lines.append(f"np.greater_equal(u[1], {sums[k]}, out=flag)")
        shared = sums[k] in sums[:k] or sums[k] in sums[k + 1 :]
        own = str(sums[k]).startswith("w[") and not shared
        flags.append(sums[k] if own else writer.new())
        writer.lines.append(f"np.copyto({flags[-1]}, flag)")
    steps = np.diff(nu, axis=1)  # change of reaction k+1 minus change of reaction k
    for s in range(len(nu)):
        if nu[s, 0]:
            writer.lines.append(f"np.add(x[{s}], {nu[s, 0]}, out=x[{s}])")
        for k, flag in enumerate(flags):
            if abs(steps[s, k]) == 1:
                sign = "add" if steps[s, k] > 0 else "subtract"
                writer.lines.append(f"np.{sign}(x[{s}], {flag}, out=x[{s}])")
            elif steps[s, k]:
                writer.lines.append(f"np.multiply({flag}, {steps[s, k]}, out=u[1])")
                writer.lines.append(f"np.add(x[{s}], u[1], out=x[{s}])")


def compile_step(network: Network, carried: list) -> tuple:
    """(wait, fire, number of work rows) of a network; `carried`: the species that are kept."""
    source, buffers = generate_step(network, carried)
    space = {"np": np, "inf": np.inf, "nan": np.nan}
    exec(compile(source, "<generated step>", "exec"), space)
    return space["wait"], space["fire"], buffers
