"""Methods of Hugging Face PEFT: one Case each, and what is checked of every one.

A test file lists cases by name and calls reads, writes, trains and merges; the
fixture bases gives the models.
"""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoTokenizer

from . import adapters, compare, decoders, models, peftkit
from .training import Run, examples, train

TEXT = "The quick brown fox jumps over the lazy dog, and 14 cats watch."
WORDS = "fox dog cat river stone night morning red blue old small quick slow runs sleeps sees finds keeps lost over under".split()

#: The modules that a case without target_modules changes; not all are square.
TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "mlp.c_proj"]}


@dataclass(frozen=True)
class Case:
    """A configuration of a method."""

    config: type  # PEFT's configuration class
    options: dict = field(default_factory=dict)  # its arguments
    model: str = "llama"  # or gpt2, whose linear layers are Conv1D
    method: str = ""  # peftkit's word for it; "" is PEFT's type in lower case
    lr: float = 1e-2
    noise: float = 0.0  # moves the start of training away from PEFT's own, where most gradients would be zero
    fill: float = 0.3  # size of the random numbers of a filled adapter
    mergeable: bool = True
    merged: float = 1e-5  # how far merged weights may be apart
    train_only: dict = field(default_factory=dict)  # further options, for training alone
    copies: tuple = ()  # ends of names of the base's own weights, which PEFT saves beside the adapter and peftkit does not
    implied: tuple = ()  # options that peftkit finds out by itself
    steps: int = 4  # of the run that makes a file for PEFT
    untrainable: str = ""  # a saved adapter cannot be trained on: what peftkit says then
    unsaved: tuple = ()  # parts of names of PEFT's state that PEFT does not save

    def build(self, **more):
        """PEFT's configuration."""
        options = {"task_type": "CAUSAL_LM", **self.options, **more}
        if "target_modules" not in options and self.model in TARGETS:
            options["target_modules"] = TARGETS[self.model]
        return self.config(**options)

    @property
    def name(self) -> str:
        return self.method or str(self.build().peft_type.value).lower().replace("_", "")

    def flags(self) -> list[str]:
        """The same configuration as peftkit's flags."""
        options = {k: v for k, v in self.options.items() if k not in self.implied}
        if "target_modules" not in options and self.model in TARGETS:
            options["target_modules"] = TARGETS[self.model]
        return ["--method", self.name, *(f for k, v in options.items() for f in ("--set", f"{k}={v if isinstance(v, str) else json.dumps(v)}"))]


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """bases(name) writes the small model of that name once and returns its folder."""
    made = {}

    def get(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("base") / name
            if name == "llama":
                models.save(models.SMALL["tied"], folder)
            else:
                decoders.save(decoders.VARIANTS[name], "causal-lm", folder)
            made[name] = folder
        return made[name]

    return get


def _random(name: str, shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ 7))


def filled(case: Case, folder: Path, out: Path) -> PeftModel:
    """Saves a PEFT adapter all of whose trained numbers are random, seeded by name; returns the model with it."""
    torch.manual_seed(0)
    tuned = get_peft_model(models.load(folder), case.build()).eval()
    with torch.no_grad():
        for name, p in tuned.named_parameters():
            if p.requires_grad:
                p.add_(case.fill * _random(name, p.shape) / p.shape[-1] ** 0.5)
    tuned.save_pretrained(out)
    return tuned


def started(case: Case, folder: Path, out: Path, **more) -> Path:
    """Saves a PEFT adapter as training begins."""
    torch.manual_seed(1)
    tuned = get_peft_model(models.load(folder), case.build(**{**case.train_only, **more}))
    if case.noise:
        with torch.no_grad():
            for name, p in tuned.named_parameters():
                if p.requires_grad:
                    p.add_(case.noise * _random(name, p.shape) / p.shape[-1] ** 0.5)
    tuned.save_pretrained(out)
    return out


def load(case: Case, folder: Path, adapter: Path, trainable: bool = False) -> PeftModel:
    """PEFT on an adapter, every tensor of the file used and none of the adapter's left out."""
    return adapters.load(models.load(folder), adapter, trainable, ignore=case.unsaved)


def ids_of(folder: Path) -> list[int]:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)(TEXT)["input_ids"]


def texts(path: Path, count: int = 24) -> Path:
    """JSONL of sentences of differing length, always the same."""
    lines = []
    for i in range(count):
        words = [WORDS[(i * 7 + j * (3 + i % 5)) % len(WORDS)] for j in range(6 + i % 9)]
        lines.append(json.dumps({"text": "The " + " ".join(words) + "."}) + "\n")
    path.write_text("".join(lines))
    return path


def reads(case: Case, folder: Path, tmp: Path, atol: float = 1e-4) -> None:
    """peftkit loads what PEFT wrote: the same logits."""
    filled(case, folder, tmp / "theirs")
    ids = ids_of(folder)
    want = models.logits(load(case, folder, tmp / "theirs"), ids)
    assert abs(want - models.logits(models.load(folder), ids)).max() > 1e-2, "the adapter changes nothing: the test would prove nothing"
    compare.close("logits", peftkit.logits(folder, ids, tmp / "theirs"), want, atol)


def writes(case: Case, folder: Path, tmp: Path, atol: float = 1e-4) -> None:
    """PEFT loads what peftkit trained from nothing, by the method's own options: no key missing or left over, the same logits."""
    out = tmp / "ours"
    peftkit.run("train", "-m", folder, "-d", texts(tmp / "data.jsonl"), "-o", out, "--max-steps", case.steps, "--save-steps", 0, "--val-split", 0,
                "--lr", case.lr, *case.flags())
    ids = ids_of(folder)
    want = models.logits(load(case, folder, out), ids)
    assert abs(want - models.logits(models.load(folder), ids)).max() > 1e-4, "training changed nothing"
    compare.close("logits", peftkit.logits(folder, ids, out), want, atol)


def trains(case: Case, folder: Path, tmp: Path, steps: int = 10, rtol: float = 1e-3, hooks=lambda tuned: {}) -> None:
    """The same start, batches and optimizer: the same losses, step by step, and files of the same names, types and shapes.

    hooks(tuned) gives what the method does beside the gradients, as arguments of training.train.
    """
    start, out, data = started(case, folder, tmp / "start"), tmp / "out", texts(tmp / "data.jsonl")
    run = Run(steps=steps, lr=case.lr)
    if case.untrainable:
        with pytest.raises(peftkit.Failed, match=case.untrainable):
            peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--init-adapter", start, *run.arguments())
        return
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--init-adapter", start, "--max-seq-len", 256, *run.arguments())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tuned = load(case, folder, start, trainable=True).eval()  # GPT-2 of transformers has dropout of its own
    theirs = train(tuned, examples(data, tokenizer), tokenizer, run, **hooks(tuned))
    ours = peftkit.metrics(out)
    compare.relative("loss", [s["loss"] for s in ours], [s["loss"] for s in theirs], rtol)
    compare.relative("grad_norm", [s["grad_norm"] for s in ours], [s["grad_norm"] for s in theirs], 20 * rtol)
    assert theirs[-1]["loss"] != theirs[0]["loss"], "the reference did not learn: the test would prove little"
    tuned.save_pretrained(tmp / "theirs")
    ours, theirs = load_file(out / "adapter_model.safetensors"), load_file(tmp / "theirs" / "adapter_model.safetensors")
    compare.same("tensors", {k: (v.dtype, v.shape) for k, v in sorted(ours.items())}, {k: (v.dtype, v.shape) for k, v in sorted(theirs.items()) if not (k.endswith(case.copies) or any(part in k for part in case.unsaved))})
    ids = ids_of(folder)
    compare.close("logits after training", models.logits(load(case, folder, out), ids), models.logits(tuned, ids), 2e-2)


def merges(case: Case, folder: Path, tmp: Path) -> None:
    """peftkit merge-lora writes what merge_and_unload gives, or refuses where the method cannot be merged."""
    filled(case, folder, tmp / "theirs")
    merge = ["merge-lora", "-m", folder, "--lora", tmp / "theirs", "-o", tmp / "ours"]
    if not case.mergeable:
        with pytest.raises(peftkit.Failed, match="merge"):
            peftkit.run(*merge)
        return
    peftkit.run(*merge)
    load(case, folder, tmp / "theirs").merge_and_unload().save_pretrained(tmp / "peft")
    ours, theirs = ({k: v for path in sorted(p.glob("*.safetensors")) for k, v in load_file(path).items()} for p in (tmp / "ours", tmp / "peft"))
    compare.tensors("merged", ours, theirs, atol=case.merged)
    models.load(tmp / "ours")  # transformers finds every key
