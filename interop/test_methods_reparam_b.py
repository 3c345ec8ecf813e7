"""Rotations, reflections, sparse and shared changes, against Hugging Face PEFT: files, logits, losses, merges."""

import pytest
import torch
from peft import BOFTConfig, DeloraConfig, GraloraConfig, HiraConfig, HRAConfig, MissConfig, OFTConfig, RoadConfig, ShiraConfig, TrainableTokensConfig
from peft.tuners.boft import layer as boft_layer
from safetensors.torch import load_file

from peers import methods, peftkit
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads, test_same_losses  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

#: Tokens of the texts, not in order.
TOKENS = [436, 16, 330, 14, 86]

CASES = {
    "oft": Case(OFTConfig, {"oft_block_size": 8}, fill=0.6),
    "oft-exact": Case(OFTConfig, {"oft_block_size": 8, "use_cayley_neumann": False}, fill=0.6),
    "oft-three-terms": Case(OFTConfig, {"oft_block_size": 16, "num_cayley_neumann_terms": 3}, fill=0.6),
    "oft-eight-terms": Case(OFTConfig, {"oft_block_size": 16, "num_cayley_neumann_terms": 8}, fill=0.6),
    "oft-shared": Case(OFTConfig, {"oft_block_size": 0, "r": 3, "block_share": True}, fill=0.6),
    "oft-constrained": Case(OFTConfig, {"oft_block_size": 8, "coft": True, "eps": 0.3}, fill=0.6),
    "oft-embedding": Case(OFTConfig, {"oft_block_size": 8, "target_modules": ["embed_tokens", "v_proj"]}, "qwen2", fill=0.6, copies=("base_layer.weight",)),
    "boft": Case(BOFTConfig, {"boft_block_size": 4}),
    "boft-number": Case(BOFTConfig, {"boft_block_size": 0, "boft_block_num": 4}),
    "boft-two-factors": Case(BOFTConfig, {"boft_n_butterfly_factor": 2}),
    "boft-three-factors": Case(BOFTConfig, {"boft_block_size": 8, "boft_n_butterfly_factor": 3, "target_modules": ["q_proj", "v_proj"]}),
    "gralora": Case(GraloraConfig, {"r": 4, "alpha": 6}),
    "gralora-four": Case(GraloraConfig, {"r": 8, "alpha": 6, "gralora_k": 4}),
    "gralora-hybrid": Case(GraloraConfig, {"r": 4, "hybrid_r": 3, "alpha": 6}, noise=0.3),
    "gralora-gpt2": Case(GraloraConfig, {"r": 4, "hybrid_r": 3, "alpha": 6}, "gpt2"),
    "hira": Case(HiraConfig, {"r": 4}, noise=0.3, fill=1),
    "hira-gaussian": Case(HiraConfig, {"r": 4, "init_weights": "gaussian"}, noise=0.3, fill=1),
    "hira-random": Case(HiraConfig, {"r": 2, "init_weights": False}, lr=1e-3),
    "hira-gpt2": Case(HiraConfig, {"r": 4}, "gpt2", noise=0.3, fill=1),
    "hira-embedding": Case(HiraConfig, {"r": 4, "target_modules": ["embed_tokens", "v_proj"]}, "qwen2", copies=("base_layer.weight",)),
    "hra": Case(HRAConfig, {"r": 4}),
    "hra-odd": Case(HRAConfig, {"r": 3}),
    "hra-gram-schmidt": Case(HRAConfig, {"r": 3, "apply_GS": True}),
    "miss": Case(MissConfig, {"r": 8}),
    "miss-short-block": Case(MissConfig, {"r": 6}),
    "miss-bat": Case(MissConfig, {"r": 8, "init_weights": "bat"}),
    "miss-mini": Case(MissConfig, {"r": 8, "mini_r": 4, "init_weights": "mini"}),
    "road-1": Case(RoadConfig, {"group_size": 8}),
    "road-2": Case(RoadConfig, {"group_size": 8, "variant": "road_2"}),
    "road-4": Case(RoadConfig, {"group_size": 8, "variant": "road_4"}),
    "shira": Case(ShiraConfig, {"r": 3}),
    "shira-seed": Case(ShiraConfig, {"r": 2, "random_seed": 42}),
    "tokens": Case(TrainableTokensConfig, {"token_indices": TOKENS, "target_modules": "model.embed_tokens"}, fill=3),
    "tokens-gpt2": Case(TrainableTokensConfig, {"token_indices": TOKENS, "target_modules": ["wte"]}, "gpt2", fill=3),
    "tokens-untied": Case(TrainableTokensConfig, {"token_indices": TOKENS, "target_modules": ["embed_tokens"]}, "qwen2", fill=3),
    "tokens-head": Case(TrainableTokensConfig, {"token_indices": TOKENS, "target_modules": ["lm_head"]}, "qwen2", fill=3),
    "delora": Case(DeloraConfig, {"r": 4, "delora_lambda": 2}, noise=0.3),
    "delora-patterns": Case(DeloraConfig, {"r": 4, "delora_lambda": 2, "rank_pattern": {"q_proj": 2}, "lambda_pattern": {"v_proj": 5}}, noise=0.3),
}


class Blocks:
    """What PEFT's CUDA extension does, which it wants for more than one factor of BOFT."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]

    @staticmethod
    def backward(grad, blocks):
        size = blocks.shape[-1]
        return [torch.stack([torch.stack([g[i:i + size, i:i + size] for i in range(0, len(g), size)]) for g in grad])]


@pytest.fixture(autouse=True)
def butterfly(monkeypatch):
    """PEFT without the extension takes one factor, whatever the configuration says."""
    monkeypatch.setattr(boft_layer, "_FBD_CUDA", Blocks)


def test_same_choice(bases, tmp_path):  # noqa: F811
    """SHiRA draws the elements that PEFT draws, with a seed and without."""
    for name in ["shira", "shira-seed"]:
        case, folder = CASES[name], bases("llama")
        methods.started(case, folder, tmp_path / name)
        peftkit.run("train", "-m", folder, "-d", methods.texts(tmp_path / "data.jsonl"), "-o", tmp_path / f"{name}-ours", "--max-steps", 1,
                    "--save-steps", 0, "--val-split", 0, *case.flags())
        ours, theirs = (load_file(p / "adapter_model.safetensors") for p in (tmp_path / f"{name}-ours", tmp_path / name))
        for key in theirs:
            if key.endswith("indices"):
                assert torch.equal(ours[key], theirs[key]), key


def test_boft_without_extension(bases, tmp_path, monkeypatch):  # noqa: F811
    """PEFT without CUDA says two factors and computes one: its file is one of one factor here too."""
    monkeypatch.setattr(boft_layer, "_FBD_CUDA", None)
    monkeypatch.setattr(boft_layer, "get_fbd_cuda", lambda: None)
    for name in ["boft-two-factors", "boft-three-factors"]:
        case, out = CASES[name], tmp_path / name
        out.mkdir()
        methods.reads(case, bases("llama"), out)
        assert {len(v) for k, v in load_file(out / "theirs" / "adapter_model.safetensors").items() if k.endswith("boft_R")} == {1}
        methods.trains(case, bases("llama"), out)
        methods.merges(case, bases("llama"), out)
