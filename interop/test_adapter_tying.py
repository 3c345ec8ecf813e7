"""ensure_weight_tying: adapters of tied embeddings that stay tied, against Hugging Face PEFT."""

import json

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from peers import compare, methods, models, peftkit
from peers.methods import Case, bases  # noqa: F401 (a fixture)


def tying(model="llama", copies=("base_layer.weight",), **options) -> Case:
    return Case(LoraConfig, {"r": 4, "lora_alpha": 6, "ensure_weight_tying": True, **options}, model, copies=copies)


CASES = {
    "embedding": tying(target_modules=["q_proj", "embed_tokens"]),
    "head": tying(target_modules=["q_proj", "lm_head"]),
    "both": tying(target_modules=["q_proj", "lm_head", "embed_tokens"]),
    "rslora": tying(target_modules=["v_proj", "embed_tokens"], use_rslora=True, rank_pattern={"embed_tokens": 2, "lm_head": 2}),
    "other-scale": tying(target_modules=["q_proj", "embed_tokens"], alpha_pattern={"lm_head": 20}),
    "saved": tying(target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    "saved-head": tying(target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "none": tying(target_modules=["q_proj"]),
    "untied": tying("untied", target_modules=["q_proj", "embed_tokens"]),
    "tokens": Case(LoraConfig, {"r": 4, "target_modules": ["q_proj"], "trainable_token_indices": [5, 77], "ensure_weight_tying": True}, noise=0.1, unsaved=("lm_head.token_adapter",)),
}


@pytest.fixture(params=CASES)
def case(request):
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
    """The merged model computes what the adapter does and stays tied. PEFT 0.21.2 adds the change of a tied weight twice."""
    methods.filled(case, folder, tmp_path / "theirs")
    ids = methods.ids_of(folder)
    want = models.logits(methods.load(case, folder, tmp_path / "theirs"), ids)
    peftkit.run("merge-lora", "-m", folder, "--lora", tmp_path / "theirs", "-o", tmp_path / "ours")
    merged = models.load(tmp_path / "ours")
    compare.close("merged", models.logits(merged, ids), want, 1e-4)
    compare.close("merged, by peftkit", peftkit.logits(tmp_path / "ours", ids), want, 1e-4)
    tied = case.model == "llama" and "alpha_pattern" not in case.options
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["tie_word_embeddings"] is tied
    assert (merged.get_input_embeddings().weight is merged.get_output_embeddings().weight) is tied


def test_the_head_counts(bases, tmp_path):  # noqa: F811
    """A file whose copies differ: PEFT reads the head's last."""
    from safetensors.torch import save_file

    case, folder = CASES["embedding"], bases("llama")
    methods.filled(case, folder, tmp_path / "a")
    file = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(file)
    for name in tensors:
        if "lora_embedding_" in name:
            tensors[name] = torch.ones_like(tensors[name])
    save_file(tensors, file)
    ids = methods.ids_of(folder)
    compare.close("logits", peftkit.logits(folder, ids, tmp_path / "a"), models.logits(methods.load(case, folder, tmp_path / "a"), ids), 1e-4)
