"""TinyLoRA against Hugging Face PEFT: files, logits, losses, merges."""

from peft import TinyLoraConfig

from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

#: Every layer of PEFT's state repeats the vectors; files hold them once.
SHARED = tuple(f"{layer}.tinylora_v" for layer in ("q_proj", "v_proj", "down_proj", "c_attn", "c_proj", "embed_tokens", "lm_head"))


def tiny(options: dict, model: str = "llama", copies: tuple = (), more: tuple = ()) -> Case:
    return Case(TinyLoraConfig, options, model, fill=3, noise=1, copies=copies, unsaved=SHARED + more)


CASES = {
    "tinylora": tiny({}),
    "tinylora-uniform": tiny({"r": 3, "u": 20, "init_weights": "uniform", "init_v_bound": 0.1}),
    "tinylora-drawn": tiny({"r": 3, "u": 11, "save_projection": False}),
    "tinylora-seed": tiny({"r": 2, "u": 4, "save_projection": False, "projection_seed": 12345}),
    "tinylora-tied": tiny({"r": 4, "u": 13, "weight_tying": 1.0}),
    "tinylora-partly": tiny({"r": 2, "u": 9, "weight_tying": 0.6, "save_projection": False}),
    "tinylora-half": tiny({"r": 2, "u": 9, "weight_tying": 0.25, "save_projection": False, "target_modules": ["v_proj"]}),
    "tinylora-high": tiny({"r": 80, "u": 3, "target_modules": ["v_proj", "down_proj"]}),
    "tinylora-gpt2": tiny({"r": 4}, "gpt2"),
    "tinylora-gpt2-drawn": tiny({"r": 4, "u": 8, "weight_tying": 0.5, "save_projection": False}, "gpt2"),
    "tinylora-embedding": tiny({"r": 4, "u": 16, "target_modules": ["embed_tokens", "v_proj"]}, "qwen2", copies=("base_layer.weight",)),
    # PEFT does not save the matrices of embeddings either, but misses them
    "tinylora-embedding-drawn": tiny({"r": 4, "u": 16, "save_projection": False, "target_modules": ["embed_tokens", "v_proj", "lm_head"]}, "qwen2",
                                     copies=("base_layer.weight",), more=("embed_tokens.tinylora_P",)),
}
