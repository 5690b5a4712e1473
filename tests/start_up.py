"""How soon do scripts answer? Status, CPU seconds and imports of each command, each in a fork.

Run:     python tests/start_up.py commands.json > answers.json     (by test_start_up.py)

A fork of this process, which has numpy and scipy.sparse already, costs a tenth of a new Python.
"""

import contextlib
import io
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

from forks import run_as_main

FORK = multiprocessing.get_context("fork")


def cpu_seconds() -> float:
    """Of this process and those that it started."""
    return sum(os.times()[:4])


def run_script(command: list, send) -> None:
    """Run [script, *flags] as __main__ and send what came of it."""
    console = io.StringIO()
    started = cpu_seconds()
    with contextlib.redirect_stdout(console), contextlib.redirect_stderr(console):
        status = run_as_main(command)
    seconds = cpu_seconds() - started
    modules = sorted(sys.modules)
    said = console.getvalue()
    send.send({"status": status, "seconds": seconds, "modules": modules, "said": said})


def answer(command: list) -> dict:
    receive, send = FORK.Pipe(duplex=False)
    process = FORK.Process(target=run_script, args=(command, send))
    process.start()
    send.close()
    found = receive.recv()
    process.join()
    return found


if __name__ == "__main__":
    import numpy
    import scipy.sparse

    used = numpy, scipy.sparse
    yardstick = time.process_time()  # starting Python, and importing these two
    answers = [answer(command) for command in json.loads(Path(sys.argv[1]).read_text())]
    json.dump({"yardstick": yardstick, "answers": answers}, sys.stdout)
