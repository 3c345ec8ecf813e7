"""Prepares the tasks of the survey's table from the texts and lexicons that they are made of.

    python3 docs/survey/prepare.py DATA OUT

DATA holds text/sst2, text/cola, text/alpaca_en_demo and models/us_bart; OUT gets one folder per task with
train.jsonl, dev.jsonl (to choose learning rates on) and valid.jsonl (for the scores), and a model folder us_bart. The choice of records depends on a fixed seed alone.
"""

import csv
import json
import random
import shutil
import sys
from pathlib import Path


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def lexicon(path):
    """Words with one pronunciation, or the default one of several."""
    out = {}
    for word, said in json.loads(path.read_text(encoding="utf-8")).items():
        said = said.get("DEFAULT") if isinstance(said, dict) else said
        if said:
            out[word] = said
    return out


def pronunciation(data, out, train=8000, valid=500):
    """US to British English: unseen words that differ, and US words that should stay."""
    model = data / "models/us_bart"
    config = json.loads((model / "us_bart_config.json").read_text(encoding="utf-8"))
    letters, sounds = set(config["grapheme_chars"][4:]), set(config["phoneme_chars"][4:])
    us, gb = lexicon(model / "us_gold.json"), lexicon(model / "gb_gold.json")

    def fits(word, said):
        return set(word) <= letters and set(said) <= sounds and len(word) < 40 and len(said) < 40

    differ = sorted(w for w in gb if w in us and gb[w] != us[w] and fits(w, gb[w]))
    american = sorted(w for w in us if w not in gb and fits(w, us[w]))
    rng = random.Random(7)
    rng.shuffle(differ)
    rng.shuffle(american)
    write(out / "british/valid.jsonl", [{"source": w, "target": gb[w]} for w in differ[:valid]])
    write(out / "british/train.jsonl", [{"source": w, "target": gb[w]} for w in differ[valid:valid + train]])
    write(out / "british/dev.jsonl", [{"source": w, "target": gb[w]} for w in differ[valid + train:][:valid]])
    write(out / "american/valid.jsonl", [{"source": w, "target": us[w]} for w in american[:valid]])
    (out / "us_bart").mkdir(exist_ok=True)
    shutil.copy(model / "us_bart_config.json", out / "us_bart/config.json")
    shutil.copy(model / "us_bart.safetensors", out / "us_bart/model.safetensors")


def classes(out, train, valid, dev=500):
    """The last of the training records are put aside as dev."""
    write(out / "train.jsonl", train[:-dev])
    write(out / "dev.jsonl", train[-dev:])
    write(out / "valid.jsonl", valid)


def sst2(data, out):
    def rows(part):
        lines = (data / f"text/sst2/{part}.tsv").read_text(encoding="utf-8").splitlines()
        return [dict(zip(("text", "label"), line.rsplit("\t", 1))) for line in lines]

    classes(out / "sst2", rows("train"), rows("dev"))


def cola(data, out):
    def rows(part):
        lines = csv.reader((data / f"text/cola/{part}.tsv").open(encoding="utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(r[0], {"text": r[3], "label": r[1]}) for r in lines]

    def of(rows, wanted=lambda source: True):
        return [r for source, r in rows if wanted(source)]

    train = rows("in_domain_train")
    random.Random(7).shuffle(train)  # the file goes from source to source
    first, last = train[:-500], train[-500:]
    classes(out / "cola", balanced(of(first)) + of(last), of(rows("in_domain_dev") + rows("out_of_domain_dev")))  # GLUE's validation set

    # To choose by what the validation set asks: six of the training data's sources are kept from training.
    kept = {"b_73", "cj99", "g_81", "kl93", "rhl07", "sgww85"}
    write(out / "cola-sources/train.jsonl", balanced(of(first, lambda s: s not in kept)))
    write(out / "cola-sources/dev.jsonl", of(last, lambda s: s not in kept))
    write(out / "cola-sources/valid.jsonl", of(first, lambda s: s in kept))


def balanced(rows):
    """As many of either label: seven in ten sentences are acceptable, and what learns little would call all of them so."""
    few = min(sum(r["label"] == label for r in rows) for label in "01")
    seen = {"0": 0, "1": 0}
    out = []
    for r in rows:
        seen[r["label"]] += 1
        if seen[r["label"]] <= few:
            out.append(r)
    return out


def instructions(data, out, valid=100, dev=60):
    rows = json.loads((data / "text/alpaca_en_demo/alpaca_en_demo.json").read_text(encoding="utf-8"))
    rows = [r for r in rows if len(r["instruction"]) + len(r["input"]) + len(r["output"]) < 700]
    random.Random(7).shuffle(rows)
    write(out / "instructions/valid.jsonl", rows[:valid])
    write(out / "instructions/dev.jsonl", rows[valid:valid + dev])
    write(out / "instructions/train.jsonl", rows[valid + dev:])


def main():
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    pronunciation(data, out)
    sst2(data, out)
    cola(data, out)
    instructions(data, out)


if __name__ == "__main__":
    main()
