"""The bytes of peftkit's quantisers against ggml's reference."""

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from peers import compare, ggml, peftkit

KINDS = ["f16", "bf16", "q8_0", "q4_0", "q4_1"]


def check(f32_gguf, out, kind):
    """Every matrix of out holds the bytes ggml makes of the float32 file's numbers; returns how many are of type kind."""
    source = {t.name: t for t in GGUFReader(f32_gguf).tensors}
    made = GGUFReader(out).tensors
    compare.keys("tensors", [t.name for t in made], source)
    count = 0
    for t in made:
        name = t.tensor_type.name.lower()
        numbers = np.asarray(dequantize(source[t.name].data, source[t.name].tensor_type), np.float32)
        numbers = numbers.reshape(-1, int(t.shape[0]))
        compare.same(f"{t.name} as {name}", np.ascontiguousarray(t.data).tobytes(), ggml.quantize(name, numbers))
        count += name == kind
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_small(small, tmp_path, kind):
    peftkit.run("convert", small("untied").folder, "-o", tmp_path / "f32.gguf", "-q", "f32")
    peftkit.run("convert", small("untied").folder, "-o", tmp_path / "q.gguf", "-q", kind)
    assert check(tmp_path / "f32.gguf", tmp_path / "q.gguf", kind) >= 14


@pytest.mark.parametrize("kind", KINDS)
def test_smollm2(smollm2, smollm2_gguf, tmp_path, kind):
    """From the safetensors folder, all 30 layers."""
    peftkit.run("convert", smollm2, "-o", tmp_path / "q.gguf", "-q", kind)
    assert check(smollm2_gguf, tmp_path / "q.gguf", kind) >= 210
