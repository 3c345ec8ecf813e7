"""Reparametrisations beside LoRA, against Hugging Face PEFT: files, logits, losses, merges."""

from peft import AdaLoraConfig, C3AConfig, FourierFTConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, RandLoraConfig, VBLoRAConfig, VeraConfig

from peers import methods
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

IA3_LLAMA = {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
IA3_GPT2 = {"target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"]}
ADALORA = {"init_r": 6, "target_r": 3, "lora_alpha": 12, "tinit": 2, "tfinal": 3, "total_step": 10}
CUT = {"unsaved": ("ranknum",), "implied": ("total_step",), "steps": 10}

#: Every layer of PEFT's state repeats the shared matrices; files hold them once.
SHARED = tuple(f"{layer}.{matrix}" for layer in ("_proj", "c_attn") for matrix in ("vera_A", "vera_B", "randlora_A", "randlora_B", "vblora_vector_bank"))

CASES = {
    "lora": Case(LoraConfig, {"r": 4, "lora_alpha": 12}),
    "lora-gpt2": Case(LoraConfig, {"r": 4, "lora_alpha": 12}, "gpt2"),
    "ia3": Case(IA3Config, IA3_LLAMA),
    "ia3-gpt2": Case(IA3Config, IA3_GPT2, "gpt2"),
    "loha": Case(LoHaConfig, {"r": 2, "alpha": 3}, fill=1.0),
    "loha-dense": Case(LoHaConfig, {"r": 8, "alpha_pattern": {"v_proj": 2}, "rank_pattern": {"q_proj": 5}}),
    "loha-random": Case(LoHaConfig, {"r": 3, "init_weights": False}, lr=1e-3),
    "lokr": Case(LoKrConfig, {"r": 2, "alpha": 3}),
    "lokr-factor": Case(LoKrConfig, {"r": 4, "decompose_factor": 4, "alpha_pattern": {"v_proj": 2}}),
    "lokr-both": Case(LoKrConfig, {"r": 1, "decompose_both": True, "rank_pattern": {"q_proj": 3}}),
    "lokr-whole": Case(LoKrConfig, {"r": 64, "alpha": 64, "init_weights": "lycoris"}, fill=1.0),
    "lokr-odd-factor": Case(LoKrConfig, {"r": 3, "decompose_factor": 7, "init_weights": False}, lr=1e-3),
    "vera": Case(VeraConfig, {"r": 16}, fill=1.0, unsaved=SHARED),
    "vera-drawn": Case(VeraConfig, {"r": 8, "save_projection": False, "projection_prng_key": 3, "d_initial": 0.3}, fill=1.0, unsaved=SHARED),
    "vera-gpt2": Case(VeraConfig, {"r": 16}, "gpt2", fill=1.0, unsaved=SHARED),
    "adalora": Case(AdaLoraConfig, ADALORA, fill=1.0, **CUT, noise=1.0),
    "adalora-start": Case(AdaLoraConfig, {**ADALORA, "tinit": 0, "tfinal": 0, "deltaT": 2}, fill=1.0, **CUT),
    "adalora-gpt2": Case(AdaLoraConfig, {**ADALORA, "deltaT": 3}, "gpt2", fill=1.0, **CUT, noise=1.0),
    "vblora": Case(VBLoRAConfig, {"num_vectors": 20, "vector_length": 16, "init_vector_bank_bound": 0.3}, fill=1.0, unsaved=SHARED),
    "vblora-one": Case(VBLoRAConfig, {"num_vectors": 9, "vector_length": 32, "topk": 1, "init_vector_bank_bound": 0.3}, fill=1.0, unsaved=SHARED),
    "vblora-short": Case(VBLoRAConfig, {"num_vectors": 200, "vector_length": 16, "topk": 3, "save_only_topk_weights": True, "init_vector_bank_bound": 0.3},
                         fill=1.0, untrainable="save_only_topk_weights", unsaved=SHARED),
    "vblora-short-one": Case(VBLoRAConfig, {"num_vectors": 300, "vector_length": 32, "topk": 1, "save_only_topk_weights": True, "init_vector_bank_bound": 0.3},
                             fill=1.0, untrainable="save_only_topk_weights", unsaved=SHARED),
    "vblora-gpt2": Case(VBLoRAConfig, {"num_vectors": 20, "vector_length": 64, "topk": 3, "r": 2, "init_vector_bank_bound": 0.3}, "gpt2", fill=1.0,
                        unsaved=SHARED),
    "randlora": Case(RandLoraConfig, {"r": 10, "randlora_alpha": 10}, fill=1.0, lr=1e-3, unsaved=SHARED),
    "randlora-drawn": Case(RandLoraConfig, {"r": 8, "randlora_alpha": 10, "save_projection": False, "projection_prng_key": 5}, fill=1.0, lr=1e-3,
                           unsaved=SHARED),
    "randlora-sparse": Case(RandLoraConfig, {"r": 8, "randlora_alpha": 10, "sparse": True, "save_projection": False}, fill=1.0, lr=1e-3, unsaved=SHARED),
    "randlora-very-sparse": Case(RandLoraConfig, {"r": 8, "randlora_alpha": 10, "very_sparse": True, "save_projection": False}, fill=1.0, lr=1e-3,
                                 unsaved=SHARED),
    "randlora-gpt2": Case(RandLoraConfig, {"r": 7, "randlora_alpha": 10}, "gpt2", fill=1.0, lr=1e-3, unsaved=SHARED),
    "fourierft": Case(FourierFTConfig, {"n_frequency": 60, "scaling": 30.0}, fill=1.0),
    "fourierft-zero": Case(FourierFTConfig, {"n_frequency": 40, "scaling": 60.0, "init_weights": True, "random_loc_seed": 3,
                                             "n_frequency_pattern": {"v_proj": 25}}, fill=8.0),
    "fourierft-gpt2": Case(FourierFTConfig, {"n_frequency": 60, "scaling": 30.0}, "gpt2", fill=1.0),
    "c3a": Case(C3AConfig, {"block_size": 16, "block_size_pattern": {"v_proj": 32}}, fill=30.0, lr=0.02),
    "c3a-zero": Case(C3AConfig, {"block_size": 32, "init_weights": True}, fill=30.0, lr=0.02),
    "c3a-gaussian": Case(C3AConfig, {"block_size": 1, "init_weights": "gaussian"}, fill=3.0, lr=0.02),
}


def hooks(tuned):
    """What AdaLoRA does beside the gradients: the loss of orthogonality, the cutting of ranks."""
    if tuned.active_peft_config.peft_type != "ADALORA":
        return {}
    inner = tuned.base_model.model
    return {"penalty": lambda ids: tuned.base_model(input_ids=ids, labels=ids).loss - inner(input_ids=ids, labels=ids).loss,
            "after": tuned.base_model.update_and_allocate}


def test_same_losses(case, bases, tmp_path):  # noqa: F811
    methods.trains(case, bases(case.model), tmp_path, hooks=hooks)
