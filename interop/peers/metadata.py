"""GGUF files with other metadata, and llama.cpp in a process of its own: some values make it abort."""

import faulthandler
import os
import re
from pathlib import Path

import gguf
import numpy as np

from .llamacpp import LlamaCpp, _libraries
from .where import LLAMACPP

U32, F32, STR, BOOL, LIST, I8 = (getattr(gguf.GGUFValueType, t) for t in ("UINT32", "FLOAT32", "STRING", "BOOL", "ARRAY", "INT8"))


class File:
    """A GGUF file that can be written again with keys set or, where the value is None, left out."""

    def __init__(self, path: Path):
        self.reader = gguf.GGUFReader(path)
        self.keys = {name: (f.types[0], f.types[-1] if len(f.types) > 1 else None, f.contents())
                     for name, f in self.reader.fields.items() if not name.startswith("GGUF.")}
        self.arch = self.keys["general.architecture"][2]

    def write(self, path: Path, keys: dict) -> None:
        """keys are full names with (type, type of elements, value)."""
        writer = gguf.GGUFWriter(path, self.arch)
        for name, value in {**self.keys, **keys}.items():
            if name != "general.architecture" and value is not None:
                writer.add_key_value(name, value[2], value[0], sub_type=value[1])
        for t in self.reader.tensors:
            writer.add_tensor(t.name, np.array(t.data), raw_dtype=t.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def llamacpp(path: Path, ids: list[int], encoder: bool = False) -> np.ndarray | None:
    """What llama.cpp computes, flat; None if it refuses the file or aborts."""
    _libraries()
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        os.close(out)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        try:
            with LlamaCpp(path, n_ctx=256) as cpp:
                got = cpp.features(ids) if encoder else cpp.logits(ids)
            with os.fdopen(into, "wb") as pipe:
                pipe.write(got.astype(np.float32).tobytes())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        got = pipe.read()
    os.waitpid(child, 0)
    return np.frombuffer(got, np.float32) if got else None


def known() -> set[str]:
    """The names of keys below the architecture that are in llama.cpp's library."""
    library = (LLAMACPP / "libllama.v0.5.0.so").read_bytes()
    return {m.decode() for m in re.findall(rb"%s\.([a-z0-9_.]+)\x00", library)}
