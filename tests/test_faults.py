"""A sample of the cases of faults.py, which runs them all in some minutes."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and file limits of POSIX")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    faults = pytest.importorskip("faults")
    inputs = tmp_path_factory.mktemp("inputs")
    faults.make_inputs(inputs)
    return faults.cases(inputs)


def test_there_are_at_least_a_hundred_cases_and_their_scripts_exist(chosen):
    from faults import ROOT

    assert len(chosen) >= 100
    assert [script for script, _, _ in chosen if not (ROOT / script).is_file()] == []


@pytest.mark.parametrize("offset", range(4))
def test_bad_input_gets_one_line_and_status_2(chosen, offset):
    from faults import run_all

    results = run_all(chosen[9 * offset :: 36])
    problems = [(row["script"], row["what"], row["problems"]) for row in results if row["problems"]]
    assert not problems
