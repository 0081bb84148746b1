"""Tables, angles, precision and registration: what the checks of loading see, and what they leave alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.adapters.bd3lm import SPEC
from conformance.mutants import mutants
from conformance.requirement import requirements

REGISTRY = requirements()
MUTANTS = mutants()


@pytest.fixture
def boot(miniature: Path):
    from conformance.subject import Boot

    return Boot(SPEC, miniature, trusted=True)


@pytest.fixture
def rewritten(miniature: Path, tmp_path: Path) -> Callable[..., Any]:
    """A boot of a copy of the miniature whose remote code reads otherwise."""

    def rewritten(*changes: tuple[str, str]) -> Any:
        from conformance.subject import Boot

        # transformers tells modules of remote code apart by the name of their folder.
        folder = Path(shutil.copytree(miniature, tmp_path / f"code_of_{tmp_path.name}"))
        path = folder / "modeling_bd3lm.py"
        source = path.read_text()
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        path.write_text(source)
        boot = Boot(SPEC, folder, trusted=True)
        # Its own sizes are the miniature's.
        boot.__dict__["small"] = boot
        return boot

    return rewritten


def findings(boot: Any, id: str) -> list[Any]:
    from conformance.judge import Evidence

    check, parameters = REGISTRY[id].check, REGISTRY[id].parameters
    pairs = boot.pairs.values() if "pair" in parameters else [None]
    offered = ({"boot": boot, "pair": pair, "evidence": Evidence()} for pair in pairs)
    return [finding for given in offered for finding in check(**{name: given[name] for name in parameters})]


BUFFER = (
    "        self.n = config.model_length\n",
    "        self.n = config.model_length\n"
    '        self.register_buffer("omega", torch.arange(4.0), persistent=False)\n',
)


def test_a_buffer_that_no_file_holds_is_seen_though_two_boots_agree(rewritten: Callable) -> None:
    import torch

    boot = rewritten(BUFFER)

    def garbage(bridge: Any) -> None:
        bridge.original_model.backbone.omega = torch.tensor([0.0, 1.0, 7e8, 0.25])

    boot.amend = garbage
    assert not findings(boot, "loading/two-boots")
    assert not findings(boot, "loading/parameters")
    found = findings(boot, "loading/buffers")
    assert {(f.code, f.at, f.got) for f in found} == {("not-bit-equal", "backbone.omega", "700000000 at [2]")}


def test_what_the_loader_leaves_in_it_is_seen(rewritten: Callable) -> None:
    # transformers constructs on the meta device and fills such a buffer with nothing: what it holds is up to chance.
    found = {(f.at, f.code) for f in findings(rewritten(BUFFER), "loading/buffers")}
    assert found
    assert found <= {("backbone.omega", code) for code in ("not-bit-equal", "denormal", "not-finite")}


def test_one_that_is_right_is_left_alone(rewritten: Callable) -> None:
    import torch

    boot = rewritten(BUFFER)
    boot.amend = lambda bridge: setattr(bridge.original_model.backbone, "omega", torch.arange(4.0))
    assert not findings(boot, "loading/buffers")
    assert not findings(boot, "loading/parameters")


@pytest.mark.parametrize(
    ("got", "want", "codes"),
    [
        ([1.0, 2.0], [1.0, 2.0], []),
        ([1.0, 2.0], [1.0, 2.5], ["not-bit-equal"]),
        ([1.0, 2.0], [1.0, 2.0, 3.0], ["shape-mismatch"]),
        ([1.0, float("nan")], [1.0, 2.0], ["not-finite"]),
        ([1.0, float("nan")], [1.0, float("nan")], ["not-finite"]),
        ([1.0, float("-inf")], [1.0, float("-inf")], []),
        ([1.0, float("-inf")], [1.0, 0.0], ["not-finite"]),
        ([1.0, 1e-42], [1.0, 0.0], ["denormal"]),
        ([1.0, 1e-42], [1.0, 1e-42], ["denormal"]),
    ],
)
def test_what_is_said_of_a_table(got: list[float], want: list[float], codes: list[str]) -> None:
    import torch

    from conformance.checks.loading.tables import _compare

    assert [f.code for f in _compare("table", torch.tensor(got), torch.tensor(want))] == codes
    assert [f.code for f in _compare("table", torch.tensor(got, device="meta"), torch.tensor(want))] == ["meta"]


def test_tables_are_found_in_buffers_attributes_lists_and_dicts() -> None:
    import torch
    from torch import nn

    from conformance.checks.loading.tables import tables

    module: Any = nn.Linear(2, 2)
    module.register_buffer("saved", torch.zeros(1))
    module.register_buffer("unsaved", torch.zeros(1), persistent=False)
    module.register_buffer("nothing", None, persistent=False)
    module.plain, module.both, module.by_length = torch.zeros(1), (torch.zeros(1), 3), {7: torch.zeros(1)}
    assert tables(module).keys() == {"unsaved", "plain", "both.0", "by_length.7"}


def test_weights_that_the_model_ties_itself_are_no_finding(boot: Any) -> None:
    one, other = "backbone.blocks.0.norm1.weight", "backbone.blocks.1.norm1.weight"

    def tie(model: Any) -> None:
        from conformance import components

        held = components.parameters(model)
        held[other].data = held[one].data

    boot.params[other] = boot.params[one].clone()
    boot.amend = lambda bridge: tie(bridge.original_model)
    assert [(f.code, f.at, f.got) for f in findings(boot, "loading/parameters")] == [
        ("shared", other, f"the memory of {one}")
    ]
    # A model that ties them, from a file that holds both, and from one that holds them once.
    tie(boot.reference)
    assert not findings(boot, "loading/parameters")
    del boot.params[other]
    assert not findings(boot, "loading/parameters")


@pytest.mark.parametrize(
    ("mutant", "layouts", "said"),
    [
        ("tables-of-zeros", ["train", "sample"], "as if the tables were zero"),
        ("frequencies-of-zero", ["train", "sample"], "as if nothing were rotated"),
        ("base-of-another-model", ["train", "sample"], "as if the base were 1,000,000"),
        ("counted-on", ["train"], "as if positions did not restart"),
        ("stretched", ["train", "sample"], "other attention, by angles that are none of those tried"),
    ],
)
def test_wrong_angles_are_named(boot: Any, mutant: str, layouts: list[str], said: str) -> None:
    MUTANTS[f"loading/{mutant}"].apply(boot)
    told = {name: [(f.at, f.got) for f in REGISTRY["loading/rotary"].check(pair)] for name, pair in boot.pairs.items()}
    at = "blocks.0.attn.o.hook_in"
    assert told == {name: [(at, said)] if name in layouts else [] for name in boot.pairs}


def test_a_wrong_mask_is_not_said_to_be_a_wrong_angle(boot: Any) -> None:
    MUTANTS["loading/mask-for-other-blocks"].apply(boot)
    assert all(pair.mismatches() for pair in boot.pairs.values())
    assert not findings(boot, "loading/rotary")


def test_every_rotation_that_is_tried_is_told_from_the_model_s(boot: Any) -> None:
    from conformance.checks.loading.rotary import TURNS, Turn, _heard
    from conformance.compare import distance

    at = "blocks.0.attn.o.hook_in"
    for name, pair in boot.pairs.items():
        want, allowed = pair.want(at), pair.allowed(at)
        own = {"the base were 10,000", "all channels were rotated"}
        own |= {"positions did not restart"} if name == "sample" else set()
        for turn in (Turn("the model's"), *TURNS):
            size = distance(_heard(pair, SPEC.rotary, at, turn)[1], want)
            same = turn.like in own | {"the model's"}
            assert size <= allowed / 3 if same else size > 10 * allowed, (name, turn.like, size / allowed)


FOLLOWS = (
    ("F.layer_norm(x.float(), [self.dim])", "F.layer_norm(x, [self.dim])"),
    ("dtype=torch.float32, device=t.device", "dtype=t.dtype, device=t.device"),
    ("t[:, None].float()", "t[:, None]"),
    ("return self.mlp(self.timestep", "t = t.to(next(self.parameters()).dtype)\n        return self.mlp(self.timestep"),
    ("positions = torch.arange(seq_len, device=x.device).type_as(self.inv_freq)", "wide = torch.float64"),
    ("torch.outer(positions, self.inv_freq)", "torch.outer(torch.arange(seq_len, dtype=wide), self._omega(wide))"),
    (
        "    def forward(self, x, seq_dim=1):",
        "    def _omega(self, wide):\n        half = len(self.inv_freq)\n"
        "        return 10_000.0 ** (-torch.arange(half, dtype=wide) / half)\n\n"
        "    def forward(self, x, seq_dim=1):",
    ),
)
"""A model that computes in the dtype of its weights, as the released one does not."""


def test_a_model_that_follows_its_dtype_is_within_a_third_of_every_budget(
    rewritten: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conformance import compare

    used: list[float] = []

    def within(size: float, allowed: float) -> bool:
        used.append(size / allowed)
        return size <= allowed

    monkeypatch.setattr(compare, "within", within)
    assert not findings(rewritten(*FOLLOWS), "loading/dtypes")
    assert len(used) == 4
    assert max(used) <= 1 / 3


@pytest.mark.parametrize("kind", [ValueError, NotImplementedError, TypeError])
def test_a_dtype_that_is_refused_by_name_is_no_finding(boot: Any, kind: type[Exception]) -> None:
    from conformance.judge import Evidence
    from conformance.mutants.surgery import around

    def boot_again(inner: Callable[..., Any], *args: Any, dtype: Any = None, **kwargs: Any) -> Any:
        if dtype is not None:
            raise kind(f"weights in {dtype} are not supported; boot in float32 and use autocast")
        return inner(*args, **kwargs)

    around(boot, "boot_again", boot_again)
    evidence = Evidence()
    assert not list(REGISTRY["loading/dtypes"].check(boot, evidence))
    assert evidence.refused


def test_what_fails_in_bf16_says_whether_autocast_helps(boot: Any) -> None:
    found = {(f.at, f.case): f.got for f in findings(boot, "loading/dtypes")}
    assert {key: got.endswith("it runs under autocast") for key, got in found.items()} == {
        ("bfloat16", "train"): True,
        ("bfloat16", "sample"): True,
        ("float64", "train"): False,
        ("float64", "sample"): False,
    }


TABLES = [
    "__all__",
    "SUPPORTED_ARCHITECTURES",
    "HF_SUPPORTED_ARCHITECTURES",
    "CANONICAL_AUTHORS_BY_ARCH",
    "ARCHITECTURE_DESCRIPTIONS",
]


def test_the_tables_are_read_as_they_are_imported(boot: Any) -> None:
    import transformer_lens.tools.model_registry.generate_report  # noqa: F401 - the only one no boot imports

    from conformance.checks.loading.registration import registered

    found = registered(boot)
    assert list(found.written) == TABLES
    assert found.live == found.written
    assert min(map(len, found.written.values())) > 100


@pytest.mark.parametrize("table", TABLES)
def test_a_shipped_adapter_stands_in_every_table(boot: Any, table: str) -> None:
    from conformance.mutants.loading.registration import tables

    assert not findings(boot, "loading/registration")
    tables(boot, table, dict.clear)
    assert [(f.code, f.at) for f in findings(boot, "loading/registration")] == [("missing", table)]


def test_an_adapter_of_a_spec_stands_in_none(boot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory as Factory

    mine = type("Mine", (Factory._adapters["BD3LM"],), {})
    boot.spec = replace(SPEC, adapter=mine)
    _ = boot.bridge
    assert not findings(boot, "loading/registration")
    monkeypatch.setitem(Factory._adapters, "BD3LM", mine)
    del boot.__dict__["registered"]
    (found,) = findings(boot, "loading/registration")
    assert (found.code, found.at, found.got) == ("changed", "SUPPORTED_ARCHITECTURES", "other entries for BD3LM")
