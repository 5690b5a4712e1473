"""READMEs tell the truth: commands parse, flags exist, links lead somewhere, languages agree, numbers are recorded."""
import builtins
import json
import math
import re
import shlex
import types

import pytest
from conftest import FOLDERS, ROOT, run_script

READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "data" / "README.md",
           *(ROOT / name / "README.md" for name in FOLDERS)]
NAMES = [str(path.relative_to(ROOT)) for path in READMES]


def text_of(path) -> str:
    return path.read_text(encoding="utf-8")


def code_lines(text: str) -> list:
    blocks = re.findall(r"^```(?:bash|sh|console|bat)?\n(.*?)^```", text, flags=re.M | re.S)
    return [line.split(" #")[0].strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("path", READMES, ids=NAMES)
def test_links_and_images_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)|<img[^>]*src=\"([^\"]+)\"", text_of(path)):
        target = (target[0] or target[1]).split("#")[0]
        if target and "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", READMES, ids=NAMES)
def test_commands_parse(path):
    """Every `python folder/script.py …` names a script that exists and flags that its --help knows."""
    for line in code_lines(text_of(path)) + re.findall(r"`(python [\w/]+\.py[^`]*)`", text_of(path)):
        words = shlex.split(line.replace("…", ""))
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if len(words) < 2 or not words[0].endswith("python") or not words[1].endswith(".py"):
            continue
        script = ROOT / words[1]
        assert script.is_file(), f"{path.name}: {line}"
        flags = [word.split("=")[0] for word in words[2:] if word.startswith("--")]
        if flags:
            shown = run_script(script, "--help").stdout
            subcommands = re.findall(r"\{([\w,-]+)\}", shown)
            shown += "".join(run_script(script, word, "--help").stdout for word in words[2:3]
                             if any(word in group.split(",") for group in subcommands))
            for flag in flags:
                assert flag in shown, f"{path.name}: {line}: {flag} is not a flag of {words[1]}"


def test_both_languages_hold_the_same_commands_rows_and_numbers():
    english, chinese = (text_of(ROOT / name) for name in ("README.md", "README.zh-CN.md"))
    assert code_lines(english) == code_lines(chinese)
    for pattern in (r"https://kexue\.fm/archives/\d+", r"\]\(([\w/]+/README\.md)\)", r"\d+\.\d+",
                    r"<img[^>]*src=\"[^\"]+\""):
        assert sorted(re.findall(pattern, english)) == sorted(re.findall(pattern, chinese)), pattern
    assert sum(line.startswith("|") for line in english.splitlines()) == sum(
        line.startswith("|") for line in chinese.splitlines())


@pytest.mark.parametrize("folder", FOLDERS)
def test_code_to_copy_runs_by_itself(folder):
    """A block of Python that shows imports shows all it needs, defaults and decorators included."""
    for block in re.findall(r"^```python\n(.*?)^```", text_of(ROOT / folder / "README.md"), flags=re.M | re.S):
        if re.match(r"import |from ", block):
            exec(block, names := {})
            codes = [value.__code__ for value in names.values() if isinstance(value, types.FunctionType)]
            unknown = {name for code in codes for name in re.findall(r"\b[A-Za-z_]\w*(?=\()", block)
                       if name in code.co_names and name not in names and not hasattr(builtins, name)}
            methods = set(re.findall(r"\.([A-Za-z_]\w*)\(", block))
            assert not unknown - methods, f"{folder}/README.md: {unknown - methods} is not imported"


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_readme_is_short_and_complete(folder):
    text = text_of(ROOT / folder / "README.md")
    assert len(text.splitlines()) <= 80
    assert "https://kexue.fm/archives/" in text and re.search(r"[\u4e00-\u9fff]{4}", text)
    for word in ("copy this", "differs from the article", "licen"):
        assert word in text.lower(), f"{folder}/README.md has no part about: {word}"


def numbers_in(value) -> list:
    """Every number in a results file, those inside strings included."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers_in(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    if isinstance(value, str):
        return [float(found.replace(",", "")) for found in re.findall(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?", value)]
    return [float(value)] if isinstance(value, (int, float)) and math.isfinite(value) else []


def tables(text: str):
    """(header cells, row cells) of every table row."""
    header = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            header = None
        elif header is None:
            header = [cell.lower() for cell in cells]
        elif not set(line) <= set("|-: "):
            yield header, cells


def is_recorded(shown: str, recorded: list) -> bool:
    """Does a recorded number, or it as a percentage, round to the shown digits?"""
    digits = len(shown.partition(".")[2])
    return any(abs(abs(number) * scale - float(shown)) <= 0.501 * 10 ** -digits
               for number in recorded for scale in (1, 100))


@pytest.mark.parametrize("path", [ROOT / "README.md", *(ROOT / name / "README.md" for name in FOLDERS)],
                         ids=["README.md", *FOLDERS])
def test_numbers_come_from_recorded_runs(path):
    """Every number with a decimal point under a heading `ours…`, `measured…` or `headline…` is in a results file."""
    folders = [path.parent.name] if path.parent != ROOT else FOLDERS
    recorded = [number for name in folders for file in (ROOT / name / "results").glob("*.json")
                for number in numbers_in(json.loads(text_of(file)))]
    checked = 0
    for header, cells in tables(text_of(path)):
        for title, cell in zip(header, cells):
            if title.startswith(("ours", "measured", "headline")):
                for shown in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\.\d)", cell.replace(",", "")):
                    checked += 1
                    assert is_recorded(shown, recorded), f"{path}: {shown} in “{cell}” is in no results file"
    assert checked, f"{path} has no table with a column `ours`, `measured` or `headline`"
