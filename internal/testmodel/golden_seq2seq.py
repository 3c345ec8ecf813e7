"""Golden outputs of small encoder-decoder models, from transformers.

    python internal/testmodel/golden_seq2seq.py

writes model/bart/testdata/golden.json and model/t5/testdata/golden.json: the configuration of each model, the shapes of
its tensors (their numbers follow from the names, see seeded.go), and what transformers computes; and what it computes
with the pronunciation model of the real test data (PEFTKIT_DATA). Needs torch, transformers 5 and numpy.
"""

import json
import os
import pathlib

import numpy as np
import safetensors.torch
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
MASK = (1 << 64) - 1


def seeded(name: str, shape) -> torch.Tensor:
    mean, sigma = 0.0, 0.2
    if name.endswith("bias") and len(shape) == 1 or name == "final_logits_bias":
        pass
    elif "norm" in name:
        mean, sigma = 1.0, 0.1
    elif "embed" in name or "shared" in name or "relative" in name:
        sigma = 0.5
    elif name.endswith(".q.weight"):  # T5 does not scale the scores
        sigma = 0.07
    seed = 0xCBF29CE484222325
    for b in name.encode():
        seed = (seed ^ b) * 0x100000001B3 & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1
    return torch.from_numpy((mean + sigma * np.sqrt(3.0) * u).astype(np.float32).reshape(shape))


SOURCES = [[5, 6, 7, 8, 1], [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 1], [40, 1]]
DECODED = [[2, 11, 12, 13], [2, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 3, 4], [2]]


def golden(cls: str, config: dict, stored: list[str], changes: dict | None = None) -> dict:
    """stored are the beginnings of names that the file does not have."""
    kind = getattr(transformers, cls)
    model = kind(kind.config_class(**config)).eval()
    state = {k: v for k, v in model.state_dict().items() if not any(k.startswith(s) for s in stored)}
    shapes = {k: list(v.shape) for k, v in state.items()}
    if "lm_head.weight" in state:  # T5Config ties it whatever it is told
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(shapes["lm_head.weight"]))
    missing, unexpected = model.load_state_dict({k: seeded(k, v) for k, v in shapes.items()}, strict=False)
    assert not unexpected and all(any(k.startswith(s) for s in stored) for k in missing), (missing, unexpected)
    tied = next(k for k in shapes if "shared" in k or k.endswith("decoder.embed_tokens.weight"))
    for name in missing:
        if "embed_tokens" in name or "lm_head" in name:
            assert torch.equal(model.state_dict()[name], seeded(tied, shapes[tied])), name
    for key in "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids":
        if config.get(key) is not None and "Classification" not in cls:
            setattr(model.generation_config, key, config[key])
    cases = cases_of(model, SOURCES, [None] * len(SOURCES) if "Classification" in cls else DECODED)
    config = {"architectures": [cls], "model_type": kind.config_class.model_type, **config, **(changes or {})}
    return {"config": config, "tensors": shapes, "cases": cases, **backward(model, cases, shapes)}


def cases_of(model, sources, decoded) -> list[dict]:
    cases = []
    for source, decoder in zip(sources, decoded):
        ids = torch.tensor([source])
        with torch.no_grad():
            if decoder is None:
                logits, greedy = model(input_ids=ids).logits, None
            else:
                logits = model(input_ids=ids, decoder_input_ids=torch.tensor([decoder])).logits[0]
                greedy = model.generate(ids, max_new_tokens=12, do_sample=False, num_beams=1)[0].tolist()[1:]
        cases.append({"source": source, "decoder": decoder, "logits": logits.tolist(), "greedy": greedy})
    return cases


def backward(model, cases: list[dict], shapes: dict) -> dict:
    """The summed loss of the cases (a language model writes what it has read, moved by one, and the end; a classifier wants
    class 1), and of the gradient of each tensor the norm and the sum of its elements times cos(0), cos(1), ..."""
    loss = torch.zeros(())
    for case in cases:
        ids = torch.tensor([case["source"]])
        if case["decoder"] is None:
            logits, want = model(input_ids=ids).logits, torch.tensor([1])
        else:
            logits = model(input_ids=ids, decoder_input_ids=torch.tensor([case["decoder"]])).logits[0]
            want = torch.tensor([*case["decoder"][1:], 1])
        loss = loss + torch.nn.functional.cross_entropy(logits, want, reduction="sum")
    loss.backward()
    out = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        if name in shapes and p.grad is not None:
            g = p.grad.double().flatten()
            out[name] = [g.norm().item(), (g * torch.cos(torch.arange(len(g), dtype=torch.float64))).sum().item()]
    return {"loss": loss.item(), "gradients": out}


def pronunciation() -> None:
    data = pathlib.Path(os.environ.get("PEFTKIT_DATA", ROOT.parent / "shared" / "data")) / "models" / "us_bart"
    if not data.is_dir():
        return
    config = json.loads((data / "us_bart_config.json").read_text())
    model = transformers.BartForConditionalGeneration(transformers.BartConfig(**config)).eval()
    missing, unexpected = model.load_state_dict(safetensors.torch.load_file(data / "us_bart.safetensors"), strict=False)
    assert not unexpected and all("embed_tokens" in k or "lm_head" in k for k in missing), (missing, unexpected)
    model.tie_weights()
    sources = [[1, 20, 21, 22, 2], [1, 30, 31, 32, 33, 34, 35, 2], [1, 2]]
    decoded = [[1, 5, 6, 7], [1, 40, 6], [1, 17, 18, 19, 20, 21, 2]]
    path = ROOT / "model" / "bart" / "testdata" / "us_bart.json"
    path.write_text(json.dumps(rounded(cases_of(model, sources, decoded))) + "\n")


def rounded(x):
    if isinstance(x, float):
        return float(f"{x:.7g}")
    if isinstance(x, list):
        return [rounded(v) for v in x]
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return x


def write(family: str, models: dict) -> None:
    path = ROOT / "model" / family / "testdata" / "golden.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(rounded(v))}" for k, v in models.items()) + "\n}\n")


SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 2, "forced_eos_token_id": 1}
BART = {
    "d_model": 32, "vocab_size": 48, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4, "decoder_attention_heads": 2, "max_position_embeddings": 40, **SPECIAL,
}
TIED = ["lm_head", "model.encoder.embed_tokens", "model.decoder.embed_tokens"]
T5 = {
    "d_model": 32, "vocab_size": 48, "d_kv": 6, "d_ff": 64, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 2,
}
T5_TIED = ["lm_head", "encoder.embed_tokens", "decoder.embed_tokens"]


def main() -> None:
    pronunciation()
    buckets()
    lm = "BartForConditionalGeneration"
    write("bart", {
        "bart": golden(lm, BART, [*TIED, "final_logits_bias"]),
        "scaled relu with a bias of logits": golden(lm, {**BART, "scale_embedding": True, "activation_function": "relu"}, TIED),
        "forced first token": golden(lm, {**BART, "forced_bos_token_id": 7}, TIED),
        "classifier": golden("BartForSequenceClassification", {**BART, "num_labels": 3}, TIED),
        "mbart": golden("MBartForConditionalGeneration", BART, TIED),
        "marian": golden("MarianMTModel", {**BART, "activation_function": "swish", "scale_embedding": True}, [*TIED, "model.encoder.embed_positions", "model.decoder.embed_positions"]),
        "marian with two vocabularies": golden(
            "MarianMTModel", {**BART, "decoder_vocab_size": 46, "share_encoder_decoder_embeddings": False, "bad_words_ids": [[42]]}, ["lm_head", "model.encoder.embed_positions", "model.decoder.embed_positions"]),
    })
    lm = "T5ForConditionalGeneration"
    untied = {"tie_word_embeddings": False}
    write("t5", {
        "t5": golden(lm, T5, T5_TIED),
        "version 1.1": golden(lm, {**T5, **untied, "feed_forward_proj": "gated-gelu"}, T5_TIED[1:], untied),
        "gated silu": golden(lm, {**T5, "feed_forward_proj": "gated-silu", "forced_eos_token_id": 1}, T5_TIED),
        "classifier": golden("T5ForSequenceClassification", {**T5, "num_labels": 3, "feed_forward_proj": "gated-relu"}, ["transformer." + s for s in T5_TIED]),
    })


def buckets() -> None:
    """The bucket of every distance from -300 to 300, for both kinds of stacks and some settings."""
    from transformers.models.t5.modeling_t5 import T5Attention

    out = []
    for n, most in (32, 128), (8, 20), (64, 256), (32, 100):
        for both in True, False:
            d = torch.arange(-300, 301)
            got = T5Attention._relative_position_bucket(d, bidirectional=both, num_buckets=n, max_distance=most)
            out.append({"buckets": n, "max": most, "both": both, "want": got.tolist()})
    (ROOT / "model" / "t5" / "testdata" / "buckets.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
