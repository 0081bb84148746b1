"""What changed between two reports, in words: lines for a terminal, or the same ones as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..spec import printable
from . import markdown
from .changes import Changes, Pair, Run, Told
from .terminal import word
from .worse import worse

Sections = dict[str, list[str]]
"""Lines under what they are of."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a name and how words of others are written."""

    code: Callable[[str], str]
    text: Callable[[str], str]


def in_line(words: str) -> str:
    """On one line, and nothing else."""
    return printable(" ".join(words.split()))


PLAIN = Style(in_line, in_line)
MARKDOWN = Style(markdown.code, markdown.text)


def sections(changes: Changes, style: Style = PLAIN) -> Sections:
    """All that differs for an adapter that both reports have; nothing where they say the same."""
    told: Sections = {
        "worse": [style.text(one.text) for one in worse(changes)],
        "verdicts": list(_verdicts(changes, style)),
        "new findings": [finding(each, style) for each in changes.new],
        "findings with another text": [finding(each, style) for each in changes.altered],
        "findings that are gone": [at(each, style) for each in changes.gone],
        "declared": list(declared(changes.declared, style)),
        "declared no more": list(declared(changes.withdrawn, style)),
        "hooks": list(hooks(changes, style)),
        "hook tree": list(_tree(changes)),
        "counts": list(counts(changes, style)),
        "otherwise": list(_details(changes, style)),
        "mutants": [_pair((fate.mutant, fate.base, fate.head), style) for fate in changes.mutants],
        "model": list(pairs(changes.model, style)),
    }
    return {title: lines for title, lines in told.items() if lines}


def run(of: Run) -> str:
    """`41/41 MUST · 2 deviations · CONFORMS`."""
    counted = f"{of.counts} · " if of.conforms is not None else ""
    return f"{counted}{word(of.conforms, of.state)}"


def declared(those: Iterable[Told], style: Style) -> Iterator[str]:
    """Deviations, one line for each requirement and reason."""
    grouped: dict[tuple[str, str], list[Told]] = {}
    for told in those:
        grouped.setdefault((told.requirement, told.because), []).append(told)
    for (requirement, because), group in grouped.items():
        places = list(dict.fromkeys(told.at for told in group))
        more = f" and {len(places) - 2} more places" if len(places) > 2 else ""
        where = ", ".join(map(style.code, places[:2])) + more
        yield f"{style.code(requirement)} {style.code(group[0].code)} at {where}, because {style.text(because)}"


def hooks(changes: Changes, style: Style) -> Iterator[str]:
    """Names whose fate is another, a line for each layout."""
    for layout in dict.fromkeys(each.layout for each in changes.coverage):
        moves = [each for each in changes.coverage if each.layout == layout]
        told = (
            f"{len(m.names)} {m.before or 'no name'} → {m.after or 'no name'}: {few(m.names, style)}" for m in moves
        )
        yield f"hooks in {style.code(layout)}: {'; '.join(told)}"


def _tree(changes: Changes) -> Iterator[str]:
    for layout, lines in changes.tree.items():
        yield f"{layout}:"
        yield from lines


def _details(changes: Changes, style: Style) -> Iterator[str]:
    for each in changes.details:
        layout = f" in {style.code(each.layout)}" if each.layout else ""
        yield f"{style.code(each.requirement)}{layout}: other {', '.join(each.parts)}"


def counts(changes: Changes, style: Style) -> Iterator[str]:
    """Exact counts of work."""
    for count in changes.counts:
        layout = f" in {style.code(count.layout)}" if count.layout else ""
        yield f"{style.code(count.name)}{layout}: {count.base} → {count.head}"


def speed(changes: Changes, style: Style = PLAIN) -> Iterator[str]:
    """Ratios that both runs measured."""
    for each in changes.speed:
        ratios = f"{each.before.median:.3f} → {each.after.median:.3f} times the model's time"
        yield f"{style.code(each.requirement)}: {ratios} ({each.change:+.1%})"


def pairs(those: Sequence[Pair], style: Style) -> Iterator[str]:
    """`transformers: 5.23.0 → 5.24.0`."""
    yield from (_pair(pair, style) for pair in those)


def _pair(pair: Pair, style: Style) -> str:
    name, before, after = pair
    return f"{style.code(name)}: {before or 'none'} → {after or 'none'}"


def finding(told: Told, style: Style) -> str:
    """Where it is, what was got and what wanted."""
    return f"{at(told, style)}: got {style.text(told.got)}, want {style.text(told.want)}"


def at(told: Told, style: Style) -> str:
    """Requirement, layout, place and code of a finding."""
    layout = f" in {style.code(told.layout)}" if told.layout else ""
    case = f" ({style.text(told.case)})" if told.case else ""
    return f"{style.code(told.requirement)}{layout} at {style.code(told.at)}{case}: {style.code(told.code)}"


def few(names: Sequence[str], style: Style, most: int = 3) -> str:
    """The first names, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(style.code, names[:most])) + more


def _verdicts(changes: Changes, style: Style) -> Iterator[str]:
    """Every requirement whose verdict is another, by what it was and is."""
    groups: dict[tuple[str, str], list[str]] = {}
    for moved in changes.verdicts:
        layout = f" in {style.code(moved.layout)}" if moved.layout else ""
        groups.setdefault((moved.base or "not judged", moved.head or "not judged"), []).append(
            f"{style.code(moved.requirement)}{layout}"
        )
    for (base, head), names in groups.items():
        yield f"{base} → {head}: {', '.join(names)}"
