"""From a call to what the policy reads."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from json import loads
from typing import Any

from rlstep.interfaces import Tool
from rlstep.types import BrokenCall, Call

_LONGEST_WHY = 300
"""Characters of an error that the policy reads."""


def answered(call: Call | BrokenCall, tools: Sequence[Tool]) -> str | BrokenCall:
    """A tool's answer, or why there is none. Raises what a tool does, its ValueError aside."""
    if isinstance(call, BrokenCall):
        return _broken(call.why)
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        return _broken(_unknown(call.name, [tool.name for tool in tools]))
    arguments = _typed(call, tool) if call.texts else dict(call.arguments)
    if fault := _fault(arguments, tool):
        return _broken(fault)
    try:
        return tool.call(arguments)
    except ValueError as error:
        return _broken(str(error))


def _broken(why: str) -> BrokenCall:
    return BrokenCall(why=" ".join(why.split())[:_LONGEST_WHY])


def _unknown(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(map(repr, names))}"
    return f"there is no tool {name[:80]!r}; {hint}"


def _typed(call: Call, tool: Tool) -> dict[str, Any]:
    """Arguments that were written as texts, as the schema says: what is no string there is JSON.
    Text that cannot be read so stays one, for the schema to refuse."""
    known = tool.parameters.get("properties", {})
    return {
        name: text if known.get(name, {}).get("type") == "string" else _value(text)
        for name, text in call.arguments.items()
    }


def _value(text: str) -> Any:
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return text


def _fault(arguments: dict[str, Any], tool: Tool) -> str:
    """What does not fit a tool's parameters, '' if nothing is."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator(type(tool)).iter_errors(arguments))
    if error is None:
        return ""
    place = f"{'.'.join(map(str, error.absolute_path))}: " if error.absolute_path else ""
    return f"the arguments of {tool.name} do not fit: {place}{error.message}"


@cache
def _validator(kind: type[Tool]) -> Any:
    """Of what a tool's schema does not say otherwise, unknown arguments are refused."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator({"additionalProperties": False, **kind.parameters})


def check(tools: Sequence[Tool], deadline_s: float) -> None:
    """Refuse tools that cannot work, or cannot be told apart.

    Args:
        deadline_s: see `Tool.check`.

    Raises:
        ValueError: says which, and why.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    names = [tool.name for tool in tools]
    if not names:
        raise ValueError("environment.tools is empty; name at least one tool")
    for place, tool in enumerate(tools):
        if not tool.name.strip() or tool.name in names[:place]:
            raise ValueError(
                f"environment.tools.{place}.name is {tool.name!r}; every tool has a name of its own"
            )
        try:
            Draft202012Validator.check_schema(dict(tool.parameters))
        except SchemaError as error:
            kind = type(tool).__name__
            raise ValueError(f"{kind}.parameters is no JSON schema: {error.message}") from error
        if tool.parameters.get("type") != "object":
            raise ValueError(f"{type(tool).__name__}.parameters must be of type 'object'")
        tool.check(deadline_s)
