"""The methods of the adapters library: files from either side on the other, the same logits, the same losses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from peers import bounds, compare, peftkit, tokenizers_, where
from peers.adapterhub import Hub
from peers.training import Run, examples
from test_training import texts

_DECODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "tie_word_embeddings": True, "max_position_embeddings": 256}
_ENCODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_labels": 3,
            "max_position_embeddings": 256, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODELS = {
    "llama": ("LlamaForCausalLM", _DECODER),
    "mistral": ("MistralForCausalLM", {**_DECODER, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", _DECODER),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}),
    "bert": ("BertForSequenceClassification", _ENCODER),
    "roberta": ("RobertaForSequenceClassification", _ENCODER),
    "distilbert": ("DistilBertForSequenceClassification", {
        "dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4, "num_labels": 3, "max_position_embeddings": 256,
        "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}),
    "bart": ("BartForConditionalGeneration", {
        "d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 256, "decoder_start_token_id": 1,
        "dropout": 0.0}),
    "t5": ("T5ForConditionalGeneration", {
        "d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 1, "dropout_rate": 0.0}),
}
SEQ2SEQ, CLASSIFIERS = {"bart", "t5"}, {"bert", "roberta", "distilbert"}

_PREFIX = {"prefix_length": 5, "bottleneck_size": 16}
#: peftkit's name and options, the library's name and options.
METHODS = {
    "houlsby": ("houlsby", {}, "double_seq_bn", {}),
    "pfeiffer": ("pfeiffer", {}, "seq_bn", {}),
    "parallel": ("parallel", {}, "par_bn", {}),
    "parallel-learned": ("parallel", {"scaling": "learned"}, "scaled_par_bn", {}),
    "compacter": ("compacter", {"reduction_factor": 8}, "compacter", {"reduction_factor": 8}),
    "compacterpp": ("compacterpp", {"reduction_factor": 8}, "compacter++", {"reduction_factor": 8}),
    "prefix": ("attention-prefix", _PREFIX, "prefix_tuning", _PREFIX),
    "prefix-flat": ("attention-prefix", {"prefix_length": 5, "flat": True}, "prefix_tuning_flat", {"prefix_length": 5}),
    "mam": ("mam", _PREFIX, "mam", _PREFIX),
    "unipelt": ("unipelt", _PREFIX, "unipelt", _PREFIX),
}
#: More of BnConfig, on one family each.
VARIANTS = {
    "cross": ("bart", "double_seq_bn", {"cross_adapter": True, "reduction_factor": 4}),
    "norms": ("bert", "double_seq_bn", {"ln_after": True, "non_linearity": "gelu"}),
    "norm-before": ("bert", "seq_bn", {"ln_before": True}),
    "norm-residual": ("roberta", "double_seq_bn", {"ln_after": True, "adapter_residual_before_ln": True, "non_linearity": "leakyrelu"}),
    "post-add": ("bert", "seq_bn", {"residual_before_ln": "post_add"}),
    "after-norm": ("distilbert", "seq_bn", {"residual_before_ln": False, "original_ln_after": False, "scaling": "channel", "init_weights": "houlsby"}),
    "gated": ("llama", "double_seq_bn", {"use_gating": True, "leave_out": [1]}),
    "per-layer": ("bart", "seq_bn", {"reduction_factor": {"0": 4, "3": 32, "default": 8}}),
    "phm-whole": ("llama", "compacter", {"reduction_factor": 8, "factorized_phm_W": False, "shared_phm_rule": False, "phm_dim": 2}),
    "phm-factorised": ("bert", "compacter", {"reduction_factor": 8, "factorized_phm_rule": True, "phm_rank": 3, "phm_bias": False}),
    "phm-shared": ("gpt2", "compacter", {"reduction_factor": 8, "shared_W_phm": True}),
    "phm-norms": ("bert", "compacter", {"reduction_factor": 8, "original_ln_before": True, "ln_after": True, "scaling": "learned"}),
    "phm-norm-before": ("bert", "compacter", {"reduction_factor": 8, "ln_before": True, "non_linearity": "relu"}),
    "phm-scaled": ("llama", "compacter", {"reduction_factor": 8, "scaling": 4.0, "use_gating": True}),
    "prefix-gates": ("roberta", "prefix_tuning", {**_PREFIX, "use_gating": True, "shared_gating": False}),
    "prefix-left-out": ("bart", "prefix_tuning_flat", {"prefix_length": 3, "leave_out": [1, 2], "encoder_prefix": False}),
    "unipelt-lora": ("llama", "unipelt", {**_PREFIX, "attn_matrices": ["q", "k", "v"], "intermediate_lora": True, "output_lora": True}),
}
#: The library does not place prefixes in models that it hooks from outside.
NO_PREFIX = {"qwen2"}
PREFIXED = {"prefix", "prefix-flat", "mam", "unipelt"}
PAIRS = [(m, k) for m in MODELS for k in METHODS if not (m in NO_PREFIX and k in PREFIXED)]

IDS = [5, 17, 200, 33, 90, 41, 7, 300, 11, 66, 77]
TARGET = [1, 9, 8, 70]


@pytest.fixture(scope="module")
def hub():
    if not where.ADAPTERS_PYTHON.exists():
        pytest.exit(f"the adapters library not found at {where.ADAPTERS_PYTHON}: run interop/run.sh (or `make interop`)", returncode=3)
    it = Hub()
    yield it
    it.close()


@pytest.fixture(scope="module")
def folder(hub, tmp_path_factory):
    """folder(name) makes a model of MODELS once."""
    made = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = hub.model(tmp_path_factory.mktemp("hub") / name, *MODELS[name])
        return made[name]

    return get


def inputs(name: str) -> dict:
    return {"input_ids": IDS, "decoder_input_ids": TARGET} if name in SEQ2SEQ else {"input_ids": IDS}


def ours(name: str, model: Path, tmp: Path, adapter: Path | None = None) -> np.ndarray:
    out = tmp / "ours.safetensors"
    given = ["--source-ids", ",".join(map(str, IDS)), "--decoder-ids", ",".join(map(str, TARGET))] if name in SEQ2SEQ else \
        ["--tokens", ",".join(map(str, IDS))]
    peftkit.run("logits", "-m", model, *given, "-o", out, *(["--lora", adapter] if adapter else []))
    return load_file(out)["logits"]


def options(given: dict) -> list[str]:
    return [x for k, v in given.items() for x in ("--set", f"{k}={json.dumps(v) if not isinstance(v, str) else v}")]


def rows(name: str, path: Path, count: int = 24) -> Path:
    """Training data for a model's task; texts of a pair of lines have one length in tokens."""
    if name not in SEQ2SEQ | CLASSIFIERS:
        return texts(path, count)
    words = ["fox", "dog", "cat", "river", "stone", "night", "red", "old"]
    lines = []
    for i in range(count):
        first, *rest = [words[(i // 2 * 3 + j * (1 + i // 2 % 3)) % len(words)] for j in range(5 + i // 2 % 4)]
        text = " ".join([first, *(reversed(rest) if i % 2 else rest)])
        lines.append({"source": text, "target": text[::-1][:12]} if name in SEQ2SEQ else {"text": text, "label": i * 7 % 3})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def nothing(info: dict) -> None:
    assert not {k: v for k, v in info.items() if v}, "the adapters library tells of keys that do not fit"


def test_base(hub, folder, tmp_path):
    """Without an adapter the models agree: what follows compares adapters alone."""
    for name in MODELS:
        want, _ = hub.logits(folder(name), [inputs(name)])
        compare.close(f"{name} base", ours(name, folder(name), tmp_path), want[0], bounds.LOGITS)


@pytest.mark.parametrize("name,kind", PAIRS)
def test_theirs_in_ours(hub, folder, tmp_path, name, kind):
    """A file of the library, filled with random numbers, gives the same logits here."""
    if name == "t5" and kind.startswith("compacter"):
        pytest.skip("the library leaves the shared rule out of the file of a T5")
    _, _, config, given = METHODS[kind]
    start = tmp_path / "theirs"
    hub.adapter(folder(name), start, config, given)
    want, info = hub.logits(folder(name), [inputs(name)], start)
    nothing(info)
    base, _ = hub.logits(folder(name), [inputs(name)])
    assert np.abs(want[0] - base[0]).max() > 1e-2, "the adapter changes nothing: the test would prove little"
    compare.close("logits", ours(name, folder(name), tmp_path, start), want[0], bounds.LOGITS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_configurations(hub, folder, tmp_path, variant):
    name, config, given = VARIANTS[variant]
    start = tmp_path / "theirs"
    # One tensor under two names can only be saved as a pickle.
    hub.adapter(folder(name), start, config, given, safe=not given.get("ln_before"))
    want, info = hub.logits(folder(name), [inputs(name)], start)
    nothing(info)
    compare.close("logits", ours(name, folder(name), tmp_path, start), want[0], bounds.LOGITS)


@pytest.mark.parametrize("name,kind", PAIRS)
def test_ours_in_theirs(hub, folder, tmp_path, name, kind):
    """An adapter that peftkit made and trained loads in the library: no key missing, none left over, the same logits."""
    method, given, _, _ = METHODS[kind]
    out = tmp_path / "ours"
    peftkit.run("train", "-m", folder(name), "-d", rows(name, tmp_path / "data.jsonl"), "-o", out, "--method", method, *options(given),
                "--max-seq-len", 256, *Run(steps=3, lr=5e-3).arguments())
    want, info = hub.logits(folder(name), [inputs(name)], out)
    nothing(info)
    compare.close("logits", ours(name, folder(name), tmp_path, out), want[0], bounds.LOGITS)


CURVES = [("llama", k) for k in METHODS] + [("gpt2", "houlsby"), ("gpt2", "unipelt"), ("bert", "houlsby"), ("bert", "pfeiffer"),
                                            ("bert", "compacter"), ("bert", "unipelt"), ("roberta", "mam"), ("distilbert", "parallel")]


@pytest.mark.parametrize("name,kind", CURVES)
def test_same_losses(hub, folder, tmp_path, name, kind):
    """10 steps from one adapter on the same batches: loss within 1e-4 relative, step by step."""
    _, _, config, given = METHODS[kind]
    start, out = tmp_path / "start", tmp_path / "out"
    hub.adapter(folder(name), start, config, given, scale=0.2)
    # The library's gates average over padding too, so they get one text at a time.
    run = Run(steps=10, lr=3e-3, batch=1 if kind == "unipelt" and name not in CLASSIFIERS else 2)
    data = rows(name, tmp_path / "data.jsonl")
    peftkit.run("train", "-m", folder(name), "-d", data, "-o", out, "--init-adapter", start, "--max-seq-len", 256, *run.arguments())
    tokenizer = tokenizers_.small()
    if name in CLASSIFIERS:
        lines = [json.loads(line) for line in data.read_text().splitlines()]
        given = [(tokenizer(line["text"])["input_ids"], line["label"]) for line in lines]
        assert all(len(a[0]) == len(b[0]) for a, b in zip(given[::2], given[1::2])), "a batch would need padding"
    else:
        given = examples(data, tokenizer)
    told = hub.train(folder(name), start, given, {"steps": run.steps, "lr": run.lr, "batch": run.batch}, tmp_path / "theirs")
    steps = peftkit.metrics(out)
    compare.relative("loss", [s["loss"] for s in steps], [s["loss"] for s in told], bounds.LOSS / 10)
    compare.relative("grad_norm", [s["grad_norm"] for s in steps], [s["grad_norm"] for s in told], bounds.GRADIENT)
    theirs, info = hub.logits(folder(name), [inputs(name)], out)
    nothing(info)
    compare.close("logits", ours(name, folder(name), tmp_path, out), theirs[0], bounds.LOGITS)


def test_real_adapter(hub, tmp_path):
    """The library and peftkit read the same numbers from a published adapter with its head."""
    real = where.data("adapters", "adapterhub-roberta-sst2")
    model = hub.model(tmp_path / "roberta", "RobertaForSequenceClassification", {
        **_ENCODER, "hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "num_labels": 2})
    assert os.path.exists(real / "pytorch_adapter.bin")
    want, info = hub.logits(model, [inputs("roberta")], real)
    # The head is of another class to the library, which leaves it out here.
    assert not [k for k in info.get("missing_keys", []) if "adapters" in k]
    body = tmp_path / "body"
    body.mkdir()
    for file in ["adapter_config.json", "pytorch_adapter.bin"]:
        (body / file).write_bytes((real / file).read_bytes())
    out = tmp_path / "ours.safetensors"
    peftkit.run("logits", "-m", model, "--tokens", ",".join(map(str, IDS)), "-o", out, "--lora", body)
    compare.close("logits", load_file(out)["logits"], want[0], bounds.LOGITS)
    peftkit.run("logits", "-m", model, "--tokens", ",".join(map(str, IDS)), "-o", out, "--lora", real)
    assert np.abs(load_file(out)["logits"] - want[0]).max() > 1e-2, "the head of the adapter was not read"
