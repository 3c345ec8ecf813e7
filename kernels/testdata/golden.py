"""Write golden.bin: blocks of float32 and what ggml's reference makes of them.

    python golden.py LIBGGML_BASE_SO [BLOCKS] > golden.bin

LIBGGML_BASE_SO is libggml-base.so of a llama.cpp release (made with ggml 0.5.0
of the npm package @node-llama-cpp/linux-x64). Needs numpy. The file: uint32
count of blocks; 32*count float32; then the bytes of F16, BF16, Q8_0, Q4_0 and
Q4_1, each as long as the count says; then Q8_0, Q4_0 and Q4_1 decoded again.
"""
import ctypes, sys
import numpy as np

lib = ctypes.CDLL(sys.argv[1])
n = int(sys.argv[2]) if len(sys.argv) > 2 else 40
lib.ggml_quantize_chunk.restype = ctypes.c_size_t
lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
rng = np.random.default_rng(1)
x = rng.standard_normal((n, 32)).astype(np.float32)
x *= np.exp2(rng.integers(-12, 6, (n, 1))).astype(np.float32)
with np.errstate(all="ignore"):
    # Special blocks: zeros of either sign, ties of the largest magnitude, equal
    # elements, halves that round away from zero, numbers below the normal range
    # of float16 and of float32, and some beyond float16.
    x[0] = 0
    x[1] = -0.0
    x[2, ::2], x[2, 1::2] = -0.0, 0
    x[3] = np.where(np.arange(32) % 3 == 0, -2, 2)
    x[4] = 0.37
    x[5] = -0.37
    x[6] = (np.arange(32) - 16) / 2
    x[7] = np.arange(32) + 0.5; x[7, 0] = 127
    x[8] *= np.float32(1e-7)
    x[9] *= np.float32(1e-37)
    x[10] *= np.float32(1e-40)
    x[11] *= np.float32(3e-44)
    x[12] = np.abs(x[12])
    x[13] = np.maximum(x[13], 0)
    x[14] = np.where(np.arange(32) % 5 == 0, -0.0, np.abs(x[14]))
    x[15] *= np.float32(1e6)
    x[16] *= np.float32(1e35)
    x[17] = np.exp2(np.arange(32) - 40.0)
    x[18] = 1 + np.arange(32) * np.float32(2.0**-12)
    x[19] = 1 + np.arange(32) * np.float32(2.0**-9)
    x[20] = np.float32(2.0**-14) + np.arange(-16, 16) * np.float32(2.0**-26)
    x[21] = 65504 + np.arange(32)
    x[22] = -x[7]
    x[23, 5] = -x[23].max() * 4
out = sys.stdout.buffer
out.write(np.uint32(n).tobytes())
x = np.ascontiguousarray(x)
out.write(x.tobytes())
p = x.ctypes.data_as(ctypes.c_void_p)
for f in ("ggml_fp32_to_fp16_row", "ggml_fp32_to_bf16_row"):
    y = np.empty(x.size, np.uint16)
    getattr(lib, f)(p, y.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(x.size))
    out.write(y.tobytes())
decoded = []
for kind, size, name in ((8, 34, "q8_0"), (2, 18, "q4_0"), (3, 20, "q4_1")):
    y = np.zeros(n * size, np.uint8)
    assert lib.ggml_quantize_chunk(kind, p, y.ctypes.data, 0, n, 32, None) == n * size
    out.write(y.tobytes())
    z = np.empty(x.size, np.float32)
    getattr(lib, "dequantize_row_" + name)(ctypes.c_void_p(y.ctypes.data), ctypes.c_void_p(z.ctypes.data), ctypes.c_int64(x.size))
    decoded.append(z)
for z in decoded:
    out.write(z.tobytes())
