"""Booting by a known name: the bundled miniature, as the shipped adapter or one of ours has it."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("name", ["bd3lm", "bd3lm-reference"])
def test_a_known_name_boots_its_miniature_and_runs_its_example(name: str) -> None:
    from conformance import boot, example

    bridge = boot(adapter=name)
    for layout, positions in {"train": 21, "sample": 17}.items():
        inputs = example(name, layout)
        assert bridge(inputs.pop("input_ids"), **inputs).shape == (2, positions, 67)


def test_a_name_that_is_not_known_is_told() -> None:
    from conformance import boot, example

    with pytest.raises(ValueError, match="unknown adapter 'bd3l'; did you mean bd3lm"):
        boot(adapter="bd3l")
    with pytest.raises(ValueError, match="layout: bd3lm has no 'trian'; did you mean 'train'"):
        example("bd3lm", "trian")
