"""PSOFT against Hugging Face PEFT: files, logits, losses, merges.

A file does not hold the singular vectors: PEFT and peftkit each compute them, with the same signs.
PEFT changes plain linear layers alone, not GPT-2's.
"""

from peft import PsoftConfig

from peers import bounds, methods
from peers.checks import test_merge, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

#: PEFT decomposes in float32: its own logits move by up to 1.5e-4 when that is done in float64, and peftkit's are up to 1.9e-4 off.
#: As bounds.DECOMPOSED this is chance and no bound: a safety factor of three.
ATOL = 3 * 1.9e-4
SERIES = {"use_cayley_neumann": True}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def soft(options: dict, model: str = "llama", fill: float = 0.5, **more) -> Case:
    return Case(PsoftConfig, options, model, fill=fill, merged=bounds.DECOMPOSED, **more)


CASES = {
    "psoft": soft({}),
    "psoft-all": soft({"r": 16, "target_modules": ALL}),
    "psoft-whole": soft({"r": 64, "target_modules": ["q_proj", "gate_proj", "down_proj"]}),
    "psoft-scaled": soft({"r": 6, "psoft_alpha": 9}),
    "psoft-pissa": soft({"r": 8, "psoft_alpha": 12, "ab_svd_init": "pissa_init"}),
    "psoft-rotation": soft({"r": 8, "psoft_mag_a": False, "psoft_mag_b": False}, noise=0.5),
    "psoft-rows": soft({"r": 8, "psoft_mag_a": False}),
    "psoft-columns": soft({"r": 8, "psoft_mag_b": False}),
    "psoft-free": soft({"r": 8, "psoft_orth": False}),
    "psoft-one": soft({"r": 1, "psoft_orth": False}),
    "psoft-random": soft({"r": 8, "init_weights": False}, fill=0.3),
    "psoft-free-random": soft({"r": 8, "psoft_orth": False, "init_weights": False}, fill=0.3),
    "psoft-series": soft({"r": 8, **SERIES}),
    "psoft-two-terms": soft({"r": 8, **SERIES, "num_cayley_neumann_terms": 2}),
    "psoft-three-terms": soft({"r": 8, **SERIES, "num_cayley_neumann_terms": 3}),
    "psoft-eight-terms": soft({"r": 8, **SERIES, "num_cayley_neumann_terms": 8}),
    "psoft-bounded": soft({"r": 8, **SERIES, "cayley_neumann_eps": 0.4}, noise=1),
    "psoft-qwen2": soft({"r": 12, "target_modules": ["q_proj", "o_proj", "up_proj"]}, "qwen2"),
}


def test_peftkit_reads(case, bases, tmp_path):  # noqa: F811
    methods.reads(case, bases(case.model), tmp_path, ATOL)


def test_peft_reads(case, bases, tmp_path):  # noqa: F811
    methods.writes(case, bases(case.model), tmp_path, ATOL)
