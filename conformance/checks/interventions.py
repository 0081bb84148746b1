"""interventions: an edit does what the same edit does in the model, once, and nowhere else. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from ..edits import Effect
    from ..judge import Evidence
    from ..pair import Pair


@requirement("interventions/edits", level=MUST, needs=("hooks/fires",))
def edits(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """What a hook returns MUST take the place of the tensor, whole and once: an edit moves the logits as it does in
    the model; where a bridge cannot do that, it raises, or warns by the hook's name.

    An edit that is discarded looks like a component that does not matter; one that is halved, like one that
    matters less.
    """
    from .. import edits

    known, unknown = _canonical(pair)
    together = [known, _aliases(pair), *([name] for name in unknown)]
    groups = [edits.Group(names, edits.pushed) for names in together if names]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = list(edits.effects(pair, groups))
    announced = {e.name for e in found for warning in told if not e.right and e.name in str(warning.message)}
    evidence.facts["observe only"] = sorted(announced)
    for effect in found:
        if effect.name not in announced:
            yield from _judged(pair, effect)


@requirement("interventions/replacements", level=MUST, needs=("interventions/edits",))
def replacements(pair: Pair) -> Iterator[Finding]:
    """Zeroing, mean ablation, patching from another run and swapping positions MUST do what they do in the model, at a
    hook of every kind of component.

    These are what papers are made of; unlike a small push they also show a hook that limits what it takes back.
    """
    from .. import edits

    kinds = {"zero": edits.zeroed, "mean": edits.averaged, "patch": edits.patched, "swap": edits.swapped}
    chosen = _one_per_kind(pair)
    for effect in edits.effects(pair, [edits.Group(chosen, kind, case) for case, kind in kinds.items()]):
        yield from _judged(pair, effect)


@requirement("interventions/composition", level=MUST, needs=("interventions/edits",))
def composition(pair: Pair) -> Iterator[Finding]:
    """Two hooks at one place MUST both count: the second is given what the first returned, and its return is used.

    Steering while ablating is two hooks; where the last one wins, half of the experiment is missing.
    """
    from .. import edits
    from ..compare import PATHS, Allowed, close
    from ..pair import SubjectRaised

    names = [name for name in _canonical(pair)[0] if not edits.shared(pair, name)]
    if not names:
        raise SubjectRaised("no hook shows numbers that could be edited")
    (one,) = edits.together(pair, [edits.Group(names, edits.pushed)])
    twice = {name: [edits.pushed(pair, name, share) for share in (0.25, 0.75)] for name in names}
    allowed = Allowed(2 * one.allowed, PATHS.name)
    yield from close("every hook at once", edits.on_bridge(pair, twice), one.got, allowed)


@requirement("interventions/upstream", level=MUST, needs=("interventions/edits", "cache/values"))
def upstream(pair: Pair) -> Iterator[Finding]:
    """An edit MUST change nothing that was computed before it, in hooks or in the cache, also when it is made in place.

    Causal claims rest on it: what comes first is not an effect. Many edit the tensor they are given and return it.
    """
    from ..compare import exact

    cut = _between(pair)
    before = _before(pair, cut)
    if not before:
        yield Finding("never-fires", cut, got="0 firings", want="a hook on the residual stream")
        return
    for place, edit in (("edit", lambda tensor, hook: tensor + 1), ("edit in place", _add_in_place)):
        with pair.boot.bridge.hooks(fwd_hooks=[(cut, edit)]):
            _, entries = pair.cache()
        changed = [
            finding
            for name in before
            if name in entries
            for finding in exact(name, entries[name], pair.cached[1][name])
        ]
        if changed:
            got = f"{len(changed)} entries from before it changed, first {changed[0].at}"
            yield Finding("reached-back", place, got=got, want="none", case=f"at {cut}")


def _between(pair: Pair) -> str:
    """Where the last layer begins, or the first one, if layers do not show how they end: what comes before is shown."""
    last = pair.boot.layers - 1
    leaving = pair.canonical(pair.boot.spec.streams[1].replace("{layer}", str(last - 1)))
    return pair.entering(last if leaving in pair.observed.taps else 0)


def _add_in_place(tensor: Any, hook: Any) -> Any:
    tensor += 1
    return tensor


def _before(pair: Pair, cut: str) -> list[str]:
    """Hooks that are done before the first firing of another."""
    order = pair.observed.order
    return list(dict.fromkeys(order[: order.index(cut)])) if cut in order else []


def _canonical(pair: Pair) -> tuple[list[str], list[str]]:
    """Canonical names of all hooks that show floats: those that the model has a tap for, and the others."""
    from .. import edits

    taps = pair.observed.taps
    names = [name for name in dict.fromkeys(pair.observed.order) if taps[name][0].is_floating_point()]
    known = [name for name in names if edits.judged(pair, name)]
    return known, [name for name in names if name not in known]


def _aliases(pair: Pair) -> list[str]:
    """Aliases whose value and gradient are those of what they name; the others are findings of their own."""
    from .. import edits

    live = {name for names in _canonical(pair) for name in names}
    names = [name for name, point in pair.boot.bridge.hook_dict.items() if point.name in live and point.name != name]
    right = [name for name in names if not pair.differs(name) and not pair.backward.differs(name)]
    return [name for name in right if edits.judged(pair, name)]


def _one_per_kind(pair: Pair) -> list[str]:
    """One seeded hook of every kind of component, among those whose value the model knows and agrees with."""
    from .. import components, edits

    by_kind: dict[str, list[str]] = {}
    for name in _canonical(pair)[0]:
        # A norm divides by its scale, and a mean of an additive mask is none: nobody makes such replacements.
        replaceable = not name.endswith((".hook_scale", ".hook_mask")) and not edits.shared(pair, name)
        if replaceable and not pair.differs(name):
            owner = components.at(pair.boot.bridge, name.rpartition(".")[0] or name)
            by_kind.setdefault(type(owner).__name__, []).append(name)
    draw = random.Random(pair.layout.name)
    return [draw.choice(by_kind[kind]) for kind in sorted(by_kind)]


def _judged(pair: Pair, effect: Effect) -> Iterator[Finding]:
    from ..compare import close

    discarded = not effect.moved > 10 * pair.allowed("logits")
    if effect.want is None:
        if discarded:
            yield Finding("edit-discarded", effect.name, got="the same logits", want="other logits", case=effect.case)
        return
    numbers, wanted = effect.got.isfinite(), effect.want.isfinite()
    if not wanted.all():
        # A norm's scale of zero leaves no numbers, in the model as here.
        if not numbers.equal(wanted):
            got, want = (f"{int(each.sum())} numbers" for each in (numbers, wanted))
            yield Finding("edit-changed", effect.name, got=got, want=f"{want}, as in the model", case=effect.case)
        return
    for finding in close(effect.name, effect.got, effect.want, effect.allowed, case=effect.case):
        yield replace(finding, code="edit-discarded" if discarded else "edit-changed")
