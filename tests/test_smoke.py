"""The reader's smoke test: every script, from an empty directory, offline, --quick.

It runs, its results parse, its figures show something, and the repository is as it was. Articles'
scripts start as a reader starts them; tools and experiments, in a fork that has Keras loaded.
"""

import importlib.util
import json
import re

import pytest
from PIL import Image

from conftest import SCRIPTS, run_forked, run_script
from docs.pages import ROOT

ARTICLES = {"train.py", "run.py", "train_valid_test.py"}
IGNORED = {".git", ".venv", "outputs", "site", ".cache", "__pycache__"}
IGNORED |= {".pytest_cache", ".ruff_cache", ".hypothesis"}


def name_of(script) -> str:
    return str(script.relative_to(ROOT))


def snapshot() -> dict:
    files = [path for path in ROOT.rglob("*") if not IGNORED & set(path.relative_to(ROOT).parts)]
    stats = {path: path.stat() for path in files if path.is_file()}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_quick_run(script, tmp_path):
    for needed in re.findall(r"^Needs: +(\w+)", script.read_text(encoding="utf-8"), re.M):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    before = snapshot()
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    start = run_script if script.name in ARTICLES else run_forked
    finished = start(script, "--quick", "--out-dir", out, cwd=empty)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "QUICK RUN, not results" in finished.stdout
    assert finished.stderr == "", "only our lines on the console"
    results = json.loads((out / f"{script.stem}.json").read_text(encoding="utf-8"))
    assert results["config"]["quick"] is True
    assert isinstance(results["metrics"], dict) and results["metrics"]
    for claim in results["claims"]:
        assert set(claim) == {"id", "measured", "holds"} and claim["holds"] in (True, False, None)
    for name in results["figures"]:
        figure = out / name
        assert figure.stat().st_size < 200_000, f"{name} is too large for a README"
        pixels = Image.open(figure).convert("RGB").resize((64, 64))
        assert len(pixels.getcolors(4096)) > 1, f"{name} is blank"
    assert not list(out.glob("*.part*")) and not list(empty.iterdir())
    assert snapshot() == before
