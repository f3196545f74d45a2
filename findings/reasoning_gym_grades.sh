#!/bin/sh
# Graders of reasoning-gym give something for nothing, and less than everything for the answer that
# the data set itself names: an empty answer has a score in several data sets; in others the own
# answer never has a full score, so that accuracy stays 0 for whoever counts full scores. And one
# raises on an answer that is a word.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q reasoning-gym==0.1.25
venv/bin/python - <<'PYTHON'
from importlib.metadata import version

import reasoning_gym

print("reasoning-gym", version("reasoning-gym"))
changed = False


def made(name):
    data = reasoning_gym.create_dataset(name, seed=7, size=20)
    return data, list(data)


for name in ("emoji_mystery", "fraction_simplification", "power_function"):
    data, items = made(name)
    scores = {round(data.score_answer("", item), 3) for item in items}
    print(f"{name}: an empty answer scores {sorted(scores)}")
    changed |= min(scores) == 0.0
for name in ("boxnet", "rubiks_cube", "graph_color"):
    data, items = made(name)
    full = sum(data.score_answer(item["answer"], item) == 1.0 for item in items)
    print(f"{name}: {full} of 20 own answers have a full score")
    changed |= full == 20
data, items = made("prime_factorization")
try:
    print("prime_factorization: a word scores", data.score_answer("seven", items[0]))
    changed = True
except Exception as error:
    print(f"prime_factorization: a word raises {type(error).__name__}: {error}")
raise SystemExit("grades are what they say now" if changed else 0)
PYTHON
