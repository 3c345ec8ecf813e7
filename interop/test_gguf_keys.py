"""Metadata of GGUF files: a key that moves llama.cpp's logits moves peftkit's as far, or the file is refused; one that does not, does not."""

import dataclasses

import numpy as np
import pytest

from peers import compare, decoders, models, peftkit, tokenizers_
from peers.metadata import BOOL, F32, LIST, STR, U32, File, llamacpp, known
from test_methods_prompt import build

pytestmark = pytest.mark.usefixtures("one_thread")

ARCHS = {"llama": "llama-linear", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3", "phi3": "phi3", "smollm3": "smollm3", "gpt2": "gpt2"}
IDS = [5, 77, 301, 12, 250, 33, 8, 60, 61, 62, 63, 90, 91, 92, 93, 2]

u, f, s, b = (lambda v: (U32, None, v)), (lambda v: (F32, None, v)), (lambda v: (STR, None, v)), (lambda v: (BOOL, None, v))
YARN = {"rope.scaling.type": s("yarn"), "rope.scaling.factor": f(4.0), "rope.scaling.original_context_length": u(32)}
#: Keys that are set, None for those that are taken away. Lists are cut to the number of layers.
CASES = {
    "plain": {}, "causal": {"attention.causal": b(False)}, "pooling": {"pooling_type": u(1)}, "nextn": {"nextn_predict_layers": u(1)},
    "embedding out": {"embedding_length_out": u(32)}, "one expert": {"expert_count": u(1)}, "experts used": {"expert_used_count": u(1)},
    "expert groups": {"expert_group_count": u(1)}, "groups used": {"expert_group_used_count": u(1)},
    "keys of windows": {"attention.key_length_swa": u(8)}, "values of windows": {"attention.value_length_swa": u(8)},
    "rotation of windows": {"rope.dimension_count_swa": u(8)}, "values": {"attention.value_length": u(8)}, "partial": {"rope.dimension_count": u(8)},
    "scale_linear": {"rope.scale_linear": f(4.0)}, "scale_linear 0": {"rope.scale_linear": f(0.0)},
    "both factors": {"rope.scale_linear": f(4.0), "rope.scaling.factor": f(2.0)}, "factor": {"rope.scaling.factor": f(4.0)},
    "factor below 1": {"rope.scaling.factor": f(0.5)}, "factor 0": {"rope.scaling.factor": f(0.0), "rope.scale_linear": f(4.0)},
    "factor as integer": {"rope.scaling.factor": u(4)},
    "type none": {"rope.scaling.type": s("none"), "rope.scaling.factor": f(4.0)}, "type of no kind": {"rope.scaling.type": s("cubic"), "rope.scaling.factor": f(4.0)},
    "type longrope": {"rope.scaling.type": s("longrope"), "rope.scaling.factor": f(4.0)},
    "yarn": YARN, "yarn of the context": {**YARN, "rope.scaling.original_context_length": None}, "yarn without a factor": {"rope.scaling.type": s("yarn")},
    "yarn of scale_linear": {"rope.scaling.type": s("yarn"), "rope.scale_linear": f(4.0)},
    "yarn attn_factor": {**YARN, "rope.scaling.attn_factor": f(1.25)}, "yarn ext_factor": {**YARN, "rope.scaling.yarn_ext_factor": f(0.5)},
    "yarn yarn_attn_factor": {**YARN, "rope.scaling.yarn_attn_factor": f(1.5)}, "yarn beta_fast": {**YARN, "rope.scaling.yarn_beta_fast": f(8.0)},
    "yarn beta_slow": {**YARN, "rope.scaling.yarn_beta_slow": f(2.0)}, "yarn log multiplier": {**YARN, "rope.scaling.yarn_log_multiplier": f(0.5)},
    "original length": {"rope.scaling.original_context_length": u(32)}, "attn_factor": {"rope.scaling.attn_factor": f(1.5)},
    "attn_factor and factor": {"rope.scaling.attn_factor": f(1.5), "rope.scaling.factor": f(4.0)},
    "alpha": {"rope.scaling.alpha": f(4.0)}, "finetuned": {"rope.scaling.finetuned": b(True)}, "base": {"rope.freq_base": f(5000.0)}, "no base": {"rope.freq_base": None},
    "window": {"attention.sliding_window": u(4)}, "no window": {"attention.sliding_window": None}, "window 0": {"attention.sliding_window": u(0)},
    "pattern": {"attention.sliding_window": u(4), "attention.sliding_window_pattern": u(3)}, "pattern 0": {"attention.sliding_window": u(4), "attention.sliding_window_pattern": u(0)},
    "pattern 1": {"attention.sliding_window": u(4), "attention.sliding_window_pattern": u(1)},
    "listed pattern": {"attention.sliding_window": u(4), "attention.sliding_window_pattern": (LIST, BOOL, [True, True, False, True, False, False, True])},
    "base of windows": {"rope.freq_base_swa": f(5000.0)}, "no base of windows": {"rope.freq_base_swa": None},
    "cap of scores": {"attn_logit_softcapping": f(5.0)}, "no cap of scores": {"attn_logit_softcapping": None}, "cap of scores 0": {"attn_logit_softcapping": f(0.0)},
    "cap of logits": {"final_logit_softcapping": f(5.0)}, "no cap of logits": {"final_logit_softcapping": None}, "cap of logits 0": {"final_logit_softcapping": f(0.0)},
    "context": {"context_length": u(64)}, "listed heads": {"attention.head_count": (LIST, U32, [4] * 8)},
    "other norm": {"attention.layer_norm_epsilon": f(0.1)}, "norm": {"attention.layer_norm_rms_epsilon": f(0.1)}, "vocabulary": {"vocab_size": u(7)},
    "scale of scores": {"attention.scale": f(0.5)}, "scale of logits": {"logit_scale": f(0.5)}, "of no one": {"rope.colour": s("blue"), "qwen9.rope.freq_base": f(1.0)},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """plain(arch) is a small model of an architecture as GGUF, and its folder."""
    made = {}

    def get(arch: str):
        if arch not in made:
            folder = tmp_path_factory.mktemp("keys") / "m"
            if arch == "bert":
                build("bert").save_pretrained(folder)
                tokenizers_.small().save_pretrained(folder)
            else:
                v = decoders.VARIANTS[ARCHS[arch]]
                decoders.save(dataclasses.replace(v, config={}) if arch == "llama" else v, "causal-lm", folder)
            peftkit.run("convert", folder, "-o", folder.parent / "m.gguf", "-q", "f32")
            made[arch] = File(folder.parent / "m.gguf")
        return made[arch]

    return get


def settings(file: File, case: dict) -> dict:
    layers = file.keys[f"{file.arch}.block_count"][2]
    cut = lambda v: (v[0], v[1], v[2][:layers]) if v and v[0] == LIST else v
    return {(k if k.startswith("qwen9.") else f"{file.arch}.{k}"): cut(v) for k, v in case.items()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("arch", ARCHS)
def test_decoder(plain, arch, name, tmp_path):
    """Logits are llama.cpp's, or peftkit refuses; a file that llama.cpp reads as before is not refused."""
    file, path = plain(arch), tmp_path / "k.gguf"
    file.write(path, settings(file, CASES[name]))
    want, tolerance = llamacpp(path, IDS), 1e-2 if arch.startswith(("gemma", "gpt2")) else 1e-3
    try:
        got = peftkit.logits(path, IDS).ravel()
    except peftkit.Failed as e:
        assert e.code == 4 or e.code == 3, e
        assert str(path) in e.text, e
        if want is not None and np.isfinite(want).all():
            file.write(path, {})
            assert abs(want - llamacpp(path, IDS)).max() > 1e-3, f"refused without need: {e}"
        return
    assert want is not None, "llama.cpp refuses the file"
    compare.close("llama.cpp", got, want, tolerance)
    # The folder that it becomes gives the same, and what it has no place for is told.
    said = peftkit.run("convert", path, "-o", tmp_path / "hf", "-q", "f32")
    compare.close("as a folder", peftkit.logits(tmp_path / "hf", IDS).ravel(), got, 1e-5)
    compare.close("in transformers", models.logits(models.load(tmp_path / "hf"), IDS).ravel(), got, 1e-3)
    peftkit.run("convert", tmp_path / "hf", "-o", tmp_path / "back.gguf", "-q", "f32")
    compare.close("and back", llamacpp(tmp_path / "back.gguf", IDS), got, tolerance)
    if name == "of no one":
        assert "rope.colour" in said and "qwen9.rope.freq_base" in said
    if name == "window" and arch not in ("gemma2", "gemma3"):
        assert "attention.sliding_window" in said


def test_list_is_llamacpps():
    """The table knows every key that the library has."""
    import re

    from peers.where import REPO

    table = set(re.findall(r'"([a-z0-9_.]+)"', (REPO / "model" / "llamacppkeys.go").read_text()))
    assert not known() - table, sorted(known() - table)
