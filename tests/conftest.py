"""What every test shares: the repository's folders, and a way to run a script as a reader does."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT, folders

FOLDERS = folders()


def is_script(path: Path) -> bool:
    return "cli.run(" in path.read_text(encoding="utf-8") and path.name != "cli.py"


FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
SCRIPTS = [path for path in FILES if is_script(path)]


def module_of(path: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load(name: str):
    """A script as a module, with the cli.py of its folder: load("simpler_glove/train.py").

    Files under tests/ have no folder of their own: they reach for the one on the path.
    """
    folder_cli = ROOT / name.split("/")[0] / "cli.py"
    if folder_cli.exists():
        module_of(folder_cli, "cli")
    return module_of(ROOT / name, name.removesuffix(".py").replace("/", "_"))


def run_script(script, *flags, cwd=None, timeout=300, **environment) -> subprocess.CompletedProcess:
    """Run a script offline in a process of its own, as a reader does."""
    settings = {**os.environ, "KEXUE_OFFLINE": "1", "PYTHONIOENCODING": "utf-8", **environment}
    settings.pop("TF_CPP_MIN_LOG_LEVEL", None)  # which JAX sets in the process of the tests
    return subprocess.run(
        [sys.executable, str(script), *map(str, flags)],
        cwd=cwd,
        env=settings,
        timeout=timeout,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture
def run():
    return run_script
