"""The pages tell the truth: generated parts, commands, links, code to copy, both languages."""

import builtins
import re
import shlex
import subprocess
import sys

import pytest

from conftest import FOLDERS, ROOT, run_script
from docs.reading import used

PAIRS = [
    (page, page.with_name(page.name.replace(".md", ".zh-CN.md")))
    for folder in FOLDERS
    for page in sorted((ROOT / folder).glob("*.md"))
    if ".zh-CN" not in page.name
] + [(place / "README.md", place / "README.zh-CN.md") for place in (ROOT, ROOT / "data")]
PAGES = [page for pair in PAIRS for page in pair]
PROLOGUE = "from docs.pages import *; from docs.reading import *"
CALL = re.compile(r"<!-- \[\[\[cog.*?\]\]\] -->|<!-- \[\[\[end\]\]\] -->", re.S)


def name_of(page) -> str:
    return str(page.relative_to(ROOT))


def text_of(page) -> str:
    """A page as a reader sees it, without the calls of cog."""
    return CALL.sub("", page.read_text(encoding="utf-8"))


def code_lines(text: str) -> list:
    blocks = re.findall(r"^```(?:bash|sh|console|bat)\n(.*?)^```", text, flags=re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.split(" #")[0].strip().removeprefix("$ ") for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_generated_parts_are_those_of_the_recorded_runs(page):
    options = ["-P", "-I", str(ROOT), "-p", PROLOGUE, "--check"]
    finished = subprocess.run(
        [sys.executable, "-m", "cogapp", *options, str(page)], capture_output=True, text=True
    )
    assert finished.returncode == 0, (
        f"{finished.stdout}{finished.stderr}\nmake pages writes them anew"
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_images_lead_somewhere(page):
    text = re.sub(r"^```.*?^```|^\$\$.*?^\$\$", "", text_of(page), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)|<img[^>]*src=\"([^\"]+)\"", text):
        target = (target[0] or target[1]).split("#")[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page):
    """Every `python folder/script.py …` names a script that exists and flags that it has."""
    text = text_of(page)
    for line in code_lines(text) + re.findall(r"`(python [\w/]+\.py[^`]*)`", text):
        words = shlex.split(line.replace("…", ""))
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if len(words) < 2 or not words[0].endswith("python") or not words[1].endswith(".py"):
            continue
        script = ROOT / words[1]
        assert script.is_file(), f"{page.name}: {line}"
        flags = [word.split("=")[0] for word in words[2:] if word.startswith("--")]
        if flags:
            shown = run_script(script, "--help").stdout
            subcommands = re.findall(r"\{([\w,-]+)\}", shown)
            if any(word in group.split(",") for group in subcommands for word in words[2:3]):
                shown += run_script(script, words[2], "--help").stdout
            for flag in flags:
                assert flag in shown, f"{page.name}: {line}: {words[1]} has no flag {flag}"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: name_of(pair[0]))
def test_both_languages_hold_the_same(pair):
    """Commands, code, links to posts, figures, headings, rows of tables and numbers."""
    english, chinese = map(text_of, pair)
    assert code_lines(english) == code_lines(chinese)
    python = r"^```python\n(.*?)^```"
    assert re.findall(python, english, re.M | re.S) == re.findall(python, chinese, re.M | re.S)
    for pattern in (
        r"https://kexue\.fm/archives/\d+",
        r"(?<![\w.])\d+\.\d+(?![\w.]*\.\d)",
        r"<img[^>]*src=\"[^\"]+\"|!\[[^]]*\]\(([^)]+)\)",
        r"^##+ ",
        r"^\|",
    ):
        found = [sorted(re.findall(pattern, text, re.M)) for text in (english, chinese)]
        assert found[0] == found[1], pattern


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_to_copy_runs_by_itself(page):
    """A block of Python runs in an empty file, and knows each name that it calls."""
    for block in re.findall(r"^```python\n(.*?)^```", text_of(page), flags=re.M | re.S):
        exec(block, names := {"__name__": "copied"})
        unknown = used(block) - set(names) - set(dir(builtins))
        assert not unknown, f"{page.name}: {unknown} is not imported"


@pytest.mark.parametrize(
    "page", [page for page in PAGES[:-2] if "README" in page.name], ids=name_of
)
def test_readme_is_short_and_complete(page):
    text = text_of(page)
    prose = re.sub(r"^```python\n.*?^```", "", text, flags=re.M | re.S)
    assert len([line for line in prose.splitlines() if line.strip()]) <= 60
    assert "https://kexue.fm/archives/" in text
