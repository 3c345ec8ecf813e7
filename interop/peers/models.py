"""Small seeded models that transformers makes, one per feature of the family."""

import copy
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as hf_logging

from . import tokenizers_

hf_logging.disable_progress_bar()


@dataclass(frozen=True)
class Small:
    """A small Llama: what differs from the plain one, how it is stored."""

    name: str
    config: dict = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    shard: str = "1GB"


_LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

SMALL = {s.name: s for s in [
    Small("tied"),
    Small("untied", {"tie_word_embeddings": False}),
    Small("mha", {"num_key_value_heads": 4}),
    Small("mqa", {"num_key_value_heads": 1}),
    Small("head-dim", {"head_dim": 32}),
    Small("attention-bias", {"attention_bias": True}),
    Small("mlp-bias", {"mlp_bias": True}),
    Small("rope-theta", {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
    Small("rope-llama3", {"rope_parameters": _LLAMA3}),
    # Bends the rotary table within the few positions of a test; its parameters are no
    # published model's, so they cannot be told from the table that a GGUF holds.
    Small("rope-llama3-short", {"rope_parameters": {**_LLAMA3, "original_max_position_embeddings": 64}}),
    Small("rope-linear", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    Small("norm-eps", {"rms_norm_eps": 1e-3}),
    Small("bfloat16", dtype=torch.bfloat16),
    Small("float16", dtype=torch.float16),
    Small("sharded", {"tie_word_embeddings": False}, shard="60KB"),
]}


def fill(model: torch.nn.Module, scale: float = 1.0) -> None:
    """Fills every parameter from a generator seeded by its name.

    Matrices get normal numbers of deviation scale/sqrt(columns), norms lie
    around one, biases around zero: large enough that a wrong position, head or
    bias moves the logits far beyond any tolerance.
    """
    with torch.no_grad():
        for name, p in model.named_parameters():
            rng = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            noise = torch.randn(p.shape, generator=rng)
            if p.dim() == 1:
                p.copy_(1 + 0.2 * noise if "norm" in name else 0.2 * noise)
            else:
                p.copy_(scale * noise / p.shape[1] ** 0.5)


def build(small: Small, tokenizer) -> LlamaForCausalLM:
    """The model in float32, its numbers rounded to the storage type."""
    config = LlamaConfig(**{
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None, **small.config})
    model = LlamaForCausalLM(config)
    fill(model, scale=1.5)
    with torch.no_grad():
        for p in model.parameters():  # parameters only: the rotary table stays float32
            p.copy_(p.to(small.dtype))
    return model.eval()


def save(small: Small, folder: Path) -> LlamaForCausalLM:
    """Writes the Hugging Face folder of small and returns its float32 model."""
    tokenizer = tokenizers_.small()
    model = build(small, tokenizer)
    copy.deepcopy(model).to(small.dtype).save_pretrained(folder, max_shard_size=small.shard)
    tokenizer.save_pretrained(folder)
    return model


def load(folder: Path, dtype: torch.dtype = torch.float32):
    """Loads a folder with transformers, as the class that it names; every key must be found, none left over."""
    named = json.loads((folder / "config.json").read_text()).get("architectures") or [""]
    model, info = getattr(transformers, named[0], AutoModelForCausalLM).from_pretrained(folder, dtype=dtype, output_loading_info=True, local_files_only=True)
    wrong = {k: v for k, v in info.items() if v}
    if wrong:
        raise AssertionError(f"transformers loading {folder}: {wrong}")
    return model.eval()


@torch.no_grad()
def logits(model, ids: list[int], two: bool | None = None):
    """Float32 logits of one sequence: [len(ids), vocab or labels], of a text classifier [1, labels].

    The decoder of an encoder-decoder, which two says if the configuration is not to be believed, reads decoded(ids).
    """
    two = model.config.is_encoder_decoder if two is None else two
    two = {"decoder_input_ids": torch.tensor([decoded(ids)])} if two else {}
    out = model(input_ids=torch.tensor([ids]), **two).logits.float()
    return (out[0] if out.dim() == 3 else out).numpy()


def decoded(ids: list[int]) -> list[int]:
    """What the decoder reads where the encoder reads ids."""
    return [2] + ids[:5][::-1]


@torch.no_grad()
def greedy(model, ids: list[int], n: int, stop: set[int]) -> list[int]:
    """Up to n most likely next tokens, one after the other; stops before one of stop."""
    out, feed, cache = [], list(ids), None
    while len(out) < n:
        step = model(input_ids=torch.tensor([feed]), past_key_values=cache, use_cache=True)
        token, cache = int(step.logits[0, -1].argmax()), step.past_key_values
        if token in stop:
            break
        out.append(token)
        feed = [token]
    return out
