"""Adapters that Hugging Face PEFT makes, in peftkit and in llama.cpp."""

import shutil

import pytest

from peers import adapters, bounds, compare, models, peftkit, where
from peers.llamacpp import LlamaCpp

TEXT = "The quick brown fox jumps over the lazy dog, and 14 cats watch."
KINDS = list(adapters.KINDS)


def base_of(kind: str) -> str:
    return "untied" if adapters.KINDS[kind].untied else "tied"


def theirs(small, adapted, kind, ids):
    """PEFT's logits with the adapter."""
    it = small(base_of(kind))
    return models.logits(adapters.load(models.load(it.folder), adapted(kind, base_of(kind))), ids)


@pytest.mark.parametrize("kind", KINDS)
def test_logits(small, adapted, kind):
    it = small(base_of(kind))
    ids = it.tokenizer(TEXT)["input_ids"]
    want = theirs(small, adapted, kind, ids)
    assert abs(want - models.logits(it.model, ids)).max() > 0.1, "the adapter changes nothing: the test would prove nothing"
    compare.close("peftkit", peftkit.logits(it.folder, ids, adapted(kind, base_of(kind))), want, bounds.LOGITS)


def test_scale(small, adapted):
    """--lora A:0.5 halves the adapter's scale."""
    it = small("tied")
    ids = it.tokenizer(TEXT)["input_ids"]
    tuned = adapters.load(models.load(it.folder), adapted("plain", "tied"))
    adapters.rescale(tuned, {"default": 0.5})
    compare.close("peftkit", peftkit.logits(it.folder, ids, f"{adapted('plain', 'tied')}:0.5"), models.logits(tuned, ids), bounds.LOGITS)


# What a GGUF adapter can hold: everything that is a pair of factors per matrix.
GGUF_KINDS = ["plain", "all-linear", "rslora", "rank-pattern", "alpha-pattern", "patterns-rslora", "regex", "layers", "exclude",
              "lm-head-factors", "lm-head", "embedding"]


@pytest.mark.parametrize("kind", GGUF_KINDS)
def test_as_gguf(small, adapted, tmp_path, kind):
    """PEFT folder to GGUF adapter: llama.cpp and peftkit on it, PEFT on the folder."""
    it = small(base_of(kind))
    ids = it.tokenizer(TEXT)["input_ids"]
    want = theirs(small, adapted, kind, ids)
    base, lora = tmp_path / "base.gguf", tmp_path / "lora.gguf"
    peftkit.run("convert", it.folder, "-o", base, "-q", "f32")
    peftkit.run("convert", adapted(kind, base_of(kind)), "-o", lora, "--base", it.folder)
    with LlamaCpp(base, [(lora, 1.0)], n_ctx=256) as cpp:
        compare.close("llama.cpp", cpp.logits(ids), want, bounds.LOGITS)
    compare.close("peftkit, GGUF adapter on the GGUF base", peftkit.logits(base, ids, lora), want, bounds.LOGITS)
    compare.close("peftkit, PEFT folder on the GGUF base", peftkit.logits(base, ids, adapted(kind, base_of(kind))), want, bounds.LOGITS)


def test_refuses_factors_of_tied_embeddings(small, adapted, tmp_path):
    """llama.cpp has no output.weight there, and looks up token_embd's factors for the output too."""
    with pytest.raises(peftkit.Failed, match="ties its embeddings"):
        peftkit.run("convert", adapted("embedding", "tied"), "-o", tmp_path / "lora.gguf", "--base", small("tied").folder)


@pytest.mark.parametrize("kind", ["plain", "all-linear", "rslora", "rank-pattern", "alpha-pattern"])
def test_gguf_back_to_peft(small, adapted, tmp_path, kind):
    """GGUF adapter back to a PEFT folder, which PEFT loads without a key too many or too few."""
    it = small("tied")
    ids = it.tokenizer(TEXT)["input_ids"]
    peftkit.run("convert", adapted(kind, "tied"), "-o", tmp_path / "lora.gguf", "--base", it.folder)
    peftkit.run("convert", tmp_path / "lora.gguf", "-o", tmp_path / "back", "--base", it.folder)
    back = adapters.load(models.load(it.folder), tmp_path / "back")
    compare.close("PEFT", models.logits(back, ids), theirs(small, adapted, kind, ids), bounds.LOGITS)


def test_refuses_what_gguf_cannot_hold(small, adapted, tmp_path):
    """modules_to_save has no place in a GGUF adapter: an error and no file, never a part of it."""
    with pytest.raises(peftkit.Failed, match="(?i)modules_to_save|lm_head"):
        peftkit.run("convert", adapted("modules-to-save", "untied"), "-o", tmp_path / "lora.gguf", "--base", small("untied").folder)
    assert not (tmp_path / "lora.gguf").exists()


def test_wrong_base_is_refused(small, adapted, tmp_path):
    """An adapter of other shapes is named as such."""
    with pytest.raises(peftkit.Failed, match="(?i)shape"):
        peftkit.logits(small("head-dim").folder, [1, 2, 3], adapted("all-linear", "tied"))


def test_real_adapter(smollm2, smollm2_model):
    """A published adapter (made for SmolLM-135M, the same shapes) on SmolLM2: PEFT's logits."""
    import copy

    folder = where.data("adapters", "smollm-medical")
    ids = list(range(900, 940))
    tuned = adapters.load(copy.deepcopy(smollm2_model), folder)
    compare.close("peftkit", peftkit.logits(smollm2, ids, folder), models.logits(tuned, ids), bounds.LARGE)


def test_real_adapter_as_gguf(smollm2, smollm2_gguf, smollm2_model, tmp_path):
    """The same adapter as GGUF in llama.cpp."""
    import copy

    folder = where.data("adapters", "smollm-medical")
    ids = list(range(900, 940))
    want = models.logits(adapters.load(copy.deepcopy(smollm2_model), folder), ids)
    peftkit.run("convert", folder, "-o", tmp_path / "lora.gguf", "--base", smollm2)
    with LlamaCpp(smollm2_gguf, [(tmp_path / "lora.gguf", 1.0)]) as cpp:
        compare.close("llama.cpp", cpp.logits(ids), want, bounds.LARGE)
    shutil.rmtree(tmp_path, ignore_errors=True)
