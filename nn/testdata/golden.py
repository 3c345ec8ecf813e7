"""Writes golden.json: outputs and gradients of torch.nn.LSTM.

Run with torch 2.15:  python golden.py > golden.json

Numbers that go in are sin((i+1)*step) in float64, rounded to float32, so that the
test makes the same.
"""
import json
import numpy as np
import torch


def wave(shape, step):
    n = int(np.prod(shape))
    return torch.from_numpy(np.sin(np.arange(1, n + 1) * step).astype(np.float32)).reshape(shape)


def flat(x):
    return [float("%.8g" % v) for v in x.detach().flatten().tolist()]


lstm = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
with torch.no_grad():
    for i, p in enumerate(lstm.parameters()):
        p.copy_(wave(tuple(p.shape), 0.3 + 0.17 * i))
x = wave((5, 3), 0.7).requires_grad_()
y, _ = lstm(x)
(y * wave(tuple(y.shape), 0.41)).sum().backward()
print(json.dumps({"lstm": {
    "names": [n for n, _ in lstm.named_parameters()],
    "shapes": [list(p.shape) for p in lstm.parameters()],
    "out": flat(y),
    "x_grad": flat(x.grad),
    "grads": [flat(p.grad) for p in lstm.parameters()],
}}))
