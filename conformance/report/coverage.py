"""Hook coverage: of every advertised name, whether all that it promises is proven, and if not, what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Results = Sequence[Mapping[str, Any]]

NAMES = "hooks/fires"
"""The requirement whose facts list the names."""

PROOFS = (
    NAMES,
    "hooks/multiplicity",
    "hooks/order",
    "hooks/shapes",
    "hooks/identity",
    "parity/taps",
    "gradients/fires",
    "gradients/taps",
    "interventions/edits",
)
"""What a name promises: it fires as declared, with the right tensor, and can be read, edited and differentiated."""


FATES = ("wrong", "dead", "refused", "unknown")
"""What may become of a hook name other than being proven."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Hook names of one layout whose fate is another: `before` and `after` are fates, None where there is no name."""

    layout: str
    before: str | None
    after: str | None
    names: tuple[str, ...]


def coverage(results: Results) -> dict[str, dict[str, Any]]:
    """By layout: how many names are advertised and how many proven, and which are wrong, dead, refused or unknown.

    A layout in which not every proof was asked for is left out.
    """
    layouts = dict.fromkeys(result["layout"] for result in results if result["requirement"] == NAMES)
    found = {}
    for layout in layouts:
        proofs = [r for r in results if r.get("layout") == layout and r["requirement"] in PROOFS]
        facts = next(r for r in proofs if r["requirement"] == NAMES).get("facts", {})
        if len(proofs) == len(PROOFS) and "hooks" in facts:
            found[layout] = _covered(facts["hooks"], proofs)
    return found


def _covered(hooks: Mapping[str, Any], proofs: Results) -> dict[str, Any]:
    canonical = {**{name: name for name in hooks["canonical"]}, **hooks["aliases"]}
    codes: dict[str, set[str]] = {}
    for finding in (f for proof in proofs for part in ("findings", "declared") for f in proof.get(part, [])):
        codes.setdefault(finding["at"], set()).add(finding["code"])
    open_places = {place for proof in proofs for place in proof.get("unproven", [])}
    # A proof that did not come about, or that fails as a whole, is missing at every name.
    nothing_proven = any(
        proof["verdict"] in ("BLOCKED", "ERROR") or any(f["at"] not in canonical for f in proof.get("findings", []))
        for proof in proofs
    )
    fates: dict[str, list[str]] = {"proven": [], "wrong": [], "dead": [], "refused": [], "unknown": []}
    for name, target in sorted(canonical.items()):
        mine = codes.get(name, set()) | codes.get(target, set())
        if target in hooks["refused"]:
            fate = "refused"
        elif "never-fires" in mine:
            fate = "dead"
        elif mine - {"unknown"}:
            fate = "wrong"
        else:
            fate = "unknown" if mine or nothing_proven or {name, target} & open_places else "proven"
        fates[fate].append(name)
    return {"advertised": len(canonical), **fates, "proven": len(fates["proven"])}


def fates(adapter: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What became of every hook name, by layout; all that nothing else is said of are proven."""
    facts = {
        result["layout"]: result.get("facts", {}) for result in adapter["results"] if result["requirement"] == NAMES
    }
    found: dict[str, dict[str, str]] = {}
    for layout, covered in adapter["coverage"].items():
        hooks = facts[layout].get("hooks", {})
        names = dict.fromkeys((*hooks.get("canonical", ()), *hooks.get("aliases", ())), "proven")
        found[layout] = {**names, **{name: fate for fate in FATES for name in covered[fate]}}
    return found


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Coverage]:
    """Names whose fate is another in two reports of one adapter, in layouts that both cover."""
    was, now = fates(before), fates(after)
    for layout in (name for name in now if name in was):
        groups: dict[tuple[str | None, str | None], list[str]] = {}
        for name in dict.fromkeys((*was[layout], *now[layout])):
            pair = was[layout].get(name), now[layout].get(name)
            if pair[0] != pair[1]:
                groups.setdefault(pair, []).append(name)
        yield from (Coverage(layout, old, new, tuple(names)) for (old, new), names in groups.items())
