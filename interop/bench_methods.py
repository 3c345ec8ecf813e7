"""Training speed of every method: peftkit and PyTorch + PEFT, alternating.

The base is a Llama of 6 layers and 384 features that transformers makes from a
seed. Every method has the same configuration on both sides, on all linear layers
where it takes a choice, with about as many parameters as LoRA of rank 16 where
its options reach that; 4 sequences of 256 tokens a step, float32, AdamW, as many
threads as the machine has cores. Each measurement is a process of its own (those
of PyTorch are forked from one that has imported it), of which the first step is
left out and the median of the rest counts. Within a round the two sides
alternate method by method; rounds are repeated while the time lasts. Methods that
PEFT does not have run on peftkit's side alone. Printed is a Markdown table: medians over the rounds with their spread, the rate as a share of
LoRA's, and the peak memories of the processes.

A method of PEFT that peftkit has and that is missing here is an error.

Run: make bench-methods [MINUTES=9]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import BATCH, LENGTH, gauge, machine, run, texts_file, token_batches, torch_steps

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
HIDDEN, FFN, LAYERS, HEADS, VOCAB = 384, 1024, 6, 6, 4096
SKIP = 1  # steps left out

#: peftkit's method -> PEFT's configuration class and the options of both. "targets" is target_modules, for all that take it.
METHODS = {
    "lora": ("LoraConfig", {"r": 16, "lora_alpha": 32}),
    "dora": ("LoraConfig", {"r": 16, "lora_alpha": 32, "use_dora": True}),
    "adalora": ("AdaLoraConfig", {"init_r": 16, "target_r": 8, "lora_alpha": 32, "tinit": 1, "tfinal": 1, "deltaT": 1}),
    "adamss": ("AdamssConfig", {"r": 100, "num_subspaces": 15, "subspace_rank": 8}),
    "lily": ("LilyConfig", {"r": 40, "stride_A": 2, "num_B": 3}),
    "loha": ("LoHaConfig", {"r": 8, "alpha": 8}),
    "lokr": ("LoKrConfig", {"r": 128, "alpha": 128, "decompose_factor": 4}),
    "vera": ("VeraConfig", {"r": 256}),
    "unilora": ("UniLoraConfig", {"r": 16, "theta_d_length": 100000}),
    "pvera": ("PveraConfig", {"r": 256}),
    "vblora": ("VBLoRAConfig", {"r": 8, "num_vectors": 256, "vector_length": 128}),
    "osf": ("OSFConfig", {"effective_rank": 367}),
    "poly": ("PolyConfig", {"r": 4}),
    "randlora": ("RandLoraConfig", {"r": 16, "randlora_alpha": 320}),
    "oft": ("OFTConfig", {"oft_block_size": 64}),
    "boft": ("BOFTConfig", {"boft_block_size": 32}),
    "hra": ("HRAConfig", {"r": 32}),
    "miss": ("MissConfig", {"r": 32}),
    "road": ("RoadConfig", {"group_size": 64}),
    "deft": ("DeftConfig", {"r": 16, "alpha": 64}),
    "delora": ("DeloraConfig", {"r": 16, "delora_lambda": 15}),
    "glora": ("GloraConfig", {"r": 8}),
    "gralora": ("GraloraConfig", {"r": 16, "alpha": 32, "gralora_k": 2}),
    "hira": ("HiraConfig", {"r": 16}),
    "peanut": ("PeanutConfig", {"r": 15, "scaling": 2.0}),
    "shadow": ("ShadowConfig", {"r": 8, "shadow_intermediate_size": 32}),
    "shira": ("ShiraConfig", {"r": 16}),
    "supertuning": ("SupertuningConfig", {"sparsity": 0.934}),
    "frod": ("FrodConfig", {"sparse_rate": 0.0586}),
    "fourierft": ("FourierFTConfig", {"n_frequency": 16000, "scaling": 150}),
    "waveft": ("WaveFTConfig", {"n_frequency": 16000, "scaling": 25}),
    "c3a": ("C3AConfig", {"block_size": 16}),
    "beft": ("BeftConfig", {}),
    "ia3": ("IA3Config", {"feedforward_modules": ["down_proj"], "target_modules": ["k_proj", "v_proj", "down_proj"]}),
    "ln-tuning": ("LNTuningConfig", {"target_modules": ["input_layernorm", "post_attention_layernorm", "norm"]}),
    "psoft": ("PsoftConfig", {"r": 160, "psoft_alpha": 160}),
    "tinylora": ("TinyLoraConfig", {"r": 2, "u": 64}),
    "trainabletokens": ("TrainableTokensConfig", {"token_indices": list(range(64)), "target_modules": ["embed_tokens"]}),
    "prompt-tuning": ("PromptTuningConfig", {"num_virtual_tokens": 20, "prompt_tuning_init": "RANDOM"}),
    "prefix-tuning": ("PrefixTuningConfig", {"num_virtual_tokens": 20, "prefix_projection": False}),
    "cartridge": ("CartridgeConfig", {"num_virtual_tokens": 21}),
    "cpt": ("CPTConfig", {"cpt_token_ids": list(range(5, 25)), "cpt_tokens_type_mask": [2] * 6 + [4] * 4 + [6] * 6 + [8] * 4,
                          "opt_weighted_loss_type": "decay", "opt_loss_decay_factor": 0.95, "opt_projection_epsilon": 0.2}),
    "p-tuning": ("PromptEncoderConfig", {"num_virtual_tokens": 20, "encoder_hidden_size": 384}),
    "multitask-prompt-tuning": ("MultitaskPromptTuningConfig", {"num_virtual_tokens": 20, "num_tasks": 1, "num_ranks": 1}),
    "xlora": ("XLoraConfig", {"hidden_size": HIDDEN}),
    "adaption-prompt": ("AdaptionPromptConfig", {"adapter_len": 20, "adapter_layers": 6}),
}
#: Methods of peftkit that PEFT does not have, beside LoRA alone.
OWN = {
    "houlsby": {"reduction_factor": 5},
    "pfeiffer": {"reduction_factor": 2.5},
    "parallel": {"reduction_factor": 2.5},
    "compacter": {"reduction_factor": 2},
    "compacterpp": {"reduction_factor": 2},
    "attention-prefix": {"prefix_length": 30, "flat": True},
    "mam": {"reduction_factor": 4, "flat": True},
    "unipelt": {},
    "last-layer": {},
    "full": {},
}
#: Methods whose configuration has no target_modules.
PROMPTS = {"prompt-tuning", "prefix-tuning", "cartridge", "cpt", "shadow", "xlora", "p-tuning", "multitask-prompt-tuning", "adaption-prompt"}
#: LoRA under other names or with another optimizer: the same work in each step.
SAME_WORK = {"rslora", "pissa", "olora", "loraplus", "lora-fa", "eva", "loftq"}

#: X-LoRA weighs adapters that exist: these lie beside the model.
EXPERTS = ("expert-0", "expert-1")


def options(method: str) -> dict:
    """The configuration as both sides get it."""
    if method in OWN:
        return dict(OWN[method])
    out = dict(METHODS[method][1])
    if method not in PROMPTS:
        out.setdefault("target_modules", LINEAR)
    return out


def make(folder: Path) -> None:
    """Writes the base model, its tokenizer and X-LoRA's adapters."""
    import peft
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from peers.tokenizers_ import small

    torch.manual_seed(0)
    tokenizer = small()
    LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in EXPERTS:
        base = LlamaForCausalLM.from_pretrained(folder, local_files_only=True)
        peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=16, target_modules=LINEAR, init_lora_weights=False)).save_pretrained(folder.parent / name)


def peft_steps(model: Path, texts: Path, method: str, args) -> dict:
    """The steps of PyTorch + PEFT: seconds and losses, and the number of parameters."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(args.threads)
    torch.manual_seed(42)
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True)
    base.config.use_cache = False
    kind, more = getattr(peft, METHODS[method][0]), {"task_type": "CAUSAL_LM", **options(method)}
    if method == "xlora":
        more["adapters"] = {str(i): str(model.parent / name) for i, name in enumerate(EXPERTS)}
    if method == "adalora":
        more["total_step"] = args.steps
    tuned = peft.get_peft_model(base, kind(**more))
    tasks = {"task_ids": torch.zeros(BATCH, dtype=torch.long)} if method in ("multitask-prompt-tuning", "poly") else {}
    batches = token_batches(tokenizer, texts, args.steps, args.length, **tasks)
    rank = tuned.base_model.update_and_allocate if method == "adalora" else None
    seconds, losses, begin = [], [], time.perf_counter()
    for took, loss in torch_steps(tuned, batches, 1e-4, rank):
        seconds.append(took)
        losses.append(loss)
        if len(seconds) > SKIP + 1 and time.perf_counter() - begin > args.patience:
            break  # two counted steps tell how slow it is
    return {"rates": [BATCH * args.length / s for s in seconds], "losses": losses, "params": sum(p.numel() for p in tuned.parameters() if p.requires_grad)}


def torch_server(model: Path, texts: Path, args) -> None:
    """Imports everything once, and forks a process for each method named on standard input."""
    import warnings

    import peft  # noqa: F401
    import transformers
    from transformers import LlamaForCausalLM  # noqa: F401 (loads its module)

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as out:
            if (pid := os.fork()) == 0:
                code = 0
                try:
                    told = peft_steps(model, texts, line.strip(), args)
                except Exception as e:  # told to the parent
                    told, code = {"error": f"{type(e).__name__}: {e}"}, 1
                out.write(json.dumps(told))
                out.flush()
                os._exit(code)
            _, status, usage = os.wait4(pid, 0)
            out.seek(0)
            told = json.loads(out.read() or json.dumps({"error": f"status {status}"}))
        print(json.dumps({**told, "peak": usage.ru_maxrss * 1024.0}), flush=True)


class Torch:
    """The process of torch_server."""

    def __init__(self, model: Path, texts: Path, args, env: dict):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(model), str(texts), "--steps", str(args.steps), "--threads", str(args.threads),
             "--length", str(args.length), "--patience", str(args.patience)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
        self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the PyTorch process has died")
        return json.loads(line)

    def measure(self, method: str) -> dict:
        self.process.stdin.write(method + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def peftkit_steps(binary: Path, model: Path, texts: Path, out: Path, method: str, args) -> dict:
    """The same of peftkit train."""
    command = [str(binary), "train", "-m", str(model), "-d", str(texts), "-o", str(out), "--method", method, "--json",
               "--batch-size", str(BATCH), "--grad-accum", "1", "--max-seq-len", str(args.length + 1),  # the last token is only predicted
               "--max-steps", str(args.steps), "--schedule", "constant", "--warmup", "0", "--lr", "1e-4", "--weight-decay", "0", "--val-split", "0",
               "--save-steps", "0", "--no-packing", "--no-shuffle", "--threads", str(args.threads)]
    for key, value in options(method).items():
        if (method, key) not in {("dora", "use_dora"), ("xlora", "hidden_size")}:  # the method, and the model, are that
            command += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    if method == "xlora":
        command += ["--set", "adapters=" + ",".join(str(model.parent / name) for name in EXPERTS)]
    code, told, err, peak = run(command, {})
    if code != 0:
        return {"error": err.strip()[-300:] or f"exit {code}"}
    last = json.loads(told.splitlines()[-1])
    steps = [s for s in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in s]
    whole = BATCH * (args.length + 1)  # methods that read the whole text have its last token too, as PyTorch
    if any(s["tokens"] not in (BATCH * args.length, whole) for s in steps):
        return {"error": f"steps of {[s['tokens'] for s in steps]} tokens, expected {BATCH * args.length}"}
    return {"rates": [s["tokens_per_second"] for s in steps], "losses": [s["loss"] for s in steps], "peak": peak,
            "params": last["trainable_parameters"]}


def cell(values: list[float], form: str) -> str:
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({format(min(values), form)}–{format(max(values), form)})"


def table(results: dict, notes: dict) -> str:
    """The Markdown table. results: method -> side -> measurements."""
    lora = statistics.median(r["rate"] for r in results["lora"]["peftkit"]) if results.get("lora", {}).get("peftkit") else None
    lines = ["| method | trainable | peftkit tokens/s | of LoRA | PEFT tokens/s | peftkit / PEFT | peak memory, MiB: peftkit | PEFT |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for method, sides in results.items():
        ours, theirs = sides["peftkit"], sides["torch"]
        row = [f"`{method}`", f"{ours[0]['params'] if ours else 0:,}"]
        row.append(cell([r["rate"] for r in ours], ".0f") if ours else "–")
        row.append(f"{statistics.median(r['rate'] for r in ours) / lora:.2f}" if ours and lora else "–")
        row.append(cell([r["rate"] for r in theirs], ".0f") if theirs else "–")
        row.append(cell([a["rate"] / b["rate"] for a, b in zip(ours, theirs)], ".2f") if ours and theirs else "–")
        for side in (ours, theirs):
            row.append(f"{statistics.median(r['peak'] for r in side) / 2**20:.0f}" if side else "–")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines + [f"\n{m}: {n}" for m, n in notes.items()])


def known(binary: Path) -> list[str]:
    """Methods of peftkit that PEFT has; one that is missing in METHODS is an error."""
    listed = json.loads(subprocess.run([str(binary), "methods", "--json"], capture_output=True, text=True, check=True).stdout)
    types = {m["name"]: m["peft_type"] for m in listed}
    theirs = set(json.loads(subprocess.run(
        [sys.executable, "-c", "import json, peft; print(json.dumps([t.value for t in peft.PeftType]))"],
        capture_output=True, text=True, check=True).stdout.splitlines()[-1]))
    missing = [n for n, t in types.items() if t in theirs and n not in {*METHODS, *SAME_WORK}]
    if missing:
        sys.exit(f"methods without a configuration here: {', '.join(missing)}")
    return [n for n in (*METHODS, *OWN) if n in types]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9, help="no round begins that would not end within this time")
    parser.add_argument("--rounds", type=int, default=5, help="rounds at most")
    parser.add_argument("--steps", type=int, default=5, help=f"optimizer steps of a process, the first {SKIP} left out")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a sequence")
    parser.add_argument("--patience", type=float, default=8, help="seconds after which a slow PyTorch process may end with two counted steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--methods", nargs="*", help="these alone")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        return make(args.make)
    if args.serve:
        return torch_server(*args.serve, args)

    from peers.where import PEFTKIT

    env = {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    begin = time.monotonic()
    methods = known(PEFTKIT)
    if unknown := set(args.methods or []) - set(methods):
        parser.error(f"no methods of peftkit: {', '.join(sorted(unknown))}")
    methods = [m for m in methods if not args.methods or m in args.methods]
    print(f"{machine()}\nLlama of {LAYERS} layers, {HIDDEN} features, {BATCH}x{args.length} tokens a step, float32, {args.threads} threads\n", flush=True)
    results: dict = {m: {"peftkit": [], "torch": []} for m in methods}
    notes: dict = {}  # methods that failed
    warn: dict = {}
    with tempfile.TemporaryDirectory() as tmp:
        model, texts = Path(tmp) / "model", Path(tmp) / "texts.jsonl"
        subprocess.run([sys.executable, __file__, "--make", str(model)], check=True, env={**os.environ, **env}, capture_output=True)
        texts_file(texts, BATCH * args.steps)
        torch = Torch(model, texts, args, env)
        took = 0.0
        for number in range(args.rounds):
            start = time.monotonic()
            if number > 0 and start - begin + took > 60 * args.minutes:
                break
            clock = [gauge(PEFTKIT)]
            for method in methods:
                if method in notes:
                    continue
                ours = peftkit_steps(PEFTKIT, model, texts, Path(tmp) / f"{method}-{number}", method, args)
                theirs = torch.measure(method) if method in METHODS else None
                for side, got in (("peftkit", ours), ("PEFT", theirs)):
                    if got and "error" in got:
                        notes[method] = f"{side} failed: {got['error']}"
                if method in notes:
                    print(f"{method}: {notes[method]}", flush=True)
                    continue
                for side, got in (("peftkit", ours), ("torch", theirs)):
                    if got is None:
                        continue
                    results[method][side].append({"rate": statistics.median(got["rates"][SKIP:]), "peak": got["peak"], "params": got["params"], "loss": got["losses"][0]})
                line = f"round {number + 1} {method:24s} peftkit {results[method]['peftkit'][-1]['rate']:7.0f}"
                if theirs is None:
                    print(f"{line} tokens/s", flush=True)
                    continue
                if ours["params"] != theirs["params"]:
                    warn[method] = f"not the same adapter: {ours['params']} and {theirs['params']} parameters"
                a, b = ours["losses"][0], theirs["losses"][0]
                print(f"{line}  PEFT {results[method]['torch'][-1]['rate']:7.0f} tokens/s  first losses {a:.3f} {b:.3f}", flush=True)
                if abs(a - b) > 0.05 * abs(b):
                    warn[method] = f"not the same work: first losses {a:.4f} and {b:.4f}"
            clock.append(gauge(PEFTKIT))
            took = time.monotonic() - start
            print(f"round {number + 1} took {took:.0f} s; matrix product at {clock[0]:.0f} GFLOP/s before, {clock[1]:.0f} after\n", flush=True)
        torch.close()
    print(table(results, {**warn, **notes}))
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "results": results, "notes": {**warn, **notes}}, indent=1))


if __name__ == "__main__":
    main()
