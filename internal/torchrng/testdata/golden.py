"""Writes golden.json: random numbers of torch on a CPU with AVX2 or more.

Run with torch 2.15:  python golden.py > golden.json

Long sequences are kept as a hash (FNV-1a, 64 bits, over little-endian bytes).
"""
import json
import math
import numpy as np
import torch


def fnv(x):
    h = 0xCBF29CE484222325
    for b in x.numpy().tobytes():
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return "%016x" % h


def seq(x):
    bits = {torch.float32: torch.int32, torch.float64: torch.int64}.get(x.dtype)
    first = x[:20].view(bits) if bits else x[:20]
    return {"n": x.numel(), "first": first.tolist(), "hash": fnv(x)}


def gen(seed):
    return torch.Generator().manual_seed(seed)


out = {"uniform": [], "uniform64": [], "randperm": [], "normal": [], "kaiming": []}
for seed, n, a, b in [(0, 700, 0, 1), (42, 1300, -0.1, 0.1), (2**32 + 5, 20, 0.1, 3.3), (123456789, 30000, -1 / 3, 1 / 3)]:
    out["uniform"].append({"seed": seed, "from": a, "to": b, **seq(torch.empty(n).uniform_(a, b, generator=gen(seed)))})
    out["uniform64"].append({"seed": seed, "from": a, "to": b, **seq(torch.empty(n, dtype=torch.float64).uniform_(a, b, generator=gen(seed)))})
for seed, n in [(0, 0), (1, 1), (42, 5), (777, 1000), (7, 40000)]:
    out["randperm"].append({"seed": seed, **seq(torch.randperm(n, generator=gen(seed)))})
for seed, mean, std, sizes in [(0, 0, 1, [1, 2, 3]), (42, 0, 1, [15, 16, 5]), (3, 0.5, 0.02, [7, 37, 7, 1000]), (9, 0, 0.02, [30000])]:
    g = gen(seed)
    x = [torch.empty(n).normal_(mean, std, generator=g) for n in sizes]
    out["normal"].append({"seed": seed, "mean": mean, "std": std, "sizes": sizes, **seq(torch.cat(x))})
for seed, rows, cols, a in [(0, 8, 576, math.sqrt(5)), (11, 256, 100, 0)]:
    torch.manual_seed(seed)
    x = torch.empty(rows, cols)
    torch.nn.init.kaiming_uniform_(x, a=a)
    out["kaiming"].append({"seed": seed, "fan": cols, "a": a, **seq(x.flatten())})
print(json.dumps(out))
