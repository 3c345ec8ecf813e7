"""Conversations of every shape that chat templates tell apart, and transformers' text of them."""

import functools
import json
import random
from dataclasses import dataclass, field

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

BOS, EOS = "<s>", "</s>"

TEXTS = [
    "Hi", "What is 2+2?", "  padded  ", "two\nlines\n\nand a gap", "He said \"it's\" <b>&amp;</b> \\n \\ /", "你好 ☃ 🚀 été", "\ttab\r\n", "x" * 40,
    "{{ messages }} {% if x %} {# c #}", "a. b, c; d: e - f", "\n\nleading and trailing\n\n", "[1, 2, {\"k\": null}]", "é", "1", "<|im_end|> </s> [INST]",
]
ANSWERS = ["4", "  padded too \n", "Line one.\n\nLine two.\n", "\"quoted\" 'twice' <i>&</i>", "🚀 d'accord", "```json\n{\"a\": 1}\n```", "Ok.", "a\\b"]
THOUGHTS = ["Simple.", "\nFirst this.\nThen that.\n", "hm… \"why\"?", "One.\n\nTwo."]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather", "description": "The weather of a city, \"now\" & later.\nTwo lines.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name, e.g. Zürich"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "minimum": 1, "maximum": 18446744073709551615, "default": 3},
            },
            "required": ["city"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search", "description": "Looks for 'things'.",
        "parameters": {
            "type": "object",
            "properties": {
                "zeta": {"type": ["string", "null"], "description": "null for all"},
                "alpha": {"type": "array", "items": {"type": "number"}, "description": "bounds", "nullable": True},
                "where": {"type": "object", "properties": {"x": {"type": "number", "default": 1.5}, "ok": {"type": "boolean"}}, "required": ["x"]},
                "kind": {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "either"},
            },
            "required": ["zeta", "alpha"], "additionalProperties": False,
        },
        "return": {"type": "array", "items": {"type": "string"}, "description": "the hits"},
    },
}
NOTHING = {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}}

CALLS = [
    ("get_weather", {"city": "Zürich", "days": 2}), ("get_weather", {"city": "it's \"here\"\n", "unit": "celsius"}),
    ("search", {"zeta": None, "alpha": [1, 2.0, 1e-7, 1e20], "where": {"x": 0.1, "ok": False}}), ("search", {"zeta": "<b>&</b>", "alpha": []}), ("now", {}),
]
RESULTS = ["21 °C", "{\"temp\": 21.5, \"sky\": \"clear\"}", "", "[\"a\", \"b\"]\n", "error: 'none'"]
DOCUMENTS = [{"title": "One", "text": "First text.\nMore."}, {"title": "Zwei", "text": "\"Second\" text ☃"}]
KWARGS = [
    {"enable_thinking": False}, {"enable_thinking": True}, {"thinking": True}, {"thinking": False}, {"preserve_thinking": True},
    {"reasoning_effort": "high"}, {"reasoning_effort": "low"}, {"date_string": "1 Jan 2026"}, {"add_vision_id": True}, {"clear_thinking": False},
    {"truncate_history_thinking": False}, {"thinking_budget": 512}, {"custom_instructions": "Be \"kind\"."}, {"tools_in_user_message": False},
    {"xml_tools": ["a"], "python_tools": ["b"]}, {"controls": {"length": "short"}}, {"bos_token": "<BOS>"}, {"keep_past_thinking": True},
    {"documents_": 1, "model_identity": "I am a model.", "builtin_tools": ["browser", "python"]}, {"drop_thinking": False}, {"thinking_mode": "chat"},
    {"enable_citations": True, "safety_mode": "STRICT"}, {"response_format": {"type": "json_object"}}, {"skip_think": False}, {"add_thoughts": True},
]


@dataclass
class Record:
    """A conversation and what else a template is given."""

    messages: list
    tools: list | None = None
    documents: list | None = None
    kwargs: dict = field(default_factory=dict)

    def up_to(self, n: int) -> "Record":
        return Record(self.messages[:n], self.tools, self.documents, self.kwargs)

    def ask(self, **more) -> dict:
        """The record as interop/render reads it."""
        out = {"messages": self.messages, "kwargs": self.kwargs, "bos": BOS, "eos": EOS, **more}
        if self.tools is not None:
            out["tools"] = self.tools
        if self.documents is not None:
            out["documents"] = self.documents
        return out


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer for its special tokens' sake."""
    tok = Tokenizer(models.WordLevel({BOS: 0, EOS: 1}, unk_token=EOS))
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=BOS, eos_token=EOS)


def render(template: str, r: Record, prompt: bool) -> str:
    return tokenizer().apply_chat_template(
        r.messages, tools=r.tools, documents=r.documents, chat_template=template, add_generation_prompt=prompt, tokenize=False, **r.kwargs)


def random_record(r: random.Random, wild: bool = True) -> Record:
    """A conversation of 1 to 6 turns; tame ones are what a data set to train on holds."""
    messages, calls_made = [], 0
    tools = r.choice([None, None, [WEATHER], [WEATHER, SEARCH, NOTHING]])
    reasons = r.choice(["", "", "reasoning_content", "thinking", "inline"])
    as_string = r.random() < 0.3
    if r.random() < 0.5:
        messages.append({"role": "system", "content": r.choice(TEXTS)})
    turns = r.randint(1, 6)
    for turn in range(turns):
        messages.append({"role": "user", "content": r.choice(TEXTS)})
        if turn == turns - 1 and wild and r.random() < 0.3:
            break

        def answer(content):
            m = {"role": "assistant", "content": content}
            if reasons and r.random() < 0.7:
                thought = r.choice(THOUGHTS)
                if reasons == "inline":
                    m["content"] = f"<think>\n{thought}\n</think>\n\n{content or ''}"
                else:
                    m[reasons] = thought
            return m

        while tools and r.random() < 0.5:
            m = answer(r.choice([None, "", "Let me see.", "missing"]))
            m["tool_calls"] = []
            for _ in range(r.choice([1, 1, 2])):
                name, arguments = r.choice(CALLS)
                if as_string:
                    arguments = json.dumps(arguments, ensure_ascii=False)
                call = {"type": "function", "id": f"call{calls_made:05d}", "function": {"name": name, "arguments": arguments}}
                if wild and r.random() < 0.1:
                    call = r.choice([call["function"], {"function": call["function"]}])
                m["tool_calls"].append(call)
                calls_made += 1
            if m["content"] == "missing":
                del m["content"]
            messages.append(m)
            for call in m["tool_calls"]:
                result = {"role": "tool", "content": r.choice(RESULTS)}
                if "id" in call and r.random() < 0.8:
                    result["tool_call_id"] = call["id"]
                if r.random() < 0.5:
                    result["name"] = call.get("function", call)["name"]
                messages.append(result)
        content = r.choice(ANSWERS + [""] * wild)
        if wild and r.random() < 0.05:
            content = [{"type": "text", "text": content}, {"type": "text", "text": "more"}]
        messages.append(answer(content))
    if wild:
        if r.random() < 0.1:
            messages.insert(r.randrange(len(messages) + 1), {"role": r.choice(["developer", "system", "assistant", "tool"]), "content": r.choice(TEXTS)})
        if r.random() < 0.1:
            m = r.choice(messages)
            m.update(r.choice([{"tool_calls": []}, {"tool_calls": None}, {"reasoning_content": ""}, {"name": "anna"}, {"extra": [1, 2.5, True, None]}, {"train": False}]))
        if r.random() < 0.05:
            m = r.choice(messages)
            if isinstance(m.get("content"), str):
                m["content"] = [{"type": "text", "text": m["content"]}]
    documents = DOCUMENTS if wild and r.random() < 0.1 else None
    kwargs = r.choice(KWARGS) if r.random() < 0.4 else {}
    return Record(messages, tools, documents, kwargs)


def records(count: int, seed: int, wild: bool = True) -> list[Record]:
    r = random.Random(seed)
    return [random_record(r, wild) for _ in range(count)]


@dataclass
class Turn:
    """What transformers says of an answer: the prompt of its turn, the text with it, and the answer where the text goes on from the prompt."""

    message: int
    prompt: str
    text: str

    @property
    def answer(self) -> str | None:
        return self.text[len(self.prompt):] if self.text.startswith(self.prompt) else None


def turns(template: str, r: Record, last: bool) -> list[Turn] | None:
    """The answers of a record, or its last one; None where the template refuses the record at one of them."""
    answers = [i for i, m in enumerate(r.messages) if m["role"] == "assistant"]
    try:
        render(template, r, False)
        return [Turn(i, render(template, r.up_to(i), True), render(template, r.up_to(i + 1), False)) for i in (answers[-1:] if last else answers)]
    except Exception:
        return None


def end(answer: str, content: str | None) -> str:
    """An answer up to its last token: without the white space that a template writes between turns."""
    return answer if content and answer.endswith(content) else answer.rstrip(" \t\r\n")
