"""Each comparison of the suite is able to fail: one weight changed, one key renamed.

A judge that cannot say no proves nothing. Every case takes what a passing test
compares, damages one side a little, and expects compare.Mismatch (or PEFT's and
transformers' loaders, as wrapped here, to refuse).
"""

import json
import shutil

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from peers import adapters, bounds, compare, ggml, models, peftkit
from peers.compare import Mismatch
from peers.llamacpp import LlamaCpp

TEXT = "The quick brown fox jumps over the lazy dog, and 14 cats watch."


def changed(folder, out, edit):
    """A copy of a folder whose (single) safetensors file went through edit."""
    shutil.copytree(folder, out)
    (path,) = out.glob("*.safetensors")
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return out


def bump(key, amount=0.05):
    """Changes one number of one tensor."""
    def edit(tensors):
        name = next(k for k in sorted(tensors) if key in k)
        tensors[name].view(-1)[3] += amount
    return edit


def rename(key, new):
    """Renames one tensor."""
    def edit(tensors):
        name = next(k for k in sorted(tensors) if key in k)
        tensors[name.replace(key, new)] = tensors.pop(name)
    return edit


@pytest.mark.parametrize("key", ["layers.0.self_attn.q_proj", "layers.1.mlp.down_proj", "layers.0.input_layernorm"])
def test_logits_see_one_weight(small, tmp_path, key):
    it = small("tied")
    ids = it.tokenizer(TEXT)["input_ids"]
    damaged = changed(it.folder, tmp_path / "damaged", bump(key))
    with pytest.raises(Mismatch, match="apart"):
        compare.close("logits", peftkit.logits(damaged, ids), models.logits(it.model, ids), bounds.LOGITS)


def test_llamacpp_logits_see_one_weight(small, tmp_path):
    it = small("tied")
    ids = it.tokenizer(TEXT)["input_ids"]
    damaged = changed(it.folder, tmp_path / "damaged", bump("layers.0.self_attn.v_proj"))
    peftkit.run("convert", damaged, "-o", tmp_path / "m.gguf", "-q", "f32")
    with LlamaCpp(tmp_path / "m.gguf", n_ctx=256) as cpp, pytest.raises(Mismatch, match="apart"):
        compare.close("logits", cpp.logits(ids), models.logits(it.model, ids), bounds.LOGITS)


def test_transformers_loader_sees_a_renamed_key(small, tmp_path):
    damaged = changed(small("tied").folder, tmp_path / "damaged", rename("layers.1.mlp.up_proj", "layers.1.mlp.upper_proj"))
    with pytest.raises(AssertionError, match="upper_proj"):
        models.load(damaged)


def test_peftkit_loader_sees_a_renamed_key(small, tmp_path):
    damaged = changed(small("tied").folder, tmp_path / "damaged", rename("layers.1.mlp.up_proj", "layers.1.mlp.upper_proj"))
    with pytest.raises(peftkit.Failed, match="up_proj|upper_proj"):
        peftkit.logits(damaged, [1, 2, 3])


def test_adapter_logits_see_one_weight(small, adapted, tmp_path):
    it = small("tied")
    ids = it.tokenizer(TEXT)["input_ids"]
    damaged = changed(adapted("plain", "tied"), tmp_path / "damaged", bump("lora_B"))
    want = models.logits(adapters.load(models.load(it.folder), adapted("plain", "tied")), ids)
    with pytest.raises(Mismatch, match="apart"):
        compare.close("logits", peftkit.logits(it.folder, ids, damaged), want, bounds.LOGITS)


@pytest.mark.parametrize("option", [{"use_rslora": True}, {"lora_alpha": 13}, {"alpha_pattern": {"v_proj": 13}}], ids=lambda o: next(iter(o)))
def test_adapter_logits_see_the_scale(small, adapted, tmp_path, option):
    """An engine that overlooked rsLoRA or a pattern would be found out."""
    it = small("tied")
    ids = it.tokenizer(TEXT)["input_ids"]
    shutil.copytree(adapted("plain", "tied"), tmp_path / "other")
    config = json.loads((tmp_path / "other" / "adapter_config.json").read_text())
    (tmp_path / "other" / "adapter_config.json").write_text(json.dumps({**config, **option}))
    want = models.logits(adapters.load(models.load(it.folder), tmp_path / "other"), ids)
    with pytest.raises(Mismatch, match="apart"):
        compare.close("logits", peftkit.logits(it.folder, ids, adapted("plain", "tied")), want, bounds.LOGITS)
    compare.close("logits", peftkit.logits(it.folder, ids, tmp_path / "other"), want, bounds.LOGITS)


@pytest.mark.parametrize("edit", [rename("layers.1.self_attn.q_proj.lora_B", "layers.1.self_attn.q_prog.lora_B"),
                                  lambda t: t.pop(sorted(t)[0]),
                                  lambda t: t.update(extra=torch.zeros(1))], ids=["renamed", "missing", "extra"])
def test_peft_loader_sees_keys(small, adapted, tmp_path, edit):
    damaged = changed(adapted("plain", "tied"), tmp_path / "damaged", edit)
    with pytest.raises(Mismatch, match="missing|unexpected"):
        adapters.load(models.load(small("tied").folder), damaged)
    with pytest.raises(peftkit.Failed):
        peftkit.logits(small("tied").folder, [1, 2, 3], damaged)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_see_one_step_too_many(dtype):
    """Two units in the last place are one too many; a key, a type or a shape is never overlooked."""
    base = {"a": torch.linspace(-1, 1, 64).to(dtype), "b": torch.zeros(2, 2, dtype=dtype)}
    bits = {2: torch.int16, 4: torch.int32}[base["a"].element_size()]

    def stepped(n):
        other = {k: v.clone() for k, v in base.items()}
        other["a"].view(bits)[40] += n
        return other

    assert compare.tensors("one", stepped(1), base, ulps=1) == 1
    with pytest.raises(Mismatch, match="units in the last place"):
        compare.tensors("two", stepped(2), base, ulps=1)
    with pytest.raises(Mismatch, match="missing"):
        compare.tensors("key", {"a": base["a"], "c": base["b"]}, base, ulps=1)
    with pytest.raises(Mismatch, match="expected"):
        compare.tensors("type", {**base, "b": base["b"].double()}, base, atol=1)
    with pytest.raises(Mismatch, match="expected"):
        compare.tensors("shape", {**base, "b": base["b"].flatten()}, base, atol=1)
    crossing = {"a": torch.tensor([-1e-7, 0.0]).to(dtype)}  # neighbours across zero are few steps apart, not 2^15
    assert int((compare.ordinals(torch.tensor([0.0], dtype=dtype)) - compare.ordinals(torch.tensor([-0.0], dtype=dtype))).abs()) <= 1
    assert compare.tensors("same", crossing, crossing, ulps=0) == 0


def test_merge_sees_one_weight(small, adapted, tmp_path):
    it = small("tied")
    adapters.load(models.load(it.folder), adapted("plain", "tied")).merge_and_unload().save_pretrained(tmp_path / "peft")
    peftkit.run("merge-lora", "-m", it.folder, "--lora", adapted("plain", "tied"), "-o", tmp_path / "ours")
    ours, theirs = (load_file(tmp_path / f / "model.safetensors") for f in ("ours", "peft"))
    compare.tensors("merged", ours, theirs, atol=bounds.MERGED)
    ours["model.layers.0.self_attn.q_proj.weight"].view(-1)[5] += 4e-6
    with pytest.raises(Mismatch, match="apart"):
        compare.tensors("merged", ours, theirs, atol=bounds.MERGED)


def test_bytes_see_one_weight(small, tmp_path):
    peftkit.run("convert", small("tied").folder, "-o", tmp_path / "q.gguf", "-q", "q8_0")
    tensor = next(t for t in GGUFReader(tmp_path / "q.gguf").tensors if t.name == "blk.0.ffn_up.weight")
    weights = load_file(small("tied").folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].numpy()
    ours = np.ascontiguousarray(tensor.data).tobytes()
    compare.same("bytes", ours, ggml.quantize("q8_0", weights))
    weights[7, 9] += 0.1
    with pytest.raises(Mismatch, match="from"):
        compare.same("bytes", ours, ggml.quantize("q8_0", weights))


def test_losses_see_a_wrong_rate():
    good = [2.0, 1.9, 1.8]
    assert compare.relative("loss", [2.0, 1.9009, 1.8], good, 1e-3) < 1e-3
    with pytest.raises(Mismatch, match="step 2"):
        compare.relative("loss", [2.0, 1.903, 1.8], good, 1e-3)
    with pytest.raises(Mismatch, match="step 3"):
        compare.relative("loss", [2.0, 1.9, float("nan")], good, 1e-3)
    with pytest.raises(Mismatch, match="values"):
        compare.relative("loss", good[:2], good, 1e-3)


def test_tokens_text_and_agreement_see_a_difference():
    with pytest.raises(Mismatch, match="from 1"):
        compare.same("ids", [1, 2, 3], [1, 4, 3])
    with pytest.raises(Mismatch, match="length 2"):
        compare.same("text", "ab", "abc")
    assert compare.top1("top-1", [1] * 97 + [2] * 3, [1] * 100, 0.97) == 0.97
    with pytest.raises(Mismatch, match="96.0%"):
        compare.top1("top-1", [1] * 96 + [2] * 4, [1] * 100, 0.97)
    with pytest.raises(Mismatch):
        compare.top1("top-1", [], [], 0.97)
    with pytest.raises(Mismatch, match="finite"):
        compare.close("logits", [np.nan], [np.nan], 1e-3)
    with pytest.raises(Mismatch, match="shape"):
        compare.close("logits", [1.0], [1.0, 2.0], 1e-3)


def test_samples_see_another_distribution():
    draw = np.random.default_rng(1)
    theirs = draw.normal(0, 0.02, 2500)
    assert compare.sample("start", draw.normal(0, 0.02, 2500), theirs) < 0.08
    for ours, why in [(draw.normal(0, 0.0235, 2500), "deviations"), (draw.choice([-0.02, 0.02], 2500), "distributions"),
                      (draw.normal(0.006, 0.02, 2500), "distributions"), (np.zeros(2500), "expected"), ([np.nan], "finite")]:
        with pytest.raises(Mismatch, match=why):
            compare.sample("start", ours, theirs)
    assert compare.sample("ones", np.ones(4), np.ones(4) + 1e-8) == 0
    with pytest.raises(Mismatch):
        compare.sample("ones", np.ones(4), np.zeros(4))


def test_training_sees_a_wrong_rate(small, tmp_path):
    """A learning rate 5 % too high moves the losses of 20 steps beyond the tolerance."""
    from peers.training import Run, examples, train
    from test_training import initial, texts

    it = small("tied")
    data, start = texts(tmp_path / "data.jsonl"), initial(it.folder, tmp_path / "start", {})
    rows = examples(data, it.tokenizer)
    told = [train(adapters.load(models.load(it.folder), start, trainable=True), rows, it.tokenizer, Run(lr=lr)) for lr in (1e-2, 1.05e-2)]
    with pytest.raises(Mismatch, match="step"):
        compare.relative("loss", [s["loss"] for s in told[1]], [s["loss"] for s in told[0]], bounds.LOSS)
