"""GLoRA against Hugging Face PEFT: files, logits, losses, merges."""

import pytest
from peft import GloraConfig

from peers import bounds, compare, methods, models, peftkit
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)


def biased(more, **options) -> Case:
    """On Qwen 2, whose query and value projections have biases; Llama has none."""
    return Case(GloraConfig, {**options, "target_modules": ["q_proj", "v_proj", "down_proj"]}, "qwen2", **more)


CASES = {
    "glora": Case(GloraConfig, {"r": 4}, noise=0.3, fill=1),
    "glora-vector": Case(GloraConfig, {"r": 4, "config_A_B": "vector", "config_C": "vector", "config_D_E": "vector"}, noise=0.3),
    "glora-constant": Case(GloraConfig, {"r": 4, "config_A_B": "constant", "config_C": "none", "config_D_E": "none"}, noise=0.1, lr=1e-3),
    "glora-random": Case(GloraConfig, {"r": 4, "init_weights": False}, lr=1e-3),
    "glora-biases": biased({"noise": 0.3, "fill": 1}, r=4),
    "glora-biases-vector": biased({"noise": 0.3}, r=4, config_A_B="vector", config_C="vector", config_D_E="vector"),
    "glora-biases-constant": biased({"noise": 0.1, "lr": 1e-3}, config_A_B="constant", config_C="none", config_D_E="constant"),
    "glora-biases-mixed": biased({"noise": 0.3}, r=3, config_A_B="vector", config_C="lora", config_D_E="none"),
    "glora-biases-alone": biased({"noise": 0.3, "fill": 1}, r=3, config_A_B="none", config_D_E="vector"),
    "glora-biases-random": biased({"lr": 1e-3}, r=4, init_weights=False, config_D_E="vector"),
    "glora-biases-vector-random": biased({"lr": 1e-3, "fill": 0.1}, init_weights=False, config_A_B="vector", config_C="vector"),
    "glora-biases-constant-random": biased({"lr": 1e-3, "fill": 0.1}, init_weights=False, config_A_B="constant", config_C="none"),
    "glora-biases-trained": biased({"noise": 0.1}, r=4, bias="glora_only"),
    "glora-biases-trained-vector": biased({"noise": 0.1}, r=4, config_A_B="vector", config_D_E="vector", bias="all"),
}


@pytest.mark.parametrize("name", ["glora-biases", "glora-biases-vector"])
def test_scale(name, bases, tmp_path):  # noqa: F811
    """Half an adapter is the same in front of the weights and in them."""
    case, half = CASES[name], f"{tmp_path / 'theirs'}:0.5"
    folder = bases(case.model)
    methods.filled(case, folder, tmp_path / "theirs")
    ids = methods.ids_of(folder)
    got = methods.ours(case, folder, ids, half)
    assert abs(got - methods.ours(case, folder, ids, tmp_path / "theirs")).max() > 1e-2
    peftkit.run("merge-lora", "-m", folder, "--lora", half, "-o", tmp_path / "merged")
    compare.close("logits", got, models.logits(models.load(tmp_path / "merged"), ids), bounds.LOGITS)


def test_conv1d(bases, tmp_path):  # noqa: F811
    """PEFT still refuses the layers of GPT-2; peftkit trains and merges them alike."""
    case, folder = Case(GloraConfig, {"r": 4}, "gpt2"), bases("gpt2")
    with pytest.raises(ValueError, match="is not a plain torch.nn.Linear"):
        methods.started(case, folder, tmp_path / "theirs")
    out = tmp_path / "ours"
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", out, "--max-steps", 4, "--save-steps", 0, "--val-split", 0,
                "--lr", 1e-2, *case.flags())
    ids = methods.ids_of(folder)
    got = methods.ours(case, folder, ids, out)
    assert abs(got - models.logits(models.load(folder), ids)).max() > 1e-4
    peftkit.run("merge-lora", "-m", folder, "--lora", out, "-o", tmp_path / "merged")
    compare.close("logits", models.logits(models.load(tmp_path / "merged"), ids), got, bounds.LOGITS)
