"""Training a text classifier: peftkit and PyTorch + PEFT, alternating.

MiniLM (a BERT of 22.7 million parameters) learns two classes with LoRA of rank
16 on all linear layers, IA3, prefix tuning or in full: 16 sentences of 4 to 40
words a step, float32, AdamW, as many threads as the machine has cores. PyTorch
pads the sentences of a step to the longest and has the base's dropout off;
peftkit pads nothing. Each measurement is a process of its own, the two
alternate, the first steps are left out. Counted are tokens of the sentences;
printed are medians over the rounds with their spread, and peak memories.

Run: make bench-encoder [ROUNDS=5]
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from bench import child, machine, quiet, spread, torch_steps

BATCH, SKIP = 16, 4
LINEAR = ["query", "key", "value", "dense"]
METHODS = {
    "lora": ("LoraConfig", {"r": 16, "lora_alpha": 32, "target_modules": LINEAR, "exclude_modules": ["bert.pooler.dense"]}),
    "ia3": ("IA3Config", {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]}),
    "prefix-tuning": ("PrefixTuningConfig", {"num_virtual_tokens": 20, "prefix_projection": False}),
    "full": None,
}


def torch_side(model: Path, data: Path, method: str, steps: int, threads: int) -> None:
    """One PyTorch process: prints the rates of its steps and the losses."""
    import peft
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(threads)
    torch.manual_seed(42)
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    tuned = AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=2, dtype=torch.float32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, local_files_only=True)
    if METHODS[method]:
        kind, options = METHODS[method]
        tuned = peft.get_peft_model(tuned, getattr(peft, kind)(task_type="SEQ_CLS", **options))
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    batches = []
    for step in range(steps):
        some = rows[step * BATCH:][:BATCH]
        batch = tokenizer([r["text"] for r in some], padding=True, return_tensors="pt")
        batches.append({**batch, "labels": torch.tensor([int(r["label"]) for r in some])})
    took = list(torch_steps(tuned, batches, 1e-4))
    print(json.dumps({"rates": [int(b["attention_mask"].sum()) / s for b, (s, _) in zip(batches, took)], "losses": [loss for _, loss in took],
                      "params": sum(p.numel() for p in tuned.parameters() if p.requires_grad)}))


def peftkit_side(binary: Path, model: Path, data: Path, out: Path, method: str, args, env: dict) -> tuple[dict, float]:
    """The same of peftkit train, and its peak memory."""
    command = [str(binary), "train", "-m", str(model), "-d", str(data), "-o", str(out), "--method", method, "--task", "seq-cls", "--json", "--no-base-dropout",
               "--batch-size", str(BATCH), "--grad-accum", "1", "--max-steps", str(args.steps), "--schedule", "constant", "--warmup", "0",
               "--lr", "1e-4", "--weight-decay", "0", "--val-split", "0", "--save-steps", "0", "--no-shuffle", "--threads", str(args.threads)]
    for key, value in (METHODS[method][1] if METHODS[method] else {}).items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    told, peak = child(command, env)
    steps = [s for s in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in s]
    return {"rates": [s["tokens_per_second"] for s in steps], "losses": [s["loss"] for s in steps],
            "params": json.loads(told.splitlines()[-1])["trainable_parameters"]}, peak


def sentences(path: Path, count: int) -> None:
    """Sentences of 4 to 40 common words, of either class in turn."""
    rng = random.Random(0)
    words = "the a film story actor scene music is was very not good bad slow funny dull bright and of in with that it makes one feel".split()
    with path.open("w") as f:
        for i in range(count):
            f.write(json.dumps({"text": " ".join(rng.choice(words) for _ in range(rng.randint(4, 40))), "label": str(i % 2)}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16, help=f"optimizer steps of a process, the first {SKIP} left out")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="these alone")
    parser.add_argument("--torch", nargs=3, metavar=("MODEL", "DATA", "METHOD"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        return torch_side(Path(args.torch[0]), Path(args.torch[1]), args.torch[2], args.steps, args.threads)

    from peers.where import MINILM, PEFTKIT

    env = {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    print(f"{machine()}\nMiniLM as a classifier, {BATCH} sentences a step, float32, {args.threads} threads", flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        data = Path(tmp) / "data.jsonl"
        sentences(data, BATCH * args.steps)
        for method in args.methods:
            rates, peaks = {"peftkit": [], "PyTorch": []}, {"peftkit": [], "PyTorch": []}
            for number in range(args.rounds):
                params = {}
                for side in rates:
                    quiet(patience=10)
                    if side == "peftkit":
                        got, peak = peftkit_side(PEFTKIT, MINILM, data, Path(tmp) / f"{method}-{number}", method, args, env)
                    else:
                        text, peak = child([sys.executable, __file__, "--steps", str(args.steps), "--threads", str(args.threads),
                                            "--torch", str(MINILM), str(data), method], env)
                        got = json.loads(text.splitlines()[-1])
                    rates[side].append(statistics.median(got["rates"][SKIP:]))
                    peaks[side].append(peak / 2**20)
                    params[side] = got["params"]
                if params["peftkit"] != params["PyTorch"]:
                    sys.exit(f"{method}: not the same adapter: {params} parameters")
            ratio = [a / b for a, b in zip(rates["peftkit"], rates["PyTorch"])]
            print(f"{method}: {params['peftkit']:,} parameters")
            for side in rates:
                print(f"  {side:8s} {spread(rates[side], '.0f')} tokens/s, peak {spread(peaks[side], '.0f')} MiB")
            print(f"  peftkit / PyTorch: {spread(ratio, '.2f')}", flush=True)


if __name__ == "__main__":
    main()
