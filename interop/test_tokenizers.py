"""Tokenizers: ids, types, pairs and text as Hugging Face's tokenizers gives them.

Real tokenizer.json files and small ones of every kind that peftkit reads, over
the texts that break tokenizers and over random ones.
"""

import json
import random
import subprocess

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from peers import tokenizers_, where

RANGES = [
    *[(0x20, 0x7E)] * 4, *[(0x61, 0x7A)] * 3, (0, 0x20), (0x7F, 0xA0), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F),
    (0x590, 0x6FF), (0x700, 0x8FF), (0x900, 0xDFF), (0xE00, 0xFFF), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F),
    (0x2070, 0x218F), (0x2190, 0x2BFF), (0x2E80, 0x30FF), (0x3100, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7A3),
    (0xE000, 0xFDFF), (0xFE00, 0xFFEF), (0x10000, 0x1FFFF), (0x20000, 0x2FA1F), (0x1D400, 0x1D7FF), (0x1F000, 0x1FAFF), (0xE0000, 0xE01EF),
]
BITS = [
    " ", "  ", "\n", "\r\n", "\t", " \n ", "'s", " n't", "...", "!?", "\u200d", "\ufe0f", "\u0301", "\u0300\u0301", "\u00ad", "\u3000", "\u00a0",
    "👩‍👩‍👧", "🇫🇷", "✊🏽", "ﬁ", "½", "™", "e\u0301", "ﬃ\u0308", "①\u0303", "\u06001", "ก็", "ำ", "<s>", "</s>", "<pad>", "[CLS]", "[SEP]", "[MASK]",
    "<mask>", "<unk>", "[UNK]", "<extra_id_0>", "▁", "##", "x" * 101, "\ufffd", "\x00", "don't", " do not", " .", " ,", "İ", "ẞ", "Σς", "\u0301" * 40,
]

WORDS = "the a of and to in hello world low lower new est ing ed token iz er un able straße größe été 东京 京 都 привет мир ? ! . , ' - 1 2 34".split()


def wordpiece(**options) -> Tokenizer:
    """A small WordPiece tokenizer; options are those of BertNormalizer, limit the longest word."""
    limit = options.pop("limit", 100)
    letters = sorted(set("".join(WORDS)) | set("abcdefghijklmnopqrstuvwxyzABCDE"))
    vocab = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters), *WORDS, *("##" + w for w in WORDS)])
    tok = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocab)}, unk_token="[UNK]", max_input_chars_per_word=limit))
    tok.normalizer = normalizers.BertNormalizer(**options)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece(cleanup=options.get("lowercase", True))
    tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tok.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tok


def unigram(normalizer=None, scheme="always", split=True, byte_fallback=False, white=False) -> Tokenizer:
    """A small Unigram tokenizer with scores that make it choose."""
    r = random.Random(5)
    pieces = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>"])
    if byte_fallback:
        pieces |= dict.fromkeys(f"<0x{b:02X}>" for b in range(256))
    pieces |= dict.fromkeys(["▁", *sorted(set("".join(WORDS))), *WORDS, *("▁" + w for w in WORDS)])
    tok = Tokenizer(models.Unigram([(p, 0.0 if p[0] == "<" else -r.choice([1.5, 2, 4, 4, 7.25, r.random() * 12])) for p in pieces], 3, byte_fallback))
    if normalizer:
        tok.normalizer = normalizer
    space = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space]) if white else space
    tok.decoder = decoders.Metaspace(prepend_scheme=scheme)
    if byte_fallback:
        tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(single="$A </s> <s>", pair="$A $B </s> <s>", special_tokens=[("</s>", 2), ("<s>", 0)])
    tok.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tok.add_tokens(["zebra"])
    return tok


def charsmap() -> normalizers.Normalizer:
    """SentencePiece's nmt_nfkc, as T5 brings it."""
    spec = json.loads(where.data("tokenizers", "t5", "tokenizer.json").read_text())["normalizer"]
    tok = {"version": "1.0", "normalizer": spec, "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
           "truncation": None, "padding": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    return Tokenizer.from_str(json.dumps(tok)).normalizer


N = normalizers
SMALL = {
    "bert-cased": lambda: wordpiece(lowercase=False),
    "bert-accents-kept": lambda: wordpiece(lowercase=True, strip_accents=False),
    "bert-cased-accents-off": lambda: wordpiece(lowercase=False, strip_accents=True, handle_chinese_chars=False),
    "bert-raw-short": lambda: wordpiece(clean_text=False, lowercase=False, limit=9),
    "unigram": unigram,
    "unigram-first": lambda: unigram(scheme="first"),
    "unigram-never": lambda: unigram(scheme="never", white=True),
    "unigram-whole": lambda: unigram(split=False),
    "unigram-bytes": lambda: unigram(byte_fallback=True),
    "unigram-t5": lambda: unigram(charsmap(), white=True),
    "unigram-mbart": lambda: unigram(N.Sequence([charsmap(), N.Strip(left=False, right=True), N.Replace(Regex(" {2,}"), "▁")])),
    "unigram-nmt": lambda: unigram(N.Sequence([N.Nmt(), N.NFKC(), N.Replace(Regex(" {2,}"), " ")])),
    "unigram-albert": lambda: unigram(N.Sequence([N.Replace("``", '"'), N.NFKD(), N.StripAccents(), N.Lowercase(), N.Strip()]), scheme="first"),
    "unigram-first-nmt": lambda: unigram(N.Sequence([N.Nmt(), N.StripAccents()]), scheme="first"),
    "unigram-nfc": lambda: unigram(N.Sequence([N.NFC(), N.NFD()])),
}
REAL = ["bert", "minilm", "t5", "roberta", "gpt2"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """The program that answers for peftkit."""
    out = tmp_path_factory.mktemp("bin") / "tokens"
    subprocess.run(["go", "build", "-o", out, "./interop/tokens"], cwd=where.REPO, check=True)
    return out


def strings(tok: Tokenizer, count: int) -> list[str]:
    """Random texts of hard parts, of characters from everywhere and of the vocabulary's own words."""
    r = random.Random(7)
    words = [w for w in (tok.id_to_token(i) for i in range(tok.get_vocab_size())) if w]
    words = [w.replace("▁", " ").replace("##", "").replace("Ġ", " ") for w in r.sample(words, min(2000, len(words)))]

    def part() -> str:
        k = r.random()
        if k < 0.4:
            lo, hi = r.choice(RANGES)
            return "".join(chr(c) for c in (r.randint(lo, hi) for _ in range(r.randint(1, 6))) if not 0xD800 <= c < 0xE000)
        return r.choice(BITS if k < 0.65 else words)

    return ["".join(part() for _ in range(r.randint(0, 12))) for _ in range(count)]


def expected(tok: Tokenizer, ask: dict) -> dict:
    out = {}
    ids = ask.get("ids")
    if ids is None:
        one, two = tok.encode(ask["a"]), tok.encode(ask["a"], ask["b"])
        out = {"ids": tok.encode(ask["a"], add_special_tokens=False).ids, "special": one.ids, "types": one.type_ids,
               "pair": two.ids, "pair_types": two.type_ids}
        ids = two.ids
    out["decoded"], out["all"] = tok.decode(ids), tok.decode(ids, skip_special_tokens=False)
    return out


def check(program, folder, tok: Tokenizer, count: int, stream: bool = True) -> None:
    r = random.Random(9)
    texts = [t for t in tokenizers_.TEXTS] + strings(tok, count)
    asks = [{"a": a, "b": b} for a, b in zip(texts, texts[1:] + texts[:1])]
    asks += [{"ids": [r.randrange(tok.get_vocab_size() + 3) for _ in range(r.randint(0, 12))]} for _ in range(count // 4)]
    done = subprocess.run([program, folder], input="\n".join(map(json.dumps, asks)).encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    got = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(got) == len(asks)
    for ask, mine in zip(asks, got):
        theirs = expected(tok, ask)
        if stream:
            theirs["streamed"] = theirs["decoded"]
        for key, want in theirs.items():
            assert mine[key] == want, f"{key} of {ascii(ask)}:\n{ascii(mine[key])}, want\n{ascii(want)}"


@pytest.mark.parametrize("name", SMALL)
def test_small(tokens, tmp_path, name):
    SMALL[name]().save(str(tmp_path / "tokenizer.json"))
    tok = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    check(tokens, tmp_path, tok, 1500, stream=name != "unigram-bytes")  # broken runs of bytes come out early in a stream


@pytest.mark.parametrize("name", REAL)
def test_real(tokens, tmp_path, name):
    source = where.data("tokenizers", name, "tokenizer.json")
    (tmp_path / "tokenizer.json").write_bytes(source.read_bytes())
    tok = Tokenizer.from_file(str(source))
    tok.no_truncation()
    tok.no_padding()
    check(tokens, tmp_path, tok, 2000)


def test_vocab_txt(tokens, tmp_path):
    """A BERT folder of vocab.txt alone: what transformers makes of it."""
    from transformers import BertTokenizer

    bert = Tokenizer.from_file(str(where.data("tokenizers", "bert", "tokenizer.json")))
    lines = [bert.id_to_token(i) for i in range(bert.get_vocab_size())]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"}))
    theirs = BertTokenizer.from_pretrained(tmp_path, local_files_only=True)
    check(tokens, tmp_path, theirs.backend_tokenizer, 500)
