"""loading: what boots is the checkpoint, whole, on its own, and honest about itself. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..finding import Finding
from ..requirement import MUST, requirement

if TYPE_CHECKING:
    from torch import Tensor

    from ..judge import Evidence
    from ..pair import Pair
    from ..subject import Boot


@requirement("loading/boots", level=MUST)
def boots(boot: Boot) -> Iterator[Finding]:
    """An adapter MUST boot from a checkpoint's folder, without network, in the way that users boot it.

    An adapter that only loads from a name on a hub cannot be tried before it is trusted.
    """
    from ..unplugged import unplugged

    try:
        with unplugged() as asked:
            _ = boot.bridge
    except Exception as error:
        yield _raised(error)
    for host in dict.fromkeys(asked):
        yield Finding("network", "boot", got=f"a connection to {host}", want="none", case=host)


@requirement("loading/independence", level=MUST, needs=("loading/boots",))
def independence(boot: Boot) -> Iterator[Finding]:
    """The model that a bridge is compared with MUST share no storage, module or class with the bridge.

    A bridge that is compared with the model it wraps agrees with itself, whatever it does.
    """
    from .. import memory

    subject, reference = boot.bridge.original_model, boot.reference
    for name, other in memory.shared(memory.everything(reference), memory.everything(subject)):
        yield Finding("shared-storage", name, got=f"memory of {other}", want="its own")
    modules = {id(module) for module in subject.modules()}
    for name, module in reference.named_modules():
        if id(module) in modules:
            yield Finding("shared-module", name or "model", got="one object", want="two")
    classes = {type(module) for module in subject.modules()}
    for kind in sorted({type(m).__qualname__ for m in reference.modules() if type(m) in classes and _remote(m)}):
        yield Finding("shared-class", kind, got="one class object", want="a copy that no patch reaches")
    ours = memory.parameters_and_buffers(reference)
    again = memory.parameters_and_buffers(boot.construct())
    for name in _unequal(ours, again):
        yield Finding("unstable-reference", name, got="differs between two constructions", want="equal")


@requirement("loading/runs", level=MUST, needs=("loading/boots",))
def runs(pair: Pair) -> Iterator[Finding]:
    """A forward MUST return finite logits `batch pos d_vocab` at the positions that the layout returns.

    An adapter whose forward fails on the layouts that the model is used in has no hooks worth speaking of.
    """
    from ..compare import shape_of

    returned = pair.returned
    want = [len(pair.inputs["input_ids"]), returned.stop - returned.start, pair.boot.sizes["d_vocab"]]
    if list(pair.plain.shape) != want:
        yield Finding("shape-mismatch", "logits", got=shape_of(pair.plain), want=str(want))
    elif not pair.plain.isfinite().all():
        yield Finding("not-finite", "logits", got="inf or nan", want="finite numbers")


@requirement("loading/parameters", level=MUST)
def parameters(boot: Boot, evidence: Evidence) -> Iterator[Finding]:
    """Every tensor of the checkpoint MUST be in the booted model, bit for bit, and nothing else may be.

    A tensor that is left at its initial value, or loaded twice, changes the model under the researcher.
    """
    loaded = _by_storage_name(boot)
    evidence.facts["tensors"] = len(boot.params)
    for name, wanted in boot.params.items():
        if name not in loaded:
            yield Finding("missing", name, got="no such tensor", want=f"{list(wanted.shape)}")
        elif not _same(loaded[name], wanted):
            yield Finding("not-bit-equal", name, got="other values than the file", want="the checkpoint's")
    for name in sorted(loaded.keys() - boot.params.keys()):
        yield Finding("left-over", name, got="a tensor the checkpoint does not have", want="none")


@requirement("loading/live-parameters", level=MUST)
def live_parameters(boot: Boot) -> Iterator[Finding]:
    """Every parameter of the checkpoint MUST move the logits in some layout.

    A gate or an output layer that is still zero, as at initialisation, makes every comparison vacuous.
    """
    import torch

    reference = boot.reference
    parameters = dict(reference.named_parameters())
    moving: set[str] = set()
    for pair in boot.pairs.values():
        with torch.enable_grad():
            logits = reference(**pair.inputs)
            weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
            gradients = torch.autograd.grad((logits * weights).sum(), list(parameters.values()), allow_unused=True)
        moving |= {name for name, g in zip(parameters, gradients, strict=True) if g is not None and g.abs().max() > 0}
    for name in sorted(parameters.keys() - moving):
        yield Finding("without-effect", name, got="gradient 0 in every layout", want="an influence on the logits")


@requirement("loading/two-boots", level=MUST, needs=("loading/parameters", "loading/runs"))
def two_boots(boot: Boot) -> Iterator[Finding]:
    """Two boots of one checkpoint MUST be equal bit for bit, in every tensor and in the logits.

    Tables that a loader leaves uninitialised hold whatever the memory held; nobody sees it in one boot.
    """
    from .. import memory
    from ..compare import exact

    try:
        second = boot.boot_again()
    except Exception as error:
        yield _raised(error)
        return
    ours, theirs = (memory.parameters_and_buffers(bridge.original_model) for bridge in (boot.bridge, second))
    for name in _unequal(ours, theirs):
        yield Finding("not-bit-equal", name, got="differs between two boots", want="equal")
    for pair in boot.pairs.values():
        yield from exact("logits", pair.guarded(second), pair.plain, case=pair.layout.name)


@requirement("loading/eval-mode", level=MUST)
def eval_mode(pair: Pair) -> Iterator[Finding]:
    """A booted model MUST be in eval mode in every part, and two forwards of one input MUST be bit-equal.

    Dropout that is left on turns every measured effect into noise that looks like a result.
    """
    from ..compare import exact

    for owner, model in (("bridge", pair.boot.bridge), ("model", pair.boot.bridge.original_model)):
        for name, module in model.named_modules():
            if module.training:
                yield Finding("training", f"{owner}.{name}".rstrip("."), got="training mode", want="eval mode")
    yield from exact("logits", pair.call(), pair.plain)


@requirement("loading/config-truths", level=MUST)
def config_truths(boot: Boot) -> Iterator[Finding]:
    """Every field of `bridge.cfg` that the spec states MUST hold the model's true value.

    Analysis code reads context length, direction and activation from cfg; a wrong one is believed.
    """
    from ..spec import Size

    if not boot.spec.truths:
        yield Finding("undeclared", "cfg", got="no truths in the spec", want="what analysis code reads from cfg")
    for name, truth in boot.spec.truths.items():
        wanted: Any = truth.of(boot.sizes) if isinstance(truth, Size) else truth
        accepted = tuple(wanted) if isinstance(wanted, frozenset) else (wanted,)
        got = getattr(boot.bridge.cfg, name, None)
        if got not in accepted:
            text = " or ".join(sorted(map(str, accepted)))
            missing = not hasattr(boot.bridge.cfg, name)
            yield Finding("missing" if missing else "untrue", f"cfg.{name}", got=str(got), want=text)


@requirement("loading/unknown-keyword", level=MUST)
def unknown_keyword(pair: Pair) -> Iterator[Finding]:
    """A keyword that the model does not know MUST raise an error that names it.

    A misspelt timestep or mask that is swallowed gives the logits of another experiment.
    """
    from ..pair import SubjectRaised

    try:
        pair.call(conformance_misspelt=1)
    except SubjectRaised as error:
        if "conformance_misspelt" not in str(error):
            yield Finding("unclear-error", "forward", got=str(error), want="an error that names the keyword")
        return
    yield Finding("accepted", "forward", got="logits", want="an error that names the keyword")


@requirement("loading/loss", level=MUST)
def loss(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """`return_type="loss"` MUST return a finite number, or, where the spec declines it, raise an error that names it.

    A shifted causal loss of a denoising model is a number without a meaning.
    """

    def finite(got: Any) -> bool:
        return bool(got.isfinite().all())

    yield from _capability(pair, "loss", lambda: pair.call(return_type="loss"), finite, evidence)


@requirement("loading/generate", level=MUST)
def generate(pair: Pair, evidence: Evidence) -> Iterator[Finding]:
    """`bridge.generate` MUST add a token, or, where the spec declines it, raise an error that names it.

    Next-token sampling from a denoising model yields text that the model never meant.
    """

    def use() -> Any:
        return pair.guarded(pair.boot.bridge.generate, max_new_tokens=1)

    def longer(got: Any) -> bool:
        return bool(getattr(got, "shape", (0,))[-1] == pair.length + 1)

    yield from _capability(pair, "generate", use, longer, evidence)


def _capability(
    pair: Pair, name: str, use: Callable[[], Any], works: Callable[[Any], bool], evidence: Evidence
) -> Iterator[Finding]:
    """Exactly one of two sentences is checked: it works, or its use is refused by a typed error that names it."""
    from ..pair import SubjectRaised
    from ..spec import Impossible

    declined = pair.boot.spec.capabilities.get(name)
    try:
        got = use()
    except SubjectRaised as error:
        if declined is None:
            yield Finding("raised", name, got=str(error), want="a result; or decline it under the spec's capabilities")
        elif not _refusal(error.__cause__, name):
            yield Finding(
                "unclear-error", name, got=str(error), want=f"a NotImplementedError or ValueError on {name!r}"
            )
        evidence.refused = declined is not None
        return
    if declined is not None:
        why = declined.why if isinstance(declined, Impossible) else f"not yet: {declined.issue}"
        yield Finding("accepted", name, got="a result", want=f"an error that names {name!r}: {why}")
    elif not works(got):
        yield Finding("no-result", name, got=str(got)[:80], want="a finite loss, or one token more")


def _refusal(error: BaseException | None, name: str) -> bool:
    """Whether an error is meant as a refusal and says of what; an accident deep in torch is none."""
    # "generation" names it as well as "generate" does.
    return isinstance(error, (NotImplementedError, ValueError, TypeError)) and name.rstrip("e") in str(error).lower()


def _remote(module: Any) -> bool:
    return not type(module).__module__.startswith(("torch.", "transformers."))


def _raised(error: Exception) -> Finding:
    text = " ".join(str(error).split())
    return Finding("raised", "boot", got=f"{type(error).__name__}: {text[:300]}", want="a booted bridge")


def _by_storage_name(boot: Boot) -> dict[str, Tensor]:
    """Tensors of the booted model under the checkpoint's names, wherever the bridge has put them."""
    from .. import components, memory

    found = {
        components.own_name(name): tensor
        for name, tensor in memory.parameters_and_buffers(boot.bridge.original_model).items()
    }
    transient = dict(boot.reference.named_buffers()).keys() - boot.reference.state_dict().keys()
    storages = {found[name].data_ptr() for name in found if name in boot.params}
    return {
        name: tensor
        for name, tensor in found.items()
        if name in boot.params or (name not in transient and tensor.data_ptr() not in storages)
    }


def _unequal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that only one side has, or that differ in a bit."""
    names = sorted(ours.keys() | theirs.keys())
    return [name for name in names if name not in ours or name not in theirs or not _same(ours[name], theirs[name])]


def _same(one: Tensor, other: Tensor) -> bool:
    if one.is_meta or other.is_meta:
        return False
    return one.shape == other.shape and one.dtype == other.dtype and one.equal(other)
