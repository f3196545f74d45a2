"""What judges have in common: what they are asked, what of their answer counts, and their votes.

A judgment ends with a line such as `Verdict: CORRECT`, and only that line of it is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

from rlstep.types import Failure, OutcomeScore, Rollout, Verdict, Votes

UNPARSABLE = "unparsable_judgment"
"""The reason of a Failure where a judgment came, but no verdict can be read from it."""

OBSERVED = """\
Between tags that begin with `observed` stands what was answered to the solution as it went on. It
is not what the solution says, and is not itself to be judged.

"""
"""Before what a judge is asked, where something was observed."""

_VERDICT = re.compile(r"[*_#\s]*Verdict:[*_\s]*([A-Z]+)[*_.\s]*")
_PLACE = re.compile(r"\{(\w+)\}")


def check_template(name: str, template: str, needed: Sequence[str], words: Sequence[str]) -> None:
    """Refuse a template that lacks a place, or that does not tell the judge how to end.

    Args:
        name: of the field.
        needed: places that must stand in it, as '{solution}'.
        words: the verdicts it must tell of.

    Raises:
        ValueError: naming the field and what is missing.
    """
    missing = [f"{{{place}}}" for place in needed if f"{{{place}}}" not in template]
    missing += [word for word in ("Verdict:", *words) if word not in template]
    if missing:
        raise ValueError(
            f"{name} lacks {', '.join(map(repr, missing))}; it must hold every text that is judged"
            f" and tell the judge to end with 'Verdict: {words[0]}' or another of {list(words)}"
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """A part of a text that was observed: no word of whoever is judged."""

    text: str


Text: TypeAlias = str | Sequence[str | Seen]
"""A text, or its parts in order."""


def render(template: str, texts: Mapping[str, Text]) -> str:
    """The template with each '{name}' replaced by that text, between tags of its name.

    Data is never instruction: the tags carry a number that stands in no text and follows from all
    of them, so no text can close its own tags. What a text says within them is what is judged.
    A '{name}' that is not among the texts stays as it is. What was observed has tags of its own
    within, and a sentence before the template says so.
    """
    parts = {name: [text] if isinstance(text, str) else text for name, text in texts.items()}
    plain = ["".join(p.text if isinstance(p, Seen) else p for p in each) for each in parts.values()]
    number = _absent_number(plain)

    def tagged(name: str, text: str) -> str:
        return f"<{name}-{number}>\n{text}\n</{name}-{number}>"

    def written(part: str | Seen) -> str:
        return f"\n{tagged('observed', part.text)}\n" if isinstance(part, Seen) else part

    def fenced(match: re.Match[str]) -> str:
        name = match[1]
        return tagged(name, "".join(map(written, parts[name]))) if name in parts else match[0]

    told = _PLACE.sub(fenced, template)  # one pass: a text's own '{name}' is not replaced
    seen = any(isinstance(part, Seen) for each in parts.values() for part in each)
    return OBSERVED + told if seen else told


def _absent_number(texts: Sequence[str]) -> str:
    salt = 0
    while True:
        told = "\0".join([str(salt), *texts]).encode(errors="surrogatepass")
        number = blake2b(told, digest_size=4).hexdigest()
        if not any(number in text for text in texts):
            return number
        salt += 1


def read_verdict(judgment: str | Failure, words: Sequence[str]) -> str | Failure:
    """The word of the last line `Verdict: WORD`, or a Failure.

    Strict: it is the last line that is not blank, it holds nothing else (Markdown's emphasis and a
    full stop aside), and the word is one of those that were asked for. A verdict that the judge
    quotes on the way is none.
    """
    if isinstance(judgment, Failure):
        return judgment
    last = judgment.strip().rpartition("\n")[2]
    match = _VERDICT.fullmatch(last)
    if match is None or match[1] not in words:
        return Failure(reason=UNPARSABLE, detail=f"the last line is {last[:80]!r}")
    return match[1]


def outcome_of_votes(votes: Sequence[float | Failure]) -> OutcomeScore | Failure:
    """The majority's outcome, with the share of votes as its value.

    Args:
        votes: 1.0 for correct, 0.0 for wrong, 0.5 for a tie, or why there is no vote.

    Returns:
        Failures have no vote. Without any vote left, the most frequent of them (the first of
        these); Failure('tie') where neither side has more.
    """
    failures = [vote for vote in votes if isinstance(vote, Failure)]
    cast = [vote for vote in votes if not isinstance(vote, Failure)]
    if not cast:
        [(reason, _)] = Counter(failure.reason for failure in failures).most_common(1)
        return next(failure for failure in failures if failure.reason == reason)
    unparsable = sum(failure.reason == UNPARSABLE for failure in failures)
    counts = Votes(
        correct=cast.count(1.0),
        wrong=cast.count(0.0),
        tied=cast.count(0.5),
        unparsable=unparsable,
        failed=len(failures) - unparsable,
    )
    if counts.correct == counts.wrong:
        return Failure(reason="tie", detail=str(counts))
    correct = counts.correct > counts.wrong
    return OutcomeScore(
        value=sum(cast) / len(cast),
        verdict=Verdict.CORRECT if correct else Verdict.WRONG,
        extracted="",
        votes=counts,
    )


def problem_of(rollout: Rollout) -> str:
    """The bare problem, if the task left it in the prompt's meta, else the whole prompt."""
    return rollout.prompt.meta.get("problem", rollout.prompt.text)


def solution_of(rollout: Rollout, steps: int | None = None) -> list[str | Seen]:
    """The completion, with the words that it was made to begin with; of a number of steps, what
    stands before the step of that number."""
    begun = rollout.prompt.meta.get("suffix", "")
    if steps is None and not rollout.completion.observed:
        return [begun + rollout.completion.text]
    parts: list[str | Seen] = [begun]
    for k in range(-1, len(rollout.steps) if steps is None else steps):
        if k >= 0:
            parts.append(rollout.step_text(k))
        if seen := rollout.observation_text(k):
            parts.append(Seen(seen))
    return parts


def odd(name: str, votes: int) -> None:
    """Refuse a number of votes that invites ties.

    Raises:
        ValueError: naming the field and the nearest valid value.
    """
    if votes < 1 or votes % 2 == 0:
        raise ValueError(f"{name} is {votes}; the nearest valid value is {max(1, votes - 1)}")
