"""Boots: what runs without consent, what another process sees, and tables that a loader loses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.requirement import requirements

REGISTRY = requirements()
SHIPPED = "transformer_lens.model_bridge.supported_architectures.bd3lm:BD3LMArchitectureAdapter"


def found(id: str, boot: Any) -> list[tuple[str, str]]:
    """Code and place of every finding of one check, called as it is."""
    return [(finding.code, finding.at) for finding in REGISTRY[id].check(boot)]


@pytest.fixture(params=["shipped", "named", "class"])
def boot(request: pytest.FixtureRequest, miniature: Path) -> Any:
    """A boot by TransformerLens itself, and with the same adapter given by name or as a class."""
    from transformer_lens.model_bridge.supported_architectures.bd3lm import BD3LMArchitectureAdapter

    from conformance.subject import Boot

    given = {"shipped": None, "named": SHIPPED, "class": BD3LMArchitectureAdapter}
    return Boot(replace(SPEC, adapter=given[request.param]), miniature, trusted=True)


@pytest.fixture
def rewritten(miniature: Path, tmp_path: Path) -> Callable[[Callable[[str], str]], Any]:
    """A boot of the miniature with other code."""
    from conformance.rewriting import rewritten
    from conformance.subject import Boot

    return lambda edit: Boot(SPEC, rewritten(miniature, tmp_path / "rewritten", edit), trusted=True)


def test_code_runs_with_trust_and_only_then(boot: Any) -> None:
    from conformance.checks.loading.consent import _canary

    with _canary(boot.folder) as (folder, sign):
        with pytest.raises(ValueError, match="trust_remote_code"):
            boot.boot_again(folder=folder, consent={})
        with pytest.raises(ValueError, match="trust_remote_code"):
            boot.boot_again(folder=folder, consent={"trust_remote_code": False})
        assert not sign.exists()
        boot.boot_again(folder=folder, consent={"trust_remote_code": True})
        assert sign.exists()


def test_adapters_of_every_kind_are_held_to_the_same(boot: Any) -> None:
    assert set(found("loading/opt-in", boot)) == {("ran", "boot around a model")}
    assert found("loading/two-boots", boot) == []
    assert found("loading/around-a-model", boot) == []
    assert found("loading/side-by-side", boot) == []


ASKING: dict[str, Callable[[], str]] = {
    "input": lambda: input("run it? [y/N] "),
    "a line": lambda: sys.stdin.readline(),
    "all there is": lambda: sys.stdin.read(),
}


@pytest.mark.parametrize("way", ASKING)
def test_whatever_is_asked_on_the_terminal_is_noticed(boot: Any, way: str) -> None:
    def asking(*args: Any, inner: Callable[..., Any] = boot.boot_again, **kwargs: Any) -> Any:
        if kwargs.get("consent") == {}:
            ASKING[way]()
        return inner(*args, **kwargs)

    boot.boot_again = asking
    assert ("asked", "boot") in found("loading/opt-in", boot)


STARTS = {
    "nothing": "",
    "a docstring": '"""Doc."""\n\nfrom __future__ import annotations\n\n',
    "several lines": "from __future__ import (\n    division,\n)\n",
}


@pytest.mark.parametrize("start", STARTS)
def test_a_line_comes_before_everything_but_imports_from_the_future(start: str) -> None:
    from conformance.rewriting import beginning_with

    got = beginning_with("first = 'x' not in dir()")(f"{STARTS[start]}x = 1\n")
    names: dict[str, Any] = {}
    exec(compile(got, "rewritten", "exec"), names)
    assert names["first"]
    assert names["x"] == 1


LOST = {
    "unused": "self.vocab_embed(indices)",
    "used": "self.vocab_embed(indices) * self.table[0]",
}


@pytest.mark.parametrize("use", LOST)
def test_a_table_that_the_loader_loses_is_red_though_two_boots_agree(
    rewritten: Callable, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    """The constructor fills it, no file holds it, and loading on the meta device leaves what the memory held."""
    import torch

    # The memory happens to hold the same at every boot.
    monkeypatch.setattr(torch, "empty_like", torch.zeros_like)
    line = 'self.register_buffer("table", torch.ones(8), persistent=False)'
    cross = "        if self.cross_attn:\n            self.gen_mask"

    def lose(text: str) -> str:
        return text.replace(cross, f"        {line}\n{cross}").replace(LOST["unused"], LOST[use])

    boot = rewritten(lose)
    assert boot.reference.backbone.table.eq(1).all()
    assert found("loading/independence", boot) == []
    assert found("loading/two-boots", boot) == []
    places = {place for pair in boot.pairs.values() for _, place in found("loading/buffers", pair)}
    assert places == {"backbone.table"}


TABLE = """
def fresh(bridge):
    import torch

    bridge.original_model.table = torch.empty(64)
"""


def test_processes_differ_in_hash_seed_and_in_fresh_memory(boot: Any, pytester: pytest.Pytester) -> None:
    assert found("loading/two-processes", boot) == []
    (pytester.path / "sabotage.py").write_text(TABLE)
    pytester.syspathinsert()
    boot.amend_elsewhere = "sabotage:fresh"
    assert found("loading/two-processes", boot) == [("not-bit-equal", "table")]


ADAPTER = """
from transformer_lens.model_bridge.supported_architectures.bd3lm import BD3LMArchitectureAdapter


class Adapter(BD3LMArchitectureAdapter):
    def prepare_loading(self, *args, **kwargs):
        super().prepare_loading(*args, **kwargs)
{body}
"""
LEFT = {
    "a registry": (
        """
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
        ROPE_INIT_FUNCTIONS["default"] = ROPE_INIT_FUNCTIONS["linear"]
        """,
        # It is no good for the model that asks it.
        {"transformers ROPE_INIT_FUNCTIONS", "an unrelated model"},
    ),
    "an environment": ("import os; os.environ['TOKENIZERS_PARALLELISM'] = 'true'", {"os.environ"}),
    "a generator": ("import torch; torch.rand(1)", {"random states"}),
    "nothing": ("pass", set()),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_an_adapter_leaves_in_its_process(pytester: pytest.Pytester, miniature: Path, what: str) -> None:
    """The adapter is booted in another process only, so that this one stays as it is."""
    from conformance.subject import Boot

    body, places = LEFT[what]
    module = f"leaves_{what.replace(' ', '_')}"
    (pytester.path / f"{module}.py").write_text(
        ADAPTER.format(body=textwrap.indent(textwrap.dedent(body).strip(), " " * 8))
    )
    pytester.syspathinsert()
    boot = Boot(replace(SPEC, adapter=f"{module}:Adapter"), miniature, trusted=True)
    assert set(found("loading/process-state", boot)) == {("changed", place) for place in places}


def test_a_class_that_no_module_holds_is_told_so(miniature: Path) -> None:
    from conformance.elsewhere import reference_to

    class Local:
        pass

    with pytest.raises(ValueError, match="is made inside a function; put it at the top of a module"):
        reference_to(Local)
    assert reference_to(Path) == "pathlib:Path"


def test_a_process_that_dies_is_no_finding(pytester: pytest.Pytester, miniature: Path) -> None:
    from conformance.subject import Boot

    (pytester.path / "dying.py").write_text("import os\ndef dies(bridge): os._exit(3)\n")
    pytester.syspathinsert()
    boot = Boot(SPEC, miniature, trusted=True, amend_elsewhere="dying:dies")
    with pytest.raises(RuntimeError, match="a probe ended with status 3"):
        found("loading/two-processes", boot)


CHANGES = {
    "torch default dtype": "torch.set_default_dtype(torch.float64)",
    "torch default device": "torch.set_default_device('meta')",
    "torch grad mode": "torch.set_grad_enabled(False)",
    "torch autocast": "torch.set_autocast_enabled('cpu', True)",
    "torch deterministic algorithms": "torch.use_deterministic_algorithms(True)",
    "torch matmul precision": "torch.set_float32_matmul_precision('medium')",
    "torch threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "torch attention kernels": "torch.backends.cuda.enable_flash_sdp(False)",
    "torch cudnn": "torch.backends.cudnn.benchmark = True",
    "torch script": "torch._C._jit_set_profiling_mode(False)",
    "torch compile": "import torch._dynamo; torch._dynamo.config.suppress_errors = True",
    "random states": "import random; random.random()",
    "warnings.filters": "import warnings; warnings.simplefilter('error')",
    "logging levels": "import logging; logging.getLogger('transformers').setLevel(1)",
    "os.environ": "import os; os.environ['CONFORMANCE_TEST'] = '1'",
    "sys.path": "import sys; sys.path.append('/nowhere')",
    "working directory": "import os; os.chdir('/')",
    "garbage collector": "import gc; gc.disable()",
    "builtins": "import builtins; builtins.print = lambda *args: None",
    "nn.Module": "torch.nn.Module.half = torch.nn.Module.double",
    "transformers.PreTrainedModel": "transformers.PreTrainedModel.extra = property(lambda self: {})",
    "transformers ROPE_INIT_FUNCTIONS": "processwide.ROPE_INIT_FUNCTIONS['linear'] = len",
    "transformers attention functions": "transformers.AttentionInterface.register('mine', len)",
    "transformers auto classes": "transformers.AutoConfig.register('mine', Mine)",
    "library functions": "torch.nn.functional.gelu = lambda x: x",
    "an unrelated model": "modeling_llama.LlamaRMSNorm.forward = lambda self, x: x",
}


EACH_CHANGE = """
import json, sys
import torch, transformers
from transformers.models.llama import modeling_llama
from conformance import processwide

class Mine(transformers.PreTrainedConfig):
    model_type = "mine"

processwide.state()
assert processwide.state() == processwide.state(), "a look at the state changes it"
for name, change in json.loads(sys.argv[1]).items():
    before = processwide.PROBES[name]()
    exec(change)
    assert processwide.PROBES[name]() != before, f"{name} does not see {change}"
    # What stands in the way of the probes after it.
    torch.set_default_device(None), torch.set_default_dtype(torch.float32)
"""


def test_every_probe_of_a_process_sees_its_piece_change_and_a_look_changes_none() -> None:
    from conformance import processwide

    assert CHANGES.keys() == processwide.PROBES.keys()
    ran = subprocess.run(
        [sys.executable, "-c", EACH_CHANGE, json.dumps(CHANGES)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert ran.returncode == 0, ran.stderr
