"""The pages of a batch in headless Chromium: what a reader does with them, and that they ask for nothing."""

from __future__ import annotations

import gc
import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mrisr.batch.report.overview import write_overview
from tests.batch.conftest import outcome_of, write_batch

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
SELENIUM = importlib.util.find_spec("selenium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SELENIUM is None, reason="needs selenium"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.skipif(DRIVER is None, reason="needs chromedriver"),
    pytest.mark.timeout(120),
]
FLAGS = (
    "headless=new no-sandbox disable-gpu disable-quic disable-dev-shm-usage no-first-run "
    "disable-background-networking disable-component-update disable-sync window-size=1280,1000"
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = write_batch(tmp_path_factory.mktemp("batch") / "out")
    write_overview(out, outcome_of(out))
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all, whose log and requests are looked at when it closes."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
        # The client leaves its connection to the collector, which pytest would hear of in another test.
        driver.command_executor.close()
        del driver
        gc.collect()


@pytest.fixture
def page(browser: Chrome, out: Path) -> Iterator[Chrome]:
    """The page of the study with labels; afterwards nothing else was asked for, and no error said."""
    browser.get((out / "sub-01" / "report.html").as_uri())
    yield browser
    check_quiet(browser)


@pytest.fixture
def overview(browser: Chrome, out: Path) -> Iterator[Chrome]:
    browser.get((out / "report.html").as_uri())
    yield browser
    check_quiet(browser)


def check_quiet(browser: Chrome) -> None:
    """No error in the log, and no request but for files, what the page holds, and the browser's first tab."""
    assert browser.get_log("browser") == []
    asked = re.findall(
        r'"Network\.requestWillBeSent".*?"url":"([^"]*)"',
        "\n".join(entry["message"] for entry in browser.get_log("performance")),
    )
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "chrome"}


def one(where: Chrome | WebElement, selector: str) -> WebElement:
    return where.find_element("css selector", selector)


def every(where: Chrome | WebElement, selector: str) -> list[WebElement]:
    return where.find_elements("css selector", selector)


def style(browser: Chrome, selector: str, what: str) -> Any:
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return browser.execute_script(script, selector, what)


def clip(browser: Chrome, plane: str, side: str) -> float:
    """How much of the width is cut from a side's picture, in percent."""
    told = style(browser, f'figure[data-plane="{plane}"] .layer.on.{side}', "clipPath")
    return max(float(v) for v in re.findall(r"([\d.]+)%", told))


def click(browser: Chrome, element: WebElement) -> None:
    """Click an element, the label of one that is not seen itself."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def choose(browser: Chrome, value: str) -> None:
    click(browser, one(browser, f'label:has(input[value="{value}"])'))


def shown(browser: Chrome, plane: str, side: str) -> tuple[str, str]:
    """Which volume lies on a side, at which position; what is not shown is not."""
    layers = [
        layer
        for layer in every(browser, f'figure[data-plane="{plane}"] .layer.{side}')
        if layer.is_displayed()
    ]
    (layer,) = layers
    return str(layer.get_attribute("data-layer")), str(layer.get_attribute("data-position"))


# --- a study --------------------------------------------------------------------------------------


def test_the_line_follows_mouse_finger_and_keyboard(page: Chrome) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput
    from selenium.webdriver.common.keys import Keys

    stage = one(page, 'figure[data-plane="coronal"] .stage')
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", stage)
    assert clip(page, "coronal", "left") == clip(page, "coronal", "right") == 50
    width = stage.size["width"]
    mouse = ActionChains(page, duration=20)
    mouse.move_to_element_with_offset(stage, 0, 0).click_and_hold()
    mouse.move_by_offset(round(0.3 * width), 0).release().perform()
    assert clip(page, "coronal", "right") == pytest.approx(80, abs=1.5)
    assert clip(page, "coronal", "left") == pytest.approx(20, abs=1.5)
    assert clip(page, "axial", "left") == 50  # each picture has its own
    slider = one(page, 'figure[data-plane="coronal"] .split')
    assert float(slider.get_property("value")) == pytest.approx(80, abs=1.5)
    touch = ActionBuilder(page, mouse=PointerInput("touch", "finger"), duration=20)
    finger = touch.pointer_action
    finger.move_to(stage, 0, 0).pointer_down()
    finger.move_to(stage, -round(0.2 * width), 0).pointer_up()
    touch.perform()
    assert clip(page, "coronal", "right") == pytest.approx(30, abs=2)
    ActionChains(page).reset_actions()
    slider = one(page, 'figure[data-plane="sagittal"] .split')
    for keys, right in ((Keys.ARROW_RIGHT * 3, 53), (Keys.HOME, 0), (Keys.END, 100)):
        slider.send_keys(keys)
        assert clip(page, "sagittal", "right") == right
        assert clip(page, "sagittal", "left") == 100 - right
    assert slider.get_attribute("aria-valuetext") == "100% measured"
    assert "left and the right volume" in slider.accessible_name


def test_volumes_are_switched(page: Chrome) -> None:
    assert shown(page, "axial", "left")[0] == "measured"
    assert shown(page, "coronal", "right")[0] == "throughplane"
    choose(page, "inplane-x2")
    for plane in ("axial", "coronal", "sagittal"):
        assert shown(page, plane, "right")[0] == "inplane-x2"
    choose(page, "interpolated")
    assert shown(page, "sagittal", "left")[0] == "interpolated"
    tags = [tag.text for tag in every(page, 'figure[data-plane="axial"] .tag')]
    assert tags == ["interpolated", "in-plane ×2"]


def test_slices_are_browsed(page: Chrome) -> None:
    from selenium.webdriver.common.keys import Keys

    figure = one(page, 'figure[data-plane="axial"]')
    where, slider = one(figure, ".where"), one(figure, ".slice")
    before, start = where.text, int(shown(page, "axial", "left")[1])
    level = one(page, 'figure[data-plane="coronal"] .level').get_attribute("transform")
    click(page, one(figure, 'button[data-step="1"]'))
    assert shown(page, "axial", "left")[1] == shown(page, "axial", "right")[1] == str(start + 1)
    assert where.text != before
    assert one(page, 'figure[data-plane="coronal"] .level').get_attribute("transform") != level
    slider.send_keys(Keys.HOME)
    click(page, one(figure, 'button[data-step="-1"]'))  # there is none before the first
    assert shown(page, "axial", "right") == ("throughplane", "0")
    assert slider.get_attribute("aria-valuetext") == where.text


def test_outlines_are_switched(page: Chrome) -> None:
    zones = 'figure[data-plane="axial"] .layer.on.left svg.zones'
    reference = 'figure[data-plane="axial"] .over.on svg.reference'
    assert style(page, zones, "display") != "none"
    assert style(page, reference, "display") == "none"
    assert style(page, f"{zones} path.PZ", "stroke") == "rgb(230, 159, 0)"
    assert style(page, f"{zones} path.TZ", "stroke") == "rgb(86, 180, 233)"
    for kind in ("zones", "reference"):
        click(page, one(page, f".show-{kind}"))
    assert style(page, zones, "display") == "none"
    assert style(page, reference, "display") != "none"
    assert style(page, f"{reference} path.PZ", "strokeDasharray") != "none"


def test_pictures_are_drawn_and_grow_and_the_provenance_opens(page: Chrome) -> None:
    script = """return [...document.querySelectorAll('.layer.on.left img, .layer.on.right img')]
        .map((i) => i.complete && i.naturalWidth > 0)"""
    assert page.execute_script(script) == [True] * 6
    width = one(page, 'figure[data-plane="axial"] .stage').size["width"]
    click(page, one(page, ".enlarge"))
    assert one(page, 'figure[data-plane="axial"] .stage').size["width"] > 1.5 * width
    details = one(page, "#provenance details")
    assert not one(details, "pre").is_displayed()
    click(page, one(details, "summary"))
    assert "c0" * 32 in details.text


# --- all studies ----------------------------------------------------------------------------------


def names(browser: Chrome) -> list[str]:
    """The studies that are seen, in their order, by their first words."""
    rows = every(browser, "#table tbody tr")
    return [one(row, "th").text.split(" ")[0] for row in rows if row.is_displayed()]


def test_the_table_is_sorted(overview: Chrome) -> None:
    assert names(overview) == ["sub-01", "sub-02", "sub-03"]
    for column, order, expected in (
        ("Time", "ascending", ["sub-03", "sub-02", "sub-01"]),
        ("Time", "descending", ["sub-01", "sub-02", "sub-03"]),
        ("Study", "ascending", ["sub-01", "sub-02", "sub-03"]),
        ("Study", "descending", ["sub-03", "sub-02", "sub-01"]),
        ("Dice PZ", "ascending", ["sub-01", "sub-03", "sub-02"]),  # what has none comes last
    ):
        heads = every(overview, "#table thead button")
        click(overview, next(h for h in heads if h.is_displayed() and h.text == column))
        assert names(overview) == expected
        assert one(overview, f'th[aria-sort="{order}"]').text.startswith(column)


def test_the_table_is_filtered(overview: Chrome) -> None:
    from selenium.webdriver.support.select import Select

    Select(one(overview, "#state")).select_by_value("failed")
    assert names(overview) == ["sub-03"]
    assert one(overview, "#count").text == "1 of 3 studies"
    Select(one(overview, "#state")).select_by_value("")
    for words, found in (("SES-B", ["sub-02"]), ("5000 bytes", ["sub-03"])):
        one(overview, "#find").clear()
        one(overview, "#find").send_keys(words)
        assert names(overview) == found


def test_the_volume_of_the_figures_is_chosen(overview: Chrome) -> None:
    from selenium.webdriver.support.select import Select

    def dice() -> list[str]:
        cells = every(one(overview, "#table tbody tr"), 'td[data-label="Dice PZ"]')
        return [cell.text for cell in cells if cell.is_displayed()]

    assert dice() == ["0.793"]
    Select(one(overview, "#volume")).select_by_value("inplane-x2")
    assert dice() == ["0.760"]


def test_links_lead_to_a_study_and_back(overview: Chrome, out: Path) -> None:
    click(overview, one(overview, '#table a[href="sub-02/ses-b/report.html"]'))
    assert one(overview, "h1").text.startswith("sub-02 ses-b")
    click(overview, one(overview, "#back"))
    assert overview.current_url == (out / "report.html").as_uri()
    click(overview, one(overview, "#failures a"))
    assert "expected 5000 bytes" in one(overview, "#failures .reason").text


@pytest.mark.parametrize("name", ["report.html", "sub-01/report.html", "sub-03/report.html"])
def test_pages_fit_a_phone(browser: Chrome, out: Path, name: str) -> None:
    phone = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        browser.get((out / name).as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    check_quiet(browser)
