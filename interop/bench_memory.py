"""The memory that train expects against the peak it reaches.

Runs of a few steps, each in a process of its own, on real models (SmolLM2-135M as
the GGUF file it is and as a float32 folder, MiniLM, the two small models that come
with the tests) and real data: methods of all kinds, batches and lengths, packed or
not, with validation and checkpoints. "expected" is estimated_memory_bytes of
`train --json`, which is what `train` prints before the first step; "peak" is the
largest resident set that the kernel reports for the process.

Printed is a Markdown table. A run that is off by more than --most is an error.

Run: make bench-memory
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench import child, machine, run

HERE = Path(__file__).resolve().parent

#: base, data, arguments of train: one row of the table each.
RUNS = [
    ("SmolLM2 Q4_1", "alpaca", "--method lora --max-seq-len 512"),
    ("SmolLM2 Q4_1", "alpaca", "--method lora --max-seq-len 256 --batch-size 4 --save-steps 1"),
    ("SmolLM2 Q4_1", "alpaca", "--method lora --rank 4 --target-modules q_proj,v_proj --max-seq-len 128 --no-packing"),
    ("SmolLM2 Q4_1", "alpaca", "--method dora --max-seq-len 256"),
    ("SmolLM2 Q4_1", "alpaca", "--method prompt-tuning --max-seq-len 256"),
    ("SmolLM2 Q4_1", "alpaca", "--method prefix-tuning --max-seq-len 256 --batch-size 2"),
    ("SmolLM2 Q4_1", "alpaca", "--method houlsby --max-seq-len 256"),
    ("SmolLM2 Q4_1", "alpaca", "--method lora+prompt-tuning --max-seq-len 256"),
    ("SmolLM2 Q4_1", "alpaca", "--method ia3 --max-seq-len 256 --val-split 0.05 --eval-steps 2"),
    ("SmolLM2 F32", "alpaca", "--method lora --max-seq-len 256"),
    ("SmolLM2 F32", "alpaca", "--method full --max-seq-len 128"),
    ("SmolLM2 F32", "shakespeare", "--method ln-tuning --max-seq-len 1024"),
    ("MiniLM", "sst2", "--method lora"),
    ("MiniLM", "banking77", "--method bitfit --batch-size 32"),
    ("MiniLM", "banking77", "--method full --batch-size 64 --val-split 0.1"),
    ("MiniLM", "sst2", "--method pfeiffer"),
    ("Austen", "shakespeare", "--method lora --max-seq-len 256 --batch-size 8"),
    ("Austen", "shakespeare", "--method full --max-seq-len 128"),
    ("stories260K", "shakespeare", "--method lora --max-seq-len 256"),
]


def bases(binary: Path, cache: Path, data: Path, folder: Path) -> dict[str, Path]:
    """The models by the names in RUNS; those made of others lie in folder."""
    smollm2 = cache / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    child([str(binary), "convert", str(smollm2), "-o", str(folder / "smollm2"), "-q", "f32"], {})
    out = {"SmolLM2 Q4_1": smollm2, "SmolLM2 F32": folder / "smollm2", "MiniLM": cache / "minilm",
           "Austen": HERE.parent / "internal" / "demo" / "assets" / "austen.gguf"}
    stories = data / "models" / "stories260K" / "stories260K.bin"
    if stories.exists():
        child([str(binary), "convert", str(stories), "-o", str(folder / "stories260K")], {})
        out["stories260K"] = folder / "stories260K"
    return out


def datasets(data: Path, folder: Path) -> dict[str, list[str]]:
    """The arguments of train that name a data set, by the names in RUNS."""
    text = (data / "text" / "tinyshakespeare" / "input.txt").read_text()
    with (folder / "shakespeare.jsonl").open("w") as f:
        for at in range(0, 400_000, 8000):
            f.write(json.dumps({"text": text[at:at + 8000]}) + "\n")
    return {
        "alpaca": ["-d", str(data / "text" / "alpaca_en_demo" / "alpaca_en_demo.json")],
        "sst2": ["-d", str(data / "text" / "sst2" / "train.tsv"), "--columns", "text,label"],
        "banking77": ["-d", str(data / "text" / "banking77" / "train.csv"), "--map", "label=category"],
        "shakespeare": ["-d", str(folder / "shakespeare.jsonl")],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--most", type=float, default=0.10, help="largest error that passes")
    parser.add_argument("--only", default="", help="runs whose row has this text")
    args = parser.parse_args()
    binary, cache = Path(os.environ["PEFTKIT_BIN"]), Path(os.environ["PEFTKIT_CACHE"])
    data = Path(os.environ.get("PEFTKIT_DATA", HERE.parent.parent / "shared" / "data")).resolve()
    if not data.exists():
        sys.exit(f"{data}: no test data; PEFTKIT_DATA names the folder")
    print(f"{machine()}\n\n| base | data | arguments | expected, MB | peak, MB | error |\n| --- | --- | --- | --- | --- | --- |")
    off = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models, sets = bases(binary, cache, data, folder), datasets(data, folder)
        for i, (base, texts, options) in enumerate(RUNS):
            if base not in models or args.only not in f"{base} {texts} {options}":
                continue
            command = [str(binary), "train", "-m", str(models[base]), *sets[texts], "-o", str(folder / f"run{i}"),
                       "--max-steps", str(args.steps), "--grad-accum", "2", "--json", *options.split()]
            code, out, err, peak = run(command, {})
            if code != 0:
                sys.exit(f"{' '.join(command)}: exit {code}\n{err[-2000:]}")
            expected = json.loads(out.strip().splitlines()[-1])["estimated_memory_bytes"]
            error = expected / peak - 1
            print(f"| {base} | {texts} | `{options.replace('--method ', '')}` | {expected / 1e6:.0f} | {peak / 1e6:.0f} | {error:+.1%} |".replace("%", " %"), flush=True)
            if abs(error) > args.most:
                off.append(f"{base}, {options}")
    if off:
        sys.exit(f"off by more than {args.most:.0%}: " + "; ".join(off))


if __name__ == "__main__":
    main()
