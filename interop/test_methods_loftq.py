"""LoftQ and its quantisations against Hugging Face PEFT and bitsandbytes."""

import importlib.util

import bitsandbytes.functional
import pytest
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from bitsandbytes.functional import quantize_4bit
from peft import LoraConfig
from peft.utils.loftq_utils import loftq_init
from safetensors.torch import load_file

from peers import bounds, compare, methods, models, peftkit
from peers.methods import Case, bases  # noqa: F401 (a fixture)


def loftq(model="llama", bits=4, rounds=1, **options) -> Case:
    options = {"r": 4, "lora_alpha": 4, "init_lora_weights": "loftq", "loftq_config": {"loftq_bits": bits, "loftq_iter": rounds}, **options}
    return Case(LoraConfig, options, model, lr=1e-3, merged=2 * bounds.CHAINED)


CASES = {
    "nf4": loftq(),
    "nf4-rows": loftq("untied", target_modules=["down_proj"]),  # 160 inputs: blocks of 64 across the ends of rows
    "int8": loftq(bits=8),
    "scale": loftq(lora_alpha=6, use_rslora=True),
    "dora": loftq(use_dora=True),
}


def portable(q, state) -> torch.Tensor:
    return _dequantize_4bit_compute(q.reshape(-1), state.absmax, state.code, state.blocksize, state.shape, state.dtype)


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """PEFT moves weights to a GPU to quantise them: here there is none, and bitsandbytes computes the same on a CPU."""
    to, find = torch.Tensor.to, importlib.util.find_spec
    here = lambda x: "cpu" if isinstance(x, (str, torch.device)) and str(x).startswith("cuda") else x
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: to(self, *map(here, a), **{n: here(x) for n, x in k.items()}))
    # The CPU kernel of bitsandbytes 0.50.2 decodes rows that are no multiple of 64 wrongly; this is its portable code.
    monkeypatch.setattr(bitsandbytes.functional, "dequantize_4bit", portable)
    # PEFT asks for a package that it no longer uses.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: find("torch" if name == "scipy" else name, *a))


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


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rounds", [1, 3])
def test_start(bits, rounds, small, tmp_path):
    """The base that is trained on is PEFT's to the last bit, A and B are its up to the signs of pairs."""
    folder = small("untied").folder
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", tmp_path / "ours", "--method", "loftq", "--rank", 4, "--alpha", 4,
                "--set", f'loftq_config={{"loftq_bits": {bits}, "loftq_iter": {rounds}}}', "--max-steps", 1, "--lr", "1e-30", "--save-steps", 0)
    peftkit.run("merge-lora", "-m", folder, "--lora", tmp_path / "ours", "-o", tmp_path / "merged")
    start, merged = (load_file(tmp_path / p) for p in ("ours/adapter_model.safetensors", "merged/model.safetensors"))
    for name, w in load_file(folder / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            continue
        path = "base_model.model." + name.removesuffix(".weight")
        a, b = start[path + ".lora_A.weight"], start[path + ".lora_B.weight"]
        q, their_a, their_b = loftq_init(w, bits, 4, rounds)
        signs = torch.sign((a * their_a).sum(1))
        # Later rounds quantise what a decomposition left: rounding may move a weight to the next code,
        # and with 8 bits the scale of a row, which is in half precision.
        # 1e-5 is bounds.CHAINED, 5e-3 about a step of 8 bits, 2e-3 of the elements no bound but a safety factor: few move. A and B of one round come from a float32
        # decomposition (bounds.DECOMPOSED, and a root); of later rounds from matrices of which codes moved.
        off = lambda x, y: ((x - y).abs() > (1e-5 if rounds == 1 or bits == 4 else 5e-3)).float().mean().item()
        allowed = 0 if rounds == 1 else 2e-3
        assert off(merged[name] - b @ a, q) <= allowed, f"{name}: the quantised weights differ"
        compare.close(f"{name} A", (a * signs[:, None]).numpy(), their_a.numpy(), 2e-4 if rounds == 1 else 2e-2)
        compare.close(f"{name} B", (b * signs).numpy(), their_b.numpy(), 2e-4 if rounds == 1 else 2e-2)


def test_table():
    """bitsandbytes quantises these numbers as the other tests take for granted: blocks of 64 over the flattened matrix."""
    w = torch.randn(3, 96, generator=torch.Generator().manual_seed(1))
    q, state = quantize_4bit(w, compress_statistics=False, quant_type="nf4")
    assert state.blocksize == 64 and state.absmax.numel() == 5  # 288 = 4 x 64 + 32
    assert (portable(q, state) - w).abs().max() < 0.5
