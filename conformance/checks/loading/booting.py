"""Boots: by folder, alone, the same every time. PYTEST_DONT_REWRITE"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...pair import Pair
    from ...subject import Boot


@requirement("loading/boots", level=MUST)
def boots(boot: Boot) -> Iterator[Finding]:
    """An adapter MUST boot from a checkpoint's folder, without network, in the way that users boot it.

    An adapter that only loads from a name on a hub cannot be tried before it is trusted.
    """
    from ...unplugged import unplugged

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
    from ... import memory

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
    for name in memory.unequal(ours, again):
        yield Finding("unstable-reference", name, got="differs between two constructions", want="equal")


@requirement("loading/runs", level=MUST, needs=("loading/boots",))
def runs(pair: Pair) -> Iterator[Finding]:
    """A forward MUST return finite logits `batch pos d_vocab` at the positions that the layout returns.

    An adapter whose forward fails on the layouts that the model is used in has no hooks worth speaking of.
    """
    from ...compare import shape_of

    returned = pair.returned
    want = [len(pair.inputs["input_ids"]), returned.stop - returned.start, pair.boot.sizes["d_vocab"]]
    if list(pair.plain.shape) != want:
        yield Finding("shape-mismatch", "logits", got=shape_of(pair.plain), want=str(want))
    elif not pair.plain.isfinite().all():
        yield Finding("not-finite", "logits", got="inf or nan", want="finite numbers")


@requirement("loading/two-boots", level=MUST, needs=("loading/parameters", "loading/runs"))
def two_boots(boot: Boot) -> Iterator[Finding]:
    """Two boots of one checkpoint MUST be equal bit for bit, in every tensor and in the logits.

    Tables that a loader leaves uninitialised hold whatever the memory held; nobody sees it in one boot.
    """
    from ... import memory
    from ...compare import exact

    try:
        second = boot.boot_again()
    except Exception as error:
        yield _raised(error)
        return
    ours, theirs = (memory.parameters_and_buffers(bridge.original_model) for bridge in (boot.bridge, second))
    for name in memory.unequal(ours, theirs):
        yield Finding("not-bit-equal", name, got="differs between two boots", want="equal")
    for pair in boot.pairs.values():
        yield from exact("logits", pair.guarded(second), pair.plain, case=pair.layout.name)


def _remote(module: Any) -> bool:
    return not type(module).__module__.startswith(("torch.", "transformers."))


def _raised(error: Exception) -> Finding:
    text = " ".join(str(error).split())
    return Finding("raised", "boot", got=f"{type(error).__name__}: {text[:300]}", want="a booted bridge")
