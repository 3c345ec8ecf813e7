"""Adapters that PEFT made on a bare base model (AutoModel), whose modules have no "bert." or "model." before them."""

import pytest
import torch
import transformers as tf
from peft import AdaLoraConfig, IA3Config, LNTuningConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file

from peers import bounds, compare, methods, models, peftkit, where
from peers.methods import TARGETS
from test_methods_families import SCALED, bases  # noqa: F401

#: A regular expression that matches whole paths of the bare model, and none of the model with a head.
PATHS = {"llama": r"layers\.1\.(self_attn|mlp)\.(q|up)_proj", "gpt2": r"h\.\d\.attn\.c_attn", "bert": r"encoder\.layer\.[01]\.attention\.self\.(query|value)",
         "roberta-tokens": r"encoder\.layer\.\d\..*\.(query|dense)", "bart": r"(encoder|decoder)\.layers\.0\.fc[12]"}

CASES = {
    "list": lambda model: LoraConfig(r=4, target_modules=TARGETS[model]),
    "regex": lambda model: LoraConfig(r=4, target_modules=PATHS[model]),
    "patterns": lambda model: LoraConfig(r=4, lora_alpha=3, target_modules=TARGETS[model], rank_pattern={r"^.*\.0\..*": 2, r".*\.1\..*": 3}, alpha_pattern={r"^\w+\.0.*": 5}),
    "dora": lambda model: LoraConfig(r=4, use_dora=True, target_modules=TARGETS[model]),
    "adalora": lambda model: AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=TARGETS[model]),
}


def filled(base, config, out, fill=0.3):
    torch.manual_seed(0)
    tuned = get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, p in tuned.named_parameters():
            if p.requires_grad:
                p.add_(fill * methods._random(name, p.shape) / p.shape[-1] ** 0.5)
    if isinstance(config, AdaLoraConfig):  # as after its last step: ranks are cut
        keep = {n.removeprefix("base_model.model."): [True, False, True, True] for n, _ in tuned.named_parameters() if ".lora_E." in n}
        with torch.no_grad():
            for name, p in tuned.named_parameters():
                if ".lora_E." in name:
                    p[1] = 0
        tuned.peft_config["default"].rank_pattern = keep
    tuned.save_pretrained(out)
    return tuned


def attached(folder, config, out):
    """A model with a head whose base alone was given to PEFT, which changes it in place."""
    model = models.load(folder)
    filled(model.base_model, config, out)
    names = list(load_file(out / "adapter_model.safetensors"))
    assert not any(n.startswith(f"base_model.model.{model.base_model_prefix}.") for n in names), names
    return model


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("case", CASES)
def test_bare(case, name, bases, tmp_path):  # noqa: F811
    """The same logits, and the same merged weights."""
    folder, out = bases(name), tmp_path / "theirs"
    model = attached(folder, CASES[case](name), out)
    ids = methods.ids_of(folder)
    task = methods.TASKS.get(name, "CAUSAL_LM")
    got = peftkit.logits(folder, ids, out, models.decoded(ids) if task == "SEQ_2_SEQ_LM" else None)
    want = models.logits(model, ids)
    assert abs(want - models.logits(models.load(folder), ids)).max() > 1e-3, "the adapter changes nothing"
    compare.close("logits", got, want, bounds.LOGITS)
    peftkit.run("merge-lora", "-m", folder, "--lora", out, "-o", tmp_path / "merged")
    compare.close("logits of the merged model", models.logits(models.load(tmp_path / "merged"), ids), want, bounds.LOGITS)


#: On a real model, with the task that PEFT has for it.
REAL = {
    "lora": lambda: LoraConfig(r=8, target_modules="all-linear", task_type="FEATURE_EXTRACTION"),
    "ia3": lambda: IA3Config(target_modules=SCALED["bert"], feedforward_modules=SCALED["bert"][2:], task_type="FEATURE_EXTRACTION"),
    "ia3-regex": lambda: IA3Config(target_modules=r"encoder\..*(key|output\.dense)", feedforward_modules=r"encoder\.layer\.\d\.output\.dense", task_type="FEATURE_EXTRACTION"),
    "ln-tuning": lambda: LNTuningConfig(target_modules=["LayerNorm"], task_type="FEATURE_EXTRACTION"),
}


@pytest.mark.parametrize("case", REAL)
def test_minilm(case, tmp_path):
    """MiniLM's features."""
    tok, model = (c.from_pretrained(where.MINILM, local_files_only=True) for c in (tf.AutoTokenizer, tf.AutoModel))
    ids = tok(methods.TEXT)["input_ids"]
    features = lambda m: m(input_ids=torch.tensor([ids])).last_hidden_state[0].detach().numpy()
    before = features(model.eval())
    filled(model, REAL[case](), tmp_path / "theirs")
    want = features(model)
    assert abs(want - before).max() > 1e-2, "the adapter changes nothing"
    compare.close("features", peftkit.logits(where.MINILM, ids, tmp_path / "theirs"), want, bounds.LOGITS)
    peftkit.run("merge-lora", "-m", where.MINILM, "--lora", tmp_path / "theirs", "-o", tmp_path / "merged")
    compare.close("features of the merged model", features(tf.AutoModel.from_pretrained(tmp_path / "merged", local_files_only=True).eval()), want, bounds.LOGITS)
