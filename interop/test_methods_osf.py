"""OSF against Hugging Face PEFT: files, logits, losses, merges.

A file does not hold what was trained as it was at first: PEFT and peftkit each compute it from the base.
PEFT changes plain linear layers alone, not GPT-2's.
"""

from peft import OSFConfig

from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def behind(options: dict, model: str = "llama", **more) -> Case:
    return Case(OSFConfig, options, model, lr=1e-3, **more)


CASES = {
    "osf": behind({}),
    "osf-all": behind({"target_modules": ALL}),
    "osf-number": behind({"effective_rank": 40, "target_modules": ALL}),
    "osf-share": behind({"effective_rank": 0.3, "target_modules": ["q_proj", "up_proj"]}),
    "osf-one": behind({"effective_rank": 1, "target_modules": ["q_proj", "k_proj", "down_proj"]}),
    "osf-patterns": behind({"effective_rank": 8, "rank_pattern": {"layers.0.*v_": 0.75, "q_pr": 5}, "target_modules": ["q_proj", "v_proj", "o_proj"]}),
    "osf-random": behind({"effective_rank": 0.9, "init_weights": False, "target_modules": ["q_proj", "v_proj"]}),
    "osf-qwen2": behind({"effective_rank": 12, "target_modules": ["q_proj", "o_proj", "up_proj"]}, "qwen2"),
}
