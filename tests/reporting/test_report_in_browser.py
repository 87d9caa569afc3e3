"""The page of ``dcbench report`` in Debian's Chromium, without a window."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from report_folders import HOSTILE, large, small

from dcbench_bacon.cli.results.report import write_report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: pip install -e '.[browser]'"
)
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is missing: apt-get install chromium"
    ),
]
DESKTOP, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser, which ends with the tests of this file."""
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a page once: of a small, a hostile or a large folder."""
    folder = tmp_path_factory.mktemp("pages")

    @cache
    def write(name: str) -> Path:
        where = folder / name
        store = (
            large(where, 2000)
            if name == "large"
            else small(where, hostile=name == "hostile")
        )
        return write_report(store.root, (), None)

    return write


@pytest.fixture
def show(browser: Any, written: Callable[[str], Path]) -> Iterator[Open]:
    """Opens a page; at the end, it must have been quiet and have asked for nothing."""
    problems: list[str] = []
    contexts = []

    def opened(name: str, viewport: dict[str, int] = DESKTOP, **options: Any) -> Any:
        folder = written(name).parents[1].as_uri()
        contexts.append(browser.new_context(viewport=viewport, **options))
        shown = contexts[-1].new_page()

        def asked(request: Any) -> None:
            if not request.url.startswith((folder, "data:")):
                problems.append(f"request of {request.url}")

        shown.on("console", lambda message: problems.append(message.text))
        shown.on("pageerror", lambda error: problems.append(str(error)))
        shown.on("dialog", lambda dialog: problems.append("a dialog"))
        shown.on("request", asked)
        shown.goto(written(name).as_uri())
        return shown

    yield opened
    for context in contexts:
        context.close()
    assert not problems


def column(shown: Any, number: int) -> list[str]:
    """The texts of a column of the main table, of the rows that can be seen."""
    cells = shown.locator(f".counted tbody tr:not([hidden]) > :nth-child({number})")
    return [str(text) for text in cells.all_inner_texts()]


def facet(shown: Any, name: str) -> Any:
    """The field of a filter."""
    return shown.locator(f"#filters [name={name}]")


def means(shown: Any) -> list[float]:
    return [float(text.split()[0]) for text in column(shown, 5)]


def test_tables_sort_by_any_heading(show: Open) -> None:
    shown = show("small")
    heading = shown.locator(".counted thead th", has_text="Measured")
    for state, down in (("ascending", False), ("descending", True)):
        heading.locator("button").press("Enter")
        assert heading.get_attribute("aria-sort") == state
        assert means(shown) == sorted(means(shown), reverse=down)
    shown.locator(".counted thead button", has_text="Difference").click()
    assert heading.get_attribute("aria-sort") is None
    found = column(shown, 8)
    empty = [not text for text in found]
    assert empty == sorted(empty)  # rows without a value come last
    values = [float(t.replace("\N{MINUS SIGN}", "-")) for t in found if t]
    assert values == sorted(values)


def test_filters_act_on_all_sections_and_can_be_linked_to(show: Open) -> None:
    shown = show("small")
    assert shown.get_by_role("status").inner_text() == "11 of 11 rows"
    facet(shown, "dataset").select_option("cifar10")
    assert set(column(shown, 2)) == {"CIFAR-10"}
    assert not shown.locator("#images").is_visible()  # the picture is of MNIST
    assert shown.locator(".panel:visible h3").all_inner_texts() == ["CIFAR-10"]
    assert not shown.locator("#continual").is_visible()
    assert shown.locator("#curves .map:visible").count() == 1
    facet(shown, "method").fill("bacon")
    assert column(shown, 1) == ["BACON"]
    assert shown.get_by_role("status").inner_text() == "1 of 11 rows"
    address = shown.url
    shown.get_by_role("button", name="Show all").click()
    shown.wait_for_function("document.querySelector('#count').textContent[0] == '1'")
    assert len(column(shown, 1)) == 11
    facet(shown, "network").select_option("MLP")
    assert column(shown, 4) == ["MLP"]
    facet(shown, "network").select_option("")
    facet(shown, "preset").select_option("quick")
    facet(shown, "ipc").select_option("1")
    assert len(column(shown, 1)) == 3
    shown.goto(address)
    shown.reload()
    assert column(shown, 1) == ["BACON"]


def test_a_number_opens_its_records(show: Open) -> None:
    shown = show("small")
    shown.get_by_role("button", name="Record of DM on CIFAR-10").press("Enter")
    dialog = shown.get_by_role("dialog")
    assert dialog.get_by_role("heading", level=2).inner_text() == (
        "2 records behind this mean"
    )
    text = dialog.inner_text()
    for words in (
        "dcbench run --methods dm --datasets cifar10",
        "--seeds 1",
        "0123abc",
        "protocol.epochs",
        "NVIDIA <H200> & co",
    ):
        assert words in text
    shown.keyboard.press("Escape")
    assert not dialog.is_visible()
    focused = shown.evaluate("document.activeElement.className")
    assert focused == "open"  # the button that opened it


def test_hostile_names_are_text(show: Open) -> None:
    shown = show("hostile")
    assert HOSTILE in "".join(column(shown, 1))
    facet(shown, "dataset").select_option(HOSTILE)
    shown.locator(".open:visible").first.click()
    assert HOSTILE in shown.get_by_role("dialog").inner_text()
    made = "[...document.querySelectorAll('script, img[src=x]')].length"
    assert shown.evaluate(made) == 2  # the data and the script


@pytest.mark.parametrize("name", ["small", "hostile"])
def test_a_phone_does_not_scroll_sideways(show: Open, name: str) -> None:
    shown = show(name, PHONE)
    widths = "[document.documentElement.scrollWidth, innerWidth]"
    width, window = shown.evaluate(widths)
    assert width <= window == 390
    shown.locator(".open").first.press("Enter")
    width, window = shown.evaluate(widths)
    assert width <= window
    inside = "(e => [e.scrollWidth, e.clientWidth])(document.querySelector('dialog'))"
    width, window = shown.evaluate(inside)
    assert width <= window


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_has_no_serious_finding(show: Open, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe-playwright-python is missing: pip install -e '.[browser]'",
    )
    for name in ("small", "hostile"):
        shown = show(name, color_scheme=scheme)
        # What is laid out late moves while it is looked at, and covers its neighbours.
        shown.add_style_tag(content="* { content-visibility: visible !important }")
        for opened in (False, True):
            if opened:
                shown.locator(".open").first.press("Enter")
            found = axe.Axe().run(shown).response["violations"]
            serious = [
                (each["id"], [node["html"] for node in each["nodes"]][:3])
                for each in found
                if each["impact"] in ("serious", "critical")
            ]
            assert not serious


def test_the_theme_can_be_changed(show: Open) -> None:
    shown = show("small", color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = shown.evaluate(colour)
    shown.get_by_role("button", name="Light").click()
    assert shown.evaluate(colour) != dark
    assert shown.get_by_role("button", name="Dark").is_visible()


def test_on_paper_only_what_can_be_read_is_left(show: Open) -> None:
    shown = show("small", color_scheme="dark")
    shown.emulate_media(media="print")
    for hidden in ("#filters", "nav", ".open", "#theme"):
        assert not shown.locator(hidden).first.is_visible()
    colour = "getComputedStyle(document.body).backgroundColor"
    assert shown.evaluate(colour) == "rgb(255, 255, 255)"
    cut = "e => e.scrollHeight > e.clientHeight + 1"
    regions = shown.locator("main .scroll").all()
    assert regions
    assert not any(region.evaluate(cut) for region in regions)


def test_two_thousand_records_open_within_two_seconds(
    show: Open, written: Callable[[str], Path]
) -> None:
    assert written("large").stat().st_size < 10_000_000
    shown = show("small")
    # The processor's time, since other programs may keep the processor busy.
    session = shown.context.new_cdp_session(shown)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    shown.goto(written("large").as_uri())
    assert shown.get_by_role("status").inner_text() == "2000 of 2000 rows"
    metrics = session.send("Performance.getMetrics")["metrics"]
    (taken,) = (each["value"] for each in metrics if each["name"] == "TaskDuration")
    assert taken < 2
    shown.locator(".open").first.click()
    assert "dcbench run" in shown.get_by_role("dialog").inner_text()
