"""LoRA adapters made, loaded and merged by Hugging Face PEFT."""

import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import peft
import peft.peft_model
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open

from .compare import Mismatch

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Kind:
    """A LoRA configuration."""

    name: str
    config: dict = field(default_factory=dict)
    untied: bool = False  # needs a model with its own output layer
    save: dict = field(default_factory=dict)  # options of save_pretrained


KINDS = {k.name: k for k in [
    Kind("plain", {"target_modules": ["q_proj", "v_proj"]}),
    Kind("all-linear", {"target_modules": "all-linear"}),
    Kind("rslora", {"use_rslora": True}),
    Kind("rank-pattern", {"rank_pattern": {"q_proj": 2, "model.layers.1.mlp.down_proj": 7}}),
    Kind("alpha-pattern", {"alpha_pattern": {"v_proj": 3, "layers.0.self_attn.o_proj": 40}}),
    Kind("patterns-rslora", {"use_rslora": True, "rank_pattern": {"k_proj": 5}, "alpha_pattern": {"k_proj": 11}}),
    Kind("regex", {"target_modules": r".*layers\.1\.(self_attn|mlp)\.(q|up)_proj"}),
    Kind("layers", {"layers_to_transform": [1], "layers_pattern": "layers"}),
    Kind("exclude", {"exclude_modules": ["o_proj"]}),
    Kind("embedding", {"target_modules": ["q_proj", "embed_tokens"]}, untied=True),
    Kind("lm-head", {"target_modules": ["v_proj", "lm_head"]}, untied=True),
    Kind("lm-head-factors", {"target_modules": ["v_proj", "lm_head"]}, untied=True, save={"save_embedding_layers": False}),
    Kind("modules-to-save", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, untied=True),
    Kind("modules-to-save-norm", {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    Kind("lora-bias", {"target_modules": ["q_proj", "down_proj"], "lora_bias": True}),
]}


def make(model, kind: Kind, fill: float = 0.3) -> PeftModel:
    """Attaches kind to model; every trained number random, seeded by its name (B too)."""
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": ALL, "task_type": "CAUSAL_LM", **kind.config})
    tuned = get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, p in tuned.named_parameters():
            if p.requires_grad:
                rng = torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ 7)
                noise = torch.randn(p.shape, generator=rng)
                if "modules_to_save" in name:
                    p.add_(0.1 * noise)
                else:
                    p.copy_(fill * noise / p.shape[-1] ** 0.5)
    return tuned


@contextmanager
def _recorded():
    """Keeps what set_peft_model_state_dict returns, which PEFT itself only warns about."""
    original, results = peft.peft_model.set_peft_model_state_dict, []

    def wrapper(*args, **kwargs):
        result = original(*args, **kwargs)
        results.append((list(result.missing_keys), list(result.unexpected_keys)))
        return result

    peft.peft_model.set_peft_model_state_dict = wrapper
    try:
        yield results
    finally:
        peft.peft_model.set_peft_model_state_dict = original


def load(model, folder: Path, trainable: bool = False, ignore: tuple = ()) -> PeftModel:
    """PeftModel.from_pretrained, with every tensor of the file used and none of the adapter's left out.

    ignore lists parts of names that PEFT keeps in its state and never saves.
    """
    with _recorded() as results:
        tuned = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    ((missing, unexpected),) = results
    missing = [k for k in missing if ".default." in f"{k}." and not any(part in k for part in ignore)]
    if missing or unexpected:
        raise Mismatch(f"PEFT loading {folder}: {len(missing)} missing {missing[:4]}, {len(unexpected)} unexpected {unexpected[:4]}")
    with safe_open(folder / "adapter_model.safetensors", "pt") as f:
        stored = len(f.keys())
    if stored == 0:
        raise Mismatch(f"PEFT loading {folder}: the file holds no tensor")
    return tuned.train(trainable)


def rescale(tuned, factors: dict[str, float]) -> None:
    """Multiplies the scale of the named adapters in every layer."""
    for module in tuned.modules():
        if isinstance(scaling := getattr(module, "scaling", None), dict):
            for name, factor in factors.items():
                if name in scaling:
                    scaling[name] *= factor
