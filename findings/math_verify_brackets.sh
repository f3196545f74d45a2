#!/bin/sh
# Math-Verify reads what a box holds otherwise where it stands in inline brackets, as many models
# write it: a number with a thousands comma becomes an open interval, so 22 of MATH500's and GSM8K's
# own references are refused for themselves. And of 'x = word' the word is lost.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q math-verify==0.9.0 latex2sympy2-extended==1.11.0
venv/bin/python - 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version

from math_verify import parse, verify

print("math-verify", version("math-verify"))
seen = []
for found, reference in (
    (r"\(10,800\)", "10,800"),
    (r"\(10800\)", "10,800"),
    (r"$10,800$", "10,800"),
    (r"\(1,450,000\)", "1,450,000"),
    (r"\(5.4 \text{ cents}\)", r"5.4 \text{ cents}"),
    (r"x = \text{east}", r"\text{east}"),
):
    gold, answer = (parse(rf"\boxed{{{text}}}") for text in (reference, found))
    seen.append(verify(gold, answer))
    print(f"{found} for {reference}: {seen[-1]}, read as {answer[0]!s}")
sys.exit(seen != [False, True, True, False, False, False])
PYTHON
