"""AdaMSS, whose file does not say which rows its clusters have: both sides find them in the base's weights."""

import pytest
import transformers as tf
from peft import AdamssConfig, get_peft_model

from peers import bounds, compare, methods, models, peftkit, where
from peers.checks import test_merge, test_peft_reads, test_peftkit_reads  # noqa: F401
from peers.methods import Case, bases  # noqa: F401 (a fixture)

CASES = {
    "adamss": Case(AdamssConfig, {"r": 30}, noise=0.3),
    "adamss-one": Case(AdamssConfig, {"r": 100, "num_subspaces": 1}, noise=0.3),
    "adamss-each-row": Case(AdamssConfig, {"r": 100, "num_subspaces": 64, "target_modules": ["q_proj"]}, noise=0.3),
    "adamss-few-vectors": Case(AdamssConfig, {"r": 6, "num_subspaces": 3, "subspace_rank": 2}, noise=0.3),
    "adamss-seed": Case(AdamssConfig, {"r": 12, "num_subspaces": 7, "random_seed": 5}, noise=0.3),
    "adamss-dynamic": Case(AdamssConfig, {"r": 16, "subspace_rank": 4, "use_dynamic_rank": True, "svd_threshold": 0.6}, noise=0.3),
    "adamss-random": Case(AdamssConfig, {"r": 10, "init_weights": False}),
    "adamss-many": Case(AdamssConfig, {"r": 28, "num_subspaces": 20}, noise=0.3),
    "adamss-asa": Case(AdamssConfig, {"r": 10, "use_asa": True, "init_warmup": 2, "final_warmup": 8, "mask_interval": 2, "asa_target_subspaces": 6}, noise=0.3),
}


def hooks(tuned):
    return {"after": tuned.base_model.update_and_allocate}


def test_same_losses(case, bases, tmp_path):  # noqa: F811
    methods.trains(case, bases(case.model), tmp_path, hooks=hooks)


@pytest.mark.parametrize("r, subspaces", [(100, 5), (32, 12)])
def test_minilm(tmp_path, r, subspaces):
    """The clusters of a real model's weights, most of whose singular vectors are left out."""
    import torch

    tok, model = (c.from_pretrained(where.MINILM, local_files_only=True) for c in (tf.AutoTokenizer, tf.AutoModel))
    ids = tok(methods.TEXT)["input_ids"]
    features = lambda m: m(input_ids=torch.tensor([ids])).last_hidden_state[0].detach().numpy()
    before = features(model.eval())
    tuned = get_peft_model(model, AdamssConfig(r=r, num_subspaces=subspaces, target_modules=["query", "value", "intermediate.dense", "output.dense"],
                                               task_type="FEATURE_EXTRACTION")).eval()
    with torch.no_grad():
        for name, p in tuned.named_parameters():
            if p.requires_grad:
                p.add_(methods._random(name, p.shape) / p.shape[-1] ** 0.5)
    tuned.save_pretrained(tmp_path / "theirs")
    want = features(tuned)
    assert abs(want - before).max() > 1e-2, "the adapter changes nothing"
    compare.close("features", peftkit.logits(where.MINILM, ids, tmp_path / "theirs"), want, bounds.LOGITS)


def test_rounding_decides(bases, tmp_path):  # noqa: F811
    """With as many singular vectors as rows all rows are equally far apart: PEFT's clusters are a matter of rounding, and refused."""
    methods.filled(Case(AdamssConfig, {"r": 64}), bases("llama"), tmp_path / "theirs")
    with pytest.raises(peftkit.Failed, match="rounding alone would choose its clusters"):
        peftkit.logits(bases("llama"), methods.ids_of(bases("llama")), tmp_path / "theirs")


def test_another_base(bases, tmp_path):  # noqa: F811
    """On other weights the clusters are others, which is an error and no wrong number."""
    methods.filled(CASES["adamss"], bases("llama"), tmp_path / "theirs")
    other = tmp_path / "base"
    torch_model = models.load(bases("llama"))
    for p in torch_model.parameters():
        p.data += 0.1 * methods._random("other", p.shape) * p.std()
    torch_model.save_pretrained(other)
    tf.AutoTokenizer.from_pretrained(bases("llama"), local_files_only=True).save_pretrained(other)
    with pytest.raises(peftkit.Failed, match="on the model that it was trained on"):
        peftkit.logits(other, methods.ids_of(other), tmp_path / "theirs")
