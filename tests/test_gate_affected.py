"""Whom a change can affect: files, imports, text that names modules; on folders of a few lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.gate.affected import affected
from conformance.gate.imports import closure, same_code
from conformance.gate.tree import Tree

FILES = {
    "pyproject.toml": '[project.entry-points."conformance.adapters"]\none = "pkg.one:SPEC"\ntwo = "pkg.two:SPEC"\n',
    "src/pkg/__init__.py": "",
    "src/pkg/one.py": "from . import shared\nSPEC = dict(oracle='pkg.equations:forward', fixture='tiny')\n",
    "src/pkg/two.py": "import pkg.shared as shared\nSPEC = dict(fixture='other')\n",
    "src/pkg/shared.py": "from .deep import thing\n",
    "src/pkg/deep.py": "thing = 1\n",
    "src/pkg/equations.py": "def forward():\n    import late\n",
    "src/pkg/alone.py": "x = 1\n",
    "src/pkg/one.deviations.toml": "",
    "src/pkg/snapshots/two/config[two].txt": "",
    "fixtures/tiny/config.json": "{}",
    "fixtures/tiny/modeling.py": "",
    "fixtures/unheard/config.json": "{}",
    "late.py": "",
    "README.md": "",
}

Pair = Callable[..., tuple[Tree, Tree]]


@pytest.fixture
def trees(tmp_path: Path) -> Pair:
    """`trees({"late.py": "y = 1"})`: FILES at base, and at head with these; None deletes a file."""

    def trees(changed: dict[str, str | None], files: dict[str, str] = FILES) -> tuple[Tree, Tree]:
        for side, content in (("base", files), ("head", {**files, **changed})):
            for name, text in content.items():
                if text is not None:
                    path = tmp_path / side / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
        return Tree(tmp_path / "base"), Tree(tmp_path / "head")

    return trees


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"src/pkg/one.py": "SPEC = 2\n"}, ["one"]),
        ({"src/pkg/two.py": "SPEC = 2\n"}, ["two"]),
        ({"src/pkg/shared.py": "y = 2\n"}, ["one", "two"]),
        ({"src/pkg/deep.py": "thing = 2\n"}, ["one", "two"]),
        ({"src/pkg/equations.py": "def forward(): pass\n"}, ["one"]),
        ({"late.py": "y = 1\n"}, ["one"]),
        ({"src/pkg/__init__.py": "y = 1\n"}, ["one", "two"]),
        ({"src/pkg/deep.py": None}, ["one", "two"]),
        ({"src/pkg/alone.py": "x = 2\n"}, []),
        ({"tests/test_it.py": "x = 2\n"}, []),
        ({"src/pkg/deep.py": "# a comment\nthing = 1  # more\n"}, []),
        ({"src/pkg/deep.py": "thing = 1  # type: int\n"}, ["one", "two"]),
        ({"src/pkg/deep.py": "thing = (\n"}, ["one", "two"]),
        ({"src/pkg/one.deviations.toml": "x = 1"}, ["one"]),
        ({"src/pkg/snapshots/two/config[two].txt": "x"}, ["two"]),
        ({"src/pkg/snapshots/three/config[three].txt": "x"}, ["one", "two"]),
        ({"fixtures/tiny/modeling.py": "# only a comment\n"}, ["one"]),
        ({"fixtures/tiny/vocab.json": "{}"}, ["one"]),
        ({"fixtures/tiny/config.json": None}, ["one"]),
        ({"fixtures/unheard/config.json": '{"n": 1}'}, ["one", "two"]),
        ({"pyproject.toml": FILES["pyproject.toml"] + "[project]\n"}, ["one", "two"]),
        ({"src/pkg/table.csv": "1"}, ["one", "two"]),
        ({"README.md": "x", "docs/page.md": "x", ".github/workflows/gate.yml": "x", ".gitignore": "x"}, []),
        ({"conformance/checks/mask.py": "x = 1"}, ["one", "two"]),
        ({"torch.py": "x = 1"}, []),
    ],
)
def test_whom_a_change_affects(trees: Pair, changed: dict[str, str | None], names: list[str]) -> None:
    base, head = trees(changed)
    told = affected(base, head, list(changed), head.adapters or base.adapters)
    assert list(told) == names
    assert set(told.values()) <= set(changed)


def test_a_new_module_may_stand_before_another(trees: Pair) -> None:
    base, head = trees({"json.py": "x = 1"}, {**FILES, "src/pkg/one.py": "import json\n"})
    assert list(affected(base, head, ["json.py"], head.adapters)) == ["one"]


def test_an_adapter_may_be_one_file_at_the_top(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from helper import thing\nimport torch\n")
    (tmp_path / "helper.py").write_text("from . import nothing\n")
    assert {path.name for path in closure(Tree(tmp_path), "mine")} == {"mine.py", "helper.py"}


def test_imports_go_round_in_circles(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import two\n")
    (tmp_path / "two.py").write_text("import one\n")
    assert {path.name for path in closure(Tree(tmp_path), "one")} == {"one.py", "two.py"}


def test_a_docstring_is_code(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text('"""One."""\nx = 1\n')
    other.write_text('"""Other."""\n# said\nx = (1)\n')
    assert not same_code(one, other)
    other.write_text('"""One."""\n\n# said\nx = (1)\n')
    assert same_code(one, other)
