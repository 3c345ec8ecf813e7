"""The four tests that every file of cases has: it imports them beside its CASES, of which conftest.py gives them each."""

from . import methods
from .methods import bases  # noqa: F401 (a fixture)


def test_peftkit_reads(case, bases, tmp_path):  # noqa: F811
    methods.reads(case, bases(case.model), tmp_path)


def test_peft_reads(case, bases, tmp_path):  # noqa: F811
    methods.writes(case, bases(case.model), tmp_path)


def test_same_losses(case, bases, tmp_path):  # noqa: F811
    methods.trains(case, bases(case.model), tmp_path)


def test_merge(case, bases, tmp_path):  # noqa: F811
    methods.merges(case, bases(case.model), tmp_path)
