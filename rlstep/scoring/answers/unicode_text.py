r"""Mathematics written in Unicode, as LaTeX: '−3', '２', 'π', '√2', 'x²', '≤', '30°', '½'.

A character that stands for nothing here is left as it is, and no answer that holds one is read.
"""

# ruff: noqa: RUF001 - look-alikes are what this file is about

from __future__ import annotations

import re
import unicodedata

_DASHES = "‐‑‒–—―−﹘﹣－"
_NOTHING = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u2061\u2062\u2063"
_SPACES = "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_STRAIGHT = str.maketrans(
    dict.fromkeys(_DASHES, "-")
    | dict.fromkeys(_SPACES, " ")
    | {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}  # full-width ASCII
    | {"．": ".", "，": ",", "⁄": "/", "∕": "/", "∗": "*", "′": "'", "’": "'", "″": "''", "＂": '"'}
)
_GREEK = {
    **dict(zip("αβγδεζηθικλμν", "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"
               " mu nu".split(), strict=True)),
    **dict(zip("ξπρστυφχψω", "xi pi rho sigma tau upsilon phi chi psi omega".split(),
               strict=True)),
    **dict(zip("ΓΔΘΛΞΠΣΦΨΩ", "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
               strict=True)),
    "µ": "mu", "ϕ": "phi", "ϵ": "epsilon",
}  # fmt: skip
_SIGNS = {
    "×": "times", "·": "cdot", "⋅": "cdot", "∙": "cdot", "÷": "div", "±": "pm", "∓": "mp",
    "≤": "le", "≥": "ge", "⩽": "le", "⩾": "ge", "≠": "ne", "≈": "approx", "≅": "cong",
    "∞": "infty", "∪": "cup", "∩": "cap", "∖": "setminus", "∈": "in", "∉": "notin",
    "∅": "emptyset", "∠": "angle", "△": "triangle", "∑": "sum", "∏": "prod", "∫": "int",
    "∂": "partial", "→": "to", "…": "ldots", "⋯": "ldots", "⌊": "lfloor", "⌋": "rfloor",
    "⌈": "lceil", "⌉": "rceil", "⟨": "langle", "⟩": "rangle", "€": "euro", "£": "pound",
    "¥": "yen", "₹": "rupee",
}  # fmt: skip
_COMMANDS = {sign: rf"\{name} " for sign, name in (_GREEK | _SIGNS).items()} | {
    "°": r"^{\circ}",
    "¢": " cents",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℚ": r"\mathbb{Q}",
    "ℕ": r"\mathbb{N}",
    "ℂ": r"\mathbb{C}",
}
_HIGH = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣʸᵏᵐ", "0123456789+-()nixykm", strict=True))
_LOW = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₓ", "0123456789+-()nx", strict=True))
_RAISED = re.compile(f"[{''.join(_HIGH)}]+")
_LOWERED = re.compile(f"[{''.join(_LOW)}]+")
_ROOT = re.compile(r"([√∛∜])\s*(\([^()]*\)|\{[^{}]*\}|[0-9.]+|[a-zA-Z]|\\[a-zA-Z]+ ?)")
_INDEX = {"√": "", "∛": "[3]", "∜": "[4]"}


def straight(text: str) -> str:
    """With the dashes, spaces and full-width characters that people type as their ASCII ones."""
    return text if text.isascii() else text.translate(_STRAIGHT)


def as_latex(answer: str) -> str:
    """An answer with its Unicode mathematics as LaTeX."""
    if answer.isascii():
        return answer
    answer = re.sub("[｛｝]", lambda brace: rf"\{straight(brace[0])}", answer)  # never TeX's own
    answer = re.sub(f"[{_NOTHING}]", "", straight(answer))
    answer = _RAISED.sub(lambda run: _script("^", run[0], _HIGH), answer)
    answer = _LOWERED.sub(lambda run: _script("_", run[0], _LOW), answer)
    answer = re.sub(r"([0-9]?)([¼-¾⅐-⅞])", _vulgar, answer)
    answer = "".join(_COMMANDS.get(sign) or _folded(sign) for sign in answer)
    return _ROOT.sub(lambda root: rf"\sqrt{_INDEX[root[1]]}{{{root[2].strip('{}')}}}", answer)


def _script(mark: str, run: str, table: dict[str, str]) -> str:
    return mark + "{" + "".join(table[sign] for sign in run) + "}"


def _vulgar(match: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", match[2]).partition("⁄")
    return rf"{match[1]}\frac{{{over}}}{{{under}}}" if under else match[0]


def _folded(sign: str) -> str:
    """A digit of any script, or a letter of a mathematical alphabet, as the ASCII one."""
    if sign.isascii():
        return sign
    if unicodedata.category(sign) == "Nd":
        return str(unicodedata.digit(sign))
    plain = unicodedata.normalize("NFKC", sign)
    return plain if 0x1D400 <= ord(sign) <= 0x1D7FF and plain.isascii() else sign
