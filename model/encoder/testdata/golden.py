"""Writes golden.json: what transformers' encoders compute on seeded weights.

Run with torch and transformers (interop/requirements.txt has the versions):

    python golden.py

A case has config.json, the names and shapes of the parameters (their values come
from a formula that the test repeats, see values), packed sequences, and the
logits or hidden states of each row together with the loss of the padded batch.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers as tf

MASK = (1 << 64) - 1


def values(name, shape):
    """Numbers of splitmix64 seeded with FNV-1a of the name: norms' weights around 1, all else around 0."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK
    out = np.empty(int(np.prod(shape)), np.float32)
    for i in range(out.size):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        out[i] = np.float32(((z ^ z >> 31) >> 40) / (1 << 24) - 0.5)
    is_norm = ("norm" in name or "LayerNorm" in name) and name.endswith(".weight")
    out = out * np.float32(0.5) + np.float32(1) if is_norm else out
    return torch.from_numpy(out.reshape(shape))


SHAPE = dict(vocab_size=48, max_position_embeddings=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
DISTIL = dict(vocab_size=48, max_position_embeddings=40, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
TOKENS = [[2, 7, 9, 30, 11, 3], [2, 41, 3], [2, 5, 6, 7, 8, 9, 10, 47, 12, 3]]
TYPES = [[0, 0, 0, 1, 1, 1], [0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]]
PADS = [[0, 7, 1, 30, 11, 2], [0, 41, 2], [0, 5, 6, 1, 1, 9, 10, 47, 12, 2]]  # token 1 is RoBERTa's padding
CLASSES = {"labels": [2, 0, 1]}
BITS = {"targets": [[1, 0, 1], [0, 0, 1], [1, 1, 0]]}
VALUE = {"targets": [[0.5], [-1.25], [2.0]]}
VALUES = {"targets": [[0.5, 1], [-1.25, 0], [2.0, -3]]}
TAGS = {"labels": [[-100, 1, 2, 0, 2, -100], [-100, 0, -100], [-100, 0, 1, 2, 2, 1, 0, 0, 1, -100]]}

CASES = []


def case(name, cls, wanted=None, tokens=TOKENS, types=None, prompt=0, **keys):
    """prompt rows are put before every sequence, as HF PEFT's prompt tuning does."""
    cls = getattr(tf, cls)
    config = cls.config_class(**(DISTIL if "DistilBert" in cls.__name__ else SHAPE) | keys)
    model = cls(config).eval()
    config.architectures = [cls.__name__]
    state = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    model.load_state_dict({k: values(k, v.shape) for k, v in state.items()}, strict=False)
    model.tie_weights()
    rows = []
    for i, ids in enumerate(tokens):
        kw = {"token_type_ids": torch.tensor([[0] * prompt + types[i]])} if types else {}
        with torch.no_grad():
            if prompt:
                before = values("prompt", (prompt, 32))
                out = model(inputs_embeds=torch.cat([before, model.get_input_embeddings()(torch.tensor(ids))])[None], **kw)
            else:
                out = model(torch.tensor([ids]), **kw)
        out = (out.logits if "logits" in out else out.last_hidden_state)[0]
        rows += out[None].tolist() if out.dim() == 1 else out[prompt:].tolist()
    leaves = [n for n, m in model.named_modules() if not list(m.children()) and list(m.parameters())]
    it = {"name": name, "config": json.loads(config.to_json_string(use_diff=False)), "params": {k: list(v.shape) for k, v in state.items()},
          "modules": leaves, "tokens": tokens, "types": types, "prompt": prompt, "rows": rows}
    if wanted:
        longest = max(map(len, tokens))
        pad = lambda rows, fill: torch.tensor([r + [fill] * (longest - len(r)) for r in rows])
        kw = {"token_type_ids": pad(types, 0)} if types else {}
        if "targets" in wanted:
            labels = torch.tensor(wanted["targets"], dtype=torch.float32)
        elif isinstance(wanted["labels"][0], list):
            labels = pad(wanted["labels"], -100)
        else:
            labels = torch.tensor(wanted["labels"])
        mask = pad([[1] * len(t) for t in tokens], 0)
        model.requires_grad_(True)
        out = model(pad(tokens, config.pad_token_id), attention_mask=mask, labels=labels, **kw)
        out.loss.backward()
        watched = next(n for n, p in model.named_parameters() if n.endswith(("layer.0.attention.self.query.weight", "layer.0.attention.q_lin.weight")))
        grad = dict(model.named_parameters())[watched].grad
        it |= wanted | {"loss": out.loss.item(), "watched": watched, "gradient": [grad.sum().item(), grad.abs().sum().item(), grad[3, 5].item()]}
    CASES.append(it)


case("bert", "BertForSequenceClassification", CLASSES, types=TYPES, num_labels=3)
case("bert-multi-label", "BertForSequenceClassification", BITS, num_labels=3, problem_type="multi_label_classification")
case("bert-regression", "BertForSequenceClassification", VALUE, types=TYPES, num_labels=1)
case("bert-regression-2", "BertForSequenceClassification", VALUES, num_labels=2, problem_type="regression")
case("bert-gelu-new", "BertForSequenceClassification", CLASSES, num_labels=3, hidden_act="gelu_new", layer_norm_eps=1e-5)
case("bert-relu", "BertForSequenceClassification", num_labels=3, hidden_act="relu", type_vocab_size=1, num_attention_heads=2)
case("bert-tokens", "BertForTokenClassification", TAGS, types=TYPES, num_labels=3)
case("bert-bare", "BertModel", types=TYPES)
case("roberta", "RobertaForSequenceClassification", CLASSES, num_labels=3, type_vocab_size=1, layer_norm_eps=1e-5)
case("roberta-pads", "RobertaForSequenceClassification", tokens=PADS, num_labels=3)
case("roberta-tokens", "RobertaForTokenClassification", TAGS, num_labels=3)
case("roberta-bare", "RobertaModel", type_vocab_size=1, pad_token_id=4)
case("xlm-roberta", "XLMRobertaForSequenceClassification", BITS, num_labels=3, problem_type="multi_label_classification")
case("camembert", "CamembertForSequenceClassification", CLASSES, num_labels=3)
case("distilbert", "DistilBertForSequenceClassification", CLASSES, num_labels=3)
case("distilbert-regression", "DistilBertForSequenceClassification", VALUE, num_labels=1, activation="relu")
case("distilbert-tokens", "DistilBertForTokenClassification", TAGS, num_labels=3)
case("distilbert-bare", "DistilBertModel", sinusoidal_pos_embds=True)
case("bert-prompt", "BertForSequenceClassification", types=TYPES, prompt=3, num_labels=3)
case("roberta-prompt", "RobertaForSequenceClassification", tokens=PADS, prompt=3, num_labels=3)
case("distilbert-tokens-prompt", "DistilBertForTokenClassification", prompt=2, num_labels=3)

with open(Path(__file__).with_name("golden.json"), "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(c) for c in CASES) + "\n]\n")
