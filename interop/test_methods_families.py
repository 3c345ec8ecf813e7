"""PEFT's methods on encoders and encoder-decoders, against Hugging Face PEFT: files, logits, losses, merges.

The prompts of these families are in test_methods_prompt.py.
"""

import pytest
import torch
from peft import (
    AdaLoraConfig,
    AdamssConfig,
    AdaptionPromptConfig,
    BeftConfig,
    BOFTConfig,
    C3AConfig,
    DeftConfig,
    DeloraConfig,
    FourierFTConfig,
    FrodConfig,
    GloraConfig,
    GraloraConfig,
    HiraConfig,
    HRAConfig,
    IA3Config,
    LilyConfig,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    OFTConfig,
    OSFConfig,
    PeanutConfig,
    PolyConfig,
    PsoftConfig,
    PveraConfig,
    RandLoraConfig,
    RoadConfig,
    ShiraConfig,
    SupertuningConfig,
    TinyLoraConfig,
    TrainableTokensConfig,
    UniLoraConfig,
    VBLoRAConfig,
    VeraConfig,
    WaveFTConfig,
)

from peers import bounds, methods, models, peftkit, tokenizers_
from peers.checks import test_merge  # noqa: F401
from peers.methods import Case
from test_methods_poly import drawn, tasked  # noqa: F401 (a fixture)
from test_methods_prompt import build
from test_methods_pvera import drawing

pytestmark = pytest.mark.usefixtures("one_thread")

#: Every layer of PEFT's state repeats the shared matrices; files hold them once.
SHARED = tuple(f"{layer}.{matrix}" for layer in ("query", "value", "dense", "q", "v", "wo", "q_proj", "v_proj", "fc2")
               for matrix in ("vera_A", "vera_B", "pvera_A", "pvera_B", "randlora_A", "randlora_B", "unilora_theta_d", "vblora_vector_bank", "tinylora_v"))
#: The layers that IA3 scales: what attention reads, and the second of the network behind it.
SCALED = {"bert": ["key", "value", "output.dense"], "t5": ["k", "v", "wo"], "roberta-tokens": ["key", "value", "output.dense"], "bart": ["k_proj", "v_proj", "fc2"]}
NORMS = {"bert": ["LayerNorm"], "t5": ["layer_norm"], "roberta-tokens": ["LayerNorm"], "bart": ["self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm", "layernorm_embedding"]}
WORDS = {"bert": ["word_embeddings"], "t5": ["shared"], "roberta-tokens": ["word_embeddings"], "bart": ["shared"]}
#: Tokens of the texts, not in order.
TOKENS = [436, 16, 330, 14, 86]

METHODS = {
    "lora": (LoraConfig, {"r": 4, "lora_alpha": 12}, {}),
    "rslora": (LoraConfig, {"r": 4, "lora_alpha": 6, "use_rslora": True}, {}),
    "dora": (LoraConfig, {"r": 4, "lora_alpha": 6, "use_dora": True}, {}),
    "pissa": (LoraConfig, {"r": 4, "lora_alpha": 6, "init_lora_weights": "pissa"}, {"lr": 1e-3, "merged": bounds.DECOMPOSED}),
    "olora": (LoraConfig, {"r": 4, "lora_alpha": 6, "init_lora_weights": "olora"}, {"lr": 1e-3}),
    "lora-biases": (LoraConfig, {"r": 4, "lora_alpha": 6, "bias": "lora_only"}, {}),
    "adalora": (AdaLoraConfig, {"init_r": 6, "target_r": 3, "lora_alpha": 12, "tinit": 2, "tfinal": 3, "total_step": 10},
                # with noise 1 PyTorch's own float32 and float64 part within ten steps on T5
                {"fill": 1.0, "noise": 0.3, "unsaved": ("ranknum",), "implied": ("total_step",), "steps": 10}),
    "adamss": (AdamssConfig, {"r": 12}, {"noise": 0.3}),
    "lily": (LilyConfig, {"r": 4, "stride_A": 2, "scaling": 2.0}, {"noise": 0.3, "mergeable": False, "batch": 1}),  # its mixture is a mean over padding too
    "loha": (LoHaConfig, {"r": 2, "alpha": 3}, {"fill": 1.0}),
    "lokr": (LoKrConfig, {"r": 2, "alpha": 3}, {}),
    "vera": (VeraConfig, {"r": 16}, {"fill": 1.0, "unsaved": SHARED}),
    "oft": (OFTConfig, {"oft_block_size": 8}, {"fill": 0.6}),
    "boft": (BOFTConfig, {"boft_block_size": 4}, {}),
    "hra": (HRAConfig, {"r": 4}, {}),
    "frod": (FrodConfig, {"sparse_rate": 0.05}, {}),
    "fourierft": (FourierFTConfig, {"n_frequency": 60, "scaling": 30.0}, {"fill": 1.0}),
    "waveft": (WaveFTConfig, {"n_frequency": 60, "scaling": 20.0}, {"fill": 1.0, "lr": 1e-3}),  # at 1e-2 steps of Adam on gradients near zero set T5 apart
    "miss": (MissConfig, {"r": 8}, {}),
    "osf": (OSFConfig, {"effective_rank": 0.8}, {"lr": 1e-3, "merged": bounds.DECOMPOSED}),
    "poly": (PolyConfig, {"r": 4}, {"noise": 0.3, "mergeable": False}),
    "pvera": (PveraConfig, {"r": 16, "generator_seed": 3}, {"fill": 1.0, "noise": 0.3, "unsaved": SHARED, "batch": 1}),
    "randlora": (RandLoraConfig, {"r": 10, "randlora_alpha": 10}, {"fill": 1.0, "lr": 1e-3, "unsaved": SHARED}),
    "unilora": (UniLoraConfig, {"r": 4}, {"fill": 5.0, "noise": 0.1, "unsaved": SHARED}),
    "vblora": (VBLoRAConfig, {"num_vectors": 20, "vector_length": 16, "init_vector_bank_bound": 0.3}, {"fill": 1.0, "unsaved": SHARED}),
    "c3a": (C3AConfig, {"block_size": 16}, {"fill": 30.0, "lr": 0.02}),
    "road": (RoadConfig, {"group_size": 8}, {}),
    "deft": (DeftConfig, {"r": 4, "alpha": 6}, {"noise": 0.3, "lr": 1e-3}),  # at 1e-2 steps of Adam on gradients near zero set T5 apart
    "delora": (DeloraConfig, {"r": 4, "delora_lambda": 2}, {"noise": 0.3}),
    "hira": (HiraConfig, {"r": 4}, {"noise": 0.3, "fill": 1}),
    "glora": (GloraConfig, {"r": 4, "config_D_E": "vector"}, {"fill": 1, "noise": 0.3}),
    "gralora": (GraloraConfig, {"r": 4, "alpha": 6}, {}),
    "peanut": (PeanutConfig, {"r": 4, "depth": 1, "act_fn": "silu"}, {"noise": 0.3}),
    "shira": (ShiraConfig, {"r": 3}, {}),
    "supertuning": (SupertuningConfig, {"sparsity": 0.9, "r": 2}, {"fill": 1.0}),
    "beft": (BeftConfig, {}, lambda model: {"mergeable": model != "t5"}),  # which has no biases
    "tinylora": (TinyLoraConfig, {"r": 3, "u": 11, "weight_tying": 0.5, "save_projection": False}, {"fill": 3, "noise": 1, "unsaved": SHARED}),
    "psoft": (PsoftConfig, {"r": 8, "psoft_alpha": 12}, {"fill": 0.5, "merged": bounds.DECOMPOSED}),
    "ia3": (IA3Config, lambda model: {"target_modules": SCALED[model], "feedforward_modules": SCALED[model][2:]}, {}),
    "ln-tuning": (LNTuningConfig, lambda model: {"target_modules": NORMS[model]}, {}),
    "tokens": (TrainableTokensConfig, lambda model: {"token_indices": TOKENS, "target_modules": WORDS[model]}, {"fill": 3}),
}
#: One of each kind: factors, a decomposed weight, scales, a rotation, a mixing of rows, a choice of elements, whole tensors.
HANDFUL = ["lora", "dora", "ia3", "oft", "lokr", "vera", "shira", "ln-tuning", "tokens"]


def make(method: str, model: str) -> Case:
    config, options, more = METHODS[method]
    return Case(config, options(model) if callable(options) else options, model, **(more(model) if callable(more) else more))


#: What PEFT cannot do: its error, and what peftkit says, "" where it does it.
NOT_PEFT = {
    "tokens-roberta-tokens": (TypeError, "'NoneType' object is not iterable", ""),  # its configuration has no modules_to_save
    **{f"adaption-{model}": (ValueError, "Unsupported model type for adaption prompt", "LLaMA-Adapter is for decoders")
       for model in ("bert", "roberta-tokens", "t5", "bart")},
}
#: What peftkit refuses to begin and PEFT does; files of it are read.
NOT_BEGUN = {
    "lora-biases-t5": "this model has no biases to train",
}
ALL = {f"{method}-{model}": make(method, model)
       for model, names in [("bert", METHODS), ("t5", METHODS), ("roberta-tokens", HANDFUL), ("bart", HANDFUL)] for method in names}
ALL |= {name: Case(AdaptionPromptConfig, {"adapter_len": 4, "adapter_layers": 1}, name.removeprefix("adaption-"), "adaption-prompt")
        for name in NOT_PEFT if name.startswith("adaption-")}
CASES = {name: case for name, case in ALL.items() if name not in NOT_PEFT and name not in NOT_BEGUN}


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """bases(name) writes a small model once and returns its folder."""
    made = {}

    def get(name: str):
        if name not in made:
            folder = tmp_path_factory.mktemp("families") / name
            model = build(name)
            with torch.no_grad():  # norms about one, or all that lies below them hardly counts
                for key, p in model.named_parameters():
                    if key.endswith("LayerNorm.weight"):
                        p.add_(1)
            model.save_pretrained(folder)
            tokenizers_.small().save_pretrained(folder)
            made[name] = folder
        return made[name]

    return get


def test_peftkit_reads(case, bases, tmp_path):
    methods.reads(case, bases(case.model), tmp_path, bounds.FAMILY)


def test_peft_reads(case, bases, tmp_path):
    methods.writes(case, bases(case.model), tmp_path, bounds.FAMILY)


def hooks(tuned):
    """What AdaLoRA does beside the gradients, the loss of orthogonality and the cutting of ranks, and the mixtures that Poly draws."""
    if tuned.active_peft_config.peft_type == "POLY":
        return drawn(tuned)
    if tuned.active_peft_config.peft_type == "PVERA":
        return drawing(tuned)
    if tuned.active_peft_config.peft_type != "ADALORA":
        return {}

    def penalty(_):
        inner = tuned.base_model.model
        ids = torch.tensor([[5, 7]])
        labels = ids if inner.config.is_encoder_decoder else torch.tensor([0])
        return tuned.base_model(input_ids=ids, labels=labels).loss - inner(input_ids=ids, labels=labels).loss

    return {"penalty": penalty, "after": tuned.base_model.update_and_allocate}


def test_same_losses(case, bases, tmp_path):
    methods.trains(case, bases(case.model), tmp_path, hooks=hooks)


def learn(case, folder, tmp):
    """peftkit trains a case from nothing."""
    out = tmp / "ours"
    peftkit.run("train", "-m", folder, "-d", methods.records(methods.texts(tmp / "data.jsonl"), case.task), "-o", out, "--max-steps", 2,
                "--save-steps", 0, "--val-split", 0, *case.flags())
    return out


@pytest.mark.parametrize("name", NOT_PEFT)
def test_not_in_peft(name, bases, tmp_path):
    """Combinations that PEFT has not: it still says so, and peftkit does them or says so too."""
    case, (error, says, refusal) = ALL[name], NOT_PEFT[name]
    folder = bases(case.model)
    with pytest.raises(error, match=says):
        methods.started(case, folder, tmp_path / "theirs")
    if refusal:
        with pytest.raises(peftkit.Failed, match=refusal):
            learn(case, folder, tmp_path)
        return
    ids = methods.ids_of(folder)
    got = methods.ours(case, folder, ids, learn(case, folder, tmp_path))
    assert abs(got - models.logits(models.load(folder), ids)).max() > 1e-4


@pytest.mark.parametrize("name", NOT_BEGUN)
def test_not_begun(name, bases, tmp_path):
    """peftkit names what the model lacks; a file that PEFT made all the same is computed, trained on and merged."""
    case = ALL[name]
    folder = bases(case.model)
    with pytest.raises(peftkit.Failed, match=NOT_BEGUN[name]):
        learn(case, folder, tmp_path)
    methods.reads(case, folder, tmp_path / "reads", bounds.FAMILY)
    methods.trains(case, folder, tmp_path / "trains", hooks=hooks)
    methods.merges(case, folder, tmp_path / "merges")
