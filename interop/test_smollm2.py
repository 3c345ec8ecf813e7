"""SmolLM2-135M: GGUF to safetensors, the same logits, tokens and text as its peers."""

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from conftest import CHATS, PROMPTS
from peers import bounds, compare, models, peftkit, tokenizers_, where
from peers.llamacpp import LlamaCpp


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    return AutoTokenizer.from_pretrained(smollm2, local_files_only=True)


@pytest.fixture(scope="module")
def cpp_f32(smollm2_gguf):
    with LlamaCpp(smollm2_gguf) as cpp:
        yield cpp


def test_logits(smollm2, smollm2_model, tokenizer, prompt):
    """The folder in transformers, the folder and the quantised GGUF in peftkit."""
    ids = tokenizer(prompt)["input_ids"]
    theirs = models.logits(smollm2_model, ids)
    compare.close("peftkit on the folder", peftkit.logits(smollm2, ids), theirs, bounds.LARGE)
    compare.close("peftkit on the Q4_1 GGUF", peftkit.logits(where.SMOLLM2, ids), theirs, bounds.LARGE)


def test_logits_llamacpp(smollm2_gguf, smollm2_model, tokenizer, cpp_f32):
    """The float32 GGUF in llama.cpp."""
    ids = tokenizer(PROMPTS[1])["input_ids"]
    theirs = models.logits(smollm2_model, ids)
    compare.close("llama.cpp on the float32 GGUF", cpp_f32.logits(ids), theirs, bounds.LARGE)
    compare.close("peftkit on the float32 GGUF", peftkit.logits(smollm2_gguf, ids), theirs, bounds.LARGE)


def test_weights(smollm2):
    """Every tensor of the folder against gguf-py's own decoding of the source file, bit for bit."""
    ours = load_file(smollm2 / "model.safetensors") if (smollm2 / "model.safetensors").exists() else {
        k: v for p in smollm2.glob("*.safetensors") for k, v in load_file(p).items()}
    reader = GGUFReader(where.SMOLLM2)
    heads = {k: int(reader.get_field(f"llama.attention.{k}").contents()) for k in ("head_count", "head_count_kv")}
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
             "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    seen = set()
    for t in reader.tensors:
        stem = t.name.removesuffix(".weight")
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            key = f"model.layers.{layer}.{parts[part]}.weight"
        else:
            part, key = stem, f"{names[stem]}.weight"
        want = dequantize(t.data, t.tensor_type).reshape([int(d) for d in reversed(t.shape)])
        if part in ("attn_q", "attn_k"):  # GGUF keeps rotary pairs side by side, safetensors in halves
            n = heads["head_count" if part == "attn_q" else "head_count_kv"]
            want = want.reshape(n, want.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(want.shape)
        compare.same(key, ours[key].numpy().tobytes(), np.ascontiguousarray(want, np.float32).tobytes())
        seen.add(key)
    compare.keys("tensors of the folder", ours, seen)


@pytest.mark.parametrize("text", tokenizers_.TEXTS, ids=lambda t: ascii(t)[:24])
def test_tokens(smollm2, tokenizer, cpp_f32, text):
    theirs = tokenizer(text)["input_ids"]
    compare.same("peftkit on the folder", peftkit.tokenize(smollm2, text), theirs)
    compare.same("peftkit on the GGUF", peftkit.tokenize(where.SMOLLM2, text), theirs)
    if "\0" not in text:  # llama.cpp's special tokens in text are parsed as AutoTokenizer does
        compare.same("llama.cpp on the GGUF", cpp_f32.tokenize(text), theirs)


def test_tokens_of_the_published_tokenizer(smollm2):
    """peftkit on the GGUF against the tokenizer.json that the model's makers publish, in the tokenizers library."""
    published = Tokenizer.from_file(str(where.data("tokenizers", "smollm", "tokenizer.json")))
    made = Tokenizer.from_file(str(smollm2 / "tokenizer.json"))
    for text in tokenizers_.TEXTS:
        compare.same(ascii(text), made.encode(text).ids, published.encode(text).ids)


def test_token_test_vectors(smollm2, tokenizer):
    """The texts of llama.cpp's tokenizer vectors."""
    texts = where.data("tokenizers", "ggml-vocab", "ggml-vocab-gpt-2.gguf.inp").read_text().split("\n__ggml_vocab_test__\n")
    assert len(texts) > 40
    for text in texts:
        theirs = tokenizer(text)["input_ids"]
        compare.same(ascii(text), peftkit.tokenize(smollm2, text), theirs)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_greedy_text(smollm2, smollm2_gguf, smollm2_model, tokenizer, cpp_f32, number):
    """transformers, llama.cpp and peftkit (folder, float32 GGUF) write the same text."""
    ids = tokenizer(PROMPTS[number])["input_ids"]
    theirs = models.greedy(smollm2_model, ids, 24, {tokenizer.eos_token_id})
    compare.same("llama.cpp", cpp_f32.greedy(ids, 24), theirs)
    for source in (smollm2, smollm2_gguf):
        tokens, text = peftkit.greedy(source, PROMPTS[number], 24)
        compare.same(f"peftkit, {source.name}: tokens", tokens[:len(theirs)], theirs)
        compare.same(f"peftkit, {source.name}: text", text, tokenizer.decode(theirs))


def test_quantised_top1():
    """The Q4_1 file itself: llama.cpp rounds activations to 8 bits there, so the likeliest tokens are compared."""
    with LlamaCpp(where.SMOLLM2) as cpp:
        compare.top1("top-1 on the Q4_1 file", *peftkit.teacher_forced(cpp, where.SMOLLM2, CHATS, 64), 0.97)
