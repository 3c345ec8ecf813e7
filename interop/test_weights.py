"""Weights of messages: the loss and the gradient of the weighted mean, against PyTorch."""

import json
import math

import pytest

from peers import adapters, bounds, compare, models, peftkit
from test_training import initial

#: Relative, of a loss. A norm of gradients, differences of two probabilities of that accuracy, is held to ten times it.
TOLERANCE = bounds.FIRST

WEIGHTS = [[0, 1], [0.25, 1], [1, 0.5], [1, 1]]


def chat(n, weights):
    """A chat of two answers with their weights; 1 is left out."""
    words = "fox dog cat river stone night morning red blue".split()
    said = [{"role": role, "content": " ".join(words[(n + 3 * i + k) % len(words)] for k in range(3 + n + i))} for i, role in enumerate(["user", "assistant"] * 2)]
    for message, weight in zip(said[1::2], weights, strict=True):
        message.update({} if weight == 1 else {"weight": weight})
    return {"messages": said}


@pytest.fixture
def run(small, tmp_path):
    it = small("tied")
    data = tmp_path / "chat.jsonl"
    data.write_text("".join(json.dumps(chat(n, w)) + "\n" for n, w in enumerate(WEIGHTS)))
    flags = ["-m", it.folder, "-d", data, "--chat-template", "chatml"]
    masks = [json.loads(line) for line in peftkit.run("tokenize", *flags, "--mask", "--json").splitlines()]
    assert [sorted(set(m.get("weights", [1]))) for m in masks] == [[1], [0.25, 1], [0.5, 1], [1]]
    return it, flags, masks


def weighted(model, masks):
    """The sum of weighted losses and the sum of weights."""
    import torch

    total, weight = 0, 0.0
    for m in masks:
        logits = model(torch.tensor([m["tokens"]])).logits[0, :-1].float()
        labels = torch.tensor(m["labels"][1:])
        w = torch.tensor(m.get("weights", [1.0] * len(m["tokens"]))[1:]) * (labels != -100)
        loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
        total, weight = total + (loss * w).sum(), weight + w.sum().item()
    return total / weight


def test_eval(run):
    it, flags, masks = run
    got = json.loads(peftkit.run("eval", *flags, "--json"))
    want = weighted(it.model.eval(), masks).item()
    assert abs(got["loss"] - want) < TOLERANCE * want
    assert got["tokens"] == sum(label != -100 for m in masks for label in m["labels"])
    plain = weighted(it.model, [{k: v for k, v in m.items() if k != "weights"} for m in masks]).item()
    assert abs(plain - want) > 10 * TOLERANCE * want, "the weights change nothing: the test would prove little"


def test_gradient(run, tmp_path):
    """Of the first step: the loss, and the norm of its gradient over a LoRA."""
    it, flags, masks = run
    start = initial(it.folder, tmp_path / "start", {})
    out = tmp_path / "out"
    peftkit.run("train", *flags, "-o", out, "--init-adapter", start, "--max-steps", 1, "--batch-size", 4, "--grad-accum", 1, "--no-packing", "--clip", 0)
    (step,) = peftkit.metrics(out)
    tuned = adapters.load(models.load(it.folder), start, trainable=True).eval()
    loss = weighted(tuned, masks)
    loss.backward()
    norm = math.sqrt(sum((p.grad.double() ** 2).sum().item() for p in tuned.parameters() if p.grad is not None))
    compare.relative("loss", [step["loss"]], [loss.item()], TOLERANCE)
    compare.relative("gradient", [step["grad_norm"]], [norm], 10 * TOLERANCE)
