"""docs/export.md in llama.cpp: merged models, factors as they are, and factors found by SVD."""

import pytest

from peers import bounds, compare, methods, peftkit
from peers.llamacpp import LlamaCpp

#: Methods that can be merged: flags of training, whether their factors go out as they are, and the rank of what they change in
#: layers of at most 160 features (0: full).
MERGED = {
    "lora": (["--rank", 4], True, 4),
    "dora": (["--rank", 4], False, 0),
    "pissa": (["--rank", 4], True, 8),
    "vera": (["--set", "r=8"], False, 8),
    "hra": (["--rank", 4], False, 4),
    "loha": (["--rank", 2], False, 4),
    "ia3": ([], False, 0),
    "oft": ([], False, 0),
}


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """trained(method, flags) trains it for a moment on the small model."""
    def get(method, *flags):
        out = tmp_path_factory.mktemp(method) / "adapter"
        peftkit.run("train", "-m", small("tied").folder, "-d", methods.texts(out.parent / "data.jsonl"), "-o", out, "--method", method,
                    "--max-steps", 6, "--save-steps", 0, "--val-split", 0, "--warmup", 0, "--lr", 5e-3, *flags)
        return out
    return get


@pytest.fixture(scope="module")
def base(small, tmp_path_factory):
    """The small model as GGUF."""
    out = tmp_path_factory.mktemp("base") / "base.gguf"
    peftkit.run("convert", small("tied").folder, "-o", out, "-q", "f32")
    return out


@pytest.mark.parametrize("method", MERGED)
def test_methods(small, base, trained, tmp_path, method):
    """Every way out gives llama.cpp the logits that peftkit has with the adapter."""
    flags, exact, rank = MERGED[method]
    folder, adapter = small("tied").folder, trained(method, *flags)
    ids = methods.ids_of(folder)
    want = peftkit.logits(folder, ids, adapter)
    with LlamaCpp(base) as cpp:
        assert abs(cpp.logits(ids) - want).max() > 1e-2, "the adapter changes nothing: the test would prove nothing"
    peftkit.run("merge-lora", "-m", folder, "--lora", adapter, "-o", tmp_path / "merged.gguf", "-q", "f32")
    with LlamaCpp(tmp_path / "merged.gguf") as cpp:
        compare.close("merged", cpp.logits(ids), want, bounds.LOGITS)

    if exact:
        peftkit.run("convert", adapter, "--base", folder, "-o", tmp_path / "exact.gguf")
        with LlamaCpp(base, [(tmp_path / "exact.gguf", 1.0)]) as cpp:
            compare.close("factors as they are", cpp.logits(ids), want, bounds.LOGITS)
    else:
        with pytest.raises(peftkit.Failed, match="merge-lora"):
            peftkit.run("convert", adapter, "--base", folder, "-o", tmp_path / "exact.gguf")
    got = peftkit.call("convert", adapter, "--base", folder, "--svd-rank", rank or 64, "-o", tmp_path / "svd.gguf")
    assert got.get("residual", 0) < 1e-3, got
    with LlamaCpp(base, [(tmp_path / "svd.gguf", 1.0)]) as cpp:
        compare.close("factors by SVD", cpp.logits(ids), want, bounds.TRUNCATED)
    got = peftkit.call("convert", adapter, "--base", folder, "--svd-rank", 1, "-o", tmp_path / "rough.gguf")
    assert 0.01 < got["residual"] < 1, got


@pytest.mark.parametrize("method", ["prompt-tuning", "prefix-tuning", "houlsby", "adaption-prompt"])
def test_refused(small, trained, tmp_path, method):
    folder, adapter = small("tied").folder, trained(method)
    for way in (["merge-lora", "-m", folder, "--lora", adapter], ["convert", adapter, "--base", folder],
                ["convert", adapter, "--base", folder, "--svd-rank", 8]):
        with pytest.raises(peftkit.Failed, match="cannot be merged|no GGUF form|merge"):
            peftkit.run(*way, "-o", tmp_path / "x.gguf")
        assert not (tmp_path / "x.gguf").exists()
