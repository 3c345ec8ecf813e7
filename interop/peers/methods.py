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
from peft.tuners.frod.layer import FrodLayer
from safetensors.torch import load_file
from transformers import AutoTokenizer

from . import adapters, bounds, compare, decoders, models, peftkit
from .training import IGNORE, Run, examples, train

TEXT = "The quick brown fox jumps over the lazy dog, and 14 cats watch."
WORDS = "fox dog cat river stone night morning red blue old small quick slow runs sleeps sees finds keeps lost over under".split()

#: The modules that a case without target_modules changes; not all are square.
TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "mlp.c_proj"], "bert": ["query", "value", "output.dense"],
           "roberta-tokens": ["query", "value", "output.dense"], "t5": ["q", "v", "wo"], "bart": ["q_proj", "v_proj", "fc2"]}
#: PEFT's tasks of the models that are not causal language models.
TASKS = {"bert": "SEQ_CLS", "roberta-tokens": "TOKEN_CLS", "t5": "SEQ_2_SEQ_LM", "bart": "SEQ_2_SEQ_LM"}


@dataclass(frozen=True)
class Case:
    """A configuration of a method."""

    config: type  # PEFT's configuration class
    options: dict = field(default_factory=dict)  # its arguments
    model: str = "llama"  # or gpt2, whose linear layers are Conv1D, or one of TASKS
    method: str = ""  # peftkit's word for it; "" is PEFT's type in lower case
    lr: float = 1e-2
    noise: float = 0.0  # moves the start of training away from PEFT's own, where most gradients would be zero
    fill: float = 0.3  # size of the random numbers of a filled adapter
    mergeable: bool = True
    merged: float = bounds.CHAINED  # how far merged weights may be apart
    train_only: dict = field(default_factory=dict)  # further options, for training alone
    copies: tuple = ()  # ends of names of the base's own weights, which PEFT saves beside the adapter and peftkit does not
    implied: tuple = ()  # options that peftkit finds out by itself
    steps: int = 4  # of the run that makes a file for PEFT
    untrainable: str = ""  # a saved adapter cannot be trained on: what peftkit says then
    unsaved: tuple = ()  # parts of names of PEFT's state that PEFT does not save
    batch: int = 2  # sequences of a step; 1 where PEFT computes with padding what peftkit computes without
    task_type: str = ""  # PEFT's task of a model that is not in TASKS

    def build(self, **more):
        """PEFT's configuration."""
        options = {"task_type": self.task, **self.options, **more}
        if "target_modules" not in options and self.model in TARGETS:
            options["target_modules"] = TARGETS[self.model]
        return self.config(**options)

    @property
    def task(self) -> str:
        return self.task_type or TASKS.get(self.model, "CAUSAL_LM")

    @property
    def name(self) -> str:
        return self.method or str(self.build().peft_type.value).lower().replace("_", "")

    def saved(self, folder: Path) -> dict:
        """The tensors of PEFT's file, without those that peftkit does not save."""
        file = load_file(folder / "adapter_model.safetensors")
        return {k: v for k, v in file.items() if not (k.endswith(self.copies) or any(part in k for part in self.unsaved))}

    def flags(self) -> list[str]:
        """The same configuration as peftkit's flags."""
        options = {k: v for k, v in self.options.items() if k not in self.implied}
        if "target_modules" not in options and self.model in TARGETS:
            options["target_modules"] = TARGETS[self.model]
        if "*" in (targets := options.get("target_modules", [])):
            options["target_modules"] = f"regex:{targets}"
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
    return paired(adapters.load(models.load(folder), adapter, trainable, ignore=case.unsaved))


def paired(tuned: PeftModel) -> PeftModel:
    """Gives FRoD's layers the U that belongs to the file's V: PEFT 0.21.2 reads V and keeps the U of the V that it found itself."""
    for module in tuned.modules():
        if isinstance(module, FrodLayer):
            weight = module.get_base_layer().weight
            module.frod_U["default"] = module._calculate_frod_u_and_lambda(module.frod_V["default"], weight.T if module.fan_in_fan_out else weight)[0]
    return tuned


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


def records(path: Path, task: str) -> Path:
    """Turns the texts of a file into records of a task, with three labels or tags, or targets."""
    lines = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    if task == "SEQ_CLS":
        lines = [{"text": t, "label": str(i % 3)} for i, t in enumerate(lines)]
    elif task == "TOKEN_CLS":
        lines = [{"tokens": t.split(), "tags": [str((i + j) % 3) for j in range(len(t.split()))]} for i, t in enumerate(lines)]
    elif task == "SEQ_2_SEQ_LM":
        lines = [{"source": t, "target": " ".join(t.split()[::-1])} for t in lines]
    else:
        lines = [{"text": t} for t in lines]
    path.write_text("".join(json.dumps(r) + "\n" for r in lines))
    return path


def pad(rows: list[list[int]], value: int = 0) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([r + [value] * (width - len(r)) for r in rows])


def objective(case: Case, tokenizer):
    """The mean loss of a model over padded records of the case's task, as a function of both; None for causal language models."""
    if case.task == "CAUSAL_LM":
        return None

    def tagged(row):
        ids, labels = [], []
        for word, tag in zip(row["tokens"], row["tags"]):
            pieces = tokenizer(" " + word)["input_ids"]
            ids += pieces
            labels += [int(tag)] + [IGNORE] * (len(pieces) - 1)
        return ids, labels

    def loss(tuned, rows):
        more = {}
        if case.task == "TOKEN_CLS":
            own, labels = map(list, zip(*map(tagged, rows)))
            labels = pad(labels, IGNORE)
        elif case.task == "SEQ_2_SEQ_LM":
            own, labels = ([tokenizer(row[key])["input_ids"] for row in rows] for key in ("source", "target"))
            more = {"decoder_input_ids": pad([[tuned.config.decoder_start_token_id] + r[:-1] for r in labels])}
            labels = pad(labels, IGNORE)
        else:
            own, labels = [tokenizer(row["text"])["input_ids"] for row in rows], torch.tensor([int(row["label"]) for row in rows])
        mask = pad([[1] * len(r) for r in own])
        scores = tuned(input_ids=pad(own), attention_mask=mask, **more).logits.float()
        return torch.nn.functional.cross_entropy(scores.flatten(0, -2), labels.flatten(), ignore_index=IGNORE)

    return loss


def reference(case: Case, tuned, data: Path, tokenizer, run: Run, **more) -> list[dict]:
    """Trains the model of transformers on a file of records of the case's task; more goes to training.train."""
    other = objective(case, tokenizer)
    rows = [json.loads(line) for line in data.read_text().splitlines()] if other else examples(data, tokenizer)
    return train(tuned, rows, tokenizer, run, objective=other, **more)


def changed(tuned, plain, ids: list[int], least: float) -> None:
    """Fails unless an adapter moves what a model computes by more than least, a new head left aside."""
    with torch.no_grad():
        if plain.config.is_encoder_decoder or "CausalLM" in type(plain).__name__ or "LMHead" in type(plain).__name__:
            a, b = (torch.from_numpy(models.logits(m, ids)) for m in (tuned, plain))
        else:
            a, b = (m(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1] for m in (tuned, plain))
    assert (a - b).abs().max() > least, "the adapter changes nothing: the test would prove nothing"


def ours(case: Case, folder: Path, ids: list[int], adapter: Path):
    """peftkit's logits."""
    return peftkit.logits(folder, ids, adapter, models.decoded(ids) if case.task == "SEQ_2_SEQ_LM" else None)


def reads(case: Case, folder: Path, tmp: Path, atol: float = bounds.LOGITS) -> None:
    """peftkit loads what PEFT wrote: the same logits."""
    filled(case, folder, tmp / "theirs")
    ids = ids_of(folder)
    tuned = load(case, folder, tmp / "theirs")
    changed(tuned, models.load(folder), ids, 1e-2)
    compare.close("logits", ours(case, folder, ids, tmp / "theirs"), models.logits(tuned, ids), atol)


def writes(case: Case, folder: Path, tmp: Path, atol: float = bounds.LOGITS) -> None:
    """PEFT loads what peftkit trained from nothing, by the method's own options: no key missing or left over, the same logits."""
    out = tmp / "ours"
    peftkit.run("train", "-m", folder, "-d", records(texts(tmp / "data.jsonl"), case.task), "-o", out, "--max-steps", case.steps, "--save-steps", 0, "--val-split", 0,
                "--lr", case.lr, *case.flags())
    ids = ids_of(folder)
    tuned = load(case, folder, out)
    changed(tuned, models.load(folder), ids, 1e-4)
    compare.close("logits", ours(case, folder, ids, out), models.logits(tuned, ids), atol)


def trains(case: Case, folder: Path, tmp: Path, steps: int = 10, rtol: float = bounds.LOSS, hooks=lambda tuned: {}) -> None:
    """The same start, batches and optimizer: the same losses, step by step, and files of the same names, types and shapes.

    hooks(tuned) gives what the method does beside the gradients, as arguments of training.train.
    """
    start, out, data = started(case, folder, tmp / "start"), tmp / "out", records(texts(tmp / "data.jsonl"), case.task)
    run = Run(steps=steps, lr=case.lr, batch=case.batch)
    if case.untrainable:
        with pytest.raises(peftkit.Failed, match=case.untrainable):
            peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--init-adapter", start, *run.arguments())
        return
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--init-adapter", start, "--max-seq-len", 256, *run.arguments())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tuned = load(case, folder, start, trainable=True).eval()  # GPT-2 of transformers has dropout of its own
    theirs = reference(case, tuned, data, tokenizer, run, **hooks(tuned))
    mine = peftkit.metrics(out)
    compare.relative("loss", [s["loss"] for s in mine], [s["loss"] for s in theirs], rtol)
    compare.relative("grad_norm", [s["grad_norm"] for s in mine], [s["grad_norm"] for s in theirs], 20 * rtol)  # bounds.GRADIENT_FAR for bounds.LOSS
    assert theirs[-1]["loss"] != theirs[0]["loss"], "the reference did not learn: the test would prove little"
    tuned.save_pretrained(tmp / "theirs")
    mine, kept = load_file(out / "adapter_model.safetensors"), case.saved(tmp / "theirs")
    compare.same("tensors", *([(k, v.dtype, tuple(v.shape)) for k, v in sorted(file.items())] for file in (mine, kept)))
    ids = ids_of(folder)
    compare.close("logits after training", models.logits(load(case, folder, out), ids), models.logits(tuned, ids), bounds.TRAINED)


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
    mine, theirs = ({k: v for path in sorted(p.glob("*.safetensors")) for k, v in load_file(path).items()} for p in (tmp / "ours", tmp / "peft"))
    # PEFT takes LayerNorm's changes out again, and forgets the wrapper of the head.
    theirs = {k.replace(".modules_to_save.default", ""): v for k, v in theirs.items() if ".original_module." not in k}
    compare.tensors("merged", mine, theirs, atol=case.merged)
    models.load(tmp / "ours")  # transformers finds every key
