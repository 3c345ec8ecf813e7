"""Writes golden.json: python golden.py > golden.json (numpy 2.4)."""

import json

import numpy as np

out = []
for seed in (0, 42, 2**32 + 5, 123456789012345):
    words = [str(w) for w in np.random.default_rng(seed).bit_generator.random_raw(5)]
    rng = np.random.default_rng(seed)
    steps = []
    for n, size in ((7, 3), (256, 200), (20000, 19), (20000, 3000), (10001, 10001), (1, 1)):
        chosen = rng.choice(n, size=size, replace=False)
        data = np.concatenate([np.arange(n), chosen])
        rng.shuffle(data)
        steps.append({"n": n, "size": size, "chosen": chosen[:9].tolist(), "sum": int((chosen * np.arange(1, size + 1)).sum()),
                      "shuffled": data[:9].tolist(), "shuffledsum": int((data * np.arange(1, len(data) + 1)).sum())})
    out.append({"seed": seed, "words": words, "steps": steps})
print(json.dumps(out))
