"""Reports of one adapter `mine` with a few results, made by hand: no run behind them."""

from __future__ import annotations

from typing import Any

FINDING = {"code": "relation", "at": "blocks.0", "got": "7 wrong cells", "want": "the layout's relation"}
FATES: dict[str, list[str]] = {"wrong": [], "dead": [], "refused": [], "unknown": []}


def document(*results: dict[str, Any], state: str = "COMPLETE", **adapter: Any) -> dict[str, Any]:
    own = {
        "adapter": "mine",
        "summary": {"conforms": True},
        "badge": {"message": "2/2 MUST"},
        "coverage": {},
        "left_out": {},
        "results": [{"level": "MUST", "verdict": "PASS", **result} for result in results],
        **adapter,
    }
    versions = {"torch": "2.13.0", "transformers": "5.23.0"}
    return {"verdicts": {"state": state, "contract": "1", "versions": versions, "adapters": [own]}}


RELATION = {"requirement": "mask/relation", "layout": "train"}
LOGITS = {"requirement": "parity/logits", "layout": "train"}
FAILS = {**RELATION, "verdict": "FAIL", "findings": [FINDING]}
DEVIATES = {**RELATION, "verdict": "DEVIATION", "declared": [{**FINDING, "because": "fused"}]}
