"""Uni-LoRA, whose file does not say which number is taken where, against Hugging Face PEFT: files, logits, losses, merges."""

from peft import UniLoraConfig

from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

#: Every layer of PEFT's state repeats the vector; files hold it once.
SHARED = ("_proj.unilora_theta_d", "c_attn.unilora_theta_d")
CASES = {
    "unilora": Case(UniLoraConfig, {"r": 4}, fill=3.0, noise=0.1, unsaved=SHARED),
    "unilora-random": Case(UniLoraConfig, {"r": 2, "theta_d_length": 77, "proj_seed": 7, "init_weights": False}, lr=1e-3, unsaved=SHARED),
    "unilora-indices": Case(UniLoraConfig, {"r": 3, "theta_d_length": 500, "save_indices": True}, fill=0.5, noise=0.1, unsaved=SHARED),
    "unilora-long": Case(UniLoraConfig, {"r": 3, "theta_d_length": 40000, "init_theta_d_bound": 0.3, "proj_seed": 2**33}, lr=1e-3, unsaved=SHARED),
    "unilora-gpt2": Case(UniLoraConfig, {"r": 4}, "gpt2", fill=3.0, noise=0.1, unsaved=SHARED),
}
