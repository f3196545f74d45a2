#!/bin/sh
# A tokenizer.json beside a Qwen2 configuration is read with Qwen2's own pre-tokenizer, whatever
# tokenizer_config.json names: its vocabulary is kept, its texts become other tokens, and no word is
# said. Beside a Llama configuration the same file is read as it stands.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q transformers==5.19.0 tokenizers==0.23.3
export HF_HUB_OFFLINE=1
venv/bin/python - <<'PYTHON'
import json
from pathlib import Path

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

print(f"transformers {transformers.__version__}")
letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
merges = [("1", "2"), ("12", "3")]
model = models.BPE(vocab={**letters, "12": 256, "123": 257}, merges=merges)
tokenizer = Tokenizer(model)
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
found = {}
for config in (LlamaConfig(vocab_size=258), Qwen2Config(vocab_size=258)):
    folder = Path(config.model_type)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    config.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for name in (settings["tokenizer_class"], "PreTrainedTokenizerFast", None):
        settings.pop("tokenizer_class", None)
        settings |= {"tokenizer_class": name} if name else {}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        read = AutoTokenizer.from_pretrained(folder)
        found[config.model_type, name] = read.tokenize("a123")
        print(f"{config.model_type}, class {name}: {type(read).__name__}, {read.tokenize('a123')}")
own = Tokenizer.from_file("qwen2/tokenizer.json").encode("a123").tokens
print(f"the file itself: {own}")
other = all((tokens != own) is (kind == "qwen2") for (kind, _), tokens in found.items())
raise SystemExit(0 if other else "a Qwen2 folder is read as any other now")
PYTHON
