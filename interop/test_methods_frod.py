"""FRoD against Hugging Face PEFT: files, logits, losses, merges."""

import dataclasses
import shutil

import pytest
import torch
from peft import FrodConfig
from safetensors.torch import load_file, save_file

from peers import adapters, bounds, compare, methods, models, peftkit
from peers.checks import test_merge, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

CASES = {
    "frod": Case(FrodConfig, {}),
    "frod-dense": Case(FrodConfig, {"sparse_rate": 0.3, "projection_prng_key": 5}),
    "frod-diagonal": Case(FrodConfig, {"sparse_rate": 0.0}),
    "frod-full": Case(FrodConfig, {"sparse_rate": 1.0, "regularization_alpha": 0.1}),
    "frod-random": Case(FrodConfig, {"init_weights": False, "sparse_rate": 0.05}, lr=1e-3),
    "frod-gpt2": Case(FrodConfig, {"sparse_rate": 0.05}, "gpt2"),
    "frod-gpt2-biases": Case(FrodConfig, {"sparse_rate": 0.05, "bias": "frod_only"}, "gpt2"),
}

#: Cases whose start can be compared: v_proj's and down_proj's weights together are square here and mlp.c_proj's are wide, so that
#: all their vectors, or half of them, belong to one eigenvalue, and rounding alone chooses them.
STARTS = {name: dataclasses.replace(case, options={**case.options, "target_modules": ["q_proj", "gate_proj"] if case.model == "llama" else ["c_attn"]})
          for name, case in CASES.items()}


def test_peft_reads(case, bases, tmp_path):  # noqa: F811
    """With U found by the file's V, see methods.paired and the test below."""
    methods.writes(case, bases(case.model), tmp_path)


def test_peft_keeps_its_own_u(bases, tmp_path):  # noqa: F811
    """Vectors of the other sign are the same basis: a start with them changes nothing, but in PEFT, which leaves the file's V and its own U unpaired."""
    folder = bases("llama")
    start = methods.started(CASES["frod"], folder, tmp_path / "start")
    file = load_file(start / "adapter_model.safetensors")
    for name, v in file.items():
        if ".frod_V." in name:
            v[:, ::2] *= -1
    save_file(file, start / "adapter_model.safetensors")
    ids = methods.ids_of(folder)
    plain = models.logits(models.load(folder), ids)
    compare.close("peftkit", peftkit.logits(folder, ids, start), plain, bounds.LOGITS)
    tuned = adapters.load(models.load(folder), start)
    assert abs(models.logits(tuned, ids) - plain).max() > 0.1, "PEFT pairs them now: methods.paired and the plug-in's comment are out of date"
    compare.close("PEFT with the file's U", models.logits(methods.paired(tuned), ids), plain, bounds.LOGITS)


def test_same_choice(bases, tmp_path):  # noqa: F811
    """The trained elements are those that PEFT draws."""
    case, folder = CASES["frod-dense"], bases("llama")
    methods.started(case, folder, tmp_path / "theirs")
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", tmp_path / "ours", "--max-steps", 1,
                "--save-steps", 0, "--val-split", 0, *case.flags())
    ours, theirs = (load_file(tmp_path / side / "adapter_model.safetensors") for side in ("ours", "theirs"))
    for name, want in theirs.items():
        if ".frod_s_" in name:
            compare.same(name, ours[name].tolist(), want.tolist())


def test_no_projection(bases, tmp_path):  # noqa: F811
    """A file without bases is refused, and so is making one."""
    folder = bases("llama")
    start = methods.started(CASES["frod"], folder, tmp_path / "start", save_projection=False)
    with pytest.raises(peftkit.Failed, match="save_projection is false"):
        peftkit.logits(folder, methods.ids_of(folder), start)


@pytest.mark.parametrize("check", [methods.reads, methods.writes, methods.merges])
def test_dead_inputs(check, bases, tmp_path):  # noqa: F811
    """Inputs that no block reads leave V without inverse: both sides take a pseudo-inverse."""
    model = models.load(bases("llama"))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight[:, [3, 7, 20]] = 0
    model.save_pretrained(tmp_path / "base")
    for file in bases("llama").glob("*token*"):
        shutil.copy(file, tmp_path / "base")
    check(dataclasses.replace(CASES["frod-dense"], options={**CASES["frod-dense"].options, "target_modules": ["q_proj"]}), tmp_path / "base", tmp_path)
