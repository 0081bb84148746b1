"""TransformerLens's own verifier, `transformer_lens.benchmarks`, on a diffusion model: its suite with every help.

Its driver, `run_benchmark_suite`, runs phases 1 to 3 as it stands, with its own inputs, thresholds and verdicts. What
it is helped with, as it expects a causal model that takes nothing but text:

- layouts: it runs once in every layout of the spec, and one of them is enough to notice something;
- tokenizer: a real one, in memory, with a character for every id of the miniature, so that a text is the layout's
  stream, masks and all, token for token; it does not cut a stream that is longer than `cfg.n_ctx`;
- text: the bridge's own `to_tokens` reads it before anything else runs, as defects are written for tokens, and none is
  to be noticed because it cannot read a text;
- arguments: what the layout needs besides tokens (noise levels, sample_mode, masks) is filled in on both sides;
- phases: all three run, whichever the adapter says it can be verified in (LLaDA's says none);
- bridge: wherever it boots one, it gets the spec's, mutant, overrides and repair included, in fp32;
- reference: wherever it loads the model, it gets one of the same folder that is constructed and filled by hand;
- outputs: a reference that returns a bare tensor returns an object with `.logits`, without which it compares nothing;
- loss: where the bridge refuses a causal loss, or cannot take it, the cross entropy of every token in its place;
- inputs: components that are not as wide as the residual stream (the conditioning path) get inputs of their width;
- components: its one result on all of them is taken apart, so that one that it cannot run hides no other.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import transformer_lens.benchmarks.main_benchmark as driver
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformer_lens.benchmarks.component_outputs import ComponentBenchmarker
from transformer_lens.benchmarks.utils import BenchmarkSeverity
from transformers import PreTrainedTokenizerFast

from conformance.mutants.surgery import around
from conformance.pair import Pair
from conformance.subject import Boot

PHASES = [1, 2, 3]
FIRST = 0xE000
"""The character of id 0; the private use area has room for 6400 ids."""


class State(StrEnum):
    """What the incumbent says of one thing; `WARNED` counts as passed with it."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


class Said(NamedTuple):
    """One result, with its message in one line."""

    state: State
    message: str


class Characters(PreTrainedTokenizerFast):
    """A tokenizer of one character per id, that cuts nothing."""

    @classmethod
    def of(cls, size: int) -> Characters:
        """The one for a vocabulary of `size` ids."""
        start, end = chr(FIRST), chr(FIRST + 1)
        made = Tokenizer(models.WordLevel({chr(FIRST + id): id for id in range(size)}, unk_token=start))
        made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        made.decoder = decoders.Fuse()
        return cls(tokenizer_object=made, bos_token=start, eos_token=end, pad_token=end)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **{**kwargs, "truncation": False, "max_length": None})


@dataclass
class Call:
    """One layout as the incumbent calls it: a text, and what is filled in for it."""

    text: str
    tokenizer: Characters
    arguments: dict[str, Any]
    returned: slice
    placed: bool = False
    """Whether the loss is that of every token in its place."""

    @classmethod
    def of(cls, pair: Pair) -> Call:
        """The first row of a layout's inputs, as a text of the clean bridge."""
        arguments = dict(pair.row)
        ids = arguments.pop("input_ids")
        stream = "".join(chr(FIRST + id) for id in ids[0].tolist())
        call = cls(stream, Characters.of(pair.boot.sizes["d_vocab"]), arguments, pair.returned)
        bridge = call.helped(pair.boot.boot_again())
        # The bridge may put a token in front, or take one away.
        lengths = {text: bridge.to_tokens(text).shape[1] for text in (stream, stream[1:], stream[0] + stream)}
        call.text = next(text for text, length in lengths.items() if length == ids.shape[1])
        try:
            bridge(call.text, labels=bridge.to_tokens(call.text), return_type="loss")
        except Exception:
            call.placed = True
        return call

    def helped(self, bridge: Any) -> Any:
        """A bridge that takes the text, and has the layout's other arguments as defaults."""
        # Its setter would ask the hub for another one and change the config.
        object.__setattr__(bridge, "_tokenizer", self.tokenizer)
        for way, taken in {"forward": self._forward, "run_with_hooks": self._run, "run_with_cache": self._run}.items():
            around(bridge, way, partial(taken, bridge))
        return bridge

    def _run(self, bridge: Any, inner: Any, given: Any, **kwargs: Any) -> Any:
        tokens = bridge.to_tokens(given) if isinstance(given, str) else given
        return inner(tokens, **{**self.arguments, **kwargs})

    def _forward(self, bridge: Any, inner: Any, given: Any, **kwargs: Any) -> Any:
        if not self.placed or kwargs.get("return_type") != "loss":
            return self._run(bridge, inner, given, **kwargs)
        labels = kwargs.pop("labels")
        logits = self._run(bridge, inner, given, **{**kwargs, "return_type": "logits"})
        return cross_entropy(logits.flatten(0, 1), labels[:, self.returned].flatten())

    def reference(self, model: nn.Module) -> nn.Module:
        """A model with the same defaults."""

        def forward(inner: Any, *args: Any, **kwargs: Any) -> Any:
            got = inner(*args, **{**self.arguments, **kwargs})
            return SimpleNamespace(logits=got) if isinstance(got, Tensor) else got

        around(model, "forward", forward)
        return model


def said(boot: Boot, call: Call) -> dict[str, Said]:
    """What the suite says of a boot in one layout, by phase and name."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), _helped(boot, call):
        warnings.simplefilter("ignore")
        # It draws the inputs of components.
        torch.manual_seed(0)
        results = driver.run_benchmark_suite(
            str(boot.folder), test_text=call.text, phases=PHASES, trust_remote_code=True, verbose=False
        )
    return dict(taken_apart(results))


@contextmanager
def _helped(boot: Boot, call: Call) -> Iterator[None]:
    class Bridges:
        @staticmethod
        def boot_transformers(*_: Any, **__: Any) -> Any:
            return call.helped(boot.boot_again())

    class Models:
        @staticmethod
        def from_pretrained(*_: Any, **__: Any) -> Any:
            return call.reference(boot.construct())

    hidden = ComponentBenchmarker._get_test_input_for_component

    def as_wide(self: Any, path: str, inputs: dict[str, Tensor]) -> Tensor | None:
        got = hidden(self, path, inputs)
        linear = (m for m in self.adapter.get_component(self.hf_model, path).modules() if isinstance(m, nn.Linear))
        width = next((module.in_features for module in linear), None)
        return got if got is None or width in (None, got.shape[-1]) else torch.randn(*got.shape[:-1], width)

    with ExitStack() as stack:
        stack.enter_context(patch.object(ComponentBenchmarker, "_get_test_input_for_component", as_wide))
        for name, helped in {
            "TransformerBridge": Bridges,
            "get_auto_model_class": lambda *_, **__: Models,
            "_adapter_applicable_phases": lambda *_, **__: PHASES,
        }.items():
            stack.enter_context(patch.object(driver, name, helped))
        yield


def taken_apart(results: list[Any]) -> Iterator[tuple[str, Said]]:
    """Every result by phase and name; of one that names what failed in it, what it names."""
    for result in results:
        name, details = f"{result.phase}/{result.name}", result.details or {}
        failures = details.get("failures") or {}
        for part, failure in failures.items():
            yield f"{name}: {part}", Said(State.FAILED, _line(failure["error"] or f"max_diff {failure['max_diff']:g}"))
        if not failures:
            yield name, Said(_state(result), _line(result.message))


def _state(result: Any) -> State:
    if result.severity is BenchmarkSeverity.SKIPPED or result.message.lower().startswith("skipped"):
        return State.SKIPPED
    if not result.passed:
        return State.FAILED
    return State.WARNED if result.severity is BenchmarkSeverity.WARNING else State.PASSED


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()[:160]
