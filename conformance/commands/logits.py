"""Writes the logits of adapters on their miniatures, in every layout, for `matrix` to hold against another version's.

The file is safetensors: `ADAPTER/LAYOUT` is `batch pos d_vocab`; its metadata names the weights by adapter, and what an
adapter without logits raised.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..request import Request


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to record, and where."""
    parser.add_argument("path", type=Path, metavar="FILE", help="the file to write, such as NAME.safetensors")
    parser.add_argument(
        "--adapter", action="append", metavar="NAME", help="as for pytest; may be repeated; all known ones by default"
    )


def run(given: argparse.Namespace) -> int:
    """Write the file; 0 also where an adapter has no logits, which is for its run to judge."""
    from .. import request
    from ..offline import offline
    from . import CommandError

    if not given.path.absolute().parent.is_dir():
        raise CommandError(f"{given.path}: there is no folder {given.path.absolute().parent}; make it first")
    with offline(), warnings.catch_warnings():
        # What the libraries deprecate is no news about an adapter.
        warnings.simplefilter("ignore")
        try:
            asked = request.make(given.adapter or ["all"])
        except request.RequestError as error:
            raise CommandError(str(error)) from None
        tensors, told = _logits(asked)

        from safetensors.torch import save

        _write(
            given.path, save(tensors, {name: text.encode("ascii", "replace").decode() for name, text in told.items()})
        )
    print(f"written: {given.path}, {len(tensors)} layouts of {len(asked.specs)} adapters")
    return 0


def _logits(asked: Request) -> tuple[dict[str, Any], dict[str, str]]:
    """Logits by adapter and layout, and the weights by adapter."""
    import torch

    from .. import checkpoint
    from ..pair import SubjectRaised
    from ..spec import in_one_line
    from ..subject import Boot

    torch.set_num_threads(1)
    tensors, told = {}, {}
    for spec in asked.specs:
        source = asked.sources[spec.name]
        folder = checkpoint.materialise(source.folder, spec) if source.miniature else source.folder
        told[spec.name] = str(checkpoint.weights_key(folder))
        try:
            boot = Boot(spec, folder, source.trusted)
            boot.bridge  # noqa: B018 - what cannot be booted has no logits in any layout
        except Exception as error:
            told[f"{spec.name} raised"] = in_one_line(error)
            continue
        for name, pair in boot.pairs.items():
            try:
                tensors[f"{spec.name}/{name}"] = pair.plain.contiguous()
            except SubjectRaised as error:
                told[f"{spec.name}/{name} raised"] = in_one_line(error)
    return tensors, told


def _write(path: Path, content: bytes) -> None:
    """Beside its place first, then renamed."""
    from . import CommandError

    try:
        handle, draft = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}-")
    except OSError as error:
        raise CommandError(f"{path}: cannot write there: {error.strerror}; name another place") from None
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(draft, 0o644)
    os.replace(draft, path)
