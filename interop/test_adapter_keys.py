"""The keys of PEFT's configuration classes that peftkit knows (peft/ignored.go)."""

import dataclasses
import re
from pathlib import Path

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

SOURCE = Path(__file__).parent.parent / "peft" / "ignored.go"


def test_every_key_is_known():
    """The table lists, for each type of adapter, exactly what its class has beside PeftConfig."""
    table = {}
    for m in re.finditer(r'"([A-Z0-9_]+)":\s+((?:"[^"]*"(?:\s*\+\s*)?)+)', SOURCE.read_text()):
        table[m.group(1)] = set(" ".join(re.findall(r'"([^"]*)"', m.group(2))).split())
    common = {f.name for f in dataclasses.fields(PeftConfig)}
    assert len(PEFT_TYPE_TO_CONFIG_MAPPING) > 30
    for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items():
        kind = getattr(kind, "value", kind)
        assert table.get(kind) == {f.name for f in dataclasses.fields(config)} - common, kind
