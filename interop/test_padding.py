"""The row of an embedding that PyTorch calls padding_idx: in training, looking it up gives it no gradient.

Llamas, BERTs, BARTs and Marians have one, GPT-2 and T5 do not. A text may hold it: SmolLM2 pads with the
token that ends every message, and Marian's decoders begin with it. Here it is a word of the texts.
"""

import json

import pytest
from peft import HiraConfig, LoraConfig, OFTConfig, TrainableTokensConfig
from transformers import AutoTokenizer

from peers import bounds, compare, methods, models, peftkit, tokenizers_
from peers.methods import Case
from peers.training import Run
from test_methods_prompt import ALL, build

pytestmark = pytest.mark.usefixtures("one_thread")

#: model -> its embedding, and a layer that a method may change beside it
WORDS = {"llama": ("embed_tokens", "q_proj"), "llama-untied": ("embed_tokens", "q_proj"), "gemma3": ("embed_tokens", "q_proj"), "phi3": ("embed_tokens", "qkv_proj"),
         "gpt2": ("wte", "c_attn"), "bert": ("word_embeddings", "query"), "distilbert": ("word_embeddings", "q_lin"), "roberta": ("word_embeddings", "query"),
         "t5": ("shared", "q"), "bart": ("shared", "q_proj"), "marian": ("shared", "q_proj")}
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


@pytest.mark.parametrize("method, name", CASES)
def test_same_gradients(method, name, tmp_path):
    """Losses and gradient norms of a few steps where the padding's token is in every text."""
    task = ALL[name][2]
    more = {"decoder_start_token_id": PAD} if task == "SEQ_2_SEQ_LM" else {"max_position_embeddings": 512} if name == "roberta" else {}
    folder, out = tmp_path / "model", tmp_path / "out"
    build(name, pad_token_id=PAD, **more).save_pretrained(folder)
    tokenizers_.small().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"The fox {w} the fox, and a fox {w} it."}) + "\n" for w in methods.WORDS[:8]))
    data = methods.records(data, task)
    made = METHODS[method] and METHODS[method](*WORDS[name])
    case = Case(*(made or (LoraConfig,)), model=name, task_type=task, noise=0.3)
    run = Run(steps=4, batch=2, lr=1e-3)
    start = ["--method", "full"]
    if made:
        start = ["--init-adapter", methods.started(case, folder, tmp_path / "start")]
        theirs = methods.load(case, folder, tmp_path / "start", trainable=True).eval()
    else:
        theirs = models.load(folder)
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, *start, "--max-seq-len", 256, *run.arguments())
    reference = methods.reference(case, theirs, data, tokenizer, run)
    mine = peftkit.metrics(out)
    compare.relative("loss", [s["loss"] for s in mine], [s["loss"] for s in reference], bounds.PADDED)
    compare.relative("grad_norm", [s["grad_norm"] for s in mine], [s["grad_norm"] for s in reference], bounds.PADDED_GRADIENT)
