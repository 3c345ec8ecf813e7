"""OSF, which trains beside the singular directions that stay, against Hugging Face PEFT: files, logits, losses, merges."""

import pytest
from peft import OSFConfig

from peers import methods
from peers.methods import Case, bases  # noqa: F401 (a fixture)

CASES = {
    "osf": Case(OSFConfig, {}, lr=1e-3, merged=1e-4),  # PEFT decomposes in float32
    "osf-number": Case(OSFConfig, {"effective_rank": 20}, lr=1e-3, merged=1e-4),
    "osf-shares": Case(OSFConfig, {"effective_rank": 0.9, "rank_pattern": {"v_proj": 5, r"layers\.1\..*down": 0.5}}, lr=1e-3, merged=1e-4),
    "osf-random": Case(OSFConfig, {"effective_rank": 28, "init_weights": False, "target_modules": ["v_proj"]}, lr=1e-3, merged=1e-4),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def test_peftkit_reads(case, bases, tmp_path):  # noqa: F811
    methods.reads(case, bases(case.model), tmp_path)


def test_peft_reads(case, bases, tmp_path):  # noqa: F811
    methods.writes(case, bases(case.model), tmp_path)


def test_same_losses(case, bases, tmp_path):  # noqa: F811
    methods.trains(case, bases(case.model), tmp_path)


def test_merge(case, bases, tmp_path):  # noqa: F811
    methods.merges(case, bases(case.model), tmp_path)
