"""Likelihood: what the bridge's logits say of a text, under the model's own objective. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ...compare import Allowed
    from ...facts import Halves
    from ...oracles.likelihood import Parameterisation
    from ...pair import Pair
    from ...subject import Boot

MOST_BLOCK = 6
"""Tokens in a block whose patterns are enumerated; of a miniature with larger blocks a finer one is judged."""

LIPSCHITZ = 2
"""How much further log-probabilities move than logits, at most: a logit, and the normaliser the other way.

The bound and the likelihood per token move no further: their weights add up to one.
"""

SUM = 1e-9
"""How far probabilities may add up to something else than one, in fp64. Measured: 1e-15."""


@requirement("parity/likelihood", level=MUST, needs=("parity/logits",))
def likelihood(boot: Boot) -> Iterator[Finding]:
    """Where a spec holds a text and its masked copy in one forward, what the bridge's logits say of the text MUST be
    what the reference's say: normalised log-probabilities, the bound for given draws, the exact bound and likelihood
    over all masks of a block; and in blocks of one the likelihood that is read off token by token.

    Perplexities are what such models are compared by. They are read at canvases that no ordinary input shows, such as
    one that is masked whole.
    """
    from ...oracles.likelihood import PARAMETERISATIONS

    spec = boot.spec
    if spec.mask_token is None or spec.halves is None:
        return
    read = PARAMETERISATIONS.get(spec.parameterisation or "")
    if read is None:
        want = f"how logits are read: {', '.join(PARAMETERISATIONS)}"
        yield Finding("undeclared", "parameterisation", got=str(spec.parameterisation), want=want)
    elif "block" in spec.sizes:
        few = next(size for size in range(MOST_BLOCK, 0, -1) if boot.small.sizes["block"] % size == 0)
        for size, judge in ((few, _by_blocks), (1, _token_by_token)):
            text = _text(boot, spec.halves, boot.small.sized(block=size), read)
            # Where plain logits are wrong, what is made of them says nothing more.
            if not text.pair.differs("logits"):
                yield from judge(text)


@dataclass(frozen=True, slots=True)
class Text:
    """One text that a layout holds twice: canvases on which some of it is masked, and what logits say of it."""

    pair: Pair
    alone: Pair
    noisy: slice
    clean: slice
    mask: int
    read: Parameterisation

    @property
    def tokens(self) -> Tensor:
        """The text, `pos`."""
        tokens: Tensor = self.pair.inputs["input_ids"][0, self.clean]
        return tokens

    def canvases(self, hidden: Tensor) -> dict[str, Any]:
        """Inputs in which one row after another hides some tokens, `row pos`; the other arguments are the same."""
        import torch

        inputs = self.pair.batched(len(hidden))
        inputs["input_ids"][:, self.noisy] = torch.where(hidden, self.mask, self.tokens)
        return inputs

    def log_probabilities(self, inputs: dict[str, Any], logits: Tensor) -> Tensor:
        """At every position of the noisy copy, `row pos d_vocab`."""
        start = self.noisy.start - self.pair.returned.start
        noisy = logits[:, start : start + len(self.tokens)]
        return self.read(noisy, inputs["input_ids"][:, self.noisy], self.mask)

    def scores(self, inputs: dict[str, Any], logits: Tensor) -> Tensor:
        """Log-probabilities of the text's own tokens, `row pos`."""
        told = self.log_probabilities(inputs, logits)
        return told.gather(-1, self.tokens.expand(len(told), -1)[..., None])[..., 0]

    def allowed(self, scale: float = 1.0) -> Allowed:
        """How far a figure per token may lie from the reference's, if a logit weighs `scale` in it."""
        from ...compare import PATHS, Allowed

        return Allowed(LIPSCHITZ * scale * self.pair.allowed("logits", PATHS), PATHS.name)


def _text(boot: Boot, halves: Halves, judged: Boot, read: Parameterisation) -> Text:
    from ...sizes import Size

    assert boot.spec.mask_token is not None
    noisy, clean = (slice(*(Size(end).of(judged.sizes) for end in ends)) for ends in (halves.noisy, halves.clean))
    mask = boot.spec.mask_token.of(judged.sizes)
    return Text(judged.pairs[halves.layout], judged.pairs[halves.alone], noisy, clean, mask, read)


def _by_blocks(text: Text) -> Iterator[Finding]:
    """Every mask of a block in a row of one forward, in all blocks alike: noisy blocks do not see one another."""
    import torch

    from ...compare import close
    from ...oracles import likelihood

    pair, block = text.pair, text.pair.boot.sizes["block"]
    blocks = len(text.tokens) // block
    t = likelihood.stratified(0.5, blocks).repeat_interleave(block)
    drawn = torch.rand(len(t), generator=torch.Generator().manual_seed(5)) < t
    inputs = text.canvases(torch.cat((likelihood.patterns(block).repeat(1, blocks), drawn[None])))

    def told(logits: Tensor) -> dict[str, Tensor]:
        scores = text.scores(inputs, logits)
        by_block = scores[:-1].unflatten(-1, (blocks, block)).movedim(1, 0)
        return {
            "bound for given draws": likelihood.nelbo(scores[-1], drawn, t).mean()[None],
            "exact bound": likelihood.exact_nelbo(by_block) / block,
            "exact likelihood": likelihood.exact_nll(by_block) / block,
        }

    logits = pair.call(inputs)
    total = text.log_probabilities(inputs, logits).exp().sum(-1)
    yield from close("log-probabilities", total, torch.ones_like(total), SUM)
    if total.isfinite().all():
        got, want = told(logits), told(pair.reference_logits(inputs))
        scales = {"bound for given draws": max(1.0, float((drawn / t).mean()))}
        for name in got:
            yield from close(name, got[name], want[name], text.allowed(scales.get(name, 1.0)))


def _token_by_token(text: Text) -> Iterator[Finding]:
    """Blocks of one: the masked copy in one forward, against one canvas for each token, clean only before it."""
    import torch

    from ...compare import close
    from ...layout import PerRow

    pair, alone, tokens = text.pair, text.alone, text.tokens
    # Two rows alike: of a batch of one parity/grid speaks.
    inputs = text.canvases(torch.ones(2, len(tokens), dtype=torch.bool))
    want = text.scores(inputs, pair.reference_logits(inputs))[0]
    got = text.scores(inputs, pair.call(inputs))[0]
    yield from close("autoregressive likelihood", got, want, text.allowed(), case=pair.layout.name)

    length = len(tokens) if alone.layout.ragged else alone.length
    index = torch.arange(length)
    canvases = torch.where(index < index[:, None], tokens[:length], text.mask)
    rows = alone.batched(length)
    shared = [name for name, kind in alone.layout.arguments.items() if isinstance(kind, PerRow) and name in inputs]
    rows |= {name: inputs[name][:1].repeat(length) for name in shared}
    logits = alone.call({**rows, "input_ids": canvases})
    told = text.read(logits[index, index], canvases.diagonal(), text.mask)
    got = told.gather(-1, tokens[:length, None])[:, 0]
    yield from close("autoregressive likelihood", got, want[:length], text.allowed(), case=alone.layout.name)
