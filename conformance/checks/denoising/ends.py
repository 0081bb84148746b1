"""Ends: where a text stops, before its length is reached or beyond what the context holds. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement
from . import runs

if TYPE_CHECKING:
    from torch import Tensor

    from ...judge import Evidence
    from ...subject import Boot


@requirement("denoising/ending", level=MUST, needs=("denoising/batch", *runs.NEEDS))
def ending(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Where a token is to end a text, each row MUST be the text without that rule up to the first such token that the
    model wrote, filled up with it where others are longer, and no block after the last row's end be denoised.

    A text that goes on behind its end is scored for what nobody reads, and one that a prompt's token ends is empty.
    """
    import torch

    if runs.declined(boot, evidence):
        return
    rule = runs.sampler_of(boot).ending
    if rule is None:
        evidence.refused = True
        return
    alone, both = runs.watched(boot, runs.drawn(boot, rows=1, seed=21)), runs.usual(boot)
    cases = {"one row": (alone, _first(alone, boot)), "two rows": (both, _first(both, boot))}
    if (given := _only_given(alone, boot)) is not None:
        cases["a token of the prompt"] = (alone, given)
    for case, (run, token) in cases.items():
        ended = runs.watched(boot, run.prompt, **dict[str, Any](rule(token)))
        start = _begin(run, boot)
        want = _ended(run.tokens, token, start)
        # What stands in the last column of any text is the prompt's requirement to say.
        if ended.tokens.shape != want.shape or not torch.equal(ended.tokens[:, :-1], want[:, :-1]):
            told = str(ended.tokens.tolist())
            yield Finding("wrong-end", "tokens", got=told, want=str(want.tolist()), case=case)
        given = run.prompt.shape[1]
        last = (want.shape[1] - start + given - 1 - runs.first_block(boot, given)) // runs.block_of(boot)
        if late := [seen for seen in ended.steps if seen.step.block > last]:
            got = f"{len(late)} steps of later blocks"
            yield Finding("goes-on", "steps", got=got, want=f"none after block {last}", case=case)


def _begin(run: runs.Run, boot: Boot) -> int:
    """Where in a text is what the model wrote; whether the prompt before it is whole is another requirement's."""
    given, length = runs.lengths(boot)
    return int(run.tokens.shape[1]) - (length - given)


def _first(run: runs.Run, boot: Boot) -> int:
    """What the model wrote first, in the first row."""
    return int(run.tokens[0, _begin(run, boot)])


def _only_given(run: runs.Run, boot: Boot) -> int | None:
    """A token of the prompt that the model did not write."""
    written = run.tokens[0, _begin(run, boot) :].tolist()
    return next((id for id in run.prompt[0].tolist() if id not in written), None)


def _ended(texts: Tensor, token: int, start: int) -> Tensor:
    """Rows cut after their first such token behind the prompt, and filled up with it to the longest."""
    import torch

    hits = texts == token
    hits[:, :start] = False
    columns = torch.arange(texts.shape[1])
    ends = torch.where(hits, columns, texts.shape[1] - 1).amin(dim=1, keepdim=True)
    return texts.masked_fill(columns > ends, token)[:, : int(ends.max()) + 1]


@requirement("denoising/beyond-context", level=MUST, needs=runs.NEEDS)
def beyond_context(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """A text longer than the context MUST begin with the one that the same seed gives within it, and be denoised in
    windows that the context holds; or, where the spec declines it, asking for one MUST raise an error on the length.

    A window that starts anew, or holds more than the model was made for, writes on without a word.
    """
    import torch

    from ...pair import REFUSALS, SubjectRaised

    if runs.declined(boot, evidence):
        return
    sampler, n, prompt = runs.sampler_of(boot), boot.small.sizes["n"], runs.drawn(boot)
    length = n + min(runs.block_of(boot), n)
    if not sampler.open_ended:
        evidence.refused = True
        try:
            runs.watched(boot, prompt, length=length)
        except SubjectRaised as error:
            cause = error.__cause__
            if not isinstance(cause, REFUSALS) or sampler.length not in str(cause):
                want = f"an error that names {sampler.length}"
                yield Finding("unclear-error", sampler.length, got=str(error), want=want)
            return
        yield Finding(
            "accepted", sampler.length, got=f"a text of {length} tokens", want="an error: the spec declines it"
        )
        return
    within, beyond = (runs.watched(boot, prompt, length=each) for each in (n, length))
    known, written = within.tokens.shape[1], beyond.tokens.shape[1] - within.tokens.shape[1]
    if written != length - n:
        yield Finding("wrong-length", "tokens", got=f"{written} tokens more", want=f"{length - n} tokens more")
    elif not torch.equal(beyond.tokens[:, : known - 1], within.tokens[:, :-1]):
        yield Finding("other-beginning", "tokens", got="other tokens", want="those of the text within the context")
    widest = max(seen.step.window.stop - (seen.step.window.start or 0) for seen in beyond.steps)
    if widest > n:
        yield Finding("wide-window", "steps", got=f"{widest} columns", want=f"at most {n}")
