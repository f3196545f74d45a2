"""What a policy of mixed quality would write about instructions with constraints: answers,
judgments of answers and refinements of wrong ones, all of them made by the exact check.

The habit that is planted: of a careless answer the last constraint is forgotten.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from rlstep.scoring.answers.constraints_met import COMMA, LINE, SEPARATORS, SPACE, violated
from rlstep.tasks.constraints import LONGEST, MET, MISSED, SHORTEST, WORDS

TRIES = 60
"""Drafts of one answer, until one is as it is wanted."""
_OPPOSITES = {
    r"with (\w+)": ("without {0}",),
    r"without (\w+)": ("with {0}",),
    r"(\w+) before (\w+)": ("{1} before {0}",),
    r"starts with (\w+)": ("ends with {0}",),
    r"ends with (\w+)": ("starts with {0}",),
    r"separated by commas": ("one word a line",),
    r"one word a line": ("separated by commas",),
}


@dataclass
class _Wanted:
    """Constraints as they are written down by."""

    count: int = 0
    letters: int = 0
    starts: str = ""
    ends: str = ""
    inside: tuple[str, ...] = ()
    """In this order."""
    without: frozenset[str] = frozenset()
    separator: str = ""

    @classmethod
    def of(cls, constraints: Sequence[str]) -> "_Wanted":
        text = "; ".join(constraints)

        def found(pattern: str) -> list[str]:
            return re.findall(rf"(?:^|; ){pattern}(?:$|(?=; ))", text)

        before = re.findall(r"(?:^|; )(\w+) before (\w+)", text)
        inside = [word for pair in before for word in pair]
        inside += [word for word in found(r"with (\w+)") if word not in inside]
        return cls(
            count=int((found(r"exactly (\d+) words") or [0])[0]),
            letters=int((found(r"at most (\d+) letters") or [0])[0]),
            starts=(found(r"starts with (\w+)") or [""])[0],
            ends=(found(r"ends with (\w+)") or [""])[0],
            inside=tuple(inside),
            without=frozenset(found(r"without (\w+)")),
            separator=COMMA if "separated by commas" in text
            else LINE if "one word a line" in text else "",
        )  # fmt: skip


def _draft(wanted: _Wanted, rng: Random) -> str:
    """An answer that is likely to be as wanted."""
    needed = [w for w in wanted.inside if w not in (wanted.starts, wanted.ends)]
    least = max(SHORTEST, len(needed) + bool(wanted.starts) + bool(wanted.ends))
    most = max(least, min(LONGEST, wanted.letters // 4 if wanted.letters else 5))
    count = wanted.count or rng.randint(least, most)
    free = [word for word in WORDS if word not in wanted.without and word not in wanted.inside]
    if wanted.letters and rng.random() < 0.8:
        free = sorted(free, key=len)[: max(2, len(free) // 2)]
    words = [rng.choice(free) for _ in range(count)]
    if rng.random() < 0.8:
        words = rng.sample(free, min(count, len(free)))
    edges = (1 if wanted.starts else 0, count - (1 if wanted.ends else 0))
    places = list(range(*edges))
    for place in sorted(rng.sample(places, min(len(places), len(needed)))):
        words[place] = needed.pop(0)
    if wanted.starts:
        words[0] = wanted.starts
    if wanted.ends:
        words[-1] = wanted.ends
    return (wanted.separator or rng.choice((SPACE, SPACE, *SEPARATORS))).join(words)


def careful(constraints: Sequence[str], example: str, rng: Random) -> str:
    """An answer that meets all constraints; the example, where none is found."""
    wanted = _Wanted.of(constraints)
    drafts = (_draft(wanted, rng) for _ in range(TRIES))
    return next((text for text in drafts if not violated(constraints, text)), example)


def careless(constraints: Sequence[str], example: str, forgotten: int, rng: Random) -> str:
    """An answer that meets all constraints but the one at a place; a careful one, where none is
    found."""
    lost = constraints[forgotten]
    rest = [constraint for constraint in constraints if constraint != lost]
    wanted = _Wanted.of([*rest, *_opposite(lost)])
    for _ in range(TRIES):
        text = _draft(wanted, rng)
        if violated(constraints, text) == [lost]:
            return text
    return careful(constraints, example, rng)


def _opposite(constraint: str) -> list[str]:
    if match := re.fullmatch(r"exactly (\d+) words", constraint):
        count = int(match[1])
        return [f"exactly {count + 1 if count < LONGEST else count - 1} words"]
    for pattern, opposites in _OPPOSITES.items():
        if match := re.fullmatch(pattern, constraint):
            return [opposite.format(*match.groups()) for opposite in opposites]
    return []


def judgment(constraints: Sequence[str], answer: str) -> list[str]:
    """What is to be said of each constraint, a line each, and the verdict.

    A tiny policy learns to check one constraint at a time sooner than to name those that are
    missed.
    """
    missed = violated(constraints, answer)
    said = [f"{each}{MISSED if each in missed else MET}\n" for each in constraints]
    return [*said, f"Verdict: {'WRONG' if missed else 'CORRECT'}"]


def refined(constraints: Sequence[str], answer: str, example: str, rng: Random) -> str:
    """A wrong answer with as little changed as it takes: an edit at a time, each time one of those
    after which the fewest constraints are missed. The example, where that leads nowhere."""
    missed = len(violated(constraints, answer))
    for _ in range(LONGEST):
        scored = [(len(violated(constraints, text)), text) for text in _edits(answer)]
        least = min(number for number, _ in scored)
        if least > missed:
            break
        answer = rng.choice([text for number, text in scored if number == least])
        missed = least
        if not missed:
            return answer
    return example


def altered(answer: str, rng: Random) -> str:
    """One edit somewhere."""
    return rng.choice(list(_edits(answer)))


def _edits(answer: str) -> Iterator[str]:
    """Every answer that is one word left out, put in, replaced or moved, or other separators, away;
    its separators are made alike."""
    words = re.findall(r"\w+", answer)
    used = re.findall(r", | |\n", answer)
    own = used[0] if used else SPACE
    yield from (separator.join(words) for separator in SEPARATORS if separator != own)
    for place in range(len(words)):
        without = words[:place] + words[place + 1 :]
        if without:
            yield own.join(without)
        yield from (own.join([*without[:to], words[place], *without[to:]])
                    for to in range(len(words)) if to != place)  # fmt: skip
        yield from (own.join([*words[:place], w, *words[place + 1 :]])
                    for w in WORDS if w != words[place])  # fmt: skip
    if len(words) < LONGEST:
        for place in range(len(words) + 1):
            yield from (own.join([*words[:place], w, *words[place:]]) for w in WORDS)
