"""PVeRA, which draws while it trains, against Hugging Face PEFT: files, logits, losses, merges.

With generator_seed both sides draw PyTorch's numbers; one text a batch, since PEFT draws for padding too.
"""

from peft import PveraConfig

from peers import bounds, compare, methods, models, peftkit
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

#: Every layer of PEFT's state repeats the shared matrices; files hold them once.
SHARED = tuple(f"{layer}.pvera_{matrix}" for layer in ("_proj", "c_attn", "c_proj") for matrix in "AB")
CASES = {
    "pvera": Case(PveraConfig, {"r": 16, "generator_seed": 3}, fill=1.0, noise=0.3, unsaved=SHARED, batch=1),
    "pvera-drawn-again": Case(PveraConfig, {"r": 12, "save_projection": False, "projection_prng_key": 7, "generator_seed": 9}, fill=1.0, noise=0.3, unsaved=SHARED, batch=1),
    "pvera-random": Case(PveraConfig, {"r": 8, "init_weights": False, "generator_seed": 0}, lr=1e-3, unsaved=SHARED, batch=1),
    "pvera-gpt2": Case(PveraConfig, {"r": 16, "d_initial": 0.5, "generator_seed": 3}, "gpt2", fill=1.0, noise=0.3, unsaved=SHARED, batch=1),
}


def drawing(tuned) -> dict:
    """PEFT draws in training alone: its layers train while the rest does not."""
    layers = [m for m in tuned.modules() if hasattr(m, "pvera_generator")]
    for layer in layers:
        layer.training = True

    def after(step):
        if step == 9:
            for layer in layers:
                layer.training = False

    return {"after": after}


def test_same_losses(case, bases, tmp_path):  # noqa: F811
    methods.trains(case, bases(case.model), tmp_path, hooks=drawing)


def test_sample_at_inference(bases, tmp_path):  # noqa: F811
    """A file that draws whenever it is used gives the first draw of a fresh process on both sides."""
    case = Case(PveraConfig, {"r": 16, "generator_seed": 3, "sample_at_inference": True}, fill=1.0, unsaved=SHARED)
    folder = bases("llama")
    methods.filled(case, folder, tmp_path / "theirs")
    ids = methods.ids_of(folder)
    tuned = methods.load(case, folder, tmp_path / "theirs")
    first, second = models.logits(tuned, ids), models.logits(tuned, ids)
    assert abs(first - second).max() > 1e-2, "PEFT draws nothing"
    compare.close("logits", peftkit.logits(folder, ids, tmp_path / "theirs"), first, bounds.LOGITS)
