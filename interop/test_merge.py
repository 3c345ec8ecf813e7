"""Merging: PEFT's merge_and_unload, and what llama.cpp makes of the merged files."""

import pytest
import torch
from safetensors.torch import load_file

from peers import adapters, bounds, compare, models, peftkit
from peers.llamacpp import LlamaCpp

TEXT = "The quick brown fox jumps over the lazy dog, and 14 cats watch."
KINDS = [k for k in adapters.KINDS if k != "lora-bias"]  # PEFT itself cannot merge that into layers without bias
DTYPES = {"tied": torch.float32, "untied": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def base_of(kind):
    return "untied" if adapters.KINDS[kind].untied else "tied"


def stored(folder):
    return {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}


def merged_by_peft(folder, adapter, dtype, out):
    adapters.load(models.load(folder, dtype), adapter).merge_and_unload().save_pretrained(out)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_float32(small, adapted, tmp_path, kind):
    name = base_of(kind)
    folder, adapter = small(name).folder, adapted(kind, name)
    theirs = stored(merged_by_peft(folder, adapter, torch.float32, tmp_path / "peft"))
    peftkit.run("merge-lora", "-m", folder, "--lora", adapter, "-o", tmp_path / "ours")
    compare.tensors("merged", stored(tmp_path / "ours"), theirs, atol=bounds.MERGED)
    models.load(tmp_path / "ours")  # transformers finds every key


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["plain", "all-linear", "rslora", "rank-pattern", "alpha-pattern", "regex"])
def test_16_bit(small, adapted, tmp_path, kind, dtype):
    """bfloat16 and float16 stay what they are, within one unit in the last place of PEFT's result."""
    folder, adapter = small(dtype).folder, adapted(kind, "tied")
    theirs = stored(merged_by_peft(folder, adapter, DTYPES[dtype], tmp_path / "peft"))
    peftkit.run("merge-lora", "-m", folder, "--lora", adapter, "-o", tmp_path / "ours")
    compare.tensors("merged", stored(tmp_path / "ours"), theirs, ulps=1)


def test_scaled_and_two(small, adapted, tmp_path):
    """Two adapters with scales of their own add up as PEFT's two active adapters do."""
    from peft import PeftModel

    folder, a, b = small("tied").folder, adapted("plain", "tied"), adapted("regex", "tied")
    tuned = PeftModel.from_pretrained(models.load(folder), a, adapter_name="a")
    tuned.load_adapter(b, adapter_name="b")
    adapters.rescale(tuned, {"a": 0.5, "b": 2.0})
    tuned.base_model.set_adapter(["a", "b"])
    tuned.merge_and_unload().save_pretrained(tmp_path / "peft")
    peftkit.run("merge-lora", "-m", folder, "--lora", f"{a}:0.5", "--lora", f"{b}:2", "-o", tmp_path / "ours")
    compare.tensors("merged", stored(tmp_path / "ours"), stored(tmp_path / "peft"), atol=bounds.MERGED)


@pytest.mark.parametrize("source", ["folder", "gguf"])
@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_merged_gguf_text(small, adapted, tmp_path, kind, source):
    """The merged GGUF in llama.cpp, peftkit and PEFT's merged model: the same greedy text."""
    it, adapter, prompt = small("tied"), adapted("all-linear", "tied"), "The quick brown"
    base = it.folder
    if source == "gguf":
        base = tmp_path / "base.gguf"
        peftkit.run("convert", it.folder, "-o", base, "-q", "f32")
    out = tmp_path / "merged.gguf"
    peftkit.run("merge-lora", "-m", base, "--lora", adapter, "-o", out, "-q", kind)
    tuned = adapters.load(models.load(it.folder), adapter).merge_and_unload()
    tok = it.tokenizer
    ids = tok(prompt)["input_ids"]
    theirs = models.greedy(tuned, ids, 32, {tok.eos_token_id})
    assert len(theirs) >= 8
    tokens, text = peftkit.greedy(out, prompt, 32)
    compare.same("peftkit: tokens", tokens[:len(theirs)], theirs)
    compare.same("peftkit: text", text, tok.decode(theirs))
    with LlamaCpp(out, n_ctx=256) as cpp:
        compare.same("llama.cpp", cpp.greedy(ids, 32), theirs)
        compare.close("llama.cpp: logits", cpp.logits(ids), models.logits(tuned, ids), bounds.LOGITS if kind == "f32" else bounds.GGML_F16)


def test_nothing_matched_is_an_error(small, adapted, tmp_path):
    """An adapter none of whose modules the base has is refused, and nothing is written."""
    from safetensors.torch import save_file

    wrong = tmp_path / "wrong"
    wrong.mkdir()
    source = adapted("plain", "tied")
    (wrong / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    save_file({k.replace(".layers.", ".blocks."): v for k, v in load_file(source / "adapter_model.safetensors").items()},
              wrong / "adapter_model.safetensors")
    with pytest.raises(peftkit.Failed):
        peftkit.run("merge-lora", "-m", small("tied").folder, "--lora", wrong, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


#: What the adapter of TestSmolLM2 learns by heart: the model before knows none of it, the model after has no doubts.
PASSAGES = {
    "The ferry at Marrow Point": " leaves twice a day, at six and at four, unless the wind stands in the east. Old Hanneke keeps the bell and the "
    "book of names. She has crossed the strait nine thousand times and has never once learned to swim.",
    "Rule seven of the glassworks": " says that nobody may whistle near the second furnace. The rule is older than the furnace. Visitors laugh at it "
    "until the first cold morning, when the whole shed begins to hum in answer.",
    "To mend a cracked drum": ", soak a strip of goat skin in weak tea for one night, stretch it over the crack and tie it with red thread. Play "
    "nothing loud until the third day. On the fourth day play everything.",
    "The clock in Vessel Street": " runs eleven minutes late and is trusted by all. Trains wait for it, schools open by it, and when a stranger set it "
    "right one winter, the town was hungry an hour too early for a week.",
}


class TestSmolLM2:
    """The whole way on the real model: train, merge, GGUF, adapter as GGUF."""

    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory):
        import json

        from peers import where

        tmp = tmp_path_factory.mktemp("trained")
        data = tmp / "data.jsonl"
        data.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in PASSAGES.items()))
        peftkit.run("train", "-m", where.SMOLLM2, "-d", data, "-o", tmp / "adapter", "--max-steps", 40, "--lr", 2e-3,
                    "--batch-size", 4, "--grad-accum", 1, "--no-packing")
        assert peftkit.metrics(tmp / "adapter")[-1]["loss"] < 0.1
        return tmp / "adapter"

    @pytest.fixture(scope="class")
    def tuned(self, smollm2, trained):
        return adapters.load(models.load(smollm2), trained)

    PROMPT = "To mend a cracked drum"

    @pytest.mark.parametrize("kind", ["f32", "f16"])
    def test_merged_gguf(self, smollm2, trained, tuned, tmp_path, kind):
        from transformers import AutoTokenizer

        out = tmp_path / "merged.gguf"
        peftkit.run("merge-lora", "-m", smollm2, "--lora", trained, "-o", out, "-q", kind)
        tok = AutoTokenizer.from_pretrained(smollm2, local_files_only=True)
        ids = tok(self.PROMPT)["input_ids"]
        theirs = models.greedy(tuned, ids, 40, {tok.eos_token_id})
        assert tok.decode(theirs) in PASSAGES[self.PROMPT], "the adapter did not learn its text"
        tokens, text = peftkit.greedy(out, self.PROMPT, 40)
        compare.same("peftkit: tokens", tokens[:len(theirs)], theirs)
        compare.same("peftkit: text", text, tok.decode(theirs))
        with LlamaCpp(out) as cpp:
            compare.same("llama.cpp", cpp.greedy(ids, 40), theirs)

    def test_gguf_adapter(self, smollm2, smollm2_gguf, trained, tuned, tmp_path):
        from transformers import AutoTokenizer

        lora = tmp_path / "lora.gguf"
        peftkit.run("convert", trained, "-o", lora, "--base", smollm2)
        tok = AutoTokenizer.from_pretrained(smollm2, local_files_only=True)
        ids = tok(self.PROMPT)["input_ids"]
        theirs = models.greedy(tuned, ids, 40, {tok.eos_token_id})
        with LlamaCpp(smollm2_gguf, [(lora, 1.0)]) as cpp:
            compare.same("llama.cpp with the adapter", cpp.greedy(ids, 40), theirs)
            compare.close("llama.cpp: logits", cpp.logits(ids), models.logits(tuned, ids), bounds.LARGE)
        tokens, _ = peftkit.greedy(smollm2_gguf, self.PROMPT, 40, lora)
        compare.same("peftkit with the GGUF adapter", tokens[:len(theirs)], theirs)

    def test_merge_equals_peft(self, smollm2, trained, tmp_path):
        theirs = stored(merged_by_peft(smollm2, trained, torch.float32, tmp_path / "peft"))
        peftkit.run("merge-lora", "-m", smollm2, "--lora", trained, "-o", tmp_path / "ours")
        compare.tensors("merged", stored(tmp_path / "ours"), theirs, atol=bounds.MERGED)

    @pytest.mark.parametrize("base,kind", [("q4_1", "q8_0"), ("q4_1", "q4_0"), ("q8_0", "keep")])
    def test_quantised(self, trained, tmp_path, base, kind):
        """Merged and quantised again: llama.cpp against peftkit by the likeliest token.

        Not Q4_1 into Q4_1: a small update falls back onto the points of the very same
        grid there (peftkit says how little survives), and what is left of the passages
        is a model in doubt, whose near ties 8-bit activations decide.
        """
        from peers import where

        source, out = where.SMOLLM2, tmp_path / "merged.gguf"
        if base != "q4_1":
            source = tmp_path / "base.gguf"
            peftkit.run("convert", where.SMOLLM2, "-o", source, "-q", base)
        peftkit.run("merge-lora", "-m", source, "--lora", trained, "-o", out, "-q", kind)
        with LlamaCpp(out) as cpp:
            compare.top1(f"top-1 on {kind}", *peftkit.teacher_forced_on(cpp, out, PASSAGES), 0.97)
