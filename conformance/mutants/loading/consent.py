"""Boots that run code which nobody has agreed to, or that refuse it badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="loading/opt-in")
def imports_before_it_asks(boot: Boot) -> None:
    """The remote class is imported, to be patched, before anyone has looked at the flag."""

    def defect(inner: Callable[..., Any], folder: Any, consent: Any, **kwargs: Any) -> Any:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        get_class_from_dynamic_module(boot.config["auto_map"][boot.spec.auto_class], folder)
        return inner(folder=folder, consent=consent, **kwargs)

    _asked(boot, defect)


@mutant(kills="loading/opt-in")
def trusts_regardless(boot: Boot) -> None:
    """The flag is passed on as True whatever the user said, as the model does not load without it."""
    _asked(boot, lambda inner, consent, **kwargs: inner(consent={"trust_remote_code": True}, **kwargs))


@mutant(kills="loading/opt-in")
def asks_on_the_terminal(boot: Boot) -> None:
    """A flag that is left out is passed on as None, at which transformers asks on the terminal and waits."""

    def defect(inner: Callable[..., Any], folder: Any, consent: Any, **kwargs: Any) -> Any:
        from transformers import AutoConfig

        if not consent:
            AutoConfig.from_pretrained(folder, trust_remote_code=None)
        return inner(folder=folder, consent=consent, **kwargs)

    _asked(boot, defect)


@mutant(kills="loading/opt-in")
def refuses_without_a_word(boot: Boot) -> None:
    """The refusal is caught and told as a missing file, so that the user looks for one."""

    def defect(inner: Callable[..., Any], **kwargs: Any) -> Any:
        try:
            return inner(**kwargs)
        except ValueError as error:
            raise OSError("cannot load this model") from error

    _asked(boot, defect)


@mutant(kills="loading/opt-in")
def runs_code_from_elsewhere(boot: Boot) -> None:
    """A trusted boot runs the copy of the code that an earlier one left in a cache, not what the user has read."""

    def defect(inner: Callable[..., Any], folder: Any, consent: Any, **kwargs: Any) -> Any:
        return inner(folder=None if any(consent.values()) else folder, consent=consent, **kwargs)

    _asked(boot, defect)


@mutant(kills="loading/opt-in")
def fails_in_another_folder(boot: Boot) -> None:
    """A trusted boot fails where the folder has not the name that the author's had."""

    def defect(inner: Callable[..., Any], folder: Any, consent: Any, **kwargs: Any) -> Any:
        if any(consent.values()):
            raise ImportError("no such package")
        return inner(folder=folder, consent=consent, **kwargs)

    _asked(boot, defect)


def _asked(boot: Boot, defect: Callable[..., Any]) -> None:
    """Let a defect answer for the boots by path that say themselves what the user has agreed to."""

    def boot_again(inner: Callable[..., Any], hf_model: Any = None, **kwargs: Any) -> Any:
        asked = hf_model is None and kwargs.get("consent") is not None
        return defect(inner, **kwargs) if asked else inner(hf_model, **kwargs)

    around(boot, "boot_again", boot_again)
