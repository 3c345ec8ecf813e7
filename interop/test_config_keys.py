"""No key of config.json is read past: where one moves transformers' logits, it moves peftkit's as far, or is refused.

Every key that a configuration of transformers has is changed, alone, under the same weights.
"""

import json

import pytest

from peers import bounds, models, peftkit, tokenizers_
from test_methods_prompt import build

pytestmark = pytest.mark.usefixtures("one_thread")

#: Models; which of their keys count at least.
NAMES = {"llama": "rms_norm_eps", "mistral-window": "sliding_window", "qwen2": "hidden_act", "qwen3": "rms_norm_eps", "gemma2": "final_logit_softcapping",
         "gemma3": "query_pre_attn_scalar", "phi3": "rms_norm_eps", "smollm3": "no_rope_layers", "gpt2": "scale_attn_weights", "bert": "layer_norm_eps",
         "roberta-tokens": "pad_token_id", "distilbert": "activation", "t5": "dense_act_fn", "t5-gated": "relative_attention_max_distance", "bart": "scale_embedding",
         "marian": "activation_function", "mbart": "scale_embedding"}
#: Not about what is computed.
ASIDE = {"architectures", "model_type", "transformers_version", "_name_or_path", "id2label", "label2id", "dtype", "vocab_size", "output_attentions",
         "output_hidden_states", "return_dict"}
IDS = [5, 77, 301, 12, 250, 33, 8, 60, 61, 62, 63, 90, 91, 92, 93, 2]


def others(value):
    """Values of the same kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, max(value // 2, 1), 0]
    if isinstance(value, float):
        return [value * 1.5 + 0.1, 0.0]
    if isinstance(value, str):
        return ["relu", "gelu_new", "relative_key"]
    if isinstance(value, list):
        return [[1 - v if v in (0, 1) else v for v in value]]
    return [True, 1, 0.5] if value is None else []


@pytest.mark.parametrize("name", NAMES)
def test_keys(name, tmp_path):
    plain = build(name)
    two = plain.config.is_encoder_decoder
    plain.save_pretrained(tmp_path)
    tokenizers_.small().save_pretrained(tmp_path)
    path, want = tmp_path / "config.json", models.logits(plain, IDS, two)
    written = json.loads(path.read_text())
    moved, wrong = set(), []
    for key, value in plain.config.to_dict().items():
        for other in [] if key in ASIDE else others(value):
            path.write_text(json.dumps({**written, key: other}))
            try:
                model, info = type(plain).from_pretrained(tmp_path, output_loading_info=True, local_files_only=True, attn_implementation="eager")
                theirs = models.logits(model.eval(), IDS, two)
            except Exception:  # noqa: BLE001 (whatever transformers says to a value that makes no sense)
                continue
            if any(info.values()) or theirs.shape == want.shape and abs(theirs - want).max() < bounds.LOGITS:
                continue
            moved.add(key)
            try:
                ours = peftkit.logits(tmp_path, IDS, None, models.decoded(IDS) if two else None)
            except peftkit.Failed:
                continue
            if ours.shape != theirs.shape or not abs(ours - theirs).max() < bounds.FAMILY:
                wrong.append(f"{key} {value!r} -> {other!r}")
    assert NAMES[name] in moved, f"only {sorted(moved)} move the logits"
    assert not wrong, wrong
