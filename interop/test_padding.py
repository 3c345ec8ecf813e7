"""The row of an embedding that PyTorch calls padding_idx: in training, looking it up gives it no gradient.

Llamas, BERTs, BARTs and Marians have one, GPT-2 and T5 do not. A text may hold it: SmolLM2 pads with the
token that ends every message, and Marian's decoders begin with it. Here it is a word of the texts.
"""

import json

import pytest
from peft import HiraConfig, LoraConfig, OFTConfig, TrainableTokensConfig
from transformers import AutoTokenizer

from peers import compare, methods, models, peftkit, tokenizers_
from peers.methods import Case
from peers.training import Run, examples, train
from test_methods_prompt import MODELS, build

pytestmark = pytest.mark.usefixtures("one_thread")

#: model -> its embedding, and a layer that a method may change beside it
WORDS = {"llama": ("embed_tokens", "q_proj"), "llama-untied": ("embed_tokens", "q_proj"), "gemma3": ("embed_tokens", "q_proj"), "phi3": ("embed_tokens", "qkv_proj"),
         "gpt2": ("wte", "c_attn"), "bert": ("word_embeddings", "query"), "distilbert": ("word_embeddings", "q_lin"), "roberta": ("word_embeddings", "query"),
         "t5": ("shared", "q"), "bart": ("shared", "q_proj"), "marian": ("shared", "q_proj")}
MORE = {
    "llama-untied": ("LlamaForCausalLM", {"tie_word_embeddings": False}, "CAUSAL_LM"),
    "phi3": ("Phi3ForCausalLM", {}, "CAUSAL_LM"),
    "distilbert": ("DistilBertForSequenceClassification", {"n_layers": 2, "n_heads": 4, "dim": 64, "hidden_dim": 96, "seq_classif_dropout": 0.0}, "SEQ_CLS"),
}
PAD = tokenizers_.small()(" fox")["input_ids"][0]

METHODS = {
    "full": None,
    "lora": lambda words, other: (LoraConfig, {"r": 4, "target_modules": [words, other]}),
    "dora": lambda words, other: (LoraConfig, {"r": 4, "use_dora": True, "target_modules": [words, other]}),
    "lora-tokens": lambda words, other: (LoraConfig, {"r": 4, "target_modules": [other], "trainable_token_indices": {words: [PAD, 330]}}),
    "lora-saved": lambda words, other: (LoraConfig, {"r": 4, "target_modules": [other], "modules_to_save": [words]}),
    "hira": lambda words, other: (HiraConfig, {"r": 4, "target_modules": [words, other]}),
    "oft": lambda words, other: (OFTConfig, {"oft_block_size": 8, "target_modules": [words, other]}),
    "tokens": lambda words, other: (TrainableTokensConfig, {"token_indices": [PAD, 330], "target_modules": [words]}),
}
#: What PEFT cannot: save such tokens of a tied head, load OFT on Conv1D; its HiRA forgets the scale of Gemma's embeddings, in training though not in merging.
NOT_PEFT = [("lora-tokens", "gemma3"), ("lora-tokens", "gpt2"), ("oft", "gpt2"), ("hira", "gemma3")]
CASES = [("full", m) for m in WORDS] + [(method, m) for method in METHODS if method != "full" for m in ("llama", "llama-untied", "gemma3", "bert", "gpt2")
                                        if (method, m) not in NOT_PEFT]


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    for name in WORDS:
        monkeypatch.setitem(MODELS, name, MORE.get(name) or MODELS[name])
        monkeypatch.setitem(methods.TASKS, name, MODELS[name][2])


@pytest.mark.parametrize("method, name", CASES)
def test_same_gradients(method, name, tmp_path):
    """Losses and gradient norms of a few steps where the padding's token is in every text."""
    cls, extra, task = MODELS[name]
    more = {"decoder_start_token_id": PAD} if task == "SEQ_2_SEQ_LM" else {"max_position_embeddings": 512} if name == "roberta" else {}
    MODELS[name] = cls, {**extra, "pad_token_id": PAD, **more}, task
    folder, out = tmp_path / "model", tmp_path / "out"
    build(name).save_pretrained(folder)
    tokenizers_.small().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"The fox {w} the fox, and a fox {w} it."}) + "\n" for w in methods.WORDS[:8]))
    data = methods.records(data, task)
    made = METHODS[method] and METHODS[method](*WORDS[name])
    case = Case(*(made or (LoraConfig,)), model=name, noise=0.3)
    run = Run(steps=4, batch=2, lr=1e-3)
    start = ["--method", "full"]
    if made:
        start = ["--init-adapter", methods.started(case, folder, tmp_path / "start")]
        theirs = methods.load(case, folder, tmp_path / "start", trainable=True).eval()
    else:
        theirs = models.load(folder).requires_grad_(True)
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, *start, "--max-seq-len", 256, *run.arguments())
    other = methods.objective(case, tokenizer)
    rows = [json.loads(line) for line in data.read_text().splitlines()] if other else examples(data, tokenizer)
    reference = train(theirs, rows, tokenizer, run, objective=other)
    mine = peftkit.metrics(out)
    compare.relative("loss", [s["loss"] for s in mine], [s["loss"] for s in reference], 2e-5)
    compare.relative("grad_norm", [s["grad_norm"] for s in mine], [s["grad_norm"] for s in reference], 2e-4)
