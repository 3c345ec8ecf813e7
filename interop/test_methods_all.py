"""Every kind of adapter that PEFT has is one of peftkit's methods, or is named here with the reason."""

import json

import pytest
from peft import PeftType

from peers import compare, methods, peftkit
from peers.methods import bases  # noqa: F401 (a fixture)

#: What peftkit does not compute.
NOT_HERE = {
    "SHADOW": "a second network beside the model, with a loss of its own",
}


def test_every_kind():
    ours = {m["peft_type"] for m in peftkit.call("methods")}
    compare.same("kinds of PEFT that peftkit does not have", sorted(t.value for t in PeftType if t.value not in ours), sorted(NOT_HERE))


@pytest.mark.parametrize("kind", NOT_HERE)
def test_refused_by_name(kind, bases, tmp_path):  # noqa: F811
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}))
    (tmp_path / "adapter_model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(peftkit.Failed, match=f'peft_type "{kind}" is of no method in this peftkit'):
        peftkit.logits(bases("llama"), methods.ids_of(bases("llama")), tmp_path)
