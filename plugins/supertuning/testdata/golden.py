"""Writes golden.json: hashes (FNV-1a, 64 bits) of what torch.topk chooses on a CPU among numbers many of which are equal.

Run with torch 2.15 for Linux:  python golden.py > golden.json
"""
import json

import torch

ORDERS = {
    "mixed": lambda n, levels: [((i * 2654435761 + 12345) % 2**32 >> 8) % levels for i in range(n)],
    "rising": lambda n, levels: [i * levels // n for i in range(n)],
    "falling": lambda n, levels: [(n - 1 - i) * levels // n for i in range(n)],
    "hill": lambda n, levels: [min(i, n - 1 - i) * levels // n for i in range(n)],
    "deep": lambda n, levels: [i + 1 if i < n // 2 and i % 2 == 0 else n // 2 + i if i < n // 2 else 2 * (i - n // 2) + 2 for i in range(n)],  # cut off one by one
}


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return "%016x" % h


out = []
for order, make in ORDERS.items():
    for n in (1, 2, 3, 4, 5, 16, 17, 18, 40, 100, 1024, 5000, 65536):
        for levels in (2, 7, 300, 10**6):
            v = make(n, levels)
            scores = torch.tensor([x * (-1) ** i / 4 for i, x in enumerate(v)]).abs()
            data = b""
            for k in sorted({1, max(1, n // 100), max(1, n // 64), max(1, n // 63), max(1, n // 3), max(1, n - 1), n}):
                for largest in (True, False):
                    data += torch.topk(scores, k, largest=largest).indices.to(torch.int32).numpy().tobytes()
            out.append([order, n, levels, fnv(data)])
print("[" + ",\n".join(json.dumps(x) for x in out) + "]")
