"""Every seventh case of faults.py; the whole table takes some minutes and is made by that script."""
import sys

import pytest
from conftest import FOLDERS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and file limits of POSIX")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    faults = pytest.importorskip("faults")
    return faults.make_inputs(tmp_path_factory.mktemp("inputs"))


def test_there_are_at_least_a_hundred_cases(files):
    from faults import cases
    assert len(cases(files)) >= 100


@pytest.mark.parametrize("offset", range(4))
def test_bad_input_gets_one_line_and_status_2(files, offset):
    from faults import cases, run_all
    chosen = [case for case in cases(files) if case[0].split("/")[0] in FOLDERS][7 * offset::28]
    problems = [(result["script"], result["what"], result["problems"]) for result in run_all(chosen)
                if result["problems"]]
    assert not problems
