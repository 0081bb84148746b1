"""Boots in processes of their own: `python -m conformance.probe` forks for every folder that is named on its input.

The fork reads `job.json` there and writes `told.json`: digests of tensors and logits of what it booted, or in a control
only loaded with transformers, and the state of its process before that and after all was deleted.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from .offline import offline
from .spec import in_one_line

Job = Mapping[str, Any]

LIMIT = 600
"""Seconds after which a fork is given up."""


def told(folder: Path) -> dict[str, Any]:
    """The answer to the job in a folder."""
    import numpy
    import torch

    from . import processwide

    job = json.loads((folder / "job.json").read_text())
    sys.path[:] = job["path"]
    os.chdir(job["directory"])
    random.seed(job["seed"]), numpy.random.seed(job["seed"]), torch.manual_seed(job["seed"])
    # The first look makes the unrelated model, which completes transformers' own lazy set-up.
    processwide.state()
    before = processwide.state()
    try:
        seen = _control(job) if job["control"] else _subject(job, folder)
    except Exception as error:
        return {"error": in_one_line(error).replace(job["folder"], "the checkpoint")}
    gc.collect()
    return {**seen, "before": before, "after": processwide.state()}


def _subject(job: Job, folder: Path) -> dict[str, Any]:
    """Boot as the suite does and run every layout once."""
    import torch

    from . import checkpoint, memory
    from .booting import boot, named

    bridge = boot(
        job["folder"],
        job["adapter"],
        trust_remote_code=job["trusted"],
        overrides=job["overrides"],
        hf_model=checkpoint.build(Path(job["folder"]), named(job["built"])) if job["built"] else None,
        dtype=torch.float32,
    )
    for path in job["amend"]:
        named(path)(bridge)
    tensors = {name: memory.digest(tensor) for name, tensor in memory.everything(bridge.original_model).items()}
    with torch.no_grad():
        logits = {
            layout: memory.digest(bridge(inputs.pop("input_ids"), **inputs)) for layout, inputs in _inputs(job, folder)
        }
    return {"tensors": tensors, "logits": logits}


def _control(job: Job) -> dict[str, Any]:
    """Load tokenizer, config and model as transformers alone does; that the model may fail to load is part of it.

    Where a user has to build the model, that is not the bridge's doing, and the same is done here.
    """
    import transformers

    from . import checkpoint
    from .booting import named

    folder, flag = job["folder"], {"trust_remote_code": job["trusted"]}
    try:
        transformers.AutoTokenizer.from_pretrained(folder, add_bos_token=True, **flag)
        config = transformers.AutoConfig.from_pretrained(folder, **flag)
        config.__dict__.update(job["overrides"])
        if job["built"]:
            checkpoint.build(Path(folder), named(job["built"]))
        else:
            getattr(transformers, job["auto_class"]).from_pretrained(folder, config=config, **flag)
    except Exception as error:
        return {"failed": in_one_line(error)}
    return {}


def _inputs(job: Job, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from safetensors.torch import load_file

    tensors = load_file(folder / "inputs.safetensors")
    for layout, constants in job["layouts"].items():
        own = {name.removeprefix(f"{layout}/"): t for name, t in tensors.items() if name.startswith(f"{layout}/")}
        yield layout, {**constants, **own}


def serve() -> None:
    """Fork for one folder after the other, and say with which status each fork ended."""
    # What these imports change, such as filters of warnings, is not laid at a boot's door.
    import transformer_lens.model_bridge  # noqa: F401

    from . import booting, memory, processwide  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if not child:
            _answer(Path(line.strip()))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _answer(folder: Path) -> NoReturn:
    status = 1
    try:
        signal.alarm(LIMIT)
        log = os.open(folder / "log", os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        (folder / "told.json").write_text(json.dumps(told(folder)))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    with offline():
        serve()
