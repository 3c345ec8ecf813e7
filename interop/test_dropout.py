"""The dropout of config.json: in training it falls where transformers applies it, and not without training.

Masks differ, so losses are compared as samples: many steps on one batch at a learning rate that moves nothing.
Each key is tried alone, so that a place that is missing or wrong cannot hide behind the others.
"""

import json

import pytest
import torch
from peft import LoraConfig

from peers import compare, methods, peftkit, tokenizers_
from peers.methods import Case
from peers.training import IGNORE, Run, examples
from test_methods_prompt import MODELS, build

STEPS, BATCH, SHARE = 400, 3, 0.4

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
#: Models that test_methods_prompt does not have.
MORE = {
    "distilbert": ("DistilBertForSequenceClassification", {"n_layers": 2, "n_heads": 4, "dim": 64, "hidden_dim": 96, "seq_classif_dropout": 0.0}, "SEQ_CLS"),
    "distilbert-tokens": ("DistilBertForTokenClassification", {"n_layers": 2, "n_heads": 4, "dim": 64, "hidden_dim": 96}, "TOKEN_CLS"),
    "gpt2-tokens": ("GPT2ForTokenClassification", {}, "TOKEN_CLS"),
    "llama-tokens": ("LlamaForTokenClassification", {}, "TOKEN_CLS"),
    "phi3": ("Phi3ForCausalLM", {"pad_token_id": 0}, "CAUSAL_LM"),
    "t5-classifier": ("T5ForSequenceClassification", {}, "SEQ_CLS"),
    "bart-classifier": ("BartForSequenceClassification", {}, "SEQ_CLS"),
}
CASES = [(model, key) for model, keys in KEYS.items() for key in keys]


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    for name in KEYS:
        monkeypatch.setitem(MODELS, name, MORE.get(name) or MODELS[name])
        monkeypatch.setitem(methods.TASKS, name, MODELS[name][2])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def dropped(name, key, folder):
    """A small model with one kind of dropout, and its folder."""
    plain = build(name)
    unset = {"classifier_dropout": None} if key == "hidden_dropout" else {}  # it takes the other's place
    config = plain.config.__class__(**{**plain.config.to_dict(), **unset, key: SHARE})
    model = type(plain)(config)
    model.load_state_dict(plain.state_dict())
    model.save_pretrained(folder)
    tokenizers_.small().save_pretrained(folder)
    return model


def losses(model, case, data, steps):
    """The losses of the batch in training mode."""
    tokenizer = tokenizers_.small()
    other = methods.objective(case, tokenizer)
    rows = [json.loads(line) for line in data.read_text().splitlines()] if other else examples(data, tokenizer)

    def causal(model, rows):
        ids, labels = (methods.pad([row[i] for row in rows], fill) for i, fill in ((0, 0), (1, IGNORE)))
        mask = methods.pad([[1] * len(ids) for ids, _ in rows])
        scores = model(input_ids=ids, attention_mask=mask).logits.float()
        return torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)

    torch.manual_seed(5)
    with torch.no_grad():
        return torch.tensor([(other or causal)(model, rows).item() for _ in range(steps)], dtype=torch.float64)


@pytest.mark.parametrize("name, key", CASES)
def test_same_losses_in_the_mean(tmp_path, name, key):
    model = dropped(name, key, tmp_path / "model")
    case = Case(LoraConfig, {"r": 2}, name)
    data = methods.records(methods.texts(tmp_path / "data.jsonl", BATCH), case.task)
    if case.task == "SEQ_CLS" and model.config.is_encoder_decoder:  # reads the row of the end token
        data.write_text(data.read_text().replace('.",', tokenizers_.small().eos_token + '",'))
    run = Run(steps=STEPS, batch=BATCH, lr=1e-12).arguments()

    def ours(out, *more):
        peftkit.run("train", "-m", tmp_path / "model", "-d", data, "-o", out, *case.flags(), "--dropout", 0, *more)
        return torch.tensor([s["loss"] for s in peftkit.metrics(out)], dtype=torch.float64)

    still = losses(model.eval(), case, data, 1)
    run.remove("--no-base-dropout")
    mine, theirs = ours(tmp_path / "out", *run), losses(model.train(), case, data, STEPS)
    compare.relative("loss without dropout", ours(tmp_path / "still", *run, "--no-base-dropout", "--max-steps", 2), still.expand(2), 1e-4)
    assert theirs.std() > 1e-4, "the key drops nothing: the test would prove nothing"
    error = ((mine.var() + theirs.var()) / STEPS).sqrt()
    assert abs(mine.mean() - theirs.mean()) < 4 * error, f"mean {mine.mean():.5f}, transformers {theirs.mean():.5f}, 4 errors {4 * error:.5f}"
    # The deviation of a sample of 400 has an error of 3.5 % for normal numbers, two of them 5 %.
    assert 0.8 < mine.std() / theirs.std() < 1.25, f"deviation {mine.std():.5f}, transformers {theirs.std():.5f}, without training {still[0]:.5f}"
