"""Training: the same losses as PyTorch + PEFT, adapters that PEFT loads."""

import copy
import json

import pytest
from transformers import AutoTokenizer

from peers import adapters, bounds, compare, models, peftkit, where
from peers.training import Run, examples, train

TEXT = "The quick brown fox jumps over the lazy dog, and 14 cats watch."
WORDS = "fox dog cat river stone night morning red blue old small quick slow runs sleeps sees finds keeps lost over under".split()


def texts(path, count=24, completion=False):
    """JSONL of sentences of differing length, always the same."""
    lines = []
    for i in range(count):
        words = [WORDS[(i * 7 + j * (3 + i % 5)) % len(WORDS)] for j in range(6 + i % 9)]
        if completion:
            lines.append({"prompt": "Say: " + " ".join(words) + " ->", "completion": " " + " ".join(reversed(words[-4:]))})
        else:
            lines.append({"text": "The " + " ".join(words) + "."})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def initial(folder, out, config):
    """A PEFT adapter as training begins: A random, B zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    base = models.load(folder)
    get_peft_model(base, LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": adapters.ALL, "task_type": "CAUSAL_LM", **config})).save_pretrained(out)
    return out


RUNS = {
    "plain": ({}, Run(), False),
    "cosine-warmup": ({}, Run(schedule="cosine", warmup=0.25), False),
    "linear": ({"use_rslora": True}, Run(schedule="linear"), False),
    "completion": ({}, Run(batch=3), True),
    "accumulate": ({}, Run(accumulate=3), True),
    "weight-decay": ({"target_modules": ["q_proj", "v_proj"]}, Run(weight_decay=0.1), False),
    "no-clip": ({"rank_pattern": {"k_proj": 2}}, Run(clip=0), False),
    "alpha-pattern": ({"alpha_pattern": {"v_proj": 32}}, Run(lr=3e-3), False),
}


def both(folder, start, data, run, tmp_path, reference=None):
    """Runs peftkit and the reference from one adapter; returns both step lists, the tuned reference and peftkit's folder."""
    out = tmp_path / "out"
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--init-adapter", start, "--max-seq-len", 256, *run.arguments())
    tokenizer = AutoTokenizer.from_pretrained(reference or folder, local_files_only=True)
    tuned = adapters.load(models.load(reference or folder), start, trainable=True)
    told = train(tuned, examples(data, tokenizer), tokenizer, run)
    return peftkit.metrics(out), told, tuned.eval(), out


def compare_runs(ours, theirs):
    compare.close("lr", [s["lr"] for s in ours], [s["lr"] for s in theirs], bounds.RATE)
    compare.relative("loss", [s["loss"] for s in ours], [s["loss"] for s in theirs], bounds.LOSS)
    compare.relative("grad_norm", [s["grad_norm"] for s in ours], [s["grad_norm"] for s in theirs], bounds.GRADIENT)


@pytest.mark.parametrize("name", RUNS)
def test_same_losses(small, tmp_path, name):
    """20 steps, step by step: loss within bounds.LOSS, learning rate, gradient norm; then the adapters' logits."""
    config, run, completion = RUNS[name]
    it = small("tied")
    data = texts(tmp_path / "data.jsonl", completion=completion)
    start = initial(it.folder, tmp_path / "start", config)
    ours, theirs, tuned, out = both(it.folder, start, data, run, tmp_path)
    compare_runs(ours, theirs)
    assert theirs[-1]["loss"] < 0.9 * theirs[0]["loss"], "the reference did not learn: the test would prove little"
    ids = it.tokenizer(TEXT)["input_ids"]
    compare.close("logits after training", models.logits(adapters.load(models.load(it.folder), out), ids), models.logits(tuned, ids), bounds.TRAINED)


@pytest.mark.parametrize("model", ["untied", "head-dim", "mqa", "attention-bias", "rope-llama3-short", "bfloat16"])
def test_same_losses_other_models(small, tmp_path, model):
    it = small(model)
    data = texts(tmp_path / "data.jsonl")
    start = initial(it.folder, tmp_path / "start", {})
    ours, theirs, _, _ = both(it.folder, start, data, Run(), tmp_path)
    compare_runs(ours, theirs)


@pytest.mark.parametrize("base", ["folder", "q4_1"])
def test_same_losses_smollm2(smollm2, tmp_path, base):
    """SmolLM2, from the float32 folder and straight from the Q4_1 GGUF; PyTorch on the float32 folder."""
    data = texts(tmp_path / "data.jsonl")
    start = initial(smollm2, tmp_path / "start", {"r": 8, "lora_alpha": 16})
    folder = smollm2 if base == "folder" else where.SMOLLM2
    ours, theirs, _, _ = both(folder, start, data, Run(lr=1e-3), tmp_path, reference=smollm2)
    compare_runs(ours, theirs)


@pytest.mark.parametrize("flags", [[], ["--target-modules", "q_proj,v_proj"], ["--rank", "5", "--alpha", "3"],
                                   ["--target-modules", r"regex:.*layers\.1\..*(q|up)_proj"]], ids=["default", "q,v", "rank5", "regex"])
def test_peft_loads_what_peftkit_trains(small, tmp_path, flags):
    """No missing key, no unexpected key, the same logits in PEFT and peftkit."""
    it = small("tied")
    data = texts(tmp_path / "data.jsonl")
    out = tmp_path / "out"
    peftkit.run("train", "-m", it.folder, "-d", data, "-o", out, "--max-steps", 8, "--lr", 1e-2, *flags)
    tuned = adapters.load(models.load(it.folder), out)
    ids = it.tokenizer(TEXT)["input_ids"]
    theirs = models.logits(tuned, ids)
    assert abs(theirs - models.logits(it.model, ids)).max() > 1e-2, "training changed nothing"
    compare.close("logits", peftkit.logits(it.folder, ids, out), theirs, bounds.LOGITS)


def test_peft_loads_what_peftkit_trains_on_smollm2(smollm2, smollm2_model, tmp_path):
    """Trained straight on the quantised GGUF, loaded by PEFT onto the float32 folder."""
    data = texts(tmp_path / "data.jsonl")
    out = tmp_path / "out"
    peftkit.run("train", "-m", where.SMOLLM2, "-d", data, "-o", out, "--max-steps", 4, "--lr", 1e-3)
    tuned = adapters.load(copy.deepcopy(smollm2_model), out)
    ids = AutoTokenizer.from_pretrained(smollm2, local_files_only=True)(TEXT)["input_ids"]
    compare.close("logits", peftkit.logits(where.SMOLLM2, ids, out), models.logits(tuned, ids), bounds.LARGE)


def test_threads_do_not_change_a_byte(small, tmp_path):
    """The same seed gives the same file on one and on two threads."""
    it = small("tied")
    data = texts(tmp_path / "data.jsonl")
    files = []
    for n in (1, 2):
        out = tmp_path / f"t{n}"
        peftkit.run("train", "-m", it.folder, "-d", data, "-o", out, "--max-steps", 5, "--threads", n)
        files.append((out / "adapter_model.safetensors").read_bytes())
    compare.same("adapter_model.safetensors", files[0], files[1])
