"""Trainable tokens that are chosen by the training data: PEFT loads them, and trains on.

What PEFT and peftkit share for tokens that are named is in the other files of methods.
"""

import json

import pytest
from peft import TrainableTokensConfig

from peers import bounds, compare, methods, models, peftkit
from peers.methods import Case, bases  # noqa: F401 (a fixture)


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_chosen(model, bases, tmp_path):  # noqa: F811
    it, folder = Case(TrainableTokensConfig, {}, model, method="trainabletokens"), bases(model)
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", tmp_path / "out", "--method", "trainabletokens", "--max-steps", 2)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert 10 < len(config["token_indices"]) <= 100
    tuned, ids = methods.load(it, folder, tmp_path / "out", trainable=True).eval(), methods.ids_of(folder)
    compare.close("logits", peftkit.logits(folder, ids, tmp_path / "out"), models.logits(tuned, ids), bounds.LOGITS)
