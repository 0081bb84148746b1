"""One hook of a report, in words: when it fires and with what, what of it is proven and by whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..budgets import WITNESS
from ..spec import nearest
from . import trees
from .badge import label
from .coverage import NAMES, fates
from .reading import ReportError
from .terminal import evidence, folded

PROOFS: Mapping[str, tuple[str, ...]] = {
    "firing": (NAMES, "hooks/multiplicity", "hooks/order", "hooks/shapes", "hooks/identity"),
    "value": ("parity/taps",),
    "edit": ("interventions/edits",),
    "gradient": ("gradients/fires", "gradients/taps"),
}
"""What a name promises, and the requirements that prove it: together those of `coverage.PROOFS`."""

COMPARED = frozenset({"parity/taps", "interventions/edits", "gradients/taps"})
"""Those that hold tensors against a witness, each within the budget `WITNESS`."""

NEEDED = (*(id for ids in PROOFS.values() for id in ids), trees.TREE)
"""Requirements that a report has to hold for a hook to be explained."""

TOLD = {
    "proven": "fires as declared, with the right tensor; edits and gradients are those of the model",
    "wrong": "something that it promises is not so",
    "dead": "attaches, and never fires",
    "refused": "refuses to be attached to",
    "unknown": "not all that it promises was proven",
}
"""What a fate means."""

Results = Mapping[str, Mapping[str, Any]]


def explain(adapter: Mapping[str, Any], name: str, layouts: Sequence[str] = ()) -> Iterator[str]:
    """All that one adapter's part of a report says of a hook, in some layouts or all.

    Raises:
        ReportError: the report has no hooks, or not this one, or not this layout; one line.
    """
    for layout in layouts:
        if layout not in adapter["layouts"]:
            raise ReportError(
                f"--layout {layout}: is none of {adapter['adapter']}{nearest(layout, adapter['layouts'])}"
            )
    asked = [layout for layout in adapter["layouts"] if layout in layouts or not layouts]
    registries = {layout: _registry(adapter, layout) for layout in asked}
    known = {each for registry in registries.values() for each in registry}
    if name not in known:
        raise ReportError(f"{name}: is no hook of {adapter['adapter']}{_meant(name, known)}")
    yield f"{name} of {label(adapter['adapter'], adapter['model'])}"
    (target, *_) = [registry[name] for registry in registries.values() if name in registry]
    others = sorted({each for registry in registries.values() for each in registry if registry[each] == target})
    if name != target:
        yield f"another name of {target}"
    if aliases := [each for each in others if each not in (name, target)]:
        yield from folded(f"also called {', '.join(aliases)}", indent=2)
    for layout in asked:
        yield ""
        yield from _in_layout(adapter, name, registries[layout], layout)


def _registry(adapter: Mapping[str, Any], layout: str) -> dict[str, str]:
    """The canonical name by every name that is advertised in a layout."""
    fires = _results(adapter, layout).get(NAMES, {})
    hooks = fires.get("facts", {}).get("hooks")
    if hooks is None:
        why = fires.get("cause") or f"{NAMES} was not judged in {layout}; make a report of a whole run"
        raise ReportError(f"what hooks {adapter['adapter']} has is not known: {why}")
    return {**{name: name for name in hooks["canonical"]}, **hooks["aliases"]}


def _meant(name: str, known: set[str]) -> str:
    near = nearest(name, known)
    return near if "did you mean" in near else f"; it has {len(known)}, which -v --report shows as a tree"


def _results(adapter: Mapping[str, Any], layout: str) -> Results:
    """Results of one layout and those of the adapter as a whole, by requirement."""
    return {r["requirement"]: r for r in adapter["results"] if r.get("layout") in (layout, None)}


def _in_layout(adapter: Mapping[str, Any], name: str, registry: Mapping[str, str], layout: str) -> Iterator[str]:
    if name not in registry:
        yield f"{layout}: no such name"
        return
    results, target = _results(adapter, layout), registry[name]
    fate = fates(adapter).get(layout, {}).get(name, "unknown")
    yield from folded(f"{layout}: {fate}: {TOLD[fate]}", indent=2)
    for line in _shown(trees.trees(adapter).get(layout, ()), target):
        yield from folded(f"  {'fires':<10}{line}", indent=12)
    here = {name, target}
    for promise, ids in PROOFS.items():
        for line in _proofs(results, ids, here, fate):
            yield from folded(f"  {promise:<10}{line}", indent=12)
    proofs = {id for ids in PROOFS.values() for id in ids}
    for id, result in results.items():
        found = [] if id in proofs else [*_found(result, here)]
        for line in found[:1]:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            yield from folded(f"  {'besides':<10}{id}: {line}{more}", indent=12)


def _shown(lines: Sequence[str], target: str) -> Iterator[str]:
    """When, how often and with what it fires, at the miniature's sizes."""
    tree = trees.hooks(lines)
    hook = tree.get(target)
    if hook is None:
        yield f"order and shape not known: {trees.TREE} was not judged"
    elif hook.place is None:
        yield hook.silent
    else:
        firing = sum(each.place is not None for each in tree.values())
        times = "once" if hook.times == 1 else f"{hook.times} times"
        yield f"{hook.place} of {firing} in order, {times}, with {' and '.join(hook.shapes)}"


def _proofs(results: Results, ids: Sequence[str], here: set[str], fate: str) -> Iterator[str]:
    """What is wrong or missing of a promise, else who proved it."""
    if fate in ("refused", "dead"):
        if NAMES in ids:
            yield from (f"{NAMES}: {line}" for line in _found(results[NAMES], here))
        return
    wrong = False
    for id in ids:
        result = results.get(id)
        if result is None:
            lines = [f"{id}: not judged in this report"]
        elif result["verdict"] in ("BLOCKED", "ERROR"):
            lines = [f"{id}: {result['verdict']}: {result.get('cause', '')}"]
        elif not (lines := list(_found(result, here))) and here & {*result.get("unproven", ())}:
            lines = ["not proven by it, as something that it needs is wrong here"]
            lines = [f"{id}: {line}" for line in lines]
        else:
            lines = [f"{id}: {line}" for line in lines]
        yield from lines
        wrong |= bool(lines)
    if not wrong:
        yield f"proven by {', '.join(ids)}{_budget(ids)}"


def _budget(ids: Sequence[str]) -> str:
    """How far a tensor may be off, where tensors are compared."""
    if not {*ids} & COMPARED:
        return ""
    return f", within {WITNESS.noise:g} times what fp32 itself moves it by, at least {WITNESS.ulps:g} ulps"


def _found(result: Mapping[str, Any], here: set[str]) -> Iterator[str]:
    """Findings at these names, declared ones with the reason."""
    for finding in result.get("findings", ()):
        if finding["at"] in here:
            yield f"{result['verdict']}: {evidence(finding)}"
    for finding in result.get("declared", ()):
        if finding["at"] in here:
            yield f"declared: {evidence(finding)}; because {finding['because']}"
