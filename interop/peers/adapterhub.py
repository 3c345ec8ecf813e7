"""The adapters library, by a subprocess in its own environment: it pins an older transformers."""

import json
import subprocess
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

from .where import ADAPTERS_PYTHON

_DRIVER = Path(__file__).with_name("adapterhub_driver.py")


class Hub:
    """A running driver; each method is one operation of adapterhub_driver.py."""

    def __init__(self):
        self.process = subprocess.Popen([str(ADAPTERS_PYTHON), str(_DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _ask(self, op: str, **arguments):
        told = {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()}
        self.process.stdin.write(json.dumps({"op": op, **told}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise AssertionError(f"the driver of the adapters library ended, {op} {arguments}")
        answer = json.loads(answer)
        if "error" in answer:
            raise AssertionError(f"adapters: {op}: {answer['error']}")
        return answer

    def model(self, folder: Path, kind: str, config: dict) -> Path:
        """Makes a small model of a transformers class."""
        self._ask("model", folder=folder, kind=kind, config=config)
        return folder

    def adapter(self, folder: Path, out: Path, config: str, options: dict | None = None, **more) -> int:
        """Saves an adapter for a model; returns its number of parameters."""
        return self._ask("adapter", folder=folder, out=out, config=config, options=options or {}, **more)["trainable"]

    def logits(self, folder: Path, inputs: list[dict], adapter: Path | None = None):
        """Logits of each input, and what loading the adapter told: missing and unexpected keys."""
        with tempfile.TemporaryDirectory() as tmp:
            out = Path(tmp) / "logits.safetensors"
            info = self._ask("logits", folder=folder, out=out, inputs=inputs, adapter=adapter)["info"]
            got = load_file(out)
        return [got[str(i)] for i in range(len(inputs))], info

    def train(self, folder: Path, adapter: Path, rows: list, run: dict, out: Path):
        """Trains from a saved adapter; returns the steps."""
        return self._ask("train", folder=folder, adapter=adapter, rows=rows, run=run, out=out)["told"]
