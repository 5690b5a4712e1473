"""What every test shares: the repository's folders, and a way to run a script as a reader does."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from reproduce import ARTICLES  # noqa: E402

FOLDERS = [name for name in ARTICLES if (ROOT / name).is_dir()]
SCRIPTS = [path for name in FOLDERS for path in sorted((ROOT / name).glob("*.py"))
           if "def parse_args(" in path.read_text(encoding="utf-8")]


def run_script(script, *flags, cwd=None, timeout=300, **environment) -> subprocess.CompletedProcess:
    """Run a script offline in a process of its own; the caller looks at returncode, stdout and stderr."""
    settings = {**os.environ, "KEXUE_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONIOENCODING": "utf-8",
                **environment}
    return subprocess.run([sys.executable, str(script), *map(str, flags)], cwd=cwd, env=settings, timeout=timeout,
                          capture_output=True, text=True, encoding="utf-8")


@pytest.fixture
def run():
    return run_script
