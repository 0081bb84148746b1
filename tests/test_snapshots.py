"""Snapshots: what a reviewer reads when a hook moves, what --snapshot-update touches, and where a version differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import mutants
from conformance.adapters.bd3lm import SPEC
from conformance.mutants.surgery import around_firing, on_bridge
from conformance.overrides import Override
from conformance.requirement import requirements

REGISTRY = requirements()


def renamed(boot) -> None:
    """Upstream renames a hook of every norm."""

    def defect(bridge) -> None:
        for old, point in list(bridge.hook_dict.items()):
            if old.endswith(".hook_normalized"):
                point.name = old.replace("normalized", "normed")
                bridge._hook_registry[point.name] = bridge._hook_registry.pop(old)

    on_bridge(boot, defect)


def in_another_order(boot) -> None:
    """A hook of every layer fires after its neighbour."""

    def defect(bridge) -> None:
        for layer in range(boot.layers):
            kept: list[Callable] = []

            def keep(fire, tensor, kept=kept):
                kept.append(lambda: fire(tensor))
                return tensor

            def late(fire, tensor, kept=kept):
                got = fire(tensor)
                kept.pop()()
                return got

            around_firing(bridge, f"blocks.{layer}.ln1.hook_scale", keep)
            around_firing(bridge, f"blocks.{layer}.ln1.hook_normalized", late)

    on_bridge(boot, defect)


def in_another_shape(boot) -> None:
    """A hook shows batch and positions in one axis."""

    def flat(fire, tensor):
        return fire(tensor.flatten(0, 1)).view_as(tensor)

    on_bridge(boot, lambda bridge: around_firing(bridge, "blocks.0.ln1.hook_normalized", flat))


def twice(boot) -> None:
    """A hook fires twice."""
    on_bridge(boot, lambda b: around_firing(b, "blocks.0.ln1.hook_scale", lambda fire, tensor: fire(fire(tensor))))


MOVED = {
    renamed: [
        "-blocks.{layer}.ln1.hook_normalized: float32 batch n-block-1 d_model",
        "+blocks.{layer}.ln1.hook_normed: float32 batch n-block-1 d_model",
        "-blocks.{layer}.ln2.hook_normalized: float32 batch n-block-1 d_model",
        "+blocks.{layer}.ln2.hook_normed: float32 batch n-block-1 d_model",
        "-ln_final.hook_normalized: float32 batch n-block-1 d_model",
        "+ln_final.hook_normed: float32 batch n-block-1 d_model",
    ],
    in_another_order: [
        "+blocks.{layer}.ln1.hook_normalized: float32 batch n-block-1 d_model",
        "-blocks.{layer}.ln1.hook_normalized: float32 batch n-block-1 d_model",
    ],
    in_another_shape: [
        "-blocks.0.ln1.hook_normalized: float32 batch n-block-1 d_model",
        "+blocks.0.ln1.hook_normalized: float32 34 d_model",
    ],
    twice: [
        "-blocks.0.ln1.hook_scale: float32 batch n-block-1 1",
        "+blocks.0.ln1.hook_scale: float32 batch n-block-1 1 x2",
    ],
}


@pytest.mark.parametrize("defect", MOVED, ids=lambda defect: defect.__name__)
def test_a_moved_hook_is_told_in_a_few_lines(defect: Callable, miniature: Path) -> None:
    from conformance.judge import Boot, Evidence
    from conformance.snapshots import differences

    boot = Boot(SPEC, miniature, trusted=True)
    defect(boot)
    check = REGISTRY["snapshot/hook-tree"].check
    baseline = SPEC.snapshots / "hook_tree[bd3lm-sample].txt"
    (found,) = check(boot.pairs["sample"], Evidence(), lambda lines: differences(baseline, lines))
    assert found.detail.splitlines() == MOVED[defect]


def test_a_mutant_for_everything_that_is_held_fast() -> None:
    held = {id for id, required in REGISTRY.items() if "snapshot" in required.parameters}
    assert held - {mutant.kills for mutant in mutants.mutants().values()} == set()


OVERRIDE = """
[[override]]
snapshot = "config[mine]"
versions = ["transformers>=5"]
because = "a default is another one"
lines = ["-default_prepend_bos = True", "+default_prepend_bos = False"]
"""

BROKEN = {
    "not TOML": (
        "[[override",
        ": not valid TOML: *",
    ),
    "another table": (
        "[[overide]]",
        ": write [[override]] with two brackets, one table per entry, and nothing else",
    ),
    "unknown field": (
        OVERRIDE + "reason = 'x'",
        ", entry 1: unknown field 'reason'; known: because, lines, snapshot, versions",
    ),
    "no reason": (
        OVERRIDE.replace("because", "# because"),
        ", entry 1: field 'because' is missing; every entry says snapshot, versions, because, lines",
    ),
    "a reason to come": (
        OVERRIDE.replace("a default", "todo: a default"),
        ", entry 1: because = 'todo: a default is another one' is no reason; say in one sentence why it differs",
    ),
    "no range": (
        OVERRIDE.replace(">=5", ">>5"),
        ", entry 1: cannot read version range 'transformers>>5'; write one like 'transformer-lens>=4.3,<4.4'",
    ),
    "a misspelt distribution": (
        OVERRIDE.replace("transformers", "tranformers"),
        ", entry 1: versions names 'tranformers', which is not installed; name what the difference is of",
    ),
    "unknown snapshot": (
        OVERRIDE.replace("config", "confg"),
        ", entry 1: the adapter has no snapshot 'confg[mine]'; name a file without its .txt",
    ),
    "no diff": (
        OVERRIDE.replace("-default", "default"),
        ", entry 1: lines is a list of texts that start with '-', '+' or a blank, got ['default_prepend_bos = True', *",
    ),
    "lines that are not there": (
        OVERRIDE.replace("bos = True", "bos = None"),
        ", entry 1: config[mine].txt has no line 'default_prepend_bos = None' there; "
        "write lines that stand in it, in its order, or delete the entry",
    ),
    "two at one place": (
        OVERRIDE + OVERRIDE,
        ", entry 2: config[mine].txt has no line 'default_prepend_bos = True' there; "
        "write lines that stand in it, in its order, or delete the entry",
    ),
}


@pytest.fixture
def home(pytester: pytest.Pytester, third_party: Callable) -> Path:
    """The snapshots of a third party's adapter, `adapter_mine:SPEC`, which are good."""
    third_party()
    return pytester.path / "snapshots" / "mine"


@pytest.mark.parametrize("case", BROKEN)
def test_an_override_that_cannot_be_trusted(case: str, home: Path, refused: Callable) -> None:
    text, message = BROKEN[case]
    (home / "overrides.toml").write_text(text)
    refused(f"{home}/overrides.toml{message}", "--adapter", "adapter_mine:SPEC")


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        (["-b", "+B"], "aBcad"),
        (["+x", " a", "+y"], "xaybcad"),
        ([" c", "-a", "+x", "+y", "-d"], "abcxy"),
        (["-a", "-d", "+e"], "bcae"),
        (["-c", "-a", " d", "+e"], "abde"),
    ],
)
def test_lines_are_a_diff_in_the_order_of_the_baseline(lines: list[str], want: str) -> None:
    assert Override("s", (), "", tuple(lines), "here").applied(list("abcad")) == list(want)


CONFIG = ("--adapter", "adapter_mine:SPEC", "conformance.snapshot::config")


def edited(path: Path, old: str, new: str) -> str:
    """The text of a file after an edit."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path.read_text()


def test_a_version_that_differs_is_met_with_its_reason_and_never_becomes_the_baseline(
    home: Path, run: Callable
) -> None:
    config = home / "config[mine].txt"
    baseline = edited(config, "default_prepend_bos = True", "default_prepend_bos = None")
    override = home / "overrides.toml"
    override.write_text(OVERRIDE.replace("True", "None").replace("False", "True"))

    found = run(*CONFIG, "--snapshot-update")
    assert (found.result.ret, found.verdicts("snapshot/config")) == (0, {None: "PASS"})

    override.write_text(OVERRIDE.replace("True", "None"))
    found = run(*CONFIG, "--snapshot-update")
    assert found.result.ret == 1
    found.result.stdout.fnmatch_lines(
        [
            "config: changed: got 2 changed lines, "
            "want the snapshot as under transformers>=5; amend overrides.toml, entry 1",
            "    -default_prepend_bos = False",
            "    +default_prepend_bos = True",
        ]
    )
    override.write_text(OVERRIDE.replace("True", "None").replace(">=5", "<5"))
    found = run(*CONFIG)
    assert found.result.ret == 1, "out of its range an override is inert"
    assert config.read_text() == baseline


def test_an_override_that_is_not_needed_any_more(home: Path, run: Callable) -> None:
    (home / "overrides.toml").write_text(OVERRIDE)
    found = run(*CONFIG)
    assert found.result.ret == 1
    line = "config: stale: got the baseline, want the lines of overrides.toml, entry 1; delete it"
    found.result.stdout.fnmatch_lines([line])


@pytest.mark.parametrize("narrowed", [("-k", "config"), CONFIG[2:]], ids=str)
def test_an_update_writes_what_ran_and_deletes_nothing(narrowed: tuple[str, ...], home: Path, run: Callable) -> None:
    stray = home / "gone[mine].txt"
    stray.write_text("of a check that is no more\n")
    good = {path: path.read_text() for path in home.iterdir()}
    config, components = home / "config[mine].txt", home / "component_map[mine].txt"
    edited(config, "default_prepend_bos = True", "default_prepend_bos = None")
    good[components] = edited(components, "NormalizationBridge", "OtherBridge")
    other = home.parent / "other" / "config[other].txt"
    other.parent.mkdir()
    other.write_text("of another adapter\n")

    found = run(*CONFIG[:2], *narrowed, "--snapshot-update")
    assert found.result.ret == 0
    assert {path: path.read_text() for path in home.iterdir()} == good
    assert other.read_text() == "of another adapter\n"


@pytest.mark.parametrize("narrowed", [False, True], ids=["whole", "narrowed"])
def test_what_belongs_to_no_case_is_deleted_by_a_whole_run_alone(
    narrowed: bool, home: Path, run: Callable, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    few = ("loading/boots", "loading/independence", "loading/runs", "snapshot/config", "snapshot/component-map")
    monkeypatch.setattr("conformance.request.requirements", lambda: {id: REGISTRY[id] for id in few})
    # Declarations on what this registry has not would be taken for misspelt.
    (pytester.path / "mine.deviations.toml").write_text("")
    edited(pytester.path / "adapter_mine.py", "replace(GOOD, ", "replace(GOOD, plain=False, ")
    for path in home.iterdir():
        if not path.name.startswith(("config", "component_map")):
            path.unlink()
    stray = home / "gone[mine].txt"
    stray.write_text("of a check that is no more\n")
    kept = {path.name for path in home.iterdir()} - {stray.name}

    found = run(*CONFIG[:2], "--snapshot-update", *(("-k", "not config") if narrowed else ()), timed=True)
    assert found.report["verdicts"]["state"] == ("PARTIAL" if narrowed else "COMPLETE")
    assert {path.name for path in home.iterdir()} == (kept | {stray.name} if narrowed else kept)
