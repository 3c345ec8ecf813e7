"""Writes golden.json: outputs and gradients of torch.nn.LSTM, and of the attention
of transformers' T5 with a prefix as past_key_values and of Gemma 2 with soft caps.

Run with torch 2.15 and transformers 5.23:  python golden.py > golden.json

Numbers that go in are sin((i+1)*step) in float64, rounded to float32, so that the
test makes the same.
"""
import json
import numpy as np
import torch
from transformers import DynamicCache, T5Config
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward
from transformers.models.t5.modeling_t5 import T5Attention


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


def t5(decoder, past):
    """Attention of 3 heads of 4 with projections of one, so that q = k = v = x."""
    c = T5Config(d_model=12, d_kv=4, num_heads=3, relative_attention_num_buckets=8, relative_attention_max_distance=20,
                 is_decoder=decoder, dropout_rate=0.0)
    c._attn_implementation = "eager"
    a = T5Attention(c, has_relative_attention_bias=True, layer_idx=0)
    with torch.no_grad():
        for lin in (a.q, a.k, a.v, a.o):
            lin.weight.copy_(torch.eye(12))
        a.relative_attention_bias.weight.copy_(wave((8, 3), 0.77))
    x = wave((1, 6, 12), 0.37)
    cache = None
    if past:
        cache = DynamicCache()
        heads = lambda z: z.view(1, past, 3, 4).transpose(1, 2)
        cache.update(heads(wave((past, 12), 0.53)), heads(wave((past, 12), 0.91)), 0)
    mask = torch.zeros(1, 1, 6, past + 6)
    if decoder:
        mask[..., past:] = torch.full((6, 6), float("-inf")).triu(1)
    y = a(x, mask=mask, past_key_values=cache)[0]
    (y * wave(tuple(y.shape), 0.41)).sum().backward()
    return {"decoder": decoder, "past": past, "out": flat(y), "grad": flat(a.relative_attention_bias.weight.grad)}


def gemma2():
    """Two heads of 4 over one key-value head, causal, scores capped at 1.5."""
    q, k, v = wave((1, 6, 2, 4), 0.37), wave((1, 6, 1, 4), 0.73), wave((1, 6, 1, 4), 1.31)

    class module:
        num_key_value_groups = 2
        head_dim = 4
        training = False

    q.requires_grad_()
    k.requires_grad_()
    mask = torch.full((6, 6), float("-inf")).triu(1)[None, None]
    y, _ = eager_attention_forward(module, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, scaling=2.0, softcap=1.5)
    (y * wave(tuple(y.shape), 0.41)).sum().backward()
    return {"out": flat(y), "q_grad": flat(q.grad), "k_grad": flat(k.grad)}


print(json.dumps({"lstm": {
    "names": [n for n, _ in lstm.named_parameters()],
    "shapes": [list(p.shape) for p in lstm.parameters()],
    "out": flat(y),
    "x_grad": flat(x.grad),
    "grads": [flat(p.grad) for p in lstm.parameters()],
}, "t5": [t5(False, 0), t5(True, 0), t5(True, 3)], "gemma2": gemma2()}))
