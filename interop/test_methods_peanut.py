"""PEANuT, a network over each weight, against Hugging Face PEFT: files, logits, losses, merges."""

from peft import PeanutConfig

from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

ACTIVATIONS = ["gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "swish",
               "gelu_accurate", "gelu_python_tanh", "silu", "tanh", "sigmoid", "linear", "leaky_relu", "relu6", "relu2", "quick_gelu", "mish", "hardswish"]
CASES = {
    "peanut": Case(PeanutConfig, {"r": 4}, noise=0.3),
    "peanut-scaled": Case(PeanutConfig, {"r": 4, "scaling": 2.5}, noise=0.3),
    "peanut-deeper": Case(PeanutConfig, {"r": 6, "depth": 3}, noise=0.3),
    "peanut-deep": Case(PeanutConfig, {"r": 4, "depth": 2, "scaling": 2.0}, noise=0.3),
    "peanut-random": Case(PeanutConfig, {"r": 3, "depth": 1, "init_weights": False}, lr=1e-3),
    **{f"peanut-{act}": Case(PeanutConfig, {"r": 4, "depth": 1, "act_fn": act}, noise=0.3) for act in ACTIVATIONS},
}
