"""The page in a real browser, opened as a file: keys, filters, both colour schemes, phone width, hostile answers.

FLAMINGO_EVAL_SCREENSHOTS=DIR keeps the screenshots. Skipped where no Chromium or no Playwright is found.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.report.page import PageOptions, html_page
from flamingo_eval.report.tables import table_of
from flamingo_eval.runs.folder import find_runs

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 120_000  # a loaded machine is no failure
HOSTILE = "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>\u202e\"'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as session:
        try:
            opened = session.chromium.launch(executable_path=browser_path, args=list(ARGUMENTS))
        except playwright.Error as error:
            pytest.skip(f"{browser_path} does not start: {error.message.splitlines()[0]}")
        yield opened
        opened.close()


class Opened:
    """A page, and everything it complained about or asked for."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.complaints.append(str(e)))
        page.on("request", lambda r: self.asked.append(r.url) if not r.url.startswith("data:") else None)
        page.goto(path.as_uri())

    def texts(self, selector: str) -> list[str]:
        return [t.strip() for t in self.page.locator(selector).all_inner_texts()]

    def overflow(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def keep(self, name: str) -> None:
        folder = os.environ.get("FLAMINGO_EVAL_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=str(Path(folder) / f"report-{name}.png"))


@pytest.fixture(scope="module")
def report_file(run_maker: Any, vqa_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: everything `red` at 0 shots, `1` at 4, hostile at 8."""
    folder = tmp_path_factory.mktemp("report")
    make_run = run_maker(folder)
    folders = [make_run(say, shots=k) for k, say in ((0, "red"), (4, "1"), (8, HOSTILE))]
    path = folder / "report.html"
    path.write_text(html_page(folders, table_of(folders), PageOptions(data=str(vqa_root))).html, encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Any, report_file: Path) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", offline=True)
    yield Opened(context.new_page(), report_file)
    context.close()


def test_it_opens_from_a_file_without_network_and_without_complaint(opened: Opened, report_file: Path) -> None:
    assert opened.texts("#list li .said") == ["1"] * 12
    assert opened.asked == [report_file.as_uri()]
    assert opened.complaints == []
    assert opened.overflow() == 0
    opened.keep("light")


def test_keys_walk_queries_and_shots(opened: Opened) -> None:
    page = opened.page
    page.focus("#list")
    assert opened.texts("#detail .head b") == ["100"]
    page.keyboard.press("ArrowDown")
    assert opened.texts("#detail .head b") == ["101"]
    page.keyboard.press("End")
    assert opened.texts("#detail .head b") == ["111"]
    assert page.get_attribute("#list", "aria-activedescendant") == "q11"
    page.keyboard.press("ArrowLeft")
    assert opened.texts("#detail .said-big") == ["red"]
    assert page.evaluate("document.activeElement.id") == "list"
    assert len(opened.texts("#detail .prompt > li")) == 3  # two text-only demonstrations and the query
    page.keyboard.press("/")
    page.keyboard.type("square 3")
    assert opened.texts("#detail .head b") == ["103"]
    page.keyboard.press("Escape")
    assert len(opened.texts("#list li")) == 12
    assert opened.complaints == []


def test_arrow_keys_work_without_a_click_while_queries_are_in_view(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("ArrowDown")
    assert opened.texts("#detail .head b") == ["100"], "at the top of the page the key scrolls"
    page.evaluate("document.querySelector('.split').scrollIntoView({behavior: 'instant'})")
    page.keyboard.press("ArrowDown")
    assert opened.texts("#detail .head b") == ["101"]
    page.keyboard.press("ArrowLeft")
    assert opened.texts("#detail .said-big") == ["red"]


def test_a_link_names_task_run_and_query(opened: Opened, report_file: Path) -> None:
    page = opened.page
    page.focus("#list")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    link = page.url
    for part in ("query=111", "task=vqav2", "run=m%2C+0+shots%2C+seed+0"):
        assert part in link
    page.goto("about:blank")
    page.goto(link)
    assert opened.texts("#detail .head b") == ["111"]
    assert opened.texts("#detail .said-big") == ["red"]
    page.goto(report_file.as_uri() + "#query=nowhere&task=x&run=y")
    page.reload()
    assert opened.texts("#detail .head b") == ["100"]


def test_scores_of_five_shots_are_visible_at_1400_pixels_and_one_on_a_phone(
    browser: Any, run_maker: Any, vqa_root: Path, tmp_path: Path
) -> None:
    make_run = run_maker(tmp_path)
    models = (("a-model-with-a-long-name-7b", "flamingo"), ("another-model", "openflamingo"))
    shots = (0, 2, 4, 6, 8)
    folders = [make_run("red", shots=k, model=name, protocol=protocol) for name, protocol in models for k in shots]
    path = tmp_path / "report.html"
    path.write_text(html_page(folders, table_of(folders), PageOptions(data=str(vqa_root))).html, encoding="utf-8")
    for width, scores in ((1400, 5), (390, 1)):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        opened = Opened(context.new_page(), path)
        positions = opened.page.evaluate(
            """[...document.querySelectorAll('#table thead th')].filter(e => /shots/.test(e.textContent))
              .map(e => e.getBoundingClientRect()).filter(r => r.width && r.right <= innerWidth).length"""
        )
        assert positions >= scores, f"{positions} columns of scores at {width} pixels"
        assert opened.overflow() == 0
        context.close()


def test_filters_by_verdict_change_and_type(opened: Opened) -> None:
    page = opened.page
    page.check("#filter input[value=wrong]", force=True)
    assert len(opened.texts("#list li")) == 6
    page.check("#filter input[value=right]", force=True)
    assert set(opened.texts("#list li .asked")) == {"How many squares are there?"}
    page.check("#filter input[value=all]", force=True)
    page.select_option("#type", "answer_type: other")
    assert len(opened.texts("#list li")) == 6
    page.select_option("#type", "")
    assert page.is_disabled("#filter input[value=failed]")
    page.select_option("#other", label="0 shots, seed 0")
    page.check("#filter input[value=changed]", force=True)
    assert len(opened.texts("#list li")) == 12
    assert opened.texts("#detail .said-big") == ["1", "red"]


def test_the_prompt_shows_pictures_texts_and_the_completion(opened: Opened) -> None:
    cards = opened.page.locator("#detail .prompt > li")
    assert cards.count() == 5
    assert opened.page.evaluate("[...document.querySelectorAll('.prompt img')].every(i => i.naturalWidth > 0)")
    assert "<EOC>" in cards.nth(0).inner_text()
    assert cards.nth(4).inner_text().endswith("Answer: 1")
    assert opened.texts("#detail .refs li") == ["red ×10"]


def test_tables_sort_by_number_and_back(opened: Opened) -> None:
    page = opened.page
    page.click("#runs summary >> nth=0") if page.locator("#runs details[open]").count() == 0 else None
    head = page.locator("#runs table").first.locator("th", has_text="score")
    scores = "#runs table >> nth=0 >> tbody tr td:nth-child(8)"
    before = opened.texts(scores)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert opened.texts(scores) == sorted(before, key=float, reverse=True)
    head.locator("button").click()
    assert opened.texts(scores) == sorted(before, key=float)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert opened.texts(scores) == before


def test_hostile_answers_are_only_text(opened: Opened) -> None:
    opened.page.focus("#list")
    opened.page.keyboard.press("ArrowRight")
    assert opened.texts("#detail .said-big") == [HOSTILE.replace("\u202e", "⟨U+202E⟩")]
    assert opened.page.evaluate("window.pwned") is None
    assert opened.page.locator("#detail script, #detail img[src=x]").count() == 0


def test_dark_by_the_system_and_by_the_button(browser: Any, report_file: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark", offline=True)
    opened = Opened(context.new_page(), report_file)
    background = "getComputedStyle(document.body).backgroundColor"
    assert opened.page.evaluate(background) == "rgb(18, 17, 22)"
    opened.keep("dark")
    opened.page.click("#theme")
    assert opened.page.get_attribute("#theme", "aria-label") == "Colours: light"
    assert opened.page.evaluate(background) == "rgb(250, 248, 249)"
    opened.page.reload()
    assert opened.page.evaluate(background) == "rgb(250, 248, 249)"  # remembered
    context.close()


def test_a_phone_needs_no_sideways_scrolling(browser: Any, report_file: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, offline=True)
    opened = Opened(context.new_page(), report_file)
    assert opened.overflow() == 0
    opened.page.tap("#list li >> nth=2")
    assert opened.texts("#detail .head b") == ["102"]
    opened.page.locator("#queries").scroll_into_view_if_needed()
    opened.keep("narrow")
    context.close()


def test_everything_has_a_name_and_text_stands_out(opened: Opened) -> None:
    """Names for controls and pictures, and contrast of 4.5 for the colours that carry text, in both schemes."""
    nameless = opened.page.evaluate(
        """[...document.querySelectorAll('button, select, input, img, svg[role=img]')]
          .filter(e => !e.hasAttribute('aria-label') && !e.hasAttribute('alt'))
          .filter(e => !e.textContent.trim() && !e.labels?.length).length"""
    )
    assert nameless == 0
    for scheme in ("light", "dark"):
        opened.page.evaluate("s => document.documentElement.dataset.theme = s", scheme)
        for ink, ground in (
            *((i, g) for i in ("ink", "muted") for g in ("bg", "surface", "sunk")),
            *(("accent", g) for g in ("bg", "surface", "soft")),
            *((c, f"{c}-soft") for c in ("ok", "bad", "warn")),
            ("surface", "accent"),
        ):
            colours = opened.page.evaluate(
                "n => n.map(x => getComputedStyle(document.documentElement).getPropertyValue('--' + x).trim())",
                [ink, ground],
            )
            assert contrast(*colours) >= 4.5, (scheme, ink, ground, colours)


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast of two #rgb or #rrggbb colours."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
    values = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture(scope="module")
def reference_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the example runs of results/reference, pictures and all."""
    folders = find_runs([Path(__file__).parents[2] / "results" / "reference" / "runs"])
    path = tmp_path_factory.mktemp("reference") / "report.html"
    options = PageOptions("flamingo-eval: tiny on the sample", None, 6, 120)
    path.write_text(html_page(folders, table_of(folders), options).html, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme", "at"),
    [
        ("light", 1280, 900, "light", "#figure"),
        ("dark", 1280, 900, "dark", "#queries"),
        ("narrow", 390, 844, "light", "#figure"),
    ],
)
def test_the_reference_runs_make_a_page_to_show(
    browser: Any, reference_file: Path, name: str, width: int, height: int, scheme: str, at: str
) -> None:
    """Made for looking at: FLAMINGO_EVAL_SCREENSHOTS=docs/images writes what docs/report.md shows."""
    size = {"width": width, "height": height}
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, reduced_motion="reduce")
    opened = Opened(context.new_page(), reference_file)
    opened.page.locator(at).scroll_into_view_if_needed()
    opened.page.evaluate("at => document.querySelector(at).scrollIntoView({behavior: 'instant'})", at)
    assert opened.overflow() == 0
    assert opened.page.locator("#figure svg").count() >= 5
    assert opened.page.locator("#queries img").count() > 3
    assert not opened.complaints
    opened.keep(name)
    context.close()
