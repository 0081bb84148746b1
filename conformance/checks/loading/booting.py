"""Boots: by folder, alone, the same every time. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, requirement

if TYPE_CHECKING:
    from ...pair import Pair
    from ...subject import Boot

OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE}
"""A disk that is full or read-only and files that are too many say nothing about an adapter."""


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
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            raise
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
    try:
        second = boot.boot_again()
    except Exception as error:
        yield _raised(error)
        return
    yield from _apart(boot, second, "between two boots")


@requirement("loading/around-a-model", level=MUST, needs=("loading/two-boots",))
def around_a_model(boot: Boot) -> Iterator[Finding]:
    """A bridge around a model one has built MUST wrap that very model, and equal a boot by path in every bit.

    Who quantises or edits a model before it is wrapped must get the same hooks on the same weights, not on a copy.
    """
    from ... import memory

    model = boot.construct()
    own = {name: memory.address(parameter) for name, parameter in model.named_parameters()}
    try:
        bridge = boot.boot_again(model)
    except Exception as error:
        yield _raised(error, "boot around a model")
        return
    if bridge.original_model is not model:
        yield Finding("another-model", "original_model", got="an object of its own", want="the model handed in")
    held = {memory.address(tensor) for tensor in memory.everything(bridge.original_model).values()}
    for name, address in own.items():
        if address not in held:
            yield Finding("copied", name, got="other memory", want="that of the model handed in")
    yield from _apart(boot, bridge, "between a boot by path and one around a model", bitwise=_wherever_it_lies(boot))


@requirement("loading/side-by-side", level=MUST, needs=("loading/two-boots", "parity/logits"))
def side_by_side(boot: Boot) -> Iterator[Finding]:
    """Two models of one class and different configs, run in turn, MUST each give the logits that it gives alone.

    Whoever compares two checkpoints has both in one process; a table kept on their class belongs to the last one.
    """
    from ...compare import close, exact

    ours = list(boot.pairs.values())
    alone = {pair.layout.name: pair.call() for pair in ours}
    other = _neighbour(boot)
    try:
        _ = other.bridge
    except Exception as error:
        yield _raised(error, "boot of another config")
        return
    theirs = list(other.pairs.values())
    others = {pair.layout.name: pair.call() for pair in theirs}
    for pair in theirs:
        want, allowed = pair.reference.logits, pair.allowed("logits")
        yield from close("logits", pair.plain, want, allowed, case=f"another config, {pair.layout.name}")
    for one, two in itertools.product(ours, theirs):
        name, case = one.layout.name, two.layout.name
        yield from exact("logits", two.call(), others[case], case=f"another config, {case}, in turn")
        yield from exact("logits", one.call(), alone[name], case=f"{name}, in turn with another config")


def _neighbour(boot: Boot) -> Boot:
    """A first boot of the same code under another config: longer, or deeper where no config fixes the length."""
    small = boot.small
    if boot.longer is not small:
        return dataclasses.replace(boot.longer)
    return small.resized({boot.spec.sizes["layers"]: small.layers + 1})


def _apart(boot: Boot, other: Any, between: str, *, bitwise: bool = True) -> Iterator[Finding]:
    """Where a further bridge differs from the subject: in logits, and in tensors once both have run every layout."""
    from ... import memory
    from ...compare import PATHS, close, exact

    for pair in boot.pairs.values():
        got, want, case = pair.call(bridge=other), pair.plain, pair.layout.name
        allowed = pair.allowed("logits", PATHS) if not bitwise else 0.0
        yield from exact("logits", got, want, case=case) if bitwise else close("logits", got, want, allowed, case=case)
        # What a forward leaves behind, such as a table of this length, is then the same on both sides.
        pair.call()
    ours, theirs = (memory.everything(bridge.original_model) for bridge in (boot.bridge, other))
    for name in memory.unequal(ours, theirs):
        yield Finding("not-bit-equal", name, got=f"differs {between}", want="equal")


def _wherever_it_lies(boot: Boot) -> bool:
    """Whether the model itself gives the same bits from a copy of its weights as from where they were loaded to.

    Products of few rows, such as those of an expert, are rounded by how their weights lie in memory.
    """
    copied, loaded = boot.construct(), boot.construct()
    loaded.load_state_dict(boot.params, assign=True)
    pairs = boot.pairs.values()
    return all(pair.reference_logits(model=copied).equal(pair.reference_logits(model=loaded)) for pair in pairs)


def _remote(module: Any) -> bool:
    return not type(module).__module__.startswith(("torch.", "transformers."))


LIBRARIES = {"torch", "transformers", "huggingface_hub", "safetensors"}
"""Packages whose own lines say nothing of who called them wrongly; so do those of this one that boot."""


def _raised(error: Exception, at: str = "boot") -> Finding:
    from ...spec import in_one_line

    return Finding("raised", at, got=f"{in_one_line(error)}{_where(error)}", want="a booted bridge")


def _where(error: Exception) -> str:
    """The innermost line of an adapter or a checkpoint that an error came through, and what it called."""
    from ... import booting, subject, unplugged

    ours = {__file__, booting.__file__, subject.__file__, unplugged.__file__}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in ours]
    told = [frame for frame in frames if not _library(frame.filename)]
    if not told:
        return ""
    call = f"`{(told[-1].line or '').strip()[:100]}`"
    return f", by {call} in {told[-1].name}, {Path(told[-1].filename).name}, line {told[-1].lineno}"


def _library(file: str) -> bool:
    """Whether a file is Python's own or that of a library."""
    _, installed, path = file.rpartition("site-packages/")
    if installed:
        return path.partition("/")[0] in LIBRARIES
    return file.startswith(("<", sysconfig.get_path("stdlib")))
