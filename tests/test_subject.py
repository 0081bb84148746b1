"""What is built from one checkpoint: each part on its own."""

from __future__ import annotations

from pathlib import Path

from conformance import memory
from conformance.adapters.bd3lm import SPEC


def test_no_two_of_what_is_built_from_the_files_share_memory(miniature: Path) -> None:
    from conformance.subject import Boot

    boot = Boot(SPEC, miniature, trusted=True)
    built = boot.construct()
    around = boot.boot_again(built).original_model
    assert memory.shared(boot.params, memory.everything(boot.reference)) == []
    assert memory.shared(boot.params, memory.everything(around)) == []
    assert memory.shared(memory.everything(boot.reference), memory.everything(around)) == []
