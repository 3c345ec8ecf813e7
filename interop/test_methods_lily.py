"""Lily, whose layers share what they train, against Hugging Face PEFT: files, logits, losses."""

import json
from dataclasses import replace

from peft import LilyConfig

from peers import methods
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

#: One text a batch: PEFT's mixture is a mean over padding too.
CASES = {
    "lily": Case(LilyConfig, {"r": 4}, noise=0.3, mergeable=False, batch=1),
    "lily-strides": Case(LilyConfig, {"r": 4, "stride_A": 2, "num_B": 3, "scaling": 2.0}, noise=0.3, mergeable=False, batch=1),
    "lily-random": Case(LilyConfig, {"r": 3, "init_weights": False}, mergeable=False, batch=1),
    "lily-regex": Case(LilyConfig, {"r": 4, "stride_A": 3, "target_modules": r".*\.(q|k)_proj"}, noise=0.3, mergeable=False, batch=1),
}


def test_same_losses_of_a_batch(bases, tmp_path, monkeypatch):  # noqa: F811
    """Texts of one length, whose mixture is the mean over both."""
    words = methods.WORDS[:6]
    lines = [{"text": "The " + " ".join(words[i:] + words[:i]) + "."} for i in range(6)]
    monkeypatch.setattr(methods, "texts", lambda path: path.write_text("".join(json.dumps(line) + "\n" for line in lines)) and path)
    methods.trains(replace(CASES["lily-strides"], batch=2), bases("llama"), tmp_path)
