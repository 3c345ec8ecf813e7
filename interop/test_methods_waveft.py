"""WaveFT against Hugging Face PEFT: files, logits, losses, merges."""

import pytest
import torch
from peft import WaveFTConfig
from peft.tuners.waveft.wavelet import _WAVELET_COEFFS, Wavelet

from peers import methods, models, peftkit
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)


def case_of(more: dict, model: str = "llama", **kw) -> Case:
    return Case(WaveFTConfig, {"n_frequency": 60, "scaling": 20.0, **more}, model, fill=1.0, **kw)


CASES = {
    "waveft": case_of({}),
    "waveft-random": case_of({"init_weights": False, "random_loc_seed": 3}),
    "waveft-many": case_of({"n_frequency": 2000, "scaling": 25.0, "wavelet_family": "sym4"}, lr=1e-3),
    "waveft-no-transform": case_of({"use_idwt": False, "wavelet_family": "db20"}),
    "waveft-pattern": case_of({"n_frequency_pattern": {"layers.0.*q_proj": 17, "v_proj": 80}, "wavelet_family": "db2"}),
    "waveft-proportional": case_of({"proportional_parameters": True}),
    "waveft-db3": case_of({"wavelet_family": "db3"}),
    "waveft-db10": case_of({"wavelet_family": "db10"}),
    "waveft-sym5": case_of({"wavelet_family": "sym5"}),
    "waveft-coif2": case_of({"wavelet_family": "coif2"}),
    "waveft-gpt2": case_of({}, "gpt2"),
    "waveft-gpt2-sym7": case_of({"wavelet_family": "sym7", "proportional_parameters": True}, "gpt2"),
    "waveft-gpt2-no-transform": case_of({"use_idwt": False}, "gpt2"),
    "waveft-biases": case_of({"bias": "waveft_only"}, "gpt2"),
}


@pytest.mark.parametrize("wavelet", [name for name in _WAVELET_COEFFS if name not in ("coif4", "coif5")])
def test_filter(wavelet, bases, tmp_path):  # noqa: F811
    """Every wavelet that PEFT has a filter of: merged weights of all its coefficients at once, in float32."""
    case = case_of({"wavelet_family": wavelet, "n_frequency": 500})
    methods.merges(case, bases("llama"), tmp_path)


@pytest.mark.parametrize("wavelet", ["db1", "sym4"])
def test_odd_sizes(wavelet, tmp_path):
    """Weights with a side of an odd size are padded to an even one and cut again."""
    case = case_of({"wavelet_family": wavelet, "target_modules": ["up_proj", "down_proj"]})
    models.save(models.Small("odd", {"intermediate_size": 87}), tmp_path / "base")
    for check in (methods.reads, methods.writes, methods.trains, methods.merges):
        (tmp_path / check.__name__).mkdir()
        check(case, tmp_path / "base", tmp_path / check.__name__)


@pytest.mark.parametrize("wavelet", ["coif4", "coif5"])
def test_not_a_wavelet(wavelet, bases, tmp_path):  # noqa: F811
    """Two filters of PEFT are not orthogonal to themselves shifted by two, one also has not the length that its padding is for; peftkit refuses them."""
    low = torch.tensor(Wavelet(wavelet).rec_lo, dtype=torch.float64)
    assert max(abs(low[:-2 * k] @ low[2 * k:]) for k in range(1, len(low) // 2)) > 5e-3
    case = case_of({"wavelet_family": wavelet})
    methods.started(case, bases("llama"), tmp_path / "theirs")
    with pytest.raises(peftkit.Failed, match=f"wavelet_family is {wavelet}"):
        peftkit.logits(bases("llama"), [5, 7], tmp_path / "theirs")


def test_no_filter(bases, tmp_path):  # noqa: F811
    """PEFT takes names that it has no filter of, and fails when it computes."""
    case = case_of({"wavelet_family": "db11"})
    methods.started(case, bases("llama"), tmp_path / "theirs")
    with pytest.raises(ValueError, match="Unknown wavelet name"):
        methods.load(case, bases("llama"), tmp_path / "theirs")(torch.tensor([[5, 7]]))
    with pytest.raises(peftkit.Failed, match="wavelet_family is db11"):
        peftkit.logits(bases("llama"), [5, 7], tmp_path / "theirs")
