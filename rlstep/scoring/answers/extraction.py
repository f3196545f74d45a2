r"""Finding the final answer in the text of a solution, before anything is compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rlstep.scoring.answers.answer_text import NUMBER
from rlstep.scoring.answers.comparison import compare
from rlstep.types import Verdict

Found = tuple[int, str]
"""Where an answer stands, and the answer."""

_DASHES = "\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}\N{FULLWIDTH HYPHEN-MINUS}\N{SMALL HYPHEN-MINUS}"
_LISTED = re.compile(r"\(?\d+(?:\.\d+)*[.):]+\s+(?![+*/^=<>-])\S")  # '2. Double' and '(2) Double'
_WORD_ALONE = re.compile(r"(?:[A-Z]|(?i:yes|no|true|false))[ \t*.]*")
_HASHES = re.compile(
    rf"####[ \t*]*(?=[-+.$\\({{\[\d{_DASHES}]|{_WORD_ALONE.pattern}$)(.*)", re.MULTILINE
)
_FORMULA = re.compile(r"\$[^$]*\$|\\[a-zA-Z]+\s*(?:\{[^{}]*\})*")
_WORD = re.compile(r"(?<![a-zA-Z])[a-zA-Z]{2,}")
_UNIT_WORDS = 3  # as in 'miles per hour'
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_OR = re.compile(
    r"[\s$.,;)]*(?:,|;|\\text\s*\{\s*(?:or|and)\s*\}|\b(?:or|and)\b)"
    r"[\s$(\\]*(?:[a-zA-Z](?:_\{?\w+\}?)?\s*=\s*)?[\s$]*"
)
_BETWEEN = 60  # characters at most between the boxes of a disjunction
_TAGGED = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_PHRASE = re.compile(
    r"(?:^[ \t>*_]*(?:the |final |my )*(?:answer|a)[ \t*_]*:"
    r"|\b(?:answer|(?:correct|right|best) (?:option|choice))(?:[ \t]+is\b|:))"
    r"[ \t:]*(?:[*_]+[ \t]+)?(?:(?=\S)(.*?)(?:\.(?:\s|$)|$)|(?=$)(?:\s*\n)(.*))",
    re.IGNORECASE | re.MULTILINE,
)
_MARKS = (":", "answer", "option", "choice")
"""No phrase is without one of these; looking for them first takes a tenth of the time."""
_AGAIN = re.compile(r"\banswer(?:[ \t]+is\b|:)[ \t:]*(?=[^ \t:])", re.IGNORECASE)
_ADVERBS = re.compile(
    r"(?:(?:therefore|thus|then|hence|now|simply|just|indeed|clearly|actually|equal to|given by"
    r"|approximately|about|roughly|around)"
    r"\b[ \t,:]*)+",
    re.IGNORECASE,
)
_EMPHASIS = re.compile(r"(\*\*|__|\*|`|\")[ \t]*(?=\S)(.+?)[ \t]*\1")
_REASON = re.compile(
    r"[ \t]*[,;]?[ \t]+(?:[-(\N{EN DASH}\N{EM DASH}]+[ \t]*)?(?:(?:and|but)[ \t]+)?"
    r"\b(?:because|since|as|so|which|due|hence|thus|therefore|see|given that|according|after"
    r"|i\.e|that is|this is|we|rounded"
    r"|obtained|not|rather than|instead of)\b.*"
    r"|[ \t]+\((?!mod\b)[a-zA-Z]{2}.*",
    re.IGNORECASE,
)
_NUMBERS = re.compile(rf"(?<![0-9a-zA-Z)])[{_DASHES}]?{NUMBER}(?<=[0-9])|[0-9]+")
_LED = re.compile(rf"\$?[{_DASHES}]?{NUMBER}(?<=[0-9])(?=[ \t]+[a-zA-Z]{{2}})")


def _final(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for match in pattern.finditer(text):
        last = match
    return last


def _hashes(text: str) -> Found | None:
    found = [m for m in _HASHES.finditer(text) if _WORD_ALONE.fullmatch(m[1]) or _is_value(m[1])]
    return (found[-1].start(1), found[-1][1]) if found else None


def _is_value(line: str) -> bool:
    """Whether a value is all that a line holds, a unit aside; a heading numbers what it names."""
    words = _WORD.findall(_FORMULA.sub(" ", line))
    named = any(word[0].isupper() and not word.isupper() for word in words)
    return not _LISTED.match(line) and len(words) <= _UNIT_WORDS and not named


def _boxes(text: str) -> Iterator[tuple[int, int, str | None]]:
    """(start, end, content) of each box, the last one first; no content of one never closed."""
    for start, inner in reversed([match.span() for match in _BOX.finditer(text)]):
        depth = 1
        for token in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, inner):
            depth += {"{": 1, "}": -1}.get(token.group(), 0)
            if depth == 0:
                yield start, token.end(), text[inner : token.start()]
                break
        else:
            yield start, len(text), None


def _boxed(text: str) -> Found | None:
    """The last box that holds something; or all of the last disjunction, in order. Where two of it
    are equal, one value written twice ('15 39/40 or 639/40'), the last of them stands for both."""
    empty, last, values, at = None, 0, [], 0
    for start, end, content in _boxes(text):
        if content is None:
            return start, ""
        if not content.strip():
            if values:
                break
            empty = start, ""
            continue
        between = text[end:at] if values else ""
        if values and (end > at or len(between) > _BETWEEN or not _OR.fullmatch(between)):
            break
        last, at = (last if values else start), start
        values.append(content.strip())
    return (last, ", ".join(reversed(_different(values)))) if values else empty


def _different(values: list[str]) -> list[str]:
    """Without those that equal one before them."""
    kept = values[:1]
    for value in values[1:]:
        if not any(compare(value, other) is Verdict.CORRECT for other in kept):
            kept.append(value)
    return kept


def last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{}` or `\fbox{}` that is not empty holds, '' where its brace never
    closes or all are empty, None where there is none."""
    contents = [content for _, _, content in _boxes(text)]
    if not contents:
        return None
    return next((content or "" for content in contents if content is None or content.strip()), "")


def _tagged(text: str) -> Found | None:
    found = [match for match in _TAGGED.finditer(text) if match[1].strip()]
    if not found:
        return None
    inside = found[-1][1].strip()
    rules = (_boxed, _hashes, _phrase)
    marked = next((it[1] for rule in rules if (it := rule(inside)) and it[1]), inside)
    return found[-1].end(), marked


def _phrase(text: str) -> Found | None:
    lower = text.lower()
    if not any(mark in lower for mark in _MARKS):
        return None
    for found in reversed(list(_PHRASE.finditer(text))):
        if found[1] is not None:
            again = _final(_AGAIN, found[1])
            return found.start(1), _said(found[1][again.end() :] if again else found[1])
        if found[2].strip() and _is_value(found[2].strip().strip("*")):
            return found.start(2), _said(found[2].strip().removesuffix("."))
    return None


def _said(sentence: str) -> str:
    """The value that a sentence gives, without its reason, its remarks and its emphasis."""
    value = _ADVERBS.sub("", sentence, count=1) if _ADVERBS.match(sentence) else sentence
    if emphasis := _EMPHASIS.match(value):
        return emphasis[2]
    value = _REASON.sub("", value.lstrip(" \t*:"), count=1)
    number = _LED.match(value)
    if number and len(_WORD.findall(value[number.end() :])) > _UNIT_WORDS:
        return number[0]
    return value


def _number(text: str) -> Found | None:
    found = _final(_NUMBERS, text)
    return (found.start(), found[0]) if found else None


RULES: dict[str, Callable[[str], Found | None]] = {
    "answer": _tagged,
    "hashes": _hashes,
    "boxed": _boxed,
    "phrase": _phrase,
    "number": _number,
}


def extract(text: str, rules: tuple[str, ...]) -> str:
    """The final answer as it stands in a text, '' if there is none.

    Args:
        rules: names of RULES in order of precedence; of 'hashes|boxed' what stands later counts.
    """
    for rule in rules:
        found = [it for name in rule.split("|") if (it := RULES[name](text)) is not None]
        if found:
            return max(found)[1].strip()
    return ""


def cut_off(text: str, answer: str) -> bool:
    """Whether an answer reaches the end of a text that was cut there, so that more of it may have
    been to come: '18' may be the beginning of 180, and '18.' of 18.5."""
    return bool(answer) and text.rstrip(" \t.,").endswith(answer.rstrip(" \t.,"))


def one_group(name: str, pattern: str) -> None:
    """Refuse a pattern of which it is not clear what it reads.

    Args:
        name: of the field.

    Raises:
        ValueError: it is no regular expression, or has not one group.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{name} is {pattern!r}, no regular expression: {error}") from error
    if groups != 1:
        raise ValueError(f"{name} has {groups} groups; it needs exactly 1")
