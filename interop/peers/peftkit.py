"""The peftkit binary, by subprocess."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from .where import PEFTKIT


class Failed(RuntimeError):
    """peftkit left with an error; the message is its own."""

    def __init__(self, args, code: int, text: str):
        super().__init__(f"peftkit {' '.join(map(str, args))}: exit {code}: {text.strip()[-2000:]}")
        self.code, self.text = code, text


def run(*args, timeout: float = 1200) -> str:
    """Runs peftkit and returns its standard output."""
    args = [str(a) for a in args]
    done = subprocess.run([str(PEFTKIT), *args], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed(args, done.returncode, done.stderr or done.stdout)
    return done.stdout


def call(*args, timeout: float = 1200):
    """Runs peftkit with --json and returns the parsed object."""
    out = run(*args, "--json", timeout=timeout)
    try:
        return json.loads(out)
    except json.JSONDecodeError as e:
        raise AssertionError(f"peftkit {args[0]} --json: not JSON ({e}): {out[:300]!r}") from e


def logits(model: Path, ids: list[int], lora: str | Path | None = None, decoded: list[int] | None = None) -> np.ndarray:
    """Float32 logits [len(ids), vocab]; of the decoder's tokens where there are any."""
    words = lambda v: ",".join(map(str, v))
    tokens = ["--source-ids", words(ids), "--decoder-ids", words(decoded)] if decoded else ["--tokens", words(ids)]
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp) / "logits.safetensors"
        extra = ["--lora", lora] if lora else []
        run("logits", "-m", model, *extra, *tokens, "-o", out)
        return load_file(out)["logits"]


def greedy(model: Path, prompt: str, n: int, lora: str | Path | None = None) -> tuple[list[int], str]:
    """Token ids and text of a raw greedy continuation."""
    extra = ["--lora", lora] if lora else []
    got = call("generate", "-m", model, "-p", prompt, "-n", n, "--temp", 0, "--raw", *extra)
    return got["tokens"], got["text"]


def tokenize(model: Path, text: str) -> list[int]:
    """Token ids of a text read from a file, so that any character passes."""
    with tempfile.TemporaryDirectory() as tmp:
        path = Path(tmp) / "text"
        path.write_bytes(text.encode())
        return _ids(call("tokenize", "-m", model, "--file", path))


def _ids(got) -> list[int]:
    return got["tokens"] if isinstance(got, dict) else got


def metrics(folder: Path) -> list[dict]:
    """The optimizer steps of a run's metrics.jsonl, validation lines left out."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def teacher_forced(cpp, model: Path, prompts: list[str], n: int) -> tuple[list[int], list[int]]:
    """peftkit's greedy continuations of prompts, and llama.cpp's likeliest token at each of their places.

    llama.cpp is given peftkit's tokens, so that one near tie does not end the comparison.
    """
    ours, theirs = [], []
    for prompt in prompts:
        ids = cpp.tokenize(prompt)
        out, _ = greedy(model, prompt, n)
        ours += out
        theirs += cpp.logits(ids + out)[len(ids) - 1:-1].argmax(-1).tolist()
    return ours, theirs


def teacher_forced_on(cpp, model: Path, texts: dict[str, str]) -> tuple[list[int], list[int]]:
    """The likeliest tokens of both engines at every place of known continuations (prompt -> text)."""
    ours, theirs = [], []
    for prompt, text in texts.items():
        start, ids = len(cpp.tokenize(prompt)), cpp.tokenize(prompt + text)
        ours += logits(model, ids)[start - 1:-1].argmax(-1).tolist()
        theirs += cpp.logits(ids)[start - 1:-1].argmax(-1).tolist()
    return ours, theirs
