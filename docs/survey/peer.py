"""Trains a row of the CoLA table with the adapters library, with the same data, budget and rate, and prints its score.

    interop/.cache/adapters/bin/python docs/survey/peer.py WORK MINILM full|compacter RATE SEED

WORK is what prepare.py filled, MINILM the Hugging Face folder. One thread, so that two can go at a time.
"""

import json
import math
import sys
import time
from pathlib import Path

import adapters
import torch
from adapters import CompacterConfig
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_cosine_with_min_lr_schedule_with_warmup

BATCH, PASSES, WARMUP, LOWEST = 16, 5, 0.05, 0.1


def read(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [r["text"] for r in rows], torch.tensor([int(r["label"]) for r in rows])


def build(folder, method):
    """The model without dropout, as in the table."""
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, **dropout)
    if method == "compacter":
        adapters.init(model)
        model.add_adapter("a", CompacterConfig(reduction_factor=8, phm_rank=4, shared_phm_rule=False), set_active=True)
        model.train_adapter("a")
    return model.train()


def train(model, tokenizer, texts, labels, rate, decay):
    params = [p for p in model.parameters() if p.requires_grad]
    per_pass = math.ceil(len(texts) / BATCH)
    total = per_pass * PASSES
    opt = torch.optim.AdamW(params, lr=rate, weight_decay=decay)
    schedule = get_cosine_with_min_lr_schedule_with_warmup(opt, math.ceil(WARMUP * total), total, min_lr_rate=LOWEST)
    recent = []
    for step in range(total):
        if step % per_pass == 0:
            order = torch.randperm(len(texts))
        batch = order[step % per_pass * BATCH:][:BATCH]
        loss = model(**tokenizer([texts[i] for i in batch], padding=True, return_tensors="pt"), labels=labels[batch]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        schedule.step()
        opt.zero_grad()
        recent.append(loss.item())
        if (step + 1) % (total // 12) == 0:
            print(f"step {step + 1}/{total}  loss {sum(recent) / len(recent):.3f}", file=sys.stderr)
            recent = []
    return sum(p.numel() for p in params)


@torch.no_grad()
def matthews(model, tokenizer, texts, labels):
    model.eval()
    said = torch.cat([
        model(**tokenizer(texts[i:i + 64], padding=True, return_tensors="pt")).logits.argmax(-1) for i in range(0, len(texts), 64)
    ])
    return torch.corrcoef(torch.stack([said, labels]).double())[0, 1].nan_to_num(0).item()


def main():
    work, folder, method, rate, seed = Path(sys.argv[1]), *sys.argv[2:4], float(sys.argv[4]), int(sys.argv[5])
    if method not in ("full", "compacter"):
        sys.exit(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = build(folder, method)
    start = time.time()
    trained = train(model, tokenizer, *read(work / "cola/train.jsonl"), rate, 0.01 if method == "full" else 0.0)
    seconds = time.time() - start
    score = matthews(model, tokenizer, *read(work / "cola/valid.jsonl"))
    print(f"{method} at {rate:g}, seed {seed}: {100 * score:.1f}, {trained} trained parameters, {seconds:.0f} s")


if __name__ == "__main__":
    main()
