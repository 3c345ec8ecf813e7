"""LoRA training of SmolLM2-135M: peftkit and PyTorch + PEFT, alternating.

Rank 16 on all linear layers, 4 sequences of 256 tokens a step, float32, AdamW,
both from the same float32 safetensors folder (peftkit converts it from the
GGUF), with as many threads as the machine has cores. Each measurement is a
process of its own; the two alternate (A B A B ...), so that a drifting clock
meets both. Of every process the first steps are left out and the median of the
rest counts. Before each measurement the script waits until others leave the
machine alone, and measures peftkit's matrix product (peftkit doctor) as a gauge
of the clock. A round counts when others used little and the gauge moved by at
most a tenth inside it; disturbed rounds are repeated. Printed are the rates and
peak memories of all rounds, their medians with spread, and the median of the
paired ratios.

Run: make bench-train [ROUNDS=5]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench import BATCH, LENGTH, NOISE, child, gauge, machine, quiet, spread, texts_file, token_batches, torch_steps

RANK, ALPHA = 16, 32
SKIP = 2


def torch_side(model: Path, texts: Path, steps: int, threads: int) -> None:
    """One PyTorch + PEFT process: prints seconds of every step and its peak memory."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    torch.manual_seed(42)
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True)
    base.config.use_cache = False
    tuned = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"))
    took = list(torch_steps(tuned, token_batches(tokenizer, texts, steps, LENGTH), 2e-4))
    print(json.dumps({"rates": [BATCH * LENGTH / s for s, _ in took], "losses": [loss for _, loss in took]}))


def measure(side: str, model: Path, texts: Path, out: Path, args, env: dict) -> tuple[float, float, float]:
    """One process of one side: median tokens/s, peak bytes, first loss."""
    from peers.where import PEFTKIT

    if side == "torch":
        text, peak = child([sys.executable, __file__, "--steps", str(args.steps), "--threads", str(args.threads),
                            "--torch", str(model), str(texts)], env)
        told = json.loads(text.splitlines()[-1])
        got, losses = told["rates"], told["losses"]
    else:
        _, peak = child([str(PEFTKIT), "train", "-m", str(model), "-d", str(texts), "-o", str(out),
                         "--rank", str(RANK), "--alpha", str(ALPHA), "--dropout", "0", "--target-modules", "all-linear",
                         "--batch-size", str(BATCH), "--grad-accum", "1", "--max-seq-len", str(LENGTH + 1),  # the last token is only predicted
                         "--max-steps", str(args.steps), "--schedule", "constant", "--warmup", "0", "--lr", "2e-4",
                         "--save-steps", "0", "--no-packing", "--no-shuffle", "--threads", str(args.threads)], env)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "loss" in line]
        if any(s["tokens"] != BATCH * LENGTH for s in steps):
            sys.exit(f"peftkit: steps of {[s['tokens'] for s in steps]} tokens, expected {BATCH * LENGTH}")
        got, losses = [s["tokens_per_second"] for s in steps], [s["loss"] for s in steps]
    if len(got) != args.steps:
        sys.exit(f"{side}: {len(got)} steps, expected {args.steps}")
    return statistics.median(got[SKIP:]), peak, losses[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help=f"optimizer steps of a process, the first {SKIP} left out")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--noisy", action="store_true", help="count disturbed rounds too")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--torch", nargs=2, type=Path, metavar=("MODEL", "TEXTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        return torch_side(*args.torch, args.steps, args.threads)

    from peers.where import CACHE, PEFTKIT, SMOLLM2

    model = CACHE / "smollm2-f32"
    if not (model / "config.json").exists():
        child([str(PEFTKIT), "convert", str(SMOLLM2), "-o", str(model), "-q", "f32"], {})
    env = {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    rates, memory = {"peftkit": [], "torch": []}, {"peftkit": [], "torch": []}
    print(machine())
    print(f"SmolLM2-135M, LoRA rank {RANK} on all linear layers, {BATCH}x{LENGTH} tokens, float32, {args.threads} threads; "
          f"{args.rounds} rounds of {args.steps - SKIP} counted steps")
    with tempfile.TemporaryDirectory() as tmp:
        texts = Path(tmp) / "texts.jsonl"
        texts_file(texts, BATCH * args.steps)
        number = 0
        while len(rates["torch"]) < args.rounds:
            if (number := number + 1) > 2 * args.rounds:
                print(f"no verdict over {args.rounds} rounds: the machine was disturbed too often")
                break
            got, quiet_enough, gauges = {}, True, []
            for side in ("peftkit", "torch"):
                others = quiet()
                gauges.append(gauge(PEFTKIT))
                got[side] = measure(side, model, texts, Path(tmp) / f"run-{number}", args, env)
                quiet_enough &= others < NOISE
                rate, peak, loss = got[side]
                print(f"round {number} {side:8s} {rate:7.1f} tokens/s  peak {peak / 2**20:5.0f} MiB  first loss {loss:.4f}  "
                      f"(gauge {gauges[-1]:.0f} GFLOP/s, others used {others:.0%})", flush=True)
            # Adapters start at zero: the first loss is the base model's, the same in both
            # but for the one token more that each sequence of peftkit predicts.
            if abs(got["peftkit"][2] - got["torch"][2]) > 1e-2 * got["torch"][2]:
                sys.exit(f"not the same work: first loss {got['peftkit'][2]} and {got['torch'][2]}")
            gauges.append(gauge(PEFTKIT))
            if not args.noisy and (not quiet_enough or max(gauges) > 1.1 * min(gauges)):
                print(f"round {number} does not count: disturbed (gauge from {min(gauges):.0f} to {max(gauges):.0f} GFLOP/s)")
                continue
            for side in got:
                rates[side].append(got[side][0])
                memory[side].append(got[side][1])
    if not rates["torch"]:
        sys.exit(1)
    speed = [a / b for a, b in zip(rates["peftkit"], rates["torch"])]
    space = [a / b for a, b in zip(memory["peftkit"], memory["torch"])]
    for side in rates:
        print(f"{side:8s} {spread(rates[side], '.1f')} tokens/s, peak {spread([m / 2**20 for m in memory[side]], '.0f')} MiB")
    print(f"peftkit / torch: speed {spread(speed, '.2f')}, memory {spread(space, '.3f')}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rates": rates, "memory": memory,
                                         "speed_ratio": statistics.median(speed), "memory_ratio": statistics.median(space)}, indent=1))


if __name__ == "__main__":
    main()
