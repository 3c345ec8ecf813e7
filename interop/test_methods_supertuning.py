"""Super-Tuning, the largest elements of weights, against Hugging Face PEFT: files, logits, losses, merges."""

import json

import pytest
import torch
from peft import SupertuningConfig, get_peft_model
from safetensors.torch import load_file

from peers import bounds, compare, methods, models, peftkit, tokenizers_
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.masks import Masks
from peers.methods import Case, bases  # noqa: F401 (a fixture)
from peers.models import SMALL
from peers.training import Run

CASES = {
    "super": Case(SupertuningConfig, {"sparsity": 0.9}, noise=0.3, fill=3),
    "super-default": Case(SupertuningConfig, {}, fill=3),
    "super-smallest": Case(SupertuningConfig, {"sparsity": 0.9, "select_top": False}, fill=3),
    "super-all": Case(SupertuningConfig, {"sparsity": 0.0, "target_modules": ["v_proj"]}, fill=3),
    "super-chosen-again": Case(SupertuningConfig, {"sparsity": 0.9, "save_precomputed_indices": False}, fill=3),
    "super-random": Case(SupertuningConfig, {"init_weights": False, "sparsity": 0.995}, lr=1e-3),
    "super-biases": Case(SupertuningConfig, {"sparsity": 0.7, "target_modules": ["q_proj", "v_proj"]}, "qwen2", fill=10),
    "supra": Case(SupertuningConfig, {"sparsity": 0.9, "r": 4}, noise=0.3, fill=1),
    "supra-alpha": Case(SupertuningConfig, {"sparsity": 0.9, "r": 2, "lora_alpha": 5.0, "select_top": False, "save_precomputed_indices": False}, noise=0.3, fill=1),
    "supra-random": Case(SupertuningConfig, {"init_weights": False, "sparsity": 0.995, "r": 4}, lr=1e-3),
}


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """The small Llama with weights in bfloat16, many of which are equal."""
    folder = tmp_path_factory.mktemp("coarse")
    model = models.save(SMALL["tied"], folder)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((p * 64).round() / 64)
    model.bfloat16().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("options", [{}, {"select_top": False}, {"sparsity": 0.6}, {"sparsity": 0.6, "select_top": False}, {"sparsity": 0.0}], ids=str)
def test_same_choice(coarse, tmp_path, options):
    """Among equal numbers peftkit chooses those that PEFT chooses, in the same order."""
    case = Case(SupertuningConfig, options)
    peftkit.run("train", "-m", coarse, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", tmp_path / "ours", "--max-steps", 1, "--save-steps", 0, "--val-split", 0,
                *case.flags())
    base = models.load(coarse, torch.bfloat16)
    get_peft_model(base, case.build()).save_pretrained(tmp_path / "theirs")
    ours, theirs = ({k: v for k, v in load_file(tmp_path / who / "adapter_model.safetensors").items() if k.endswith("indices")} for who in ("ours", "theirs"))
    compare.keys("indices", ours, theirs)
    for key in theirs:
        assert ours[key].dtype == torch.int32 and torch.equal(ours[key], theirs[key]), key


@pytest.mark.parametrize("options", [{}, {"select_top": False, "sparsity": 0.6, "r": 2}], ids=str)
def test_chosen_again(coarse, tmp_path, options):
    """Without indices a file is read on a base of equal numbers as PEFT reads it."""
    case = Case(SupertuningConfig, {**options, "save_precomputed_indices": False}, fill=3)
    methods.reads(case, coarse, tmp_path)
    methods.writes(case, coarse, tmp_path)


def test_config(bases, tmp_path):  # noqa: F811
    """The keys of the configuration are PEFT's, with the alpha that PEFT chooses."""
    case = Case(SupertuningConfig, {"r": 3})
    peftkit.run("train", "-m", bases("llama"), "-d", methods.texts(tmp_path / "data.jsonl"), "-o", tmp_path / "ours", "--max-steps", 1, "--save-steps", 0,
                "--val-split", 0, *case.flags())
    methods.started(case, bases("llama"), tmp_path / "theirs")
    ours, theirs = (json.loads((tmp_path / who / "adapter_config.json").read_text()) for who in ("ours", "theirs"))
    aside = {"base_model_name_or_path", "peft_version", "target_modules"}
    assert {k: v for k, v in ours.items() if k not in aside} == {k: v for k, v in theirs.items() if k not in aside}
    assert sorted(ours["target_modules"]) == sorted(theirs["target_modules"])


def test_dropout(bases, tmp_path, monkeypatch):  # noqa: F811
    """Under the same masks LoRA's dropout gives the same losses: the elements see the whole input."""
    case = Case(SupertuningConfig, {"sparsity": 0.9, "r": 4, "lora_dropout": 0.4}, noise=0.3)
    folder, data, run = bases("llama"), methods.texts(tmp_path / "data.jsonl", 8), Run(steps=6, batch=1, lr=1e-3)
    start, out, masks = methods.started(case, folder, tmp_path / "start"), tmp_path / "out", Masks(run.seed)
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--init-adapter", start, "--max-seq-len", 256, *run.arguments())
    tuned = methods.load(case, folder, start, trainable=True).train()
    with masks.placed(monkeypatch):
        theirs = methods.reference(case, tuned, data, tokenizers_.small(), run, after=lambda step: masks.begin(step + 1))
    mine = peftkit.metrics(out)
    compare.relative("loss", [s["loss"] for s in mine], [s["loss"] for s in theirs], bounds.LOSS)
    compare.relative("grad_norm", [s["grad_norm"] for s in mine], [s["grad_norm"] for s in theirs], bounds.GRADIENT)
    assert masks.calls, "nothing was dropped: the test would prove nothing"


def test_gpt2(bases, tmp_path):  # noqa: F811
    """PEFT refuses GPT-2's Conv1D, which peftkit trains and merges."""
    case = Case(SupertuningConfig, {"sparsity": 0.9, "r": 2}, "gpt2")
    folder, ours, merged = bases(case.model), tmp_path / "ours", tmp_path / "merged"
    with pytest.raises(TypeError, match="only `torch.nn.Linear` is supported"):
        methods.started(case, folder, tmp_path / "theirs")
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", ours, "--max-steps", 4, "--save-steps", 0, "--val-split", 0,
                "--lr", case.lr, *case.flags())
    peftkit.run("merge-lora", "-m", folder, "--lora", ours, "-o", merged)
    ids = methods.ids_of(folder)
    got = methods.ours(case, folder, ids, ours)
    assert abs(got - models.logits(models.load(folder), ids)).max() > 1e-4
    assert abs(got - models.logits(models.load(merged), ids)).max() < bounds.LOGITS
