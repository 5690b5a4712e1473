"""Reaction networks in a few lines of text: the W of the master equation, written the way a modeller thinks.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
Run:     python master_equation/networks.py [MODEL]      (a named model or a text file; without it, all named models)
Time:    1 s on one core

The article's point is that the master equation lets one write any W ≥ 0 and forget the constraint ∫W̃ dx = 0. A
reaction network is such a W: reaction r takes y to x = y + ν_r at rate a_r(y), so W(x, y) = Σ_r a_r(y) [x = y + ν_r].

Symbols: y → states (S, n)   ν_r → Network.changes[:, r]   a_r(y) → Network.propensities(states)[r]

The text form, one statement a line (# starts a comment):
    species X = 100            a count that reactions change
    constant A = 1e5           a species held fixed (a reservoir)
    parameter k = 0.1          a number, or an expression of earlier parameters
    2X -> X2 : k               mass action: k·X(X−1)/2, the number of pairs; empty side or 0 for nothing
    X -> 0 : = k*X/(1+X)       any law, after an equals sign
    observe y = 2*X            a further output
    at 25: X = 50              set counts at a time
    when X > 30: X = 0         set counts as soon as a condition becomes true
Differs from the article: it has no examples; the named models are the field's usual ones.
"""
import argparse
import ast
import json
import math
import os
import platform
import re
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
FULL_WIDTH = dict(zip(map(ord, "：＝，＋－＞（）＊／　"), ":=,+->()*/ "))   # as a Chinese keyboard writes them
FUNCTIONS = {"exp": np.exp, "log": np.log, "sqrt": np.sqrt, "min": np.minimum, "max": np.maximum}
ALLOWED = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load, ast.Call, ast.Add, ast.Sub,
           ast.Mult, ast.Div, ast.Pow, ast.USub, ast.UAdd, ast.Compare, ast.Gt, ast.Lt, ast.GtE, ast.LtE, ast.Eq)

# ---------------------------------------------------------------- data
MODELS = {   # name: (text, time of interest)
    "decay": ("species X = 100\nparameter k = 0.1\nX -> 0 : k", 50),
    "immigration-death": ("species X = 0\nparameter alpha = 10\nparameter mu = 0.1\n0 -> X : alpha\nX -> 0 : mu", 50),
    "isomerisation": ("species A = 100\nspecies B = 0\nA -> B : 0.1\nB -> A : 0.05", 50),
    "dimerisation": (("species P = 100\nspecies P2 = 0\nparameter k1 = 0.001\nparameter k2 = 0.01\n"
                     "2P -> P2 : k1\nP2 -> 2P : k2"), 50),
    "telegraph": (("species off = 1\nspecies on = 0\nspecies M = 0   # messenger, in units of its own lifetime\n"
                  "off -> on : 0.25\non -> off : 0.15\non -> on + M : 15\nM -> 0 : 1"), 20),
    "birth-death": ("species X = 100\nparameter lambda = 0.1\nparameter mu = 0.11\nX -> 2X : lambda\nX -> 0 : mu", 50),
    "schlogl": (("species X = 250\nconstant A = 1e5\nconstant B = 2e5\nA + 2X -> A + 3X : 3e-7\n3X -> 2X : 1e-4\n"
                "B -> B + X : 1e-3\nX -> 0 : 3.5"), 4),
    "toggle": (("species X = 5\nspecies Y = 1\nparameter v = 1\nparameter K = 3\nparameter d = 0.2\n"
               "0 -> X : = v*K**3/(K**3 + Y**3)\n0 -> Y : = v*K**3/(K**3 + X**3)\nX -> 0 : d\nY -> 0 : d"), 50),
    "sir": ("species S = 999\nspecies I = 1\nspecies R = 0\nS + I -> 2I : 1e-4\nI -> R : 0.01", 250),
    "lotka-volterra": (("species prey = 1000\nspecies predator = 1000\nprey -> 2 prey : 10\n"
                       "prey + predator -> 2 predator : 0.01\npredator -> 0 : 10"), 5),
    "random-walk": (("species up = 0\nspecies down = 0\nparameter r = 1\n0 -> up : r\n0 -> down : r\n"
                    "observe x = up - down"), 10),
    "ehrenfest": ("species left = 40   # of 40 balls\nspecies right = 0\nleft -> right : 1\nright -> left : 1", 3),
}


# ---------------------------------------------------------------- method
@dataclass(frozen=True)
class Network:
    """A parsed network. Plain data only, so that it travels to worker processes."""
    species: tuple
    initial: tuple          # one count per species
    reactions: tuple        # the text of each reaction
    changes: tuple          # ν, one row per species, one column per reaction
    laws: tuple             # a_r as an expression of species and constants
    rate_laws: tuple        # the same for large numbers: powers in place of falling products
    custom: tuple           # True where the law was written by hand
    constants: dict         # parameters and reservoirs
    observables: dict       # name: expression
    timed: tuple            # (time, {species: count}), in order of time
    triggers: tuple         # (condition, {species: count})

    def evaluate(self, expression: str, states: np.ndarray):
        """Value of an expression at `states` (S, ...), any dtype."""
        names = {**FUNCTIONS, **self.constants, **dict(zip(self.species, states))}
        return eval(compile(parse_expression(expression), "<law>", "eval"), {"__builtins__": {}}, names)

    def propensities(self, states: np.ndarray, large_numbers: bool = False) -> np.ndarray:
        """a_r(y): (R, ...) for `states` (S, ...)."""
        laws = self.rate_laws if large_numbers else self.laws
        return np.stack([np.broadcast_to(self.evaluate(law, states), states.shape[1:]) for law in laws])

    def outputs(self, states: np.ndarray) -> dict:
        """{name: array} of every species and observable at `states` (S, ...)."""
        named = dict(zip(self.species, states))
        return named | {name: self.evaluate(text, states) + 0 * states[0] for name, text in self.observables.items()}

    @property
    def nu(self) -> np.ndarray:
        return np.array(self.changes, dtype=float).reshape(len(self.species), len(self.reactions))

    def affine(self) -> bool:
        """True when every law is a + b·y, so that the moment equations close. Tested at random points."""
        if self.triggers:
            return False
        rng = np.random.default_rng(0)
        y, z = rng.uniform(1, 50, (2, len(self.species), 8))
        with np.errstate(all="ignore"):
            middle, ends = self.propensities((y + z) / 2), (self.propensities(y) + self.propensities(z)) / 2
        return bool(np.allclose(middle, ends, rtol=1e-10))

    def conservation_laws(self) -> list:
        """A basis of the row vectors c with c·ν = 0, as text."""
        laws, nu = [], self.nu
        independent = independent_species(nu)
        for i in sorted(set(range(len(self.species))) - set(independent)):
            weights = -np.linalg.lstsq(nu[independent].T, nu[i], rcond=None)[0] if independent else []
            terms = [f"{'-' if w < 0 else '+'} {'' if abs(abs(w) - 1) < 1e-9 else f'{abs(w):.4g} '}{self.species[j]}"
                     for j, w in zip(independent, weights) if abs(w) > 1e-9]
            laws.append(" ".join([self.species[i], *terms]))
        return laws


def independent_species(nu: np.ndarray) -> list:
    """Indices of rows of ν that span all its rows: the others follow from them by conservation laws."""
    chosen = []
    for i in range(len(nu)):
        if np.linalg.matrix_rank(nu[chosen + [i]]) > len(chosen):
            chosen.append(i)
    return chosen


def parse_expression(text: str) -> ast.Expression:
    """Parse arithmetic, and nothing but arithmetic. Raises ValueError."""
    try:
        tree = ast.parse(re.sub(r"\blambda\b", "lambda_", text.strip()), mode="eval")   # a Python keyword, a usual name
    except SyntaxError:
        raise ValueError(f"cannot read the expression '{text.strip()}'") from None
    for node in ast.walk(tree):
        known_call = not isinstance(node, ast.Call) or (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS)
        number = not isinstance(node, ast.Constant) or isinstance(node.value, (int, float))
        if not isinstance(node, ALLOWED) or not known_call or not number:
            raise ValueError(f"'{text.strip()}': only numbers, names, + - * / **, comparisons, {', '.join(FUNCTIONS)}")
    return tree


def names_in(text: str) -> set:
    return {node.id for node in ast.walk(parse_expression(text)) if isinstance(node, ast.Name)}


def parse_network(text: str) -> Network:
    """Read the text form above. Raises ValueError with the line number and what is wrong there."""
    counts, constants, reactions, observables, timed, triggers = {}, {}, [], {}, [], []

    def number(expression):
        unknown = names_in(expression) - set(constants) - set(FUNCTIONS)
        if unknown:
            raise ValueError(f"unknown parameter '{min(unknown)}' in '{expression.strip()}'")
        value = float(eval(compile(parse_expression(expression), "<number>", "eval"), {"__builtins__": {}},
                           {**FUNCTIONS, **constants}))
        if not math.isfinite(value):
            raise ValueError(f"'{expression.strip()}' is not a finite number")
        return value

    def count(name, expression):
        value = number(expression)
        if value < 0 or value != int(value):
            raise ValueError(f"{name} = {value:g}: a count must be a whole number, 0 or more")
        return int(value)

    def side(text):
        sides = {}
        for term in [] if text.strip() in ("", "0") else text.split("+"):
            match = re.fullmatch(r"\s*(\d*)\s*([A-Za-z_]\w*)\s*", term)
            if not match:
                raise ValueError(f"cannot read '{term.strip()}' (a whole number and a species, as 2X; one arrow, ->)")
            name = clean(match[2])
            if name not in counts and name not in constants:
                raise ValueError(f"unknown species '{match[2]}' (declared: {', '.join(counts) or 'none'})")
            sides[name] = sides.get(name, 0) + int(match[1] or 1)
        return sides

    def settings(text):
        pairs = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            if clean(name.strip()) not in counts:
                raise ValueError(f"unknown species '{name.strip()}' (declared: {', '.join(counts) or 'none'})")
            pairs[clean(name.strip())] = count(name.strip(), value)
        return pairs

    def statement(line):
        declaration = re.fullmatch(r"(species|constant|parameter|observe)\s+([A-Za-z_]\w*)\s*=\s*(.+)", line)
        event = re.fullmatch(r"(at|when)\s+(.+?)\s*:\s*(.+)", line)
        if declaration:
            kind, name, value = declaration[1], clean(declaration[2]), declaration[3]
            if name in counts or name in constants or name in FUNCTIONS:
                raise ValueError(f"'{declaration[2]}' is already taken")
            if kind == "species":
                counts[name] = count(name, value)
            elif kind == "observe":
                observables[name] = value
            else:
                constants[name] = number(value)
                if kind == "constant" and constants[name] < 0:
                    raise ValueError(f"{name} = {constants[name]:g}: a count must be 0 or more")
        elif event and event[1] == "at":
            timed.append((number(event[2]), settings(event[3])))
            if timed[-1][0] < 0:
                raise ValueError(f"time {event[2]} is negative")
        elif event:
            triggers.append((event[2], settings(event[3])))
        elif "->" in line and ":" in line:
            arrow, _, law = line.rpartition(":")
            left, right = (side(text) for text in arrow.split("->", 1))
            falling, powers = law.strip().removeprefix("=").strip(), law.strip().removeprefix("=").strip()
            custom = law.strip().startswith("=")
            if not custom:   # mass action: a = k·Π C(y, m), the number of ways to choose the reacting molecules
                constant = number(law) / math.prod(math.factorial(m) for m in left.values())
                if constant < 0:
                    raise ValueError(f"rate constant {number(law):g} of '{arrow.strip()}' is negative")
                factors = (f"({s}-{i})" if i else s for s, m in left.items() for i in range(m))
                falling = "*".join([repr(constant), *factors])
                powers = "*".join([repr(constant), *(s for s, m in left.items() for _ in range(m))])
            reactions.append((line, left, right, falling, powers, custom))
        else:
            raise ValueError(f"cannot read '{line}' (a line looks like 'species X = 100', 'parameter k = 0.1' or "
                             "'X -> 2X : k'; names are of a-z, A-Z, 0-9, _)")

    for i, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#")[0].translate(FULL_WIDTH).replace("→", "->").strip()
        if line:
            try:
                statement(line)
            except (ValueError, ZeroDivisionError, OverflowError) as error:
                raise ValueError(f"model, line {i}: {error}") from None
    if not counts or not reactions:
        raise ValueError("model: needs at least one species and one reaction")
    for expression in [r[3] for r in reactions] + list(observables.values()) + [t[0] for t in triggers]:
        try:
            unknown = names_in(expression) - set(counts) - set(constants) - set(FUNCTIONS)
        except ValueError as error:
            raise ValueError(f"model: {error}") from None
        if unknown:
            raise ValueError(f"model: unknown species or parameter '{min(unknown)}' in '{expression}'")
    changes = tuple(tuple(r[2].get(s, 0) - r[1].get(s, 0) for r in reactions) for s in counts)
    network = Network(tuple(counts), tuple(counts.values()), tuple(r[0] for r in reactions), changes,
                   tuple(r[3] for r in reactions), tuple(r[4] for r in reactions), tuple(r[5] for r in reactions),
                   constants, observables, tuple(sorted(timed, key=lambda event: event[0])), tuple(triggers))
    try:
        with np.errstate(all="ignore"):
            rates = network.propensities(np.array(network.initial, dtype=float)[:, None])[:, 0]
    except ArithmeticError as error:
        raise ValueError(f"model: a law cannot be computed: {error}") from None
    for reaction, rate in zip(network.reactions, rates):
        if not 0 <= rate < np.inf:
            raise ValueError(f"model: the rate of '{reaction}' is {rate:g} at the start: must be 0 or more, and finite")
    return network


def clean(name: str) -> str:
    return "lambda_" if name == "lambda" else name


def load_network(model: str) -> tuple:
    """(Network, time of interest) of a named model or a text file. Raises ValueError or OSError."""
    if model in MODELS:
        return parse_network(MODELS[model][0]), float(MODELS[model][1])
    if not Path(model).is_file():
        raise ValueError(f"MODEL '{model}': neither a file nor one of {', '.join(MODELS)}")
    try:
        return parse_network(Path(model).read_text(encoding="utf-8-sig")), 50.0
    except UnicodeDecodeError:
        raise ValueError(f"MODEL {model}: not a text file in UTF-8") from None


# ---------------------------------------------------------------- command line
def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("model", nargs="?", help=f"a text file or one of: {', '.join(MODELS)}")
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
    metrics = {}
    for name in [args.model] if args.model else MODELS:
        network, _ = load_network(name)
        metrics[name] = {"species": list(network.species), "reactions": list(network.reactions),
                         "affine": network.affine(),
                         "conserved": network.conservation_laws()}
        print(f"{name}: {'; '.join(network.reactions)}\n    start {dict(zip(network.species, network.initial))}, "
              f"conserved: {', '.join(network.conservation_laws()) or 'nothing'}"
              f"{', moment equations close' if network.affine() else ''}")
    return save_results(args, "networks", metrics, [], [], started)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
