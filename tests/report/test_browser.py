"""The report in a real browser: it works, it is quiet, and nothing that a model wrote executes.

Needs Debian's chromium and chromium-driver (apt-get install chromium chromium-driver); skips, and
says so, where they are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures import report as fixtures
from fixtures.browser import chromium, requests, wait_for
from fixtures.runs import plan_of, suite
from retainbench.harness.report import report
from retainbench.harness.running import run as runner

pytestmark = pytest.mark.browser
pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webdriver import WebDriver  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, browser: WebDriver) -> WebDriver:
    """A hostile run's report, drawn."""
    root = tmp_path_factory.mktemp("run")
    hostile = fixtures.HOSTILE[1]
    cards = [c for c in fixtures.scorecards() if c.recipe in ("sft", "sft-lora", "es", "dft")]
    cards = [
        c.model_copy(
            update={"recipe": f"es {hostile}", "method": hostile} if c.recipe == "es" else {}
        )
        for c in cards
    ]
    fixtures.write_run(root, cards)
    fixtures.write_evidence(root, cards)
    report.report(root, figures=False)
    browser.get((root / "report.html").as_uri())
    wait_for(browser, "return document.documentElement.dataset.drawn")
    return browser


def test_verdicts_and_the_table_are_on_the_first_screen(page: WebDriver) -> None:
    top, height = page.execute_script(
        "const box = document.querySelector('table.results thead').getBoundingClientRect();"
        "return [box.bottom + scrollY, innerHeight]"
    )
    assert top < height
    rulings = [found.text for found in page.find_elements(By.CSS_SELECTOR, ".rulings dt")]
    assert rulings[0] == "2 FAILED"
    assert [text.split()[1] for text in rulings[1:]] == ["REGRESSION", "INCONCLUSIVE", "PASS"]


def column(driver: WebDriver, key: str) -> list[str]:
    """Texts of a column of the results, visible rows only."""
    head = driver.find_elements(By.CSS_SELECTOR, "table.results thead th")
    index = [cell.get_attribute("data-key") for cell in head].index(key)
    rows = driver.find_elements(By.CSS_SELECTOR, "table.results tbody tr")
    return [
        row.find_elements(By.CSS_SELECTOR, "th, td")[index].text
        for row in rows
        if row.is_displayed()
    ]


def test_figures_are_drawn(page: WebDriver) -> None:
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-figure] svg")) == 6


def test_sorting_puts_the_largest_gain_first_and_gaps_last(page: WebDriver) -> None:
    page.find_element(By.CSS_SELECTOR, 'th[data-key="gain"] button').send_keys("\n")
    gains = [text.split()[0] for text in column(page, "gain")]
    known = [float(text) for text in gains if text != "—"]
    assert known == sorted(known, reverse=True)
    assert gains[len(known) :] == ["—"] * (len(gains) - len(known))
    page.find_element(By.CSS_SELECTOR, 'th[data-key="gain"] button').send_keys("\n")
    head = page.find_element(By.CSS_SELECTOR, 'th[data-key="gain"]')
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, "gain")[-1] == "—"


def test_filters_leave_the_chosen_rows(page: WebDriver) -> None:
    select = Select(page.find_element(By.CSS_SELECTOR, '[data-filter="adaptation"]'))
    select.select_by_visible_text("lora r=16")
    assert set(column(page, "method")) == {"sft, lora r=16"}
    assert page.find_element(By.ID, "shown").text == "2 of 8 rows"
    select.select_by_visible_text("all")
    assert page.find_element(By.ID, "shown").text == "8 of 8 rows"


def test_target_switch_redraws(page: WebDriver) -> None:
    Select(page.find_element(By.ID, "figure-target")).select_by_visible_text("new_facts")
    wait_for(page, "return document.documentElement.dataset.drawn === 'new_facts'")
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-figure] svg")) == 6


def test_tooltip_names_the_recipe(page: WebDriver) -> None:
    shown = page.execute_script(
        """
        const mark = document.querySelector('[data-figure=pareto] svg .mark-symbol.role-mark path');
        const box = mark.getBoundingClientRect();
        const at = {bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
        mark.dispatchEvent(new PointerEvent('pointerover', at));
        mark.dispatchEvent(new MouseEvent('mouseover', at));
        mark.dispatchEvent(new PointerEvent('pointermove', at));
        mark.dispatchEvent(new MouseEvent('mousemove', at));
        return document.getElementById('vg-tooltip-element')?.textContent ?? '';
        """
    )
    assert "recipe" in str(shown)
    assert "gain" in str(shown)


def test_flips_search_filter_and_pages(page: WebDriver) -> None:
    kind = Select(page.find_element(By.ID, "flip-kind"))
    assert not page.find_elements(By.CSS_SELECTOR, "#flip-list .flip:not(.lost)")
    kind.select_by_visible_text("lost and gained")
    search = page.find_element(By.ID, "flip-search")
    search.send_keys("ITEM 7 of rb_clock")
    cards = page.find_elements(By.CSS_SELECTOR, "#flip-list .flip")
    assert cards
    assert all("item 7 of rb_clock" in card.text for card in cards)
    search.clear()
    search.send_keys("no such text")
    wait_for(
        page, "return document.getElementById('flip-list').textContent.includes('No item matches')"
    )
    search.clear()
    search.send_keys("i")
    kind.select_by_visible_text("gained")
    assert not page.find_elements(By.CSS_SELECTOR, "#flip-list .lost")
    first = page.find_element(By.ID, "flip-list").text
    page.find_element(By.ID, "flip-next").send_keys("\n")  # the keyboard turns pages too
    assert page.find_element(By.ID, "flip-page").text.startswith("page 2 of")
    assert page.find_element(By.ID, "flip-list").text != first


def test_a_click_in_the_legend_fades_the_other_recipes(page: WebDriver) -> None:
    faded = """
        const marks = [...document.querySelectorAll(
          '[data-figure=pareto] svg .mark-symbol.role-mark path')];
        return [marks.length, marks.filter((m) => Number(m.getAttribute('opacity')) < 0.1).length];
        """
    every, none = page.execute_script(faded)
    assert none == 0
    click = """
        const name = document.querySelector(
          '[data-figure=pareto] svg .role-legend-label text');
        for (const kind of ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click']) {
          const event = kind.startsWith('p') ? PointerEvent : MouseEvent;
          name.dispatchEvent(new event(kind, {bubbles: true}));
        }
        """
    page.execute_script(click)
    wait_for(page, f"const [all, few] = (() => {{{faded}}})(); return few > 0 && few < all")
    page.execute_script(click)
    wait_for(page, f"const [all, few] = (() => {{{faded}}})(); return few === 0")
    assert every > 0


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(page: WebDriver) -> None:
    page.execute_script("document.querySelector('.skip').focus()")
    seen = []
    for _ in range(60):
        page.switch_to.active_element.send_keys("\t")
        here = page.switch_to.active_element
        seen.append(here.get_attribute("id") or here.get_attribute("data-filter") or here.tag_name)
        assert here.value_of_css_property("outline-style") == "solid", seen[-1]
        if seen[-1] == "figure-target":
            break
    assert {"target", "method", "adaptation", "button", "figure-target"} <= set(seen)


def test_every_control_has_a_name(page: WebDriver) -> None:
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, select, input')]"
        ".filter(e => !(e.textContent.trim() || e.labels?.length)).length"
    )
    assert nameless == 0


@pytest.mark.parametrize("width", [400, 1400])
def test_page_is_not_wider_than_the_screen(page: WebDriver, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_of_the_heat_maps_have_contrast(page: WebDriver, scheme: str) -> None:
    drawn = page.execute_script("return document.documentElement.dataset.count")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    if scheme == "dark":
        wait_for(page, f"return document.documentElement.dataset.count !== '{drawn}'")
    contrasts = page.execute_script(
        """
        const light = (text) => {
          const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
          const pen = canvas.getContext('2d');
          pen.fillStyle = text;
          pen.fillRect(0, 0, 1, 1);
          const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3)
            .map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        return ['tasks', 'drift'].flatMap((figure) => {
          const marks = (kind) => [...document.querySelectorAll(
            `[data-figure=${figure}] svg .mark-${kind}.role-mark > *`)];
          const cells = marks('rect');
          return marks('text').map((text, n) => {
            const inks = [text, cells[n]].map((mark) => light(mark.getAttribute('fill')));
            const [a, b] = inks.sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
          });
        });
        """
    )
    assert isinstance(contrasts, list)
    assert len(contrasts) > 40
    assert min(contrasts) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page: WebDriver, scheme: str) -> None:
    """WCAG AA asks for 4.5 between text and background."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    contrasts = page.execute_script(
        """
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
          const hex = style.getPropertyValue(name).trim().slice(1);
          const [r, g, b] = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        return ['--ink', '--muted', '--accent', '--good', '--bad', '--unsure'].flatMap((text) =>
          ['--page', '--panel'].map((back) => {
            const [a, b] = [light(text), light(back)].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
          }));
        """
    )
    assert isinstance(contrasts, list)
    assert min(contrasts) >= 4.5


def test_nothing_executes_and_nothing_leaves(page: WebDriver) -> None:
    """Runs after all others on this page: the logs hold everything since it was opened."""
    assert page.execute_script("return window.pwned") is None
    assert "{{ 7 * 7 }}" in str(page.execute_script("return document.body.textContent"))
    assert_quiet(page)


def assert_quiet(driver: WebDriver) -> None:
    """No console message, no request but for the page itself, since the last look."""
    assert driver.get_log("browser") == []  # type: ignore[attr-defined]
    # Chromium's own start page comes from inside the browser.
    outside = [url for url in requests(driver) if not url.startswith(("chrome://", "data:"))]
    assert [Path(url).name for url in outside] == ["report.html"]


def test_the_report_of_a_real_run(browser: WebDriver, tmp_path: Path) -> None:
    chosen = suite(Path("fruitfly"), tasks=["capitals", "dates"], items_per_task=30)
    runner.run(plan_of(chosen), tmp_path / "run")
    report.report(tmp_path / "run", figures=False)
    browser.get((tmp_path / "run" / "report.html").as_uri())
    wait_for(browser, "return document.title.startsWith('small')")
    wait_for(browser, "return document.documentElement.dataset.drawn")
    assert len(browser.find_elements(By.CSS_SELECTOR, "[data-figure] svg")) == 6
    assert browser.find_elements(By.CSS_SELECTOR, ".rulings div")
    assert column(browser, "recipe") == ["sft"]
    Select(browser.find_element(By.ID, "flip-kind")).select_by_visible_text("lost and gained")
    assert "Use " in browser.find_element(By.ID, "flip-list").text  # a countdown item
    assert_quiet(browser)
