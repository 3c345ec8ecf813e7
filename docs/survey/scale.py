"""Makes two untrained models of one family, a small and a larger one, and the data to train and to adapt them.

    python3 docs/survey/scale.py DATA OUT

Needs transformers and tokenizers. DATA holds text/tinyshakespeare and text/e2e. OUT gets the folders small and large
(LlamaForCausalLM with one tokenizer made from both texts), plays/train.jsonl to train them from nothing, and
restaurants/{train,valid}.jsonl (meaning representation to sentence) to adapt them to.
"""

import csv
import json
import random
import sys
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SIZES = {
    "small": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
    "large": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6},
}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def restaurants(path):
    """One sentence of each meaning, in a fixed shuffled order."""
    seen = {}
    for row in csv.DictReader(path.open(encoding="utf-8")):
        seen.setdefault(row["mr"], row["ref"])
    rows = [{"prompt": m + " =>", "completion": " " + r} for m, r in seen.items()]
    random.Random(7).shuffle(rows)
    return rows


def main():
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    plays = (data / "text/tinyshakespeare/input.txt").read_text(encoding="utf-8")
    pieces = [plays[i:i + 1600] for i in range(0, len(plays), 1600)]
    # Half of the meanings are read as plain text while the models are made: they know the words, not the task.
    rows = restaurants(data / "text/e2e/devset.csv") + restaurants(data / "text/e2e/testset_w_refs.csv")
    write(out / "plays/train.jsonl", [{"text": p} for p in pieces] + [{"text": r["completion"].lstrip()} for r in rows[700:]])
    write(out / "restaurants/train.jsonl", rows[:600])
    write(out / "restaurants/valid.jsonl", rows[600:700])
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(pieces + [r["prompt"] + r["completion"] for r in rows], vocab_size=2048, special_tokens=["<s>", "</s>"])
    (out / "bpe.json").write_text(bpe._tokenizer.to_str(), encoding="utf-8")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(out / "bpe.json"), bos_token="<s>", eos_token="</s>")
    for name, size in SIZES.items():
        torch.manual_seed(1)
        config = LlamaConfig(vocab_size=2048, max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, **size)
        model = LlamaForCausalLM(config)
        model.save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)
        print(name, sum(p.numel() for p in model.parameters()), "parameters")


if __name__ == "__main__":
    main()
