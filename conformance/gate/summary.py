"""What a reviewer reads of a gate: what changed in ten lines, then a table, then what stands behind it."""

from __future__ import annotations

from collections.abc import Iterator

from ..report import telling
from ..report.changes import Changes, Told
from ..report.markdown import block, code, folded, table, text
from ..report.telling import MARKDOWN
from .gate import Held
from .rules import Judgement

TEN = 10

HEADINGS = ("adapter", "verdict", "base", "head", "findings", "declared", "lost", "speed")


def verdict(held: Held) -> str:
    """`gate: FAIL, 2 reasons; 1 of 3 adapters ran (main (0123456789) to HEAD (abcdef0123))`."""
    count, ran = len(held.failures), sum(bool(judged.why) and not judged.vanished for judged in held.judgements)
    adapters = sum(not judged.vanished for judged in held.judgements)
    word = f"FAIL, {count} reason{'s' if count > 1 else ''}" if count else "PASS"
    scope = f"{ran} of {adapters} adapters ran" if ran else "the change affects no adapter, so none ran"
    return f"gate: {word}; {scope} ({held.base} to {held.head})"


def render(held: Held) -> str:
    """The whole summary as Markdown."""
    parts = [f"## {text(verdict(held))}", *(f"*{text(note)}*" for note in held.notes)]
    parts += ["\n".join(f"- {line}" for line in ten(held))]
    parts += [table(HEADINGS, (row(judged) for judged in held.judgements))]
    for judged in held.judgements:
        parts += _details(judged)
    files = "\n".join(f"- {code(path)}" for path in held.changed)
    parts += [folded(f"{len(held.changed)} changed files", files)] if files else []
    return "\n\n".join(part for part in parts if part) + "\n"


def ten(held: Held) -> list[str]:
    """What changed, most important first, in ten lines: what is newly declared, what fails, what else is new."""
    lines = list(lead(held))
    if len(lines) > TEN:
        lines[TEN - 1 :] = [f"and {len(lines) - TEN + 1} more, below"]
    return lines or ["nothing changed in any adapter's report"]


def lead(held: Held) -> Iterator[str]:
    """Every line that could be among the ten."""
    for judged in held.judgements:
        if judged.changes is not None:
            lines = telling.declared(judged.changes.declared, MARKDOWN)
            yield from (f"{code(judged.adapter)} declares {line}" for line in lines)
    for judged in held.judgements:
        if judged.changes is not None and (where := _divergence(judged.changes)):
            yield f"{code(judged.adapter)} first diverges: {text(where)}"
    for failure in held.failures:
        yield f"**FAIL** {code(failure.adapter)} {text(failure.text)}"
    for judged in held.judgements:
        yield from (f"{code(judged.adapter)} {line}" for line in _besides(judged))


def row(judged: Judgement) -> list[str]:
    """The adapter's line of the table."""
    changes, name = judged.changes, code(judged.adapter)
    if not judged.why:
        return [name, "not affected", *[""] * (len(HEADINGS) - 2)]
    word = "**FAIL**" if judged.failures else "pass"
    if changes is None:
        return [name, word, "", "gone" if judged.vanished else "no report", *[""] * (len(HEADINGS) - 4)]
    return [
        name,
        word,
        text(changes.base.counts) if changes.base else text(judged.base_cannot) or "new",
        text(changes.head.counts) if changes.head else "",
        f"{len(changes.new)} new, {len(changes.gone)} gone",
        f"{len(changes.declared)} new, {len(changes.withdrawn)} gone",
        str(len(changes.lost)),
        _speed(judged),
    ]


def _speed(judged: Judgement) -> str:
    if judged.speed is None or judged.speed.unmeasured:
        return "not measured"
    return ", ".join(f"{code(layout)} {judged.speed.median(layout):.3f}" for layout in judged.speed.ratios)


def _divergence(changes: Changes) -> str:
    """Where head's logits part from the reference's, unless base's did there too."""
    before = changes.base.divergence if changes.base else ""
    return changes.head.divergence if changes.head and changes.head.divergence != before else ""


def _besides(judged: Judgement) -> Iterator[str]:
    """What does not fail and yet should be seen."""
    if judged.base_cannot:
        yield f"could not be judged at base, so that nothing is compared: {text(judged.base_cannot)}"
    if judged.speed is not None and judged.speed.unmeasured:
        yield f"speed is not measured: {text(judged.speed.unmeasured)}"
    changes = judged.changes
    if changes is None or changes.base is None or changes.head is None:
        return
    if changes.head.conforms is False and not judged.failures:
        yield "does not conform, as it did not at base"
    yield from telling.hooks(changes, MARKDOWN)
    yield from telling.counts(changes, MARKDOWN)
    yield from telling.pairs(changes.versions, MARKDOWN)
    if changes.gone:
        yield f"{len(changes.gone)} findings are gone: {_ids(changes.gone)}"
    if changes.withdrawn:
        yield f"{len(changes.withdrawn)} deviations are declared no more: {_ids(changes.withdrawn)}"


def _ids(those: tuple[Told, ...]) -> str:
    return telling.few(tuple(dict.fromkeys(told.requirement for told in those)), MARKDOWN)


def _details(judged: Judgement) -> Iterator[str]:
    """Folded parts: each failure with its evidence, verdicts that moved, what was declared."""
    name, changes = judged.adapter, judged.changes
    for failure in judged.failures:
        if failure.evidence:
            shown = "\n\n".join(_evidence(told) for told in failure.evidence[:TEN])
            yield folded(f"{name}: {failure.text}", shown)
    if changes is None:
        return
    if changes.verdicts:
        rows = [
            [code(moved.requirement), moved.layout or "", moved.level, moved.base or "", moved.head or ""]
            for moved in changes.verdicts
        ]
        heads = ("requirement", "layout", "level", "base", "head")
        yield folded(f"{name}: {len(rows)} verdicts moved", table(heads, rows))
    if changes.declared:
        lines = "\n".join(f"- {telling.at(told, MARKDOWN)}: {text(told.because)}" for told in changes.declared)
        yield folded(f"{name}: {len(changes.declared)} newly declared", lines)


def _evidence(told: Told) -> str:
    line = telling.finding(told, MARKDOWN)
    return f"{line}\n\n{block(told.detail, 'diff')}" if told.detail else line
