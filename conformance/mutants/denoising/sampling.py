"""The ways in which mutants cut into a sampler: its arguments and its text, what it tells, and its forwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import NoPlace
from ..surgery import first, having

if TYPE_CHECKING:
    from ...denoising import Outcome, Step
    from ...subject import Boot


def sampling(boot: Boot, defect: Callable[..., Any]) -> None:
    """Let `defect(sample, bridge, prompt, **options)` answer for the sampler."""
    facts = having(boot.spec.sampler, "a sampler")
    boot.spec = replace(boot.spec, sampler=replace(facts, sample=partial(defect, facts.sample)))


def telling(boot: Boot, tell: Callable[[Any], Teller]) -> None:
    """Let another observer stand before every one who watches; `tell(observer)` makes it for each run."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, observer: Any = None, **options: Any) -> Any:
        return inner(bridge, prompt, observer=None if observer is None else tell(observer), **options)

    sampling(boot, sample)


class Teller:
    """An observer that hands on what it is told; subclasses tell something else."""

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.latest: Step | None = None

    def step(self, step: Step) -> Step:
        """The step as it is told."""
        return step

    def outcome(self, step: Step, outcome: Outcome) -> Outcome:
        """The outcome as it is told, of a step as it truly is."""
        return outcome

    def before(self, step: Step) -> None:
        """Tell a step."""
        self.latest = self.step(step)
        self.observer.before(self.latest)

    def after(self, step: Step, outcome: Outcome) -> None:
        """Tell its outcome."""
        self.observer.after(self.latest, self.outcome(step, outcome))


def forwards(boot: Boot, run: Callable[[Any], Callable[..., Any]]) -> None:
    """Let `run(bridge)(ids, **arguments)` answer for the forwards of every run."""
    runs_the_bridge(boot)

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        return inner(Through(bridge, run(bridge)), prompt, **options)

    sampling(boot, sample)


def runs_the_bridge(boot: Boot) -> None:
    """Refuse samplers whose forwards nobody can stand before."""
    if having(boot.spec.sampler, "a sampler").native is not None:
        raise NoPlace("the sampler is the model's own, and runs no forward of the bridge's")


class Through:
    """A bridge whose forwards are others; all else that a sampler may ask for is the bridge's."""

    def __init__(self, bridge: Any, run: Callable[..., Any]) -> None:
        self._bridge, self._run = bridge, run

    def __call__(self, ids: Any, **arguments: Any) -> Any:
        """Logits."""
        return self._run(ids, **arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)


def telling_of(boot: Boot, which: Callable[[Step, Outcome], bool], what: str) -> None:
    """Refuse samplers that tell of no such step."""
    from ...checks.denoising import runs

    having(boot.spec.sampler, "a sampler")
    steps = (seen for _, run in runs.every(boot.afresh()) for seen in run.steps)
    first((seen for seen in steps if which(seen.step, seen.outcome)), what)


def commits(boot: Boot, arguments: Mapping[str, Any]) -> bool | None:
    """Whether a forward keeps its block; None where nothing is kept at all."""
    facts = boot.spec.cache
    if facts is None or not facts.commit.keys() & arguments.keys():
        return None
    return all(arguments.get(name) == value for name, value in facts.commit.items())


def hooked(bridge: Any) -> bool:
    """Whether any hook stands at a bridge."""
    return any(point.has_hooks() for point in bridge.hook_dict.values())
