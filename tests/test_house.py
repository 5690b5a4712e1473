"""Rules that a machine can see: one cli.py, only data.download shared, claims worded once."""

import ast
import subprocess
import sys
from collections import defaultdict

import pytest

from conftest import FILES, FOLDERS, ROOT, is_script
from docs import pages

ARTICLES = {article["folder"]: article for article in pages.articles()}
PYTHON = [*FILES, *sorted((ROOT / "tests").rglob("*.py")), *(ROOT / "docs").glob("*.py")]


def name_of(path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path) -> str:
    return path.read_text(encoding="utf-8")


def test_cli_is_the_same_in_every_folder_and_short():
    copies = {text_of(ROOT / folder / "cli.py") for folder in FOLDERS}
    assert len(copies) == 1, "cli.py has drifted"
    assert len(copies.pop().splitlines()) < 100


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_folder_imports_nothing_of_the_others_but_the_data_helper(path):
    others = set(ARTICLES) | {"reproduce", "tests", "docs"}
    for node in ast.walk(ast.parse(text_of(path))):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            assert name.split(".")[0] not in others, f"{path.name} imports {name}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_one_module_of_a_folder_reaches_the_data_helper(folder):
    reaching = [path for path in FILES if path.parts[-2] == folder or path.parts[-3] == folder]
    reaching = [path for path in reaching if "from data.download" in text_of(path)]
    assert len(reaching) <= 1, [path.name for path in reaching]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_path_arithmetic_stands_in_two_places_only(path):
    """In cli.py and the module that reaches data.download; and once at the top of an experiment."""
    text = text_of(path)
    found = text.count("__file__")
    if path.name == "cli.py" or "from data.download" in text:
        return
    assert found <= (path.parent.name == "experiments"), f"{path.name} works with __file__"


def test_names_of_method_modules_are_unique_over_the_folders():
    owners = defaultdict(set)
    for path in FILES:
        if path.name != "cli.py" and not is_script(path):
            owners[path.stem].add(path.parent.name)
    assert {stem: places for stem, places in owners.items() if len(places) > 1} == {}


def test_no_function_of_more_than_five_lines_stands_twice():
    places = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 5:
                places[ast.dump(ast.Module(node.body, []))].append(f"{name_of(path)}:{node.name}")
    twice = [found for found in places.values() if len(found) > 1]
    assert [found for found in twice if not all("/cli.py:" in place for place in found)] == []


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_no_line_is_longer_than_100_columns(path):
    long = [line for line in text_of(path).splitlines() if len(line) > 100]
    assert long == []


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff(command):
    finished = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=ROOT, capture_output=True
    )
    assert finished.returncode == 0, finished.stdout.decode() + finished.stderr.decode()


def test_no_file_switches_a_rule_off():
    marks = [name_of(path) for path in PYTHON if "# no" + "qa" in text_of(path)]
    assert marks == []


# ---------------------------------------------------------------- claims
def test_fifty_four_claims():
    names = [row["id"] for folder in ARTICLES for row in pages.claims(folder)]
    assert len(names) == len(set(names)) == 54


@pytest.mark.parametrize("folder", FOLDERS)
def test_scripts_exist_and_their_default_runs_are_recorded(folder):
    runs = pages.recorded(folder)
    for script in ARTICLES[folder]["scripts"]:
        assert (ROOT / folder / script).is_file(), script
        stem = script.rpartition("/")[2].removesuffix(".py")
        assert stem in runs, f"{script} has no recorded default run"
        assert runs[stem]["config"]["quick"] is False, f"{script}: a quick run is not a result"


@pytest.mark.parametrize("folder", FOLDERS)
def test_claims_are_worded_in_both_languages_and_measured_by_one_script(folder):
    runs = pages.recorded(folder)
    for wording in pages.claims(folder):
        name = wording["id"]
        for key in ("claim", "article", "holds_if"):
            assert set(wording[key]) == {"en", "zh"}, f"{name}: {key}"
        for number in wording["measured"].values():
            assert set(number) == {"en", "zh", "format"}, name
        assert wording["script"] in ARTICLES[folder]["scripts"] or "judged_by" in wording, name
        owners = [
            stem for stem, run in runs.items() for row in run.get("claims", []) if row["id"] == name
        ]
        assert pages.default_run(wording) in owners, f"{name} is measured by {owners}"
        judged = pages.judge(wording, runs)
        assert judged["run"] in runs, f"{name}: no results/{judged['run']}.json"
        if judged["verdict"] != "not measured":
            assert set(judged["measured"]) == set(wording["measured"]), name
        if judged["verdict"] == "does not hold":
            assert set(wording["why"]) == {"en", "zh"}, f"{name} says not why"
        elif judged["verdict"] != "holds":
            assert set(wording["needs"]) == {"en", "zh"}, f"{name} names no run that would tell"


# ---------------------------------------------------------------- what is committed
@pytest.mark.parametrize("folder", FOLDERS)
def test_figures_are_small_and_read_by_somebody(folder):
    readme = text_of(ROOT / folder / "README.md")
    figures = list((ROOT / folder / "figures").glob("*.png"))
    assert figures and any(f"figures/{path.name}" in readme for path in figures)
    assert all(path.stat().st_size < 200_000 for path in figures)


@pytest.mark.parametrize("folder", FOLDERS)
def test_recorded_results_name_no_folder_of_a_machine(folder):
    for path in (ROOT / folder / "results").glob("*.json"):
        assert '"/' not in text_of(path), path


def test_large_files_stay_out():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        assert (ROOT / name).stat().st_size < 6_500_000, name
