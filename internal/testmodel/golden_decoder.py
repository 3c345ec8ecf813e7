"""Golden outputs of small decoder-only models, from transformers.

    python internal/testmodel/golden_decoder.py

writes model/decoder/testdata/golden.json: the configuration of each model, the shapes of its tensors (their numbers
follow from the names, see seeded.go), and a few rows of the logits that transformers computes. Needs torch,
transformers 5 and numpy.
"""

import json

import torch
import transformers
from golden_seq2seq import ROOT, rounded, seeded

TOKENS = [5, 17, 30, 8, 8, 41, 3, 22, 19, 46, 11, 12, 40]
ROWS = [0, 4, 8, 12]

BASE = {
    "vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 3,
}
GPT2 = {"vocab_size": 48, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 3}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.3, 1.5], "long_factor": [1.5, 2.0, 3.0, 4.0]}
GEMMA = {"head_dim": 16}
BY_TYPE = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
           "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}

CAUSAL, SEQUENCE, TOKEN = "ForCausalLM", "ForSequenceClassification", "ForTokenClassification"
MODELS = {
    "llama": ("Llama" + CAUSAL, {"attention_bias": True, "mlp_bias": True}),
    "llama linear": ("Llama" + CAUSAL, {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "llama llama3": ("Llama" + CAUSAL, {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama yarn": ("Llama" + CAUSAL, {"rope_parameters": YARN}),
    "llama yarn by hand": ("Llama" + CAUSAL, {"rope_parameters": {**YARN, "attention_factor": 1.3, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False}}),
    "llama sequence": ("Llama" + SEQUENCE, {}),
    "llama token": ("Llama" + TOKEN, {}),
    "mistral": ("Mistral" + CAUSAL, {"sliding_window": 5, "head_dim": 16}),
    "qwen2": ("Qwen2" + CAUSAL, {"tie_word_embeddings": True}),
    "qwen2 window": ("Qwen2" + CAUSAL, {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen2 sequence": ("Qwen2" + SEQUENCE, {}),
    "qwen3": ("Qwen3" + CAUSAL, {"head_dim": 16}),
    "qwen3 bias": ("Qwen3" + CAUSAL, {"head_dim": 8, "attention_bias": True}),
    "smollm3": ("SmolLM3" + CAUSAL, {"num_hidden_layers": 5, "no_rope_layer_interval": 2}),
    "gemma": ("Gemma" + CAUSAL, GEMMA),
    "gemma2": ("Gemma2" + CAUSAL, {**GEMMA, "sliding_window": 4, "query_pre_attn_scalar": 20}),
    "gemma2 sequence": ("Gemma2" + SEQUENCE, {**GEMMA, "sliding_window": 4}),
    "gemma3": ("Gemma3" + CAUSAL, {**GEMMA, "sliding_window": 4, "num_hidden_layers": 7}),
    "gemma3 types": ("Gemma3" + CAUSAL, {**GEMMA, "sliding_window": 4, "final_logit_softcapping": 20.0, "rope_parameters": BY_TYPE,
                                          "layer_types": ["full_attention", "sliding_attention"]}),
    "gemma3 sequence": ("Gemma3TextForSequenceClassification", {**GEMMA, "sliding_window": 4}),
    "phi3": ("Phi3" + CAUSAL, {"sliding_window": 5}),
    "phi3 partial": ("Phi3" + CAUSAL, {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    "phi3 long": ("Phi3" + CAUSAL, {"original_max_position_embeddings": 8, "rope_parameters": LONG}),
    "phi3 short": ("Phi3" + CAUSAL, {"original_max_position_embeddings": 16, "rope_parameters": LONG}),
    "gpt2": ("GPT2LMHeadModel", {}),
    "gpt2 variant": ("GPT2LMHeadModel", {"n_inner": 80, "scale_attn_by_inverse_layer_idx": True, "activation_function": "relu", "tie_word_embeddings": False}),
    "gpt2 sequence": ("GPT2ForSequenceClassification", {}),
    "gpt2 token": ("GPT2ForTokenClassification", {}),
}


def golden(cls: str, changes: dict) -> dict:
    kind = getattr(transformers, cls)
    config = {**(GPT2 if cls.startswith("GPT2") else BASE), **changes}
    made = transformers.Gemma3TextConfig if cls.startswith("Gemma3") else kind.config_class
    model = kind(made(**json.loads(json.dumps(config)))).eval()
    model.set_attn_implementation("eager")
    tied = model.config.tie_word_embeddings
    shapes = {k: list(v.shape) for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
    missing, unexpected = model.load_state_dict({k: seeded(k, v) for k, v in shapes.items()}, strict=False)
    assert not unexpected and all(k == "lm_head.weight" for k in missing), (missing, unexpected)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([TOKENS])).logits
    logits = logits[0][ROWS] if logits.dim() == 3 else logits
    modules = [n for n, m in model.named_modules() if list(m.parameters(recurse=False))]
    config = {"architectures": [cls], "model_type": made.model_type, "tie_word_embeddings": tied, **config}
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(config.pop("num_labels"))}
    return {"config": config, "tensors": shapes, "modules": modules, "tokens": TOKENS, "rows": ROWS, "logits": rounded(logits.tolist())}


def main() -> None:
    path = ROOT / "model" / "decoder" / "testdata" / "golden.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(golden(*v))}" for k, v in MODELS.items()) + "\n}\n")


if __name__ == "__main__":
    main()
