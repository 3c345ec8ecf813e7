"""Fixtures: the binary, small models on disk, SmolLM2 as peftkit converts it."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from peers import adapters, models, peftkit, where


def pytest_configure(config):
    """Nothing skips for want of a peer or the binary: that is an error of the set-up."""
    for what, path in [("peftkit", where.PEFTKIT), ("SmolLM2", where.SMOLLM2), ("MiniLM", where.MINILM), ("llama.cpp", where.LLAMACPP)]:
        if not path.exists():
            pytest.exit(f"{what} not found at {path}: run interop/run.sh (or `make interop`)", returncode=3)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    torch.set_num_threads(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # for the driver of the adapters library


def pytest_generate_tests(metafunc):
    """case is each of a file's CASES, unless the test or the file says otherwise."""
    said = any("case" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "case" in metafunc.fixturenames and not said and not hasattr(metafunc.module, "case"):
        metafunc.parametrize("case", metafunc.module.CASES.values(), ids=metafunc.module.CASES.keys())


@pytest.fixture
def one_thread():
    """For small models: their products take longer when two threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class OnDisk:
    """A small model: its Hugging Face folder and its float32 model in transformers."""

    folder: Path
    model: torch.nn.Module

    @property
    def tokenizer(self):
        return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """small(name) makes the model of models.SMALL once and returns it as OnDisk."""
    made = {}

    def get(name: str) -> OnDisk:
        if name not in made:
            folder = tmp_path_factory.mktemp("small") / name
            made[name] = OnDisk(folder, models.save(models.SMALL[name], folder))
        return made[name]

    return get


@pytest.fixture(scope="session")
def adapted(small, tmp_path_factory):
    """adapted(kind, model) saves the PEFT adapter of adapters.KINDS made for a small model; returns its folder."""
    made = {}

    def get(kind: str, model: str) -> Path:
        if (kind, model) not in made:
            folder = tmp_path_factory.mktemp("adapter") / f"{kind}-{model}"
            it = adapters.KINDS[kind]
            adapters.make(models.load(small(model).folder), it).save_pretrained(folder, **it.save)
            made[kind, model] = folder
        return made[kind, model]

    return get


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory) -> Path:
    """SmolLM2's GGUF as the float32 Hugging Face folder that peftkit makes of it."""
    out = tmp_path_factory.mktemp("smollm2") / "hf-f32"
    peftkit.run("convert", where.SMOLLM2, "-o", out, "-q", "f32")
    return out


@pytest.fixture(scope="session")
def smollm2_gguf(tmp_path_factory) -> Path:
    """SmolLM2's GGUF with every tensor in float32, converted by peftkit."""
    out = tmp_path_factory.mktemp("smollm2") / "f32.gguf"
    peftkit.run("convert", where.SMOLLM2, "-o", out, "-q", "f32")
    return out


@pytest.fixture(scope="session")
def smollm2_model(smollm2):
    """The folder in transformers, every key accounted for. Tests must not change it."""
    return models.load(smollm2)


PROMPTS = [
    "The capital of France is", "Once upon a time, in a small village by the sea,", "def fibonacci(n):\n    ",
    "Water boils at a temperature of", "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
    "1, 1, 2, 3, 5, 8, 13,", "The opposite of hot is", "Dear Sir or Madam,\n\nI am writing to", "In 1969, Neil Armstrong",
    "Die Hauptstadt von Deutschland ist",
]

#: What the instruct model is made for: chats, in the words of its own template.
CHATS = [
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    for question in [
        "What is the capital of France?", "Name three colours.", "Explain why the sky is blue.", "Count from 1 to 30.",
        "Write a short story about a dog and a river.", "How do I boil an egg?", "List the planets of the solar system.",
        "Write a Python function that adds two numbers.", "Recite the alphabet.", "Give me three tips for better sleep.",
    ]
]


@pytest.fixture(scope="session", params=range(len(PROMPTS)), ids=lambda i: f"prompt{i}")
def prompt(request) -> str:
    """Each of the ten prompts."""
    return PROMPTS[request.param]
