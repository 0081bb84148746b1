"""Runs that change when they are watched, edited, resumed or traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import having
from .sampling import Teller, Through, commits, forwards, hooked, runs_the_bridge, sampling

if TYPE_CHECKING:
    from ...denoising import Step
    from ...subject import Boot


@mutant(kills="denoising/observers")
def observing_costs_a_draw(boot: Boot) -> None:
    """A sampler that is watched draws one number more, and its text is another."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        seed = options.get("seed", 0) + (options.get("observer") is not None)
        return inner(bridge, prompt, **{**options, "seed": seed})

    sampling(boot, sample)


@mutant(kills="denoising/observers")
def hooks_take_the_slow_path(boot: Boot) -> None:
    """While a hook stands, the model runs by another path, which scales its logits otherwise."""

    def run(bridge: Any) -> Callable[..., Any]:
        return lambda ids, **given: bridge(ids, **given) * (1.5 if hooked(bridge) else 1)

    forwards(boot, run)


@mutant(kills="denoising/edits")
def draws_from_a_copy(boot: Boot) -> None:
    """The sampler draws from a copy of the model that it made first; hooks fire, and what they return is lost."""
    copies: list[Any] = []

    def run(bridge: Any) -> Callable[..., Any]:
        def forward(ids: Any, **given: Any) -> Any:
            copies[:] = copies or [boot.small.construct()]
            logits = bridge(ids, **given)
            return logits if commits(boot, given) is not None else _logits(copies[0](input_ids=ids, **given))

        return forward

    forwards(boot, run)


@mutant(kills="denoising/edits")
def watched_at_its_first_step_only(boot: Boot) -> None:
    """The first forward of a run is the bridge's; all later ones are those of a copy, where nobody has a hook."""

    def run(bridge: Any) -> Callable[..., Any]:
        copies: list[Any] = []

        def forward(ids: Any, **given: Any) -> Any:
            if copies and commits(boot, given) is None:
                return _logits(copies[0](input_ids=ids, **given))
            copies[:] = copies or [boot.small.construct()]
            return bridge(ids, **given)

        return forward

    forwards(boot, run)


@mutant(kills="denoising/edits")
def remembers_what_was_edited(boot: Boot) -> None:
    """Logits of a canvas are kept for when it comes again, even where a hook has changed them."""
    known: dict[str, Any] = {}

    def run(bridge: Any) -> Callable[..., Any]:
        def forward(ids: Any, **given: Any) -> Any:
            logits, canvas = bridge(ids, **given), f"{ids.tolist()} {commits(boot, given)}"
            if hooked(bridge):
                known[canvas] = logits
            return known.get(canvas, logits)

        return forward

    forwards(boot, run)


@mutant(kills="denoising/edits")
def draws_before_it_looks(boot: Boot) -> None:
    """Tokens are drawn from what the model says when nobody has a hook on it; what is told is what hooks made of it."""
    import torch

    runs_the_bridge(boot)

    copies: list[Any] = []

    class Shows(Teller):
        shown: Any = None

        def outcome(self, step: Step, outcome: Any) -> Any:
            same = outcome.logits is not None and self.shown is not None and self.shown.shape == outcome.logits.shape
            return replace(outcome, logits=self.shown, aligned=self.shown) if same else outcome

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, observer: Any = None, **options: Any) -> Any:
        copies[:] = copies or [boot.small.construct()]
        teller = None if observer is None else Shows(observer)

        def forward(ids: Any, **given: Any) -> Any:
            logits = bridge(ids, **given)
            if teller is not None:
                teller.shown = logits
            with torch.no_grad():
                return logits if commits(boot, given) is not None else _logits(copies[0](input_ids=ids, **given))

        return inner(Through(bridge, forward), prompt, observer=teller, **options)

    sampling(boot, sample)


@dataclass(frozen=True)
class State:
    """A state of the sampler beside the canvas that it is of."""

    canvas: Any
    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _resuming(boot: Boot, go_on: Callable[..., Any]) -> None:
    """Let `go_on(sample, bridge, prompt, state, **options)` answer where a run goes on; `state` may be edited."""
    sampler = having(boot.spec.sampler, "a sampler")
    having(sampler.resumable or None, "a sampler that goes on from a step")

    class Boxes(Teller):
        def step(self, step: Step) -> Step:
            return replace(step, state=State(step.state.canvas, step.state))

    def sample(
        inner: Callable[..., Any], bridge: Any, prompt: Any, observer: Any = None, resume: Any = None, **options: Any
    ) -> Any:
        options["observer"] = None if observer is None else Boxes(observer)
        if resume is None:
            return inner(bridge, prompt, **options)
        return go_on(inner, bridge, prompt, resume, **options)

    sampling(boot, sample)


@mutant(kills="denoising/resume")
def starts_over(boot: Boot) -> None:
    """Whoever goes on from a step gets the whole run once more."""
    _resuming(boot, lambda inner, bridge, prompt, state, **options: inner(bridge, prompt, **options))


@mutant(kills="denoising/resume")
def draws_the_first_numbers_again(boot: Boot) -> None:
    """A run that goes on draws from the seed anew, so that its tokens are others, or those of its first steps."""

    def go_on(inner: Callable[..., Any], bridge: Any, prompt: Any, state: State, **options: Any) -> Any:
        fresh: list[Any] = []

        class First:
            def before(self, step: Step) -> None:
                fresh.append(step.state)

            def after(self, step: Step, outcome: Any) -> None:
                pass

        inner(bridge, prompt, **{**options, "observer": First()})
        names = [name for name in _fields(fresh[0]) if _is_noise(getattr(fresh[0], name))]
        anew = replace(state.inner, **{name: getattr(fresh[0], name) for name in names}, canvas=state.canvas)
        return inner(bridge, prompt, resume=anew, **options)

    _resuming(boot, go_on)


def _fields(state: Any) -> list[str]:
    from dataclasses import fields

    return [field.name for field in fields(state)]


def _is_noise(value: Any) -> bool:
    """Whether a part of a state is the states of generators, which torch keeps as bytes."""
    import torch

    parts = value if isinstance(value, tuple) else (value,)
    return all(isinstance(part, torch.Tensor) and part.dtype is torch.uint8 for part in parts)


@mutant(kills="denoising/resume")
def goes_on_from_what_it_was(boot: Boot) -> None:
    """A canvas that was edited is replaced by the one that was kept with the state."""

    def go_on(inner: Callable[..., Any], bridge: Any, prompt: Any, state: State, **options: Any) -> Any:
        return inner(bridge, prompt, resume=state.inner, **options)

    _resuming(boot, go_on)


@mutant(kills="denoising/resume")
def asks_about_what_it_was(boot: Boot) -> None:
    """The first step after an edit draws from probabilities of the canvas before it."""

    def go_on(inner: Callable[..., Any], bridge: Any, prompt: Any, state: State, **options: Any) -> Any:
        asked: list[Any] = []

        def forward(ids: Any, **given: Any) -> Any:
            stale = state.inner.canvas[:, -ids.shape[1] :] if not asked else ids
            asked.append(ids)
            return bridge(stale, **given)

        resume = replace(state.inner, canvas=state.canvas)
        return inner(Through(bridge, forward), prompt, resume=resume, **options)

    _resuming(boot, go_on)


@mutant(kills="denoising/trace")
def takes_hooks_off_first(boot: Boot) -> None:
    """The sampler resets all hooks before it begins, so as to sample from the model as it is."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        if hasattr(bridge, "reset_hooks"):
            bridge.reset_hooks()
        return inner(bridge, prompt, **options)

    sampling(boot, sample)


@mutant(kills="denoising/trace")
def hooks_lag_behind(boot: Boot) -> None:
    """Hooks see the forward on the canvas of the step before, whose logits come from elsewhere."""
    import torch

    copies: list[Any] = []

    def run(bridge: Any) -> Callable[..., Any]:
        last: list[Any] = []

        def forward(ids: Any, **given: Any) -> Any:
            copies[:] = copies or [boot.small.construct()]
            if commits(boot, given) is not None:
                return bridge(ids, **given)
            late = last.pop() if last and last[0].shape == ids.shape else ids
            last[:] = [ids]
            with torch.no_grad():
                true, false = (_logits(copies[0](input_ids=each, **given)) for each in (ids, late))
            return true + (bridge(late, **given) - false)

        return forward

    forwards(boot, run)


def _logits(output: Any) -> Any:
    """The logits of a model's output; defects are listed where nothing heavy is imported."""
    from ...taps import logits_of

    return logits_of(output)
