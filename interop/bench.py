"""What the benchmarks share: processes, the state of the machine, and a training step of PyTorch.

The parent stays small (no torch at the top of a file): a child's peak memory, as
the kernel reports it, begins with what the parent held when it forked.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH, LENGTH = 4, 256  # sequences a step of a decoder, tokens of each
NOISE = 0.06  # share of the machine that others may use


def torch_steps(model, batches, learning_rate: float, before_zero=None):
    """Trains with AdamW in float32, the gradient's norm clipped at 1; yields seconds and loss of every step.

    batches are keyword arguments of the model; before_zero is called with the
    number of steps taken while the gradients are still there.
    """
    import torch

    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0, fused=True)
    for step, batch in enumerate(batches, 1):
        start = time.perf_counter()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if before_zero:
            before_zero(step)
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        yield time.perf_counter() - start, value


def token_batches(tokenizer, texts: Path, steps: int, length: int, **more):
    """Batches of BATCH rows of a JSON Lines file, in turn, each row its own labels."""
    import torch

    rows = [tokenizer(json.loads(line)["text"])["input_ids"][:length] for line in texts.read_text().splitlines()]
    for step in range(steps):
        ids = torch.tensor([rows[(step * BATCH + i) % len(rows)] for i in range(BATCH)])
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids, **more}


def texts_file(path: Path, rows: int) -> None:
    """Texts longer than 256 tokens each, always the same; what they say does not change the speed."""
    rng = random.Random(0)
    words = ("time people way water day part sound work place year live back give most very after thing our just name "
             "good sentence man think say great where help through much before line right too mean old any same tell").split()
    with path.open("w") as f:
        for _ in range(rows):
            f.write(json.dumps({"text": " ".join(rng.choice(words) for _ in range(2 * LENGTH))}) + "\n")


def run(command: list[str], env: dict) -> tuple[int, str, str, float]:
    """Runs a process; returns its exit status, its output, its errors and its peak resident memory in bytes."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **env})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        return process.returncode, out.read(), err.read(), usage.ru_maxrss * 1024.0


def child(command: list[str], env: dict) -> tuple[str, float]:
    """The output and the peak memory of a process; one that fails ends the benchmark."""
    code, out, err, peak = run(command, env)
    if code != 0:
        sys.exit(f"{' '.join(command)}: exit {code}\n{err[-3000:]}")
    return out, peak


def busy_share(seconds: float) -> float:
    """Share of all CPU time that was not idle over the next seconds."""
    def read():
        fields = list(map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]))
        return sum(fields), fields[3] + fields[4]
    all0, idle0 = read()
    time.sleep(seconds)
    all1, idle1 = read()
    return 1 - (idle1 - idle0) / max(1, all1 - all0)


def quiet(limit: float = NOISE, patience: float = 60) -> float:
    """Waits until others use less than limit of the machine; returns the last share seen."""
    end = time.monotonic() + patience
    while (share := busy_share(2)) >= limit and time.monotonic() < end:
        pass
    return share


def gauge(binary: Path) -> float:
    """GFLOP/s of peftkit's float32 matrix product right now."""
    return json.loads(child([str(binary), "doctor", "--json"], {})[0])["gemm_f32_gflops"]


def machine() -> str:
    """Processor, cores and the features that choose kernels."""
    info = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    fields = dict((k.strip(), v.strip()) for k, _, v in (line.partition(":") for line in info.splitlines()))
    known = ["avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8", "asimd", "sve"]
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return f"{fields.get('model name', 'unknown CPU')}, {os.cpu_count()} cores, {' '.join(k for k in known if k in flags)}"


def spread(values: list[float], form: str) -> str:
    middle = statistics.median(values)
    return f"{format(middle, form)} (from {format(min(values), form)} to {format(max(values), form)})"
