"""What a loader leaves unfilled is nan in every boot, and the process is as it was."""

from __future__ import annotations


def test_memory_that_nobody_fills_is_nan_for_a_while() -> None:
    import torch

    from conformance.unfilled import nan_where_unfilled

    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    with nan_where_unfilled():
        assert torch.empty(5).isnan().all()
        # As transformers takes a buffer from the meta device to memory.
        assert torch.empty_like(torch.empty(5, device="meta"), device="cpu").isnan().all()
    assert (torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory) == before
