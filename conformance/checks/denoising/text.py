"""Text: what a sampler returns for a prompt and a seed. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...capabilities import judged
from ...finding import Finding
from ...requirement import MUST, requirement
from . import runs

if TYPE_CHECKING:
    from torch import Tensor

    from ...judge import Evidence
    from ...subject import Boot


def denoised(boot: Boot) -> Any:
    """What the sampler answers who asks for a text; where there is none, what a bridge would do it with."""
    from ...pair import blamed_on_subject

    if boot.spec.sampler is not None:
        return runs.sample(boot, runs.drawn(boot, rows=1, seed=9))
    with blamed_on_subject():
        return boot.small.bridge.diffusion_generate(runs.drawn(boot, rows=1))


@requirement("denoising/sampler", level=MUST, needs=("loading/runs",))
def sampler(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """The sampler MUST return ids `batch length` for a prompt of ids and its own options alone, or, where the spec
    declines it, `bridge.diffusion_generate` MUST raise an error that names it.

    Whoever asks a bridge for text gets the model's own, or is told that there is none.
    """
    import torch

    def ids(got: Any) -> bool:
        return isinstance(got, torch.Tensor) and got.ndim == 2 and len(got) == 1 and got.dtype is torch.long

    yield from judged(boot.spec, "denoise", lambda: denoised(boot), ids, evidence, "ids, `batch length`")


@requirement("denoising/prompt", level=MUST, needs=runs.NEEDS)
def prompt(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """The text MUST be that of the last step, start with the prompt, and be as long as asked for, whatever the prompt's
    length and tokens; and so MUST every canvas on the way start with it.

    A prompt that loses a token, or has one twice, asks another question; nobody sees it in the answer.
    """
    import torch

    from ...pair import SubjectRaised

    if runs.declined(boot, evidence):
        return
    for case, given, length in _prompts(boot):
        try:
            run = runs.watched(boot, given, length=length)
        except SubjectRaised as error:
            yield Finding("raised", "forward", got=str(error), want="a text", case=case)
            continue
        start = given.shape[1]
        if run.tokens.shape != (len(given), length):
            yield Finding(
                "wrong-length", "tokens", got=str(list(run.tokens.shape)), want=str([len(given), length]), case=case
            )
        elif not torch.equal(run.tokens, run.canvas[:, :length]):
            yield Finding("not-the-last-canvas", "tokens", got="other tokens", want="those of the last step", case=case)
        canvases = [run.tokens, *(canvas for seen in run.steps for canvas in (seen.step.canvas, seen.outcome.canvas))]
        if any(not torch.equal(canvas[:, :start], given) for canvas in canvases):
            yield Finding("prompt-changed", "tokens", got="other tokens", want="the prompt's", case=case)


def _prompts(boot: Boot) -> Iterator[tuple[str, Tensor, int]]:
    """Prompts `batch length` that samplers have stumbled over, with the length of their text."""
    import torch

    block, (usual, length) = runs.block_of(boot), runs.lengths(boot)
    yield "ends inside a block", runs.drawn(boot), length
    yield "ends with a block", runs.drawn(boot, length=min(block, usual)), length
    yield "is all there is to be", runs.drawn(boot), usual
    yield "repeats one token", runs.most(boot, torch.arange(2)[:, None].expand(2, usual).contiguous()), length
    special = _special(boot)
    if special:
        ids = torch.tensor((special * usual)[:usual])
        begun = runs.drawn(boot, rows=1)[0].index_fill(0, torch.tensor([0, usual - 1]), special[-1])
        yield "is of tokens that begin and end texts", runs.most(boot, torch.stack((ids, begun))), length


def _special(boot: Boot) -> list[int]:
    """Ids that begin, end or fill up a text, by tokenizer and config, whose masks are left out."""
    names = [f"{name}_token_id" for name in ("bos", "eos", "pad")]
    tokenizer = getattr(boot.small.bridge, "tokenizer", None)
    found = {getattr(tokenizer, name, None) for name in names} | {boot.small.config.get(name) for name in names}
    known = set(range(boot.small.sizes["d_vocab"])) - {runs.mask_of(boot)}
    return sorted(id for id in found if isinstance(id, int) and id in known)


@requirement("denoising/native", level=MUST, needs=("parity/logits", *runs.NEEDS))
def native(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """The tokens of a run MUST be those that the same sampler draws from the model itself with the same seed.

    Text through the bridge stands for the model's own; whatever hooks are for, they are not to change a word.
    """
    import torch

    from ...bare import Bare

    if runs.declined(boot, evidence):
        return
    for case, run in runs.plain(boot):
        bare = runs.watched(boot, run.prompt, bridge=Bare(boot.small), **run.options)
        if not bare.strays and not any(seen.forwards for seen in bare.steps):
            yield Finding(
                "not-native", "tokens", got="no forward of the model", want="a sampler that calls what it is given"
            )
            return
        if not torch.equal(run.tokens, bare.tokens):
            apart = int((run.tokens != bare.tokens).sum()) if run.tokens.shape == bare.tokens.shape else -1
            got = f"{apart} other tokens" if apart > 0 else str(list(run.tokens.shape))
            yield Finding("other-tokens", "tokens", got=got, want="the model's own", case=case)


@requirement("denoising/seed", level=MUST, needs=runs.NEEDS)
def seed(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """A seed MUST give the same tokens whatever the state of the process's own generators, and a run MUST leave these
    as it found them.

    What others draw in between is nobody's business; and an experiment that samples must not change the next one.
    """
    import torch

    from ...processwide import random_states

    if runs.declined(boot, evidence):
        return
    run = runs.usual(boot)
    with _other_generators():
        before = random_states()
        again = runs.watched(boot, run.prompt)
        after = random_states()
    if not torch.equal(run.canvas, again.canvas):
        yield Finding("not-reproducible", "tokens", got="other tokens", want="the same", case="other global generators")
    for name in before:
        if before[name] != after[name]:
            yield Finding("global-state", name, got="moved on by a run", want="as it was")


@requirement("denoising/batch", level=MUST, needs=runs.NEEDS)
def batch(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Row i of a batch with seed s MUST be the run of that row alone with seed s + i, and another text than that of
    other rows with the same prompt.

    One draws many texts at once and takes them for independent; and looks at one of them again, alone.
    """
    import torch

    if runs.declined(boot, evidence):
        return
    if runs.sampler_of(boot).most_rows == 1:
        yield from _one_row(boot, evidence)
        return
    given = torch.cat((runs.drawn(boot, rows=1, seed=5), runs.drawn(boot, rows=2, seed=5)))
    many = runs.watched(boot, given, seed=SEED)
    for row in range(len(given)):
        alone = runs.watched(boot, given[row : row + 1], seed=SEED + row)
        if not torch.equal(many.tokens[row : row + 1], alone.tokens):
            yield Finding(
                "other-tokens", "tokens", got="other tokens", want="those of the row alone", case=f"row {row}"
            )
    if torch.equal(many.tokens[0], many.tokens[1]):
        yield Finding("same-tokens", "tokens", got="one text twice", want="two texts", case="two rows of one prompt")


def _one_row(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Findings unless a batch is refused."""
    from ...pair import REFUSALS, SubjectRaised

    evidence.refused, given = True, runs.drawn(boot, rows=1)
    try:
        runs.watched(boot, given.repeat(2, 1))
    except SubjectRaised as error:
        if not isinstance(error.__cause__, REFUSALS) or "batch" not in str(error.__cause__):
            yield Finding("unclear-error", "batch", got=str(error), want="an error that names the batch")
        return
    yield Finding("accepted", "batch", got="a text of two rows", want="an error that names the batch")


SEED = 7
"""Of the first row of a batch."""


@contextmanager
def _other_generators() -> Iterator[None]:
    """The process's own generators stand elsewhere for a while."""
    import random

    import numpy
    import torch

    kept = torch.get_rng_state(), numpy.random.get_state(), random.getstate()
    torch.manual_seed(12345), numpy.random.seed(12345), random.seed(12345)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        numpy.random.set_state(kept[1])
        random.setstate(kept[2])
