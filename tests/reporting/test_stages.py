from __future__ import annotations

import re

import pytest

from rlstep.reporting.stages import stage


def test_a_stage_is_one_line_with_its_seconds(capsys: pytest.CaptureFixture[str]):
    with stage("generators (2)"):
        assert capsys.readouterr().out == ""
    assert re.fullmatch(r" +\d+\.\d s  generators \(2\)\n", capsys.readouterr().out)


def test_a_stage_that_fails_is_no_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError), stage("generators (2)"):
        raise ValueError
    assert capsys.readouterr().out == ""
