"""Which nodes are tried, and in which order; worked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from rlstep.self_play.search import BreadthFirst, DepthFirst, Node, TreeSearch
from tests.builders import make_rollout


def node(name: str, value: float, depth: int) -> Node:
    return Node(rollout=make_rollout(name, [[1]]), value=value, depth=depth)


def name(found: Node | None) -> str | None:
    return found and found.rollout.rollout_id


VALUES = {
    "r": 0.0,
    **{"ra": 0.2, "rb": 0.4, "rc": 0.4},
    **{"raa": 0.0, "rab": 0.6, "rba": 0.1, "rbb": 0.2, "rbc": 0.0, "rca": 0.0, "rcb": 0.3},
    **{"rbba": 0.5, "rbbb": 0.0, "rcba": 0.8, "rcbb": 1.0},
}
"""A refinement's name is its parent's and a letter."""


async def run(
    search: TreeSearch, values: Mapping[str, float] = VALUES
) -> tuple[str | None, list[list[str]]]:
    """What is found, and what was refined at a time."""
    asked: list[list[str]] = []

    async def expand(parents: Sequence[Node]) -> list[Node]:
        names = [parent.rollout.rollout_id for parent in parents]
        asked.append(names)
        return [
            node(n, values[n], len(n) - 1) for parent in names for n in values if n[:-1] == parent
        ]

    return name(await search.find(node("r", values["r"], 0), expand)), asked


async def test_breadth_first() -> None:
    # rb and rc (0.4 each) are kept, ra (0.2) is not, so that rab (0.6) is never made. Of the next
    # depth rcb (0.3) and rbb (0.2); of the third rcbb (1.0) is the best that is accepted.
    assert await run(BreadthFirst()) == ("rcbb", [["r"], ["rb", "rc"], ["rcb", "rbb"]])


async def test_depth_first() -> None:
    # rb before rc; of rb's, rbb (0.2) and then rba (0.1), which has none; then rc: rcb, rcbb.
    assert await run(DepthFirst()) == (
        "rcbb",
        [["r"], ["rb"], ["rbb"], ["rba"], ["rc"], ["rcb"]],
    )


async def test_three_kept_find_it_one_depth_before() -> None:
    assert await run(BreadthFirst(keep=3)) == ("rab", [["r"], ["rb", "rc", "ra"]])


@pytest.mark.parametrize("kind", [BreadthFirst, DepthFirst])
async def test_it_ends_at_the_depth_or_without_children(kind: type[TreeSearch]) -> None:
    found, asked = await run(kind(depth=1))
    assert (found, asked) == (None, [["r"]])
    assert await run(kind(), {"r": 0.0}) == (None, [["r"]])
    assert (await run(kind(above=0.3)))[0] == "rb"  # of equals the first


@pytest.mark.parametrize("kind", [BreadthFirst, DepthFirst])
async def test_exactly_half_is_not_accepted(kind: type[TreeSearch]) -> None:
    assert (await run(kind(), {"r": 0.0, "ra": 0.5}))[0] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branch": 0}, r"search\.branch is 0; the smallest valid value is 1"),
        ({"keep": 0}, r"search\.keep is 0"),
        ({"depth": 0}, r"search\.depth is 0"),
        ({"above": 1.5}, r"search\.above is 1\.5; the largest valid value is 1"),
        ({"above": 1.0}, r"search\.above is 1\.0, above which is nothing"),
    ],
)
def test_bad_values_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BreadthFirst(**fields)
