"""Adapters trained after resize_token_embeddings, against transformers and PEFT: applied, trained on, merged, with their tokenizer."""

import json
import zlib

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoTokenizer

from peers import compare, models, peftkit, training

CASES = {
    "plain": {"target_modules": ["q_proj"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "both": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "tying": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    "tying-head": {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True},
    "saved": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "saved-both": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    "saved-tying": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [1, 5]},
}
#: PEFT saves one embedding of two, and would begin the new rows of the other at random.
HALF = {("untied", 5, "embedding"), ("untied", 5, "tying"), ("untied", 5, "tying-head")}

pytestmark = pytest.mark.parametrize("case,delta,name", [(c, d, n) for c in CASES for d in (5, -7) for n in ("tied", "untied")],
                                     ids=lambda v: str(v))


def shorten(path, size: int) -> None:
    """Takes the last tokens out of a BPE tokenizer."""
    tokenizer = json.loads(path.read_text())
    bpe = tokenizer["model"]
    bpe["vocab"] = {k: v for k, v in bpe["vocab"].items() if v < size}
    bpe["merges"] = [m for m in bpe["merges"] if "".join(m if isinstance(m, list) else m.split(" ")) in bpe["vocab"]]
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["id"] < size]
    path.write_text(json.dumps(tokenizer))


@pytest.fixture
def made(case, delta, name, small, tmp_path):
    """The base, the adapter that PEFT wrote with its tokenizer beside it, and the tuned model."""
    folder = small(name).folder
    torch.manual_seed(3)
    model = models.load(folder)
    size = model.config.vocab_size + delta
    model.resize_token_embeddings(size)
    tuned = get_peft_model(model, LoraConfig(r=3, lora_alpha=7, task_type="CAUSAL_LM", **json.loads(json.dumps(CASES[case])))).eval()
    with torch.no_grad():
        for key, p in tuned.named_parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode()))))
    out = tmp_path / "theirs"
    tuned.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if delta > 0:
        tokenizer.add_tokens([f"<new{i}>" for i in range(delta)])
    tokenizer.save_pretrained(out)
    if delta < 0:
        shorten(out / "tokenizer.json", size)
    return folder, out, tuned, size


IDS = [5, 1, 77, 301, 9, 44]


def ids_of(size: int) -> list[int]:
    return [*IDS, size - 1, size - 4]


def test_applies_and_merges(case, delta, name, made, tmp_path):
    folder, out, tuned, size = made
    ids = ids_of(size)
    if (name, delta, case) in HALF:
        for command in (["logits", "--tokens", "5", "--lora", out, "-o", tmp_path / "x.safetensors"], ["merge-lora", "--lora", out, "-o", tmp_path / "ours"]):
            with pytest.raises(peftkit.Failed, match="at random"):
                peftkit.run(command[0], "-m", folder, *command[1:])
        return
    want = models.logits(tuned, ids)
    compare.close("logits", peftkit.logits(folder, ids, out), want, 1e-4)
    peftkit.run("merge-lora", "-m", folder, "--lora", out, "-o", tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["vocab_size"] == size
    merged = models.load(tmp_path / "ours")
    compare.close("merged", models.logits(merged, ids), want, 1e-4)
    text = "The fox <new2> runs."
    compare.same("tokens", *(AutoTokenizer.from_pretrained(p, local_files_only=True)(text)["input_ids"] for p in (tmp_path / "ours", out)))


def test_trains_on(case, delta, name, made, tmp_path):
    """Training goes on with the adapter's tokens; PEFT reads the file into a resized base."""
    folder, out, _, size = made
    if (name, delta, case) in HALF:
        return  # refused, see above
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"text": "the <new1> cat <new2> runs over the dog" if delta > 0 else "the cat runs over the dog"}) + "\n")
    run = training.Run(steps=3, lr=1e-3, batch=1)
    peftkit.run("train", "-m", folder, "-d", data, "-o", tmp_path / "more", "--init-adapter", out, *run.arguments())
    model = models.load(folder)
    model.resize_token_embeddings(size)
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    tuned = PeftModel.from_pretrained(model, out, is_trainable=True).eval()
    theirs = training.train(tuned, training.examples(data, tokenizer), tokenizer, run)
    compare.relative("loss", [s["loss"] for s in peftkit.metrics(tmp_path / "more")], [s["loss"] for s in theirs], 1e-3)
    model = models.load(folder)
    model.resize_token_embeddings(size)
    again = PeftModel.from_pretrained(model, tmp_path / "more").eval()
    ids = ids_of(size)
    compare.close("logits", peftkit.logits(folder, ids, tmp_path / "more"), models.logits(again, ids), 1e-4)
    compare.close("logits after training", models.logits(again, ids), models.logits(tuned, ids), 2e-2)
    if delta > 0:
        assert load_file(tmp_path / "more" / "adapter_model.safetensors").keys() >= {k for k in load_file(out / "adapter_model.safetensors") if "base_layer" in k}
