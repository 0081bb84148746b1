"""The family throughput: what is counted and timed, under which limits, and what a user sees of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC as SHIPPED
from conformance.adapters.bd3lm_reference import SPEC
from conformance.checks.throughput import counts
from conformance.spec import CEILINGS

SIDES = ("subject", "reference")
KINDS = ["forward", "hook", "cache", "filter", "backward", "denoising"]


@pytest.fixture
def boot(miniature: Path) -> Any:
    from conformance.judge import Boot

    return Boot(SPEC, miniature, trusted=True)


def test_both_sides_of_a_workload_compute_the_same(boot: Any) -> None:
    import torch

    from conformance import workloads

    found = workloads.of_boot(boot)
    assert list(found) == KINDS == list(CEILINGS)
    logits = found["forward"].reference()
    assert torch.allclose(found["forward"].subject(), logits, atol=1e-5)
    assert torch.allclose(found["hook"].subject(), logits, atol=1e-5)
    assert torch.allclose(found["cache"].subject()[0], logits, atol=1e-5)
    assert set(boot.pairs["train"].names) <= set(found["cache"].subject()[1].keys())
    assert len(found["filter"].subject()[1]) == 1
    for one, other in zip(found["backward"].subject(), found["backward"].reference(), strict=True):
        assert (one is None) is (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-5)
    canvas = found["denoising"].subject()
    assert canvas.equal(found["denoising"].reference())
    assert canvas.shape[1] <= found["denoising"].tokens == boot.sizes["n"]


def test_a_denoising_step_is_one(boot: Any) -> None:
    from conformance import workloads

    mask = SPEC.mask_token.of(boot.sizes)
    canvas = workloads.of_boot(boot)["denoising"].subject()
    given = boot.sizes["n"] // 2 // boot.sizes["block"] * boot.sizes["block"]
    assert not (canvas[:, :given] == mask).any()
    assert int((canvas[:, given : given + boot.sizes["block"]] != mask).sum()) == 1


def test_a_sampler_that_tells_of_nothing_is_to_blame(boot: Any) -> None:
    from conformance import workloads
    from conformance.judge import Boot
    from conformance.pair import SubjectRaised

    silent = replace(SPEC.sampler, sample=lambda bridge, prompt, **options: prompt)
    mute = Boot(replace(SPEC, sampler=silent), boot.folder, trusted=True)
    with pytest.raises(SubjectRaised, match="the sampler told of 0 steps, and of none that denoises"):
        workloads.denoising(mute).subject()


def test_a_spec_may_set_single_ceilings_and_no_other() -> None:
    spec = replace(SHIPPED, ceilings={"forward": 1.15})
    assert spec.ceilings == {**CEILINGS, "forward": 1.15}
    # What a spec has is kept when it is made anew.
    assert replace(spec, name="mine").ceilings == spec.ceilings
    with pytest.raises(ValueError, match=r"unknown ceiling 'forwards'; did you mean 'forward'\?"):
        replace(SHIPPED, ceilings={"forwards": 1.15})


@pytest.mark.parametrize(
    ("now", "told"), [(1000, "forward +1000"), (1049, "forward +1000"), (951, "forward +1000"), (1051, "forward +1051")]
)
def test_python_calls_near_the_committed_ones_are_told_as_those(now: int, told: str, tmp_path: Path) -> None:
    path = tmp_path / "python_calls[mine].txt"
    path.write_text("Python calls that the bridge adds to the reference's\nforward +1000\nhook -3\n")
    assert counts._committed(path) == {"forward": 1000, "hook": -3}
    assert counts._about(counts._committed(path), {"forward": now})[1:] == [told]


def test_a_kind_that_is_new_or_has_no_file_is_told_as_it_is(tmp_path: Path) -> None:
    assert counts._committed(tmp_path / "none.txt") == {}
    assert counts._about({"forward": 1000}, {"cache": 7})[1:] == ["cache +7"]


def test_each_ratio_has_figures_beside_it_and_both_sides_in_the_standard_json(
    run: Callable, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, spec: Callable[..., str]
) -> None:
    import json

    # Nothing is to hang on the clock: a limit that no one exceeds, and a size that costs little.
    name = spec("bench={}, ceilings={'hook': 1e9}", name="mine")
    found = run("--adapter", name, "--complete", "-k", "hook_ratio", "--benchmark-json=figures.json", timed=True)
    assert found.verdicts("throughput/hook-ratio") == {None: "PASS"}
    (case,) = [v for node, v in found.report["measurements"]["cases"].items() if "hook_ratio" in node]
    ratio = case["ratio"]
    assert ratio["pairs"] == 7
    assert ratio["interval_98"][0] <= ratio["median"] <= ratio["interval_98"][1]
    assert all(ratio[figure][side] > 0 for figure in ("tokens_per_second", "peak_bytes") for side in SIDES)
    (timed,) = json.loads((pytester.path / "figures.json").read_text())["benchmarks"]
    assert timed["fullname"] == "conformance.throughput::hook_ratio[mine]"
    assert len(timed["stats"]["data"]) == len(timed["extra_info"]["reference_seconds"]) == 7
    assert timed["options"]["timer"].endswith("time")


def test_what_cannot_be_timed_warns_of_nothing(run: Callable) -> None:
    found = run("--adapter", "bd3lm", "--complete", "-k", "denoising_ratio", "-W", "error", timed=True)
    assert found.verdicts("throughput/denoising-ratio") == {None: "REFUSED"}
    assert found.result.parseoutcomes().get("warnings") is None
