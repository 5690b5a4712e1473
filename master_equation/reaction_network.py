"""Reaction networks in a few lines of text: the W of the master equation as a modeller writes it.

Article: 从马尔科夫过程到主方程(推导过程) https://kexue.fm/archives/4598
The article's point is that the master equation lets one write any W ≥ 0 and forget the constraint
∫W̃ dx = 0. A reaction network is such a W: reaction r takes y to x = y + ν_r at rate a_r(y), so
W(x, y) = Σ_r a_r(y) [x = y + ν_r].

Symbols: y → states (S, n)   ν_r → Network.changes[:, r]   a_r(y) → Network.propensities(states)[r]

The text form, one statement a line (# starts a comment):
    species X = 100            a count that reactions change
    constant A = 1e5           a species held fixed (a reservoir)
    parameter k = 0.1          a number, or an expression of earlier parameters
    2X -> X2 : k               mass action: k·X(X−1)/2, the number of pairs; 0 stands for nothing
    X -> 0 : = k*X/(1+X)       any law, after an equals sign; (X > 9) is 1 or 0
    observe y = 2*X            a further output
    at 25: X = 50              set counts at a time
    when X > 30: X = 0         set counts each time that a condition becomes true
"""

import math
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from expressions import (
    degree,
    evaluate,
    known_value,
    names_in,
    parse_expression,
    python_name,
    surely_finite,
    surely_positive,
)

LARGEST_COUNT = 2**53  # from here on X + 1 is X in floating point
MOST_MOLECULES = 1_000_000  # of one species on one side of a reaction
MOST_ROUNDS = 100  # of 'when' statements that set each other off
FULL_WIDTH = str.maketrans("：＝，＋－＞＜（）＊／　；", ":=,+-><()*/ ;")  # of a Chinese keyboard

# ---------------------------------------------------------------- named models
MODELS = {  # name: (text, time of interest)
    "decay": ("species X = 100\nparameter k = 0.1\nX -> 0 : k", 50),
    "immigration-death": (
        "species X = 0\nparameter alpha = 10\nparameter mu = 0.1\n0 -> X : alpha\nX -> 0 : mu",
        50,
    ),
    "isomerisation": ("species A = 100\nspecies B = 0\nA -> B : 0.1\nB -> A : 0.05", 50),
    "dimerisation": (
        "species P = 100\nspecies P2 = 0\nparameter k1 = 0.001\nparameter k2 = 0.01\n"
        "2P -> P2 : k1\nP2 -> 2P : k2",
        50,
    ),
    "telegraph": (
        "species off = 1\nspecies on = 0\nspecies M = 0   # messenger, in units of its lifetime\n"
        "off -> on : 0.25\non -> off : 0.15\non -> on + M : 15\nM -> 0 : 1",
        20,
    ),
    "birth-death": (
        "species X = 100\nparameter lambda = 0.1\nparameter mu = 0.11\n"
        "X -> 2X : lambda\nX -> 0 : mu",
        50,
    ),
    "schlogl": (
        "species X = 250\nconstant A = 1e5\nconstant B = 2e5\nA + 2X -> A + 3X : 3e-7\n"
        "3X -> 2X : 1e-4\nB -> B + X : 1e-3\nX -> 0 : 3.5",
        4,
    ),
    "toggle": (
        "species X = 5\nspecies Y = 1\nparameter v = 1\nparameter K = 3\nparameter d = 0.2\n"
        "0 -> X : = v*K**3/(K**3 + Y**3)\n0 -> Y : = v*K**3/(K**3 + X**3)\nX -> 0 : d\nY -> 0 : d",
        50,
    ),
    "sir": (
        "species S = 999\nspecies I = 1\nspecies R = 0\nS + I -> 2I : 1e-4\nI -> R : 0.01",
        250,
    ),
    "lotka-volterra": (
        "species prey = 1000\nspecies predator = 1000\nprey -> 2 prey : 10\n"
        "prey + predator -> 2 predator : 0.01\npredator -> 0 : 10",
        5,
    ),
    "random-walk": (
        "species up = 0\nspecies down = 0\nparameter r = 1\n0 -> up : r\n0 -> down : r\n"
        "observe x = up - down",
        10,
    ),
    "ehrenfest": (
        "species left = 40   # of 40 balls\nspecies right = 0\n"
        "left -> right : 1\nright -> left : 1",
        3,
    ),
}


def load_network(name: str) -> tuple:
    """(Network, time of interest) of a named model. Raises KeyError."""
    text, end = MODELS[name]
    return parse_network(text), float(end)


# ---------------------------------------------------------------- a network
@dataclass(frozen=True)
class Network:
    """A parsed network. Plain data only, so that it travels to worker processes."""

    species: tuple
    initial: tuple  # one count per species
    reactions: tuple  # the text of each reaction
    needs: tuple  # molecules on the left, one row per species, one column per reaction
    changes: tuple  # ν in the same form: molecules on the right minus those on the left
    laws: tuple  # a_r as an expression of species and constants
    rate_laws: tuple  # the same for large numbers: powers in place of falling products
    custom: tuple  # True where the law was written by hand
    constants: dict  # parameters and reservoirs
    observables: dict  # name: expression
    timed: tuple  # (time, {species: count}), in order of time
    triggers: tuple  # (condition, {species: count})

    @cached_property
    def nu(self) -> np.ndarray:
        """ν as an array (S, R)."""
        return np.array(self.changes, dtype=float).reshape(len(self.species), len(self.reactions))

    def evaluate(self, expression: str, states: np.ndarray):
        """Value of an expression at `states` (S, ...), any dtype."""
        counts = dict(zip(self.species, states, strict=True))
        return evaluate(expression, self.constants | counts)

    def propensities(self, states: np.ndarray, large_numbers: bool = False) -> np.ndarray:
        """a_r(y): (R, ...) for `states` (S, ...)."""
        laws = self.rate_laws if large_numbers else self.laws
        shape = states.shape[1:]
        return np.stack([np.broadcast_to(self.evaluate(law, states), shape) for law in laws])

    def outputs(self, states: np.ndarray) -> dict:
        """{name: array} of every species and observable at `states` (S, ...)."""
        named = dict(zip(self.species, states, strict=True))
        for name, text in self.observables.items():
            named[name] = self.evaluate(text, states) + 0 * states[0]
        return named

    @cached_property
    def residues(self) -> list:
        """(reaction, species, molecules that its last firing leaves), as 1 of 2X -> X."""
        return [
            (r, i, self.needs[i][r] + change)
            for i, row in enumerate(self.changes)
            for r, change in enumerate(row)
            if change < 0 < self.needs[i][r] + change
        ]

    # ------------------------------------------------------------ events
    def set_counts(self, states: np.ndarray, values: dict, where=True) -> np.ndarray:
        """A copy of `states` (S, n) with {species: count} set, in the columns of `where`."""
        states = states.copy()
        for name, value in values.items():
            i = self.species.index(name)
            states[i] = np.where(where, value, states[i])
        return states

    def react(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """`after` (S, n), once the 'when' statements have acted whose condition became true on the
        way from `before`. What they set may set off others. Raises ValueError if that never ends.
        """
        for _ in range(MOST_ROUNDS if self.triggers else 0):
            now = after
            acted = False
            for condition, values in self.triggers:
                # what is not a number is not true
                is_true = np.abs(self.evaluate(condition, now)) > 0
                rises = is_true & ~(np.abs(self.evaluate(condition, before)) > 0)
                if np.any(rises):
                    after = self.set_counts(after, values, rises)
                    acted = True
            if not acted:
                return after
            before = now
        if self.triggers:
            raise ValueError("the 'when' statements set each other off without end")
        return after

    # ------------------------------------------------------------ what can be said beforehand
    def affine(self) -> bool:
        """True when every law is a + b·y, so that the moment equations close."""
        names = set(self.species)
        return not self.triggers and all(
            degree(parse_expression(law), names) <= 1 for law in self.laws
        )

    def set_by_events(self) -> set:
        return {name for _, values in (*self.timed, *self.triggers) for name in values}

    def moving(self) -> list:
        """Indices of the species that a reaction or an event changes."""
        events = self.set_by_events()
        return [i for i, name in enumerate(self.species) if self.nu[i].any() or name in events]

    def conservation_laws(self) -> list:
        """A basis of the row vectors c with c·ν = 0 that no event breaks, as text."""
        found = []
        nu = self.nu
        independent = independent_species(nu)
        for i in sorted(set(range(len(self.species))) - set(independent)):
            weights = []
            if independent:
                weights = -np.linalg.lstsq(nu[independent].T, nu[i], rcond=None)[0]
            terms = [self.species[i]]
            members = {self.species[i]}
            for j, weight in zip(independent, weights, strict=False):
                if abs(weight) > 1e-9:
                    size = "" if abs(abs(weight) - 1) < 1e-9 else f"{abs(weight):.4g} "
                    terms.append(f"{'-' if weight < 0 else '+'} {size}{self.species[j]}")
                    members.add(self.species[j])
            if not members & self.set_by_events():
                found.append(" ".join(terms))
        return found

    @cached_property
    def unguarded(self) -> list:
        """(reaction, species, molecules it takes) where the form of a law written by hand does not
        show that it is 0 when there are too few molecules, so that it may lead below zero."""
        found = []
        for r, text in enumerate(self.reactions):
            tree = parse_expression(self.laws[r])
            for i, name in enumerate(self.species):
                needed = -self.changes[i][r]
                if self.custom[r] and needed > 0:
                    few = [self.constants | {name: float(count)} for count in range(needed)]
                    if any(known_value(tree, known) != 0 for known in few):
                        found.append((text, name, needed))
        return found

    def check_guards(self, states: np.ndarray, whole: bool = True) -> None:
        """Raises ValueError where a law of `unguarded` is positive at states (S, n) that have too
        few molecules for it, and says where. Counts that are not whole (of implicit leaps) are
        moved along the reaction to each whole number that is too few."""
        for reaction, name, needed in self.unguarded:
            r = self.reactions.index(reaction)
            i = self.species.index(name)
            low = states[:, states[i] < needed - 1e-9]
            if not whole:
                steps = [(low[i] - count) / needed for count in range(needed)]
                low = np.concatenate([low + self.nu[:, r : r + 1] * step for step in steps], axis=1)
            rates = np.broadcast_to(self.evaluate(self.laws[r], low), low.shape[1:])
            bad = np.flatnonzero(rates > 1e-9)
            if len(bad):
                counts = zip(self.species, low[:, bad[0]].tolist(), strict=True)
                reached = ", ".join(f"{name} = {count:g}" for name, count in counts)
                raise ValueError(below_zero(reaction, name, needed, reached))

    def check_rates(self, states: np.ndarray) -> None:
        """Raises ValueError where a law written by hand is negative or not finite at whole counts
        near `states` (S, n), and says where."""
        near = np.rint(states)
        for r in sorted({*self.unsure_laws, *self.unbounded_laws}):
            with np.errstate(all="ignore"):
                rates = np.broadcast_to(self.evaluate(self.laws[r], near), near.shape[1:])
            bad = np.flatnonzero(~((rates >= -1e-9) & (rates < np.inf)))
            if len(bad):
                counts = zip(self.species, near[:, bad[0]].tolist(), strict=True)
                reached = ", ".join(f"{name} = {count:g}" for name, count in counts)
                raise ValueError(
                    f"the rate of '{self.reactions[r]}' is {rates[bad[0]]:g} at {reached}: must be "
                    "a number, 0 or more"
                )

    def laws_by_hand(self) -> list:
        """(index, tree) of each."""
        return [(r, parse_expression(law)) for r, law in enumerate(self.laws) if self.custom[r]]

    @cached_property
    def unsure_laws(self) -> list:
        """Indices of the laws whose form does not show that they are never negative."""
        return [r for r, tree in self.laws_by_hand() if not surely_positive(tree, self.constants)]

    @cached_property
    def unbounded_laws(self) -> list:
        """Indices of the laws whose form does not show that they are finite, as k/X."""
        return [r for r, tree in self.laws_by_hand() if not surely_finite(tree, self.constants)]


def rounded_time(moment: float) -> float:
    """A time as it is meant: the third of four between 0 and 0.3 is 0.2, as in 'at 0.2: X = 5'."""
    return float(f"{moment:.12g}")


def below_zero(reaction: str, name: str, needed: int, reached: str) -> str:
    return (
        f"the law of '{reaction}' takes {name} below 0 (reached {reached}): "
        f"multiply it by ({name} >= {needed})"
    )


def independent_species(nu: np.ndarray) -> list:
    """Indices of rows of ν that span all its rows: conservation laws give the others."""
    chosen = []
    for i in range(len(nu)):
        if np.linalg.matrix_rank(nu[chosen + [i]]) > len(chosen):
            chosen.append(i)
    return chosen


# ---------------------------------------------------------------- reading the text form
class ModelReader:
    """Takes one statement after the other; `network()` is what they describe."""

    def __init__(self):
        self.counts = {}
        self.constants = {}
        self.observables = {}
        self.reactions = []
        self.timed = []
        self.triggers = []

    def number(self, expression: str) -> float:
        """The value of an expression of parameters."""
        unknown = names_in(expression) - set(self.constants)
        if unknown:
            hint = " (a law of counts begins with =)" if unknown & set(self.counts) else ""
            raise ValueError(f"unknown parameter '{min(unknown)}' in '{expression.strip()}'{hint}")
        value = evaluate(expression, self.constants)
        if isinstance(value, complex) or not math.isfinite(value):
            raise ValueError(f"'{expression.strip()}' is not a finite number")
        return float(value) + 0.0  # −0.0 is 0

    def count(self, name: str, expression: str) -> int:
        value = self.number(expression)
        if value < 0 or value != int(value):
            raise ValueError(f"{name} = {value:g}: a count must be a whole number, 0 or more")
        if value >= LARGEST_COUNT:
            raise ValueError(f"{name} = {value:g}: counts end at 2**53 = {LARGEST_COUNT}")
        return int(value)

    def known_species(self, name: str, *others: dict) -> str:
        known = python_name(name)
        if not any(known in names for names in (self.counts, *others)):
            declared = ", ".join(self.counts) or "none"
            raise ValueError(f"unknown species '{name}' (declared: {declared})")
        return known

    def side(self, text: str) -> dict:
        """{species: molecules} of one side of a reaction."""
        molecules = {}
        for term in [] if text.strip() in ("", "0") else text.split("+"):
            match = re.fullmatch(r"\s*(\d*)\s*([A-Za-z_][A-Za-z0-9_]*)\s*", term)
            if not match:
                raise ValueError(
                    f"cannot read '{term.strip()}' "
                    "(a whole number and a species, as 2X; one arrow, ->)"
                )
            name = self.known_species(match[2], self.constants)
            molecules[name] = molecules.get(name, 0) + int(match[1] or 1)
            if molecules[name] > MOST_MOLECULES:
                raise ValueError(f"'{term.strip()}': at most {MOST_MOLECULES:,} molecules")
        return molecules

    def settings(self, text: str) -> dict:
        """{species: count} of 'X = 5, Y = 0'."""
        values = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            known = self.known_species(name.strip())
            if known in values:
                raise ValueError(f"'{text.strip()}' sets {name.strip()} twice")
            values[known] = self.count(name.strip(), value)
        return values

    def statement(self, line: str) -> None:
        declared = re.fullmatch(
            r"(species|constant|parameter|observe)\s+([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.+)", line
        )
        event = re.fullmatch(r"(at|when)\s+(.+?)\s*:\s*(.+)", line)
        if declared:
            self.declaration(*declared.groups())
        elif event and event[1] == "at":
            moment = rounded_time(self.number(event[2]))
            if moment < 0:
                raise ValueError(f"time {event[2]} is negative")
            self.timed.append((moment, self.settings(event[3])))
        elif event:
            parse_expression(event[2])
            self.triggers.append((event[2], self.settings(event[3])))
        elif "->" in line and ":" in line:
            self.reaction(line)
        else:
            raise ValueError(
                f"cannot read '{line}' (a line looks like 'species X = 100', 'parameter k = 0.1' "
                "or 'X -> 2X : k'; names are of a-z, A-Z, 0-9, _)"
            )

    def declaration(self, kind: str, written: str, value: str) -> None:
        name = python_name(written)
        if name in self.counts or name in self.constants or name in self.observables:
            raise ValueError(f"'{written}' is already taken")
        if kind == "species":
            self.counts[name] = self.count(name, value)
        elif kind == "observe":
            parse_expression(value)
            self.observables[name] = value
        else:
            self.constants[name] = self.number(value)
            if kind == "constant" and self.constants[name] < 0:
                raise ValueError(f"{name} = {self.constants[name]:g}: a count must be 0 or more")

    def reaction(self, line: str) -> None:
        arrow, _, law = line.rpartition(":")
        left, right = (self.side(text) for text in arrow.split("->", 1))
        if law.strip().startswith("="):
            text = law.strip().removeprefix("=").strip()
            parse_expression(text)
            self.reactions.append((line, left, right, text, text, True))
            return
        # mass action: a = k·Π C(y, m), the number of ways to choose the reacting molecules
        constant = self.number(law) / math.prod(math.factorial(m) for m in left.values())
        if constant < 0:
            raise ValueError(f"rate constant {self.number(law):g} of '{arrow.strip()}' is negative")
        falling = [f"({s}-{i})" if i else s for s, m in left.items() for i in range(m)]
        powers = [s for s, m in left.items() for _ in range(m)]
        laws = ("*".join([repr(constant), *factors]) for factors in (falling, powers))
        self.reactions.append((line, left, right, *laws, False))

    def network(self) -> Network:
        if not self.counts or not self.reactions:
            raise ValueError("needs at least one species and one reaction")
        lines, lefts, rights, laws, rate_laws, custom = zip(*self.reactions, strict=True)
        sides = list(zip(lefts, rights, strict=True))
        return Network(
            species=tuple(self.counts),
            initial=tuple(self.counts.values()),
            reactions=lines,
            needs=tuple(tuple(left.get(name, 0) for left in lefts) for name in self.counts),
            changes=tuple(
                tuple(right.get(name, 0) - left.get(name, 0) for left, right in sides)
                for name in self.counts
            ),
            laws=laws,
            rate_laws=rate_laws,
            custom=custom,
            constants=self.constants,
            observables=self.observables,
            timed=tuple(sorted(self.timed, key=lambda event: event[0])),
            triggers=tuple(self.triggers),
        )


def parse_network(text: str) -> Network:
    """Read the text form. Raises ValueError with the line number and what is wrong there."""
    reader = ModelReader()
    for i, raw in enumerate(re.split("\r\n|\r|\n", text), 1):
        line = raw.split("#")[0].translate(FULL_WIDTH).replace("→", "->").strip()
        if line:
            try:
                reader.statement(line)
            except (ValueError, ArithmeticError) as error:
                raise ValueError(f"model, line {i}: {error}") from None
    try:
        network = reader.network()
        check(network)
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"model: {error}") from None
    return network


def check(network: Network) -> None:
    """Every expression can be computed at the start, and the rates are rates. Raises ValueError."""
    conditions = [condition for condition, _ in network.triggers]
    known = {*network.species, *network.constants}
    for text in (*network.laws, *network.observables.values(), *conditions):
        unknown = names_in(text) - known
        if unknown:
            raise ValueError(f"unknown species or parameter '{min(unknown)}' in '{text}'")

    start = np.array(network.initial, dtype=float)[:, None]
    laws = zip(network.reactions, network.laws, strict=True)
    named = [(f"the rate of '{reaction}'", text) for reaction, text in laws]
    named += [(f"'observe {name}'", text) for name, text in network.observables.items()]
    named += [(f"'when {text}'", text) for text in conditions]
    for name, text in named:
        try:
            with np.errstate(all="ignore"):
                value = np.squeeze(network.evaluate(text, start))
        except ArithmeticError as error:
            raise ValueError(f"{name} cannot be computed: {error}") from None
        if np.iscomplexobj(value) or not np.isfinite(value):
            raise ValueError(f"{name} is {value} at the start: must be finite")
        if name.startswith("the rate") and value < 0:
            raise ValueError(f"{name} is {value:g} at the start: must be 0 or more")
