"""llama.cpp through ctypes: load a GGUF, tokenise, raw logits, greedy text, LoRA.

The library is the stock CPU build of the npm package @node-llama-cpp/linux-x64
3.22.1 (llama.cpp v0.5.0). The parameter structs are passed by value; only the
few fields below are touched, at the offsets of include/llama.h of that version,
and the library's own defaults are checked at those offsets before use, so that
another version fails with a message instead of with wrong numbers.
"""

import ctypes as C
import functools
import struct
from pathlib import Path

import numpy as np

from .where import LLAMACPP

_I32, _P = C.c_int32, C.c_void_p


class _Params(C.Structure):
    """A parameter struct as bytes, larger than any real one.

    A struct of this size is returned through a hidden pointer and passed on the
    stack, where the callee reads the front that it knows.
    """

    _fields_ = [("raw", C.c_ubyte * 512)]

    def get(self, fmt: str, offset: int):
        return struct.unpack_from(fmt, bytes(self.raw), offset)[0]

    def put(self, fmt: str, offset: int, value) -> None:
        struct.pack_into(fmt, self.raw, offset, value)


class _Batch(C.Structure):
    _fields_ = [
        ("n_tokens", _I32),
        ("token", C.POINTER(_I32)),
        ("embd", C.POINTER(C.c_float)),
        ("pos", C.POINTER(_I32)),
        ("n_seq_id", C.POINTER(_I32)),
        ("seq_id", C.POINTER(C.POINTER(_I32))),
        ("logits", C.POINTER(C.c_int8)),
    ]


# struct llama_context_params of llama.cpp v0.5.0: field -> (format, offset, default)
_CONTEXT = {
    "n_ctx": ("<I", 0, 512),
    "n_batch": ("<I", 4, 2048),
    "n_ubatch": ("<I", 8, 512),
    "n_threads": ("<i", 28, 4),
    "n_threads_batch": ("<i", 32, 4),
    "flash_attn_type": ("<i", 52, -1),
    "type_k": ("<i", 104, 1),
    "type_v": ("<i", 108, 1),
}


@functools.cache
def _libraries():
    """Loads the libraries once, with the CPU variant that fits this machine."""
    ggml = C.CDLL(str(LLAMACPP / "libggml.v0.5.0.so"), mode=C.RTLD_GLOBAL)
    llama = C.CDLL(str(LLAMACPP / "libllama.v0.5.0.so"), mode=C.RTLD_GLOBAL)

    def sign(name, result, *args):
        fn = getattr(llama, name)
        fn.restype, fn.argtypes = result, list(args)

    sign("llama_model_default_params", _Params)
    sign("llama_context_default_params", _Params)
    sign("llama_model_load_from_file", _P, C.c_char_p, _Params)
    sign("llama_model_free", None, _P)
    sign("llama_init_from_model", _P, _P, _Params)
    sign("llama_free", None, _P)
    sign("llama_n_ctx", C.c_uint32, _P)
    sign("llama_model_get_vocab", _P, _P)
    sign("llama_vocab_n_tokens", _I32, _P)
    sign("llama_vocab_is_eog", C.c_bool, _P, _I32)
    sign("llama_tokenize", _I32, _P, C.c_char_p, _I32, C.POINTER(_I32), _I32, C.c_bool, C.c_bool)
    sign("llama_detokenize", _I32, _P, C.POINTER(_I32), _I32, C.c_char_p, _I32, C.c_bool, C.c_bool)
    sign("llama_decode", _I32, _P, _Batch)
    sign("llama_get_logits_ith", C.POINTER(C.c_float), _P, _I32)
    sign("llama_encode", _I32, _P, _Batch)
    sign("llama_set_embeddings", None, _P, C.c_bool)
    sign("llama_pooling_type", _I32, _P)
    sign("llama_model_n_embd", _I32, _P)
    sign("llama_model_n_cls_out", C.c_uint32, _P)
    sign("llama_get_embeddings_ith", C.POINTER(C.c_float), _P, _I32)
    sign("llama_get_embeddings_seq", C.POINTER(C.c_float), _P, _I32)
    sign("llama_get_memory", _P, _P)
    sign("llama_memory_clear", None, _P, C.c_bool)
    sign("llama_adapter_lora_init", _P, _P, C.c_char_p)
    sign("llama_adapter_lora_free", None, _P)
    sign("llama_set_adapters_lora", _I32, _P, C.POINTER(_P), C.c_size_t, C.POINTER(C.c_float))
    sign("llama_log_set", None, _P, _P)

    global _log
    _log = C.CFUNCTYPE(None, C.c_int, C.c_char_p, _P)(_keep_error)
    llama.llama_log_set(C.cast(_log, _P), None)
    ggml.ggml_backend_load_all_from_path.argtypes = [C.c_char_p]
    ggml.ggml_backend_load_all_from_path(str(LLAMACPP).encode())
    llama.llama_backend_init()
    return llama


_errors: list[str] = []


def _keep_error(level: int, text: bytes, _) -> None:
    if level >= 3:  # GGML_LOG_LEVEL_WARN and above
        _errors.append(text.decode(errors="replace").strip())
        del _errors[:-20]


class LlamaCppError(RuntimeError):
    """llama.cpp refused; the message ends with its own last log lines."""

    def __init__(self, what: str):
        super().__init__(f"{what}: {' | '.join(_errors[-5:]) or 'no log'}")


class LlamaCpp:
    """One GGUF model (and optionally GGUF LoRA adapters) in llama.cpp.

    One thread, because the spin barrier of several stalls on a busy machine.
    The key-value cache is float32 and flash attention is off, so that on F32
    files the only difference from another float32 engine is rounding order.
    """

    def __init__(self, path: Path, loras: list[tuple[Path, float]] = (), n_ctx: int = 1024, threads: int = 1):
        self.lib = lib = _libraries()
        _errors.clear()
        self.model = self.ctx = None
        self.adapters: list[int] = []
        self.model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self.model:
            raise LlamaCppError(f"llama.cpp does not load {path}")
        params = lib.llama_context_default_params()
        for name, (fmt, offset, default) in _CONTEXT.items():
            if (got := params.get(fmt, offset)) != default:
                raise RuntimeError(f"llama_context_params.{name}: default {got}, expected {default}: another llama.cpp version?")
        wanted = dict(n_ctx=n_ctx, n_batch=n_ctx, n_ubatch=n_ctx, n_threads=threads, n_threads_batch=threads,
                      flash_attn_type=0, type_k=0, type_v=0)
        for name, value in wanted.items():
            params.put(_CONTEXT[name][0], _CONTEXT[name][1], value)
        self.ctx = lib.llama_init_from_model(self.model, params)
        if not self.ctx:
            raise LlamaCppError(f"llama.cpp makes no context for {path}")
        if lib.llama_n_ctx(self.ctx) < n_ctx:
            raise RuntimeError(f"llama.cpp took n_ctx {lib.llama_n_ctx(self.ctx)} instead of {n_ctx}")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)
        for lora, _ in loras:
            adapter = lib.llama_adapter_lora_init(self.model, str(lora).encode())
            if not adapter:
                raise LlamaCppError(f"llama.cpp does not load adapter {lora}")
            self.adapters.append(adapter)
        if self.adapters:
            n = len(self.adapters)
            rc = lib.llama_set_adapters_lora(self.ctx, (_P * n)(*self.adapters), n, (C.c_float * n)(*(s for _, s in loras)))
            if rc != 0:
                raise LlamaCppError(f"llama_set_adapters_lora: {rc}")

    def close(self) -> None:
        """Frees context and model (which owns its adapters)."""
        if self.ctx:
            self.lib.llama_free(self.ctx)
        if self.model:
            self.lib.llama_model_free(self.model)
        self.ctx = self.model = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        """Token ids of text; beginning- and end-of-sequence as the file asks."""
        raw = text.encode()
        room = len(raw) + 8
        out = (_I32 * room)()
        n = self.lib.llama_tokenize(self.vocab, raw, len(raw), out, room, True, special)
        if n < 0:
            raise LlamaCppError(f"llama_tokenize: {n}")
        return list(out[:n])

    def detokenize(self, ids: list[int], special: bool = True) -> str:
        """Text of token ids."""
        raw = C.create_string_buffer(64 * len(ids) + 64)
        n = self.lib.llama_detokenize(self.vocab, (_I32 * len(ids))(*ids), len(ids), raw, len(raw), False, special)
        if n < 0:
            raise LlamaCppError(f"llama_detokenize: {n}")
        return raw.raw[:n].decode(errors="replace")

    def _batch(self, ids: list[int], start: int, every: bool) -> _Batch:
        n = len(ids)
        zero = (_I32 * 1)(0)
        return _Batch(
            n, (_I32 * n)(*ids), None, (_I32 * n)(*range(start, start + n)), (_I32 * n)(*([1] * n)),
            (C.POINTER(_I32) * n)(*([C.cast(zero, C.POINTER(_I32))] * n)),
            (C.c_int8 * n)(*([1] * n if every else [0] * (n - 1) + [1])),
        )

    def _decode(self, ids: list[int], start: int, every: bool) -> None:
        if rc := self.lib.llama_decode(self.ctx, self._batch(ids, start, every)):
            raise LlamaCppError(f"llama_decode: {rc}")

    def _row(self, i: int) -> np.ndarray:
        return np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.ctx, i), (self.n_vocab,)).copy()

    def clear(self) -> None:
        """Forgets the sequence."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.ctx), True)

    def logits(self, ids: list[int]) -> np.ndarray:
        """Next-token logits after each token of ids: float32 [len(ids), vocab]."""
        self.clear()
        self._decode(ids, 0, every=True)
        return np.stack([self._row(i) for i in range(len(ids))])

    def features(self, ids: list[int]) -> np.ndarray:
        """What an encoder makes of ids: [len(ids), hidden] without pooling, else one row, of scores if it ranks."""
        self.lib.llama_set_embeddings(self.ctx, True)
        if rc := self.lib.llama_encode(self.ctx, self._batch(ids, 0, every=True)):
            raise LlamaCppError(f"llama_encode: {rc}")
        pooling = self.lib.llama_pooling_type(self.ctx)
        width = self.lib.llama_model_n_cls_out(self.model) if pooling == 4 else self.lib.llama_model_n_embd(self.model)
        if pooling == 0:
            rows = [self.lib.llama_get_embeddings_ith(self.ctx, i) for i in range(len(ids))]
        else:
            rows = [self.lib.llama_get_embeddings_seq(self.ctx, 0)]
        return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])

    def greedy(self, ids: list[int], n: int) -> list[int]:
        """Up to n most likely next tokens, one after the other; stops at an end token."""
        self.clear()
        self._decode(ids, 0, every=False)
        out: list[int] = []
        while len(out) < n:
            token = int(self._row(-1).argmax())
            if self.lib.llama_vocab_is_eog(self.vocab, token):
                break
            out.append(token)
            self._decode([token], len(ids) + len(out) - 1, every=False)
        return out
