"""The environment of a run: no network, no progress bars, and a module cache of this process alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .scratch import scratch

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


@contextmanager
def offline() -> Iterator[None]:
    """Set the variables before transformers is imported, and put everything back afterwards.

    transformers copies remote code into `HF_MODULES_CACHE`; processes that share one race for its files.
    """
    before = dict(os.environ)
    with scratch("conformance-modules-") as modules:
        os.environ.update(QUIET, HF_MODULES_CACHE=str(modules))
        hub = sys.modules.get("huggingface_hub.constants")
        online = getattr(hub, "HF_HUB_OFFLINE", True)
        if hub is not None:
            # Imported before us, so it has read its environment already.
            hub.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        try:
            yield
        finally:
            if hub is not None:
                hub.HF_HUB_OFFLINE = online  # type: ignore[attr-defined]
            for name in (*QUIET, "HF_MODULES_CACHE"):
                if name in before:
                    os.environ[name] = before[name]
                else:
                    os.environ.pop(name, None)
