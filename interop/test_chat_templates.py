"""Chat templates: the text of transformers' apply_chat_template, and the answers to train in it.

The templates are those that trl and axolotl ship (setup.sh fetches them; PEFTKIT_TEMPLATES
names further folders), the records are random: 1 to 6 turns, with and without tools, thoughts,
documents and variables. What an answer is, is asked of transformers alone: what follows the
generation prompt of its turn in the text that ends with it.
"""

import json
import subprocess

import pytest

from peers import chats, where
from peers.chats import Record

PATHS = sorted((p for folder in where.TEMPLATES for p in folder.rglob("*.jinja")), key=str)

#: Of each of these families there must be a template.
FAMILIES = [
    "qwen2_5", "qwen3", "qwen3_5_think", "llama3", "llama3_1", "llama3_2", "mistral_v1", "mistral_v3_tekken", "mistral_v7_tekken", "gemma", "gemma3",
    "phi3", "phi_4", "deepseekv3", "deepseek_r1_distill", "gptoss", "glm4moe", "cohere", "command_a_tool_use", "exaone4", "lfm2", "nemotron_3_nano", "falcon_h1",
]
WILD, TAME = 30, 20

#: What ends a thought, in the templates whose prompts open or end one.
CLOSERS = ["</think>", "<channel|>", "<|END_THINKING|>", "[/THINK]"]


@pytest.fixture(scope="session")
def renderer(tmp_path_factory):
    """Asks interop/render: a list of questions, a list of answers."""
    binary = tmp_path_factory.mktemp("render") / "render"
    subprocess.run(["go", "build", "-o", binary, "./interop/render"], cwd=where.REPO, check=True)

    def ask(questions: list[dict]) -> list[dict]:
        done = subprocess.run([binary], input="\n".join(map(json.dumps, questions)).encode(), capture_output=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


def test_families():
    """Nothing is compared with nothing."""
    assert not set(FAMILIES) - {p.stem for p in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_text(path, renderer):
    """The text byte for byte, and the same records refused."""
    source = path.read_text(encoding="utf-8")
    questions, want = [], []
    for record in chats.records(WILD, seed=1) + chats.records(TAME, seed=2, wild=False):
        for prompt in (False, True):
            questions.append(record.ask(template=str(path), add_generation_prompt=prompt))
            try:
                want.append(chats.render(source, record, prompt))
            except Exception:
                want.append(None)
    for question, text, got in zip(questions, want, renderer(questions), strict=True):
        assert (None if got["error"] else got["text"]) == text, (got["error"], question)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: f"{p.parent.name}/{p.stem}")
@pytest.mark.parametrize("train_on", ["assistant", "last"])
def test_answers(path, train_on, renderer):
    """Each answer behind the prompt of its turn, from there to its last token, in no more sequences than needed."""
    source = path.read_text(encoding="utf-8")
    records = chats.records(TAME, seed=3, wild=False)
    said = [chats.turns(source, r, train_on == "last") for r in records]
    got = renderer([r.ask(template=str(path), train_on=train_on) for r in records])
    for record, turns, answer in zip(records, said, got, strict=True):
        if turns is None:
            continue
        if answer["error"] and any(t.answer is None for t in turns):
            assert "cannot tell what the model would have to write" in answer["error"], record
            continue
        assert not answer["error"], (answer["error"], record)
        spans = sorted((a for s in answer["sequences"] for a in s["answers"] or []), key=lambda a: a["message"])
        assert [a["message"] for a in spans] == [t.message for t in turns], record
        for turn, a in zip(turns, spans, strict=True):
            content = record.messages[turn.message].get("content")
            if turn.answer is not None:
                assert (a["before"], a["answer"]) == (turn.prompt, chats.end(turn.answer, content)), record
                continue
            # The template writes no answer behind its own prompt: the prompt stands, and the answer ends as the text does.
            thinking = Record(record.messages[: turn.message], record.tools, record.documents, {"enable_thinking": True, "thinking": True, **record.kwargs})
            assert a["before"] in (turn.prompt, chats.render(source, thinking, True)), record
            shown = a["answer"]
            for closer in CLOSERS:
                shown = shown.split(closer)[-1].lstrip()
            assert chats.end(turn.text, content).endswith(shown), (a["answer"], turn.text)
        whole = chats.render(source, record, False)
        if all(t.answer is not None and whole.startswith(t.prompt + chats.end(t.answer, record.messages[t.message].get("content"))) for t in turns):
            assert [s["text"] for s in answer["sequences"]] == [whole], record


USER, CALL = {"role": "user", "content": "Why?"}, {"type": "function", "id": "call00000", "function": {"name": "now", "arguments": {}}}
THOUGHT = {"role": "assistant", "content": "So.", "reasoning_content": "Hm."}
SAYS = {"role": "assistant", "content": "So."}

#: Templates that write no answer behind their own prompt, and what a model then has to write.
SEAMS = {
    "the prompt opens a thought that the text leaves out": ("trl/deepseek_r1_distill", [USER, SAYS], {}, [(0, "<think>\n", "\n</think>\n\nSo.<｜end▁of▁sentence｜>")]),
    "that thought is the record's": ("trl/deepseek_r1_distill", [USER, THOUGHT], {}, [(0, "<think>\n", "Hm.\n</think>\n\nSo.<｜end▁of▁sentence｜>")]),
    "the prompt ends a thought, and there is one": ("trl/qwen3_5_nothink", [USER, THOUGHT], {}, [(0, "assistant\n<think>\n", "Hm.\n</think>\n\nSo.<|im_end|>")]),
    "as it is told to": ("trl/qwen3_5_nothink", [USER, SAYS], {}, [(0, "<think>\n\n</think>\n\n", "So.<|im_end|>")]),
    "thoughts of the past are left out": (
        "trl/qwen3", [USER, THOUGHT, USER, THOUGHT], {},
        [(0, "assistant\n", "<think>\nHm.\n</think>\n\nSo.<|im_end|>"), (1, "assistant\nSo.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n", "<think>\nHm.\n</think>\n\nSo.<|im_end|>")],
    ),
    "no thought to think": ("trl/qwen3", [USER, SAYS], {"enable_thinking": False}, [(0, "<think>\n\n</think>\n\n", "So.<|im_end|>")]),
    "the system prompt stands in the last turn": (
        "axolotl/mistral_v3_tekken", [{"role": "system", "content": "Be."}, USER, SAYS], {}, [(0, "<s>[INST]Be.\n\nWhy?[/INST]", "So.</s>")],
    ),
    "the thought before a call is dropped once there is an answer": (
        "trl/gptoss", [USER, {"role": "assistant", "thinking": "Hm.", "tool_calls": [CALL]}, {"role": "tool", "content": "1"}, SAYS], {},
        [(0, "<|start|>assistant", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}<|call|>"),
         (0, 'Hm.<|end|><|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}<|call|><|start|>functions.now to=assistant<|channel|>commentary<|message|>"1"<|end|><|start|>assistant',
          "<|channel|>final<|message|>So.<|return|>")],
    ),
}


@pytest.mark.parametrize("name", SEAMS)
def test_seams(name, renderer):
    template, messages, kwargs, want = SEAMS[name]
    path = where.TEMPLATES[0] / f"{template}.jinja"
    (got,) = renderer([Record(messages, kwargs=kwargs).ask(template=str(path), train_on="assistant")])
    assert not got["error"]
    spans = [(n, a["before"], a["answer"]) for n, s in enumerate(got["sequences"]) for a in s["answers"]]
    assert [(n, a) for n, _, a in spans] == [(n, a) for n, _, a in want]
    for (_, before, _), (_, end, _) in zip(spans, want, strict=True):
        assert before.endswith(end)
