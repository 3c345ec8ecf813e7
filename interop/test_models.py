"""Small models that transformers makes: the same logits, texts and tokens everywhere."""

import pytest
import torch
from safetensors.torch import load_file

from peers import bounds, compare, models, peftkit, tokenizers_
from peers.llamacpp import LlamaCpp

TEXT = "The quick brown fox jumps over the lazy dog, and 14 cats watch: naïve café 🙂."
NAMES = list(models.SMALL)


def stored(folder):
    """All tensors of a Hugging Face folder, whatever its shards."""
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        out.update(load_file(path))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_logits_from_folder(small, name):
    it = small(name)
    ids = it.tokenizer(TEXT)["input_ids"]
    compare.close("logits", peftkit.logits(it.folder, ids), models.logits(it.model, ids), bounds.LOGITS)


@pytest.mark.parametrize("name", NAMES)
def test_logits_from_f32_gguf(small, tmp_path, name):
    it, gguf = small(name), tmp_path / "m.gguf"
    peftkit.run("convert", it.folder, "-o", gguf, "-q", "f32")
    ids = it.tokenizer(TEXT)["input_ids"]
    theirs = models.logits(it.model, ids)
    if name != "rope-llama3-short":
        compare.close("peftkit on the GGUF", peftkit.logits(gguf, ids), theirs, bounds.LOGITS)
    with LlamaCpp(gguf, n_ctx=256) as cpp:
        compare.close("llama.cpp on the GGUF", cpp.logits(ids), theirs, bounds.LOGITS)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "rope-llama3-short"])
def test_there_and_back(small, tmp_path, name):
    """Folder to GGUF and back: the same bits under the same names, in the same type."""
    it = small(name)
    peftkit.run("convert", it.folder, "-o", tmp_path / "m.gguf")
    peftkit.run("convert", tmp_path / "m.gguf", "-o", tmp_path / "back")
    ours, theirs = stored(tmp_path / "back"), stored(it.folder)
    for key in theirs:  # 1-D tensors of a 16-bit model lie in a GGUF as float32
        if key in ours and ours[key].dtype != theirs[key].dtype and theirs[key].dim() == 1:
            theirs[key] = theirs[key].to(ours[key].dtype)
    compare.tensors("there and back", ours, theirs, ulps=0)
    back = models.load(tmp_path / "back")
    ids = it.tokenizer(TEXT)["input_ids"]
    compare.close("logits", models.logits(back, ids), models.logits(it.model, ids), bounds.SAME)


def test_rope_table_without_parameters(small, tmp_path):
    """A GGUF holds Llama 3's rotary table without its parameters: one that no parameters of a release give goes out as the factors themselves."""
    it = small("rope-llama3-short")
    peftkit.run("convert", it.folder, "-o", tmp_path / "m.gguf", "-q", "f32")
    peftkit.run("convert", tmp_path / "m.gguf", "-o", tmp_path / "back")
    ids = it.tokenizer(TEXT)["input_ids"]
    compare.close("peftkit", peftkit.logits(tmp_path / "back", ids), models.logits(it.model, ids), bounds.LOGITS)
    compare.close("transformers", models.logits(models.load(tmp_path / "back"), ids), models.logits(it.model, ids), bounds.LOGITS)


@pytest.mark.parametrize("name", ["tied", "untied", "head-dim", "rope-llama3"])
def test_greedy_text(small, tmp_path, name):
    """peftkit (folder and GGUF), llama.cpp and transformers continue alike."""
    it, gguf, prompt = small(name), tmp_path / "m.gguf", "The quick brown"
    peftkit.run("convert", it.folder, "-o", gguf, "-q", "f32")
    tok = it.tokenizer
    ids = tok(prompt)["input_ids"]
    theirs = models.greedy(it.model, ids, 40, {tok.eos_token_id})
    assert len(theirs) >= 10
    text = tok.decode(theirs)
    for source in (it.folder, gguf):
        tokens, said = peftkit.greedy(source, prompt, 40)
        compare.same(f"tokens from {source.name}", tokens[:len(theirs)], theirs)
        compare.same(f"text from {source.name}", said, text)
    with LlamaCpp(gguf, n_ctx=256) as cpp:
        compare.same("llama.cpp", cpp.greedy(ids, 40), theirs)


@pytest.mark.parametrize("text", tokenizers_.TEXTS, ids=lambda t: ascii(t)[:24])
def test_tokens(small, gguf_of_small, text):
    it = small("tied")
    theirs = it.tokenizer(text)["input_ids"]
    compare.same("peftkit on the folder", peftkit.tokenize(it.folder, text), theirs)
    compare.same("peftkit on the GGUF", peftkit.tokenize(gguf_of_small, text), theirs)


@pytest.fixture(scope="module")
def gguf_of_small(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("gguf") / "tied.gguf"
    peftkit.run("convert", small("tied").folder, "-o", out)
    return out


def test_dtype_is_kept(small, tmp_path):
    """A bfloat16 folder converts to a BF16 GGUF unless asked otherwise."""
    from gguf import GGUFReader

    peftkit.run("convert", small("bfloat16").folder, "-o", tmp_path / "m.gguf")
    kinds = {t.name: t.tensor_type.name for t in GGUFReader(tmp_path / "m.gguf").tensors}
    assert {v for k, v in kinds.items() if "norm" not in k} == {"BF16"}, kinds
    assert all(t.dtype == torch.bfloat16 for k, t in stored(small("bfloat16").folder).items())
