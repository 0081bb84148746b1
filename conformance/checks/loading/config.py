"""Config: what the bridge says of itself is true. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...subject import Boot


ASKED = frozenset(("act_fn", "attention_dir", "eps", "normalization_type"))
"""Fields of which no other fact of a spec says what is true."""


@requirement("loading/config-truths", level=MUST)
def config_truths(boot: Boot) -> Iterator[Finding]:
    """Every field of `bridge.cfg` that the spec states MUST hold the model's true value.

    Analysis code reads context length, direction and activation from cfg; a wrong one is believed.
    """
    from ...truths import told

    for name, question in boot.spec.todo.items():
        # A ledger cannot declare these: what nobody has looked at is not known.
        yield Finding("unconfirmed", f"spec.{name}", got="a draft", want=question)
    for name in sorted(ASKED - boot.spec.truths.keys()):
        want = "what is true of the model: analysis code reads it"
        yield Finding("undeclared", f"cfg.{name}", got="not among the spec's truths", want=want)
    for name, truth in boot.spec.truths.items():
        wanted = told(truth, boot.sizes, boot.config)
        accepted = tuple(wanted) if isinstance(wanted, frozenset) else (wanted,)
        got = getattr(boot.bridge.cfg, name, None)
        if got not in accepted:
            text = " or ".join(sorted(map(str, accepted)))
            missing = not hasattr(boot.bridge.cfg, name)
            yield Finding("missing" if missing else "untrue", f"cfg.{name}", got=str(got), want=text)
