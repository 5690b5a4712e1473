"""The house rules a machine can see: one claim one owner, no drifted copies, nothing shared but data.download."""
import ast
import json
import subprocess
from collections import defaultdict

import pytest
from conftest import FOLDERS, ROOT, SCRIPTS
from reproduce import ARTICLES

CLAIMS = json.loads((ROOT / "claims.json").read_text(encoding="utf-8"))


def python_files():
    return [path for name in FOLDERS for path in sorted((ROOT / name).glob("*.py"))]


@pytest.mark.parametrize("name", ["add_house_flags", "save_results"])
def test_copies_of_a_house_function_are_equal(name):
    copies = defaultdict(list)
    for path in SCRIPTS:
        source = path.read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                copies[ast.get_source_segment(source, node)].append(path.name)
    assert len(copies) <= 1, f"{name} has drifted: {list(copies.values())}"


@pytest.mark.parametrize("path", python_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_folder_imports_nothing_of_the_house_but_the_data_helper(path):
    others = set(FOLDERS) - {path.parent.name}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [
            alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            assert name.split(".")[0] not in others | {"reproduce", "tests"}, f"{path.name} imports {name}"


def test_reproduce_runs_scripts_that_exist():
    for folder in FOLDERS:
        for script in ARTICLES[folder][3]:
            assert (ROOT / folder / f"{script}.py").is_file(), f"{folder}/{script}.py"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_claim_has_one_recorded_owner(folder):
    owners = defaultdict(list)
    for script in ARTICLES[folder][3]:
        assert (ROOT / folder / "results" / f"{script}.json").is_file(), f"{script}.py has no recorded default run"
    for path in SCRIPTS:
        recorded = ROOT / folder / "results" / f"{path.stem}.json"
        if path.parent.name == folder and recorded.is_file():
            results = json.loads(recorded.read_text(encoding="utf-8"))
            assert results["quick"] is False, f"{recorded}: a quick run is not a result"
            for claim in results["claims"]:
                owners[claim["id"]].append(path.stem)
    for claim in CLAIMS:
        if claim["folder"] == folder:
            assert len(owners[claim["id"]]) == 1, f"{claim['id']} is reported by {owners[claim['id']] or 'nobody'}"


def test_fifty_four_claims():
    assert len(CLAIMS) == len({claim["id"] for claim in CLAIMS}) == 54


@pytest.mark.parametrize("folder", FOLDERS)
def test_figures_are_small_and_read_by_somebody(folder):
    readme = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    figures = list((ROOT / folder / "figures").glob("*.png"))
    assert figures and any(f"figures/{path.name}" in readme for path in figures)
    assert all(path.stat().st_size < 200_000 for path in figures)


@pytest.mark.parametrize("folder", FOLDERS)
def test_recorded_results_name_no_folder_of_a_machine(folder):
    for path in (ROOT / folder / "results").glob("*.json"):
        assert '"/' not in path.read_text(encoding="utf-8"), path


def test_large_files_stay_out():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        assert (ROOT / name).stat().st_size < 6_500_000, name
