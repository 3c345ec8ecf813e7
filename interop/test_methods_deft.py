"""DEFT, against Hugging Face PEFT: files, logits, losses, merges."""

from peft import DeftConfig

from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

CASES = {
    "deft": Case(DeftConfig, {"r": 4}, noise=0.3),
    "deft-alpha": Case(DeftConfig, {"r": 4, "alpha": 6}, noise=0.3),
    "deft-random": Case(DeftConfig, {"r": 4, "init_weights": False, "init_scale": 3.0}, noise=0.3),
    "deft-qr": Case(DeftConfig, {"r": 4, "decomposition_method": "qr"}, noise=0.3),
    "deft-qr-alpha": Case(DeftConfig, {"r": 4, "decomposition_method": "qr", "alpha": 2, "init_weights": False}, noise=0.3),
    "deft-para": Case(DeftConfig, {"r": 4, "para": True}, noise=0.3),
    "deft-para-qr": Case(DeftConfig, {"r": 4, "para": True, "decomposition_method": "qr"}, noise=0.3),
    "deft-wide": Case(DeftConfig, {"r": 40, "target_modules": ["v_proj", "down_proj"]}, noise=0.3),  # more directions than outputs
    "deft-gpt2": Case(DeftConfig, {"r": 4, "alpha": 6}, "gpt2", noise=0.3),
    "deft-gpt2-qr": Case(DeftConfig, {"r": 4, "decomposition_method": "qr"}, "gpt2", noise=0.3),
    "deft-gpt2-biases": Case(DeftConfig, {"r": 4, "bias": "deft_only"}, "gpt2", noise=0.3),
}
