"""BART, mBART, Marian and T5: logits of every variant and greedy texts are transformers', T5 also from GGUF files."""

import json
import shutil

import pytest
import torch
import transformers as tf
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models as tk_models, pre_tokenizers, processors

from peers import bounds, compare, models, peftkit, where

BART = dict(d_model=48, vocab_size=90, encoder_layers=2, decoder_layers=3, encoder_ffn_dim=80, decoder_ffn_dim=112, encoder_attention_heads=4,
            decoder_attention_heads=3, max_position_embeddings=50, pad_token_id=0, bos_token_id=2, eos_token_id=1, decoder_start_token_id=2,
            forced_eos_token_id=1)
T5 = dict(d_model=48, vocab_size=90, d_kv=10, d_ff=112, num_layers=3, num_decoder_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1,
          decoder_start_token_id=0)
LM = "ForConditionalGeneration"

#: name -> (class of transformers, configuration)
VARIANTS = {
    "bart": ("Bart" + LM, BART),
    "bart-scaled": ("Bart" + LM, BART | {"scale_embedding": True, "activation_function": "relu"}),
    "bart-classifier": ("BartForSequenceClassification", BART | {"num_labels": 3}),
    "mbart": ("MBart" + LM, BART),
    "marian": ("MarianMTModel", BART | {"activation_function": "swish", "scale_embedding": True}),
    "marian-two": ("MarianMTModel", BART | {"decoder_vocab_size": 88, "share_encoder_decoder_embeddings": False}),
    "t5": ("T5" + LM, T5),
    "t5-gated": ("T5" + LM, T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-silu": ("T5" + LM, T5 | {"feed_forward_proj": "gated-silu"}),
    "t5-buckets": ("T5" + LM, T5 | {"relative_attention_num_buckets": 16, "relative_attention_max_distance": 30}),
    "t5-classifier": ("T5ForSequenceClassification", T5 | {"num_labels": 4}),
}
#: Beyond every bucket of single distances, and beyond the last.
SOURCES = [[5, 6, 7, 8, 1], [*range(20, 62), 1], [9, 1]]
DECODED = [[2, 11, 12, 13], [2, *range(40, 80)], [2]]


def build(name):
    cls, config = VARIANTS[name]
    cls = getattr(tf, cls)
    model = cls(cls.config_class(**config))
    if name == "t5-gated":  # T5Config ties the head whatever it is told
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    models.fill(model, scale=1.3)
    for m in model.modules():
        if hasattr(m, "create_weight"):  # Marian's positions are fixed, and not saved
            m.weight.data.copy_(m.create_weight())
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.copy_(0.2 * torch.randn(model.final_logits_bias.shape, generator=torch.Generator().manual_seed(3)))
    return model.eval()


def save(model, folder):
    """A folder with a Unigram vocabulary of single characters, as T5's are framed; the tests give ids themselves."""
    model.save_pretrained(folder)
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    rest = [(chr(0x21 + i), -3.0 - i / 50) for i in range(model.config.vocab_size - len(special))]
    tok = Tokenizer(tk_models.Unigram(special + rest, unk_id=3))
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tok.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tf.PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>", pad_token="<pad>", eos_token="</s>").save_pretrained(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    done = {}

    def get(name):
        if name not in done:
            folder = tmp_path_factory.mktemp("seq2seq") / name
            model = build(name)
            save(model, folder)
            done[name] = folder, model
        return done[name]

    return get


def ours(model, sources, decoded, tmp_path, *extra):
    """peftkit's logits of each pair."""
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "logits.safetensors"
    lines = [{"tokens": s} if d is None else {"source_ids": s, "decoder_ids": d} for s, d in zip(sources, decoded)]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    peftkit.run("logits", "-m", model, "--prompts", prompts, "-o", out, *extra)
    got = load_file(out)
    return [got[f"logits.{i}"] for i in range(len(sources))]


def theirs(model, source, decoded):
    with torch.no_grad():
        if decoded is None:
            return model(input_ids=torch.tensor([source])).logits.numpy()
        return model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([decoded])).logits[0].numpy()


@pytest.mark.parametrize("name", VARIANTS)
def test_logits(made, tmp_path, name):
    folder, model = made(name)
    decoded = [None] * len(SOURCES) if "classifier" in name else DECODED
    for got, source, d in zip(ours(folder, SOURCES, decoded, tmp_path), SOURCES, decoded):
        compare.close(name, got, theirs(model, source, d), bounds.LOGITS)


@pytest.mark.parametrize("name", ["t5", "t5-gated"])
def test_gguf(made, tmp_path, name):
    """To GGUF and back: the file computes the same, the folder has the same tensors."""
    folder, model = made(name)
    gguf, back = tmp_path / "m.gguf", tmp_path / "back"
    peftkit.run("convert", folder, "-o", gguf, "-q", "f32")
    for got, source, d in zip(ours(gguf, SOURCES, DECODED, tmp_path), SOURCES, DECODED):
        compare.close(name, got, theirs(model, source, d), bounds.LOGITS)
    peftkit.run("convert", gguf, "-o", back)
    again = tf.T5ForConditionalGeneration.from_pretrained(back).eval()
    for source, d in zip(SOURCES, DECODED):
        compare.close("transformers on the folder", theirs(again, source, d), theirs(model, source, d), bounds.SAME)


def test_no_gguf_architecture(made, tmp_path):
    with pytest.raises(peftkit.Failed, match="llama.cpp has no architecture"):
        peftkit.run("convert", made("bart")[0], "-o", tmp_path / "m.gguf")


def test_pronunciation(tmp_path):
    """A user's model: 3 MB, characters of English words to phonemes."""
    real = where.data("models", "us_bart")
    folder = tmp_path / "us"
    folder.mkdir()
    shutil.copy(real / "us_bart_config.json", folder / "config.json")
    shutil.copy(real / "us_bart.safetensors", folder / "model.safetensors")
    model = tf.BartForConditionalGeneration.from_pretrained(folder).eval()
    letters = model.config.grapheme_chars
    words = [[1, *(letters.index(c) for c in w), 2] for w in ("pronunciation", "Thames", "queue", "a", "Worcestershire")]
    with torch.no_grad():
        decoded = [model.generate(torch.tensor([w]), num_beams=1, do_sample=False)[0, :-1].tolist() for w in words]
    for got, source, d in zip(ours(folder, words, decoded, tmp_path), words, decoded):
        compare.close("us_bart", got, theirs(model, source, d), bounds.LOGITS)
        # transformers writes what peftkit finds likeliest, until the end is forced
        assert got.argmax(-1)[:-1].tolist() == d[1:], source
