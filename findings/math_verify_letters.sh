#!/bin/sh
# To Math-Verify capitals and small letters are one symbol: R/r is r/R, the area of a ring between
# radii R and r is 0, and Aa is a^2.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q math-verify==0.9.0 latex2sympy2-extended==1.11.0
venv/bin/python - <<'PYTHON' 2>/dev/null
from importlib.metadata import version

from math_verify import parse, verify

print("math-verify", version("math-verify"))
pairs = [(r"\frac{R}{r}", r"\frac{r}{R}"), (r"\pi(R^2-r^2)", "0"), ("Aa", "a^2")]
equal = []
for gold, answer in pairs:
    read = [parse(rf"\boxed{{{text}}}") for text in (gold, answer)]
    equal.append(verify(*read))
    print(f"{gold} and {answer}, read as {read[0][0]} and {read[1][0]}: equal {equal[-1]}")
raise SystemExit(0 if all(equal) else "letters of either case are told apart now")
PYTHON
