"""ShadowPEFT, a small network beside the model, against Hugging Face PEFT: files, logits, losses with its own, writing with a cache."""

import json

import pytest
import torch
from peft import ShadowConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoTokenizer

from peers import bounds, compare, methods, models, peftkit, tokenizers_
from peers.checks import test_peft_reads, test_peftkit_reads  # noqa: F401
from peers.methods import Case
from peers.training import IGNORE, Run, examples, train
from test_methods_prompt import ALL, build

pytestmark = pytest.mark.usefixtures("one_thread")

LLAMA, GPT2 = r".*\.layers\.\d+", r".*\.h\.\d+"
NARROW = {"shadow_hidden_size": 32, "shadow_intermediate_size": 40}


def of(model: str, **options) -> Case:
    """A case with an effect that is not small; without dropout where its losses are compared."""
    more = {"task_type": ALL[model][2]} if model in ALL else {}
    return Case(ShadowConfig, {"r": 4, "shadow_alpha": 0.8, **options}, model, mergeable=False, noise=0.3, lr=2e-3, fill=1.0,
                train_only={"shadow_dropout": 0.0}, **more)


CASES = {
    "llama": of("llama", target_modules=LLAMA),
    "one-block": of("llama", target_modules=["layers.1"]),
    "without-first": of("mistral", exclude_modules=["layers.0"]),
    "mistral": of("mistral"),
    "narrow": of("mistral", **NARROW),
    "fewer-heads": of("mistral", shadow_num_attention_heads=2),
    "own-embeddings": of("mistral", share_embeddings=False, shadow_num_hidden_layers=2),
    "wider-update": of("mistral", update_hidden_size=7, init_weights=False),
    "no-loss": of("mistral", auxiliary_loss_weight=0.0),
    "all-loss": of("mistral", auxiliary_loss_weight=1.0),
    "window": of("mistral-window", shadow_num_hidden_layers=2),
    "gpt2": of("gpt2", target_modules=GPT2),
    "gpt2-narrow": of("gpt2", target_modules=GPT2, **NARROW),
    "qwen2": of("qwen2-window", shadow_num_hidden_layers=2),
    "qwen2-narrow": of("qwen2", **NARROW),
    "qwen3": of("qwen3", **NARROW),
    "gemma": of("gemma", **NARROW),
    "gemma2": of("gemma2", shadow_num_hidden_layers=2),
    "gemma2-all-loss": of("gemma2", auxiliary_loss_weight=1.0),  # whose logits are bounded, the shadow's own aside
    "gemma3": of("gemma3"),
    "phi3": of("phi3", **NARROW),
    "smollm3": of("smollm3", shadow_num_hidden_layers=4),
    "classifier": of("llama-cls"),
    "classifier-narrow": of("llama-cls", **NARROW),
    "tokens": of("llama-tokens"),
    "tokens-gpt2": of("gpt2-tokens"),
}
#: Beginnings that differ. GPT-2's with the model's embeddings has a table of its own that nothing reads: PEFT draws it, peftkit copies the model's.
STARTS = {f"shadow-{k}": CASES[k] for k in ("mistral", "narrow", "wider-update", "own-embeddings", "gpt2-narrow", "gemma")}


@pytest.fixture(scope="session")
def bases(tmp_path_factory, request):
    """bases(name) writes a small model once and returns its folder."""
    made = {}
    plain = request.getfixturevalue("causal")

    def get(name: str):
        if name in made:
            return made[name]
        if name not in ALL or ALL[name][2] == "CAUSAL_LM":
            return plain(name)
        made[name] = tmp_path_factory.mktemp("shadow") / name
        build(name).save_pretrained(made[name])
        tokenizers_.small().save_pretrained(made[name])
        return made[name]

    return get


causal = methods.bases


def test_merge(bases, tmp_path):
    methods.merges(CASES["llama"], bases("llama"), tmp_path)


def own_loss(case: Case, tokenizer):
    """The loss that PEFT gives for labels, the shadow's own in it."""
    def loss(tuned, rows):
        if case.task == "SEQ_CLS":
            ids, labels = [tokenizer(row["text"])["input_ids"] for row in rows], torch.tensor([int(row["label"]) for row in rows])
        else:
            ids, labels = [r[0] for r in rows], methods.pad([r[1] for r in rows], IGNORE)
        return tuned(input_ids=methods.pad(ids, tokenizer.pad_token_id or 0), attention_mask=methods.pad([[1] * len(r) for r in ids]), labels=labels).loss

    return methods.objective(case, tokenizer) if case.task == "TOKEN_CLS" else loss


def test_same_losses(case, bases, tmp_path):
    """Ten steps of the same loss, the shadow's own in it, and files of the same names, types and shapes."""
    folder, run = bases(case.model), Run(steps=10, lr=case.lr)
    start, out, data = methods.started(case, folder, tmp_path / "start"), tmp_path / "out", methods.records(methods.texts(tmp_path / "data.jsonl"), case.task)
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--init-adapter", start, "--max-seq-len", 256, *run.arguments())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tuned = methods.load(case, folder, start, trainable=True).eval()
    rows = examples(data, tokenizer) if case.task == "CAUSAL_LM" else [json.loads(line) for line in data.read_text().splitlines()]
    theirs = train(tuned, rows, tokenizer, run, objective=own_loss(case, tokenizer))
    mine = peftkit.metrics(out)
    compare.relative("loss", [s["loss"] for s in mine], [s["loss"] for s in theirs], bounds.LOSS)
    compare.relative("grad_norm", [s["grad_norm"] for s in mine], [s["grad_norm"] for s in theirs], bounds.GRADIENT_FAR)
    tuned.save_pretrained(tmp_path / "theirs")
    compare.same("tensors", *([(k, v.dtype, tuple(v.shape)) for k, v in sorted(load_file(f / "adapter_model.safetensors").items())] for f in (out, tmp_path / "theirs")))
    ids = methods.ids_of(folder)
    compare.close("logits after training", models.logits(methods.load(case, folder, out), ids), models.logits(tuned, ids), bounds.TRAINED)


@pytest.mark.parametrize("name", ["llama", "narrow", "gpt2", "gemma2"])
def test_generate(name, bases, tmp_path):
    """Greedy texts with both caches equal PEFT's."""
    case = CASES[name]
    folder = bases(case.model)
    methods.filled(case, folder, tmp_path)
    tuned, prompt = methods.load(case, folder, tmp_path), "The quick brown fox"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    wrote, _ = peftkit.greedy(folder, prompt, 12, tmp_path)
    ids, anew = tokenizer(prompt)["input_ids"], []
    for _ in wrote:
        anew.append(int(models.logits(tuned, ids + anew)[-1].argmax()))
    compare.same("PEFT without a cache", wrote, anew)
    assert len(wrote) > 3


@pytest.mark.parametrize("name, network", [("mistral", "llama"), ("llama", "qwen3"), ("gpt2", "gpt2"), ("mistral", "gpt2")])
def test_another_network(name, network, bases, tmp_path):
    """A shadow network that begins as a model of a folder; its embeddings are saved and not trained."""
    targets = {"llama": {"target_modules": LLAMA}, "gpt2": {"target_modules": GPT2}}.get(name, {})
    case = of(name, shadow_model=str(bases(network)), **targets)
    (tmp_path / "reads").mkdir()
    methods.reads(case, bases(name), tmp_path / "reads")
    test_same_losses(case, bases, tmp_path)
    out = tmp_path / "ours"
    peftkit.run("train", "-m", bases(name), "-d", methods.texts(tmp_path / "data.jsonl"), "-o", out, "--max-steps", 1, "--lr", 1e-12, "--save-steps", 0, "--val-split", 0,
                *case.flags())
    torch.manual_seed(0)
    get_peft_model(models.load(bases(name)), case.build()).save_pretrained(tmp_path / "fresh")
    mine, theirs = load_file(out / "adapter_model.safetensors"), load_file(tmp_path / "fresh" / "adapter_model.safetensors")
    compare.keys("tensors", mine, theirs)
    for key in (k for k in mine if "shadow_backbone" in k):
        compare.close(key, mine[key], theirs[key], bounds.COPIED)


def test_a_network_that_is_not_here(bases, tmp_path):
    """The name of a hub is no folder."""
    case, folder = CASES["mistral"], bases("mistral")
    methods.filled(case, folder, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "shadow_model": "some/model"}))
    with pytest.raises(peftkit.Failed, match="shadow_model has to be"):
        peftkit.logits(folder, [5, 6, 7], tmp_path)
