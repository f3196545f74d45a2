from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlstep.pairs.divergence import divergences
from tests.builders import make_rollout


def found(*steps: list[list[int]]) -> list[tuple[int, list[list[str]]]]:
    rollouts = [make_rollout(f"{i}", each) for i, each in enumerate(steps)]
    return [
        (at.step, [[r.rollout_id for r in sibling] for sibling in at.siblings])
        for at in divergences(rollouts)
    ]


def test_a_tree_worked_by_hand():
    # 0 and 1 share two steps; 2 leaves them after one; 3 goes its own way; 4 ends after one step.
    rollouts = [
        [[11], [12, 13], [14]],
        [[11], [12, 13], [15]],
        [[11], [16]],
        [[17], [16]],
        [[11]],
    ]
    assert found(*rollouts) == [
        (0, [["0", "1", "2", "4"], ["3"]]),
        (1, [["0", "1"], ["2"]]),
        (2, [["0"], ["1"]]),
    ]


def test_steps_that_are_cut_otherwise_are_different():
    assert found([[11], [12]], [[11, 12]]) == [(0, [["0"], ["1"]])]


def test_nothing_diverges():
    assert found() == found([]) == found([[11], [12]]) == found([[11], [12]], [[11]]) == []


def test_a_thousand_steps():
    same = [[11]] * 999
    assert found([*same, [12]], [*same, [13]]) == [(999, [["0"], ["1"]])]


@given(st.lists(st.lists(st.integers(0, 1), max_size=4), max_size=6))
def test_every_prefix_against_a_direct_search(chains: list[list[int]]):
    prefixes = {tuple(c[:k]) for c in chains for k in range(len(c))}
    expected = []
    for prefix in prefixes:
        k = len(prefix)
        nexts = {
            step: [str(i) for i, c in enumerate(chains) if tuple(c[: k + 1]) == (*prefix, step)]
            for step in (0, 1)
        }
        if all(nexts.values()):
            expected.append((k, sorted(nexts.values())))
    made = found(*([[token] for token in chain] for chain in chains))
    assert sorted((k, sorted(siblings)) for k, siblings in made) == sorted(expected)
