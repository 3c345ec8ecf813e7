"""BERT, RoBERTa and DistilBERT: every variant and head gives transformers' numbers, from folders and GGUF files."""

import copy

import numpy as np
import peft
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models as tk_models, normalizers, pre_tokenizers, processors

from peers import bounds, compare, models, peftkit, where
from peers.llamacpp import LlamaCpp

BERT = dict(vocab_size=300, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=112, max_position_embeddings=60)
DISTIL = dict(vocab_size=300, dim=48, n_layers=2, n_heads=4, hidden_dim=112, max_position_embeddings=60)

#: name -> (class of transformers, configuration)
VARIANTS = {
    "bert": ("BertForSequenceClassification", {"num_labels": 3}),
    "bert-one-label": ("BertForSequenceClassification", {"num_labels": 1}),
    "bert-multi-label": ("BertForSequenceClassification", {"num_labels": 4, "problem_type": "multi_label_classification"}),
    "bert-gelu-new": ("BertForSequenceClassification", {"num_labels": 3, "hidden_act": "gelu_new"}),
    "bert-relu": ("BertForSequenceClassification", {"num_labels": 3, "hidden_act": "relu"}),
    "bert-eps": ("BertForSequenceClassification", {"num_labels": 3, "layer_norm_eps": 1e-3}),
    "bert-types": ("BertForSequenceClassification", {"num_labels": 3, "type_vocab_size": 5}),
    "bert-tokens": ("BertForTokenClassification", {"num_labels": 5}),
    "bert-bare": ("BertModel", {}),
    "roberta": ("RobertaForSequenceClassification", {"num_labels": 3, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "roberta-padding": ("RobertaForSequenceClassification", {"num_labels": 3, "pad_token_id": 6}),
    "roberta-tokens": ("RobertaForTokenClassification", {"num_labels": 5, "type_vocab_size": 1}),
    "roberta-bare": ("RobertaModel", {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRobertaForSequenceClassification", {"num_labels": 3, "type_vocab_size": 1}),
    "camembert": ("CamembertForSequenceClassification", {"num_labels": 3, "type_vocab_size": 1}),
    "distilbert": ("DistilBertForSequenceClassification", {"num_labels": 3}),
    "distilbert-relu": ("DistilBertForSequenceClassification", {"num_labels": 3, "activation": "relu"}),
    "distilbert-tokens": ("DistilBertForTokenClassification", {"num_labels": 5}),
    "distilbert-bare": ("DistilBertModel", {"sinusoidal_pos_embds": True}),
}
IDS = [[0, 17, 30, 4, 77, 289, 12, 2], [0, 2], [0, *range(20, 52), 2]]


def build(name):
    cls, extra = VARIANTS[name]
    cls = getattr(tf, cls)
    torch.manual_seed(len(name))
    model = cls(cls.config_class(**(DISTIL if name.startswith("distil") else BERT) | extra))
    models.fill(model, scale=1.2)
    return model.eval()


def tokenizer(folder, kind):
    """A vocabulary of the right size: WordPiece, or bytes for RoBERTa. The tests give ids themselves."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind == "bert":
        rest = [f"w{i}" for i in range(BERT["vocab_size"] - len(names))]
    else:
        rest = sorted(pre_tokenizers.ByteLevel.alphabet())
        rest += [f"w{i}" for i in range(BERT["vocab_size"] - len(names) - len(rest))]
    vocab = {t: i for i, t in enumerate(names + rest)}
    if kind == "bert":
        tok = Tokenizer(tk_models.WordPiece(vocab, unk_token="<unk>"))
        tok.normalizer, tok.pre_tokenizer, tok.decoder = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        tok.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    else:
        tok = Tokenizer(tk_models.BPE(vocab, [], unk_token="<unk>"))
        tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tf.PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", cls_token="<s>", eos_token="</s>",
                               sep_token="</s>", mask_token="<mask>").save_pretrained(folder)


def save(model, folder):
    model.save_pretrained(folder)
    tokenizer(folder, "bert" if "Bert" in type(model).__name__ and "Roberta" not in type(model).__name__ else "roberta")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """encoder(name) makes a variant once: its folder and its model."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("encoder") / name
            model = build(name)
            save(model, folder)
            made[name] = folder, model
        return made[name]

    return get


@torch.no_grad()
def theirs(model, ids):
    out = model(torch.tensor([ids]))
    out = out.logits if "logits" in out else out.last_hidden_state[0]
    return (out[0] if out.dim() == 3 else out).numpy()


@pytest.mark.parametrize("name", VARIANTS)
def test_logits(encoder, name):
    folder, model = encoder(name)
    for ids in IDS:
        compare.close(name, peftkit.logits(folder, ids), theirs(model, ids), bounds.ENCODED)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits(encoder, tmp_path, name, dtype):
    folder, model = encoder(name)
    half = copy.deepcopy(model).to(dtype)
    save(half, tmp_path)
    for ids in IDS:
        compare.close(name, peftkit.logits(tmp_path, ids), theirs(half.float(), ids), bounds.ENCODED)


@pytest.mark.parametrize("name", ["bert", "bert-bare", "bert-tokens"])
def test_old_names(encoder, tmp_path, name):
    """Checkpoints converted from TensorFlow call the norms' parameters gamma and beta, and carry a table of positions."""
    folder, model = encoder(name)
    save(model, tmp_path)
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in load_file(tmp_path / "model.safetensors").items()}
    old["embeddings.position_ids" if name == "bert-bare" else "bert.embeddings.position_ids"] = torch.arange(60)[None]
    save_file(old, tmp_path / "model.safetensors")
    compare.close(name, peftkit.logits(tmp_path, IDS[0]), theirs(model, IDS[0]), bounds.ENCODED)


@pytest.mark.parametrize("cls", ["BertForPreTraining", "BertForMaskedLM", "RobertaForMaskedLM", "DistilBertForMaskedLM"])
def test_pretraining_heads_survive(tmp_path, cls):
    """The head of pretraining is not computed, and not lost when files are converted."""
    cls = getattr(tf, cls)
    model = cls(cls.config_class(**(DISTIL if "Distil" in cls.__name__ else BERT)))
    models.fill(model)
    save(model.eval(), tmp_path / "a")
    ids = IDS[0]
    with torch.no_grad():
        hidden = model.base_model(torch.tensor([ids])).last_hidden_state[0]
    compare.close("features", peftkit.logits(tmp_path / "a", ids), hidden.numpy(), bounds.ENCODED)
    told = peftkit.call("convert", tmp_path / "a", "-o", tmp_path / "b")
    assert any("not computed" in note for note in told["notes"]), told["notes"]
    back, info = cls.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        compare.close("what the head says", back.eval()(torch.tensor([ids]))[0], model(torch.tensor([ids]))[0], 0)


#: what llama.cpp computes: gelu, and heads that read one row through tanh
GGUF = [n for n in VARIANTS if not n.endswith(("-tokens", "-relu", "-gelu-new"))]


@pytest.mark.parametrize("name", GGUF)
def test_gguf(encoder, tmp_path, name):
    folder, model = encoder(name)
    gguf = tmp_path / "m.gguf"
    peftkit.run("convert", folder, "-o", gguf, "-q", "f32")
    for ids in IDS:
        compare.close(name, peftkit.logits(gguf, ids), theirs(model, ids), bounds.ENCODED)
    if name == "roberta-padding" or name.startswith("distilbert") and name != "distilbert-bare":
        return  # llama.cpp has no ReLU in classifiers
    with LlamaCpp(gguf, n_ctx=64) as cpp:
        for ids in IDS[::2]:
            # Its GELU is the tanh approximation, looked up in float16.
            compare.close("llama.cpp " + name, cpp.features(ids), theirs(model, ids).reshape(-1, theirs(model, ids).shape[-1]), bounds.GGML_ERF)


@pytest.mark.parametrize("name", GGUF)
def test_there_and_back(encoder, tmp_path, name):
    """Folder to GGUF and back: the same class in transformers, every key found, the same bits."""
    folder, model = encoder(name)
    peftkit.run("convert", folder, "-o", tmp_path / "m.gguf", "-q", "f32")
    peftkit.run("convert", tmp_path / "m.gguf", "-o", tmp_path / "back")
    cls = type(model)
    if name in ("xlm-roberta", "camembert"):  # a GGUF does not tell them from RoBERTa, which is the same network
        cls = tf.RobertaForSequenceClassification
    back, info = cls.from_pretrained(tmp_path / "back", output_loading_info=True)
    missing = {k for k in info["missing_keys"] if not k.startswith("pooler.")}  # RoBERTa's pooler has no place in a GGUF
    assert not missing and not info["unexpected_keys"], info
    for ids in IDS:
        compare.close(name, theirs(back.eval(), ids), theirs(model, ids), bounds.SAME)


@pytest.mark.parametrize("name", ["bert-relu", "bert-gelu-new", "bert-tokens", "roberta-tokens"])
def test_gguf_refuses(encoder, tmp_path, name):
    with pytest.raises(peftkit.Failed, match="in GGUF"):
        peftkit.run("convert", encoder(name)[0], "-o", tmp_path / "m.gguf")


TEXTS = ["A warm, funny, engaging film.", "naïve café 🙂 2024", "hello",
         "The continuation of the trilogy is so huge that a column of words cannot adequately describe it.",
         "Whoever reads this far, " * 40]


@pytest.fixture(scope="module")
def minilm():
    tok = tf.AutoTokenizer.from_pretrained(where.MINILM, local_files_only=True)
    return tok, tf.AutoModel.from_pretrained(where.MINILM, local_files_only=True).eval()


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_minilm(minilm, text):
    tok, model = minilm
    ids = tok(text)["input_ids"]
    compare.same("tokens", peftkit.tokenize(where.MINILM, text), ids)
    compare.close("features", peftkit.logits(where.MINILM, ids), theirs(model, ids), bounds.MINILM)


def test_minilm_gguf(minilm, tmp_path):
    """The GGUF gives llama.cpp the tokens and, mean-pooled as the folder asks, the sentence vectors of the folder."""
    tok, model = minilm
    gguf = tmp_path / "minilm.gguf"
    peftkit.run("convert", where.MINILM, "-o", gguf, "-q", "f32")
    with LlamaCpp(gguf, n_ctx=512) as cpp:
        for text in TEXTS:
            ids = tok(text)["input_ids"]
            compare.same("tokens", cpp.tokenize(text), ids)
            compare.close("peftkit on the GGUF", peftkit.logits(gguf, ids), theirs(model, ids), bounds.MINILM)
            a, b = cpp.features(ids)[0], theirs(model, ids).mean(0)
            cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            assert cosine > 0.9999, cosine


GEOMETRY = dict(token_dim=BERT["hidden_size"], num_layers=2, num_attention_heads=4)  # PEFT does not read DistilBERT's
ADAPTERS = {
    "lora": lambda task: peft.LoraConfig(task_type=task, r=4, target_modules=r".*\.(query|value|q_lin|lin2)", init_lora_weights=False),
    "prompt": lambda task: peft.PromptTuningConfig(task_type=task, num_virtual_tokens=4, **GEOMETRY),
    "p-tuning": lambda task: peft.PromptEncoderConfig(task_type=task, num_virtual_tokens=4, encoder_hidden_size=16, **GEOMETRY),
    "prefix": lambda task: peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=4, **GEOMETRY),
}


@pytest.mark.parametrize("name", ["bert", "bert-tokens", "roberta", "roberta-tokens", "distilbert", "distilbert-tokens"])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters_of_peft(encoder, tmp_path, name, kind):
    """Adapters that PEFT saved, with the head they bring along: the first row of a sequence is then a prompt's."""
    if kind == "prefix" and name.startswith("distilbert"):
        pytest.skip("transformers' DistilBERT takes no past keys and values")
    folder, model = encoder(name)
    torch.manual_seed(3)
    adapted = peft.get_peft_model(copy.deepcopy(model), ADAPTERS[kind]("TOKEN_CLS" if name.endswith("-tokens") else "SEQ_CLS")).eval()
    with torch.no_grad():
        for p in adapted.parameters():
            if p.requires_grad:
                p += 0.3 * torch.randn_like(p)
    adapted.save_pretrained(tmp_path / "adapter")
    for ids in IDS:
        with torch.no_grad():
            want = adapted(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits[0]
        if want.dim() == 2:
            want = want[-len(ids):]  # token classifiers of PEFT also label the prompt
        compare.close(f"{name} with {kind}", peftkit.logits(folder, ids, tmp_path / "adapter").reshape(want.shape), want, bounds.ENCODED)
