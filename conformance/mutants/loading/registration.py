"""Adapters that are in no list, or in one where they have no place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import NoPlace, mutant
from ..surgery import having

if TYPE_CHECKING:
    from ...subject import Boot


def tables(boot: Boot, table: str, change: Callable[[dict[str, str]], object], *, live: bool = False) -> None:
    """Let the judge read another table than TransformerLens has; TransformerLens itself is left alone."""
    from ...checks.loading.registration import registered

    if boot.spec.adapter is not None and not live:
        raise NoPlace("the adapter is none of TransformerLens's")
    found = registered(boot)
    held = found.live if live else found.written
    entries = dict(held[table])
    change(entries)
    changed = {**held, table: entries}
    boot.__dict__["registered"] = replace(found, live=changed) if live else replace(found, written=changed)


@mutant(kills="loading/registration")
def not_exported(boot: Boot) -> None:
    """The adapter is missing in the list of names that its package exports."""
    from ...checks.loading.registration import registered

    shipped = registered(boot).written["SUPPORTED_ARCHITECTURES"]
    kind = having(shipped.get(boot.spec.architecture), "a place among TransformerLens's")
    tables(boot, "__all__", lambda entries: entries.pop(kind))


@mutant(kills="loading/registration")
def in_no_registry(boot: Boot) -> None:
    """The architecture boots, and yet the registry of models says that it is not supported."""
    tables(boot, "HF_SUPPORTED_ARCHITECTURES", lambda entries: entries.pop(boot.spec.architecture))


@mutant(kills="loading/registration")
def of_nobody(boot: Boot) -> None:
    """Nobody is named who publishes models of the architecture, so that the scraper passes over all of them."""
    tables(boot, "CANONICAL_AUTHORS_BY_ARCH", lambda entries: entries.update({boot.spec.architecture: "[]"}))


@mutant(kills="loading/registration")
def without_a_description(boot: Boot) -> None:
    """The report on architectures has nothing to say of this one."""
    tables(boot, "ARCHITECTURE_DESCRIPTIONS", lambda entries: entries.pop(boot.spec.architecture))


@mutant(kills="loading/registration")
def under_another_name(boot: Boot) -> None:
    """The factory maps the architecture to another class than the one that was booted."""
    tables(boot, "SUPPORTED_ARCHITECTURES", lambda entries: entries.update({boot.spec.architecture: "NeoAdapter"}))


@mutant(kills="loading/registration")
def registers_itself(boot: Boot) -> None:
    """An adapter of one's own enters itself into the factory, and answers for everyone's boots of that architecture."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    boot.spec = replace(boot.spec, adapter=boot.spec.adapter or SUPPORTED_ARCHITECTURES[boot.spec.architecture])
    mine = {boot.spec.architecture: "MyAdapter"}
    tables(boot, "SUPPORTED_ARCHITECTURES", lambda entries: entries.update(mine), live=True)
