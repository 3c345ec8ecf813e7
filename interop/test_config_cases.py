"""config.json as real checkpoints have it: keys without effect, dynamic scaling, classes without a head, the text half of a model that sees."""

import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from peers import compare, decoders, models, peftkit, tokenizers_
from test_methods_prompt import build

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = [5, 77, 301, 12, 250, 33, 8, 60, 61, 62, 63, 90, 91, 92, 93, 2]


def edit(folder, **keys):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **keys}))


def save(name, folder):
    decoders.save(decoders.VARIANTS[name], "causal-lm", folder)


@pytest.mark.parametrize("name", ["llama-linear", "smollm3", "qwen2"])
def test_pretraining_tp(name, tmp_path):
    """Llama-2-13B and SmolLM3 say 2; transformers 5 does not read it."""
    save(name, tmp_path)
    edit(tmp_path, pretraining_tp=2)
    compare.close(name, peftkit.logits(tmp_path, IDS), models.logits(models.load(tmp_path), IDS), 1e-4)


@pytest.mark.parametrize("length", [16, 24, 25, 60])
@pytest.mark.parametrize("name", ["llama-linear", "qwen3", "gemma", "smollm3"])
def test_dynamic(name, length, tmp_path):
    """Frequencies go by the length of the text from max_position_embeddings on."""
    save(name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    base = (config.get("rope_parameters") or {}).get("rope_theta", 10000.0)
    edit(tmp_path, max_position_embeddings=24, rope_parameters={"rope_type": "dynamic", "factor": 3.0, "rope_theta": base})
    ids = (IDS * 4)[:length]
    compare.close(name, peftkit.logits(tmp_path, ids), models.logits(models.load(tmp_path), ids), 1e-4)


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions(kind, tmp_path):
    """transformers 5 computes absolute positions, and leaves distance_embedding aside."""
    model = build("bert")
    model.save_pretrained(tmp_path)
    tokenizers_.small().save_pretrained(tmp_path)
    edit(tmp_path, position_embedding_type=kind)
    weights = load_file(tmp_path / "model.safetensors")
    weights["bert.encoder.layer.0.attention.self.distance_embedding.weight"] = torch.ones(255, 16)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = type(model).from_pretrained(tmp_path, local_files_only=True).eval()
    compare.close(kind, peftkit.logits(tmp_path, IDS), models.logits(loaded, IDS), 1e-4)


@pytest.mark.parametrize("name", ["bart", "mbart", "marian", "t5"])
def test_class_without_head(name, tmp_path):
    """BartModel and its like are encoder-decoders; the output embedding is the input embedding."""
    model = build(name)
    model.save_pretrained(tmp_path)
    tokenizers_.small().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    edit(tmp_path, architectures=[config["architectures"][0].replace("ForConditionalGeneration", "Model").replace("MTModel", "Model")])
    got = peftkit.logits(tmp_path, IDS, None, models.decoded(IDS))
    assert got.shape == models.logits(model, IDS, True).shape
    compare.close(name, got, models.logits(type(model).from_pretrained(tmp_path, local_files_only=True).eval(), IDS, True), 1e-4)


@pytest.mark.parametrize("name", ["llama-linear", "qwen2-tied", "gemma2", "gpt2"])
def test_decoder_without_head(name, tmp_path):
    """LlamaModel and its like: language models if the embeddings are tied, refused if not."""
    save(name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    edit(tmp_path, architectures=[re.sub("ForCausalLM|LMHeadModel", "Model", config["architectures"][0])])
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True, dtype=torch.float32).eval()
    compare.close(name, peftkit.logits(tmp_path, IDS), models.logits(model, IDS), 1e-4)


@pytest.mark.parametrize("layout", ["old", "new"])
def test_text_half(layout, tmp_path):
    """Gemma3ForConditionalGeneration: the half that reads text, in both layouts of its tensors."""
    text = decoders._config(decoders.VARIANTS["gemma3"], tokenizers_.small())
    vision = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    config = transformers.Gemma3Config(text_config=text.to_dict(), vision_config=vision, mm_tokens_per_image=4, boi_token_index=1, eoi_token_index=2, image_token_index=3)
    model = transformers.Gemma3ForConditionalGeneration(config)
    decoders.fill(model, ones=False)
    folder = tmp_path / "m"
    model.eval().save_pretrained(folder)
    tokenizers_.small().save_pretrained(folder)
    weights = {re.sub("^language_model.model.", "model.language_model.", k): v for k, v in load_file(folder / "model.safetensors").items()}
    if layout == "old":
        weights = {re.sub("^model.(vision_tower|multi_modal)", r"\1", re.sub("^model.language_model.", "language_model.model.", k)): v for k, v in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    want = models.logits(model, IDS, False)
    compare.close("logits", peftkit.logits(folder, IDS), want, 1e-4)
    said = peftkit.run("convert", folder, "-o", tmp_path / "text", "-q", "f32")
    assert "text half" in said, said
    compare.close("in transformers", models.logits(models.load(tmp_path / "text"), IDS), want, 1e-4)
