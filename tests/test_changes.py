"""Two reports compared: what is new, gone, declared, lost; on documents made by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from reports import DEVIATES, FAILS, FATES, FINDING, LOGITS, RELATION, document

from conformance.report.changes import compare


def test_equal_reports_differ_in_nothing() -> None:
    base = document(FAILS, LOGITS)
    assert not compare(base, copy.deepcopy(base))


def test_a_new_finding_loses_its_requirement() -> None:
    changes = compare(document(RELATION, LOGITS), document(FAILS, LOGITS))
    (new,) = changes.new
    assert (new.requirement, new.layout, new.at, new.code) == ("mask/relation", "train", "blocks.0", "relation")
    assert [(lost.base, lost.head) for lost in changes.lost] == [("PASS", "FAIL")]
    assert [(moved.base, moved.head) for moved in changes.verdicts] == [("PASS", "FAIL")]


def test_the_same_finding_with_another_value_is_altered() -> None:
    other = {**FAILS, "findings": [{**FINDING, "got": "8 wrong cells"}]}
    changes = compare(document(FAILS), document(other))
    assert not changes.new
    assert [told.got for told in changes.altered] == ["8 wrong cells"]
    assert not changes.lost


def test_declaring_is_told_with_its_reason_and_loses_nothing() -> None:
    changes = compare(document(RELATION), document(DEVIATES))
    assert [told.because for told in changes.declared] == ["fused"]
    assert not changes.new
    assert not changes.lost


def test_mending_what_was_declared() -> None:
    changes = compare(document(DEVIATES), document(RELATION))
    assert len(changes.gone) == len(changes.withdrawn) == 1
    assert not changes.lost


def test_withdrawing_a_declaration_without_mending_is_a_new_finding() -> None:
    changes = compare(document(DEVIATES), document(FAILS))
    assert len(changes.new) == len(changes.withdrawn) == 1
    assert not changes.gone


@pytest.mark.parametrize(
    ("base", "head", "left_out", "lost"),
    [
        ("PASS", None, {}, "missing"),
        ("DEVIATION", None, {}, "missing"),
        ("PASS", None, {"mask/relation": "--complete"}, "left out"),
        ("PASS", "REFUSED", {}, "REFUSED"),
        ("DEVIATION", "REFUSED", {}, "REFUSED"),
        ("REFUSED", "BLOCKED", {}, "BLOCKED"),
        ("PASS", "ERROR", {}, "ERROR"),
        ("REFUSED", "PASS", {}, None),
        ("REFUSED", "REFUSED", {}, None),
        ("PASS", "DEVIATION", {}, None),
        ("FAIL", "BLOCKED", {}, None),
        ("FAIL", None, {}, None),
    ],
)
def test_what_counts_as_lost(base: str, head: str | None, left_out: dict[str, str], lost: str | None) -> None:
    after = [{**RELATION, "verdict": head}] if head else []
    changes = compare(document({**RELATION, "verdict": base}), document(*after, LOGITS, left_out=left_out))
    assert [each.head for each in changes.lost] == ([lost] if lost else [])


def test_a_layout_that_is_gone_is_lost() -> None:
    changes = compare(document(RELATION, {**RELATION, "layout": "sample"}), document(RELATION))
    assert [(lost.layout, lost.head) for lost in changes.lost] == [("sample", "missing")]


def test_a_new_adapter_has_only_new_findings() -> None:
    changes = compare(None, document(FAILS))
    assert changes.base is None
    assert len(changes.new) == 1
    assert not changes.verdicts


def test_without_a_report_at_head() -> None:
    changes = compare(document(RELATION), None)
    assert changes.adapter == "mine"
    assert changes.head is None
    assert not changes.lost


def fires(*names: str, aliases: tuple[str, ...] = ()) -> dict[str, Any]:
    hooks = {"canonical": list(names), "aliases": dict.fromkeys(aliases, names[0]), "refused": []}
    return {"requirement": "hooks/fires", "layout": "train", "facts": {"hooks": hooks}}


def test_hooks_by_name() -> None:
    before = document(fires("embed.hook_in", "embed.hook_out"), coverage={"train": FATES})
    after = document(
        fires("embed.hook_in", "renamed.hook_out"), coverage={"train": {**FATES, "dead": ["embed.hook_in"]}}
    )
    told = {(each.before, each.after): each.names for each in compare(before, after).coverage}
    assert told == {
        ("proven", "dead"): ("embed.hook_in",),
        ("proven", None): ("embed.hook_out",),
        (None, "proven"): ("renamed.hook_out",),
    }


def test_counts_versions_and_state() -> None:
    def counted(number: int) -> dict[str, Any]:
        facts = {"operators": {"subject": number, "reference": 199}}
        return {"requirement": "throughput/operators", "layout": "train", "facts": facts}

    before, after = document(counted(229)), document(counted(235), state="INCOMPLETE")
    after["verdicts"]["versions"]["transformers"] = "5.9.0"
    changes = compare(before, after)
    assert [(count.name, count.base, count.head) for count in changes.counts] == [("operators.subject", 229, 235)]
    assert changes.versions == (("transformers", "5.23.0", "5.9.0"),)
    assert changes.head is not None
    assert not changes.head.whole


def test_where_head_first_diverges() -> None:
    changes = compare(None, document({**LOGITS, "facts": {"divergence": "blocks.1.attn.qkv.hook_out, call 2 of 2"}}))
    assert changes.head is not None
    assert changes.head.divergence == "blocks.1.attn.qkv.hook_out, call 2 of 2"
