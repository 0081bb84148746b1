"""Texts that end too late, too early, or not as they were begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import having
from .sampling import Teller, sampling, telling

if TYPE_CHECKING:
    from ...denoising import Step
    from ...facts import Sampler
    from ...subject import Boot


def facts(boot: Boot) -> Sampler:
    """The sampler's facts."""
    return having(boot.spec.sampler, "a sampler")


def when_ending(boot: Boot, end: Callable[..., Any]) -> None:
    """Let `end(endless, prompt, token, run)` answer where a token is to end the text.

    `endless` is the text without that rule, `run()` what the sampler makes of it.
    """
    rule = having(facts(boot).ending, "a rule by which a text ends")
    one, other = rule(0), rule(1)
    key = next(name for name in one if one[name] != other[name])

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        if not one.keys() <= options.keys():
            return inner(bridge, prompt, **options)
        rest: Mapping[str, Any] = {name: value for name, value in options.items() if name not in one}
        return end(
            lambda: inner(bridge, prompt, **rest), prompt, options[key], lambda: inner(bridge, prompt, **options)
        )

    sampling(boot, sample)


@mutant(kills="denoising/ending")
def goes_on(boot: Boot) -> None:
    """The token that is to end a text is one like any other."""
    when_ending(boot, lambda endless, prompt, token, run: endless())


@mutant(kills="denoising/ending")
def ended_by_the_prompt(boot: Boot) -> None:
    """A token of the prompt ends the text before it has begun."""

    def end(endless: Callable[[], Any], prompt: Any, token: int, run: Callable[[], Any]) -> Any:
        text = run()
        return text[:, : prompt.shape[1]] if bool((prompt == token).any()) else text

    when_ending(boot, end)


@mutant(kills="denoising/ending")
def without_its_end(boot: Boot) -> None:
    """The token that ends a text is cut off with what follows."""
    when_ending(boot, lambda endless, prompt, token, run: run()[:, :-1])


@mutant(kills="denoising/ending")
def cut_afterwards(boot: Boot) -> None:
    """All blocks are denoised, and the text is cut when they are done: as many forwards, for nothing."""

    def end(endless: Callable[[], Any], prompt: Any, token: int, run: Callable[[], Any]) -> Any:
        from ...checks.denoising.ends import _ended

        return _ended(endless(), token, prompt.shape[1])

    when_ending(boot, end)


@mutant(kills="denoising/ending")
def rows_end_together(boot: Boot) -> None:
    """The first row that ends, ends them all."""

    def end(endless: Callable[[], Any], prompt: Any, token: int, run: Callable[[], Any]) -> Any:
        text = run()
        ends = (text[:, prompt.shape[1] :] == token).any(dim=0).nonzero()
        return text[:, : prompt.shape[1] + int(ends[0]) + 1] if len(ends) else text

    when_ending(boot, end)


def when_long(boot: Boot, change: Callable[..., Any]) -> None:
    """Let `change(sample, options)` answer where a text is to be longer than the context."""
    name, n = facts(boot).length, boot.small.sizes["n"]

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        if options[name] <= n:
            return inner(bridge, prompt, **options)
        return change(lambda **changed: inner(bridge, prompt, **{**options, **changed}), options)

    sampling(boot, sample)


@mutant(kills="denoising/beyond-context")
def cut_at_the_context(boot: Boot) -> None:
    """A text ends where the context does, however long it is to be."""
    n = boot.small.sizes["n"]
    when_long(boot, lambda sample, options: sample(**{facts(boot).length: n}))


@mutant(kills="denoising/beyond-context")
def another_text(boot: Boot) -> None:
    """How long a text is to be decides on its first tokens: the noise is drawn for all of it at once."""
    when_long(boot, lambda sample, options: sample(seed=options.get("seed", 0) + 1))


@mutant(kills="denoising/beyond-context")
def window_without_end(boot: Boot) -> None:
    """The window is all that there is of the text, as long as no one asks how long a text the model was made for."""

    class Wide(Teller):
        def step(self, step: Step) -> Step:
            return replace(step, window=slice(0, step.window.stop))

    telling(boot, Wide)


@mutant(kills="denoising/beyond-context")
def declined_and_done(boot: Boot) -> None:
    """The spec declines texts beyond the context, and the sampler writes one that nobody vouches for."""
    boot.spec = replace(boot.spec, sampler=replace(facts(boot), open_ended=False))
