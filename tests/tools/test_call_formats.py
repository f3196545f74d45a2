"""Calls as open models write them: what is one, what is a broken one, and what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstep.interfaces import CallFormat
from rlstep.tools.call_formats import JsonCalls, LlamaCalls, MistralCalls, PythonCalls, XmlCalls
from rlstep.types import BrokenCall, Call

JSON = '{"name": "add", "arguments": {"a": 1, "b": [2, "x"]}}'
LLAMA = JSON.replace("arguments", "parameters")
XML = "<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n{}\n</parameter>\n</function>"
FORMATS = [JsonCalls(), XmlCalls(), MistralCalls(), LlamaCalls(), PythonCalls()]


def tagged(inside: str) -> str:
    return f"<tool_call>\n{inside}\n</tool_call>"


def call(name: str, texts: bool = False, **arguments: Any) -> Call:
    return Call(name=name, arguments=arguments, texts=texts)


def added(b: Any = "x", a: Any = 1) -> Call:
    return call("add", a=a, b=[2, b])


def written(b: str) -> Call:
    return call("add", texts=True, a="1", b=b)


WHOLE: list[tuple[CallFormat, str, list[Call]]] = [
    (JsonCalls(), tagged(JSON), [added()]),
    (JsonCalls(), f"<tool_call>{JSON}</tool_call>", [added()]),
    (JsonCalls(), f"I add.\n{tagged(JSON)}\nWait.", [added()]),
    (JsonCalls(), tagged(JSON) + tagged(JSON), [added(), added()]),
    (JsonCalls(), tagged('{"arguments": {}, "name": "now", "id": 3}'), [call("now")]),
    (JsonCalls(), tagged(JSON.replace("x", "</tool_call>")), [added("</tool_call>")]),
    (JsonCalls(), tagged(JSON.replace("x", "<tool_call>")), [added("<tool_call>")]),
    (JsonCalls(start="<|call|>", end="<|end|>"), f"<|call|>{JSON}<|end|>", [added()]),
    (JsonCalls(), tagged(JSON.replace("1", "1.5e3").replace('"x"', "null")), [added(None, 1500.0)]),
    (XmlCalls(), tagged(XML.format("x")), [written("x")]),
    (XmlCalls(), tagged(XML.format("two\n lines\n")), [written("two\n lines\n")]),
    (XmlCalls(), tagged(XML.format("1 < 2 > 0")), [written("1 < 2 > 0")]),
    (XmlCalls(), f"So: {tagged('<function=now></function>')}", [call("now", texts=True)]),
    (XmlCalls(), tagged(XML.format("a")) + tagged(XML.format("b")), [written("a"), written("b")]),
    (MistralCalls(), f"[TOOL_CALLS] [{JSON}]", [added()]),
    (MistralCalls(), f"[TOOL_CALLS][{JSON}, {JSON}]\n", [added(), added()]),
    (MistralCalls(), '[TOOL_CALLS]add[ARGS]{"a": 1, "b": [2, "x"]}', [added()]),
    (MistralCalls(), '[TOOL_CALLS]add{"a": 1, "b": [2, "x"]}', [added()]),
    (MistralCalls(), 'Now.[TOOL_CALLS]add[CALL_ID]a1b2[ARGS]{"a": 1, "b": [2, "x"]}', [added()]),
    (MistralCalls(), "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]now[ARGS]{}", [call("now")] * 2),
    (LlamaCalls(), LLAMA, [added()]),
    (LlamaCalls(), f"<|python_tag|>{LLAMA}", [added()]),
    (LlamaCalls(), f" \n{LLAMA}\n", [added()]),
    (LlamaCalls(), f"{LLAMA}; {LLAMA}", [added(), added()]),
    (LlamaCalls(), LLAMA.replace('"name"', '"type": "function", "name"'), [added()]),
    (PythonCalls(), "[add(a=1, b=[2, 'x'])]", [added()]),
    (PythonCalls(), '\n[ add( a = 1, b = (2, "x") ) ]', [added()]),
    (PythonCalls(), "[now(), math.now()]", [call("now"), call("math.now")]),
    (
        PythonCalls(),
        "[f(a=-1.5, b={'k': None}, c=True)]",
        [call("f", a=-1.5, b={"k": None}, c=True)],
    ),
]


@pytest.mark.parametrize(("written_by", "text", "expected"), WHOLE)
def test_calls(written_by: CallFormat, text: str, expected: list[Call]):
    assert written_by.read(text) == expected


BROKEN: list[tuple[CallFormat, str, str]] = [
    (JsonCalls(), tagged(JSON[:-1]), "it is no JSON: Expecting ',' delimiter"),
    (JsonCalls(), tagged(""), "it is no JSON: Expecting value"),
    (JsonCalls(), tagged("add(1, 2)"), "it is no JSON: Expecting value"),
    (JsonCalls(), tagged(JSON.replace('"', "'")), "it is no JSON: Expecting property name"),
    (JsonCalls(), tagged(JSON.replace("1", "NaN")), "it is no JSON: NaN is no JSON value"),
    (JsonCalls(), tagged(f"{JSON} {JSON}"), "</tool_call> does not follow its JSON"),
    (JsonCalls(), f"<tool_call>{JSON}", "it does not end with </tool_call>"),
    (JsonCalls(), f"{JSON}</tool_call>", "it does not begin with <tool_call>"),
    (JsonCalls(), tagged(f"[{JSON}]"), 'it is no object with "name" and "arguments"'),
    (JsonCalls(), tagged('{"name": "add"}'), 'it is no object with "name" and "arguments"'),
    (JsonCalls(), tagged('{"name": 3, "arguments": {}}'), 'it is no object with "name"'),
    (JsonCalls(), tagged('{"name": "add", "arguments": "{}"}'), "its arguments are no object but"),
    (XmlCalls(), f"<tool_call>{XML}", "it does not end with </tool_call>"),
    (XmlCalls(), tagged(JSON), "it is not <function=NAME>"),
    (XmlCalls(), tagged("<function=add>\n<parameter=a>1\n</function>"), "an argument is not"),
    (XmlCalls(), tagged("<function=add>\n<parameter=a\n</parameter></function>"), "an argument is"),
    (XmlCalls(), tagged("<function=add>3</function>"), "text stands before its first argument"),
    (MistralCalls(), "[TOOL_CALLS]", "it is no name of a tool"),
    (MistralCalls(), "[TOOL_CALLS] []", "it is no list of calls"),
    (MistralCalls(), "[TOOL_CALLS] [3]", 'it is no object with "name"'),
    (MistralCalls(), f"[TOOL_CALLS] [{JSON}", "it is no JSON"),
    (MistralCalls(), "[TOOL_CALLS]add[ARGS]{", "it is no JSON"),
    (MistralCalls(), "[TOOL_CALLS]add[ARGS][1]", "its arguments are no object but list"),
    (LlamaCalls(), LLAMA[:-1], "it is no JSON"),
    (LlamaCalls(), JSON, 'it is no object with "name" and "parameters"'),
    (LlamaCalls(), "<|python_tag|>add(1)", "it is no JSON"),
    (PythonCalls(), "[add(1, b=2)]", "it is not NAME(ARGUMENT=VALUE, ...)"),
    (PythonCalls(), "[add(a=b)]", "a is no number, text, list or object"),
    (PythonCalls(), "[add(a=1)", "it is no Python: SyntaxError"),
    (PythonCalls(), "[add(**{'a': 1})]", "an argument has no name"),
    (PythonCalls(), "[add(a=1e999)]", "a is no number, text, list or object"),
    (PythonCalls(), "[add(a={1})]", "a is no number, text, list or object"),
    (PythonCalls(), "[add(a=1)][0]", "it is no list of calls"),
    (PythonCalls(), f"[add(a='{'x' * 20_000}')]", "it has more than 20000 characters"),
]


@pytest.mark.parametrize(("written_by", "text", "why"), BROKEN)
def test_broken_calls(written_by: CallFormat, text: str, why: str):
    [found] = written_by.read(text)
    assert isinstance(found, BrokenCall) and found.why.startswith(why)


@pytest.mark.parametrize(
    ("written_by", "text"),
    [
        (MistralCalls(), f"[TOOL_CALLS] [{JSON}] and so on"),
        (MistralCalls(), "[TOOL_CALLS]now[ARGS]{} and so on"),
        (LlamaCalls(), f"{LLAMA} and so on"),
        (JsonCalls(), f"{tagged('no')} {tagged(JSON)}"),
    ],
)
def test_a_call_beside_a_broken_one(written_by: CallFormat, text: str):
    kinds = [type(each) for each in written_by.read(text)]
    assert sorted(kinds, key=str) == [BrokenCall, Call]


@pytest.mark.parametrize("written_by", FORMATS, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize(
    "text", ["", "#14", "The answer is [3].", '{"answer": 5}', "[1, 2]", "a{b}", "f(x) = 2", "\n"]
)
def test_what_is_no_call(written_by: CallFormat, text: str):
    assert written_by.read(text) == []


@pytest.mark.parametrize("written_by", FORMATS, ids=lambda f: type(f).__name__)
def test_no_text_raises(written_by: CallFormat):
    """2,000 texts of what calls are made of, in any order."""
    rng = np.random.default_rng(0)
    pieces = [*written_by.tags, *'{}[]()<>"\\;:=,', '"name": "add"', "arguments", "parameters"]
    pieces += [
        "<function=",
        "</function>",
        "<parameter=a>",
        "</parameter>",
        "1e5",
        "add",
        "\n",
        " ",
    ]
    for _ in range(2000):
        text = "".join(rng.choice(pieces, rng.integers(1, 20)))
        assert all(isinstance(each, Call | BrokenCall) for each in written_by.read(text))


def test_tags_are_what_marks_a_call():
    assert JsonCalls(start="[C]", end="[/C]").tags == ("[C]", "[/C]")
    for written_by, text, _ in WHOLE:
        marked = not isinstance(written_by, PythonCalls | LlamaCalls)
        assert any(tag in text for tag in written_by.tags) >= marked


def test_an_empty_tag_is_refused():
    with pytest.raises(ValueError, match=r"format\.end is ''; .*'</tool_call>'"):
        JsonCalls(end=" ")
