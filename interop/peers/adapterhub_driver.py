"""The adapters library, in its own environment: reads a line of JSON with an operation, writes a line with its result.

Run by peers/adapterhub.py with the Python of that environment. Operations:

  model    makes a small seeded model of a transformers class and saves it
  adapter  adds an adapter to a model, fills it with random numbers and saves it
  logits   logits of token sequences, with an adapter and what loading it told
  train    trains an adapter from a saved start
"""

import json
import os
import sys
import traceback
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path[0] = str(Path(__file__).resolve().parent.parent)  # peers.adapters is not the library

import adapters
import torch
import transformers
from adapters.configuration import ADAPTER_CONFIG_MAP, AdapterConfig, ConfigUnion
from peers import tokenizers_
from peers.training import Run, train
from safetensors.torch import save_file

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def fill(named, scale):
    with torch.no_grad():
        for name, p in named:
            noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
            norm = "norm" in name.lower() or "ln_" in name
            if p.dim() < 2:
                p.copy_((1 if norm and name.endswith("weight") else 0) + 0.2 * noise)
            else:
                p.copy_(scale * noise / p.shape[-1] ** 0.5)


def make_model(folder, kind, config):
    tokenizer = tokenizers_.small()
    cls = getattr(transformers, kind)
    full = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id, **config}
    model = cls(cls.config_class(**full))
    fill(model.named_parameters(), 1.2)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {}


def load_model(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    model = cls.from_pretrained(folder, config=config, attn_implementation="eager").eval()
    adapters.init(model)
    return model


def preset(name, options):
    config = ADAPTER_CONFIG_MAP[name]
    if isinstance(config, ConfigUnion):
        parts = [c.replace(**{k: v for k, v in options.items() if k in c}) for c in config.configs]
        return ConfigUnion(*parts)
    return AdapterConfig.load(name).replace(**options)


def make_adapter(folder, out, config, options=(), name="it", scale=0.3, filled=True, safe=True, seed=5):
    torch.manual_seed(seed)
    model = load_model(folder)
    model.add_adapter(name, config=preset(config, dict(options)))
    if filled:
        marks = [f"{m}.{name}." for m in ("adapters", "prefix_tunings", "prefix_gates", "loras", "shared_parameters")]
        fill([(n, p) for n, p in model.named_parameters() if any(m in n for m in marks)], scale)
    save(model, out, name, safe)
    return {"trainable": sum(p.numel() for n, p in model.named_parameters() if f".{name}." in "." + n)}


def save(model, out, name, safe=True):
    # The library cannot save prefixes as safetensors: one tensor has several names.
    prefixes = any("prefix_tunings" in n for n, _ in model.named_parameters())
    model.save_adapter(out, name, use_safetensors=safe and not prefixes)


def attach(model, folder):
    info = {}
    name = model.load_adapter(str(folder), use_safetensors=True, loading_info=info, with_head=True)
    model.set_active_adapters(name)
    return name, {k: sorted(v) for k, v in info.items()}


def logits(folder, out, inputs, adapter=None):
    model = load_model(folder)
    info = {}
    if adapter:
        _, info = attach(model, adapter)
        model.eval()  # what was added came in training mode
    tensors = {}
    with torch.no_grad():
        for i, given in enumerate(inputs):
            got = model(**{k: torch.tensor([v]) for k, v in given.items()}).logits[0].float()
            tensors[str(i)] = (got if got.dim() == 2 else got[None]).contiguous()
    save_file(tensors, out)
    return {"info": info}


def train_adapter(folder, adapter, rows, run, out):
    model = load_model(folder)
    name, info = attach(model, adapter)
    model.train_adapter(name)
    for n, p in model.named_parameters():  # an untied output embedding is not part of the adapter
        if n.startswith("lm_head"):
            p.requires_grad_(False)
    tokenizer = tokenizers_.small()
    run = Run(**run)
    if isinstance(rows[0][1], list):
        told = train(model.eval(), [tuple(r) for r in rows], tokenizer, run)
    else:
        told = classify(model.eval(), rows, tokenizer, run)
    save(model, out, name)
    return {"told": told, "info": info}


def classify(model, rows, tokenizer, run):
    """The loop of training.train for pairs of ids and a class; rows of a batch are of one length."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=run.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=run.weight_decay)
    told = []
    for step in range(run.steps):
        at = step * run.batch % len(rows)
        chunk = rows[at:at + run.batch]
        scores = model(input_ids=torch.tensor([ids for ids, _ in chunk])).logits.float()
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor([label for _, label in chunk]))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, run.clip)
        told.append({"loss": loss.item(), "grad_norm": float(norm)})
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return told


OPERATIONS = {"model": make_model, "adapter": make_adapter, "logits": logits, "train": train_adapter}


def main():
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else prints must not mix with answers
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = OPERATIONS[asked.pop("op")](**asked)
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
