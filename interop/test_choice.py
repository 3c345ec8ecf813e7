"""What chooses modules beside target_modules: PEFT's configurations of many methods have no exclude_modules or layers_to_transform
and pass over them, so the file has to say the same otherwise.
"""

import pytest

from peers import adapters, bounds, compare, methods, models, peftkit
from peers.methods import bases  # noqa: F401 (a fixture)
from test_methods_poly import tasked  # noqa: F401 (a fixture)

#: Options that fit a small model.
SMALL = {"fourierft": {"n_frequency": 60}, "miss": {"r": 8}, "olora": {"r": 4}, "pissa": {"r": 4}, "psoft": {"r": 8}, "road": {"group_size": 8}, "shira": {"r": 3}, "c3a": {"block_size": 16}, "vblora": {"vector_length": 16},
         "adamss": {"r": 12}, "oft": {"oft_block_size": 8}, "waveft": {"n_frequency": 60}}
LEFT_OUT = {"loftq", "eva", "bitfit", "ln-tuning", "unilora", "shadow"}  # LoRA begun otherwise; of its own format; has no layers to leave; its file names no modules; its targets are blocks, see test_methods_shadow.py


def chosen(folder):
    """Modules that a file has tensors for."""
    from safetensors.torch import load_file

    return sorted({".".join(k.split(".")[2:7]) for k in load_file(folder / "adapter_model.safetensors") if ".layers." in k})


def offering():
    """The methods of peftkit that offer exclude_modules, and whether they offer layers_to_transform."""
    return {m["name"]: any(o["key"] == "layers_to_transform" for o in m["options"]) for m in peftkit.call("methods")
            if any(o["key"] == "exclude_modules" for o in m["options"]) and m["name"] not in LEFT_OUT}


@pytest.mark.parametrize("name", offering())
def test_left_out(name, bases, tmp_path):  # noqa: F811
    folder, layers = bases("llama"), offering()[name]
    given = {"target_modules": "q_proj,v_proj,down_proj" if name != "ia3" else "k_proj,v_proj,down_proj", "exclude_modules": "v_proj", **SMALL.get(name, {})}
    if name == "ia3":
        given["feedforward_modules"] = "down_proj"
    if layers:
        given["layers_to_transform"] = "1"
    out = tmp_path / "out"
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", out, "--max-steps", 2, "--save-steps", 0, "--val-split", 0, "--method", name,
                *(f for k, v in given.items() for f in ("--set", f"{k}={v}")))
    left = chosen(out)
    assert left and not any("v_proj" in m for m in left) and (not layers or all("layers.1." in m for m in left)), left
    shared = [f"{m}.{t}" for m in ("q_proj", "k_proj", "down_proj") for t in ("vera_A", "vera_B", "pvera_A", "pvera_B", "randlora_A", "randlora_B", "vblora_vector_bank", "unilora_theta_d", "tinylora_v")]
    tuned = methods.paired(adapters.load(models.load(folder), out, ignore=("ranknum", *shared)))
    if name == "poly":
        import torch
        for module in tuned.modules():
            if hasattr(module, "poly_router"):
                module.register_forward_pre_hook(lambda _, args, kwargs: (args, {**kwargs, "task_ids": torch.zeros(len(args[0]), dtype=torch.long)}), with_kwargs=True)
    ids = methods.ids_of(folder)
    # PSOFT is among them, which PEFT decomposes in float32: see test_methods_psoft.py.
    compare.close("logits", peftkit.logits(folder, ids, out), models.logits(tuned, ids), 3 * bounds.LOGITS)
