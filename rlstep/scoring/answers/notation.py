r"""One form for the many ways to write an expression, and what of it may go to the LaTeX grammar.

Of letters and commands only what is listed here is read: `formal` is None for anything else, which
then is words, equal to nothing but itself. Nothing is dropped but what changes an answer's look.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)?|mathrm|mbox|operatorname\*?|mathit)"
    r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_UPRIGHT = re.compile(r"\\(?:text|mathrm|operatorname\*?)\s*\{\s*([a-z]+)\s*\}")
_GAMMA = re.compile(r"\\([gG])amma(?![a-zA-Z])(?!\s*\()")  # the grammar's are a constant
_ITSELF = {r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\leqslant": r"\le",
           r"\geqslant": r"\ge", r"\leq": r"\le", r"\geq": r"\ge", r"\neq": r"\ne", r"\lt": "<",
           r"\gt": ">", r"\cong": r"\approx", r"\ast": r"\cdot", r"\varnothing": r"\emptyset",
           r"\pounds": r"\pound", r"\varepsilon": r"\epsilon", r"\varphi": r"\phi",
           r"\lbrace": r"\{", r"\rbrace": r"\}",
           r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\quad": " ", r"\qquad": " ",
           r"\displaystyle": "", r"\textstyle": "", r"\boldsymbol": r"\vec", r"\mathbf": r"\vec",
           r"\bm": r"\vec", r"\limits": "", r"\nonumber": "", r"\bigl": "", r"\bigr": "",
           r"\Bigl": "", r"\Bigr": "", r"\big": "", r"\Big": "", r"\bar": r"\overline"}  # fmt: skip
_BOLD_NUMBER = re.compile(r"\\(?:mathbf|boldsymbol|bm)\s*\{\s*([-+]?[0-9][0-9.,/]*)\s*\}")
_UNIT_FRACTION = re.compile(
    r"\\[dt]?frac\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}"
    r"\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}"
)
_PROSE = re.compile(  # in a product of letters, their order would not count
    r"(?<!_)(?<!_\{)\\(?:text(?:bf|it|rm|normal)?|mbox)\s*\{[^{}]*[a-zA-Z]{2}[^{}]*\}"
    r"|(?<=[0-9a-zA-Z)}]) (?:to|by|for|is|of|at|on|per|vs|mod|not|but|than|from|with|am|pm)"
    r" (?=[-0-9a-zA-Z\\({])"
)
_LONG_SUBSCRIPT = re.compile(  # where 'max' is no function
    r"_\s*\{\s*(?:\\(?:text|mathrm)\s*\{\s*)?([a-zA-Z]{2,})\s*\}?\s*\}"
)
_NAMED_E = re.compile(r"(?<![a-zA-Z\\])([eE])\s*_\s*(?:\{\s*([0-9a-zA-Z]+)\s*\}|([0-9a-zA-Z]))")
_BARE_ARGUMENT = re.compile(r"(\\(?:text|math)(?:rm|bf|it)?)\s+([a-zA-Z0-9])")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_FUNCTIONS = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh"
    " ln log exp sqrt gcd lcm max min det"
).split()
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau"
    " upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
).split()
_ALLOWED = {
    "\\" + name
    for name in (
        *_FUNCTIONS, *_GREEK, *"frac cdot times div pm mp le ge ne infty cup cap".split(),
        *"setminus emptyset mathbb binom lfloor rfloor lceil rceil begin end".split(),
        *"overline sum prod int lim".split(),
        *"to hat vec operatorname tilde ell Re Im dot".split(),
    )
}  # fmt: skip
_BARE = re.compile(
    rf"(?<![\\a-zA-Z])({'|'.join((*_FUNCTIONS, *(g for g in _GREEK if len(g) > 1)))}"
    r"|inf|infinity|oo)(?![a-zA-Z])"
)
_INFINITY = ("inf", "infinity", "oo")
_ABSOLUTE = re.compile(r"(?<![a-zA-Z\\])abs\s*\(((?:[^()]|\([^()]*\))*)\)")
_ROOT = re.compile(r"\\sqrt\s*\(((?:[^()]|\([^()]*\))*)\)")
_POWER = re.compile(r"\^\s*\(((?:[^()]|\([^()]*\))*)\)")
_LONG_POWER = re.compile(r"\^\s*(-?[0-9]+(?:\.[0-9]+)?|-[a-zA-Z])")
_MARKED = re.compile(r"[)\]|]\s*_|(?<![_^0-9a-zA-Z])[0-9]+\s*_")
"""Of a number or a bracket: the grammar drops the former, and of the latter makes a rising
factorial, or drops the place at which a derivative is taken."""
_LETTERS = re.compile(r"(?:[a-z]{1,3}|[A-Za-z]{1,2}|(?=.+[A-Z])[A-Za-z]{1,5})")
_NAMES = re.compile(
    r"_\s*(?:\{[^{}]*\}|[a-zA-Z])|\\(?:begin|end|mathbb|overline)\s*\{[^{}]*\}|\\[a-zA-Z]+"
)
_DERIVATIVE = re.compile(
    r"\\frac\s*\{\s*(?:d|\\partial)\s*(?:\^\{?([0-9])\}?)?\s*([a-zA-Z]?)\s*\}"
    r"\s*\{\s*(?:d|\\partial)\s*([a-zA-Z])\s*(?:\^\{?[0-9]\}?)?\s*\}"
)
_SLASHED = re.compile(r"(?<![a-zA-Z\\])d([a-zA-Z])\s*/\s*d([a-zA-Z])(?![a-zA-Z])")
_PRIMES = re.compile(r"([a-zA-Z])\s*('+|\^\s*\{?(?:\s*\\prime)+\s*\}?)")
_TRANSPOSED = re.compile(r"\^\s*(?:T(?![a-zA-Z])|\{\s*T\s*\}|\\top(?![a-zA-Z])|\{\\top\})")
_REPEATING = re.compile(
    r"([0-9]*)\.([0-9]*)(?:\\overline\s*\{\s*([0-9]{1,30})\s*\}|\\dot\s*\{?([0-9])\}?)"
)
_SCIENTIFIC = re.compile(
    r"(?<![0-9a-zA-Z.\\])([0-9]+(?:\.[0-9]*)?)(?:[eE]([-+][0-9]{2,4})|E([-+]?[0-9]{1,4})"
    r"|(?<=\.[0-9])e([-+]?[0-9]{1,4})|e([0-9]{1,4}))(?![0-9a-zA-Z.])"
)
_TIMES_TEN = re.compile(
    r"^([0-9]+(?:\.[0-9]+)?)\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*\{?\s*(-?[0-9]{1,3})\s*\}?$"
)
_DECIMAL_E = re.compile(r"(?<![0-9a-zA-Z\\])([0-9]+\.[0-9]+)[eE]([-+]?[0-9]{1,4})(?![0-9a-zA-Z.])")
_THOUSANDS = re.compile(r"(?<![0-9.,a-zA-Z])([0-9]{1,3}(?:,[0-9]{3})+)(?!,?[0-9])")
_MIXED = re.compile(r"(?<![0-9.a-zA-Z_^{}\\)])([0-9]+)\s*(\\frac\s*\{[0-9]+\}\s*\{[0-9]+\})")
_SHORT_FRACTION = re.compile(r"\\frac\s*([0-9])\s*([0-9a-zA-Z])"
                             r"|\\frac\s*(\{[^{}]*\})\s*([0-9a-zA-Z])"
                             r"|\\frac\s*([0-9a-zA-Z])\s*(\{)")  # fmt: skip
_SHORT_ARGUMENT = re.compile(r"\\(sqrt|pmod)\s*([0-9a-zA-Z])")
_TIMES_BRACKET = re.compile(r"(?<![_0-9a-zA-Z.^}{])([0-9][0-9.]*)\s*\(")
_DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z]))")
_IN_DEGREES = re.compile(r"\(?([0-9.]+|[a-zA-Z])" + _DEGREES.pattern + r"\)?")
_SPACED_D = re.compile(r"(?<![\\a-zA-Z])d(?=\s+[a-zA-Z](?![a-zA-Z]))")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_MEANINGLESS = re.compile(r"\\(?:angle|measuredangle)(?![a-zA-Z])|(?<!\\)\\(?=\s)")


def unwrapped(answer: str) -> str:
    r"""With what `\text{}` and the like hold in their places."""
    return _WRAPPED.sub(r" \1 ", answer)


def _as_functions(answer: str) -> str:
    r"""With `\mathrm{sin}` as `\sin`."""
    return _UPRIGHT.sub(
        lambda match: rf"\{match[1]} " if match[1] in _FUNCTIONS else match[0], answer
    )


def written(answer: str) -> str:
    """One spelling for synonyms, and e-notation, repeating decimals and thousands as numbers."""
    answer = _BOLD_NUMBER.sub(r"\1", answer)
    answer = _UNIT_FRACTION.sub(r"\\text{\1/\2}", answer)
    answer = _COMMAND.sub(lambda command: _ITSELF.get(command[0], command[0]), answer)
    answer = _BARE_ARGUMENT.sub(r"\1{\2}", answer)
    answer = _MEANINGLESS.sub(" ", answer).replace("**", "^")
    if "e" in answer or "E" in answer:
        answer = _DECIMAL_E.sub(_scientific, answer)
        answer = _SCIENTIFIC.sub(_scientific, answer)
    answer = _TIMES_TEN.sub(_scientific, answer)
    answer = _REPEATING.sub(_repeating, answer)
    return " ".join(_fractions(answer).split())


def _fractions(answer: str) -> str:
    def braced(match: re.Match[str]) -> str:
        a, b, c, d, e, f = match.groups()
        if a:
            return rf"\frac{{{a}}}{{{b}}}"
        return rf"\frac{c}{{{d}}}" if c else rf"\frac{{{e}}}{f}"

    answer = _SHORT_FRACTION.sub(braced, answer)
    return _SHORT_ARGUMENT.sub(r"\\\1{\2}", answer)


def _scientific(match: re.Match[str]) -> str:
    exponent = int(next(group for group in match.groups()[1:] if group))
    if abs(exponent) > 400:  # no JSON number has more
        return match[0]
    value = Decimal(f"{match[1]}e{exponent}")
    return format(value.to_integral_value() if value == value.to_integral_value() else value, "f")


def _repeating(match: re.Match[str]) -> str:
    whole, fixed, repeated = match[1] or "0", match[2], match[3] or match[4]
    if len(whole + fixed + repeated) > 60:
        return match[0]
    value = Fraction(int(whole + fixed + repeated) - int(whole + fixed))
    value /= 10 ** len(fixed) * (10 ** len(repeated) - 1)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def formal(answer: str) -> str | None:
    """An expression as the grammar takes it; None of what is none by the lists above."""
    answer = _as_functions(_LONG_SUBSCRIPT.sub(r"_{Q\1}", answer))
    if _PROSE.search(answer):
        return None
    answer = _NAMED_E.sub(lambda m: f" D_{{E{m[1]}{m[2] or m[3]}}} ", unwrapped(answer))
    answer = _GAMMA.sub(r" \1_{Q} ", answer)
    answer = _BARE.sub(_as_command, answer)
    answer = _ROOT.sub(r"\\sqrt{\1}", _ABSOLUTE.sub(r"|\1|", answer))
    answer = _POWER.sub(r"^{\1}", answer)
    answer = _LONG_POWER.sub(r"^{\1}", answer)
    answer = _DERIVATIVE.sub(lambda m: f" D_{{Q{m[1] or 1}{m[2]}Q{m[3]}}} ", answer)
    answer = _SLASHED.sub(r" D_{Q1\1Q\2} ", answer)
    answer = _PRIMES.sub(
        lambda m: f"{m[1]}_{{Q{m[2].count(chr(39)) + m[2].count('prime')}}}", answer
    )
    answer = _TRANSPOSED.sub("^{T_{Q}}", answer)
    answer = _without_degrees(answer)
    answer = _THOUSANDS.sub(lambda m: m[1].replace(",", ""), answer)
    answer = _MIXED.sub(r"(\1+\2)", answer)
    answer = _TIMES_BRACKET.sub(r"\1 \\cdot (", answer)
    if r"\int" not in answer:  # where 'd x' is no product
        answer = _SPACED_D.sub(r"d \\cdot ", answer)
    return answer if _listed(answer) else None


def _without_degrees(answer: str) -> str:
    """With degrees as radians where a function takes them, else without their sign."""
    if r"\circ" not in answer and r"\degree" not in answer:
        return answer
    if _TRIGONOMETRIC.search(answer):
        answer = _IN_DEGREES.sub(r"(\1 \\cdot \\frac{\\pi}{180})", answer)
    return _DEGREES.sub(" ", answer)


def _as_command(match: re.Match[str]) -> str:
    name = match[1]
    if name in _INFINITY:
        return r"\infty "
    return rf"\{name} "


def _listed(answer: str) -> bool:
    if any(command not in _ALLOWED for command in _COMMAND.findall(answer)):
        return False
    if "'" in answer or _MARKED.search(answer):
        return False
    runs = re.findall(r"[a-zA-Z]+", _NAMES.sub(" ", answer))
    return all(_LETTERS.fullmatch(run) for run in runs)


_WORDS = re.compile(r"(?=.*[a-zA-Z]{2})[a-zA-Z0-9 .,'&-]+")


def words(answer: str) -> str | None:
    r"""What an answer of words says: two letters or more in `\text{}`, capitals in a row ('HHT',
    'ABCD'), or a word that no product of variables is; None of what is none."""
    wrapped = _WRAPPED.search(answer)
    shown = " ".join(unwrapped(answer).split())
    shown = shown[1:-1].strip() if re.fullmatch(r"\([^()]*\)", shown) else shown
    if not _WORDS.fullmatch(shown):
        return None
    runs = re.findall(r"[a-zA-Z]+", shown)
    if any(run in (*_FUNCTIONS, *_GREEK, *_INFINITY) for run in runs):
        return None
    alone = re.fullmatch(r"[A-Z]{2,}", shown) or (wrapped and not re.search(r"[0-9]", shown))
    unknown = any(not _LETTERS.fullmatch(run) for run in runs) or shown.lower() in (
        "yes",
        "no",
        "odd",
    )
    return shown.casefold().replace(" ", "") if alone or unknown else None


# --- lists, pairs, sets, intervals ---------------------------------------------------------------

_SEPARATOR = re.compile(r"(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])")
_JOINED = re.compile(r"\\(?:cup|cap|setminus|in|le|ge|ne)(?![a-zA-Z])|[<>|:]")
_ENDS = {"(": "(", "[": "[", r"\{": "{", r"\langle": "(", ")": ")", "]": "]", r"\}": "}",
         r"\rangle": ")"}  # fmt: skip
_PIECE = re.compile(r"\\begin\b|\\end\b|\\[a-zA-Z]+|\\.|.", re.DOTALL)


def listing(answer: str) -> tuple[str, tuple[str, ...]] | None:
    r"""(kind, elements) of a list: kind is its brackets, as '()' of a pair or an open interval,
    '[)' and so on of intervals, '{}' of a set, '' of a bare list; None of what is no list."""
    answer = answer.strip()
    kind, inside = _brackets(answer)
    pieces = _split(_set_apart(inside, bool(kind)))
    if len(pieces) == 1 and kind != "{}":
        return None
    if not all(pieces) and inside:
        return None
    if not kind and _JOINED.search(answer):
        return None
    if kind == "{}" and _JOINED.search(inside.replace(r"\|", "|")) and len(pieces) == 1:
        return None
    if len(pieces) > 2 and kind == "[]":
        kind = "()"
    return kind, tuple(pieces) if inside else ()


def _brackets(answer: str) -> tuple[str, str]:
    pieces = _PIECE.findall(answer)
    if len(pieces) < 2:
        return "", answer
    opened, closed = _ENDS.get(pieces[0], ""), _ENDS.get(pieces[-1], "")
    if (
        opened not in ("(", "[", "{")
        or closed not in (")", "]", "}")
        or ((opened == "{") != (closed == "}"))
    ):
        return "", answer
    depth = 0
    for piece in pieces[:-1]:
        mark = _ENDS.get(piece, piece)
        depth += (mark in ("(", "[", "{")) - (mark in (")", "]", "}"))
        if depth == 0:
            return "", answer
    return opened + closed, "".join(pieces[1:-1]).strip()


def stripped(answer: str) -> str:
    """Without brackets around the whole that hold one value."""
    kind, inside = _brackets(answer)
    single = kind in ("()", "[]") and len(_split(_set_apart(inside, True))) == 1 and inside
    return stripped(inside) if single else answer


def _set_apart(inside: str, bracketed: bool) -> str:
    """With the commas of thousands out. In brackets '100,200' is two numbers, '1,050' and, where
    others are set off by a space, '1,000, 2,000' are numbers with thousands."""
    if bracketed and not re.search(r"[,;] |,0[0-9]{2}(?![0-9])", inside):
        return inside
    return _THOUSANDS.sub(lambda m: m[1].replace(",", ""), inside)


def _split(inside: str) -> list[str]:
    inside = re.sub(
        r"\\(?:text(?:rm|bf|it)?|mathrm|mbox)\s*\{\s*,?\s*(and|or)\s*\}", r" \1 ", inside
    )
    inside = re.sub(r",\s*(and|or)(?![a-zA-Z])", r" \1", inside)
    parts, depth, part = [], 0, ""
    for piece in _PIECE.findall(_SEPARATOR.sub(";", inside) if " " in inside else inside):
        mark = _ENDS.get(piece, piece)
        depth += (mark in ("(", "[", "{") or piece == r"\begin") - (
            mark in (")", "]", "}") or piece == r"\end"
        )
        if depth == 0 and piece in (",", ";"):
            parts.append(part.strip())
            part = ""
        else:
            part += piece
    return [*parts, part.strip()]
