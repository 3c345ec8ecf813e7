"""BEFT, a bias of the value projections, against Hugging Face PEFT: files, logits, losses, merges."""

import pytest
from peft import BeftConfig

from peers import bounds, methods, models, peftkit
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

CASES = {
    "beft": Case(BeftConfig, {}, mergeable=False),  # the model has no biases
    "beft-random": Case(BeftConfig, {"init_weights": False}, mergeable=False, lr=1e-3),
    "beft-biases": Case(BeftConfig, {}, "qwen2", fill=3),  # the default modules, which have biases
    "beft-biases-random": Case(BeftConfig, {"init_weights": False, "target_modules": ["q_proj", "k_proj", "v_proj"]}, "qwen2"),
}


def test_gpt2(bases, tmp_path):  # noqa: F811
    """PEFT refuses GPT-2's Conv1D, which peftkit trains and merges."""
    case = Case(BeftConfig, {}, "gpt2")
    folder, ours, merged = bases(case.model), tmp_path / "ours", tmp_path / "merged"
    with pytest.raises(TypeError, match="only `torch.nn.Linear` is supported"):
        methods.started(case, folder, tmp_path / "theirs")
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", ours, "--max-steps", 4, "--save-steps", 0, "--val-split", 0,
                "--lr", case.lr, *case.flags())
    peftkit.run("merge-lora", "-m", folder, "--lora", ours, "-o", merged)
    ids = methods.ids_of(folder)
    got = methods.ours(case, folder, ids, ours)
    assert abs(got - models.logits(models.load(folder), ids)).max() > 1e-4
    assert abs(got - models.logits(models.load(merged), ids)).max() < bounds.LOGITS
