"""A small real tokenizer, made on the spot, and the texts tokenizers are tried on."""

import functools

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_CORPUS = """
The quick brown fox jumps over the lazy dog. A fine-tuned model is the model it
was, plus a small change that can be learned, saved, merged and taken away.
Numbers such as 3.14159, 2026 and 1e-3 appear, and so do names: Anna, Bert, Chloé.
"Is it true?" she asked. "It's true," he said; they'd known since '99, hadn't they?
    def add(a, b):\n        return a + b\n\nSum of squares: 1 + 4 + 9 = 14.
Übergrößenträger, naïve café, 東京, привет, ελληνικά — and one emoji 🙂.
""" * 4

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@functools.cache
def small() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of about 500 tokens in GPT-2's manner, always the same."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator([_CORPUS], trainers.BpeTrainer(
        vocab_size=512, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|im_start|>", eos_token="<|im_end|>",
                                   unk_token="<|endoftext|>", pad_token="<|im_end|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


#: Texts on which every tokenizer must agree with its peers.
TEXTS = [
    "Hello, world!", "hello world", " leading and trailing ", "  two  spaces\tand\ttabs  ", "line\nline\r\nline\n\n\n\nend",
    "I'll say it's they've he'd WE'RE I'M", "3 33 333 3333 33333 333333 3.14e-10 1,000,000", "x=1;y+=2//z**3 != ~w",
    "def f(a, b):\n    return a + b\n\n\nclass C:\n\tpass\n", "<div class=\"a\">&nbsp;</div>", "https://example.org/a?b=c&d=%20#e",
    "Übergrößenträger naïve café coöperate", "e\u0301 vs é, A\u030a vs Å", "привет мир, как дела?", "ελληνικά και άλλα",
    "東京都に住んでいます。", "你好，世界！今天是2026年。", "안녕하세요 세계", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "ไทย ภาษา",
    "🙂🙃 👩‍👩‍👧‍👦 🇫🇷 ✊🏽", "\u200bzero\u200cwidth\u00a0nbsp\u3000wide", "a\u0000b", "\u00ad\ufeffbom", "ﬁ ﬂ Ⅷ ½ ²", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "!!!???...,,,;;;:::---___", "", " ", "\n", "\t\n ",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "not<|im_start|>spaced<|im_end|>at all", "<|endoftext|>", "<|im_start",
]
