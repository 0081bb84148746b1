"""Bad input, as tables of a broken thing and the exact message: one line, exit status 4, no file touched.

A `*` in a message stands for what another library words.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.requirement import FAMILIES

Refusal = Callable[..., None]


def content(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def matches(message: str, line: str) -> bool:
    return re.fullmatch(re.escape(message).replace(r"\*", ".*"), line) is not None


@pytest.fixture
def refused(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """`refused(message, *arguments)`: pytest ends with that one line and leaves every file as it was."""

    def refused(message: str, *arguments: object) -> None:
        pytester.syspathinsert()
        # Python compiles a user's own modules where they lie; that is not ours.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        before = content(pytester.path)
        result = pytester.runpytest_inprocess(*map(str, arguments))
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        *others, last = [line for line in result.errlines if line]
        assert others == []
        assert matches(f"ERROR: {message}", last), last
        assert "Traceback" not in result.stdout.str()
        assert content(pytester.path) == before

    return refused


# Names and modules.

NAMES = {
    "unknown": ("bd3ml", "unknown adapter 'bd3ml'; did you mean bd3lm? (known: *bd3lm*, or module:SPEC)"),
    "unlike any": ("qqq", "unknown adapter 'qqq' (known: *bd3lm*, or module:SPEC)"),
}


@pytest.mark.parametrize("case", NAMES)
def test_unknown_names(refused: Refusal, case: str) -> None:
    name, message = NAMES[case]
    refused(f"--adapter: {message}", "--adapter", name)


@pytest.mark.parametrize("name", ["", "bd3lm,", ","])
def test_an_empty_name_is_no_request_for_nothing(refused: Refusal, name: str) -> None:
    refused("--adapter got an empty name; known: *bd3lm*", "--adapter", name)


GOOD = """
from dataclasses import replace
from conformance.adapters.bd3lm import SPEC as GOOD, TRAIN
from conformance.spec import *
"""
MODULES = {
    "no module": ("", "nowhere:SPEC", "no module 'nowhere'; is it installed, or on PYTHONPATH?"),
    "a module that it imports": (
        "import nowhere",
        "mine:SPEC",
        "no module 'nowhere'; is it installed, or on PYTHONPATH?",
    ),
    "no attribute": ("", "mine:SPEC", "module 'mine' has no 'SPEC'; name its AdapterSpec"),
    "no spec": ("SPEC = 3", "mine:SPEC", "'SPEC' is a int, want an AdapterSpec"),
    "no module named": ("", ":SPEC", "importing '' raised ValueError: Empty module name"),
    "syntax": ("SPEC = (", "mine:SPEC", "importing 'mine' raised SyntaxError: * (mine.py, line 1)"),
    "error of several lines": (
        "raise RuntimeError('one\\n  two')",
        "mine:SPEC",
        "importing 'mine' raised RuntimeError: one two",
    ),
    "missing attribute while importing": (
        "import os\nos.nothing",
        "mine:SPEC",
        "importing 'mine' raised AttributeError: module 'os' has no attribute 'nothing'",
    ),
    "a script that exits": ("raise SystemExit(0)", "mine:SPEC", "importing 'mine' raised SystemExit: 0"),
    "another module's name": (
        f"{GOOD}SPEC = replace(GOOD, name='mine', module='elsewhere')",
        "mine:SPEC",
        "its spec says module 'elsewhere', which is none; write module=__name__",
    ),
}


@pytest.mark.parametrize("case", MODULES)
def test_dotted_paths(pytester: pytest.Pytester, refused: Refusal, case: str) -> None:
    source, name, message = MODULES[case]
    (pytester.path / "mine.py").write_text(source)
    refused(f"--adapter {name}: {message}", "--adapter", name)


SPECS = {
    "unknown capability": (
        "capabilities={'los': NotYet('#1')}",
        "ValueError: spec 'mine': unknown capability 'los'; did you mean 'loss'?",
    ),
    "capability declined without a reason": (
        "capabilities={'loss': 'no'}",
        "ValueError: spec 'mine': capability 'loss' is declined with NotYet(...) or Impossible(...)",
    ),
    "layout twice": (
        "layouts=(TRAIN, TRAIN)",
        "ValueError: spec 'mine': got layouts ['train', 'train'], want at least one and each name once",
    ),
    "no layout": ("layouts=()", "ValueError: spec 'mine': got layouts [], want at least one and each name once"),
    "layout whose name makes no id": (
        "layouts=(replace(TRAIN, name='a b'),)",
        "ValueError: spec 'mine': 'a b' becomes part of ids; use letters, digits and . _ - only",
    ),
    "formula with an unknown size": (
        "axes=('2*m',)",
        "ValueError: spec 'mine': size '2*m': cannot read 'm'; use whole numbers, + - * // and block, d_cond, *",
    ),
    "formula that is none": (
        "mask_token=Size('2*')",
        "ValueError: spec 'mine': size '2*' is not a formula; write one like '2*n'",
    ),
    "formula that is a number": ("axes=(7,)", "ValueError: spec 'mine': size 7 is not a formula; write one like '2*n'"),
    "formula with another operator": (
        "truths={'d_head': Size('d_model/heads')}",
        "ValueError: spec 'mine': size 'd_model/heads': cannot read 'd_model / heads'; use whole numbers, *",
    ),
    "formula that divides by zero": (
        "layouts=(replace(TRAIN, returns=('0', 'n//(n-n)')),)",
        "ValueError: spec 'mine': size 'n//(n-n)' divides by zero where {*}",
    ),
    "unknown field": (
        "fixtures='bd3lm'",
        "TypeError: AdapterSpec.__init__() got an unexpected keyword argument 'fixtures'; did you mean 'fixture'?",
    ),
    "unknown field of a layout": (
        "layouts=(replace(TRAIN, return_=('0', 'n')),)",
        "TypeError: Layout.__init__() got an unexpected keyword argument 'return_'; did you mean 'returns'?",
    ),
}


@pytest.mark.parametrize("case", SPECS)
def test_specs_that_cannot_be_read(pytester: pytest.Pytester, refused: Refusal, case: str) -> None:
    field, message = SPECS[case]
    (pytester.path / "mine.py").write_text(f"{GOOD}SPEC = replace(GOOD, name='mine', module=__name__, {field})")
    refused(f"--adapter mine:SPEC: importing 'mine' raised {message}", "--adapter", "mine:SPEC")


def test_two_specs_of_one_name(pytester: pytest.Pytester, refused: Refusal) -> None:
    (pytester.path / "twin.py").write_text(f"{GOOD}SPEC = replace(GOOD, module=__name__)")
    refused(
        "--adapter: two specs share the name bd3lm; give each a name of its own",
        *("--adapter", "bd3lm,twin:SPEC"),
    )


def test_one_name_installed_twice(pytester: pytest.Pytester, refused: Refusal) -> None:
    installed = pytester.mkdir("other-1.0.dist-info")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[conformance.adapters]\nbd3lm = other.adapters:SPEC\n")
    refused(
        "--adapter bd3lm: installed more than once; say which of conformance.adapters.bd3lm:SPEC, other.adapters:SPEC",
        *("--adapter", "bd3lm"),
    )


# Models.


@pytest.fixture
def model(pytester: pytest.Pytester, miniature: Path) -> Path:
    """A copy of the miniature that may be broken."""
    return Path(shutil.copytree(miniature, pytester.path / "model"))


def rewritten(name: str, edit: Callable[[dict], object]) -> Callable[[Path], None]:
    """Edit a JSON file; what the edit returns, where it returns anything, replaces the whole."""

    def rewrite(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(edit(value) or value))

    return rewrite


def tensors(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        held = load_file(folder / "model.safetensors")
        edit(held)
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, folder / "model.safetensors")

    return rewrite


def cut(size: int) -> Callable[[Path], None]:
    """Keep so many bytes of the weights, or leave out so many at the end."""

    def truncate(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return truncate


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    without_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")


def indexed(text: str) -> Callable[[Path], None]:
    def index(folder: Path) -> None:
        without_weights(folder)
        (folder / "model.safetensors.index.json").write_text(text)

    return index


def importing(line: str) -> Callable[[Path], None]:
    def insert(folder: Path) -> None:
        path = folder / "configuration_bd3lm.py"
        path.write_text(f"{line}\n{path.read_text()}")

    return insert


NORM = "backbone.blocks.0.norm1.weight"
MODELS = {
    "no folder": (
        lambda folder: shutil.rmtree(folder),
        "no such folder; name one, or a hub repository as OWNER/NAME@REV",
    ),
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        "no config.json; name the folder of one checkpoint",
    ),
    "config not JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "/config.json: cannot be read as JSON: *; fetch it again",
    ),
    "config a list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "/config.json: holds a JSON list, want an object; fetch it again",
    ),
    "another architecture": (
        rewritten("config.json", lambda config: config.update(architectures=["LLaDA"])),
        "/config.json: architectures is ['LLaDA'], bd3lm is for BD3LM; name another adapter or model",
    ),
    "no architecture": (
        rewritten("config.json", lambda config: config.pop("architectures") and None),
        "/config.json: architectures is None, bd3lm is for BD3LM; name another adapter or model",
    ),
    "no remote class": (
        rewritten("config.json", lambda config: config.pop("auto_map") and None),
        "/config.json: auto_map names None for AutoConfig; want FILE.CLASS of a Python file in that folder",
    ),
    "code of another repository": (
        rewritten("config.json", lambda config: config["auto_map"].update(AutoModelForMaskedLM="a/b--modeling.BD3LM")),
        "/config.json: auto_map names 'a/b--modeling.BD3LM' for AutoModelForMaskedLM; "
        "want FILE.CLASS of a Python file in that folder",
    ),
    "no code": (
        lambda folder: (folder / "modeling_bd3lm.py").unlink(),
        "/config.json: auto_map names 'modeling_bd3lm.BD3LM' for AutoModelForMaskedLM; "
        "want FILE.CLASS of a Python file in that folder",
    ),
    "a size missing": (
        rewritten("config.json", lambda config: config.pop("block_size") and None),
        "config.json lacks block_size, which bd3lm needs for its sizes; "
        "take the config.json that came with the weights",
    ),
    "a size in words": (
        rewritten("config.json", lambda config: config.update(n_blocks="two")),
        "config.json says n_blocks: 'two', want a whole number; take the config.json that came with the weights",
    ),
    "no weights": (without_weights, "no weights; want model.safetensors, or shards with model.safetensors.index.json"),
    "pickled weights only": (
        pickled,
        "weights only as pytorch_model.bin, a pickle, which can run code; convert them to model.safetensors",
    ),
    "empty weights": (cut(0), "/model.safetensors: truncated or no safetensors file (0 bytes: *); fetch it again"),
    "header cut": (cut(100), "/model.safetensors: truncated or no safetensors file (100 bytes: *); fetch it again"),
    "data cut": (cut(-1), "/model.safetensors: truncated or no safetensors file (* bytes: *); fetch it again"),
    "no safetensors file": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "/model.safetensors: truncated or no safetensors file (43 bytes: *); fetch it again",
    ),
    "index not JSON": (
        indexed("weight_map"),
        "/model.safetensors.index.json: cannot be read as JSON: *; fetch it again",
    ),
    "index without weight_map": (
        indexed("{}"),
        "/model.safetensors.index.json: has no weight_map from tensors to files; fetch it again",
    ),
    "missing shard": (
        indexed('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}'),
        "model-00001-of-00001.safetensors is missing, which model.safetensors.index.json names; fetch it",
    ),
    "weights of another shape": (
        tensors(lambda held: held.update({NORM: held[NORM][1:]})),
        f"{NORM} has shape (23,), the config asks for (24,); are they of one model?",
    ),
    "a config of another shape": (
        rewritten("config.json", lambda config: config.update(hidden_dim=48)),
        "backbone.* has shape (*), the config asks for (*); are they of one model?",
    ),
    "a tensor missing": (
        tensors(lambda held: held.pop(NORM)),
        f"the weights lack {NORM}, (24,) in BD3LM; are they of one model?",
    ),
    "a tensor left over": (
        tensors(lambda held: held.update(extra=held[NORM].clone())),
        "the weights hold extra, which BD3LM does not have; are they of one model?",
    ),
    "code that does not import": (
        importing("import nowhere"),
        "its code does not build a model: ModuleNotFoundError: No module named 'nowhere'; "
        "mend it, or install what it imports",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_that_cannot_be_judged(refused: Refusal, model: Path, case: str) -> None:
    spoil, message = MODELS[case]
    spoil(model)
    if case == "no folder":
        message = f"--checkpoint {model}: {message}"
    elif message.startswith("/"):
        message = f"{model}{message}"
    else:
        message = f"{model}: {message}"
    refused(message, "--adapter", "bd3lm", "--checkpoint", model, "--trust-remote-code")


PATHS = {
    "nothing": ("", "'': no such folder; name one, or a hub repository as OWNER/NAME@REV"),
    "a file": ("model/config.json", "model/config.json: is a file; name the folder that holds config.json"),
    "a long name": ("x" * 300, f"{'x' * 300}: no such folder; name one, or a hub repository as OWNER/NAME@REV"),
    "a model of the hub that is not here": (
        "nobody/nothing@v1",
        "nobody/nothing@v1: not in the local hub cache, and nothing is downloaded here; "
        "run `hf download nobody/nothing --revision v1` first",
    ),
}


@pytest.mark.parametrize("case", PATHS)
def test_names_of_models_without_network(
    monkeypatch: pytest.MonkeyPatch, refused: Refusal, model: Path, case: str
) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", connect)
    name, message = PATHS[case]
    refused(f"--checkpoint {message}", "--adapter", "bd3lm", "--checkpoint", name, "--trust-remote-code")


def test_one_model_goes_with_one_adapter(pytester: pytest.Pytester, refused: Refusal, model: Path) -> None:
    (pytester.path / "mine.py").write_text(f"{GOOD}SPEC = replace(GOOD, name='mine', module=__name__)")
    refused(
        "--checkpoint is one model, so it goes with one adapter; name it with --adapter",
        *("--adapter", "bd3lm,mine:SPEC", "--checkpoint", model, "--trust-remote-code"),
    )


def test_no_code_of_a_checkpoint_runs_before_it_is_trusted(
    pytester: pytest.Pytester, refused: Refusal, model: Path
) -> None:
    canary = pytester.path / "canary"
    for path in model.glob("*.py"):
        path.write_text(f"open({str(canary)!r}, 'w').close()\n{path.read_text()}")
    checkpoint = ("--adapter", "bd3lm", "--checkpoint", "model")
    refused("--checkpoint model: holds code of its own; add --trust-remote-code to run it", *checkpoint)
    assert not canary.exists()
    pytester.runpytest_inprocess(*checkpoint, "--trust-remote-code", "--collect-only")
    assert canary.exists(), "the canary does not sing, so its silence proves nothing"


FIXTURES = {
    "elsewhere": (
        lambda folder: folder / "model",
        "{fixture}: holds code that did not come with the spec; add --trust-remote-code to run it",
    ),
    "nowhere": (
        lambda folder: folder / "none",
        "fixture {fixture}: no config.json; the spec's `fixture` names the folder of one model",
    ),
    "an unknown name": (
        lambda folder: "bd3ml",
        "no bundled fixture 'bd3ml'; give an absolute path in the spec's `fixture`",
    ),
    "none": (lambda folder: None, "adapter mine has no miniature; name a model with --checkpoint"),
}


@pytest.mark.parametrize("case", FIXTURES)
def test_fixtures_of_third_parties(pytester: pytest.Pytester, refused: Refusal, model: Path, case: str) -> None:
    """The spec lies in a folder of its own; the model beside that folder did not come with it."""
    place, message = FIXTURES[case]
    fixture = place(pytester.path)
    home = pytester.mkdir("home")
    text = None if fixture is None else str(fixture)
    (home / "mine.py").write_text(f"{GOOD}SPEC = replace(GOOD, name='mine', module=__name__, fixture={text!r})")
    pytester.syspathinsert(home)
    refused(message.format(fixture=fixture), "--adapter", "mine:SPEC")


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "shards"])
def test_a_good_checkpoint_is_judged_and_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, run: Callable, model: Path, sharded: bool
) -> None:
    if sharded:
        shard(model)
    # Code that no other test has imported, so that it is compiled here.
    path = model / "modeling_bd3lm.py"
    path.write_text(f"{path.read_text()}\nSHARDED = {sharded}\n")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = content(model)
    found = run("--adapter", "bd3lm", "--checkpoint", str(model), "--trust-remote-code")
    assert found.result.ret == 0
    (adapter,) = found.report["verdicts"]["adapters"]
    assert adapter["model"]["miniature"] is False
    assert adapter["model"]["label"] == "checkpoint model"
    assert found.report["measurements"]["models"] == {"bd3lm": str(model)}
    assert "bd3lm on checkpoint model: " in found.text
    assert "miniature" not in found.text
    assert content(model) == before


def shard(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    without_weights(folder)
    where = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(sorted(held))}
    for file in set(where.values()):
        save_file({name: held[name] for name in where if where[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


# Options.

OPTIONS = {
    "--checkpoint": ("model",),
    "--trust-remote-code": (),
    "--conform-report": ("report.json",),
    "--complete": (),
    "--write-deviations": ("new.toml",),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_need_an_adapter(refused: Refusal, option: str) -> None:
    refused(f"{option} needs an adapter to judge; add --adapter NAME", option, *OPTIONS[option])


IDS = {
    "conformance.hooks::fires[bd3lm-trian]": "did you mean conformance.hooks::fires[bd3lm-train]?",
    "../conformance.hooks::no_such_check_in_this_family": "list the cases with --collect-only -q",
}


@pytest.mark.parametrize("id", IDS)
def test_ids_of_no_case(refused: Refusal, id: str) -> None:
    refused(f"{id.removeprefix('../')}: no such case; {IDS[id]}", "--adapter", "bd3lm", id)


def test_a_run_without_any_family(refused: Refusal) -> None:
    off = [part for family in FAMILIES for part in ("-p", f"no:conformance.checks.{family}")]
    refused("--adapter: every family of checks is switched off with -p no:; leave one on", "--adapter", "bd3lm", *off)


LONG = "x" * 260
FILES = {
    "a folder": ("--conform-report", "folder", "is a folder; name a file in it"),
    "no name": ("--conform-report", "", "is a folder; name a file in it"),
    "in a missing folder": ("--conform-report", "none/report.json", "there is no folder {cwd}/none; make it first"),
    "in a file": ("--conform-report", "old.toml/report.json", "there is no folder {cwd}/old.toml; make it first"),
    "a device": ("--conform-report", "/dev/null", "is no regular file; name one"),
    "a name that no file can have": ("--conform-report", LONG, "cannot write there: *; name another place"),
    "drafts to a folder": ("--write-deviations", "folder", "is a folder; name a file in it"),
    "drafts over reasons": (
        "--write-deviations",
        "old.toml",
        "exists and may hold reasons that someone wrote; name a new file",
    ),
    "drafts in a missing folder": (
        "--write-deviations",
        "none/new.toml",
        "there is no folder {cwd}/none; make it first",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_places_to_write_to(pytester: pytest.Pytester, refused: Refusal, case: str) -> None:
    option, name, message = FILES[case]
    pytester.mkdir("folder")
    (pytester.path / "old.toml").write_text("# reasons")
    refused(f"{option} {name or repr(name)}: {message.format(cwd=pytester.path)}", "--adapter", "bd3lm", option, name)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="root may write anywhere but into /proc")
def test_a_place_that_takes_no_files(refused: Refusal) -> None:
    name = "/proc/report.json"
    refused(
        f"--conform-report {name}: cannot write there: *; name another place",
        *("--adapter", "bd3lm", "--conform-report", name),
    )


def test_report_and_drafts_in_one_file(refused: Refusal) -> None:
    refused(
        "--conform-report and --write-deviations both name x; name two files",
        *("--adapter", "bd3lm", "--conform-report", "x", "--write-deviations", "x"),
    )


def test_snapshots_of_an_installed_package_are_not_updated(pytester: pytest.Pytester, refused: Refusal) -> None:
    home = pytester.mkdir("site-packages")
    (home / "mine.py").write_text(f"{GOOD}SPEC = replace(GOOD, name='mine', module=__name__)")
    pytester.syspathinsert(home)
    refused(
        "--snapshot-update: the snapshots of mine are part of an installed package; update a checkout",
        *("--adapter", "mine:SPEC", "--snapshot-update"),
    )


# Ledgers.


def entry(**fields: object) -> str:
    whole = {"requirement": "hooks/fires", "at": "ln_final", "finding": "never-fires", "because": "so it is", **fields}
    lines = [f"{name} = {json.dumps(value)}" for name, value in whole.items() if value is not None]
    return "\n".join(["[[deviation]]", *lines, ""])


NEEDED = "every entry says requirement, at, finding, because, as text"
LEDGERS = {
    "not TOML": ("[[deviation]", "not valid TOML: *"),
    "another table": ("[[deviations]]", "unknown table 'deviations'; entries are written as [[deviation]]"),
    "one bracket": ("[deviation]", "write [[deviation]] with two brackets, one table per entry"),
    "no tables": ("deviation = [1]", "write [[deviation]] with two brackets, one table per entry"),
    "a typo in a field": (entry(becuase="x"), "entry 1: unknown field 'becuase'; did you mean 'because'?"),
    "an unknown field": (
        entry(skip=True),
        "entry 1: unknown field 'skip'; known: at, because, finding, issue, layouts, requirement, versions",
    ),
    "an unknown requirement": (
        entry(requirement="hooks/fire"),
        "entry 1: unknown requirement 'hooks/fire'; did you mean 'hooks/fires'?",
    ),
    "no reason": (entry(because=None), f"entry 1: field 'because' is missing; {NEEDED}"),
    "an empty reason": (entry(because=" "), f"entry 1: field 'because' is ' '; {NEEDED}"),
    "a reason still to write": (
        entry(because="TODO"),
        "entry 1: because = 'TODO' is no reason; say in one sentence why it deviates",
    ),
    "a reason still to write, in other words": (
        entry(because="todo: look\ninto it"),
        "entry 1: because = 'todo: look\\ninto it' is no reason; say in one sentence why it deviates",
    ),
    "a place of another type": (entry(at=["ln_final"]), f"entry 1: field 'at' is ['ln_final']; {NEEDED}"),
    "an issue of another type": (
        entry(issue=7),
        "entry 1: issue is a string, got 7; write the address of the issue",
    ),
    "layouts of another type": (
        entry(layouts="train"),
        "entry 1: layouts is a list of strings, got 'train'; write [\"...\"]",
    ),
    "versions of another type": (
        entry(versions=[4.3]),
        'entry 1: versions is a list of strings, got [4.3]; write ["..."]',
    ),
    "an unparsable version range": (
        entry(versions=["transformer-lens at 4"]),
        "entry 1: cannot read version range 'transformer-lens at 4'; write one like 'transformer-lens>=4.3,<4.4'",
    ),
    "an unknown layout": (entry(layouts=["trian"]), "entry 1: unknown layout 'trian'; did you mean 'train'?"),
    "layouts of what is judged once per adapter": (
        entry(requirement="loading/boots", layouts=["train"]),
        "entry 1: loading/boots is judged once per adapter; remove layouts",
    ),
    "a second entry": (
        entry() + entry(because="TODO"),
        "entry 2: because = 'TODO' is no reason; say in one sentence why it deviates",
    ),
}


@pytest.mark.parametrize("case", LEDGERS)
def test_ledgers_that_cannot_be_trusted(pytester: pytest.Pytester, refused: Refusal, case: str) -> None:
    text, message = LEDGERS[case]
    (pytester.path / "mine.py").write_text(f"{GOOD}SPEC = replace(GOOD, name='mine', module=__name__)")
    path = pytester.path / "mine.deviations.toml"
    path.write_text(text)
    comma = "," if message.startswith("entry") else ":"
    refused(f"ledger {path}{comma} {message}", "--adapter", "mine:SPEC")


def test_a_ledger_that_is_a_folder(pytester: pytest.Pytester, refused: Refusal) -> None:
    (pytester.path / "mine.py").write_text(f"{GOOD}SPEC = replace(GOOD, name='mine', module=__name__)")
    path = pytester.mkdir("mine.deviations.toml")
    refused(f"ledger {path}: cannot be read: Is a directory", "--adapter", "mine:SPEC")
