"""Comparisons. Each raises Mismatch, which says how much differs and where first.

Every test of the suite judges through one of these; test_can_fail.py shows for
each that a changed weight or a renamed key makes it raise.
"""

import numpy as np
import torch

from . import bounds


class Mismatch(AssertionError):
    """Two engines do not give the same."""


def close(name: str, ours, theirs, atol: float) -> float:
    """Largest absolute difference of two arrays, which must be finite, equal in shape and at most atol apart."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise Mismatch(f"{name}: shape {ours.shape}, expected {theirs.shape}")
    if not np.isfinite(ours).all() or not np.isfinite(theirs).all():
        raise Mismatch(f"{name}: not finite")
    gap = np.abs(ours - theirs)
    worst = float(gap.max(initial=0.0))
    if worst > atol:
        at = np.unravel_index(gap.argmax(), gap.shape)
        raise Mismatch(f"{name}: {worst:.3g} apart at {tuple(map(int, at))} ({ours[at]:.6g}, expected {theirs[at]:.6g}); "
                       f"{int((gap > atol).sum())} of {gap.size} beyond {atol:g}")
    return worst


def relative(name: str, ours, theirs, rtol: float) -> float:
    """Largest relative difference, step by step, of two series of positive numbers."""
    if len(ours) != len(theirs):
        raise Mismatch(f"{name}: {len(ours)} values, expected {len(theirs)}")
    worst = 0.0
    for i, (a, b) in enumerate(zip(ours, theirs), 1):
        gap = abs(a - b) / abs(b)
        if not gap <= rtol:
            raise Mismatch(f"{name}: step {i}: {a:.7g}, expected {b:.7g}, {gap:.2g} relative, allowed {rtol:g}")
        worst = max(worst, gap)
    return worst


def same(name: str, ours, theirs) -> None:
    """Equality of token ids, texts or bytes, with the first difference."""
    if ours == theirs:
        return
    n = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    raise Mismatch(f"{name}: length {len(ours)}, expected {len(theirs)}; from {n}: {ours[n:n + 12]!r}, expected {theirs[n:n + 12]!r}")


def keys(name: str, ours, theirs) -> None:
    """Equality of two sets of tensor names."""
    missing, extra = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    if missing or extra:
        raise Mismatch(f"{name}: {len(missing)} missing {missing[:4]}, {len(extra)} unexpected {extra[:4]}")


def ordinals(t: torch.Tensor) -> torch.Tensor:
    """The place of each number on the line of its type's numbers (16- or 32-bit floats): neighbours differ by one."""
    wide = {2: torch.int16, 4: torch.int32}[t.element_size()]
    bits = t.contiguous().view(wide).to(torch.int64)
    low = -(1 << (8 * t.element_size() - 1))
    return torch.where(bits < 0, low - bits, bits)


def tensors(name: str, ours: dict, theirs: dict, atol: float | None = None, ulps: int | None = None) -> float:
    """Equality of two state dicts: names, types, shapes, and numbers within atol or within ulps units in the last place."""
    keys(name, ours, theirs)
    worst = 0.0
    for key in sorted(theirs):
        a, b = ours[key], theirs[key]
        if a.dtype != b.dtype or a.shape != b.shape:
            raise Mismatch(f"{name}: {key}: {a.dtype} {tuple(a.shape)}, expected {b.dtype} {tuple(b.shape)}")
        if ulps is None:
            worst = max(worst, close(f"{name}: {key}", a.float().numpy(), b.float().numpy(), atol))
            continue
        gap = (ordinals(a) - ordinals(b)).abs()
        if int(gap.max()) > ulps:
            raise Mismatch(f"{name}: {key}: {int(gap.max())} units in the last place apart; {int((gap > ulps).sum())} of {gap.numel()} beyond {ulps}")
        worst = max(worst, float(gap.max()))
    return worst


def top1(name: str, ours: list[int], theirs: list[int], least: float) -> float:
    """Share of positions with the same most likely token, at least least."""
    if len(ours) != len(theirs) or not ours:
        raise Mismatch(f"{name}: {len(ours)} tokens, expected {len(theirs)}")
    share = sum(a == b for a, b in zip(ours, theirs)) / len(ours)
    if share < least:
        raise Mismatch(f"{name}: the most likely token agrees at {share:.1%} of {len(ours)} positions, expected {least:.0%}")
    return share


def sample(name: str, ours, theirs) -> float:
    """Kolmogorov and Smirnov's distance of two samples, and the ratio of their deviations: both within what chance exceeds once in ten
    million. Constants must be equal."""
    ours, theirs = np.sort(np.asarray(ours, np.float64)), np.sort(np.asarray(theirs, np.float64))
    if not np.isfinite(ours).all() or not np.isfinite(theirs).all():
        raise Mismatch(f"{name}: not finite")
    if not len(ours) or not len(theirs):
        return 0.0  # sizes are compared elsewhere
    told = "{} numbers of mean {:.4g}, deviation {:.4g}, from {:.4g} to {:.4g}"
    told = [told.format(len(v), v.mean(), v.std(), v[0], v[-1]) for v in (ours, theirs)]
    flat = bounds.spread(440) * max(1, abs(theirs[0]))  # norms, of up to some hundred squares
    if np.ptp(ours) <= flat or np.ptp(theirs) <= flat:
        if np.ptp(theirs) > flat or np.abs(ours - theirs[0]).max() > flat:
            raise Mismatch(f"{name}: {told[0]}, expected {told[1]}")
        return 0.0
    both, less = np.concatenate([ours, theirs]), 1 / len(ours) + 1 / len(theirs)
    distance = float(np.abs(np.searchsorted(ours, both, "right") / len(ours) - np.searchsorted(theirs, both, "right") / len(theirs)).max())
    if distance > 2.9 * less**0.5:
        raise Mismatch(f"{name}: {told[0]}, expected {told[1]}: distributions {distance:.3g} apart, allowed {2.9 * less ** 0.5:.3g}")
    kurtosis = np.mean((theirs - theirs.mean()) ** 4) / theirs.var() ** 2
    allowed = 5.3 * (max(kurtosis - 1, 0.1) / 4 * less) ** 0.5
    if abs(np.log(ours.std() / theirs.std())) > allowed:
        raise Mismatch(f"{name}: {told[0]}, expected {told[1]}: deviations differ by more than {allowed:.1%}")
    return distance
