"""Bad ledgers, as a table of a broken entry and its message."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest


def entry(**fields: object) -> str:
    whole = {"requirement": "hooks/fires", "at": "ln_final", "finding": "never-fires", "because": "so it is", **fields}
    lines = [f"{name} = {json.dumps(value)}" for name, value in whole.items() if value is not None]
    return "\n".join(["[[deviation]]", *lines, ""])


NEEDED = "every entry says requirement, at, finding, because, as text"
LEDGERS = {
    "not TOML": ("[[deviation]", "not valid TOML: *"),
    "another table": ("[[deviations]]", "unknown table 'deviations'; entries are written as [[deviation]]"),
    "one bracket": ("[deviation]", "write [[deviation]] with two brackets, one table per entry"),
    "no tables": ("deviation = [1]", "write [[deviation]] with two brackets, one table per entry"),
    "a typo in a field": (entry(becuase="x"), "entry 1: unknown field 'becuase'; did you mean 'because'?"),
    "an unknown field": (
        entry(skip=True),
        "entry 1: unknown field 'skip'; known: at, because, finding, issue, layouts, requirement, versions",
    ),
    "an unknown requirement": (
        entry(requirement="hooks/fire"),
        "entry 1: unknown requirement 'hooks/fire'; did you mean 'hooks/fires'?",
    ),
    "a hook that no one has judged": (
        entry(finding="unknown"),
        "entry 1: what no one has judged cannot be declared; name a point or an oracle tap for it",
    ),
    "no reason": (entry(because=None), f"entry 1: field 'because' is missing; {NEEDED}"),
    "an empty reason": (entry(because=" "), f"entry 1: field 'because' is ' '; {NEEDED}"),
    "a reason still to write": (
        entry(because="TODO"),
        "entry 1: because = 'TODO' is no reason; say in one sentence why it deviates",
    ),
    "a reason still to write, in other words": (
        entry(because="todo: look\ninto it"),
        "entry 1: because = 'todo: look\\ninto it' is no reason; say in one sentence why it deviates",
    ),
    "a place of another type": (entry(at=["ln_final"]), f"entry 1: field 'at' is ['ln_final']; {NEEDED}"),
    "an issue of another type": (
        entry(issue=7),
        "entry 1: issue is a string, got 7; write the address of the issue",
    ),
    "layouts of another type": (
        entry(layouts="train"),
        "entry 1: layouts is a list of strings, got 'train'; write [\"...\"]",
    ),
    "versions of another type": (
        entry(versions=[4.3]),
        'entry 1: versions is a list of strings, got [4.3]; write ["..."]',
    ),
    "an unparsable version range": (
        entry(versions=["transformer-lens at 4"]),
        "entry 1: cannot read version range 'transformer-lens at 4'; write one like 'transformer-lens>=4.3,<4.4'",
    ),
    "an unknown layout": (entry(layouts=["trian"]), "entry 1: unknown layout 'trian'; did you mean 'train'?"),
    "layouts of what is judged once per adapter": (
        entry(requirement="loading/boots", layouts=["train"]),
        "entry 1: loading/boots is judged once per adapter; remove layouts",
    ),
    "a second entry": (
        entry() + entry(because="TODO"),
        "entry 2: because = 'TODO' is no reason; say in one sentence why it deviates",
    ),
}


@pytest.mark.parametrize("case", LEDGERS)
def test_ledgers_that_cannot_be_trusted(
    pytester: pytest.Pytester, refused: Callable, spec: Callable, case: str
) -> None:
    text, message = LEDGERS[case]
    path = pytester.path / "mine.deviations.toml"
    path.write_text(text)
    comma = "," if message.startswith("entry") else ":"
    refused(f"ledger {path}{comma} {message}", "--adapter", spec())


def test_a_ledger_that_is_a_folder(pytester: pytest.Pytester, refused: Callable, spec: Callable) -> None:
    path = pytester.mkdir("mine.deviations.toml")
    refused(f"ledger {path}: cannot be read: Is a directory", "--adapter", spec())
