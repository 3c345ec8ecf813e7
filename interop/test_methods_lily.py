"""Lily against Hugging Face PEFT: files, logits, losses; and what it says instead of merging."""

import pytest
import torch
from peft import LilyConfig

from peers import compare, methods, models, peftkit
from peers.methods import Case, bases  # noqa: F401 (a fixture)

REGEX = r".*\.self_attn\.[qkvo]_proj"


class Lily(Case):
    """A case whose regular expressions peftkit takes for such."""

    def flags(self):
        return [f.replace(REGEX, "regex:" + REGEX) for f in super().flags()]


def lily(model="llama", **options) -> Case:
    """One text at a time: PEFT's mixtures are means over padding too."""
    return Lily(LilyConfig, {"scaling": 2.0, **options}, model, batch=1, mergeable=False, noise=0.3, fill=1)


CASES = {
    "lily": lily(r=4),
    "lily-shared": lily(r=4, stride_A=2, num_B=3),
    "lily-odd": lily(r=3, stride_A=3, num_B=2, scaling=0.5),
    "lily-random": lily(r=4, init_weights=False),
    "lily-regex": lily(r=4, stride_A=2, target_modules=REGEX),
    "lily-qwen2": lily("qwen2", r=4, stride_A=2, target_modules=["q_proj", "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
}


@pytest.fixture(autouse=True)
def cut(monkeypatch):
    """The last token of a text is only predicted, so peftkit does not compute it: it must not count in the reference's means."""
    def objective(_, tokenizer):
        def loss(tuned, rows):
            (row,) = rows
            ids = torch.tensor(tokenizer(row["text"])["input_ids"] + [tokenizer.eos_token_id])
            return torch.nn.functional.cross_entropy(tuned(input_ids=ids[None, :-1]).logits[0].float(), ids[1:])

        return loss

    monkeypatch.setattr(methods, "objective", objective)


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def test_peftkit_reads(case, bases, tmp_path):  # noqa: F811
    methods.reads(case, bases(case.model), tmp_path)


def test_peft_reads(case, bases, tmp_path):  # noqa: F811
    methods.writes(case, bases(case.model), tmp_path)


def test_same_losses(case, bases, tmp_path):  # noqa: F811
    methods.trains(case, bases(case.model), tmp_path)


def test_merge(case, bases, tmp_path):  # noqa: F811
    methods.merges(case, bases(case.model), tmp_path)


def test_all_linear(bases, tmp_path):  # noqa: F811
    """What peftkit means by all-linear is said in the file by names that PEFT groups alike."""
    case = lily(r=4, stride_A=2, target_modules="all-linear")
    methods.writes(case, bases("llama"), tmp_path)


def test_scale(bases, tmp_path):  # noqa: F811
    """An adapter at half its strength is one of half the scaling."""
    folder = bases("llama")
    methods.filled(lily(r=4), folder, tmp_path / "one")
    methods.filled(lily(r=4, scaling=1.0), folder, tmp_path / "half")
    ids = methods.ids_of(folder)
    got = methods.ours(CASES["lily"], folder, ids, f"{tmp_path / 'one'}:0.5")
    compare.close("logits", got, methods.ours(CASES["lily"], folder, ids, tmp_path / "half"), 1e-5)


def test_conv1d(bases, tmp_path):  # noqa: F811
    """PEFT still refuses the layers of GPT-2; peftkit trains them."""
    case, folder = lily("gpt2", r=4), bases("gpt2")
    with pytest.raises(NotImplementedError, match="does not support target modules of type"):
        methods.started(case, folder, tmp_path / "theirs")
    out = tmp_path / "ours"
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", out, "--max-steps", 4, "--save-steps", 0, "--val-split", 0,
                "--lr", 1e-2, *case.flags())
    ids = methods.ids_of(folder)
    assert abs(methods.ours(case, folder, ids, out) - models.logits(models.load(folder), ids)).max() > 1e-4
