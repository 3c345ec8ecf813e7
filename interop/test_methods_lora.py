"""LoRA's variants against Hugging Face PEFT: files, logits, losses, merges."""

import pytest
from peft import LoraConfig

from peers import methods, models
from peers.methods import Case, bases  # noqa: F401 (a fixture)


def lora(model="llama", **options) -> Case:
    more = {k: options.pop(k) for k in ("lr", "noise", "fill", "mergeable", "merged", "train_only", "copies") if k in options}
    return Case(LoraConfig, {"r": 4, "lora_alpha": 6, **options}, model, **more)


PATTERNS = {"rank_pattern": {"q_proj": 2, "down_proj": 6}, "alpha_pattern": {"v_proj": 3}}

CASES = {
    "rslora": lora(use_rslora=True, **PATTERNS),
    "dora": lora(use_dora=True),
    "dora-rslora": lora(use_dora=True, use_rslora=True, **PATTERNS),
    "dora-gpt2": lora("gpt2", use_dora=True),
    "dora-embedding": lora("untied", use_dora=True, target_modules=["embed_tokens", "q_proj"], copies=("base_layer.weight",)),
    "dora-biases": lora("attention-bias", use_dora=True, bias="lora_only", target_modules=["q_proj", "o_proj"]),
    "pissa": lora(init_lora_weights="pissa", lr=1e-3),
    "pissa-dora": lora(init_lora_weights="pissa", use_dora=True, lr=1e-3),
    "pissa-gpt2": lora("gpt2", init_lora_weights="pissa", lr=1e-3),
    "pissa-patterns": lora(init_lora_weights="pissa", use_rslora=True, lr=1e-3, **PATTERNS),
    "olora": lora(init_lora_weights="olora", lr=1e-3),
    "olora-patterns": lora(init_lora_weights="olora", lr=1e-3, **PATTERNS),
    "orthogonal": lora(init_lora_weights="orthogonal", lr=1e-3),
    "mica": lora(init_lora_weights="mica"),
    "bias": lora(lora_bias=True, mergeable=False),
    "bias-gpt2": lora("gpt2", lora_bias=True),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


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
