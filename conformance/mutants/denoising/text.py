"""Texts that lose their prompt, their seed or their company."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, having, on_bridge, output
from .sampling import runs_the_bridge, sampling

if TYPE_CHECKING:
    from ...subject import Boot


@mutant(kills="denoising/sampler")
def returns_the_prompt_again(boot: Boot) -> None:
    """`diffusion_generate` neither refuses nor samples; it returns the prompt."""
    _declining(boot, lambda _, prompt, **__: prompt)


@mutant(kills="denoising/sampler")
def trips_over_its_own_canvas(boot: Boot) -> None:
    """`diffusion_generate` is not refused and breaks down on the way, with a message about shapes."""

    def generate(_: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("The size of tensor a (32) must match the size of tensor b (3) at non-singleton dimension 1")

    _declining(boot, generate)


def _declining(boot: Boot, generate: Callable[..., Any]) -> None:
    """Let the spec decline to denoise, and `generate(inner, prompt, ...)` answer where users ask for it."""
    from ...spec import Impossible

    declined = {**boot.spec.capabilities, "denoise": Impossible("the model's class has no sampler")}
    boot.spec = replace(boot.spec, sampler=None, capabilities=declined)
    on_bridge(boot, lambda bridge: around(bridge, "diffusion_generate", generate))


@mutant(kills="denoising/sampler")
def has_no_default_seed(boot: Boot) -> None:
    """Without a seed the sampler looks for a generator that nobody made, and breaks down."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        if "seed" not in options:
            raise AttributeError("'NoneType' object has no attribute 'get_state'")
        return inner(bridge, prompt, **options)

    sampling(boot, sample)


@mutant(kills="denoising/sampler")
def returns_words(boot: Boot) -> None:
    """A single text that nobody watches comes back as a list of ids, as the tokenizer likes it."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        got = inner(bridge, prompt, **options)
        return got.tolist() if len(prompt) == 1 and "observer" not in options else got

    sampling(boot, sample)


@mutant(kills="denoising/prompt")
def loses_the_prompt(boot: Boot) -> None:
    """The text comes without its prompt, as some native samplers return it."""
    sampling(boot, lambda inner, bridge, prompt, **options: inner(bridge, prompt, **options)[:, prompt.shape[1] :])


@mutant(kills="denoising/prompt")
def doubles_the_prompt(boot: Boot) -> None:
    """The prompt is put before a text that has it already."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        import torch

        return torch.cat((prompt, inner(bridge, prompt, **options)), dim=1)

    sampling(boot, sample)


@mutant(kills="denoising/prompt")
def begins_over_the_prompt(boot: Boot) -> None:
    """The token that begins a text is written over the prompt's first, as block 0 of an empty canvas begins with it."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        begun = prompt.clone()
        begun[:, 0] = 1
        return inner(bridge, begun, **options)

    sampling(boot, sample)


@mutant(kills="denoising/prompt")
def takes_a_repeated_token_for_padding(boot: Boot) -> None:
    """A prompt of one token over and over is taken for a token and its padding."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        repeated = prompt.shape[1] > 1 and bool((prompt == prompt[:, :1]).all())
        return inner(bridge, prompt[:, :1] if repeated else prompt, **options)

    sampling(boot, sample)


@mutant(kills="denoising/prompt")
def rounds_the_length_up(boot: Boot) -> None:
    """A text that is to end inside a block ends with it."""
    from ...checks.denoising.runs import block_of

    facts = having(boot.spec.sampler, "a sampler")
    name, block = facts.length, block_of(boot)

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        return inner(bridge, prompt, **{**options, name: -(-options[name] // block) * block})

    sampling(boot, sample)


@mutant(kills="denoising/prompt")
def returns_an_earlier_canvas(boot: Boot) -> None:
    """The text that is returned lacks what the last step revealed."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        got = inner(bridge, prompt, **options).clone()
        if got.shape[1] > prompt.shape[1]:
            got[:, -1] = got[:, -2]
        return got

    sampling(boot, sample)


@mutant(kills="denoising/native")
def half_the_temperature(boot: Boot) -> None:
    """The bridge's logits are twice the model's, so that texts are drawn at half the temperature."""
    runs_the_bridge(boot)
    on_bridge(boot, lambda bridge: output(bridge, lambda logits: logits * 2))


@mutant(kills="denoising/native")
def favours_some_tokens(boot: Boot) -> None:
    """The bridge's logits have another output bias than the model's, and some tokens come more often."""
    runs_the_bridge(boot)

    def shifted(logits: Any) -> Any:
        import torch

        return logits + torch.arange(logits.shape[-1]) % 7 / 2

    on_bridge(boot, lambda bridge: output(bridge, shifted))


@mutant(kills="denoising/native")
def reveals_the_least_certain_first(boot: Boot) -> None:
    """Logits are flat where the model's are sharp and sharp where they are flat: a sampler that goes by certainty
    writes the same tokens in the opposite order, and every later one beside other neighbours.
    """

    runs_the_bridge(boot)

    def turned(logits: Any) -> Any:
        certain = logits.softmax(-1).amax(-1, keepdim=True)
        return logits * certain.amin(1, keepdim=True) / certain**2

    on_bridge(boot, lambda bridge: output(bridge, turned))


@mutant(kills="denoising/native")
def is_deaf_to_its_options(boot: Boot) -> None:
    """Whatever is asked for besides a length and a seed, the bridge has the model's sampler go by its defaults: its
    order of remasking, its temperature.
    """
    facts = having(boot.spec.sampler, "a sampler")
    having(facts.native, "a sampler of the model's own, whose options pass through the bridge")
    how = {name for further in facts.further for name in further} - {facts.length}

    def generate(inner: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return inner(*args, **{name: value for name, value in options.items() if name not in how})

    on_bridge(boot, lambda bridge: around(bridge, "diffusion_generate", generate))


@mutant(kills="denoising/seed")
def seeds_everyone(boot: Boot) -> None:
    """The seed is given to the process's own generator, so that whoever draws next draws the same again."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        import torch

        torch.manual_seed(options.get("seed", 0))
        return inner(bridge, prompt, **options)

    sampling(boot, sample)


@mutant(kills="denoising/seed")
def times_from_numpy(boot: Boot) -> None:
    """First-hitting times are drawn from numpy's own generator, as the released code does."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        import numpy

        numpy.random.rand()
        return inner(bridge, prompt, **options)

    sampling(boot, sample)


@mutant(kills="denoising/seed")
def mixes_in_the_process(boot: Boot) -> None:
    """The seed is mixed with that of the process, so that workers differ, and so does every run of a study."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        import torch

        return inner(bridge, prompt, **{**options, "seed": options.get("seed", 0) + torch.initial_seed() % 1000})

    sampling(boot, sample)


@mutant(kills="denoising/batch")
def ignores_the_seed(boot: Boot) -> None:
    """Every run has the same seed, whichever is asked for."""
    sampling(boot, lambda inner, bridge, prompt, **options: inner(bridge, prompt, **{**options, "seed": 0}))


@mutant(kills="denoising/batch")
def one_generator_for_all_rows(boot: Boot) -> None:
    """All rows draw from one generator, so that what a row draws depends on how many there are."""

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        return inner(bridge, prompt, **{**options, "seed": options.get("seed", 0) * len(prompt)})

    sampling(boot, sample)


@mutant(kills="denoising/batch")
def samples_a_prompt_once(boot: Boot) -> None:
    """Rows of one prompt are sampled once and repeated, as if there were one text to a prompt."""
    texts: dict[str, Any] = {}

    def sample(inner: Callable[..., Any], bridge: Any, prompt: Any, **options: Any) -> Any:
        import torch

        got, asked = (
            inner(bridge, prompt, **options),
            {n: v for n, v in options.items() if n not in ("seed", "observer")},
        )
        if options.get("resume") is not None:
            return got
        known = [texts.setdefault(f"{given.tolist()} {asked}", text) for given, text in zip(prompt, got, strict=True)]
        return torch.stack(known)

    sampling(boot, sample)
