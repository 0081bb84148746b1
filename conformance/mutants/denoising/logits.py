"""Logits of steps that are not the model's, and caches that keep the wrong block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import having
from .sampling import Teller, commits, forwards, telling, telling_of

if TYPE_CHECKING:
    from ...denoising import Outcome, Step
    from ...subject import Boot


def _told(boot: Boot, change: Callable[[Step, Outcome], dict[str, Any]]) -> None:
    class Tells(Teller):
        def outcome(self, step: Step, outcome: Outcome) -> Outcome:
            known = outcome.logits is not None and outcome.log_probs is not None
            return replace(outcome, **change(step, outcome)) if known else outcome

    telling(boot, Tells)


@mutant(kills="denoising/logits")
def worked_on_in_place(boot: Boot) -> None:
    """Logits are told after the parameterisation was applied in place, as the released code does."""

    def worked(step: Step, outcome: Outcome) -> dict[str, Any]:
        assert outcome.logits is not None
        logits = outcome.logits.clone()
        logits[..., -1] -= 1e6
        logits -= logits.logsumexp(-1, keepdim=True)
        return {"logits": logits, "aligned": logits}

    _told(boot, worked)


def _of_a_part(step: Step, outcome: Outcome) -> bool:
    logits, drawn = outcome.logits, outcome.log_probs
    return logits is not None and drawn is not None and drawn.shape[1] < logits.shape[1]


@mutant(kills="denoising/logits")
def cut_to_the_block(boot: Boot) -> None:
    """Logits are told of the block alone, and row i is taken for that of column i."""
    telling_of(boot, _of_a_part, "a step that draws from a part of its logits")

    def cut(step: Step, outcome: Outcome) -> dict[str, Any]:
        assert outcome.logits is not None
        assert outcome.log_probs is not None
        rows = outcome.logits[:, -outcome.log_probs.shape[1] :]
        return {"logits": rows, "aligned": rows}

    _told(boot, cut)


@mutant(kills="denoising/logits")
def window_a_block_off(boot: Boot) -> None:
    """What is told as the window begins a block later than the one that the model was given."""
    from ...checks.denoising.runs import block_of

    block = block_of(boot)
    within = "a window of more than a block"
    telling_of(boot, lambda step, _: step.window.start + block < step.window.stop, within)

    class Off(Teller):
        def step(self, step: Step) -> Step:
            start = step.window.start + block
            return replace(step, window=slice(start, step.window.stop)) if start < step.window.stop else step

    telling(boot, Off)


@mutant(kills="denoising/log-probs")
def at_a_temperature(boot: Boot) -> None:
    """Log-probabilities are told at the temperature that is drawn at."""
    having(boot.spec.parameterisation, "a parameterisation")

    def sharpened(step: Step, outcome: Outcome) -> dict[str, Any]:
        assert outcome.log_probs is not None
        return {"log_probs": (outcome.log_probs / 0.7).log_softmax(-1)}

    _told(boot, sharpened)


@mutant(kills="denoising/log-probs")
def after_the_nucleus(boot: Boot) -> None:
    """Log-probabilities are told once unlikely tokens are out and the others make up for them."""
    having(boot.spec.parameterisation, "a parameterisation")

    def narrowed(step: Step, outcome: Outcome) -> dict[str, Any]:
        assert outcome.log_probs is not None
        few = outcome.log_probs.topk(5, dim=-1)
        kept = few.values - few.values.logsumexp(-1, keepdim=True)
        return {"log_probs": outcome.log_probs.new_full(outcome.log_probs.shape, -1e6).scatter(-1, few.indices, kept)}

    _told(boot, narrowed)


@mutant(kills="denoising/log-probs")
def mass_on_the_mask(boot: Boot) -> None:
    """Log-probabilities are told before the mask's own is taken out."""
    having(boot.spec.parameterisation, "a parameterisation")

    def raw(step: Step, outcome: Outcome) -> dict[str, Any]:
        assert outcome.logits is not None
        assert outcome.log_probs is not None
        return {"log_probs": outcome.logits[:, -outcome.log_probs.shape[1] :].double().log_softmax(-1)}

    _told(boot, raw)


@mutant(kills="denoising/log-probs")
def aligned_as_if_causal(boot: Boot) -> None:
    """Aligned logits are shifted by one, as those of models that predict the next token."""

    def shifted(step: Step, outcome: Outcome) -> dict[str, Any]:
        assert outcome.logits is not None
        return {"aligned": outcome.logits.roll(1, dims=1)}

    _told(boot, shifted)


@mutant(kills="denoising/log-probs")
def tells_no_log_probabilities(boot: Boot) -> None:
    """Log-probabilities are left out."""
    _told(boot, lambda step, outcome: {"log_probs": None})


@mutant(kills="denoising/kv-cache")
def commits_nothing(boot: Boot) -> None:
    """The keyword that keeps a block gets lost on the way, and every block is drawn as if it were the first."""
    facts = having(boot.spec.cache, "a cache of keys and values")

    def run(bridge: Any) -> Callable[..., Any]:
        return lambda ids, **given: bridge(ids, **{n: v for n, v in given.items() if n not in facts.commit})

    forwards(boot, run)


@mutant(kills="denoising/kv-cache")
def commits_every_draft(boot: Boot) -> None:
    """Every denoising step keeps its block too, so that a block is preceded by drafts of itself."""
    facts = having(boot.spec.cache, "a cache of keys and values")

    def run(bridge: Any) -> Callable[..., Any]:
        return lambda ids, **given: bridge(ids, **{n: facts.commit.get(n, v) for n, v in given.items()})

    forwards(boot, run)


@mutant(kills="denoising/kv-cache")
def commits_the_last_draft(boot: Boot) -> None:
    """A block is kept as it stood when it was last denoised, with a mask in it."""
    having(boot.spec.cache, "a cache of keys and values")

    def run(bridge: Any) -> Callable[..., Any]:
        drafts: list[Any] = []

        def forward(ids: Any, **given: Any) -> Any:
            kept = commits(boot, given)
            if kept is False:
                drafts[:] = [ids]
            draft = drafts.pop() if kept and drafts else ids
            return bridge(draft if kept else ids, **given)

        return forward

    forwards(boot, run)


@mutant(kills="denoising/kv-cache")
def reads_what_is_kept_in_half_precision(boot: Boot) -> None:
    """With a cache the model runs in bfloat16, as the released code does."""
    having(boot.spec.cache, "a cache of keys and values")

    def run(bridge: Any) -> Callable[..., Any]:
        def forward(ids: Any, **given: Any) -> Any:
            logits = bridge(ids, **given)
            return logits if commits(boot, given) is None else logits.bfloat16().to(logits.dtype)

        return forward

    forwards(boot, run)


@mutant(kills="denoising/kv-cache")
def leaves_its_cache_open(boot: Boot) -> None:
    """After a run the cache stays open, and every later forward goes on with what it has kept."""
    from .sampling import sampling

    facts = having(boot.spec.cache, "a cache of keys and values")
    cached = having(having(boot.spec.sampler, "a sampler").cached, "a sampler that can use a cache")

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        got = inner(bridge, prompt, **options)
        # Where it does no harm but to the model that is looked at for it.
        if cached.items() <= options.items() and bridge is not boot.small.bridge:
            facts.open(bridge.original_model, 2)
        return got

    sampling(boot, sample)
