"""Prompt tuning, prefix tuning, P-tuning, multitask prompts, context-aware prompts and LLaMA-Adapter against Hugging Face PEFT."""

import copy
import json
import zlib

import peft
import pytest
import torch
import transformers as tf
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from peers import bounds, compare, models, peftkit, tokenizers_
from peers.methods import pad, records
from test_training import texts

IDS = [[5, 77, 301, 12, 250, 33, 8], [9], [int(x) for x in range(40, 75)]]

#: name -> (class of transformers, what differs from the plain configuration, PEFT's task)
MODELS = {
    "llama": ("LlamaForCausalLM", {}, "CAUSAL_LM"),
    "llama-bias": ("LlamaForCausalLM", {"attention_bias": True}, "CAUSAL_LM"),
    "mistral": ("MistralForCausalLM", {"sliding_window": None}, "CAUSAL_LM"),
    "mistral-window": ("MistralForCausalLM", {"sliding_window": 6}, "CAUSAL_LM"),
    "qwen2": ("Qwen2ForCausalLM", {}, "CAUSAL_LM"),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 32}, "CAUSAL_LM"),
    "gemma": ("GemmaForCausalLM", {"head_dim": 32, "pad_token_id": 0}, "CAUSAL_LM"),
    "gemma2": ("Gemma2ForCausalLM", {"head_dim": 32, "pad_token_id": 0, "query_pre_attn_scalar": 32, "sliding_window": 64}, "CAUSAL_LM"),
    "gemma3": ("Gemma3ForCausalLM", {"head_dim": 32, "pad_token_id": 0, "query_pre_attn_scalar": 32, "sliding_window": 64}, "CAUSAL_LM"),
    "gpt2": ("GPT2LMHeadModel", {}, "CAUSAL_LM"),
    "bert": ("BertForSequenceClassification", {}, "SEQ_CLS"),
    "bert-tokens": ("BertForTokenClassification", {}, "TOKEN_CLS"),
    "roberta": ("RobertaForSequenceClassification", {}, "SEQ_CLS"),
    "roberta-tokens": ("RobertaForTokenClassification", {}, "TOKEN_CLS"),
    "llama-cls": ("LlamaForSequenceClassification", {}, "SEQ_CLS"),
    "bart": ("BartForConditionalGeneration", {}, "SEQ_2_SEQ_LM"),
    "bart-scaled": ("BartForConditionalGeneration", {"scale_embedding": True}, "SEQ_2_SEQ_LM"),
    "marian": ("MarianMTModel", {}, "SEQ_2_SEQ_LM"),
    # Rows before the text are left out here: PEFT embeds the text itself for them and forgets Marian's scale, so that
    # the text all but vanishes. peftkit keeps the scale.
    "marian-scaled": ("MarianMTModel", {"scale_embedding": True}, "SEQ_2_SEQ_LM"),
    "t5": ("T5ForConditionalGeneration", {}, "SEQ_2_SEQ_LM"),
    "t5-gated": ("T5ForConditionalGeneration", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, "SEQ_2_SEQ_LM"),
}
CAUSAL = [name for name, m in MODELS.items() if m[2] == "CAUSAL_LM"]
SEQ2SEQ = [name for name, m in MODELS.items() if m[2] == "SEQ_2_SEQ_LM"]
CLASSES = ["bert", "bert-tokens", "roberta"]
#: Models that other files build.
_DISTILBERT = {"n_layers": 2, "n_heads": 4, "dim": 64, "hidden_dim": 96}
MORE = {
    "llama-untied": ("LlamaForCausalLM", {"tie_word_embeddings": False}, "CAUSAL_LM"),
    "llama-tokens": ("LlamaForTokenClassification", {}, "TOKEN_CLS"),
    "phi3": ("Phi3ForCausalLM", {"pad_token_id": 0}, "CAUSAL_LM"),
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 4, "pad_token_id": 0}, "CAUSAL_LM"),
    "gpt2-tokens": ("GPT2ForTokenClassification", {}, "TOKEN_CLS"),
    "distilbert": ("DistilBertForSequenceClassification", {**_DISTILBERT, "seq_classif_dropout": 0.0}, "SEQ_CLS"),
    "distilbert-tokens": ("DistilBertForTokenClassification", _DISTILBERT, "TOKEN_CLS"),
    "t5-classifier": ("T5ForSequenceClassification", {}, "SEQ_CLS"),
    "bart-classifier": ("BartForSequenceClassification", {}, "SEQ_CLS"),
    "mbart": ("MBartForConditionalGeneration", {}, "SEQ_2_SEQ_LM"),
}
ALL = MODELS | MORE

#: name -> (configuration of PEFT, its keys)
KINDS = {
    "prompt": (peft.PromptTuningConfig, {}),
    "prefix": (peft.PrefixTuningConfig, {}),
    "prefix-projection": (peft.PrefixTuningConfig, {"prefix_projection": True, "encoder_hidden_size": 24}),
    "p-mlp": (peft.PromptEncoderConfig, {}),
    "p-lstm": (peft.PromptEncoderConfig, {"encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 20}),
    "multitask": (peft.MultitaskPromptTuningConfig, {"num_ranks": 2}),
    "cartridge": (peft.CartridgeConfig, {"num_frozen_tokens": 2}),
    "adaption": (peft.AdaptionPromptConfig, {"adapter_len": 5, "adapter_layers": 2}),
    "cpt": (peft.CPTConfig, {"cpt_token_ids": [7, 80, 31, 9, 120, 55], "cpt_tokens_type_mask": [1, 2, 4, 0, 6, 8], "cpt_mask": [1] * 6,
                             "opt_weighted_loss_type": "decay", "opt_loss_decay_factor": 0.5, "opt_projection_epsilon": 2.0, "opt_projection_format_epsilon": 0.5}),
}
TOKENS = 6
EMBEDDED = {"prompt", "p-mlp", "p-lstm", "multitask"}  # rows of their own before the text


def build(name, **changes):
    """A small model of ALL, changes in its configuration; every number follows from its name."""
    cls, extra, _ = ALL[name]
    cls, tokenizer = getattr(tf, cls), tokenizers_.small()
    plain = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
             "pad_token_id": tokenizer.pad_token_id, "num_labels": 3}
    kind = cls.config_class.model_type
    if kind == "gpt2":
        plain |= {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
    elif kind in ("bart", "marian"):
        plain |= {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
                  "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": 128, "decoder_start_token_id": 2}
    elif kind == "t5":
        plain |= {"d_model": 64, "d_kv": 16, "num_heads": 4, "num_layers": 2, "d_ff": 96, "decoder_start_token_id": 0,
                  "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}
    else:
        plain |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
        if "LM" in cls.__name__ or "llama" in name:
            plain["num_key_value_heads"] = 2
            plain["pad_token_id"] = None if cls.__name__.endswith("CausalLM") else tokenizer.pad_token_id
    none = {k: 0.0 for k in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "activation_dropout",
                             "classifier_dropout", "dropout_rate", "embd_pdrop", "attn_pdrop", "resid_pdrop")}
    model = cls(cls.config_class(**{**plain, **none, **extra, **changes})).eval()
    fixed = {k: v.clone() for k, v in model.state_dict().items() if kind == "marian" and "embed_positions" in k}
    models.fill(model, scale=1.2)
    model.load_state_dict(fixed, strict=False)
    if "Gemma" in cls.__name__:
        with torch.no_grad():
            for key, p in model.named_parameters():
                if p.dim() == 1:
                    p.sub_(1)
    model.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """made(name) is the folder of a model and a function that gives a fresh copy of it."""
    have = {}

    def get(name):
        if name not in have:
            folder = tmp_path_factory.mktemp("prompts") / name
            model = build(name)
            model.save_pretrained(folder)
            tokenizers_.small().save_pretrained(folder)
            have[name] = folder, model
        folder, model = have[name]
        return folder, lambda: copy.deepcopy(model)

    return get


def tuned(model, kind, task, filled=True, **more):
    """A PEFT model with a fresh prompt, its numbers seeded by their names; as PEFT begins it unless filled."""
    cls, keys = KINDS[kind]
    config = cls(task_type=task, **({} if kind == "adaption" else {"num_virtual_tokens": TOKENS}), **{**keys, **more})
    torch.manual_seed(0)
    got = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, p in got.named_parameters():
            if p.requires_grad and filled:
                noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
                if "modules_to_save" in name or "mlp_head" in name or "transform" in name or "lstm" in name:
                    p.add_(0.05 * noise)
                elif "prefix_task" in name:
                    p.copy_(noise)
                else:
                    p.copy_(0.7 * noise)
    return got.eval()


@torch.no_grad()
def reference(got, kind, task, ids):
    """PEFT's logits without those of the prompt's rows."""
    x = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))}
    if kind == "multitask":
        x["task_ids"] = torch.tensor([0])
    if task == "SEQ_2_SEQ_LM":
        x["decoder_input_ids"] = torch.tensor([target(ids)])
        if kind == "multitask":  # PEFT embeds what it is given only when labels made it
            x["decoder_inputs_embeds"] = got.word_embeddings(x.pop("decoder_input_ids"))
        return got(**x).logits[0][-len(target(ids)):].numpy()
    out = got(**x).logits
    return out.numpy() if task == "SEQ_CLS" else out[0][-len(ids):].numpy()


def target(ids):
    return [2] + ids[:5][::-1]


def ours(folder, task, ids, adapter):
    if task != "SEQ_2_SEQ_LM":
        return peftkit.logits(folder, ids, adapter)
    words = lambda v: ",".join(map(str, v))
    out = adapter / "logits.safetensors"
    peftkit.run("logits", "-m", folder, "--lora", adapter, "--source-ids", words(ids), "--decoder-ids", words(target(ids)), "-o", out)
    return load_file(out)["logits"].numpy()


def load(model, folder):
    """PEFT with the adapter of a folder, every tensor of it used: PEFT's own file of what it holds must be the same one."""
    got = peft.PeftModel.from_pretrained(model, folder).eval()
    file = load_file(folder / "adapter_model.safetensors")
    compare.tensors(str(folder), {k: v.detach().clone() for k, v in get_peft_model_state_dict(got, save_embedding_layers=False).items()}, file, atol=0)
    return got


def pairs():
    for kind in KINDS:
        for name in CAUSAL + SEQ2SEQ + CLASSES:
            if kind == "adaption" and name not in ("llama", "llama-bias", "mistral", "mistral-window", "gpt2"):
                continue  # PEFT has no other
            if kind == "cpt" and name not in CAUSAL:
                continue
            if name == "marian-scaled" and kind in EMBEDDED:
                continue
            if kind == "p-lstm" and name not in ("llama", "bert", "bart"):
                continue
            if kind in ("prefix-projection", "cartridge") and name not in ("llama", "gpt2", "bert", "bart", "t5"):
                continue
            yield pytest.param(kind, name, id=f"{kind}-{name}")


@pytest.mark.parametrize("kind, name", pairs())
def test_peftkit_reads_peft(made, tmp_path, kind, name):
    """The same logits from PEFT's file, and the file is no different after peftkit has read and written it."""
    folder, base = made(name)
    task = MODELS[name][2]
    got = tuned(base(), kind, task)
    got.save_pretrained(tmp_path)
    got = load(base(), tmp_path)
    plain = base()
    with torch.no_grad():
        x = {"decoder_input_ids": torch.tensor([target(IDS[0])])} if task == "SEQ_2_SEQ_LM" else {}
        untouched = plain(torch.tensor([IDS[0]]), **x).logits[0].numpy()
    assert abs(reference(got, kind, task, IDS[0])[-1] - untouched[-1]).max() > 1e-2, "the adapter changes nothing: the test would prove little"
    for ids in IDS:
        compare.close(f"{kind} on {name}", ours(folder, task, ids, tmp_path), reference(got, kind, task, ids), bounds.TWICE)


METHOD = {"prompt": ["prompt-tuning"], "prefix": ["prefix-tuning", "--prefix-projection", "false"], "prefix-projection": ["prefix-tuning", "--prefix-projection", "true"],
          "p-mlp": ["p-tuning"], "p-lstm": ["p-tuning", "--prompt-encoder", "LSTM"], "multitask": ["multitask-prompt-tuning"],
          "cartridge": ["cartridge", "--set", "num_frozen_tokens=2"], "adaption": ["adaption-prompt", "--adapter-len", "5", "--adapter-layers", "2"],
          "cpt": ["cpt"]}


@pytest.mark.parametrize("kind, name", pairs())
def test_peft_reads_peftkit(made, tmp_path, kind, name):
    """What peftkit trains, PEFT loads: no missing key, no unexpected key, the same logits."""
    folder, base = made(name)
    task = MODELS[name][2]
    out = tmp_path / "out"
    size = [] if kind == "adaption" else ["--virtual-tokens", TOKENS]
    peftkit.run("train", "-m", folder, "-d", records(texts(tmp_path / "data.jsonl"), task), "-o", out, "--max-steps", 3, "--lr", 0.05,
                "--max-seq-len", 64, "--method", METHOD[kind][0], *METHOD[kind][1:], *size)
    got = load(base(), out)
    for ids in IDS:
        compare.close(f"{kind} on {name}", ours(folder, task, ids, out), reference(got, kind, task, ids), bounds.TWICE)


LEARN = [(k, n) for k in KINDS for n in ("llama", "gpt2", "bert", "bart", "t5") if k not in ("adaption", "cpt") or n in ("llama", "gpt2")] + [("cpt", "gemma2")]

HEAD_RATE = {"prompt": 0.1, "multitask": 0.01}  # of a prompt's own rate, that peftkit trains the head beside it with


@pytest.mark.parametrize("kind, name", LEARN)
def test_same_losses(made, tmp_path, kind, name):
    """Ten steps from the same adapter on the same batches: loss, learning rate and gradient norm."""
    folder, base = made(name)
    task = MODELS[name][2]
    got = tuned(base(), kind, task, filled=kind != "cpt").train()  # CPT measures changes from where it began, and its file has their sum
    start, out = tmp_path / "start", tmp_path / "out"
    got.save_pretrained(start)
    with_encoder(got, start)
    data = records(texts(tmp_path / "data.jsonl"), task)
    lr = 1e-3 if kind.startswith("p-") else 1e-2  # the networks magnify rounding at 1e-2
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--init-adapter", start, "--max-seq-len", 64, "--max-steps", 10, "--batch-size", 2,
                "--grad-accum", 1, "--lr", lr, "--schedule", "constant", "--warmup", 0, "--weight-decay", 0, "--clip", 1, "--save-steps", 0,
                "--no-shuffle", "--no-packing")
    told = train(got, kind, task, data, lr)
    mine = peftkit.metrics(out)
    compare.relative("loss", [s["loss"] for s in mine], [s["loss"] for s in told], bounds.LOSS)
    compare.relative("grad_norm", [s["grad_norm"] for s in mine], [s["grad_norm"] for s in told], bounds.GRADIENT)
    assert told[-1]["loss"] != told[0]["loss"]
    compare.close("logits after training", ours(folder, task, IDS[0], out), reference(got.eval(), kind, task, IDS[0]), bounds.TRAINED)


def with_encoder(got, folder):
    """Adds the network of a prompt encoder to a file, as peftkit reads it to train on: PEFT's file holds its output alone."""
    if not hasattr(got, "prompt_encoder"):
        return
    state = {k: v for k, v in got.prompt_encoder["default"].state_dict().items() if not k.startswith("prefix_task")}
    if set(state) in ({"embedding.weight"}, {"frozen_embedding", "trainable_embedding"}, {"embedding.weight", "delta_embedding.weight"}):
        return
    file = load_file(folder / "adapter_model.safetensors")
    save_file(file | {f"prompt_encoder.{k}": v.contiguous() for k, v in state.items()}, folder / "adapter_model.safetensors", {"format": "pt"})


def loss_of(got, kind, task, lines):
    """PEFT's mean loss of a few records; the last row of a prompt predicts the first token of a text."""
    tokenizer = tokenizers_.small()
    words = lambda key: [tokenizer(line[key])["input_ids"] for line in lines]
    x = {"task_ids": torch.zeros(len(lines), dtype=torch.long)} if kind == "multitask" else {}
    own = words("source" if task == "SEQ_2_SEQ_LM" else "text")
    if task == "CAUSAL_LM":
        own = [r + [tokenizer.eos_token_id] for r in own]
    x |= {"input_ids": pad(own), "attention_mask": pad([[1] * len(r) for r in own])}
    if task == "SEQ_CLS":
        return torch.nn.functional.cross_entropy(got(**x).logits, torch.tensor([int(line["label"]) for line in lines]))
    if task == "SEQ_2_SEQ_LM":
        begin = got.config.decoder_start_token_id
        labels = words("target")  # as the tokenizer writes them, which has no end to add
        inputs = pad([[begin] + r[:-1] for r in labels])
        labels = pad(labels, -100)
        if kind == "multitask":
            x["decoder_inputs_embeds"] = got.word_embeddings(inputs)
        else:
            x["decoder_input_ids"] = inputs
        scores = got(**x).logits[:, -labels.shape[1]:]
    else:
        labels = x["input_ids"].masked_fill(x["attention_mask"] == 0, -100)
        if kind == "cpt":
            return got(**x, labels=labels).loss
        scores = got(**x).logits.float()
        if kind in EMBEDDED:
            scores = scores[:, TOKENS - 1:-1]
        else:
            scores, labels = scores[:, :-1], labels[:, 1:]
    return torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-100)


def train(got, kind, task, path, lr):
    """transformers, PEFT and torch.optim, step by step."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    trained = [p for p in got.parameters() if p.requires_grad]
    head = {id(p) for n, p in got.named_parameters() if "modules_to_save" in n}
    groups = [{"params": [p for p in trained if id(p) in head], "lr": lr * HEAD_RATE.get(kind, 1)},
              {"params": [p for p in trained if id(p) not in head]}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
    told = []
    for step in range(10):
        loss = loss_of(got, kind, task, [lines[(2 * step + i) % len(lines)] for i in range(2)])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        told.append({"loss": loss.item(), "grad_norm": float(norm)})
        optimizer.step()
        optimizer.zero_grad()
    return told


@pytest.mark.parametrize("kind, name", [(k, n) for k in KINDS for n in ("llama", "gpt2") if k not in ("p-lstm", "prefix-projection")])
def test_generate(made, tmp_path, kind, name):
    """Greedy texts with a cache equal those of logits computed anew for every token, and PEFT's."""
    folder, base = made(name)
    got = tuned(base(), kind, "CAUSAL_LM")
    got.save_pretrained(tmp_path)
    tokenizer = tokenizers_.small()
    prompt, n = "The quick brown fox", 12
    ids = tokenizer(prompt)["input_ids"]
    wrote, _ = peftkit.greedy(folder, prompt, n, tmp_path)
    anew = []
    for _ in wrote:
        anew.append(int(reference(got, kind, "CAUSAL_LM", ids + anew)[-1].argmax()))
    compare.same("PEFT without a cache", wrote, anew)


def test_text_start(made, tmp_path):
    """A prompt that begins from a text begins as PEFT's does."""
    folder, base = made("llama")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=9, prompt_tuning_init="TEXT",
                                     prompt_tuning_init_text="Reverse the words:", tokenizer_name_or_path=str(folder))
    got = peft.get_peft_model(base(), config)
    out = tmp_path / "out"
    peftkit.run("train", "-m", folder, "-d", texts(tmp_path / "data.jsonl"), "-o", out, "--max-steps", 1, "--lr", 1e-9, "--method", "prompt-tuning",
                "--virtual-tokens", 9, "--prompt-text", "Reverse the words:")
    mine = load_file(out / "adapter_model.safetensors")["prompt_embeddings"]
    compare.close("embeddings", mine, got.prompt_encoder["default"].embedding.weight.detach(), bounds.COPIED)
    load(base(), out)


def test_cartridge_start(made, tmp_path):
    """A cartridge that begins from a text has the keys and values that PEFT takes from it, and its first rows stay."""
    from peft.tuners.cartridge.utils import initialize_kv_prefix_from_text

    text = "The quick brown fox jumps over the lazy dog and 14 cats watch."
    for name in ("llama", "gpt2"):
        folder, base = made(name)
        got = peft.get_peft_model(base(), peft.CartridgeConfig(task_type="CAUSAL_LM", num_virtual_tokens=7))
        want = initialize_kv_prefix_from_text(got, tokenizers_.small(), text=text, use_chat_template=False)
        for rate in (1e-9, 1e-1):
            out = tmp_path / f"{name}-{rate}"
            peftkit.run("train", "-m", folder, "-d", texts(tmp_path / "data.jsonl"), "-o", out, "--max-steps", 1, "--lr", rate, "--schedule", "constant", "--warmup", 0,
                        "--method", "cartridge", "--virtual-tokens", 7, "--set", f"start_text={text}")
            mine = load_file(out / "adapter_model.safetensors")["prompt_embeddings"]
            compare.close("the first row", mine[:1], want[:1], bounds.FIRST)
            if rate < 1e-6:
                compare.close("the others", mine[1:], want[1:], bounds.FIRST)
            else:
                assert (mine[1:] - want[1:]).abs().max() > 0.05, "nothing was trained"
            load(base(), out)


@pytest.mark.parametrize("name", ("llama", "gpt2", "gemma2"))
def test_context_start(made, tmp_path, name):
    """A context made of the training data is PEFT's of the same tokens and types: its embeddings, its first loss."""
    folder, base = made(name)
    out, data = tmp_path / "out", texts(tmp_path / "data.jsonl")
    peftkit.run("train", "-m", folder, "-d", data, "-o", out, "--max-steps", 1, "--lr", 1e-12, "--batch-size", 2, "--grad-accum", 1, "--max-seq-len", 64,
                "--no-shuffle", "--no-packing", "--method", "cpt", "--virtual-tokens", 60)
    mine = json.loads((out / "adapter_config.json").read_text())
    keys = {k: v for k, v in mine.items() if k.startswith(("cpt_", "opt_"))}
    assert max(keys["cpt_tokens_type_mask"]) >= 8, "one example is too few to say anything"
    assert {v % 4 for v in keys["cpt_tokens_type_mask"]} == {0, 2}
    got = peft.get_peft_model(base(), peft.CPTConfig(task_type="CAUSAL_LM", **keys))
    compare.same("num_virtual_tokens", mine["num_virtual_tokens"], got.peft_config["default"].num_virtual_tokens)
    compare.close("embeddings", load_file(out / "adapter_model.safetensors")["prompt_embeddings"], got.get_prompt_embedding_to_save("default"), bounds.COPIED)
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    compare.relative("loss", [peftkit.metrics(out)[0]["loss"]], [loss_of(got, "cpt", "CAUSAL_LM", lines[:2]).item()], bounds.FIRST)
    load(base(), out)
