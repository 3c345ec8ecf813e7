"""Every kind of file peftkit writes, read by safetensors, gguf-py and node-llama-cpp."""

import json
import subprocess

import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors import safe_open

from peers import compare, peftkit, where

NODE = where.INTEROP / "node" / "read.mjs"


def read_gguf(path):
    """All keys and tensors with gguf-py; decodes every tensor, whose place must lie inside the file."""
    reader = GGUFReader(path)
    fields = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    for t in reader.tensors:
        assert t.data_offset + t.n_bytes <= path.stat().st_size, t.name
        assert t.data_offset % int(fields.get("general.alignment", 32)) == 0, t.name
        assert dequantize(t.data, t.tensor_type).size == t.n_elements, t.name
    return fields, {t.name: t for t in reader.tensors}


def read_node(path):
    """Metadata and tensor count with node-llama-cpp's own parser, another reader than gguf-py and llama.cpp."""
    done = subprocess.run(["node", NODE, path], cwd=where.CACHE / "node", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def read_safetensors(path):
    with safe_open(path, "pt") as f:
        assert f.metadata() is None or f.metadata().get("format") == "pt", f.metadata()
        return {k: f.get_tensor(k) for k in f.keys()}


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"])
def test_gguf_model(small, tmp_path, kind):
    out = tmp_path / "m.gguf"
    peftkit.run("convert", small("untied").folder, "-o", out, "-q", kind)
    fields, tensors = read_gguf(out)
    assert fields["general.architecture"] == "llama" and fields["llama.block_count"] == 2
    assert len(tensors) == 21 and fields["tokenizer.ggml.model"] == "gpt2"
    told = read_node(out)
    compare.same("tensors", told["tensors"], sorted(tensors))
    compare.same("architecture", told["architecture"], "llama")


def test_gguf_adapter(small, adapted, tmp_path):
    out = tmp_path / "lora.gguf"
    peftkit.run("convert", adapted("all-linear", "tied"), "-o", out, "--base", small("tied").folder)
    fields, tensors = read_gguf(out)
    assert fields["general.type"] == "adapter" and fields["adapter.type"] == "lora"
    assert len(tensors) == 2 * 7 * 2
    compare.same("tensors", read_node(out)["tensors"], sorted(tensors))


def test_gguf_merged(small, adapted, tmp_path):
    out = tmp_path / "m.gguf"
    peftkit.run("merge-lora", "-m", small("tied").folder, "--lora", adapted("plain", "tied"), "-o", out)
    _, tensors = read_gguf(out)
    compare.same("tensors", read_node(out)["tensors"], sorted(tensors))


def test_safetensors(small, adapted, tmp_path):
    """Folders: converted, merged (from shards), adapter out of GGUF, adapter out of training with its checkpoints."""
    peftkit.run("convert", small("tied").folder, "-o", tmp_path / "m.gguf")
    peftkit.run("convert", tmp_path / "m.gguf", "-o", tmp_path / "back")
    peftkit.run("merge-lora", "-m", small("sharded").folder, "--lora", adapted("plain", "untied"), "-o", tmp_path / "merged")
    peftkit.run("convert", adapted("plain", "tied"), "-o", tmp_path / "lora.gguf", "--base", small("tied").folder)
    peftkit.run("convert", tmp_path / "lora.gguf", "-o", tmp_path / "lora", "--base", small("tied").folder)
    (tmp_path / "data.jsonl").write_text('{"text": "The quick brown fox."}\n' * 8)
    peftkit.run("train", "-m", small("tied").folder, "-d", tmp_path / "data.jsonl", "-o", tmp_path / "out", "--batch-size", 2,
                "--grad-accum", 1, "--no-packing", "--save-steps", 2)
    count = 0
    for folder in ("back", "merged", "lora", "out"):
        found = sorted((tmp_path / folder).rglob("*.safetensors"))
        assert found, folder
        for path in found:
            assert read_safetensors(path), path
            count += 1
        for path in (tmp_path / folder).rglob("*.json"):
            json.loads(path.read_text())
    assert count >= 4
    assert any("checkpoint-" in str(p) for p in (tmp_path / "out").rglob("*")), "no checkpoint was written"


def test_node_llama_cpp_runs_it(small, adapted, tmp_path):
    """node-llama-cpp loads the model and the adapter and continues a prompt as PEFT does."""
    from peers import adapters, models

    it = small("tied")
    peftkit.run("convert", it.folder, "-o", tmp_path / "m.gguf", "-q", "f32")
    peftkit.run("convert", adapted("all-linear", "tied"), "-o", tmp_path / "lora.gguf", "--base", it.folder)
    ids = it.tokenizer("The quick brown")["input_ids"]
    want = models.greedy(adapters.load(models.load(it.folder), adapted("all-linear", "tied")), ids, 12, set())
    done = subprocess.run(["node", where.INTEROP / "node" / "greedy.mjs", tmp_path / "m.gguf", tmp_path / "lora.gguf", json.dumps(ids), "12"],
                          cwd=where.CACHE / "node", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    compare.same("node-llama-cpp", json.loads(done.stdout.splitlines()[-1]), want)
