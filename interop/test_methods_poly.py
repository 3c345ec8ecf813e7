"""Poly: skills that tasks mix, against Hugging Face PEFT: files, logits, losses.

PEFT wants task_ids with every call; here hooks give them to its layers.
"""

import numpy as np
import pytest
import torch
from peft import PolyConfig
from torch.distributions.relaxed_bernoulli import RelaxedBernoulli

from peers import methods
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads  # noqa: F401
from peers.masks import mix
from peers.methods import Case, bases  # noqa: F401 (a fixture)

CASES = {
    "poly": Case(PolyConfig, {"r": 4}, noise=0.3, mergeable=False),
    "poly-skills": Case(PolyConfig, {"r": 3, "n_skills": 3, "n_splits": 4, "n_tasks": 3}, noise=0.3, mergeable=False),
    "poly-random": Case(PolyConfig, {"r": 2, "n_skills": 2, "init_weights": False}, lr=1e-3, mergeable=False),
}


@pytest.fixture(autouse=True)
def tasked(monkeypatch):
    """All sequences that PEFT sees are of task 0."""
    def hooked(make):
        def made(*args, **more):
            tuned = make(*args, **more)
            for module in tuned.modules():
                if hasattr(module, "poly_router"):
                    module.register_forward_pre_hook(lambda _, args, kwargs: (args, {**kwargs, "task_ids": torch.zeros(len(args[0]), dtype=torch.long)}), with_kwargs=True)
            return tuned
        return made

    monkeypatch.setattr(methods, "get_peft_model", hooked(methods.get_peft_model))
    monkeypatch.setattr(methods, "load", hooked(methods.load))


def fnv(text: str) -> int:
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return h


class Noise:
    """peftkit's draws (plugins/poly/mix.go) in place of PyTorch's: by the step, the layer, the sequence and the skill."""

    def __init__(self, seed: int):
        self.run = mix(seed)
        self.begin(0)

    def begin(self, step: int):
        self.seed = mix(mix(self.run ^ step))

    def of(self, path: str, shape) -> torch.Tensor:
        key = (self.seed ^ fnv(path)) & (1 << 64) - 1
        n = int(np.prod(shape))
        uniform = [min(max((mix((key + i) & (1 << 64) - 1) >> 11) / (1 << 53), 2**-23), 1 - 2**-23) for i in range(n)]
        u = torch.tensor(uniform, dtype=torch.float64)
        return (u.log() - (-u).log1p()).float().view(shape)


def drawn(tuned) -> dict:
    """Trains a Poly with peftkit's draws of the mixtures: hooks for methods.trains."""
    noise, now = Noise(42), []
    for name, module in tuned.named_modules():
        if hasattr(module, "poly_router"):
            path = name.removeprefix("base_model.model.")
            module.register_forward_pre_hook(lambda _, args, path=path: now.append(path))
            module.poly_router.train()
    before = RelaxedBernoulli.rsample
    RelaxedBernoulli.rsample = lambda self: torch.sigmoid(self.logits + noise.of(now[-1], self.logits.shape))

    def after(step):
        noise.begin(step + 1)
        if step == 9:
            tuned.eval()
            RelaxedBernoulli.rsample = before

    return {"after": after}


def test_same_losses(case, bases, tmp_path):  # noqa: F811
    """With the same draws of the mixtures."""
    methods.trains(case, bases(case.model), tmp_path, hooks=drawn)
