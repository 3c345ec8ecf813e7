"""ggml's reference quantiser through ctypes (libggml-base of the npm package)."""

import ctypes as C
import functools

import numpy as np

from .where import LLAMACPP

#: ggml type ids and (elements, bytes) of a block.
TYPES = {
    "f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20),
    "q5_0": (6, 32, 22), "q5_1": (7, 32, 24), "q8_0": (8, 32, 34), "bf16": (30, 1, 2),
}


@functools.cache
def _base():
    lib = C.CDLL(str(LLAMACPP / "libggml-base.so"), mode=C.RTLD_GLOBAL)
    lib.ggml_quantize_chunk.restype = C.c_size_t
    lib.ggml_quantize_chunk.argtypes = [C.c_int, C.c_void_p, C.c_void_p, C.c_int64, C.c_int64, C.c_int64, C.c_void_p]
    return lib


def quantize(kind: str, weights: np.ndarray) -> bytes:
    """Bytes of a float32 [rows, columns] matrix in ggml type kind."""
    type_id, elements, size = TYPES[kind]
    src = np.ascontiguousarray(weights, np.float32)
    rows, columns = src.shape
    if columns % elements:
        raise ValueError(f"{kind}: {columns} columns are not a multiple of {elements}")
    dst = np.zeros(rows * columns // elements * size, np.uint8)
    n = _base().ggml_quantize_chunk(type_id, src.ctypes.data, dst.ctypes.data, 0, rows, columns, None)
    if n != dst.nbytes:
        raise RuntimeError(f"ggml_quantize_chunk({kind}): {n} bytes, expected {dst.nbytes}")
    return dst.tobytes()
