"""The arithmetic of a model's laws: read from text, computed for many states, and examined.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
An expression is rewritten as it is read, so that each method meets the same few things: numbers,
names, + − * / **, and functions of one or two arguments. A comparison is a number, 1 or 0:
    a < b < c  →  less(a, b) * less(b, c)        min(a, b, c)  →  min(min(a, b), c)
    a and b    →  (a ≠ 0) * (b ≠ 0)              not a         →  a = 0
"""

import ast
import functools
import keyword
import re

import numpy as np

OPERATORS = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
ONE_ARGUMENT = {"exp": np.exp, "log": np.log, "sqrt": np.sqrt}
ANY_ARGUMENTS = {"min": np.minimum, "max": np.maximum}
COMPARISONS = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
RESERVED = {*ONE_ARGUMENT, *ANY_ARGUMENTS}  # names that a model may not give to anything else
UFUNCS = {  # every function that a rewritten expression may call; "np.less" is no name of a model's
    **ONE_ARGUMENT,
    **ANY_ARGUMENTS,
    **{f"np.{function.__name__}": function for function in COMPARISONS.values()},
}


# ---------------------------------------------------------------- reading
@functools.lru_cache(maxsize=4096)
def parse_expression(text: str) -> ast.expr:
    """The rewritten tree of `text`. Raises ValueError for anything but arithmetic."""
    python = re.sub(r"\blambda\b", "lambda_", text.strip())  # a Python keyword, a usual name
    try:
        return rewrite(ast.parse(python, mode="eval").body)
    except TypeError as error:
        raise ValueError(f"'{text.strip()}': {error}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        hint = " (== compares)" if re.search(r"(?<![<>=!])=(?!=)", text) else ""
        raise ValueError(f"cannot read the expression '{text.strip()}'{hint}") from None


def rewrite(node: ast.expr) -> ast.expr:
    """The tree of the same value, in the few forms named above. Raises TypeError."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return ast.Constant(float(node.value))
    if isinstance(node, ast.Name) and node.id not in RESERVED:
        return ast.Name(node.id, ast.Load())
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return ast.BinOp(rewrite(node.left), node.op, rewrite(node.right))
    if isinstance(node, ast.UnaryOp):
        return rewrite_sign(node)
    if isinstance(node, ast.Compare):
        return rewrite_comparison(node)
    if isinstance(node, ast.BoolOp):
        return rewrite_and_or(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return rewrite_call(node)
    allowed = "numbers, names, + - * / **, comparisons, and, or, not, "
    allowed += ", ".join(sorted(RESERVED))
    power = "; a power is written **" if "BitXor" in ast.dump(node) else ""
    raise TypeError(f"only {allowed}{power}")


def rewrite_sign(node: ast.UnaryOp) -> ast.expr:
    value = rewrite(node.operand)
    if isinstance(node.op, ast.UAdd):
        return value
    if isinstance(node.op, ast.USub):
        return ast.UnaryOp(ast.USub(), value)
    if isinstance(node.op, ast.Not):
        return call("np.equal", value, ast.Constant(0.0))
    raise TypeError("only + and - and not stand before a value")


def rewrite_comparison(node: ast.Compare) -> ast.expr:
    values = [rewrite(value) for value in (node.left, *node.comparators)]
    if not all(type(op) in COMPARISONS for op in node.ops):
        raise TypeError("comparisons are < <= > >= == !=")
    names = [f"np.{COMPARISONS[type(op)].__name__}" for op in node.ops]
    links = [call(name, *pair) for name, *pair in zip(names, values, values[1:], strict=False)]
    return functools.reduce(lambda a, b: ast.BinOp(a, ast.Mult(), b), links)


def rewrite_and_or(node: ast.BoolOp) -> ast.expr:
    zero = ast.Constant(0.0)
    values = [call("np.not_equal", rewrite(value), zero) for value in node.values]
    if isinstance(node.op, ast.And):
        return functools.reduce(lambda a, b: ast.BinOp(a, ast.Mult(), b), values)
    return functools.reduce(lambda a, b: call("max", a, b), values)


def rewrite_call(node: ast.Call) -> ast.expr:
    name = node.func.id
    values = [rewrite(value) for value in node.args]
    if name not in RESERVED:
        raise TypeError(f"unknown function '{name}' (known: {', '.join(sorted(RESERVED))})")
    if node.keywords or not values or (name in ONE_ARGUMENT and len(values) > 1):
        raise TypeError(f"{name} takes {'one value' if name in ONE_ARGUMENT else 'values'}")
    if name in ONE_ARGUMENT:
        return call(name, *values)
    return functools.reduce(lambda a, b: call(name, a, b), values)


def call(name: str, *values: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(values), [])


def python_name(name: str) -> str:
    """The name as expressions know it. Raises ValueError for names that they cannot hold."""
    if name == "lambda":
        return "lambda_"
    if keyword.iskeyword(name) or name in RESERVED:
        raise ValueError(f"'{name}' is a word of expressions: choose another name")
    return name


# ---------------------------------------------------------------- computing
def compare(function):
    """A comparison as a number, so that sums of comparisons count (numpy's sum of two is "or")."""
    return lambda a, b: function(a, b) * 1.0


FUNCTIONS = {
    name: compare(function) if function in COMPARISONS.values() else function
    for name, function in UFUNCS.items()
}


@functools.lru_cache(maxsize=4096)
def compiled(text: str):
    tree = ast.fix_missing_locations(ast.Expression(parse_expression(text)))
    return compile(tree, "<law>", "eval")


def evaluate(text: str, values: dict):
    """The value of an expression; values: name → number or array."""
    return eval(compiled(text), {"__builtins__": {}}, {**FUNCTIONS, **values})


# ---------------------------------------------------------------- examining
def names_in(text: str) -> set:
    """The names of species, parameters and constants in an expression."""
    tree = parse_expression(text)
    functions = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in found if node not in functions}


def degree(node: ast.expr, species: set) -> float:
    """0 where no species stands in it, 1 where it is a + b·y, 2 for products, ∞ for the rest."""
    if isinstance(node, ast.Constant):
        return 0
    if isinstance(node, ast.Name):
        return int(node.id in species)
    if isinstance(node, ast.UnaryOp):
        return degree(node.operand, species)
    if isinstance(node, ast.Call):
        return np.inf if any(degree(value, species) for value in node.args) else 0
    left, right = degree(node.left, species), degree(node.right, species)
    if isinstance(node.op, ast.Mult):
        return left + right
    if isinstance(node.op, (ast.Div, ast.Pow)) and (left or right):
        return left if isinstance(node.op, ast.Div) and not right else np.inf
    return max(left, right)


def surely_positive(node: ast.expr, constants: dict) -> bool:
    """True where the form of the expression shows that it is ≥ 0 for counts ≥ 0."""
    if isinstance(node, ast.Constant):
        return node.value >= 0
    if isinstance(node, ast.Name):
        return constants.get(node.id, 0) >= 0
    if isinstance(node, ast.UnaryOp):
        return False
    if isinstance(node, ast.Call):
        known = [surely_positive(value, constants) for value in node.args]
        certain = {"log": False, "sqrt": all(known), "min": all(known), "max": any(known)}
        return certain.get(node.func.id, True)
    if isinstance(node.op, ast.Sub):
        return False
    if isinstance(node.op, ast.Pow):
        return surely_positive(node.left, constants)
    return all(surely_positive(value, constants) for value in (node.left, node.right))


def surely_above_zero(node: ast.expr, constants: dict) -> bool:
    """True where the form of the expression shows that it is > 0 for counts ≥ 0."""
    if isinstance(node, ast.Constant):
        return node.value > 0
    if isinstance(node, ast.Name):
        return constants.get(node.id, 0) > 0
    if isinstance(node, ast.UnaryOp):
        return False
    if isinstance(node, ast.Call):
        known = [surely_above_zero(value, constants) for value in node.args]
        certain = {"exp": True, "sqrt": all(known), "min": all(known), "max": any(known)}
        return certain.get(node.func.id, False)
    known = [surely_above_zero(value, constants) for value in (node.left, node.right)]
    if isinstance(node.op, ast.Add):
        return any(known) and surely_positive(node, constants)
    return known[0] if isinstance(node.op, ast.Pow) else all(known) and type(node.op) is not ast.Sub


def surely_finite(node: ast.expr, constants: dict) -> bool:
    """True where the form of the expression shows that it is a finite number for counts ≥ 0."""
    if isinstance(node, ast.Constant):
        return bool(np.isfinite(node.value))
    if isinstance(node, ast.Name):
        return True
    if isinstance(node, ast.UnaryOp):
        return surely_finite(node.operand, constants)
    if isinstance(node, ast.Call):
        finite = all(surely_finite(value, constants) for value in node.args)
        first = node.args[0]
        falling = isinstance(first, ast.UnaryOp) and surely_positive(first.operand, constants)
        certain = {
            "exp": falling,
            "log": surely_above_zero(first, constants),
            "sqrt": surely_positive(first, constants),
        }
        return finite and certain.get(node.func.id, True)
    finite = surely_finite(node.left, constants) and surely_finite(node.right, constants)
    if isinstance(node.op, ast.Div):
        return finite and surely_above_zero(node.right, constants)
    if isinstance(node.op, ast.Pow):
        power = known_value(node.right, constants)
        rising = power is not None and power >= 0
        return finite and rising and surely_positive(node.left, constants)
    return finite


def known_value(node: ast.expr, known: dict) -> float | None:
    """The value of an expression of which only some names are known, None where it is open.

    0·y and 0/y are 0, and so is min(0, y) where y ≥ 0, whatever y.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.UnaryOp):
        value = known_value(node.operand, known)
        return None if value is None else -value
    parts = node.args if isinstance(node, ast.Call) else [node.left, node.right]
    values = [known_value(part, known) for part in parts]
    function = UFUNCS[node.func.id] if isinstance(node, ast.Call) else OPERATORS[type(node.op)]
    if None not in values:
        with np.errstate(all="ignore"):
            return float(function(*values))
    if function is np.multiply and 0 in values or function is np.divide and values[0] == 0:
        return 0.0
    if function is np.minimum and 0 in values:
        return 0.0 if all(surely_positive(part, known) for part in parts) else None
    return None
