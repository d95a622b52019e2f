"""`cases.every` runs each case, and names each that fails."""

from __future__ import annotations

import pytest
from cases import TooLate, every


def test_each_case_that_fails_is_named_and_all_are_run():
    run = []

    @every("number, sign", [(1, "+"), (2, "-"), (3, "?")])
    def test(number, sign):
        run.append(number)
        assert sign == "-"

    with pytest.raises(pytest.fail.Exception, match=r"2 of 3 cases:\n\(1, '\+'\): Assert[^$]*\n\(3, '\?'\): Assert"):
        test()
    assert run == [1, 2, 3]


def test_after_its_deadline_a_test_runs_no_more_cases():
    run = []

    @every("number", [1, 2, 3])
    def test(number):
        run.append(number)
        raise TooLate("still running after 1 s")

    with pytest.raises(pytest.fail.Exception, match="1: still running after 1 s; 2 cases were not run"):
        test()
    assert run == [1]


def test_a_case_that_is_skipped_hides_no_other():
    @every("number", [1, 2])
    def test(number):
        assert number == 2
        pytest.skip("not here")

    with pytest.raises(pytest.fail.Exception, match=r"2 of 2 cases:\n1: Assert[^$]*\n2: Skipped: not here"):
        test()


@pytest.mark.parametrize("more", [0, 1])
@every("number", range(3))
def test_fixtures_and_marks_stay(number, more, tmp_path):
    assert tmp_path.is_dir()
    assert 0 <= number + more <= 3


def test_a_parameter_that_is_not_there_is_no_case():
    with pytest.raises(AssertionError, match="does not take number"):
        every("number", [1])(lambda: None)
    with pytest.raises(AssertionError, match="no case gives number"):
        every("number", [])(lambda number: None)
