"""Run scripts in forks of one process that has Keras loaded already.

Run:     python tests/forks.py     (by conftest.py: a request a line in, an answer a line out)

To import TensorFlow takes longer than most of what the tests run. A fork has its own arguments,
directory, output and end, as a process of its own has; only what is imported stands there already.
"""

import importlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path


def become(request: dict) -> int:
    """In the fork: be the process that was asked for. Returns its status."""
    os.chdir(request["cwd"])
    for descriptor, name in enumerate((os.devnull, request["stdout"], request["stderr"])):
        mode = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, mode), descriptor)
    signal.alarm(request["timeout"])  # ends the fork, with a status of its own
    return run_as_main(request["command"])


def run_as_main(command: list) -> int:
    """Run [script, *flags] in this process as Python would. Returns its status."""
    sys.argv = command
    sys.path[0] = str(Path(command[0]).parent)
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def main() -> int:
    importlib.import_module("keras")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return become(json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
