"""Writes golden.json: what transformers makes of chats, completions and texts.

Run with transformers 5.23 and a folder with SmolLM-Instruct's tokenizer:
    python golden.py FOLDER > golden.json
"""
import json
import sys

from transformers import AutoTokenizer

tok = AutoTokenizer.from_pretrained(sys.argv[1])
START, END = "<|im_start|>assistant\n", "<|im_end|>"
chats = [
    [("user", "What is 2 + 2?"), ("assistant", "4")],
    [("system", "Be brief."), ("user", "Hi  there!"), ("assistant", " Hello,\nfriend. "), ("user", "日本語で?"), ("assistant", "こんにちは 👋")],
    [("user", "x"), ("assistant", "\n\nnew lines first"), ("user", "def f(a):\n    return a"), ("assistant", "    indented\n\n")],
]
completions = [
    ("Translate to French: cheese\n", "fromage"),
    ("Review: a gripping film\nSentiment:", " positive"),
    ("Review: a dull film\nSentiment: ", "negative"),
    ("", "only a completion"),
]
texts = ["Plain text, trained whole.", "Ein Satz mit Umlauten: äöü.\n\nTwo paragraphs."]
out = {"chats": [], "completions": [], "texts": []}

for c in chats:
    msgs = [{"role": r, "content": t} for r, t in c]
    text = tok.apply_chat_template(msgs, tokenize=False)
    enc = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    assert enc["input_ids"] == tok.apply_chat_template(msgs, tokenize=True, return_dict=True)["input_ids"]
    spans, at = [], 0
    while (at := text.find(START, at)) >= 0:
        at += len(START)
        spans.append((at, text.index(END, at) + len(END)))
    labels = [i if any(s < b and e > a for s, e in spans) else -100 for i, (a, b) in zip(enc["input_ids"], enc["offset_mapping"])]
    out["chats"].append({"messages": msgs, "tokens": enc["input_ids"], "labels": labels})

for prompt, completion in completions:  # as TRL tokenizes plain strings
    p = tok(prompt)["input_ids"]
    ids = tok(prompt + completion + tok.eos_token)["input_ids"]
    n = 0
    while n < len(p) and p[n] == ids[n]:
        n += 1
    out["completions"].append({"prompt": prompt, "completion": completion, "tokens": ids, "labels": [-100] * n + ids[n:]})

for text in texts:
    ids = tok(text + tok.eos_token)["input_ids"]
    out["texts"].append({"text": text, "tokens": ids, "labels": list(ids)})

for kind in out.values():
    for example in kind:
        example["labels"][0] = -100  # nothing precedes it
print(json.dumps(out, ensure_ascii=False))
