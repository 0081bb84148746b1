"""Baselines: what is put down is read again, by this machine only, and never without being asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance import baselines
from conformance.baselines import BaselineError, Machine

HERE, THERE = Machine("3.11", "2.13.0", "4.3", 'A "CPU"\\, AVX2'), Machine("3.12", "2.13.0", "4.3", "B")


def test_what_is_written_is_read_again_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "baselines" / "mine.toml"
    assert baselines.read(path) == {}
    baselines.write(path, THERE, {"forward": 1.5})
    baselines.write(path, HERE, {"forward": 2.0, "cache": 3.25})
    baselines.write(path, HERE, {"forward": 1.75})
    assert baselines.read(path) == {HERE: {"forward": 1.75}, THERE: {"forward": 1.5}}
    assert path.read_text().startswith("# Bridge over model")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[machine", "TOMLDecodeError"),
        ("x = 1", "KeyError: 'machine'"),
        ('[[machine]]\npython = "3.11"\ncpu = "B"', "KeyError: 'torch'"),
        (
            '[[machine]]\npython = "3.11"\ntorch = "2"\nlens = "4.3"\ncpu = "B"\nratios = { forward = 0 }',
            "a ratio is a number above 0",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BaselineError, match=told) as caught:
        baselines.read(path)
    assert str(caught.value).startswith(f"{path}: no baselines: ")
    assert str(caught.value).endswith("; delete it, and make it with --baseline-update")


def test_a_run_with_such_a_file_does_not_start(spec: Callable[..., str], refused: Callable, pytester: Any) -> None:
    name = spec()
    (pytester.path / "baselines").mkdir()
    path = pytester.path / "baselines" / "mine.toml"
    path.write_text("[[machine")
    refused(
        f"{path}: no baselines: TOMLDecodeError: *; delete it, and make it with --baseline-update", "--adapter", name
    )


def test_nothing_is_put_down_into_an_installed_package(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance.spec import AdapterSpec

    monkeypatch.setattr(AdapterSpec, "folder", Path("/env/site-packages/conformance/adapters"))
    told = "--baseline-update: the baselines of bd3lm are part of an installed package; update a checkout"
    refused(told, "--adapter", "bd3lm", "--baseline-update")


def test_it_needs_an_adapter(refused: Callable) -> None:
    refused("--baseline-update needs an adapter to judge; add --adapter NAME", "--baseline-update")


def test_the_class_of_a_processor_is_read_from_the_system(tmp_path: Path) -> None:
    table = tmp_path / "cpuinfo"
    table.write_text("processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\n")
    assert baselines.processor(table) == "AMD EPYC, family 25, model 17"
    table.write_text("processor : 0\n")
    assert baselines.processor(table)
    assert baselines.processor(tmp_path / "none")


@pytest.fixture
def judged(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`judged(known, ratio, share)`: the check, where every kind takes this ratio on this share of a core."""
    from conformance import timing
    from conformance.adapters.bd3lm import SPEC
    from conformance.checks.throughput.baseline import baseline
    from conformance.judge import Boot, Evidence

    def judged(known: dict[str, float], ratio: float, share: float = 1.0, renew: bool = False) -> Any:
        def settled(subject: object, reference: object, ceiling: float) -> timing.Ratio:
            return timing.Ratio(ratio, ratio, ratio, 7, ratio > ceiling, share=share)

        monkeypatch.setattr(timing, "settled", settled)
        monkeypatch.setattr(timing, "full", lambda subject, reference: settled(subject, reference, 1e9))
        boot, evidence = Boot(SPEC, miniature, trusted=True), Evidence()
        boot.__dict__["ratios"] = known
        return [(f.code, f.at) for f in baseline(boot, evidence, renew)], evidence.measurements["baseline"]

    return judged


def test_a_ratio_is_held_against_the_baseline_and_a_tenth(judged: Callable) -> None:
    assert judged({"forward": 2.0, "cache": 9.0}, 2.19)[0] == []
    found, measured = judged({"forward": 2.0, "cache": 9.0}, 2.21)
    assert found == [("slower", "forward")]
    assert measured["forward"] == {"median": 2.21, "pairs": 7, "busy": False, "baseline": 2.0}
    assert "report only" not in measured


def test_on_a_busy_core_only_half_as_much_again_counts(judged: Callable) -> None:
    assert judged({"forward": 2.0}, 2.9, share=0.4)[0] == []
    assert judged({"forward": 2.0}, 3.1, share=0.4)[0] == [("slower", "forward")]


def test_where_the_machine_is_unknown_it_only_reports(judged: Callable) -> None:
    found, measured = judged({}, 50.0)
    assert found == []
    assert measured["report only"] == "no baseline for this machine; --baseline-update puts one down"
    assert measured["forward"]["median"] == 50.0


def test_another_machine_is_unknown(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance.adapters.bd3lm import SPEC
    from conformance.judge import Boot

    machine = next(iter(baselines.read(baselines.path_of(SPEC))))
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: machine))
    assert Boot(SPEC, miniature, trusted=True).ratios
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: THERE))
    assert Boot(SPEC, miniature, trusted=True).ratios == {}


def test_a_baseline_is_put_down_on_an_idle_core_alone(
    judged: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bd3lm.toml"
    monkeypatch.setattr(baselines, "path_of", lambda spec: path)
    assert judged({}, 2.0, share=0.5, renew=True)[0] == [("busy", "forward")]
    assert not path.exists()
    assert judged({"forward": 1.0}, 2.0, renew=True)[0] == []
    assert set(baselines.read(path)[Machine.here()].values()) == {2.0}
