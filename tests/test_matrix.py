"""The matrix: one table of runs under several versions, and what a version changes in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from reports import DEVIATES, FAILS, RELATION, document
from safetensors.numpy import save_file

from conformance import commands

TREE = ["embed.hook_out: float32 batch n d_model", "unembed.hook_out: float32 batch n d_vocab"]


def tree(*lines: str) -> dict[str, Any]:
    return {"requirement": "snapshot/hook-tree", "layout": "train", "facts": {"tree": lines}}


def operators(subject: int) -> dict[str, Any]:
    facts = {"operators": {"subject": subject, "reference": 180}}
    return {"requirement": "throughput/operators", "layout": "train", "facts": facts}


@pytest.fixture
def leg(tmp_path: Path) -> Callable[..., Path]:
    """`leg("5.9.0", RELATION, ratio=1.05)`: write a report, and logits beside it; returns the report's path."""

    def leg(
        transformers: str,
        *results: dict[str, Any],
        red: bool = False,
        ratio: float | None = None,
        logits: Any = None,
        weights: str = "a1",
        **more: Any,
    ) -> Path:
        summary = {"conforms": not red, "red": red, "levels": {"MUST": {"met": 2, "of": 2}}}
        report = document(*results, summary=summary, **more)
        report["verdicts"]["versions"] = {"transformers": transformers, "transformer-lens": "4.3.0"}
        measured = {} if ratio is None else {"ratio": {"median": ratio}}
        report["measurements"] = {"cases": {"conformance.throughput::ratio[mine]": measured}}
        path = tmp_path / f"{transformers}.json"
        path.write_text(json.dumps(report))
        if logits is not None:
            save_file({"mine/train": numpy.asarray(logits)}, path.with_suffix(".safetensors"), {"mine": weights})
        return path

    return leg


@pytest.fixture
def table(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """`table(*reports)`: the exit status of the command, and its lines with single blanks."""

    def table(*reports: Path) -> tuple[int, list[str]]:
        status = commands.main(["matrix", *map(str, reports)])
        return status, [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return table


def test_what_is_the_same_and_what_is_not(leg: Callable, table: Callable) -> None:
    base = leg("5.23.0", RELATION, tree(*TREE), operators(203), ratio=1.0, logits=[1.0, 2.0])
    same = leg("5.24.0", RELATION, tree(*TREE), operators(203), ratio=1.02, logits=[1.0, 2.0])
    other = leg("5.9.0", RELATION, tree(TREE[0], "head: none"), operators(204), ratio=1.1, logits=[1.0, 2.5])
    status, lines = table(base, same, other)
    assert status == 0
    assert lines == [
        "adapter versions verdict hook tree logits operators forward",
        "mine transformers 5.23.0, transformer-lens 4.3.0 green 2/2 2 lines 1 layouts counted x1.000",
        "mine transformers 5.24.0, transformer-lens 4.3.0 green 2/2 same same bits same x1.020 (+2.0%)",
        "mine transformers 5.9.0, transformer-lens 4.3.0 green 2/2 1 gone, 1 new 5.0e-01 1 changed x1.100 (+10.0%)",
        "",
        "mine under transformers 5.9.0, transformer-lens 4.3.0",
        "hook tree (train):",
        "-unembed.hook_out: float32 batch n d_vocab",
        "+head: none",
        "throughput/operators (train): operators.subject 203 -> 204",
    ]


def test_a_version_that_breaks_an_adapter_is_named_by_requirement(leg: Callable, table: Callable) -> None:
    status, lines = table(leg("5.23.0", RELATION), leg("5.9.0", FAILS, red=True), leg("5.16.1", DEVIATES))
    assert status == 1
    assert lines[2] == "mine transformers 5.9.0, transformer-lens 4.3.0 RED 2/2 - - - -"
    assert lines[4:] == [
        "",
        "mine under transformers 5.9.0, transformer-lens 4.3.0",
        "new: mask/relation relation: blocks.0: got 7 wrong cells, want the layout's relation",
        "",
        "mine under transformers 5.16.1, transformer-lens 4.3.0",
        "declared: mask/relation relation: blocks.0: got 7 wrong cells, want the layout's relation; fused",
    ]


@pytest.mark.parametrize(
    ("other", "cell"),
    [
        ({"logits": [1.0, 2.0], "weights": "b2"}, "other weights"),
        ({"logits": [1.0]}, "other shapes"),
        ({"logits": [1.0, float("nan")]}, "other NaNs"),
        ({}, "-"),
    ],
)
def test_logits_that_cannot_be_compared(other: dict[str, Any], cell: str, leg: Callable, table: Callable) -> None:
    _, lines = table(leg("5.23.0", RELATION, logits=[1.0, 2.0]), leg("5.9.0", RELATION, **other))
    assert lines[2] == f"mine transformers 5.9.0, transformer-lens 4.3.0 green 2/2 - {cell} - -"


def test_a_run_without_a_report_is_red(leg: Callable, table: Callable, tmp_path: Path) -> None:
    status, lines = table(leg("5.23.0", RELATION), tmp_path / "5.9.0.json")
    assert status == 1
    assert lines[2] == "mine 5.9.0 no report - - - -"
    assert lines[-1] == "5.9.0: no report; the run never came to its end, or the versions do not go together"


def test_a_run_that_is_not_whole_is_red(leg: Callable, table: Callable) -> None:
    status, lines = table(leg("5.23.0", RELATION), leg("5.9.0", RELATION, state="PARTIAL"))
    assert (status, lines[2].split()[-6:]) == (1, ["PARTIAL", "2/2", "-", "-", "-", "-"])


def test_what_is_no_report(leg: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, missing, page = leg("5.23.0", RELATION), tmp_path / "missing.json", tmp_path / "page.json"
    page.write_text("<html>")
    assert commands.main(["matrix", str(base), str(page)]) == commands.CANNOT
    assert capsys.readouterr().err == f"ERROR: {page}: is no report; name one that --conform-report wrote\n"
    assert commands.main(["matrix", str(missing), str(base)]) == commands.CANNOT
    told = f"ERROR: {missing}: no report, and all are held against the first; run that one again\n"
    assert capsys.readouterr().err == told


def test_logits_of_every_layout_are_recorded_with_the_weights_that_gave_them(tmp_path: Path) -> None:
    from safetensors import safe_open

    from conformance import checkpoint
    from conformance.adapters.bd3lm import SPEC
    from conformance.subject import Boot

    path = tmp_path / "logits.safetensors"
    assert commands.main(["logits", str(path), "--adapter", "bd3lm", "--adapter", "dream"]) == 0
    folder = checkpoint.materialise(checkpoint.fixture_folder("bd3lm"), SPEC)
    pairs = Boot(SPEC, folder, trusted=True).pairs
    with safe_open(path, framework="pt") as file:
        assert {*file.keys()} == {"bd3lm/train", "bd3lm/sample"}
        assert all(file.get_tensor(f"bd3lm/{name}").equal(pair.plain) for name, pair in pairs.items())
        told = file.metadata()
    assert told["bd3lm"] == checkpoint.weights_key(folder)
    assert told["dream raised"].startswith("TypeError: ")


def test_logits_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none" / "logits.safetensors"
    assert commands.main(["logits", str(path)]) == commands.CANNOT
    assert capsys.readouterr().err == f"ERROR: {path}: there is no folder {path.parent}; make it first\n"
    assert commands.main(["logits", str(tmp_path / "a"), "--adapter", "bd3ml"]) == commands.CANNOT
    assert capsys.readouterr().err.startswith("ERROR: --adapter: unknown adapter 'bd3ml'; did you mean")
