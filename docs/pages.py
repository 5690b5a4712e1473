"""The generated parts of the pages: tables, numbers in sentences, code to copy.

A page holds calls such as  [[[cog claims_table("simpler_glove", "en") ]]]  and cog writes their
output below them (make pages). The tests run cog --check, so that no page differs from the runs.

Languages are "en" and "zh". A function prints what stands on the page; for a file, a result or a
function that is not there it raises KeyError with the nearest names.
"""

import ast
import difflib
import functools
import json
import operator
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENDS = {"en": ".md", "zh": ".zh-CN.md"}  # of the pages' names
VERDICTS = {
    "holds": {"en": "holds", "zh": "成立"},
    "does not hold": {"en": "does not hold", "zh": "不成立"},
    "not at this size": {"en": "not at this size", "zh": "规模不够，无法判断"},
    "not measured": {"en": "not measured", "zh": "未测量"},
}
HEADERS = {
    "claims": {
        "en": ["claim", "what was measured", "article", "here", "verdict"],
        "zh": ["论断", "测的是什么", "原文", "实测", "结论"],
    },
    "commands": {
        "en": ["command", "what it answers", "seconds"],
        "zh": ["命令", "回答什么", "用时（秒）"],
    },
    "articles": {
        "en": ["post", "folder", "question", "what came out", "seconds"],
        "zh": ["文章", "目录", "问题", "结果", "用时（秒）"],
    },
}


# ---------------------------------------------------------------- what is recorded
def place() -> str:
    """Page and line of the call that cog is at, as "page.md:12: "; "" outside a page."""
    cog = sys.modules.get("cog")
    return f"{cog.inFile}:{cog.firstLineNum}: " if hasattr(cog, "firstLineNum") else ""


def nearest(name: str, names) -> str:
    """The three names nearest to one that is not there."""
    return ", ".join(difflib.get_close_matches(name, list(names), 3, 0.0)) or "nothing"


def find(names, name: str, where: str):
    """`name` if it is among `names`; KeyError with the page and the nearest names otherwise."""
    if name not in names:
        raise KeyError(f"{place()}{where}: no {name}; near it: {nearest(name, names)}")
    return name


def articles() -> list[dict]:
    """The six folders of articles.json, in the order of the front page."""
    return json.loads((ROOT / "articles.json").read_text(encoding="utf-8"))


def folders() -> list[str]:
    return [article["folder"] for article in articles()]


def reading_page(folder: str, post: int, language: str = "en") -> str:
    """Page of a post: reading.md for its folder's first post, reading-4681.md for the second."""
    posts = next(row["posts"] for row in articles() if row["folder"] == folder)
    first = posts[0]["number"] == post
    return ("reading" if first else f"reading-{post}") + ENDS[language]


def claims(folder: str) -> list[dict]:
    return json.loads((ROOT / folder / "claims.json").read_text(encoding="utf-8"))


def recorded(folder: str) -> dict[str, dict]:
    """Name of every file of results/, without .json → what it holds."""
    paths = sorted((ROOT / folder / "results").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def default_run(wording: dict) -> str:
    """The name under which the run of a claim's script is recorded."""
    return Path(wording["script"]).stem


def judge(wording: dict, runs: dict[str, dict]) -> dict:
    """The verdict on a claim from its largest recorded run.

    wording: a row of claims.json; runs: file name → results. Returns verdict, the run's name, and
    the measured numbers by name ({} without a run).
    """
    name = wording.get("judged_by", default_run(wording))
    found = [row for row in runs.get(name, {}).get("claims", []) if row["id"] == wording["id"]]
    holds = found[0]["holds"] if found else None
    small = "needs" in wording and not ("judged_by" in wording and "why" in wording)
    measured = found[0]["measured"] if found else {}
    return {"verdict": verdict(holds, small), "run": name, "measured": measured}


def verdict(holds: bool | None, small: bool) -> str:
    """small: the run had too little data or time to contradict the claim."""
    failed = "not at this size" if small else "does not hold"
    return {True: "holds", False: failed, None: "not measured"}[holds]


def shown(wording: dict, measured: dict, language: str) -> list[tuple[str, str]]:
    """(what was measured, the number as it is shown) for all numbers of a claim that a run has."""
    parts = wording["measured"].items()
    return [
        (part[language], cell(measured[key], part["format"]))
        for key, part in parts
        if key in measured
    ]


def cell(value, form: str) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else format(value, form)
    return text.replace("|", "\\|").replace("\n", " ")


# ---------------------------------------------------------------- tables
def table(header: list[str], rows: list[list[str]], rule: str = "---") -> None:
    lines = [header, [rule] * len(header), *rows]
    print("\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")


def table_of(folder: str, header: str, row: str, *path: str) -> None:
    """A line of numbers for each element of the list that stands at `path` in a folder's results.

    header, row: cells with " | " between them; in `row`, {row[…]} is the element.
    """
    elements = functools.reduce(operator.getitem, path, values(folder))
    rows = [row.format(row=element).split(" | ") for element in elements]
    table(header.split(" | "), rows, "---:")


def claims_table(folder: str, language: str) -> None:
    """A row per claim: wording, the first of its numbers, the article's, ours, the verdict.

    "beside" in claims.json names a second number, without which the first says little. Where a
    recorded run other than the script's default one judges the claim, our number links to it.
    """
    runs, rows = recorded(folder), []
    for wording in claims(folder):
        judged = judge(wording, runs)
        measured = judged["measured"]
        what, here = (shown(wording, measured, language) or [("–", "–")])[0]
        if measured and "beside" in wording:
            what += beside(wording, measured, language)
        if measured and judged["run"] != default_run(wording):
            link = f"[{judged['run']}](results/{judged['run']}.json)"
            here += {"en": f" ({link})", "zh": f"（{link}）"}[language]
        link = f"[{wording['id']}]({wording['script']}) {wording['claim'][language]}"
        word = VERDICTS[judged["verdict"]][language]
        rows.append([link, what, wording["article"][language], here, word])
    table(HEADERS["claims"][language], rows)


def beside(wording: dict, measured: dict, language: str) -> str:
    """The second number of a claim with what it is, in brackets."""
    part = wording["measured"][wording["beside"]]
    number = cell(measured[wording["beside"]], part["format"])
    form = {"en": " ({}: {})", "zh": "（{}：{}）"}[language]
    return form.format(part[language], number)


def reasons(folder: str, language: str) -> None:
    """A line per claim that does not hold, or not at this size: why, or what run would tell."""
    runs, colon = recorded(folder), {"en": ": ", "zh": "："}[language]
    print()
    for wording in claims(folder):
        found = judge(wording, runs)["verdict"]
        if found != "holds":
            reason = wording["why" if found == "does not hold" else "needs"][language]
            print(f"- {wording['id']} {VERDICTS[found][language]}{colon}{reason}")
    print()


def commands(folder: str, language: str, rows: list[tuple[str, str]]) -> None:
    """A row per command: (script and flags, what it answers), and the seconds it took."""
    runs, lines = recorded(folder), []
    for command, purpose in rows:
        stem = Path(command.split()[0]).stem
        seconds = "–"
        if stem in runs:
            spent = runs[stem]["seconds"]
            seconds = f"{spent:.0f}" if spent >= 0.5 else "< 1"
        lines.append([f"`python {folder}/{command}`", purpose, seconds])
    table(HEADERS["commands"][language], lines)


def said(folder: str, name: str, language: str) -> None:
    """The lines that a recorded run ended with, as cli.py prints them."""
    results = recorded(folder)[find(recorded(folder), name, f"{folder}/results")]
    wordings = {wording["id"]: wording for wording in claims(folder)}
    print("```")
    for found in results["claims"]:
        wording = wordings[found["id"]]
        numbers = shown(wording, found["measured"], language)
        said_numbers = "; ".join(f"{what} {value}" for what, value in numbers)
        word = VERDICTS[verdict(found["holds"], "needs" in wording)][language]
        print(f"{found['id']} {word}: {wording['claim'][language]} | {said_numbers}")
    print(f"Wrote {folder}/outputs/{name}.json in {results['seconds']} s")
    print("```")


# ---------------------------------------------------------------- sentences and code
def values(folder: str) -> dict:
    """What {…} may name in a sentence: metrics by file name, seconds, claims by number."""
    runs = recorded(folder)
    found = {name.replace(".", "_"): run.get("metrics", run) for name, run in runs.items()}
    found["seconds"] = {name: run["seconds"] for name, run in runs.items() if run.get("seconds")}
    found["claims"] = {row["id"]: judge(row, runs)["measured"] for row in claims(folder)}
    return found


def names_within(found: dict) -> set[str]:
    """All keys of a dict of dicts."""
    inner = [names_within(value) for value in found.values() if isinstance(value, dict)]
    return set(map(str, found)).union(*inner)


def filled(folder: str, text: str) -> str:
    """Text with recorded numbers in the place of {…}."""
    known = values(folder)
    try:
        return text.format(**known)
    except (KeyError, IndexError) as error:
        wrong = str(error.args[0])
        near = nearest(wrong, names_within(known))
        start = text.strip()[:60]
        raise KeyError(
            f"{place()}results of {folder}: no {wrong}; near it: {near}; in: {start}"
        ) from None


def say(folder: str, text: str) -> None:
    """Text with recorded numbers: {norms[rho]:.2f}, {seconds[train]:.0f}, {claims[C7.4][rho]}."""
    print("\n" + filled(folder, text).strip("\n") + "\n")


def bound(node: ast.stmt) -> list[str]:
    """The names that a statement of a module binds; a method is called Class.method."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if hasattr(node, "name"):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        names = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
        return [name.id for name in names if isinstance(name.ctx, ast.Store)]
    return []


def statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Those of a module, and those within a `with` or `try` of it."""
    found = []
    for node in body:
        inside = isinstance(node, ast.With | ast.Try)
        found += statements(node.body) if inside else [node]
    return found


def parts_of(path: str) -> dict[str, ast.stmt]:
    """Name → statement of a source file that binds it."""
    found = {}
    for node in statements(ast.parse((ROOT / path).read_text(encoding="utf-8")).body):
        found |= dict.fromkeys(bound(node), node)
        if isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found |= {f"{node.name}.{method.name}": method for method in methods}
    return found


def cut(path: str, name: str) -> str:
    """A function, method, class or constant of a source file, with its decorators."""
    parts = parts_of(path)
    node = parts[find(parts, name, path)]
    first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno]))


def code(path: str, *names: str, imports: str = "") -> None:
    """A block of Python to copy: the imports it needs, and the named parts of a source file."""
    parts = [*([imports.strip("\n")] if imports else []), *(cut(path, name) for name in names)]
    print("\n```python\n" + "\n\n\n".join(parts) + "\n```\n")


# ---------------------------------------------------------------- the front page
def counts(language: str) -> dict[str, int]:
    """How many claims have which verdict, over all folders: "hold" → 47."""
    found = dict.fromkeys(VERDICTS, 0)
    for folder in folders():
        runs = recorded(folder)
        for wording in claims(folder):
            found[judge(wording, runs)["verdict"]] += 1
    many = {"holds": "hold", "does not hold": "do not hold"} if language == "en" else {}
    return {
        many.get(name, VERDICTS[name][language])
        if number != 1
        else VERDICTS[name][language]: number
        for name, number in found.items()
    }


def claim_counts(language: str) -> None:
    """One sentence: how many of the claims have which verdict."""
    found = counts(language)
    total = sum(found.values())
    some = {word: number for word, number in found.items() if number}
    if language == "en":
        parts = ", ".join(f"{number} {word}" for word, number in some.items())
        print(f"\nOf {total} claims that can be checked: {parts}.\n")
    else:
        parts = "；".join(f"{number} 条{word}" for word, number in some.items())
        print(f"\n可检验的论断共 {total} 条：{parts}。\n")


def articles_table(language: str) -> None:
    """A row per post: question, headline, seconds of its folder's default scripts."""
    page, rows = f"README{ENDS[language]}", []
    beside = {"en": "formulas and code", "zh": "公式与代码"}[language]
    for article in articles():
        folder = article["folder"]
        runs = recorded(folder)
        names = [
            find(runs, Path(script).stem, f"{folder}/results") for script in article["scripts"]
        ]
        spent = sum(runs[name]["seconds"] for name in names)
        for post in article["posts"]:
            title = (
                f"[{post['number']} {post['title']}](https://kexue.fm/archives/{post['number']})"
            )
            headline = filled(folder, post["headline"][language])
            link = f"[{folder}]({folder}/{page})"
            reading = f"{folder}/{reading_page(folder, post['number'], language)}"
            if (ROOT / reading).is_file():
                link += f", [{beside}]({reading})"
            rows.append([title, link, post["question"][language], headline, f"{spent:.0f}"])
    table(HEADERS["articles"][language], rows)
