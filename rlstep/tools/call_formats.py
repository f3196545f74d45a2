"""How open models write calls.

What is marked as a call, and cannot be read, is a broken one. Where a family marks nothing, only
what begins like a call is one. Everything else is said to the user, and ends the conversation.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from rlstep.interfaces import CallFormat
from rlstep.types import BrokenCall, Call

_LONGEST_PYTHON = 20_000
"""Characters of a call that Python's parser is asked about."""


@dataclass(frozen=True, kw_only=True)
class JsonCalls(CallFormat):
    """JSON between two tags, as Hermes, Qwen 2.5 and Qwen 3 write it.

    <tool_call>
    {"name": "calculator", "arguments": {"expression": "7+2*3"}}
    </tool_call>

    What stands beside the tags is no call. An end without a start is one that cannot be read.
    """

    start: str = "<tool_call>"
    """What a call begins with."""
    end: str = "</tool_call>"
    """What it ends with; a turn may end before."""

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not getattr(self, name).strip():
                nearest = type(self).__dataclass_fields__[name].default
                raise ValueError(f"format.{name} is ''; it must be a tag, for instance {nearest!r}")

    @property
    def tags(self) -> tuple[str, ...]:
        return self.start, self.end

    def read(self, text: str) -> list[Call | BrokenCall]:
        found, at = list[Call | BrokenCall](), 0
        while (start := text.find(self.start, at)) >= 0:
            call, at = self._one(text, start + len(self.start))
            found.append(call)
        if not found and self.end in text:
            return [BrokenCall(why=f"it does not begin with {self.start}")]
        return found

    def _one(self, text: str, at: int) -> tuple[Call | BrokenCall, int]:
        """A call whose tag ends at `at`, and from where to look for the next one."""
        call, at = _first(text, at, "arguments")
        end = text.find(self.end, at)
        if end < 0:
            missing = BrokenCall(why=f"it does not end with {self.end}")
            return (call if isinstance(call, BrokenCall) else missing), len(text)
        if isinstance(call, Call) and text[at:end].strip():
            call = BrokenCall(why=f"{self.end} does not follow its JSON")
        return call, end + len(self.end)


@dataclass(frozen=True, kw_only=True)
class XmlCalls(CallFormat):
    """Tags of tool and arguments, as Qwen3-Coder and its successors write them.

    <tool_call>
    <function=calculator>
    <parameter=expression>
    7+2*3
    </parameter>
    </function>
    </tool_call>

    An argument is the text between its tags, without a line's end on either side. What is no string
    by the tool's schema is read as JSON.
    """

    @property
    def tags(self) -> tuple[str, ...]:
        return ("<tool_call>", "</tool_call>")

    def read(self, text: str) -> list[Call | BrokenCall]:
        _, *parts = text.split("<tool_call>")
        return [self._one(*part.partition("</tool_call>")[:2]) for part in parts]

    def _one(self, inside: str, end: str) -> Call | BrokenCall:
        if not end:
            return BrokenCall(why="it does not end with </tool_call>")
        match = re.fullmatch(r"\s*<function=([^<>\s]+)>(.*)</function>\s*", inside, re.DOTALL)
        if match is None:
            return BrokenCall(why="it is not <function=NAME> ... </function>")
        before, *parts = match[2].split("<parameter=")
        arguments = dict[str, str]()
        for part in parts:
            written, closed, after = part.partition("</parameter>")
            name, named, value = written.partition(">")
            if not (closed and named) or after.strip():
                return BrokenCall(why="an argument is not <parameter=NAME> ... </parameter>")
            arguments[name] = value.removeprefix("\n").removesuffix("\n")
        if before.strip():
            return BrokenCall(why="text stands before its first argument")
        return Call(name=match[1], arguments=arguments, texts=True)


@dataclass(frozen=True, kw_only=True)
class MistralCalls(CallFormat):
    """A list of objects, or a name and an object, behind Mistral's mark.

    [TOOL_CALLS] [{"name": "calculator", "arguments": {"expression": "7+2*3"}}]
    [TOOL_CALLS]calculator[ARGS]{"expression": "7+2*3"}

    Nothing may follow a call but another one.
    """

    @property
    def tags(self) -> tuple[str, ...]:
        return "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"

    def read(self, text: str) -> list[Call | BrokenCall]:
        _, marked, rest = text.partition("[TOOL_CALLS]")
        if not marked:
            return []
        calls = rest.strip()
        return self._listed(calls) if calls.startswith("[") else list(self._named(calls))

    def _listed(self, text: str) -> list[Call | BrokenCall]:
        value, at = _json(text, 0)
        if isinstance(value, BrokenCall):
            return [value]
        if not isinstance(value, list) or not value:
            return [BrokenCall(why="it is no list of calls")]
        calls = [_call(entry, "arguments") for entry in value]
        return [*calls, *_rest(text[at:])]

    def _named(self, text: str) -> Iterator[Call | BrokenCall]:
        """Calls until the text ends or cannot be read any further."""
        head = re.compile(r"\s*(?:\[TOOL_CALLS\])?\s*([\w.-]+)(?:\[CALL_ID\]\w+)?\s*(?:\[ARGS\])?")
        at = 0
        while at < len(text) or not text:
            if (match := head.match(text, at)) is None:
                yield BrokenCall(why="it is no name of a tool with its arguments")
                return
            arguments, at = _json(text, match.end())
            yield _named_call(match[1], arguments)
            if isinstance(arguments, BrokenCall):
                return


@dataclass(frozen=True, kw_only=True)
class LlamaCalls(CallFormat):
    """A JSON object, as Llama 3.1 to 3.3 write it; several have a semicolon between them.

    <|python_tag|>{"name": "calculator", "parameters": {"expression": "7+2*3"}}

    The tag is often missing: an object that begins with "name", "type" or "parameters" is a call
    without it. Nothing may follow a call but another one.
    """

    @property
    def tags(self) -> tuple[str, ...]:
        return ("<|python_tag|>",)

    def read(self, text: str) -> list[Call | BrokenCall]:
        _, marked, rest = text.partition("<|python_tag|>")
        rest = rest if marked else text
        if not marked and not re.match(r'\s*\{\s*"(name|type|parameters)"', rest):
            return []
        found, at = list[Call | BrokenCall](), 0
        while not found or (rest[at:].strip() and isinstance(found[-1], Call)):
            call, at = _first(rest, at, "parameters")
            found.append(call)
            after = re.compile(r"\s*;?").match(rest, at)
            at = after.end() if after else at
        return found


@dataclass(frozen=True, kw_only=True)
class PythonCalls(CallFormat):
    """A list of calls in Python's notation, as Llama 4 and OLMo 3 write it. It is read, never run.

    [calculator(expression="7+2*3")]

    Arguments have names, and literals for values.
    """

    def read(self, text: str) -> list[Call | BrokenCall]:
        said = text.strip()
        if not re.match(r"\[\s*[A-Za-z_][\w.]*\s*\(", said):
            return []
        if len(said) > _LONGEST_PYTHON:
            return [BrokenCall(why=f"it has more than {_LONGEST_PYTHON} characters")]
        try:
            tree = ast.parse(said, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return [BrokenCall(why=f"it is no Python: {type(error).__name__}")]
        if not isinstance(tree, ast.List):
            return [BrokenCall(why="it is no list of calls")]
        return [self._one(node) for node in tree.elts]

    def _one(self, node: ast.expr) -> Call | BrokenCall:
        if not isinstance(node, ast.Call) or node.args:
            return BrokenCall(why="it is not NAME(ARGUMENT=VALUE, ...)")
        arguments = dict[str, Any]()
        for keyword in node.keywords:
            if keyword.arg is None:
                return BrokenCall(why="an argument has no name")
            try:
                value = json.dumps(ast.literal_eval(keyword.value), allow_nan=False)
            except (ValueError, TypeError, RecursionError, MemoryError):
                return BrokenCall(why=f"{keyword.arg} is no number, text, list or object")
            arguments[keyword.arg] = json.loads(value)
        return Call(name=ast.unparse(node.func), arguments=arguments)


# --- JSON ----------------------------------------------------------------------------------------


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")


_DECODE: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(parse_constant=_refuse).raw_decode


def _json(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that begins at `at` or behind white space, and where it ends; a BrokenCall and
    `at` where there is none."""
    try:
        return _DECODE(text, len(text) - len(text[at:].lstrip()))
    except ValueError as error:
        return BrokenCall(why=f"it is no JSON: {error}"), at
    except RecursionError:
        return BrokenCall(why="it is nested too deeply"), at


def _first(text: str, at: int, key: str) -> tuple[Call | BrokenCall, int]:
    value, at = _json(text, at)
    return (value if isinstance(value, BrokenCall) else _call(value, key)), at


def _call(value: Any, key: str) -> Call | BrokenCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or key not in value:
        return BrokenCall(why=f'it is no object with "name" and "{key}"')
    return _named_call(value["name"], value[key])


def _named_call(name: str, arguments: Any) -> Call | BrokenCall:
    if isinstance(arguments, BrokenCall):
        return arguments
    if not isinstance(arguments, dict):
        return BrokenCall(why=f"its arguments are no object but {type(arguments).__name__}")
    return Call(name=name, arguments=arguments)


def _rest(text: str) -> list[BrokenCall]:
    return [BrokenCall(why="text follows it")] if text.strip() else []
