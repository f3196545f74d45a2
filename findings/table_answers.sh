#!/bin/sh
# Reference answers change their value on the way in: a CSV's 007 is 7.0, its 20-digit integer a
# float and its answer NA nothing; and of strings in a JSON file that all look like dates the reader
# makes dates. pandas and Hugging Face datasets, with their defaults, on valid files.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1
export HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
venv/bin/python - <<'PYTHON'
import json

import datasets
import pandas
from datasets import load_dataset

datasets.disable_progress_bars()
print(f"pandas {pandas.__version__}, datasets {datasets.__version__}")
files = {
    "zeros.csv": ["007", "12", ""],
    "digits.csv": ["12345678901234567890", "0.5"],
    "words.csv": ["NA", "None", "CO"],
}
changed = True
for name, answers in files.items():
    with open(name, "w") as file:
        file.writelines(f"{line}\n" for line in ["prompt,answer", *(f"q,{a}" for a in answers)])
    by_pandas = pandas.read_csv(name)["answer"].tolist()
    by_datasets = load_dataset("csv", data_files=name, split="train")["answer"][:]
    print(f"{name}: written {answers}, pandas {by_pandas}, datasets {by_datasets}")
    changed &= all(str(by[0]) != answers[0] for by in (by_pandas, by_datasets))
answers = ["2024-01-01", "2024-03-04"]
with open("dates.jsonl", "w") as file:
    file.writelines(json.dumps({"prompt": "q", "answer": a}) + "\n" for a in answers)
read = load_dataset("json", data_files="dates.jsonl", split="train")["answer"][:]
print(f"dates.jsonl: written {answers}, datasets {read}")
changed &= read != answers
raise SystemExit(0 if changed else "the values are kept now")
PYTHON
