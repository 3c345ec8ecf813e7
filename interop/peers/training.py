"""The reference training loop: transformers + PEFT + torch.optim, step by step."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

IGNORE = -100


@dataclass(frozen=True)
class Run:
    """What a run is made of; arguments() gives the same to peftkit."""

    steps: int = 20
    batch: int = 2
    accumulate: int = 1
    lr: float = 1e-2
    schedule: str = "constant"  # or cosine, linear
    warmup: float = 0.0  # share of the steps
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 42

    def arguments(self) -> list[str]:
        """The same run as peftkit's flags. The reference runs in evaluation mode."""
        flags = {"--max-steps": self.steps, "--batch-size": self.batch, "--grad-accum": self.accumulate, "--lr": self.lr,
                 "--schedule": self.schedule, "--warmup": self.warmup, "--weight-decay": self.weight_decay, "--clip": self.clip,
                 "--seed": self.seed, "--val-split": 0, "--save-steps": 0}
        return [str(x) for pair in flags.items() for x in pair] + ["--no-shuffle", "--no-packing", "--no-base-dropout"]

    def scheduler(self, optimizer):
        """transformers' own schedule of that name; the warm-up is a share of all steps, rounded up."""
        warm = math.ceil(self.warmup * self.steps)
        if self.schedule == "cosine":
            return get_cosine_with_min_lr_schedule_with_warmup(optimizer, warm, self.steps, min_lr_rate=0.1)
        make = {"linear": get_linear_schedule_with_warmup, "constant": get_constant_schedule_with_warmup}[self.schedule]
        return make(optimizer, warm, self.steps) if self.schedule == "linear" else make(optimizer, warm)


def examples(path: Path, tokenizer) -> list[tuple[list[int], list[int]]]:
    """Tokens and labels of the lines of a JSONL file with text, or prompt and completion.

    Both are closed by the end token. A text is learned whole, a completion after
    the tokens that the prompt alone begins with.
    """
    out = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        ids = tokenizer(row.get("text", row.get("prompt", "") + row.get("completion", "")))["input_ids"] + [tokenizer.eos_token_id]
        start = 0
        if "prompt" in row:
            prompt = tokenizer(row["prompt"])["input_ids"]
            while start < len(prompt) and prompt[start] == ids[start]:
                start += 1
        out.append((ids, [IGNORE] * start + ids[start:]))
    return out


def _pad(rows, tokenizer):
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([i + [tokenizer.eos_token_id] * (width - len(i)) for i, _ in rows])
    labels = torch.tensor([l + [IGNORE] * (width - len(l)) for _, l in rows])
    mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i, _ in rows])
    return ids, labels, mask


def train(tuned, rows, tokenizer, run: Run, penalty=None, after=None, optimizer=None, objective=None) -> list[dict]:
    """Trains the adapter in place, in order, epoch after epoch.

    The loss of a step is the mean over all its labelled tokens, over all its
    micro-batches. Returns loss, learning rate and gradient norm of every step.
    penalty(ids) is added to the loss of a step; after(step), from 0, is called
    when the optimizer has stepped, the gradients still there. optimizer is AdamW
    over all that is trained unless given. objective(tuned, rows) is the mean loss of
    a batch of rows, for other tasks than the causal language model.
    """
    trained = [p for p in tuned.parameters() if p.requires_grad]
    optimizer = optimizer or torch.optim.AdamW(trained, lr=run.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=run.weight_decay)
    scheduler = run.scheduler(optimizer)
    chunks = [rows[i:i + run.batch] for i in range(0, len(rows), run.batch)]
    told = []
    at = 0
    for step in range(run.steps):
        micro = []
        while len(micro) < run.accumulate:
            micro.append(chunks[at % len(chunks)])
            at += 1
        total = 0.0
        if objective:
            for batch in micro:
                loss = objective(tuned, batch) / run.accumulate
                loss.backward()
                total += loss.item()
            micro = []
        micro = [_pad(batch, tokenizer) for batch in micro]
        count = sum(int((labels[:, 1:] != IGNORE).sum()) for _, labels, _ in micro)
        for ids, labels, mask in micro:
            scores = tuned(input_ids=ids, attention_mask=mask).logits.float()
            loss = torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), labels[:, 1:].flatten(),
                                                     ignore_index=IGNORE, reduction="sum") / count
            loss.backward()
            total += loss.item()
        if penalty:
            loss = penalty(micro[0][0] if micro else None)
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(trained, run.clip or math.inf)
        told.append({"loss": total, "lr": scheduler.get_last_lr()[0], "grad_norm": float(norm)})
        optimizer.step()
        scheduler.step()
        if after:
            after(step)
        optimizer.zero_grad(set_to_none=True)
    return told
