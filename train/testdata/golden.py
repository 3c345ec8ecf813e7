"""Writes golden.json: schedules of transformers and AdamW with clipping of torch.

Run with torch 2.15 and transformers 5.23:  python golden.py > golden.json
"""
import json
import torch
from transformers.optimization import (
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)


def schedule(make, total):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    sched = make(opt)
    out = []
    for _ in range(total):
        out.append(sched.get_last_lr()[0])
        opt.step()
        sched.step()
    return out


schedules = []
for warmup, total in [(0, 7), (3, 20), (1, 1), (5, 5), (2, 13)]:
    schedules += [
        {"name": "cosine", "warmup": warmup, "total": total, "min": 0.1, "lr": schedule(
            lambda o: get_cosine_with_min_lr_schedule_with_warmup(o, warmup, total, min_lr_rate=0.1), total)},
        {"name": "cosine", "warmup": warmup, "total": total, "min": 0, "lr": schedule(
            lambda o: get_cosine_with_min_lr_schedule_with_warmup(o, warmup, total, min_lr_rate=0.0), total)},
        {"name": "linear", "warmup": warmup, "total": total, "min": 0, "lr": schedule(
            lambda o: get_linear_schedule_with_warmup(o, warmup, total), total)},
        {"name": "constant", "warmup": warmup, "total": total, "min": 0, "lr": schedule(
            lambda o: get_constant_schedule_with_warmup(o, warmup), total)},
    ]

torch.manual_seed(0)
params = [torch.nn.Parameter(torch.randn(3, 5)), torch.nn.Parameter(torch.randn(7))]
start = [p.detach().flatten().tolist() for p in params]
opt = torch.optim.AdamW(params, lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.05)
steps = []
for i in range(6):
    for p in params:
        p.grad = torch.randn_like(p) * (0.05 if i == 2 else 3.0)
    grads = [p.grad.flatten().tolist() for p in params]
    lr = 1e-2 / (i + 1)
    opt.param_groups[0]["lr"] = lr
    norm = torch.nn.utils.clip_grad_norm_(params, 1.0).item()
    opt.step()
    steps.append({"lr": lr, "grads": grads, "norm": norm, "params": [p.detach().flatten().tolist() for p in params]})

print(json.dumps({"schedules": schedules, "adamw": {"start": start, "steps": steps}}))
