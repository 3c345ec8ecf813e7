"""Small seeded models of the decoder-only families that transformers makes, one per variant."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from . import bounds, tokenizers_


@dataclass(frozen=True)
class Variant:
    """A small model: transformers' class prefix, what differs from the plain one, how it is stored."""

    name: str
    classes: str
    config: dict = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    #: Can a GGUF file say it, and does llama.cpp compute the same?
    gguf: bool = True
    llamacpp: bool = True

    @property
    def llamacpp_tolerance(self) -> float:
        """ggml looks GELU up in a table of half precision."""
        return bounds.GGML_GELU if self.classes.startswith(("Gemma", "GPT2")) else bounds.LOGITS


_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
_LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}
_LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
         "long_factor": [1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0]}
_BY_TYPE = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
_GEMMA = {"head_dim": 32, "pad_token_id": 0}
_SCALED = {"query_pre_attn_scalar": 32}

VARIANTS = {v.name: v for v in [
    Variant("llama-yarn", "Llama", {"rope_parameters": _YARN}),
    Variant("llama-linear", "Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    Variant("mistral", "Mistral", {"sliding_window": None}),
    Variant("mistral-window", "Mistral", {"sliding_window": 7, "head_dim": 32}),
    Variant("mistral-wide", "Mistral", {"sliding_window": 100}),
    Variant("qwen2", "Qwen2"),
    Variant("qwen2-wide", "Qwen2", {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1}),
    Variant("qwen2-tied", "Qwen2", {"tie_word_embeddings": True}, torch.bfloat16),
    Variant("qwen2-window", "Qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    Variant("qwen2-yarn", "Qwen2", {"rope_parameters": _YARN}),
    Variant("qwen2-llama3", "Qwen2", {"rope_parameters": _LLAMA3}, gguf=False),
    Variant("qwen3", "Qwen3", {"head_dim": 32}),
    Variant("qwen3-bias", "Qwen3", {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": True}, llamacpp=False),
    Variant("smollm3", "SmolLM3", {"num_hidden_layers": 5}),
    Variant("smollm3-llama3", "SmolLM3", {"num_hidden_layers": 5, "rope_parameters": _LLAMA3}, gguf=False),
    Variant("gemma", "Gemma", _GEMMA),
    Variant("gemma-bfloat16", "Gemma", _GEMMA, torch.bfloat16),
    Variant("gemma2", "Gemma2", {**_GEMMA, **_SCALED, "sliding_window": 6, "num_hidden_layers": 4}),
    Variant("gemma2-uncapped", "Gemma2", {**_GEMMA, "query_pre_attn_scalar": 20, "attn_logit_softcapping": None,
                                          "final_logit_softcapping": None, "sliding_window": 6}, gguf=False),
    Variant("gemma2-full", "Gemma2", {**_GEMMA, **_SCALED, "layer_types": ["full_attention", "full_attention"]}, gguf=False),
    Variant("gemma3", "Gemma3", {**_GEMMA, **_SCALED, "sliding_window": 6, "num_hidden_layers": 7}),
    Variant("gemma3-linear", "Gemma3", {**_GEMMA, **_SCALED, "sliding_window": 6, "num_hidden_layers": 7, "rope_parameters": _BY_TYPE}),
    Variant("gemma3-types", "Gemma3", {**_GEMMA, **_SCALED, "sliding_window": 6, "final_logit_softcapping": 20.0,
                                       "layer_types": ["full_attention", "sliding_attention"]}),
    Variant("phi3", "Phi3"),
    Variant("phi3-window", "Phi3", {"sliding_window": 7, "num_key_value_heads": 4}),
    Variant("phi3-longrope", "Phi3", {"max_position_embeddings": 1024, "original_max_position_embeddings": 256, "rope_parameters": _LONG}),
    Variant("phi3-partial", "Phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    Variant("gpt2", "GPT2"),
    Variant("gpt2-float16", "GPT2", {}, torch.float16),
    Variant("gpt2-variant", "GPT2", {"n_inner": 96, "scale_attn_by_inverse_layer_idx": True, "activation_function": "relu",
                                     "tie_word_embeddings": False}, gguf=False),
]}

#: Ending of transformers' class for each task, by class prefix where it differs.
TASKS = {"causal-lm": "ForCausalLM", "seq-cls": "ForSequenceClassification", "token-cls": "ForTokenClassification"}
_NAMES = {("GPT2", "causal-lm"): "GPT2LMHeadModel", ("Gemma3", "seq-cls"): "Gemma3TextForSequenceClassification"}
#: Heads that transformers does not have.
ABSENT = {("Gemma3", "token-cls")}


def _config(v: Variant, tokenizer):
    ids = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "num_labels": 3}
    if v.classes == "GPT2":
        return transformers.GPT2Config(**{**ids, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, **v.config})
    config = transformers.Gemma3TextConfig if v.classes == "Gemma3" else getattr(transformers, v.classes + "Config")
    return config(**{
        **ids, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 128, "pad_token_id": None, **v.config})


def fill(model: torch.nn.Module, ones: bool) -> None:
    """Fills every parameter from a generator seeded by its name; norms lie around one, or zero where one is added."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
            if p.dim() == 1:
                norm = ones and ("norm" in name or ".ln_" in name) and name.endswith("weight")
                p.copy_(0.2 * noise + (1 if norm else 0))
            else:
                p.copy_(1.5 * noise / p.shape[1] ** 0.5)


def save(v: Variant, task: str, folder: Path):
    """Writes the Hugging Face folder of v for a task and returns its float32 model."""
    tokenizer = tokenizers_.small()
    cls = getattr(transformers, _NAMES.get((v.classes, task), v.classes + TASKS[task]))
    model = cls(_config(v, tokenizer))
    fill(model, ones="Gemma" not in v.classes)
    model.to(v.dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = model.float().eval()  # the stored numbers, computed in float32
    for buffers in (model.named_buffers(),):
        for name, b in buffers:
            if name.endswith("embed_scale"):
                b.fill_(model.config.hidden_size ** 0.5)
    fresh = cls(_config(v, tokenizer)).eval()  # rotary tables that no rounding has touched
    fresh.load_state_dict(model.state_dict())
    fresh.set_attn_implementation("eager")
    return fresh
