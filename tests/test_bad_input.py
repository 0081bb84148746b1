"""Bad names, specs, options and places, as tables of a broken thing and its message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.requirement import FAMILIES

NAMES = {
    "unknown": ("bd3ml", "unknown adapter 'bd3ml'; did you mean bd3lm*? (known: *bd3lm*, or module:SPEC)"),
    "unlike any": ("qqq", "unknown adapter 'qqq' (known: *bd3lm*, or module:SPEC)"),
}


@pytest.mark.parametrize("case", NAMES)
def test_unknown_names(refused: Callable, case: str) -> None:
    name, message = NAMES[case]
    refused(f"--adapter: {message}", "--adapter", name)


@pytest.mark.parametrize("name", ["", "bd3lm,", ","])
def test_an_empty_name_is_no_request_for_nothing(refused: Callable, name: str) -> None:
    refused("--adapter got an empty name; known: *bd3lm*", "--adapter", name)


MODULES = {
    "no module": (
        "",
        "nowhere:SPEC",
        "no module 'nowhere'; install it, or say where it lies, as in PYTHONPATH=. pytest",
    ),
    "a module that it imports": (
        "import nowhere",
        "mine:SPEC",
        "no module 'nowhere'; install it, or say where it lies, as in PYTHONPATH=. pytest",
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
    "missing fields": (
        "from conformance import AdapterSpec\nAdapterSpec(name='mine')",
        "mine:SPEC",
        "importing 'mine' raised TypeError: AdapterSpec.__init__() missing 6 required keyword-only arguments: *"
        "; docs/new-adapter.md says what to write there",
    ),
    "a script that exits": ("raise SystemExit(0)", "mine:SPEC", "importing 'mine' raised SystemExit: 0"),
    "another module's name": (
        "from dataclasses import replace\nfrom conformance.adapters.bd3lm import SPEC\n"
        "SPEC = replace(SPEC, module='elsewhere')",
        "mine:SPEC",
        "its spec says module 'elsewhere', which is none; write module=__name__",
    ),
}


@pytest.mark.parametrize("case", MODULES)
def test_dotted_paths(pytester: pytest.Pytester, refused: Callable, case: str) -> None:
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
    "capability declined and there": (
        "sampler=Sampler(len, layout='sample', arguments=dict)",
        "ValueError: spec 'mine': declines capability 'denoise' and has a sampler; drop one of them",
    ),
    "sampler in an unknown layout": (
        "capabilities={}, sampler=Sampler(len, layout='smaple', arguments=dict)",
        "ValueError: spec 'mine': unknown layout 'smaple'; did you mean 'sample'?",
    ),
    "no size for the layers": (
        "sizes={name: field for name, field in GOOD.sizes.items() if name != 'layers'}",
        "ValueError: spec 'mine': sizes lacks layers; say which config field holds it",
    ),
    "layout twice": (
        "layouts=(TRAIN, TRAIN)",
        "ValueError: spec 'mine': got layouts ['train', 'train'], want at least one and each name once",
    ),
    "a layout that is no tuple": (
        "layouts=(TRAIN)",
        "TypeError: 'Layout' object is not iterable; a tuple of one ends with a comma: (it,)",
    ),
    "no layout": ("layouts=()", "ValueError: spec 'mine': got layouts [], want at least one and each name once"),
    "layout whose name makes no id": (
        "layouts=(replace(TRAIN, name='a b'),)",
        "ValueError: spec 'mine': 'a b' becomes part of ids; use letters, digits and . _ - @ only",
    ),
    "formula with an unknown size": (
        "axes=('2*m',)",
        "ValueError: spec 'mine': size '2*m': no size is called 'm'; known: block, *",
    ),
    "formula that is none": (
        "mask_token=Size('2*')",
        "ValueError: spec 'mine': size '2*' is not a formula; write one like '2*n'",
    ),
    "number in place of a size": (
        "mask_token=66",
        "AttributeError: 'int' object has no attribute 'formula'; where a spec wants a size, write Size('2*n')",
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
    "formula of one part": (
        "axes=('max(n)',)",
        "ValueError: spec 'mine': size 'max(n)': cannot read 'max(n)'; use whole numbers, *",
    ),
    "checkpoint that is no repository": (
        "checkpoint='here'",
        "ValueError: spec 'mine': checkpoint is 'here', want 'OWNER/NAME@REV'",
    ),
    "limit of an unknown variant": (
        "limits=(replace(GOOD.limits[0], variant='bidirectionel'),)",
        "ValueError: spec 'mine': unknown variant 'bidirectionel'; did you mean 'bidirectional'?",
    ),
    "halves in an unknown layout": (
        "halves=replace(GOOD.halves, alone='smaple')",
        "ValueError: spec 'mine': unknown layout 'smaple'; did you mean 'sample'?",
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


@pytest.mark.parametrize(
    ("field", "path", "message"),
    [
        ("oracle", "conformance.oracles.bd3lm:forwrd", "conformance.oracles.bd3lm has no 'forwrd'; write its name"),
        ("repair", "conformance.nowhere:mend", "there is no module 'conformance.nowhere'"),
        ("adapter", "conformance.reference.adapter", "conformance.reference.adapter has no ''; write its name"),
    ],
)
def test_functions_that_are_nowhere(refused: Callable, spec: Callable, field: str, path: str, message: str) -> None:
    adapter = spec(f"{field}={path!r}")
    refused(f"spec 'mine': {field} is {path!r}, and {message}", "--adapter", adapter)


@pytest.mark.parametrize("case", SPECS)
def test_specs_that_cannot_be_read(refused: Callable, spec: Callable, case: str) -> None:
    field, message = SPECS[case]
    refused(f"--adapter mine:SPEC: importing 'mine' raised {message}", "--adapter", spec(field))


def test_two_specs_of_one_name(refused: Callable, spec: Callable) -> None:
    twins = f"bd3lm,{spec(name='bd3lm')}"
    refused("--adapter: two specs share the name bd3lm; give each a name of its own", "--adapter", twins)


def test_one_name_installed_twice(pytester: pytest.Pytester, refused: Callable) -> None:
    installed = pytester.mkdir("other-1.0.dist-info")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[conformance.adapters]\nbd3lm = other.adapters:SPEC\n")
    refused(
        "--adapter bd3lm: installed more than once; say which of conformance.adapters.bd3lm:SPEC, other.adapters:SPEC",
        *("--adapter", "bd3lm"),
    )


# Options.

OPTIONS = {
    "--checkpoint": ("model",),
    "--trust-remote-code": (),
    "--conform-report": ("report.json",),
    "--complete": (),
    "--write-deviations": ("new.toml",),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_need_an_adapter(refused: Callable, option: str) -> None:
    refused(f"{option} needs an adapter to judge; add --adapter NAME", option, *OPTIONS[option])


IDS = {
    "conformance.hooks::fires[bd3lm-trian]": "did you mean conformance.hooks::fires[bd3lm-train]?",
    "../conformance.hooks::no_such_check_in_this_family": "list the cases with --collect-only -q",
}


@pytest.mark.parametrize("id", IDS)
def test_ids_of_no_case(refused: Callable, id: str) -> None:
    refused(f"{id.removeprefix('../')}: no such case; {IDS[id]}", "--adapter", "bd3lm", id)


def test_a_run_without_any_family(refused: Callable) -> None:
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
def test_places_to_write_to(pytester: pytest.Pytester, refused: Callable, case: str) -> None:
    option, name, message = FILES[case]
    pytester.mkdir("folder")
    (pytester.path / "old.toml").write_text("# reasons")
    refused(f"{option} {name or repr(name)}: {message.format(cwd=pytester.path)}", "--adapter", "bd3lm", option, name)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="root may write anywhere but into /proc")
def test_a_place_that_takes_no_files(refused: Callable) -> None:
    name = "/proc/report.json"
    refused(
        f"--conform-report {name}: cannot write there: *; name another place",
        *("--adapter", "bd3lm", "--conform-report", name),
    )


def test_report_and_drafts_in_one_file(refused: Callable) -> None:
    refused(
        "--conform-report and --write-deviations both name x; name two files",
        *("--adapter", "bd3lm", "--conform-report", "x", "--write-deviations", "x"),
    )


def test_report_and_page_in_one_file(refused: Callable) -> None:
    refused(
        "--conform-report and --conform-html both name ./x; name two files",
        *("--adapter", "bd3lm", "--conform-report", "x", "--conform-html", "./x"),
    )


def test_a_page_in_a_folder_that_is_not_there(refused: Callable, pytester: pytest.Pytester) -> None:
    refused(
        f"--conform-html no/page.html: there is no folder {pytester.path / 'no'}; make it first",
        *("--adapter", "bd3lm", "--conform-html", "no/page.html"),
    )


def test_snapshots_of_an_installed_package_are_not_updated(
    pytester: pytest.Pytester, refused: Callable, spec: Callable
) -> None:
    home = pytester.mkdir("site-packages")
    pytester.syspathinsert(home)
    refused(
        "--snapshot-update: the snapshots of mine are part of an installed package; update a checkout",
        *("--adapter", spec(folder=home), "--snapshot-update"),
    )
