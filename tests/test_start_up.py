"""--help, a mistyped flag and a missing file are answered before anything slow is imported.

The bar is relative, so that it holds on a slow machine: what a script costs beyond Python, numpy
and scipy.sparse must be less CPU time than starting these three.
"""

import json
import sys

import pytest

from conftest import FOLDERS, ROOT, SCRIPTS, run_script

SLOW = {"tensorflow", "keras", "jax", "torch", "sklearn", "pandas", "matplotlib", "gensim"}
SLOW |= {"pyspark", "scipy.stats", "scipy.optimize"}
ABSENT = "no_such_place"
CORPUS = [[ABSENT]]
FILES = {  # script → its arguments that are files or folders, one call for each
    "captcha_xception/evaluate.py": [["--weights", ABSENT], ["--samples", ABSENT]],
    "captcha_xception/make_samples.py": [["--fonts", ABSENT]],
    "captcha_xception/predict.py": [[ABSENT], ["--weights", ABSENT]],
    "captcha_xception/train.py": [["--weights", ABSENT], ["--samples", ABSENT]],
    "adversarial_validation/split.py": [[ABSENT, ABSENT]],
    "master_equation/simulate.py": [[ABSENT]],
    "activation_functions/experiments/float_rounding.py": [["--weights", ABSENT]],
    "simpler_glove/evaluate.py": CORPUS,
    "simpler_glove/explore.py": [["--vectors", ABSENT]],
    "simpler_glove/train.py": CORPUS,
    "simpler_glove/experiments/analogies.py": [*CORPUS, ["--vectors", ABSENT]],
    "simpler_glove/experiments/count.py": CORPUS,
    "simpler_glove/experiments/glove.py": CORPUS,
    "simpler_glove/experiments/growth.py": CORPUS,
    "simpler_glove/experiments/modes.py": CORPUS,
    "simpler_glove/experiments/norms.py": CORPUS,
    "simpler_glove/experiments/sentiment.py": CORPUS,
    "simpler_glove/experiments/similar_words.py": [*CORPUS, ["--vectors", ABSENT]],
    "simpler_glove/experiments/solvers.py": CORPUS,
    "simpler_glove/experiments/steps.py": CORPUS,
    "simpler_glove/experiments/word_lists.py": CORPUS,
}


def commands(folder: str, out_dir) -> list:
    """([script, *flags], status, what the answer must hold) of each script of a folder."""
    found = []
    for script in (path for path in SCRIPTS if path.is_relative_to(ROOT / folder)):
        found.append(([str(script), "--help"], 0, "--quick"))
        found.append(([str(script), "--quikc"], 2, "unrecognized arguments: --quikc"))
        for flags in FILES.get(script.relative_to(ROOT).as_posix(), []):
            found.append(([str(script), *flags, "--out-dir", str(out_dir)], 2, ABSENT))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process, which is safe on Linux only")
@pytest.mark.parametrize("folder", FOLDERS)
def test_answers_at_once(folder, tmp_path):
    asked = commands(folder, tmp_path / "out")
    asked_file = tmp_path / "commands.json"
    asked_file.write_text(json.dumps([command for command, *_ in asked]))
    finished = run_script(ROOT / "tests" / "start_up.py", asked_file, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-1000:]
    told = json.loads(finished.stdout)
    late = []
    for (command, status, wording), answer in zip(asked, told["answers"], strict=True):
        shown = " ".join(command).removeprefix(f"{ROOT}/")
        assert answer["status"] == status and wording in answer["said"], f"{shown}: {answer}"
        slow = SLOW & set(answer["modules"])
        if slow or answer["seconds"] > told["yardstick"]:
            late.append(f"{shown}: {answer['seconds']:.2f} CPU s, {' '.join(sorted(slow))}")
    assert late == [], f"bar: {told['yardstick']:.2f} CPU s"
