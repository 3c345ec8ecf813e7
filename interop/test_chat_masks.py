"""Chats as they are trained: tokens, labels and weights of `peftkit tokenize --mask`, from a file to the last token.

The oracle is transformers alone: the text of apply_chat_template, the answers in it as
peers/chats.py finds them, and the offsets of the fast tokenizer. Messages carry weights,
which a template never sees.
"""

import json
import random
import shutil

import pytest
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template

from peers import chats, peftkit, where
from peers.chats import Record

#: A template of each family, the records made for each, and how many of them transformers can tell at least.
TEMPLATES = [
    "trl/qwen2_5", "trl/qwen3", "trl/qwen3_5_think", "trl/llama3", "trl/llama3_1", "axolotl/mistral_v1", "axolotl/mistral_v7_tekken", "trl/gemma3",
    "trl/phi3", "axolotl/phi_4", "axolotl/deepseek_v3", "trl/gptoss", "trl/glm4moe", "axolotl/cohere", "axolotl/exaone4", "trl/lfm2_v2", "axolotl/falcon_h1",
]
#: How the arguments of the calls are written that a template takes; else as objects.
CALLS = {**dict.fromkeys(["trl/qwen2_5", "trl/qwen3", "axolotl/exaone4", "axolotl/falcon_h1"], {str, dict}), "trl/gptoss": {str}, "axolotl/deepseek_v3": set()}
RECORDS, LEAST = 40, 8


#: What messages say of themselves, and what they count then.
WEIGHTS = [({}, 1), ({}, 1), ({"weight": 1}, 1), ({"weight": 0}, 0), ({"weight": 0.5}, 0.5), ({"train": False}, 0)]


class Chat:
    """A record, half of the time with weights."""

    def __init__(self, record: Record, r: random.Random):
        choices = r.choice([WEIGHTS, WEIGHTS[:1]])
        said = [r.choice(choices) for _ in record.messages]
        self.record, self.weights = record, [w for _, w in said]
        self.messages = [{**m, **more} for m, (more, _) in zip(record.messages, said)]

    def line(self) -> str:
        out = {"messages": self.messages, "chat_template_kwargs": self.record.kwargs or None}
        if self.record.tools:
            out["tools"] = self.record.tools
        return json.dumps(out, ensure_ascii=False)


def tokenized(tok, text: str, spans: list[tuple[int, int, float]], fits) -> tuple[list, list, list]:
    """Tokens, labels and weights of a text; fits says whether a token is of a span."""
    enc = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, weights = enc["input_ids"], [0.0] * len(enc["input_ids"])
    for start, end, weight in spans:
        for i, at in enumerate(enc["offset_mapping"]):
            if fits(at, start, end):
                weights[i] = weight
    labels = [t if w and i else -100 for i, (t, w) in enumerate(zip(ids, weights))]
    return ids, labels, [w for w, t in zip(weights, labels) if t != -100]


def answered(source: str, chat: Chat, last: bool, tok) -> list[tuple] | None:
    """The sequences that teach a record's answers, as few as can be; None where transformers cannot tell them."""
    turns = chats.turns(source, chat.record, last, tok)
    if turns is None:
        return None
    turns = [t for t in turns if chat.weights[t.message]]
    if any(t.answer is None for t in turns):
        return None
    texts = [(chats.render(source, chat.record, False, tok), [])]
    for t in reversed(turns):
        answer = chats.end(t.answer, chat.record.messages[t.message].get("content"))
        until = t.prompt + answer
        spans = next((spans for text, spans in texts if text.startswith(until)), None)
        if spans is None:
            texts.append((t.text, spans := []))
        spans.append((len(t.prompt), len(until), chat.weights[t.message]))
    # A token that spans the border of an answer belongs to it.
    said = [tokenized(tok, text, spans, lambda at, start, end: at[1] > start and at[0] < end) for text, spans in reversed(texts)]
    return [s for s in said if s[2]]


def head(source: str, r: Record, text: str, tok) -> str:
    """What a template writes before the first message: apply_chat_template wants one, the template may not."""
    try:
        empty = _compile_jinja_template(source).render(messages=[], tools=r.tools, documents=None, add_generation_prompt=False, **{**tok.special_tokens_map, **r.kwargs})
    except Exception:
        return ""
    return empty if text.startswith(empty) else ""


def everything(source: str, chat: Chat, tok) -> list[tuple] | None:
    """The whole text, but for what messages say of themselves."""
    try:
        whole = chats.render(source, chat.record, False, tok)
        spans = [(0, len(whole), 1.0)]
        for i, weight in enumerate(chat.weights):
            if weight == 1:
                continue
            until = chats.render(source, chat.record.up_to(i + 1), False, tok)
            before = chats.render(source, chat.record.up_to(i), False, tok) if i else head(source, chat.record, until, tok)
            if not (until.startswith(before) and whole.startswith(until)):
                return None
            spans.append((len(before), len(until), weight))
    except Exception:
        return None
    said = tokenized(tok, whole, spans, lambda at, start, end: start < at[1] <= end)
    return [said] if said[2] else []


def shown(source: str, record: Record, tok) -> bool:
    """Whether a template has a place for all that a record holds; peftkit refuses the others."""
    calls = record.tools or any("tool_calls" in m for m in record.messages)
    if calls and ("tool_calls" not in source or "tools" not in source):
        return False
    try:
        text = chats.render(source, record, False, tok)
    except Exception:
        return False
    return all(m["content"].strip() in text for m in record.messages if m["role"] != "assistant")


def kinds(made: list[Chat]) -> set[type]:
    """How the arguments of calls are written."""
    return {type(call["function"]["arguments"]) for c in made for m in c.messages for call in m.get("tool_calls", [])}


@pytest.fixture(scope="module")
def tok(smollm2):
    return AutoTokenizer.from_pretrained(smollm2, local_files_only=True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_masks(name, tok, tmp_path):
    path = where.TEMPLATES[0] / f"{name}.jinja"
    source, r = path.read_text(encoding="utf-8"), random.Random(7)
    made = [Chat(record, r) for record in chats.records(RECORDS, seed=11, wild=False)]
    made = [c for c in made if shown(source, c.record, tok)]
    for train_on in ["assistant", "last", "all"]:
        want = []
        for chat in made:
            said = everything(source, chat, tok) if train_on == "all" else answered(source, chat, train_on == "last", tok)
            if said is not None:
                want.append((chat, said))
        assert sum(bool(said) for _, said in want) >= LEAST, train_on
        if "tool_calls" in source:
            assert kinds([chat for chat, _ in want]) >= CALLS.get(name, {dict})
        data = tmp_path / f"{train_on}.jsonl"
        data.write_text("".join(chat.line() + "\n" for chat, _ in want), encoding="utf-8")
        out = peftkit.run("tokenize", "-m", where.SMOLLM2, "-d", data, "--mask", "--json", "--chat-template", path, "--train-on", train_on)
        got = [[] for _ in want]
        for line in map(json.loads, out.splitlines()):
            weights = line.get("weights") or [1.0] * len(line["tokens"])
            got[line["line"] - 1].append((line["tokens"], line["labels"], [w for w, t in zip(weights, line["labels"]) if t != -100]))
        for (chat, said), lines in zip(want, got, strict=True):
            assert lines == said, (train_on, chat.line())


DEFAULT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
NAMED = {"default": DEFAULT, "tool_use": "tools: {{ tools | tojson }}\n" + DEFAULT, "rag": "Read.\n" + DEFAULT}


@pytest.fixture(scope="module", params=["files", "config", "gguf", "back"])
def named(request, small, tmp_path_factory):
    """A model with several chat templates: in files, in a list, in a GGUF, and in the folder made of that."""
    dir = tmp_path_factory.mktemp("named")
    folder = dir / "model"
    shutil.copytree(small("tied").folder, folder)
    tok = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tok.chat_template = NAMED
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tok.save_pretrained(folder, save_jinja_files=request.param != "config")
    assert (folder / "additional_chat_templates").exists() == (request.param != "config")
    for name in {"gguf": ["a.gguf"], "back": ["a.gguf", "back"]}.get(request.param, []):
        peftkit.run("convert", folder, "-o", dir / name, "-q", "f32")
        folder = dir / name
    return folder, tok


def test_named_templates(named, tmp_path):
    """Records with tools take the template that is named tool_use; any can be chosen by its name."""
    folder, tok = named
    if folder.name == "back":
        assert AutoTokenizer.from_pretrained(folder, local_files_only=True).chat_template == NAMED
    messages, data = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], tmp_path / "a.jsonl"
    lines = [{"messages": messages, "tools": None}, {"messages": messages, "tools": [chats.WEATHER]}]
    for chosen in (None, "rag", "default"):
        said = lines[:1] if chosen else lines  # rag and default have no place for tools
        data.write_text("".join(json.dumps(line) + "\n" for line in said), encoding="utf-8")
        out = peftkit.run("tokenize", "-m", folder, "-d", data, "--mask", "--json", *(["--chat-template", chosen] if chosen else []))
        got = [json.loads(line)["tokens"] for line in out.splitlines()]
        assert got == [tok.apply_chat_template(messages, tools=line["tools"], chat_template=chosen, tokenize=True, return_dict=False) for line in said]


def test_named_templates_copied(small, tmp_path):
    """A folder converted to another has the templates of the first."""
    folder = tmp_path / "model"
    shutil.copytree(small("tied").folder, folder)
    tok = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tok.chat_template = NAMED
    tok.save_pretrained(folder)
    for _ in range(2):  # into a new folder, and over it
        peftkit.run("convert", folder, "-o", tmp_path / "copy", "-q", "f32")
        assert AutoTokenizer.from_pretrained(tmp_path / "copy", local_files_only=True).chat_template == NAMED
