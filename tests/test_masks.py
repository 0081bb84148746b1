"""Masks: every wrong cell is found, named and drawn, by every way of looking; what is looked at, and what it costs."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance import checkpoint
from conformance.adapters.bd3lm import SPEC
from conformance.finding import Finding
from conformance.oracles.relations import block_causal, block_diffusion_training, causal, everyone
from conformance.requirement import requirements

REGISTRY = requirements()
FIXTURE = checkpoint.fixture_folder("bd3lm")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def boot(miniature: Path) -> Any:
    from conformance.subject import Boot

    return Boot(SPEC, miniature, trusted=True)


def resized(**fields: int) -> Any:
    from conformance.subject import Boot

    return Boot(SPEC, checkpoint.materialise(FIXTURE, SPEC, fields), trusted=True)


def check(id: str, pair: Any) -> Iterator[Finding]:
    """What the check of a requirement finds, whatever else it tells."""
    from conformance.judge import Evidence

    required = REGISTRY[id]
    return required.check(pair, *([Evidence()] if "evidence" in required.parameters else []))


@pytest.mark.parametrize(("layout", "start"), [("train", 0), ("sample", 21)])
@pytest.mark.parametrize("id", ["mask/relation-tensor", "mask/relation", "mask/gradient"])
def test_a_single_wrong_cell_is_noticed_wherever_it_is(boot: Any, id: str, layout: str, start: int) -> None:
    import torch

    pair, backbone = boot.pairs[layout], boot.bridge.original_model.backbone
    places = {"backbone.mask"} if id.endswith("tensor") else {f"blocks.{layer}" for layer in range(boot.layers)}
    good, draw = backbone.mask, torch.Generator().manual_seed(0)
    diagonal = [(place, place) for place in torch.randperm(pair.length, generator=draw)[:5].tolist()]
    others = [torch.randperm(pair.length, generator=draw)[:2].tolist() for _ in range(20)]
    for query, key in [*diagonal, *others]:
        cell = (start + query, start + key)
        backbone.mask = good.clone()
        backbone.mask[cell] = ~good[cell]
        # Over all layers one cell opens or closes more than one way.
        found = [finding for finding in check(id, pair) if finding.at not in ("all layers", "logits")]
        says = "does not attend" if good[cell] else "attends"
        assert {finding.at for finding in found} == places
        assert {finding.got for finding in found} == {f"1 wrong cell, first: query {query} {says} to key {key}"}


def three(*missing: tuple[int, int]) -> Any:
    import torch

    relation = torch.ones(3, 3, dtype=torch.bool).tril()
    for cell in missing:
        relation[cell] = not relation[cell]
    return relation


def test_a_wrong_cell_is_drawn_beside_what_is_wanted() -> None:
    from conformance.checks.mask.cells import equal

    (finding,) = equal("blocks.0", three((0, 2), (1, 0)), three())
    assert finding.got == "2 wrong cells, first: query 0 attends to key 2"
    assert finding.detail.splitlines() == ["want   got", "#..    #.+", "##.    -#.", "###    ###"]
    assert list(equal("blocks.0", three(), three())) == []
    (finding,) = equal("blocks.0", three()[:2], three())
    assert (finding.got, finding.want, finding.picture) == ("[2, 3] cells", "[3, 3] cells", "")


def test_a_large_relation_is_drawn_around_its_first_wrong_cell() -> None:
    import torch

    from conformance.drawing import Drawing

    want = torch.ones(100, 64, dtype=torch.bool)
    got = want.clone()
    got[50, 60] = False
    drawing = Drawing(want, got, [*range(100)], [*range(1000, 1064)])
    place, head, *rows = drawing.text().splitlines()
    assert place == "queries 32 to 67, keys 1028 to 1063"
    assert head == f"{'want':<39}got"
    assert len(rows) == 36
    assert max(map(len, rows)) == 75
    assert [row for row in rows if "-" in row] == [rows[18]] == ["#" * 36 + "   " + "#" * 32 + "-###"]


def cells(panel: ElementTree.Element, kind: str) -> set[tuple[int, int]]:
    """Row and column of every cell of a kind; cells are 8 units wide and lie on a ground of cells that are off."""
    ground, *runs = panel.iter(f"{SVG}rect")
    found: dict[str, set[tuple[int, int]]] = {"on": set(), "more": set(), "less": set()}
    for run in runs:
        x, y, width, height = (int(run.attrib[name]) for name in ("x", "y", "width", "height"))
        assert height == 8
        found[run.attrib["class"]] |= {(y // 8, column // 8) for column in range(x, x + width, 8)}
    assert ground.attrib["class"] == "off"
    size = [range(int(ground.attrib[name]) // 8) for name in ("height", "width")]
    every = {(row, column) for row in size[0] for column in size[1]}
    assert sum(map(len, found.values())) == len(set.union(*found.values()) & every)
    return {**found, "off": every.difference(*found.values())}[kind]


def test_the_picture_shows_every_cell_once_and_the_wrong_ones_apart() -> None:
    from conformance.drawing import Drawing

    drawing = Drawing(three(), three((0, 2), (1, 0)), [4, 5, 6], [0, 1, 2])
    picture = drawing.svg("blocks.0 <&> who attends to whom")
    root = ElementTree.fromstring(picture)
    panels = {panel.attrib["class"]: panel for panel in root.iter(f"{SVG}g")}
    assert root.findtext(f"{SVG}title") == "blocks.0 <&> who attends to whom"
    assert root.findtext(f"{SVG}text", "").endswith("queries 4 to 6, keys 0 to 2")
    lower = {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}
    upper = {(0, 1), (0, 2), (1, 2)}
    kinds = ("on", "off", "more", "less")
    shown = {name: {kind: cells(panel, kind) for kind in kinds} for name, panel in panels.items()}
    assert shown == {
        "want": {"on": lower, "off": upper, "more": set(), "less": set()},
        "got": {"on": lower - {(1, 0)}, "off": upper - {(0, 2)}, "more": {(0, 2)}, "less": {(1, 0)}},
    }
    # One for the ground; a run of equal cells in a row is one rectangle.
    assert [len(list(panel)) for panel in panels.values()] == [1 + 3, 1 + 5]
    # What is wrong is told from the rest by more than its colour.
    assert [pattern.attrib["id"] for pattern in root.iter(f"{SVG}pattern")] == ["more", "less"]
    assert "prefers-color-scheme:dark" in picture
    assert "http" not in picture.replace('"http://www.w3.org/2000/svg"', "")


def test_a_picture_of_a_long_stream_is_cut_to_64_cells() -> None:
    import torch

    from conformance.drawing import Drawing

    want = torch.eye(2048, dtype=torch.bool)
    got = want.clone()
    got[2047, 0] = True
    picture = Drawing(want, got, [*range(2048)], [*range(2048)]).svg("blocks.0")
    (panel,) = (panel for panel in ElementTree.fromstring(picture).iter(f"{SVG}g") if panel.attrib["class"] == "got")
    assert cells(panel, "more") == {(63, 0)}
    assert len(cells(panel, "off")) == 64 * 64 - 1
    assert len(picture) < 15_000


def test_of_a_long_stream_64_positions_are_tried_on_both_sides_of_borders() -> None:
    from conformance.influence import MOST_POSITIONS, positions

    boot = resized(model_length=256, block_size=4)
    tried = positions(boot.pairs["train"])
    assert tried == sorted(set(tried)) == positions(boot.pairs["train"])
    assert len(tried) == MOST_POSITIONS
    assert {0, 255, 256, 511} <= {*tried}
    for half in (range(256), range(256, 512)):
        borders = [place for place in half if place % 4 == 0 and {place - 1, place} <= {*tried}]
        assert len(borders) >= 7
        assert sum(place in half for place in tried) >= 25
    assert len(positions(boot.pairs["train"], share=2)) == MOST_POSITIONS // 2
    assert {0, 255, 256, 511} <= {*positions(boot.pairs["train"], share=2)}
    assert positions(resized().pairs["train"]) == [*range(42)] == positions(resized().pairs["train"], share=2)
    assert len(positions(resized(model_length=1024).pairs["train"])) == MOST_POSITIONS // 2


@pytest.mark.parametrize("id", ["mask/relation", "mask/closure", "mask/gradient"])
def test_influence_costs_the_same_however_many_layers_a_model_has(id: str) -> None:
    spent = []
    for layers in (2, 12):
        boot = resized(n_blocks=layers)
        boot.pairs["train"].allowed("logits")
        boot.forwards.clear()
        assert list(check(id, boot.pairs["train"])) == []
        spent.append(dict(boot.forwards))
    few, many = spent
    if id == "mask/gradient":
        # A graph through all layers holds them all; there the rows are split.
        assert few == {"subject": 2, "subject backward": 2}
        assert many == {"subject": 1 + 3, "subject backward": 1 + 3}
    else:
        assert few == many == {"subject": 1}


def test_a_long_stream_is_seen_through_a_sample_of_its_positions() -> None:
    boot = resized(model_length=40, block_size=4)
    for id in ("mask/relation", "mask/closure", "mask/gradient"):
        assert list(check(id, boot.pairs["train"])) == []
    backbone = boot.bridge.original_model.backbone
    backbone.mask = backbone.mask.clone()
    backbone.mask[39, 79] = True
    for id in ("mask/relation", "mask/gradient"):
        first, *_ = check(id, boot.pairs["train"])
        assert first.got == "1 wrong cell, first: query 39 attends to key 79"


@pytest.mark.parametrize("n", [7, 12, 21])
def test_in_its_limits_the_relation_is_that_of_other_models(n: int) -> None:
    import torch

    index = torch.arange(2 * n)
    query, key = index[:, None], index[None, :]
    ones, whole = (block_diffusion_training(query, key, n, block) for block in (1, n))
    for row in range(n):
        assert ones[row].nonzero().flatten().tolist() == [row, *range(n, n + row)]
    query, key = query[:n], key[:, :n]
    assert block_causal(query, key, n, 1).equal(causal(query, key, n, 1))
    assert whole[:n, :n].equal(everyone(query, key, n, n))
    assert not whole[:n, n:].any()
    assert not whole[n:, :n].any()


@pytest.mark.parametrize(("n", "block"), [(10, 4), (7, 5), (12, 7), (21, 20), (5, 8)])
def test_a_block_size_that_does_not_divide_leaves_a_short_last_block(n: int, block: int) -> None:
    blocks = [[*range(start, min(start + block, n))] for start in range(0, n, block)]
    for number, own in enumerate(blocks):
        past = [place for before in blocks[:number] for place in before]
        for query in own:
            noisy = [key for key in range(2 * n) if block_diffusion_training(query, key, n, block)]
            clean = [key for key in range(2 * n) if block_diffusion_training(n + query, key, n, block)]
            assert noisy == [*own, *(n + key for key in past)]
            assert clean == [n + key for key in (*past, *own)]
            assert [key for key in range(n) if block_causal(query, key, n, block)] == [*past, *own]


def test_the_grid_has_the_smallest_and_the_largest_block_and_one_between(boot: Any) -> None:
    from conformance.checks.mask.grid import _lengths, _sizes

    grid = [tuple(sizes.values()) for sizes in _sizes(boot)]
    assert grid == [(12, 1), (12, 4), (12, 12), (21, 1), (21, 7), (21, 21)]
    assert _lengths(boot.pairs["sample"]) == [1, 2, 3, 4, 20, 21]
    assert _lengths(boot.pairs["train"]) == []


def test_a_model_without_blocks_has_a_grid_of_lengths() -> None:
    from conformance.checks.mask.grid import _sizes

    without: Any = SimpleNamespace(sizes={"n": 21, "layers": 2})
    assert list(_sizes(without)) == [{"n": 12}]
    without.sizes.pop("n")
    assert list(_sizes(without)) == []


def test_a_model_without_halves_or_limits_has_none_to_judge(boot: Any) -> None:
    plain = replace(boot, spec=replace(SPEC, halves=None, limits=()))
    assert list(check("mask/consistency", plain)) == []
    assert list(check("mask/limits", plain)) == []
    assert not plain.forwards


def test_where_attention_shows_in_parts_or_not_at_all_the_residual_connection_hides_a_position_from_itself(
    boot: Any,
) -> None:
    from conformance.influence import moved_in_layers, reached_in_layers

    parts = replace(SPEC.branches[0], raw="blocks.{layer}.attn.qkv.hook_out")
    for branches in ((parts, *SPEC.branches[1:]), ()):
        pair = replace(boot, spec=replace(SPEC, branches=branches)).pairs["train"]
        pair.boot.bridge.original_model.backbone.mask.fill_diagonal_(False)
        for seen in (*moved_in_layers(pair, [0, 41]), *reached_in_layers(pair, [0, 41])):
            assert not seen.own
            assert seen.got.equal(seen.wanted(pair.relation))
