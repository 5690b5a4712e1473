"""What every test shares: the repository's folders, and a way to run a script as a reader does."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from docs.pages import ROOT, folders

for setting in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before NumPy is imported:
    os.environ.setdefault(setting, "1")  # three processes keep two cores busy without threads

FOLDERS = folders()
OFFLINE = {"KEXUE_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}


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
    settings = {**os.environ, **OFFLINE, **environment}
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


@functools.cache
def keras_process() -> subprocess.Popen:
    """See forks.py; one for each process of the tests, which ends with it."""
    settings = {**os.environ, **OFFLINE, "TF_CPP_MIN_LOG_LEVEL": "3"}  # which cli.py sets in time
    settings.pop("KERAS_BACKEND", None)
    command = [sys.executable, str(ROOT / "tests" / "forks.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    pipes["stderr"] = subprocess.DEVNULL  # TensorFlow's notices; a fork has its own
    return subprocess.Popen(command, env=settings, text=True, encoding="utf-8", **pipes)


def run_forked(script, *flags, cwd=None, timeout=300) -> subprocess.CompletedProcess:
    """run_script without the seconds of importing TensorFlow, where processes can fork safely."""
    if sys.platform != "linux":
        return run_script(script, *flags, cwd=cwd, timeout=timeout)
    command = [str(script), *map(str, flags)]
    request = {"command": command, "cwd": str(cwd or Path.cwd()), "timeout": timeout}
    process = keras_process()
    with tempfile.TemporaryDirectory() as folder:
        printed = {name: Path(folder) / name for name in ("stdout", "stderr")}
        request |= {name: str(path) for name, path in printed.items()}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        texts = {name: path.read_text(encoding="utf-8") for name, path in printed.items()}
    return subprocess.CompletedProcess(command, status, **texts)


def pytest_collection_modifyitems(items):
    """The longest file first, lest one process ends with it while the others wait."""
    items.sort(key=lambda item: "test_smoke" not in item.nodeid)


@pytest.fixture
def run():
    return run_script
