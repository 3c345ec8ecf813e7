"""Small models of every decoder-only family: the same logits in peftkit, transformers and llama.cpp, the same bits after a trip to GGUF."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file
from transformers import AutoTokenizer

from peers import bounds, compare, decoders, models, peftkit
from peers.llamacpp import LlamaCpp

TEXT = "The quick brown fox jumps over the lazy dog, and 14 cats watch: naïve café 🙂."
NAMES = list(decoders.VARIANTS)
IN_GGUF = [n for n, v in decoders.VARIANTS.items() if v.gguf]


@dataclass(frozen=True)
class OnDisk:
    folder: Path
    model: torch.nn.Module
    ids: list[int]


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    """variant(name, task) makes a model of decoders.VARIANTS once."""
    made = {}

    def get(name: str, task: str = "causal-lm") -> OnDisk:
        if (name, task) not in made:
            folder = tmp_path_factory.mktemp("decoder") / "model"  # llama.cpp goes by names with "phi3" in them
            model = decoders.save(decoders.VARIANTS[name], task, folder)
            ids = AutoTokenizer.from_pretrained(folder, local_files_only=True)(TEXT)["input_ids"]
            made[name, task] = OnDisk(folder, model, ids)
        return made[name, task]

    return get


@torch.no_grad()
def theirs(it: OnDisk):
    out = it.model(input_ids=torch.tensor([it.ids])).logits.numpy()
    return out[0] if out.ndim == 3 else out


def in_gguf(it: OnDisk, name: str, folder: Path) -> np.ndarray:
    """What the model computes in GGUF: llama.cpp has windows in the layers of Gemma only."""
    if not name.endswith("-window"):
        return theirs(it)
    shutil.copytree(it.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps({**config, "sliding_window": None, "use_sliding_window": False}))
    want = models.logits(models.load(folder), it.ids)
    assert np.abs(want - theirs(it)).max() > 0.1
    return want  # of another model object and attention: other sums


@pytest.mark.parametrize("name", NAMES)
def test_logits(variant, name):
    it = variant(name)
    compare.close("logits", peftkit.logits(it.folder, it.ids), theirs(it), bounds.LOGITS)


@pytest.mark.parametrize("task", ["seq-cls", "token-cls"])
@pytest.mark.parametrize("name", NAMES)
def test_classifiers(variant, tmp_path, name, task):
    if (decoders.VARIANTS[name].classes, task) in decoders.ABSENT:
        pytest.skip("transformers has no such class")
    it = variant(name, task)
    compare.close(task, peftkit.logits(it.folder, it.ids), theirs(it), bounds.LOGITS)


@pytest.mark.parametrize("name, pad", [
    ("llama-yarn", 7), ("llama-yarn", None), ("gpt2", 7), ("gpt2", None), ("gemma2", 7), ("gemma2", None), ("gemma", None), ("phi3", 7)])
def test_classified_row(variant, tmp_path, name, pad):
    """Texts of several lengths padded to one batch in transformers: it classifies the last token that is not
    pad_token_id, even where the text itself ends with such tokens, as it does when they are the end of text."""
    it = variant(name, "seq-cls")
    folder = tmp_path / "model"
    shutil.copytree(it.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("pad_token_id", None)
    if pad is not None:
        config["pad_token_id"] = pad
    (folder / "config.json").write_text(json.dumps(config))
    config = type(it.model.config).from_pretrained(folder)
    model = type(it.model)(config).eval()
    model.load_state_dict(it.model.state_dict())
    pad = config.pad_token_id
    batch = [it.ids] if pad is None else [it.ids, it.ids[:5] + [pad, pad], [9, pad, 11], [pad, pad], [pad]]
    longest = max(map(len, batch))
    filled = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in batch])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in batch])
    with torch.no_grad():
        want = model(input_ids=filled, attention_mask=mask).logits.numpy()
    for ids, row in zip(batch, want):
        compare.close(f"{len(ids)} tokens", peftkit.logits(folder, ids)[0], row, bounds.LOGITS)


@pytest.mark.parametrize("name", ["qwen2", "gpt2", "gemma2", "phi3"])
def test_new_classifier(variant, tmp_path, name):
    """A language model becomes a classifier with a head drawn from a seed; the last row is classified."""
    it, out = variant(name), tmp_path / "l.safetensors"
    peftkit.run("logits", "-m", it.folder, "--task", "seq-cls", "--labels", "a,b,c,d",
                "--tokens", ",".join(map(str, it.ids)), "-o", out)
    assert load_numpy(out)["logits"].shape == (1, 4)


@pytest.mark.parametrize("name", IN_GGUF)
def test_gguf(variant, tmp_path, name):
    it, gguf = variant(name), tmp_path / "m.gguf"
    peftkit.run("convert", it.folder, "-o", gguf, "-q", "f32")
    want = in_gguf(it, name, tmp_path / "full")
    compare.close("peftkit on the GGUF", peftkit.logits(gguf, it.ids), want, bounds.LOGITS)
    if decoders.VARIANTS[name].llamacpp:
        with LlamaCpp(gguf, n_ctx=128) as cpp:
            compare.close("llama.cpp on the GGUF", cpp.logits(it.ids), want, decoders.VARIANTS[name].llamacpp_tolerance)


def stored(folder: Path):
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        out.update(load_file(path))
    return out


@pytest.mark.parametrize("name", IN_GGUF)
def test_there_and_back(variant, tmp_path, name):
    """Folder to GGUF and back: the same bits, but for float32 norms to which GGUF adds one."""
    it = variant(name)
    want = in_gguf(it, name, tmp_path / "full")
    peftkit.run("convert", it.folder, "-o", tmp_path / "m.gguf")
    peftkit.run("convert", tmp_path / "m.gguf", "-o", tmp_path / "back")
    peftkit.run("convert", tmp_path / "m.gguf", "-o", tmp_path / "again.gguf")
    ours, source = stored(tmp_path / "back"), stored(it.folder)
    gemma = "Gemma" in decoders.VARIANTS[name].classes
    for key in source:
        if gemma and "norm" in key and source[key].dtype == torch.float32:
            compare.close(key, ours[key].numpy(), source[key].numpy(), bounds.PLUS_ONE)
            ours[key] = source[key]
        elif key in ours and ours[key].dtype != source[key].dtype and source[key].dim() == 1:
            source[key] = source[key].to(ours[key].dtype)  # vectors lie in a GGUF as float32
    compare.tensors("there and back", ours, source, ulps=0)
    compare.close("logits", peftkit.logits(tmp_path / "back", it.ids), want, bounds.LOGITS)
    compare.close("logits of the copied GGUF", peftkit.logits(tmp_path / "again.gguf", it.ids), want, bounds.LOGITS)
    back = models.load(tmp_path / "back")
    back.set_attn_implementation("eager")
    compare.close("transformers on the way back", models.logits(back, it.ids), want, bounds.LOGITS if name.endswith("-window") else bounds.SAME)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "gemma3", "phi3", "gpt2"])
def test_greedy(variant, name):
    """Generation through the key-value cache continues as transformers does."""
    it = variant(name)
    tok = AutoTokenizer.from_pretrained(it.folder, local_files_only=True)
    ids = tok("The quick brown")["input_ids"]
    want = models.greedy(it.model, ids, 30, {tok.eos_token_id, tok.unk_token_id})  # <|endoftext|> ends peftkit's texts too
    tokens, _ = peftkit.greedy(it.folder, "The quick brown", 30)
    compare.same("tokens", tokens[:len(want)], want)


def test_longrope_beyond_the_original_context(variant):
    """Phi-3 takes other frequencies for sequences beyond the original context."""
    it = variant("phi3-longrope")
    ids = (it.ids * 14)[:300]
    long = OnDisk(it.folder, it.model, ids)
    got = peftkit.logits(it.folder, ids)
    compare.close("logits", got, theirs(long), bounds.LOGITS)
    assert np.abs(got[:100] - peftkit.logits(it.folder, ids[:100])).max() > 1e-2


@pytest.mark.parametrize("name", ["gemma2-uncapped", "gemma2-full", "gpt2-variant", "qwen2-llama3", "smollm3-llama3"])
def test_refuses_what_gguf_cannot_say(variant, tmp_path, name):
    with pytest.raises(peftkit.Failed, match="GGUF|llama.cpp"):
        peftkit.run("convert", variant(name).folder, "-o", tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_refuses_neighbours(variant, tmp_path):
    """Mixtures of experts and multimodal models are refused by name."""
    from transformers import Qwen2MoeConfig

    for config, name in [(Qwen2MoeConfig(architectures=["Qwen2MoeForCausalLM"]), "Qwen2MoeForCausalLM")]:
        config.save_pretrained(tmp_path)
        it = variant("qwen2")
        (tmp_path / "model.safetensors").write_bytes((it.folder / "model.safetensors").read_bytes())
        with pytest.raises(peftkit.Failed, match=name):
            peftkit.logits(tmp_path, it.ids)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "phi3", "qwen3"])
def test_lora(variant, tmp_path, name):
    """A LoRA of PEFT's on Conv1D, fused and normed layers: attached and merged, in the folder and in the GGUF."""
    import copy

    from peft import LoraConfig, get_peft_model

    it, adapter, gguf = variant(name), tmp_path / "adapter", tmp_path / "m.gguf"
    model = get_peft_model(copy.deepcopy(it.model), LoraConfig(
        r=4, lora_alpha=16, target_modules="all-linear", fan_in_fan_out=name == "gpt2", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_B" in key:
                p.copy_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(key))))
    model.save_pretrained(adapter)
    want = theirs(OnDisk(it.folder, model.eval(), it.ids))
    assert np.abs(want - theirs(it)).max() > 0.05
    compare.close("attached", peftkit.logits(it.folder, it.ids, lora=adapter), want, bounds.LOGITS)
    peftkit.run("convert", it.folder, "-o", gguf, "-q", "f32")
    compare.close("attached to the GGUF", peftkit.logits(gguf, it.ids, lora=adapter), want, bounds.LOGITS)
    for base, out in [(it.folder, tmp_path / "merged"), (gguf, tmp_path / "merged.gguf"), (it.folder, tmp_path / "other.gguf"),
                      (gguf, tmp_path / "other")]:
        peftkit.run("merge-lora", "-m", base, "--lora", adapter, "-o", out)
        compare.close(f"{base.name} merged into {out.name}", peftkit.logits(out, it.ids), want, bounds.LOGITS)
    compare.tensors("merged", stored(tmp_path / "merged"), {
        k: v for k, v in model.merge_and_unload().state_dict().items() if k in stored(it.folder)}, atol=bounds.MERGED)


def test_lora_gguf_gpt2(variant, tmp_path):
    """The factors of Conv1D layers in a GGUF adapter, which llama.cpp's own converter swaps."""
    from peft import LoraConfig, get_peft_model
    import copy

    it, adapter, gguf, lora = variant("gpt2"), tmp_path / "adapter", tmp_path / "m.gguf", tmp_path / "lora.gguf"
    model = get_peft_model(copy.deepcopy(it.model), LoraConfig(r=4, lora_alpha=16, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_B" in key:
                p.copy_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(key))))
    model.save_pretrained(adapter)
    peftkit.run("convert", it.folder, "-o", gguf, "-q", "f32")
    peftkit.run("convert", adapter, "--base", it.folder, "-o", lora)
    with LlamaCpp(gguf, loras=[(lora, 1.0)], n_ctx=128) as cpp:
        compare.close("llama.cpp", cpp.logits(it.ids), theirs(OnDisk(it.folder, model.eval(), it.ids)), bounds.GGML_GELU)
