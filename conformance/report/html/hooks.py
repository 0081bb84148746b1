"""The hook tree: every name in firing order, with its shape, how far it is off, and what is proven of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...spec import pattern_of
from ..coverage import NAMES
from ..trees import TREE, Hook
from ..trees import hooks as hooks_of

LAYER = re.compile(r"(?<=^blocks\.)[0-9]+(?=\.|$)")

FATES = {
    "proven": "✓",
    "wrong": "✗",
    "dead": "†",
    "refused": "∅",
    "unknown": "?",
    "not judged": "·",
}
"""What may have become of a name, with its mark; `not judged` where a run left out some proof."""

SILENT = {"refused": "refused", "never fires": "dead"}
"""What became of a name that the snapshot has no shape for."""


@dataclass(slots=True)
class Name:
    """A hook in all layers of which the same is to be said; `places` are those in the order of firing."""

    pattern: str
    fate: str
    shape: str
    aliases: tuple[str, ...]
    places: list[int] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    error: float | None = None
    budget: float | None = None
    alias_of: str = ""

    @property
    def mark(self) -> str:
        """The mark of its fate."""
        return FATES[self.fate]

    @property
    def fires(self) -> str:
        """Where in that order: `9, 31`, of many layers the first and the last, `-` if it never fires."""
        first, *rest = [str(place) for place in self.places] or ["-"]
        return ", ".join((first, *rest)) if len(rest) < 2 else f"{first} … {rest[-1]}"

    @property
    def shown(self) -> tuple[str, str]:
        """Its name in two parts: the component, and the hook in it; layers are joined: `blocks.0-11.attn.`."""
        name = self.pattern.replace("{layer}", _span(self.layers)) if self.layers else self.pattern
        component, dot, hook = name.rpartition(".")
        return component + dot, hook

    @property
    def depth(self) -> int:
        """How deep its component lies."""
        return min(self.pattern.replace(".{layer}", "").count("."), 4)


@dataclass(frozen=True, slots=True)
class Tree:
    """All names of one layout, and how many of them came to which end."""

    layout: str
    names: list[Name]
    counts: Mapping[str, int]

    @property
    def advertised(self) -> int:
        """How many names there are, aliases counted."""
        return sum(self.counts.values())


def trees(
    results: Sequence[Mapping[str, Any]],
    coverage: Mapping[str, Mapping[str, Any]],
    errors: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Iterator[Tree]:
    """One tree for every layout in which hooks were counted."""
    facts = {(result["requirement"], result.get("layout")): result.get("facts", {}) for result in results}
    for (id, layout), found in facts.items():
        if id == NAMES and layout is not None and "hooks" in found:
            lines = facts.get((TREE, layout), {}).get("tree", ())
            yield _tree(layout, found["hooks"], coverage.get(layout, {}), lines, errors.get(layout, ()))


def joined(places: Sequence[str]) -> list[str]:
    """Places in which layers are joined: `blocks.0-11.hook_in`."""
    layers: dict[str, list[int]] = {}
    for place in places:
        found = LAYER.search(place)
        layers.setdefault(pattern_of(place), []).extend([int(found[0])] if found else [])
    return [pattern.replace("{layer}", _span(each)) if each else pattern for pattern, each in layers.items()]


def _tree(
    layout: str,
    hooks: Mapping[str, Any],
    covered: Mapping[str, Any],
    lines: Sequence[str],
    taps: Sequence[Mapping[str, Any]],
) -> Tree:
    aliases: dict[str, list[str]] = {}
    for alias, target in hooks.get("aliases", {}).items():
        aliases.setdefault(target, []).append(alias)
    tree = hooks_of(lines)
    shown = {pattern_of(name): hook for name, hook in tree.items()}
    measured = {tap["at"]: tap for tap in taps}
    # What was measured has fired in this very model; the lines of the snapshot are about its miniature.
    order = [*measured, *tree]
    fired = {name: place for place, name in enumerate(dict.fromkeys(n for n in order if n in {*hooks["canonical"]}), 1)}
    names = sorted(hooks["canonical"], key=lambda name: fired.get(name, len(fired) + 1))
    told = {name: fate for fate in FATES if isinstance(covered.get(fate), list) for name in covered[fate]}
    silent = {name: hook.silent for name in names if (hook := shown.get(pattern_of(name))) and hook.silent}
    told = {name: SILENT[why] for name, why in silent.items()} | told
    rest = "proven" if covered else "not judged"
    merged: dict[tuple[object, ...], Name] = {}
    for name in names:
        mine = sorted(aliases.get(name, ()))
        apart = [
            alias for alias in mine if (alias in told and told[alias] != told.get(name)) or _beyond(measured, alias)
        ]
        same = tuple(alias for alias in mine if alias not in apart)
        for each, target in ((name, ""), *((alias, name) for alias in apart)):
            found = Name(
                pattern_of(each),
                told.get(each, rest),
                _shape(shown.get(pattern_of(name))),
                tuple(map(pattern_of, () if target else same)),
                alias_of=pattern_of(target),
            )
            fires = name not in silent and name in fired
            entry = merged.setdefault((found.pattern, found.fate, found.shape, found.aliases, fires), found)
            entry.places += [fired[name]] if fires else []
            _add(entry, each, measured.get(each, {}))
    counts = {fate: len(covered.get(fate, ())) for fate in FATES if fate not in ("proven", "not judged")}
    whole = len(hooks["canonical"]) + len(hooks.get("aliases", {}))
    counts = {"proven": covered.get("proven", 0), **counts} if covered else {"not judged": whole}
    return Tree(layout, list(merged.values()), counts)


def _beyond(measured: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether a tap lies outside its budget."""
    tap = measured.get(name, {"error": 0.0, "budget": 0.0})
    return tap["error"] is None or tap["error"] > (tap["budget"] or 0.0)


def _shape(hook: Hook | None) -> str:
    """With what it fires, and how often where that is more than once."""
    if hook is None:
        return ""
    return " | ".join(hook.shapes) + (f" x{hook.times}" if hook.times > 1 else "")


def _add(name: Name, each: str, tap: Mapping[str, Any]) -> None:
    """One more layer; the worst of all is told."""
    if found := LAYER.search(each):
        name.layers.append(int(found[0]))
    if tap:
        error = tap["error"] if tap["error"] is not None else float("inf")
        if name.error is None or error > name.error:
            name.error, name.budget = error, tap["budget"]


def _span(layers: Sequence[int]) -> str:
    """`0-11`, or `0,2` where some are missing."""
    first, last = min(layers), max(layers)
    if len(layers) == 1:
        return str(first)
    return f"{first}-{last}" if len(layers) == last - first + 1 else ",".join(map(str, sorted(layers)))
