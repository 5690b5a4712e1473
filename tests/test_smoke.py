"""The reader's smoke test: every script, from an empty directory, offline, --quick: it runs, its results parse, its
figures show something, and the repository is as it was."""
import importlib.util
import json
import re

import pytest
from conftest import ROOT, SCRIPTS, run_script
from PIL import Image

IGNORED = {".git", ".venv", "outputs", ".cache", "__pycache__", ".pytest_cache", ".ruff_cache"}


def snapshot() -> dict:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in ROOT.rglob("*")
            if path.is_file() and not IGNORED & set(path.relative_to(ROOT).parts)}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_quick_run(script, tmp_path):
    for needed in re.findall(r"^Needs: +(\w+)", script.read_text(encoding="utf-8"), re.M):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    before = snapshot()
    empty = tmp_path / "empty"
    empty.mkdir()
    finished = run_script(script, "--quick", "--out-dir", tmp_path / "out", cwd=empty)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "QUICK RUN, not results" in finished.stdout
    results = json.loads((tmp_path / "out" / f"{script.stem}.json").read_text(encoding="utf-8"))
    assert results["script"] == script.stem and results["quick"] is True
    assert isinstance(results["metrics"], dict) and results["metrics"]
    for claim in results["claims"]:
        assert set(claim) >= {"id", "claim", "expected", "measured", "holds"}
        assert claim["holds"] in (True, False, None)
    for name in results["figures"]:
        figure = tmp_path / "out" / name
        assert figure.stat().st_size < 200_000, f"{name} is too large for a README"
        assert len(Image.open(figure).convert("RGB").resize((64, 64)).getcolors(4096)) > 1, f"{name} is blank"
    assert not list((tmp_path / "out").glob("*.part")) and not list(empty.iterdir())
    assert snapshot() == before


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_help_shows_the_house_flags(script):
    finished = run_script(script, "--help", cwd="/")
    assert finished.returncode == 0, finished.stderr
    for flag in ("--quick", "--seed", "--out-dir", "--data-dir"):
        assert flag in finished.stdout


def test_module_form_runs_from_the_root(tmp_path):
    for script in SCRIPTS[:1]:
        finished = run_script("-m", f"{script.parent.name}.{script.stem}", "--help", cwd=ROOT)
        assert finished.returncode == 0, finished.stderr
