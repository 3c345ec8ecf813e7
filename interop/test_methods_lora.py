"""LoRA's variants against Hugging Face PEFT: files, logits, losses, merges."""

import peft.optimizers.lorafa
import pytest
import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer
from safetensors.torch import load_file
from transformers import AutoTokenizer

from peers import bounds, compare, methods, models, peftkit, training
from peers.methods import Case, bases  # noqa: F401 (a fixture)


def lora(model="llama", **options) -> Case:
    more = {k: options.pop(k) for k in ("lr", "noise", "fill", "mergeable", "merged", "train_only", "copies", "unsaved") if k in options}
    return Case(LoraConfig, {"r": 4, "lora_alpha": 6, **options}, model, **more)


PATTERNS = {"rank_pattern": {"q_proj": 2, "down_proj": 6}, "alpha_pattern": {"v_proj": 3}}

CASES = {
    "rslora": lora(use_rslora=True, **PATTERNS),
    "dora": lora(use_dora=True),
    "dora-rslora": lora(use_dora=True, use_rslora=True, **PATTERNS),
    "dora-gpt2": lora("gpt2", use_dora=True),
    "dora-embedding": lora("untied", use_dora=True, target_modules=["embed_tokens", "q_proj"], copies=("base_layer.weight",)),
    "dora-biases": lora("attention-bias", use_dora=True, bias="lora_only", target_modules=["q_proj", "o_proj"]),
    "tokens": lora(trainable_token_indices=[5, 77, 301], noise=0.1, unsaved=("lm_head.token_adapter",)),
    "tokens-both": lora("untied", target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [5, 77], "lm_head": [77, 6, 9]}, noise=0.1),
    "tokens-gpt2": lora("gpt2", trainable_token_indices=[5, 77, 301], noise=0.1, unsaved=("lm_head.token_adapter",)),
    "pissa": lora(init_lora_weights="pissa", lr=1e-3, merged=bounds.DECOMPOSED),
    "pissa-dora": lora(init_lora_weights="pissa", use_dora=True, lr=1e-3, merged=bounds.DECOMPOSED),
    "pissa-gpt2": lora("gpt2", init_lora_weights="pissa", lr=1e-3, merged=bounds.DECOMPOSED),
    "pissa-patterns": lora(init_lora_weights="pissa", use_rslora=True, lr=1e-3, merged=bounds.DECOMPOSED, **PATTERNS),
    "olora": lora(init_lora_weights="olora", lr=1e-3),
    "olora-patterns": lora(init_lora_weights="olora", lr=1e-3, **PATTERNS),
    "orthogonal": lora(init_lora_weights="orthogonal", lr=1e-3),
    "mica": lora(init_lora_weights="mica"),
    "bias": lora(lora_bias=True, mergeable=False),
    "bias-gpt2": lora("gpt2", lora_bias=True),
}


@pytest.fixture
def folder(case, bases, small):  # noqa: F811
    return small(case.model).folder if case.model in models.SMALL else bases(case.model)


def test_peftkit_reads(case, folder, tmp_path):
    methods.reads(case, folder, tmp_path)


def test_peft_reads(case, folder, tmp_path):
    methods.writes(case, folder, tmp_path)


def test_same_losses(case, folder, tmp_path):
    methods.trains(case, folder, tmp_path)


def test_merge(case, folder, tmp_path):
    methods.merges(case, folder, tmp_path)


def same_rates(name, folder, tmp, flags, optimizer, lr=2e-3) -> None:
    """Ten steps of a method that is an optimizer in PEFT, from the start that peftkit makes."""
    data = methods.texts(tmp / "data.jsonl")
    command = ["train", "-m", folder, "-d", data, "--max-seq-len", 256, "--method", name, "--rank", 4, "--alpha", 6, *flags]
    peftkit.run(*command, "-o", tmp / "start", *training.Run(steps=1, lr=1e-30).arguments())
    run = training.Run(steps=10, lr=lr)
    peftkit.run(*command, "-o", tmp / "out", *run.arguments())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tuned = methods.load(lora(), folder, tmp / "start", trainable=True).eval()
    theirs = training.train(tuned, training.examples(data, tokenizer), tokenizer, run, optimizer=optimizer(tuned, lr))
    ours = peftkit.metrics(tmp / "out")
    compare.relative("loss", [s["loss"] for s in ours], [s["loss"] for s in theirs], bounds.LOSS)
    assert abs(theirs[-1]["loss"] - theirs[0]["loss"]) > 1e-2
    ids = methods.ids_of(folder)
    compare.close("logits", models.logits(methods.load(lora(), folder, tmp / "out"), ids), models.logits(tuned, ids), bounds.TRAINED / 2)  # a few steps, at rates that differ


def test_loraplus(small, tmp_path):
    def optimizer(tuned, lr):
        return create_loraplus_optimizer(tuned, torch.optim.AdamW, lr=lr, loraplus_lr_ratio=5.0, loraplus_lr_embedding=lr / 4)

    flags = ["--target-modules", "embed_tokens,q_proj,v_proj", "--set", "loraplus_lr_ratio=5", "--set", "loraplus_embedding_ratio=0.25"]
    same_rates("loraplus", small("untied").folder, tmp_path, flags, optimizer)


def test_eva(small, tmp_path):
    """The same ranks, and spaces as near as PEFT's randomised decomposition allows."""
    folder, targets = small("untied").folder, ["q_proj", "k_proj", "v_proj", "down_proj"]
    data = methods.texts(tmp_path / "data.jsonl")
    peftkit.run("train", "-m", folder, "-d", data, "-o", tmp_path / "ours", "--method", "eva", "--rank", 4, "--target-modules", ",".join(targets),
                *training.Run(steps=1, batch=4, lr=1e-30).arguments())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    rows, batches = training.examples(data, tokenizer), []
    for i in range(0, len(rows), 4):
        ids, labels, mask = training._pad(rows[i:i + 4], tokenizer)
        for j, (row, _) in enumerate(rows[i:i + 4]):
            labels[j, len(row) - 1] = -100  # peftkit does not compute a last token, from which nothing is learned
        batches.append({"input_ids": ids, "labels": labels, "attention_mask": mask})
    config = LoraConfig(r=4, lora_alpha=1, init_lora_weights="eva", eva_config=EvaConfig(rho=2.0), target_modules=targets, task_type="CAUSAL_LM")
    tuned = get_peft_model(models.load(folder), config)
    initialize_lora_eva_weights(tuned, batches, show_progress_bar=False)
    tuned.save_pretrained(tmp_path / "theirs")
    ours, theirs = (load_file(tmp_path / p / "adapter_model.safetensors") for p in ("ours", "theirs"))
    compare.same("ranks", sorted((k, list(v.shape)) for k, v in ours.items()), sorted((k, list(v.shape)) for k, v in theirs.items()))
    for name in (n for n in ours if "lora_A" in n):
        angles = torch.linalg.svdvals(torch.linalg.qr(ours[name].T)[0].T @ torch.linalg.qr(theirs[name].T)[0])
        assert angles.min() > 0.999, f"{name}: cosines of the angles between the spaces are {angles}"
    methods.load(lora(), folder, tmp_path / "ours")


def test_lorafa(small, tmp_path, monkeypatch):
    # PEFT projects in bfloat16 wherever that exists, and has another epsilon.
    monkeypatch.setattr(peft.optimizers.lorafa, "is_bf16_available", lambda: False)

    def optimizer(tuned, lr):
        made = create_lorafa_optimizer(tuned, r=4, lora_alpha=6, lr=lr)
        made.param_groups[0]["eps"] = 1e-10
        return made

    same_rates("lora-fa", small("untied").folder, tmp_path, ["--target-modules", "q_proj,v_proj,down_proj"], optimizer, lr=1e-2)
