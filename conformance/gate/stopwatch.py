"""A process that boots one adapter and times single forwards of it when asked: `python -m ... module:SPEC CORE`.

It imports what every boot imports and then reads lines. Each `boot` is answered by a fork, which starts from a clean
state and costs no import: it says, as JSON, what it is about to time, then answers every line that names a layout with
the processor's seconds of one forward, until `end`. What cannot be timed is said instead.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

WARM_UP = 5
"""Forwards before the first one is timed."""

Forwards = dict[str, Callable[[], object]]


def main(adapter: str, core: int, trust: bool) -> None:
    """Wait for the next boot until there is no more input."""
    # Whatever libraries print goes to standard error; answers have a channel of their own. What a fork is to read must
    # not lie in a buffer here.
    answers, asked = os.fdopen(os.dup(1), "wb", buffering=0), os.fdopen(0, "rb", buffering=0)
    os.dup2(2, 1)
    from ..offline import offline

    with offline():
        import torch
        from transformer_lens.model_bridge import TransformerBridge as _  # noqa: F401

        from .. import request, subject  # noqa: F401

        # A pool of threads would not be there in a fork.
        torch.set_num_threads(1)
        gc.collect()
        gc.freeze()
        while asked.readline():
            child = os.fork()
            if not child:
                serve(adapter, core, trust, asked, answers)
            os.waitpid(child, 0)


def serve(adapter: str, core: int, trust: bool, asked: BinaryIO, answers: BinaryIO) -> None:
    """Boot, stay on one core, answer, and end the process."""
    try:
        from ..timing import clock, keep_memory

        keep_memory()
        forwards, about = booted(adapter, trust)
        os.sched_setaffinity(0, {core})
        for forward in forwards.values():
            for _ in range(WARM_UP):
                forward()
        gc.collect()
        gc.disable()
        tell(answers, about)
        while (line := asked.readline().decode().strip()) not in ("", "end"):
            start = clock()
            forwards[line]()
            tell(answers, clock() - start)
    except BaseException as error:
        tell(answers, {"cannot": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
        os._exit(1)
    # Not by way of what the parent has to clean up.
    os._exit(0)


def tell(answers: BinaryIO, what: object) -> None:
    """One line, at once."""
    answers.write(json.dumps(what).encode() + b"\n")


def booted(adapter: str, trust: bool) -> tuple[Forwards, dict[str, Any]]:
    """A forward for every layout, and what both sides must agree on to be compared: sizes and shapes of inputs."""
    from ..checkpoint import materialise
    from ..request import make
    from ..subject import Boot

    request = make([adapter], trust=trust)
    (spec,) = request.specs
    source = request.sources[spec.name]
    # A model that is no miniature is as large as it is.
    folder = materialise(source.folder, spec, spec.bench) if source.miniature else source.folder
    boot = Boot(spec, folder, source.trusted)
    shapes = {
        layout: {name: list(getattr(value, "shape", ())) for name, value in pair.inputs.items()}
        for layout, pair in boot.pairs.items()
    }
    return {layout: pair.call for layout, pair in boot.pairs.items()}, {"sizes": boot.sizes, "inputs": shapes}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), trust="--trust-remote-code" in sys.argv[3:])
