"""The real fine-tune in short: one seed, few examples, a clear gain all the same."""

import finetune


def test_gain():
    got = finetune.run(seeds=1, examples=160, held=80, epochs=1)
    before, after = got["before"], got["after"][0]
    assert after["choice"] >= before["choice"] + 0.2, got
    assert after["exact"] >= before["exact"] + 0.5, got
    assert after["loss"] < 0.5 * before["loss"], got
