"""A real fine-tune: SmolLM2-135M learns to tell spam from other text messages.

peftkit trains a LoRA adapter straight on the quantised GGUF, once per seed (the
seed draws the training messages too), and scores the untouched model and each
adapter on the same held-back messages, none of which is trained on. Half of the
messages of either set are spam, so that guessing scores a half.

  choice  share of messages after whose prompt the right word of "spam" and "ham"
          is the more probable one
  exact   share whose greedy answer is the right word (peftkit eval --exact-match)
  loss    mean cross-entropy of the answers (peftkit eval)

Run: make finetune [SEEDS=3]. The data is PEFTKIT_DATA/text/sms_spam.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from safetensors import safe_open

from peers import peftkit, where

WORDS = [" ham", " spam"]


def read(path: Path) -> list[tuple[str, int]]:
    """Messages with their labels, each once; line by line `ham|spam TAB text`."""
    rows = {}
    for line in path.read_text().splitlines():
        label, _, text = line.partition("\t")
        rows[text] = WORDS.index(" " + label)
    return sorted(rows.items())


def draw(rows, count: int, rng: random.Random) -> list[tuple[str, int]]:
    """count rows, half of each label, in random order."""
    half = [rng.sample([r for r in rows if r[1] == label], count // 2) for label in (0, 1)]
    return rng.sample(half[0] + half[1], count // 2 * 2)


def prompt(text: str) -> str:
    return f"Message: {text}\nKind:"


def write(path: Path, rows: list[tuple[str, int]]) -> Path:
    path.write_text("".join(json.dumps({"prompt": prompt(t), "completion": WORDS[y]}) + "\n" for t, y in rows))
    return path


def choice(rows, lora, tmp: Path) -> float:
    """Share of rows whose own word is more probable than the other."""
    ids = [peftkit.tokenize(where.SMOLLM2, w) for w in WORDS]
    assert all(len(i) == 1 for i in ids), f"the answers are not single tokens: {ids}"
    right = 0
    for start in range(0, len(rows), 20):  # 20 messages of logits are some 200 MB
        part = rows[start:start + 20]
        prompts, out = tmp / "prompts.jsonl", tmp / "logits.safetensors"
        prompts.write_text("".join(json.dumps({"text": prompt(t)}) + "\n" for t, _ in part))
        peftkit.run("logits", "-m", where.SMOLLM2, *(["--lora", lora] if lora else []), "--prompts", prompts, "-o", out)
        with safe_open(out, "np") as f:
            for i, (_, label) in enumerate(part):
                scores = f.get_tensor(f"logits.{i}")[-1][[j[0] for j in ids]]
                right += int(scores.argmax()) == label
        out.unlink()
    return right / len(rows)


def score(rows, lora, tmp: Path) -> dict:
    held = write(tmp / "held.jsonl", rows)
    got = peftkit.call("eval", "-m", where.SMOLLM2, "-d", held, "--exact-match", *(["--lora", lora] if lora else []))
    return {"choice": choice(rows, lora, tmp), "exact": got["exact_match"], "loss": got["loss"]}


def run(seeds: int, examples: int, held: int, epochs: int, say=print) -> dict:
    """Scores before and after; returns {"before": scores, "after": [scores per seed]}."""
    pool = read(where.data("text", "sms_spam", "sms.tsv"))
    kept = draw(pool, held, random.Random(0))
    pool = [r for r in pool if r not in set(kept)]
    form = lambda s: f"choice {s['choice']:.1%}  exact {s['exact']:.1%}  loss {s['loss']:.3f}"
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        before = score(kept, None, tmp)
        say(f"SmolLM2-135M on {held} held-back messages, half of them spam")
        say(f"untouched               {form(before)}")
        after = []
        for seed in range(1, seeds + 1):
            data = write(tmp / "train.jsonl", draw(pool, examples, random.Random(seed)))
            out = tmp / f"seed{seed}"
            start = time.monotonic()
            peftkit.run("train", "-m", where.SMOLLM2, "-d", data, "-o", out, "--epochs", epochs, "--seed", seed, "--lr", 5e-4,
                        "--batch-size", 4, "--grad-accum", 1, "--max-seq-len", 128, "--save-steps", 0, timeout=3600)
            seconds = time.monotonic() - start
            after.append(score(kept, out, tmp))
            say(f"seed {seed} ({seconds:4.0f} s training)  {form(after[-1])}")
        if seeds > 1:
            for key in ("choice", "exact"):
                values = [s[key] for s in after]
                say(f"{key}: {before[key]:.1%} before, {statistics.mean(values):.1%} after "
                    f"(from {min(values):.1%} to {max(values):.1%}, deviation {100 * statistics.stdev(values):.1f} points, {seeds} seeds)")
    return {"before": before, "after": after}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--held", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the scores here")
    args = parser.parse_args()
    result = run(args.seeds, args.examples, args.held, args.epochs)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
