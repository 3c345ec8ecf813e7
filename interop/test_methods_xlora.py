"""X-LoRA: LoRA adapters weighed by a classifier, against Hugging Face PEFT.

PEFT 0.21.2 leaves the classifier's first layer out of the file it saves (the name holds ".0.", which it takes for
that of an adapter), so what PEFT wrote is completed here before peftkit reads it.
"""

import json

import pytest
import torch
from peft import LoraConfig, XLoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from peers import adapters, bounds, compare, methods, models, peftkit
from peers.methods import Case, bases  # noqa: F401 (a fixture)
from peers.training import Run

CLASSIFIER = "internal_xlora_classifier"
#: name -> model, options of X-LoRA, lora_dropout of the adapters
CASES = {
    "plain": ("llama", {}),
    "layerwise": ("llama", {"layerwise_scalings": True, "softmax_temperature": 0.5}),
    "deep": ("llama", {"xlora_depth": 3, "xlora_size": 32, "xlora_dropout_p": 0.0}),
    "no-softmax": ("llama", {"enable_softmax": False, "xlora_depth": 2, "xlora_size": 16, "xlora_dropout_p": 0.0, "global_scaling_weight": 1.5}),
    "top-k": ("llama", {"top_k_lora": 2, "layerwise_scalings": True}),
    "top-k-softmax": ("llama", {"enable_softmax": False, "enable_softmax_topk": True, "top_k_lora": 2, "layerwise_scalings": True}),
    "dropout": ("llama", {"xlora_depth": 2, "xlora_size": 16}),
    "first-pass": ("llama", {"scaling_pass_value": 0.4}),
}
EXPERTS = {"llama": [{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]}, {"r": 2, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj"]},
                     {"r": 4, "use_rslora": True, "target_modules": ["v_proj", "up_proj"], "rank_pattern": {"up_proj": 3}}],
           "gpt2": [{"r": 4, "lora_alpha": 6, "target_modules": ["c_attn"]}, {"r": 2, "target_modules": ["c_attn", "mlp.c_proj"]}]}


@pytest.fixture(params=CASES)
def case(request, bases, tmp_path):  # noqa: F811
    """The base, the experts' folders, and the options."""
    name, options = CASES[request.param]
    folder, experts = bases(name), []
    for i, given in enumerate(EXPERTS[name]):
        methods.filled(Case(LoraConfig, given, name), folder, tmp_path / f"expert-{i}")
        experts.append(tmp_path / f"expert-{i}")
    return folder, experts, options


def base(folder):
    model = models.load(folder)
    model.config.use_cache = False  # PEFT wants that
    return model


def made(case, out, fill=1.0):
    """PEFT's X-LoRA with a classifier of random numbers, in a file with all of it."""
    folder, experts, options = case
    model = base(folder)
    torch.manual_seed(0)
    tuned = get_peft_model(model, XLoraConfig(task_type="CAUSAL_LM", hidden_size=model.config.hidden_size,
                                              adapters={str(i): str(p) for i, p in enumerate(experts)}, **options)).eval()
    with torch.no_grad():
        for name, p in tuned.named_parameters():
            if CLASSIFIER in name:
                p.add_(fill * methods._random(name, p.shape) / p.shape[-1] ** 0.5)
    save(tuned, out)
    return tuned


def save(tuned, out):
    tuned.save_pretrained(out)
    whole = {k: v.contiguous() for k, v in tuned.state_dict().items() if CLASSIFIER in k}
    assert not any(".layers.0." in k for k in load_file(out / "adapter_model.safetensors")), "PEFT saves the first layer now: leave this out"
    save_file(whole, out / "adapter_model.safetensors")


def test_peftkit_reads(case, tmp_path):
    folder, ids = case[0], methods.ids_of(case[0])
    tuned = made(case, tmp_path / "theirs")
    methods.changed(tuned, models.load(folder), ids, 1e-2)
    compare.close("logits", peftkit.logits(folder, ids, tmp_path / "theirs"), models.logits(tuned, ids), bounds.LOGITS)


def test_peft_reads(case, tmp_path):
    folder, experts, options = case
    flags = [f for k, v in options.items() for f in ("--set", f"{k}={json.dumps(v)}")]
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", tmp_path / "ours", "--method", "xlora", "--max-steps", 3, "--save-steps", 0,
                "--val-split", 0, "--set", "adapters=" + ",".join(map(str, experts)), *flags)
    ids = methods.ids_of(folder)
    tuned = adapters.load(base(folder), tmp_path / "ours")
    methods.changed(tuned, models.load(folder), ids, 1e-3)
    compare.close("logits", peftkit.logits(folder, ids, tmp_path / "ours"), models.logits(tuned, ids), bounds.LOGITS)


@pytest.mark.parametrize("case", [name for name in CASES if name != "dropout"], indirect=True)  # its masks differ
def test_same_losses(case, tmp_path):
    folder, data, run = case[0], methods.texts(tmp_path / "data.jsonl"), Run(steps=10, lr=1e-2)
    tuned = made(case, tmp_path / "start", fill=0.3)
    peftkit.run("train", "-m", folder, "-d", data, "-o", tmp_path / "out", "--init-adapter", tmp_path / "start", "--max-seq-len", 256, *run.arguments())
    theirs = methods.reference(Case(XLoraConfig), tuned, data, AutoTokenizer.from_pretrained(folder, local_files_only=True), run)
    mine = peftkit.metrics(tmp_path / "out")
    compare.relative("loss", [s["loss"] for s in mine], [s["loss"] for s in theirs], bounds.LOSS)
    compare.relative("grad_norm", [s["grad_norm"] for s in mine], [s["grad_norm"] for s in theirs], bounds.GRADIENT_FAR)
    assert theirs[-1]["loss"] != theirs[0]["loss"], "the reference did not learn"


def test_greedy(case, tmp_path):
    """Written token by token, with a cache here and without one there."""
    folder = case[0]
    tuned = made(case, tmp_path / "theirs")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = tokenizer("The quick brown")["input_ids"]
    theirs = list(ids)
    for _ in range(12):
        theirs.append(int(models.logits(tuned, theirs)[-1].argmax()))
    tokens, _ = peftkit.greedy(folder, "The quick brown", 12, tmp_path / "theirs")
    compare.same("tokens", tokens, theirs[len(ids):])


def test_gpt2(bases, tmp_path):  # noqa: F811
    """PEFT cannot read the adapters of a GPT-2 again; peftkit trains there too."""
    folder = bases("gpt2")
    for i, given in enumerate(EXPERTS["gpt2"]):
        methods.filled(Case(LoraConfig, given, "gpt2"), folder, tmp_path / str(i))
    with pytest.raises(ValueError, match="Got unexpected keys"):
        get_peft_model(base(folder), XLoraConfig(task_type="CAUSAL_LM", hidden_size=64, adapters={str(i): str(tmp_path / str(i)) for i in range(2)}))
    peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", tmp_path / "ours", "--method", "xlora", "--max-steps", 2, "--save-steps", 0,
                "--val-split", 0, "--set", f"adapters={tmp_path / '0'},{tmp_path / '1'}")
    ids = methods.ids_of(folder)
    assert abs(peftkit.logits(folder, ids, tmp_path / "ours") - models.logits(models.load(folder), ids)).max() > 1e-3


def test_refused(case, tmp_path):
    """The file as PEFT 0.21.2 leaves it, and a merge."""
    folder = case[0]
    tuned = made(case, tmp_path / "theirs")
    with pytest.raises(peftkit.Failed, match="merge"):
        peftkit.run("merge-lora", "-m", folder, "--lora", tmp_path / "theirs", "-o", tmp_path / "merged")
    tuned.save_pretrained(tmp_path / "theirs")
    with pytest.raises(peftkit.Failed, match="leaves the first layer of the classifier out"):
        peftkit.logits(folder, methods.ids_of(folder), tmp_path / "theirs")
