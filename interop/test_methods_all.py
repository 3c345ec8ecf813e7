"""Every kind of adapter that PEFT has is one of peftkit's methods."""

import json

import pytest
from peft import PeftType

from peers import compare, methods, peftkit
from peers.methods import bases  # noqa: F401 (a fixture)


def test_every_kind():
    ours = {m["peft_type"] for m in peftkit.call("methods")}
    compare.same("kinds of PEFT that peftkit does not have", sorted(t.value for t in PeftType if t.value not in ours), [])


def test_refused_by_name(bases, tmp_path):  # noqa: F811
    """A kind that a later PEFT may have."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LATER", "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}))
    (tmp_path / "adapter_model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(peftkit.Failed, match='peft_type "LATER" is of no method in this peftkit'):
        peftkit.logits(bases("llama"), methods.ids_of(bases("llama")), tmp_path)
