"""docs/sweep.md: its blocks run as they stand, in order, and make the picture that it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_docs import ROOT, blocks

DOCS = ROOT / "docs"
PAGE = (DOCS / "sweep.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What is there when the page has run, and the folder in which it has."""
    folder, names = tmp_path_factory.mktemp("sweep"), {"__name__": "sweep"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")
        patch.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
        patch.chdir(folder)
        for number, block in enumerate(blocks("python", PAGE)):
            exec(compile(block, f"docs/sweep.md, block {number}", "exec"), names)
    return names, folder


def test_every_block_size_is_visited_and_the_first_is_as_it_was(ran: Any) -> None:
    import torch

    names, _ = ran
    assert names["sizes"] == [1, 3, 7, 21]
    assert list(names["curves"]) == list(names["bounds"]) == names["sizes"]
    assert names["before"].shape == (1, 21, 67)
    assert torch.equal(names["before"], names["after"])
    assert names["bridge"].block_size == names["trained"] == 3


def test_the_sizes_are_different_models(ran: Any) -> None:
    import torch

    names, _ = ran
    with names["bridge"].with_block_size(21), torch.no_grad():
        whole = names["bridge"](names["stream"], timesteps=names["sigma"])
    assert not torch.allclose(whole, names["before"], atol=1e-2)


def test_in_blocks_of_one_the_cost_of_a_token_is_its_likelihood_at_every_noise_level(ran: Any) -> None:
    import torch

    names, _ = ran
    curves, likelihood = {size: torch.stack(curve) for size, curve in names["curves"].items()}, names["likelihood"]
    assert torch.allclose(curves[1], likelihood.expand(8), atol=1e-5, rtol=0)
    assert abs(names["bounds"][1] - likelihood) < 1e-5
    for size in (3, 7, 21):
        spread = curves[size].max() - curves[size].min()
        assert spread > 0.01, "where hidden tokens see one another, it matters how many there are"


def test_the_lens_reads_every_layer_at_every_step(ran: Any) -> None:
    import torch

    names, _ = ran
    rows = torch.tensor(names["rows"])
    assert rows.shape == (12, 2), "a step for every token that was missing, and the layers"
    assert rows.isfinite().all()
    assert (rows < 0).all()
    assert not torch.allclose(rows[:, 0], rows[:, 1], atol=1e-2)


def test_the_picture_is_written_and_the_one_on_the_page_is_it(ran: Any) -> None:
    import matplotlib.image

    _, folder = ran
    assert "(sweep.png)" in PAGE
    made, shown = (matplotlib.image.imread(path / "sweep.png") for path in (folder, DOCS))
    assert made.shape == shown.shape
    assert made[..., :3].std() > 0.1, "it is not blank"
    # Other fonts or another CPU may move an edge, but not a point of a curve or a colour.
    assert abs(made - shown).mean() < 0.01
