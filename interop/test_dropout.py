"""The dropout of config.json: in training it falls where transformers applies it, and not without training.

Each key is tried alone, and PyTorch is given peftkit's masks (peers.masks).
"""

from dataclasses import replace

import pytest
from peft import LoraConfig

from peers import bounds, compare, methods, peftkit, tokenizers_
from peers.masks import Masks
from peers.methods import Case
from peers.training import Run
from test_methods_prompt import ALL, build

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, SHARE = 6, 0.4

#: model -> keys of its config.json
KEYS = {
    "bert": ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"],
    "bert-tokens": ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"],
    "roberta": ["hidden_dropout_prob", "classifier_dropout"],
    "distilbert": ["dropout", "attention_dropout", "seq_classif_dropout"],
    "distilbert-tokens": ["dropout", "attention_dropout"],
    "gpt2": ["embd_pdrop", "attn_pdrop", "resid_pdrop"],
    "gpt2-tokens": ["classifier_dropout"],
    "llama": ["attention_dropout"],
    "llama-tokens": ["classifier_dropout", "hidden_dropout"],
    "gemma3": ["attention_dropout"],
    "phi3": ["attention_dropout", "resid_pdrop"],
    "t5": ["dropout_rate"],
    "t5-gated": ["dropout_rate"],
    "t5-classifier": ["classifier_dropout"],
    "bart": ["dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop"],
    "bart-classifier": ["classifier_dropout"],
    "marian": ["dropout", "attention_dropout", "activation_dropout"],
}
#: What PEFT does not know to target.
TARGETS = {"distilbert": ["q_lin", "v_lin"], "distilbert-tokens": ["q_lin", "v_lin"], "phi3": ["qkv_proj"], "marian": ["q_proj", "v_proj"]}
CASES = [(model, key) for model, keys in KEYS.items() for key in keys]


def dropped(name, key, folder):
    """A small model with one kind of dropout, and its folder."""
    plain = build(name)
    unset = {"classifier_dropout": None} if key == "hidden_dropout" else {}  # it takes the other's place
    config = plain.config.__class__(**{**plain.config.to_dict(), **unset, key: 0.25 if "layerdrop" in key else SHARE})
    model = type(plain)(config)
    model.load_state_dict(plain.state_dict())
    model.save_pretrained(folder)
    tokenizers_.small().save_pretrained(folder)
    return model


@pytest.mark.parametrize("name, key", CASES)
def test_same_losses_under_the_same_masks(tmp_path, monkeypatch, name, key):
    """Losses and gradient norms of a few steps, step by step: every place is dropped as transformers does."""
    folder, out = tmp_path / "model", tmp_path / "out"
    seq2seq = dropped(name, key, folder).config.is_encoder_decoder
    targets = {"target_modules": TARGETS[name]} if name in TARGETS else {}
    case = Case(LoraConfig, {"r": 4, "lora_alpha": 8, **targets}, name, noise=0.3, task_type=ALL[name][2])
    data = methods.records(methods.texts(tmp_path / "data.jsonl", 8), case.task)
    if case.task == "SEQ_CLS" and seq2seq:  # reads the row of the end token
        data.write_text(data.read_text().replace('.",', tokenizers_.small().eos_token + '",'))
    start, run = methods.started(case, folder, tmp_path / "start"), Run(steps=STEPS, batch=1, lr=1e-3)
    if "layerdrop" in key:  # a layer without gradients keeps its weights, moments and count of steps
        run = replace(run, seed=9, weight_decay=0.1)

    def ours(*flags):
        peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--overwrite", "--init-adapter", start, "--max-seq-len", 256, *flags)
        return peftkit.metrics(out)

    def theirs(train_mode):
        tokenizer, masks = tokenizers_.small(), Masks(run.seed)
        tuned = methods.load(case, folder, start, trainable=True).train(train_mode)
        tuned.set_attn_implementation("eager")
        with masks.placed(monkeypatch):
            return methods.reference(case, tuned, data, tokenizer, run, after=lambda step: masks.begin(step + 1)), masks.calls

    without = run.arguments()
    flags = [f for f in without if f != "--no-base-dropout"]
    for mine, (reference, calls), drops in [(ours(*flags), theirs(True), True), (ours(*without), theirs(False), False)]:
        compare.relative("loss", [s["loss"] for s in mine], [s["loss"] for s in reference], bounds.LOSS)
        compare.relative("grad_norm", [s["grad_norm"] for s in mine], [s["grad_norm"] for s in reference], bounds.GRADIENT)
        assert bool(calls) == drops, "transformers drops nothing by this key, or without training: the test would prove nothing"
