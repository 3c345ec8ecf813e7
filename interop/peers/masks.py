"""peftkit's dropout masks (nn/dropmask.go) in place of PyTorch's random ones.

A mask is a hash of the run's seed, the step, the number of dropout operations before it and the element's index. With
the same masks two networks agree only if they drop in the same places, in the same order, with the same probabilities.
"""

import contextlib

import numpy as np
import torch

_LOW = (1 << 64) - 1


def mix(z):
    """The finalizer of SplitMix64, of a number or an array of uint64."""
    if isinstance(z, int):
        z = (z + 0x9E3779B97F4A7C15) & _LOW
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _LOW
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _LOW
        return z ^ z >> 31
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)


class Masks:
    """The masks of the steps of a run, one micro-batch each."""

    def __init__(self, seed: int):
        self.run, self.draws, self.calls = mix(seed), 0, 0
        self.begin(0)

    def begin(self, step: int):
        self.seed, self.draws = mix(mix(self.run ^ step)), 0

    def draw(self) -> int:
        self.draws, self.calls = self.draws + 1, self.calls + 1
        return mix(self.seed ^ mix(self.draws))

    def dropout(self, x, p=0.5, training=True, inplace=False):
        """torch.nn.functional.dropout for one sequence: rows of features, or the probabilities of attention, [1, heads, queries, keys]."""
        if not training or p == 0:
            return x
        key, shape = self.draw(), x.shape
        if x.dim() == 4:
            _, heads, queries, keys = shape
            rows = np.arange(queries, dtype=np.uint64)[None] * np.uint64(heads) + np.arange(heads, dtype=np.uint64)[:, None]
            key = mix(np.uint64(key) ^ mix(rows))[:, :, None]
            index = np.broadcast_to(np.arange(keys, dtype=np.uint64), (heads, queries, keys))
        else:
            key, index = np.uint64(key), np.arange(x.numel(), dtype=np.uint64)
        with np.errstate(over="ignore"):
            lanes = mix(key + (index >> np.uint64(2))) >> np.uint64(16) * (index & np.uint64(3)) & np.uint64(0xFFFF)
        kept = torch.from_numpy((lanes >= np.uint64(round(p * 65536))).reshape(shape))
        return x * kept / (1 - p)

    def rand(self, *size, **more):
        """torch.rand([]): the draw of a layer's drop."""
        return torch.tensor((self.draw() >> 11) / (1 << 53), dtype=torch.float64)

    @contextlib.contextmanager
    def placed(self, monkeypatch):
        """Within it PyTorch drops by these masks."""
        with monkeypatch.context() as m:
            m.setattr(torch.nn.functional, "dropout", self.dropout)
            m.setattr(torch, "rand", self.rand)
            yield
