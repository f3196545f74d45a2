"""Who had something to do, by hand, and that busy, sync and idle time are the whole."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.measuring.busy import SYNC, Busy


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_several_things_at_once_count_once_and_a_sync_is_nobodys_work() -> None:
    clock = Clock()
    busy = Busy(clock)
    with busy.of("generator"):  # 100 .. 106
        clock.now += 2.0
        with busy.of("generator"):  # at once: 102 .. 103
            clock.now += 1.0
        with busy.of(SYNC), busy.of("prm"):  # 103 .. 105; the PRM goes on
            clock.now += 2.0
        clock.now += 1.0
    with busy.of("policy"):  # 106 .. 109
        clock.now += 3.0
    clock.now += 1.0  # nobody: 109 .. 110
    shares = busy.shares()
    assert shares == pytest.approx({"generator": 0.4, SYNC: 0.2, "prm": 0.2, "policy": 0.3})


def test_what_is_under_way_belongs_to_both_windows() -> None:
    clock = Clock()
    busy = Busy(clock)
    with busy.of("generator"):
        clock.now += 1.0
        assert busy.shares() == {"generator": 1.0}
        clock.now += 1.0
    clock.now += 3.0
    assert busy.shares() == {"generator": 0.25}
    clock.now += 1.0
    assert busy.shares() == {"generator": 0.0}
    assert busy.shares() == {"generator": 0.0}  # in no time at all


@given(st.lists(st.tuples(st.sampled_from(["generator", "policy", SYNC, "scorer"]), st.booleans())))
def test_busy_sync_and_idle_are_the_whole(events: list[tuple[str, bool]]) -> None:
    """Of generators and learner, whatever overlaps: counted second by second beside it."""
    clock, open_ = Clock(), {name: ExitStack() for name in ("generator", "policy", SYNC, "scorer")}
    busy = Busy(clock)
    depth = dict.fromkeys(open_, 0)
    counted = dict.fromkeys(open_, 0)
    for role, begins in events:
        if begins:
            open_[role].enter_context(busy.of(role))
            depth[role] += 1
        else:
            open_[role].close()
            depth[role] = 0
        clock.now += 1.0
        for name, asked in depth.items():
            counted[name] += bool(asked) and not (depth[SYNC] and name in ("generator", "policy"))
    shares = busy.shares()
    for name, share in shares.items():
        assert share == pytest.approx(counted[name] / max(len(events), 1))
    for name in ("generator", "policy"):
        assert 0.0 <= shares.get(name, 0.0) + shares.get(SYNC, 0.0) <= 1.0 + 1e-9
