"""The generated parts of the reading pages: a post's formulas beside the code that computes them.

A page holds calls such as  [[[cog formula("master_equation", "constrain") ]]]  and cog writes the
formula and the function below them (make pages). docs/formulas.json is the list of formulas: id,
post, the equation's number, LaTeX, and the function that computes it ("run.py:constrain").

The code is cut from the source by name, with the imports, constants and functions of the same file
that it needs, so that every block runs in an empty file.
"""

import ast
import itertools
import json
import re
import symtable

from docs.pages import (
    ENDS,
    ROOT,
    VERDICTS,
    articles,
    claims,
    cut,
    filled,
    find,
    judge,
    parts_of,
    reading_page,
    recorded,
    shown,
)

MARKS = {  # the post's number, ours, and the marks between them
    "en": ("Post", "Here", ": ", "; ", "."),
    "zh": ("原文", "实测", "：", "；", "。"),
}


# ---------------------------------------------------------------- what a page may name
def formulas(folder: str) -> dict[str, dict]:
    """Id → formula of the posts that a folder accompanies, in the order of the posts."""
    table = json.loads((ROOT / "docs" / "formulas.json").read_text(encoding="utf-8"))
    return {row["id"]: row for row in table[find(table, folder, "docs/formulas.json")]}


def captions(folder: str) -> dict[str, dict]:
    """Name of a figure on a folder's pages → its caption in both languages, and its claims.

    The claims of a figure are those that a reading page judges in the same section.
    """
    posts = next(row["posts"] for row in articles() if row["folder"] == folder)
    names = [reading_page(folder, post["number"]) for post in posts] + ["README.md"]
    found = {}
    for name, (language, end) in itertools.product(names, ENDS.items()):
        page = ROOT / folder / name.replace(".md", end)
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        for section in text.split("\n## "):
            judged = re.findall(r'id="(C[\d.]+)"', section)
            for caption, figure in re.findall(r"^!\[(.*)\]\(figures/(\w+)\.png\)", section, re.M):
                found.setdefault(figure, {"claims": judged}).setdefault(language, caption)
    return found


# ---------------------------------------------------------------- code that stands alone
QUIET = {  # what modules of a folder hand on, and where it comes from
    "keras": "import keras",
    "layers": "from keras import layers",
    "ops": "from keras import ops",
    "tf": "import tensorflow as tf",
}


def used(source: str) -> set[str]:
    """The names that a piece of source takes from its module, or from Python itself."""

    def taken(scope: symtable.SymbolTable) -> set[str]:
        whole = scope.get_type() == "module"
        symbols = scope.get_symbols()
        names = {symbol.get_name() for symbol in symbols if symbol.is_global() or whole}
        return names.union(*map(taken, scope.get_children()))

    return taken(symtable.symtable(source, "", "exec"))


def imported(node: ast.Import | ast.ImportFrom, name: str, path: str) -> str:
    """The import of one name; keras comes from Keras, not from the module that hands it on."""
    alias = next(each for each in node.names if name in (each.asname, each.name.split(".")[0]))
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import([alias]))
    beside = (ROOT / path.split("/")[0] / f"{node.module}.py").is_file()
    if beside and alias.name in QUIET:
        return QUIET[alias.name]
    return ast.unparse(ast.ImportFrom(node.module, [alias], node.level))


def standing_alone(path: str, names: list[str]) -> str:
    """Named parts of a source file after the imports, constants and functions that they need."""
    parts = parts_of(path)
    needed, waiting = set(), [find(parts, name, path) for name in names]
    while waiting:
        name = waiting.pop()
        if name in parts and name not in needed:
            needed.add(name)
            if not isinstance(parts[name], ast.Import | ast.ImportFrom):
                waiting += used(cut(path, name))
    imports = []
    text = ""
    seen = []
    for name in [name for name in parts if name in needed]:
        node = parts[name]
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(imported(node, name, path))
        elif node not in seen:
            constant = isinstance(node, ast.Assign | ast.AnnAssign)
            together = constant and seen and isinstance(seen[-1], ast.Assign | ast.AnnAssign)
            text += ("\n" if together else "\n\n" if constant else "\n\n\n") + cut(path, name)
            seen.append(node)
    return (merged(imports) + text).strip("\n")


def merged(imports: list[str]) -> str:
    """Lines of imports, with one line for each module."""
    found = {}
    for line in imports:
        head, _, name = line.partition(" import ")
        found.setdefault(head if name else line, []).append(name)
    lines = [
        f"{head} import {', '.join(names)}" if names[0] else head for head, names in found.items()
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------- parts of a page
def formula(folder: str, name: str) -> None:
    """A formula in $$ with its number, and below it the code that computes it, ready to copy."""
    row = formulas(folder)[find(formulas(folder), name, f"formulas of {folder}")]
    tag = f" \\tag{{{row['number']}}}" if row["number"] else ""
    print(f'\n<div class="formula" id="{name}">\n\n$$\n{row["latex"]}{tag}\n$$\n')
    for code in row["code"].split(" "):
        path, _, names = code.partition(":")
        shown_names = ", ".join(f"`{part}`" for part in names.split(","))
        print(f"{shown_names} · [{path}]({path})\n")
        print(f"```python\n{standing_alone(f'{folder}/{path}', names.split(','))}\n```\n")
    print("</div>\n")


def source(path: str, *names: str) -> None:
    """Code without a formula, ready to copy: source("simpler_glove/train.py", "pmi")."""
    folder, _, inside = path.partition("/")
    shown_names = ", ".join(f"`{name}`" for name in names)
    print(f"\n{shown_names} · [{inside}]({inside})\n")
    print(f"```python\n{standing_alone(path, list(names))}\n```\n")


def figure(folder: str, name: str, caption: str) -> None:
    """A figure of the recorded runs, with a caption that says what to see and may hold numbers."""
    names = [path.stem for path in (ROOT / folder / "figures").glob("*.png")]
    find(names, name, f"{folder}/figures")
    text = filled(folder, caption).strip()
    print(f'\n<div class="figure">\n\n![{text}](figures/{name}.png)\n\n{text}\n\n</div>\n')


def verdicts(folder: str, language: str, *names: str) -> None:
    """A line per claim: verdict, wording, the post's number and ours."""
    runs, wordings = recorded(folder), {row["id"]: row for row in claims(folder)}
    post, here, colon, comma, stop = MARKS[language]
    gap = " " if language == "en" else ""
    print('\n<div class="claims">\n')
    for name in names:
        wording = wordings[find(wordings, name, f"{folder}/claims.json")]
        judged = judge(wording, runs)
        word, mark = VERDICTS[judged["verdict"]][language], judged["verdict"].replace(" ", "-")
        numbers = shown(wording, judged["measured"], language)
        measured = comma.join(f"{what} **{value}**" for what, value in numbers) or "–"
        sentences = [
            wording["claim"][language].rstrip(stop) + stop,
            f"{post}{colon}{wording['article'][language]}{stop}",
            f"{here}{colon}{measured}{stop}",
        ]
        if judged["verdict"] != "holds":
            reason = wording["why" if judged["verdict"] == "does not hold" else "needs"][
                language
            ].rstrip(stop)
            sentences.append(reason[:1].upper() + reason[1:] + stop)
        verdict = f'<span class="verdict {mark}" id="{name}">{name} {word}</span>'
        print(f"- {verdict} {gap.join(sentences)}")
    print("\n</div>\n")
