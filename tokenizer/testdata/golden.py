"""Write what Hugging Face's tokenizers library makes of texts, for hf_test.go.

    python golden.py FOLDER COUNT SEED > testdata/NAME.json

FOLDER holds tokenizer.json. Texts are a fixed list and COUNT random ones from
seed SEED; every expected value comes from tokenizers (version in the output).
"""
import json, random, sys
import tokenizers

FIXED = [
    "", " ", "  ", "   x", "\n", "\n\n", " \n", "\t\n x", "a\n\n\nb", "a \n b", "a  \r\n  b", "hello world", "Hello  World", "I'm don't WE'LL y'all'd've it's 's 'S",
    "O'\u017F", "'\u017fx", "1234567890", "3.14 1,000,000 v2", " 12 ab34cd", "\u0662\u0663 \u00bd \u2167", "x = y**2 + f(z)[0];  # comment",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u0645\u0631\u062d\u0628\u0627", "\U0001f680\U0001f999 \U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301 \u00e9 \ufb01 \u212b", "\u00a0nbsp\u00a0\u3000wide\u2003em",
    "a\u0300\u0301b", "\u0939\u093f\u0928\u094d\u0926\u0940", "\ud55c\uad6d\uc5b4", "\u0e44\u0e17\u0e22", "\x00\x01\x7f\x80\u0085", "\ufffd\ufeff\u200b", "\u2581\u2581x \u2581", "<s> a</s> <unk>b", "<|endoftext|>a<|im_start|>user\nhi<|im_end|>\n", "a <mask> b", "a  <mask>  b",
    "<|eot_id|><|begin_of_text|>", "https://example.org/a_b?c=d&e=%20f", "    def f():\n        return 1\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ab" * 50, "\u2581" * 9, " " * 37 + "x", "\u0130\u0131\u1e9e\u00df", "\U00010400\U0001d7d8\U00020000\U000e0100",
]
RANGES = [(0x20, 0x7e), (0x20, 0x7e), (0x61, 0x7a), (0x30, 0x39), (9, 13), (0x20, 0x20), (0xa0, 0x17f), (0x300, 0x36f), (0x400, 0x4ff), (0x5d0, 0x6ff),
          (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff), (0x2000, 0x206f), (0x2150, 0x218f), (0x3040, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3),
          (0xff00, 0xffef), (0x1f300, 0x1f6ff), (0x10000, 0x107ff)]


def text(r, words):
    out = []
    for _ in range(r.randint(1, 14)):
        k = r.random()
        if k < 0.45:
            lo, hi = r.choice(RANGES)
            out.append("".join(chr(r.randint(lo, hi)) for _ in range(r.randint(1, 8))))
        elif k < 0.6:
            out.append(r.choice([" ", "  ", "\n", "\n\n", "\t", " \n", "\r\n", "   \n  ", "'s", "'LL", "'", "...", "!?"]))
        elif k < 0.97:
            out.append(r.choice(words))
        else:
            out.append(r.choice(["<s>", "</s>", "<mask>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "<|eot_id|>"]))
    return "".join(out)


def main():
    folder, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    tok = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
    tok.no_truncation()
    tok.no_padding()
    r = random.Random(seed)
    words = [tok.decode([r.randrange(tok.get_vocab_size())]) or "the" for _ in range(500)] + ["the", " the", " of", " and", "Hello"] * 40
    cases = []
    for t in FIXED + [text(r, words) for _ in range(count)]:
        e = tok.encode(t, add_special_tokens=False)
        cases.append({"text": t, "ids": e.ids, "special": tok.encode(t).ids, "decoded": tok.decode(e.ids), "all": tok.decode(e.ids, skip_special_tokens=False)})
    for _ in range(count // 4):
        ids = [r.randrange(tok.get_vocab_size()) for _ in range(r.randint(1, 12))]
        cases.append({"random": ids, "decoded": tok.decode(ids), "all": tok.decode(ids, skip_special_tokens=False)})
    json.dump({"tokenizers": tokenizers.__version__, "folder": folder.rstrip("/").split("/")[-1], "seed": seed, "cases": cases}, sys.stdout, ensure_ascii=True)
    print()


main()
