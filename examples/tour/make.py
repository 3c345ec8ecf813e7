"""Writes train.jsonl and test.jsonl of the README's tour: sentences about a
journey, and who goes where as JSON. The people and places of the test file are
in no line of the training file.

Run: python3 examples/tour/make.py
"""

import json
import random
from pathlib import Path

NAMES = "Maria Tom Aisha Ben Chloe Daniel Elena Felix Grace Hugo Ines Jack Kira Liam Mona Nils Olga Paul Rosa Sam".split()
CITIES = "Lisbon Oslo Nairobi Lima Kyoto Prague Dublin Athens Cairo Quito Delhi Porto Turin Basel Lyon Riga Seoul Perth Miami Accra".split()
TEST_NAMES = "Vera Oscar Lucy Adam Nora Peter Julia Simon".split()
TEST_CITIES = "Madrid Berlin Boston Hanoi Tunis Geneva Bogota Zagreb".split()
SENTENCES = [
    "{n} took the night train to {c}.", "Last week {n} flew to {c} for work.", "{c} is where {n} will spend the summer.",
    "After years of saving, {n} moved to {c}.", "We got a postcard from {n}, who is in {c} now.", "{n} cycled all the way to {c}.",
    "The ferry to {c} was late, but {n} did not mind.", "{n} wrote that {c} was colder than expected.",
]


def chat(rng, name, city):
    text = rng.choice(SENTENCES).format(n=name, c=city)
    return {"messages": [
        {"role": "user", "content": "Who goes where? " + text},
        {"role": "assistant", "content": json.dumps({"name": name, "city": city})},
    ]}


def write(path, rng, names, cities, n):
    pairs = rng.sample([(a, b) for a in names for b in cities], n)
    path.write_text("".join(json.dumps(chat(rng, *p)) + "\n" for p in pairs))


here = Path(__file__).parent
rng = random.Random(1)
write(here / "train.jsonl", rng, NAMES, CITIES, 120)
write(here / "test.jsonl", rng, TEST_NAMES, TEST_CITIES, 40)
