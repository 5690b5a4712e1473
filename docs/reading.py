"""The generated parts of the reading pages: a post's formulas beside the code that computes them.

A page holds calls such as  [[[cog formula("master_equation", "constrain") ]]]  and cog writes the
formula and the function below them (make pages). docs/formulas.json is the list of formulas: id,
post, the equation's number, LaTeX, and the function that computes it ("run.py:constrain").

The code is cut from the source by name, with the imports, constants and functions of the same file
that it needs, so that every block runs in an empty file.
"""

import ast
import json
import symtable

from docs.pages import (
    ROOT,
    VERDICTS,
    articles,
    claims,
    filled,
    find,
    judge,
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


def reading_page(folder: str, post: int, language: str = "en") -> str:
    """Page of a post: reading.md for its folder's first post, reading-4681.md for the second."""
    posts = next(row["posts"] for row in articles() if row["folder"] == folder)
    first = posts[0]["number"] == post
    end = {"en": ".md", "zh": ".zh-CN.md"}[language]
    return ("reading" if first else f"reading-{post}") + end


# ---------------------------------------------------------------- code that stands alone
def bound(node: ast.stmt) -> list[str]:
    """The names that a statement of a module binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if hasattr(node, "name"):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        names = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
        return [name.id for name in names if isinstance(name.ctx, ast.Store)]
    return []


def source_of(node: ast.stmt, lines: list[str]) -> str:
    """The lines of a statement, with its decorators."""
    first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])


def used(source: str) -> set[str]:
    """The names that a piece of source takes from its module, or from Python itself."""

    def taken(scope: symtable.SymbolTable) -> set[str]:
        whole = scope.get_type() == "module"
        symbols = scope.get_symbols()
        names = {symbol.get_name() for symbol in symbols if symbol.is_global() or whole}
        return names.union(*map(taken, scope.get_children()))

    return taken(symtable.symtable(source, "", "exec"))


def imported(node: ast.Import | ast.ImportFrom, names: set[str]) -> str:
    """An import without what is not among `names`."""
    wanted = [alias for alias in node.names if (alias.asname or alias.name).split(".")[0] in names]
    if isinstance(node, ast.Import):
        return "\n".join(ast.unparse(ast.Import([alias])) for alias in wanted)
    return ast.unparse(ast.ImportFrom(node.module, wanted, node.level))


def standing_alone(path: str, names: list[str]) -> str:
    """Named parts of a source file after the imports, constants and functions that they need."""
    text = (ROOT / path).read_text(encoding="utf-8")
    statements, lines = ast.parse(text).body, text.splitlines()
    owners = {name: node for node in statements for name in bound(node)}
    needed, waiting = set(), [find(owners, name, path) for name in names]
    while waiting:
        name = waiting.pop()
        if name in owners and name not in needed:
            needed.add(name)
            if not isinstance(owners[name], ast.Import | ast.ImportFrom):
                waiting += used(source_of(owners[name], lines))
    imports, parts = [], []
    for node in statements:
        here = [name for name in bound(node) if name in needed]
        if here and isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(imported(node, needed))
        elif here:
            gap = "\n" if isinstance(node, ast.Assign) and parts else "\n\n\n"
            parts.append((gap, source_of(node, lines)))
    head = "\n".join(imports)
    body = "".join(gap + text for gap, text in parts)
    return (head + body).strip("\n")


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
    print('\n<div class="claims">\n')
    for name in names:
        wording = wordings[find(wordings, name, f"{folder}/claims.json")]
        judged = judge(wording, runs)
        word, mark = VERDICTS[judged["verdict"]][language], judged["verdict"].replace(" ", "-")
        text = wording["claim"][language].rstrip(stop) + stop
        print(f'- <span class="verdict {mark}" id="{name}">{name} {word}</span> {text}')
        numbers = shown(wording, judged["measured"], language)
        measured = comma.join(f"{what} **{value}**" for what, value in numbers) or "–"
        said = f"{post}{colon}{wording['article'][language]}{stop}"
        print(f"  {said} {here}{colon}{measured}{stop}".replace("。 ", "。"))
        if judged["verdict"] != "holds":
            print("  " + wording["why" if "why" in wording else "needs"][language])
    print("\n</div>\n")
