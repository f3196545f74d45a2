from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlstep.analysis.displacement import displacement, trained_logprobs
from rlstep.types import Pair, PairSamples
from tests.builders import make_sequence


def samples(*pairs: tuple[int, int]) -> PairSamples:
    return PairSamples(
        sequences=tuple(make_sequence(str(i), [2]) for i in range(4)),
        pairs=tuple(
            Pair(
                chosen=chosen,
                rejected=rejected,
                shared_prefix=1,
                chosen_score=1.0,
                rejected_score=0.0,
                provenance="test",
            )
            for chosen, rejected in pairs
        ),
        groups=1,
    )


def test_by_hand():
    before, after = [-3.0, -2.0, -4.0, -5.0], [-3.5, -4.0, -4.0, -4.0]
    # Changes -0.5, -2, 0, 1. Chosen 0, 0, 2, 3: two of four fell; an equal one did not.
    told = displacement(samples((0, 1), (0, 2), (2, 1), (3, 1)), before, after)
    assert told == {
        "displacement/chosen_fell": 0.5,
        "displacement/chosen_change": pytest.approx((-0.5 - 0.5 + 0 + 1) / 4),
        "displacement/rejected_change": pytest.approx((-2 + 0 - 2 - 2) / 4),
    }


def test_nothing_of_no_pairs():
    assert displacement(samples(), [0.0] * 4, [1.0] * 4) == {}


def test_only_trained_tokens_count():
    mask = np.array([False, True, True])
    each = replace(make_sequence("a", [2]), loss_mask=mask)
    rows = [np.array([np.nan, -1.0, -0.5], np.float32)]
    assert trained_logprobs([each], rows).tolist() == [-1.5]
