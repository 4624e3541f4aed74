"""The page over all published results: made from their rows, complete, quiet, readable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.browser import chromium, requests, wait_for
from results import index
from retainbench.harness.report import publish

BROWSER = pytest.mark.browser


def test_the_page_is_what_its_rows_say() -> None:
    assert index.PAGE.read_text(encoding="utf-8") == index.page()


def test_every_published_table_is_on_the_page_and_small_enough() -> None:
    found = index.entries()
    assert {entry.suite for entry in found} == {folder.name for folder in publish.published()}
    assert index.PAGE.stat().st_size < 2_000_000
    for entry in found:
        assert (index.RESULTS / entry.suite / "README.md").is_file()
        assert (index.RESULTS / entry.suite / "table.html").is_file()


def test_versions_of_a_base_or_target_are_choices_of_their_own() -> None:
    """Equal labels mean equal digests, so one plot never mixes two versions."""
    for entry in index.entries():
        assert entry.base.endswith(")")
        assert "unknown" not in entry.base + entry.target


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get(index.PAGE.as_uri())
        wait_for(driver, "return document.documentElement.dataset.drawn")
        yield driver


def emulate(driver: Any, width: int, scheme: str = "light", media: str = "screen") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def select(driver: Any, name: str, value: str) -> None:
    driver.execute_script(
        "const select = document.getElementById(arguments[0]); select.value = arguments[1];"
        "select.dispatchEvent(new Event('change'))",
        name,
        value,
    )


def visible(driver: Any) -> list[str]:
    """Names of the recipes of the rows that are shown."""
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('#table tbody tr:not([hidden]) th bdi')]"
        ".map((name) => name.textContent)"
    )
    return found


@BROWSER
def test_choices_leave_their_rows_as_marks_and_lines(page: Any) -> None:
    emulate(page, 1400)
    first = index.entries()[0]
    select(page, "base", first.base)
    select(page, "target", first.target)
    for axis in dict.fromkeys(entry.axis for entry in index.entries()):
        select(page, "axis", axis)
        chosen = [
            entry
            for entry in index.entries()
            if (entry.base, entry.target, entry.axis) == (first.base, first.target, axis)
        ]
        assert sorted(visible(page)) == sorted(entry.recipe for entry in chosen)
        marks = page.execute_script("return document.querySelectorAll('#plot > svg .mark').length")
        assert marks == len(chosen)


@BROWSER
def test_a_click_on_a_heading_sorts(page: Any) -> None:
    page.execute_script("document.querySelector('th[data-sort=drop] button').click()")
    drops = page.execute_script(
        "return [...document.querySelectorAll('#table tbody tr:not([hidden])')]"
        ".map((line) => line.querySelectorAll('td.right b')[1].textContent)"
    )
    numbers = [float(text.replace("−", "-")) for text in drops]
    assert numbers == sorted(numbers)


@BROWSER
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_screen(page: Any, width: int, scheme: str) -> None:
    emulate(page, width, scheme)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.execute_script("return document.querySelector('#plot svg').clientHeight") > 200


@BROWSER
def test_print_shows_the_rows_without_the_controls(page: Any) -> None:
    emulate(page, 800, media="print")
    shown = "return getComputedStyle(document.getElementById('choices')).display"
    assert page.execute_script(shown) == "none"
    assert visible(page)


@BROWSER
def test_no_request_leaves_and_nothing_is_logged(page: Any) -> None:
    """Runs last: the logs hold everything since the page was opened."""
    assert page.get_log("browser") == []
    outside = [url for url in requests(page) if not url.startswith(("chrome://", "data:"))]
    assert [Path(url).name for url in outside] == ["index.html"]
