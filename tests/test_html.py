"""The page: what a report holds can be read and filtered in a real browser, and nothing leaves it or runs in it."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reports

from conformance.report import document, html
from conformance.report.html import hooks, masks, taps

Report = dict[str, Any]

ROLLED = """
class Adapter(Shipped):
    def prepare_model(self, model):
        super().prepare_model(model)
        model.backbone.mask = model.backbone.mask.roll(model.config.block_size, dims=1)
"""
"""An adapter that lets everyone see one block too far."""

JUDGED = "not gradients and (relation or taps or fires or tree or names)"

KEPT: dict[str, Any] = {}


@pytest.fixture
def report(run: Callable, third_party: Callable, pytester: pytest.Pytester) -> Report:
    """What a run of two adapters says, one of them red, of some requirements; told as if these were all."""
    if not KEPT:
        page = pytester.path / "page.html"
        asked = f"bd3lm,{third_party(ROLLED)}"
        done = run("--adapter", asked, "-k", JUDGED, "--conform-html", str(page), timed=True)
        KEPT.update(run=done, page=page.read_text())
    whole: Report = copy.deepcopy(KEPT["run"].report)
    whole["verdicts"]["state"] = "COMPLETE"
    for adapter in whole["verdicts"]["adapters"]:
        adapter["summary"]["conforms"] = not adapter["summary"]["red"]
    return whole


def alone(report: Report, name: str) -> Report:
    """The same report of one of its adapters."""
    adapters = report["verdicts"]["adapters"]
    adapters[:] = [adapter for adapter in adapters if adapter["adapter"] == name]
    return report


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window and without a net."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        how = "no Chromium here to read the page with; install it, as with `apt-get install chromium`"
        pytest.fail(how) if os.environ.get("CI") else pytest.skip(how)
    silent = ("background-networking", "component-update", "sync", "gpu")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", *(f"--disable-{what}" for what in silent)]
        chromium = playwright.chromium.launch(executable_path=found, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def read(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`read(report)`: its page in a browser, which is to ask for nothing and to complain of nothing."""
    contexts, said = [], []

    def read(report: Report, wide: int = 1280, **options: Any) -> Any:
        path = tmp_path / "page.html"
        document.write_text(path, html.render(report))
        contexts.append(browser.new_context(viewport={"width": wide, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: said.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        assert said.pop(0) == path.as_uri()
        return page

    yield read
    for context in contexts:
        context.close()
    assert [words for words in said if not words.startswith("data:image/svg+xml;base64,")] == []


def visible(page: Any, selector: str) -> list[Any]:
    """Elements that can be seen, each as its text and its attributes."""
    seen = """selector => [...document.querySelectorAll(selector)].filter(element => element.checkVisibility()).map(
        element => ({text: element.textContent.replace(/\\s+/g, " ").trim(), ...element.dataset}))"""
    return page.evaluate(seen, selector)


def names(page: Any) -> list[str]:
    """Requirements that are listed, with their family."""
    return [one["text"].partition(" ")[0] for one in visible(page, ".req .name")]


def test_the_list_is_filtered_by_keyboard(read: Callable, report: Report) -> None:
    page = read(report)
    every = names(page)
    status = page.get_by_role("status")
    assert status.inner_text() == f"{len(every)} of {len(every)} requirements"

    page.get_by_role("checkbox", name=re.compile("FAIL")).focus()
    page.keyboard.press("Space")
    failed = {r["requirement"] for r in report["verdicts"]["adapters"][1]["results"] if r["verdict"] == "FAIL"}
    assert set(names(page)) == failed
    assert status.inner_text() == f"{len(failed)} of {len(every)} requirements"

    page.keyboard.press("Space")
    page.get_by_role("combobox", name="family").focus()
    page.keyboard.type("mask")
    assert names(page) == [name for name in every if name.startswith("mask/")]
    page.get_by_role("button", name="Clear").press("Enter")
    page.wait_for_function("count => document.getElementById('shown').value.startsWith(count)", arg=f"{len(every)} ")
    assert names(page) == every

    page.get_by_role("checkbox", name="SHOULD").press("Space")
    assert names(page) == ["hooks/standard-names"]
    page.get_by_role("checkbox", name="SHOULD").press("Space")

    page.get_by_role("searchbox", name="text").focus()
    page.keyboard.type("342 wrong cells")
    assert set(names(page)) == {"mask/relation-tensor", "mask/relation"}
    page.keyboard.press("Control+a")
    page.keyboard.type("no such words")
    assert names(page) == []


def test_one_adapter_of_several(read: Callable, report: Report) -> None:
    page = read(report)
    page.get_by_role("combobox", name="adapter").select_option(label="1 bd3lm")
    deviations = report["verdicts"]["adapters"][0]["summary"]["deviations"]
    (heading,) = visible(page, "section.adapter h2")
    assert heading["text"] == f"bd3lm ✓ conforms with {deviations} deviations"
    page.get_by_role("button", name="Open all").press("Enter")
    assert {entry["a"] for entry in visible(page, ".entry")} == {"0"}
    page.get_by_role("combobox", name="adapter").select_option(label="2 mine")
    assert {entry["a"] for entry in visible(page, ".entry")} == {"1"}


def test_a_requirement_opens_by_keyboard_and_by_a_link(read: Callable, report: Report) -> None:
    page = read(report)
    row = page.locator(".req", has=page.get_by_text("In every layer, changing one position MUST move exactly"))
    assert not row.locator(".why").first.is_visible()
    row.locator("summary").press("Enter")
    assert row.locator(".why").first.inner_text() == "why The mask that is held may not be the mask that is used."
    assert row.locator(".cmd").nth(1).inner_text() == "pytest --adapter mine 'conformance.mask::relation[mine-train]'"
    row.locator("summary").press("Enter")
    page.get_by_role("checkbox", name=re.compile("PASS")).press("Space")
    page.get_by_role("link", name="mask/relation", exact=True).first.press("Enter")
    page.wait_for_function("document.querySelector('.req:target').open")
    assert page.url.endswith("#mask/relation")
    assert row.locator(".findings img").first.is_visible()


def test_a_command_of_the_page_is_one_that_works(run: Callable, report: Report) -> None:
    (command,) = re.findall(r"pytest --adapter bd3lm [^<]*hooks::names\[bd3lm\][^<]*", html.render(report))
    *_, node = command.replace("&#39;", "").split()
    assert run("--adapter", "bd3lm", node).verdicts("hooks/names") == {None: "PASS"}


@pytest.mark.parametrize("wide", [400, 1280])
def test_nothing_is_wider_than_the_screen(read: Callable, report: Report, wide: int) -> None:
    page = read(report, wide)
    for opened in (False, True):
        page.evaluate("open => document.querySelectorAll('details').forEach(part => { part.open = open })", opened)
        assert page.evaluate("document.documentElement.scrollWidth") == wide


def test_it_can_be_read_without_its_script(read: Callable, report: Report) -> None:
    page = read(report, java_script_enabled=False)
    wanted = {result["requirement"] for adapter in report["verdicts"]["adapters"] for result in adapter["results"]}
    assert set(names(page)) == wanted
    assert not page.locator("#filter").is_visible()
    row = page.locator(".req").first
    row.locator("summary").press("Enter")
    assert row.locator(".entry").first.is_visible()


def test_on_paper_all_that_deviates_is_open(read: Callable, report: Report) -> None:
    page = read(alone(report, "bd3lm"))
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("#filter, nav").first.is_visible()
    adapter = report["verdicts"]["adapters"][0]
    deviating = [result["requirement"] for result in adapter["results"] if result["verdict"] == "DEVIATION"]
    assert page.evaluate("[...document.querySelectorAll('.req[open]')].map(row => row.id)") == list(
        dict.fromkeys(deviating)
    )
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".req[open]").count() == 0


LUMINANCE = """selector => {
    const element = document.querySelector(selector), style = getComputedStyle(element);
    const light = colour => {
        const part = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        const [red, green, blue] = colour.match(/[0-9.]+/g).map(value => part(value / 255));
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const paper = light(getComputedStyle(document.body).backgroundColor), ink = light(style.color);
    return [paper, (Math.max(paper, ink) + 0.05) / (Math.min(paper, ink) + 0.05)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_its_reader_is(read: Callable, report: Report, scheme: str) -> None:
    page = read(report, color_scheme=scheme)
    for selector in ("h1", "small", ".hint", "a", *(f".{word}" for word in ("PASS", "FAIL", "DEVIATION", "REFUSED"))):
        paper, contrast = page.evaluate(LUMINANCE, selector)
        assert (paper > 0.5) == (scheme == "light")
        assert contrast > 4.5, (selector, contrast)


def test_pictures_and_controls_have_names(read: Callable, report: Report) -> None:
    page = read(report)
    pictures = page.evaluate(
        "[...document.querySelectorAll('svg:not([aria-hidden]), img')].map(one => one.ariaLabel || one.alt)"
    )
    assert len(pictures) > 10
    assert all(pictures)
    assert set(page.evaluate("[...document.querySelectorAll('input, select')].map(one => one.labels.length)")) == {1}
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => '#' + one.id)")
    assert len(ids) == len(set(ids))
    assert set(page.evaluate("[...document.querySelectorAll('a')].map(one => one.getAttribute('href'))")) <= set(ids)


HOSTILE = "\"'`</script></style></title>--><img src=x onerror=alert(1)><svg onload=alert(2)>{{ 7 * 7 }}\udc80"

TRAP = (
    '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(3)"><script>alert(4)</script>'
    '<image href="https://example.org/x.png"/></svg>'
)


def hostile(value: Any, key: str = "") -> Any:
    """A report every text of which is hostile, unless the schema leaves it no choice."""
    fixed = {"requirement", "level", "verdict", "state", "contract", "schema", "kills", "mutant", "fate", "want", "got"}
    if isinstance(value, dict):
        return {name: hostile(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [hostile(each, key) for each in value]
    if key == "picture":
        return TRAP
    return value if not isinstance(value, str) or key in fixed else value + HOSTILE


def test_words_of_strangers_stay_words(read: Callable, report: Report) -> None:
    bad = hostile(report)
    for adapter in bad["verdicts"]["adapters"]:
        adapter["layouts"] = [layout + HOSTILE for layout in ("train", "sample")]
        for finding in (f for result in adapter["results"] for f in result.get("findings", ())):
            finding.update(got=HOSTILE, want=HOSTILE)
    page = read(bad)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    images = page.evaluate("[...document.images].map(image => image.src.split(',')[0])")
    assert set(images) == {"data:image/svg+xml;base64"}
    assert page.query_selector_all("[onload], [onerror]") == []
    assert len(page.query_selector_all("script, style, title")) == 3 + len(page.query_selector_all("svg title"))
    shown = HOSTILE.replace("\udc80", "\\udc80")
    assert f"bd3lm{shown}" in page.inner_text("body")
    assert "49" not in page.title()


# What there is to show.


def test_the_option_writes_what_the_report_says(report: Report) -> None:
    assert KEPT["page"] == html.render(KEPT["run"].report)
    assert "written: " in KEPT["run"].text
    assert "PARTIAL" in KEPT["page"]


def test_a_mask_is_drawn_as_wanted_and_as_seen(read: Callable, report: Report) -> None:
    page = read(report)
    first = "first: query 0 does not attend to key 0"
    captions = [caption.inner_text() for caption in page.query_selector_all(".figures figcaption")]
    assert captions == [
        "train, blocks.0, blocks.1: ✓ as wanted. 42 positions.",
        "sample, blocks.0, blocks.1: ✓ as wanted. 17 positions.",
        f"train, blocks.0, blocks.1: ✗ 342 of 1764 cells are wrong, {first}. 42 positions.",
        f"sample, blocks.0, blocks.1: ✗ 93 of 289 cells are wrong, {first}. 17 positions.",
    ]
    drawn = [len(re.findall("M", str(path.get_attribute("d")))) for path in page.query_selector_all(".figures .more")]
    rings = [len(re.findall("M", str(path.get_attribute("d")))) for path in page.query_selector_all(".figures .less")]
    assert [one + other for one, other in zip(drawn, rings, strict=True)] == [342, 93]


def test_hooks_are_told_with_order_shape_error_and_proof(read: Callable, report: Report) -> None:
    page = read(alone(report, "bd3lm"))
    rows = page.locator(".tree").first.locator("tbody tr")
    told = {
        cells[1]: cells
        for cells in rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")
    }
    assert told["blocks.0-1.attn.qkv.hook_in"][:3] == [
        "16, 38",
        "blocks.0-1.attn.qkv.hook_in",
        "float32 batch n d_model x2",
    ]
    assert told["blocks.0-1.attn.hook_out"] == ["-", "blocks.0-1.attn.hook_out", "", "", "", "† dead"]
    gated = told["blocks.0-1.hook_attn_out another name of blocks.{layer}.attn.o.hook_out"]
    assert float(gated[3]) > float(gated[4])


def test_errors_are_drawn_beside_budgets(read: Callable, report: Report) -> None:
    taps = report["measurements"]["cases"]["conformance.parity::taps[mine-train]"]["taps"]
    beyond = [tap for tap in taps if tap["error"] > tap["budget"]]
    plot = read(alone(report, "mine")).locator("figure.plot").first
    assert plot.locator(".plot-line .wrong").count() == len(beyond) > 40
    assert str(plot.locator(".good").get_attribute("d")).count("M") == len(taps) - len(beyond)
    assert f"{len(beyond)} beyond, first {beyond[0]['at']}." in plot.inner_text()


def test_errors_that_are_declared_are_called_so(read: Callable, report: Report) -> None:
    plot = read(alone(report, "bd3lm")).locator("figure.plot").first
    assert "4 beyond, all of them declared, first blocks.0.hook_attn_out." in plot.inner_text()


def test_an_error_that_is_no_number_lies_at_the_edge() -> None:
    from conformance.checks.parity.taps import _figure

    assert [_figure(size) for size in (0.00012345, 1.797e308, float("inf"))] == [0.000123, None, None]
    errors = [1e-7, None, 1e300, 0.0]
    drawn = taps.plot("plain", [{"at": f"tap {n}", "error": error, "budget": 1e-6} for n, error in enumerate(errors)])
    assert [(point.at, point.y) for point in drawn.wrong] == [("tap 1", drawn.top), ("tap 2", drawn.top)]
    assert (drawn.equal, drawn.good.count("M")) == (1, 2)


def test_layers_that_are_alike_share_a_line() -> None:
    names = [f"blocks.{layer}.hook_in" for layer in range(4)]
    facts = {"canonical": [*names, "embed.hook_out"], "aliases": {f"blocks.{n}.hook_pre": names[n] for n in range(4)}}
    tree = {"facts": {"tree": ["embed.hook_out: float32 batch n = hook_embed", "blocks.0.hook_in: float32 batch n"]}}
    taps = [{"at": name, "error": 1e-7 * n, "budget": 1e-6} for n, name in enumerate(["embed.hook_out", *names])]
    results = [
        {"requirement": "hooks/fires", "layout": "plain", "facts": {"hooks": {**facts, "refused": []}}},
        {"requirement": "snapshot/hook-tree", "layout": "plain", **tree},
    ]
    covered = {"advertised": 9, "proven": 8, "wrong": ["blocks.2.hook_pre"], "dead": [], "refused": [], "unknown": []}
    (found,) = hooks.trees(results, {"plain": covered}, {"plain": taps})
    lines = [("".join(name.shown), name.fires, name.shape, name.error, name.fate) for name in found.names]
    assert lines == [
        ("embed.hook_out", "1", "float32 batch n", 0.0, "proven"),
        ("blocks.0,1,3.hook_in", "2 … 5", "float32 batch n", 4e-7, "proven"),
        ("blocks.2.hook_in", "4", "float32 batch n", 3e-7, "proven"),
        ("blocks.2.hook_pre", "4", "float32 batch n", None, "wrong"),
    ]


def test_of_a_long_stream_the_positions_that_were_tried_are_named() -> None:
    bands = ["2: 0-1", "2: 0-3"]
    fact = {"at": ["blocks.0"], "positions": "0-1 90-91", "want": bands, "got": ["3: 0-1", "1: 0-3"]}
    result = {"requirement": "mask/relation", "layout": "train", "facts": {"relations": [fact]}}
    (figure,) = masks.figures([result])
    assert (figure.wrong, figure.first, figure.ends) == (2, "query 90 does not attend to key 90", (0, 91))
    assert "4 positions, those that were tried: 0-1 90-91." in html.render(reports.document(result))


@pytest.mark.parametrize("bands", [["nothing"], ["999999: 0-999999"], [7]])
def test_what_is_no_relation_is_not_drawn(bands: list[Any]) -> None:
    fact = {"at": ["blocks.0"], "positions": "0-1", "want": bands, "got": bands}
    assert [*masks.figures([{"requirement": "mask/relation", "facts": {"relations": [fact]}}])] == []


TIMED = {
    "median": 1.02,
    "interval_98": [0.99, 1.07],
    "ceiling": 1.15,
    "pairs": 25,
    "tokens_per_second": {"subject": 7056, "reference": 7467},
    "peak_bytes": {"subject": 3 << 20, "reference": 5 << 20},
}


def test_ratios_are_drawn_with_interval_and_ceiling(read: Callable) -> None:
    counted = {"operators": {"subject": 211, "reference": 200}}
    timed = reports.document(
        {"requirement": "throughput/ratio"},
        {"requirement": "throughput/operators", "layout": "train", "facts": counted},
    )
    timed["measurements"] = {"cases": {"conformance.throughput::ratio[mine]": {"seconds": 1.0, "ratio": TIMED}}}
    page = read(timed)
    cells = page.locator(".speed tbody tr").evaluate("row => [...row.cells].map(cell => cell.innerText)")
    assert cells == ["forward", "1.020", "0.990 to 1.070", "1.15", "", "25", "7\u2009056 : 7\u2009467", "3 : 5"]
    one, ceiling, median = (
        page.locator(f".speed td .{what}").evaluate("mark => mark.getBBox().x + mark.getBBox().width / 2")
        for what in ("one", "ceiling", "median")
    )
    assert one < median < ceiling
    assert page.locator("details", has_text="Exact counts").locator("td").all_text_contents() == [
        "train",
        "211",
        "200",
        "1.05",
    ]


# Reports that have less.


def test_a_report_of_another_contract_has_ids_for_sentences(report: Report) -> None:
    report["verdicts"]["contract"] = "0"
    page = html.render(report)
    assert "The report is of contract 0, of which the installed package does not have the sentences." in page
    assert "The mask that is held may not be the mask that is used." not in page
    assert "mask/relation" in page


def test_an_older_report_has_no_pictures(report: Report) -> None:
    for adapter in report["verdicts"]["adapters"]:
        for result in adapter["results"]:
            result.pop("facts", None)
        adapter["coverage"] = {}
    report["measurements"] = {}
    page = html.render(report)
    assert "<figure" not in page
    assert "342 wrong cells" in page


@pytest.mark.parametrize("state", ["PARTIAL", "INCOMPLETE"])
def test_a_run_that_is_not_whole_says_so_first(state: str) -> None:
    bare = reports.document(reports.FAILS, state=state)
    bare["verdicts"]["adapters"][0]["summary"]["conforms"] = None
    page = html.render(bare)
    assert page.index(f"<strong>{state}.</strong>") < page.index("<main>")
    assert "no verdict" in page
    assert "conforms</span>" not in page


def test_a_boot_that_failed() -> None:
    raised = {"code": "raised", "at": "boot", "got": "OSError: no file <config.json>", "want": "a bridge"}
    blocked = {"verdict": "BLOCKED", "cause": "loading/boots is not met"}
    page = html.render(
        reports.document(
            {"requirement": "loading/boots", "verdict": "FAIL", "findings": [raised]},
            {"requirement": "parity/logits", "layout": "train", **blocked},
            {"requirement": "parity/taps", "layout": "train", **blocked},
            summary={"conforms": False, "red": True},
        )
    )
    assert "boot: raised: got OSError: no file &lt;config.json&gt;, want a bridge" in page
    assert '<span class="n">2</span> blocked: loading/boots is not met' in page


def test_mutants_are_counted_and_told() -> None:
    kills = [
        {
            "mutant": "mask/shifted",
            "kills": "mask/relation",
            "fate": "KILLED",
            "by": ["mask/relation"],
            "first": "here",
        },
        {"mutant": "mask/idle", "kills": "mask/closure", "fate": "NO PLACE", "cause": "there is no mask"},
    ]
    summary = {"fates": {"KILLED": 1, "NO PLACE": 1}, "proven": 1, "idle": [], "untried": ["mask/closure"]}
    page = html.render(reports.document(mutants=kills, summary={"conforms": True, "mutants": summary}))
    assert "Requirements that noticed a defect which the rest of their family lets pass: 1." in page
    assert "Nothing could be put in for: mask/closure." in page
    assert '<span class="k NO-PLACE">NO PLACE</span>' in page
    assert "<span>there is no mask</span>" in page


def test_who_asks_for_no_page_pays_for_none() -> None:
    code = "import sys, conformance.session, conformance.report.html; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
