"""The page in a browser: nothing runs but its own script, nothing is loaded, and it works by mouse and by keyboard."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from pages import HOSTILE, PLAIN, RUN, folder_of, lines, looked_at, page_of, scored, summary
from vergence.report.compare import runs_page
from vergence.report.page import write_page

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="NO PLAYWRIGHT: pip install playwright; nothing was shown")
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("NO CHROMIUM on this machine: apt-get install chromium; nothing was shown")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_page(page_of(PLAIN), folder / "plain.html")
    write_page(page_of(HOSTILE), folder / "hostile.html")
    write_page(runs_page(runs_in(folder))[0], folder / "runs.html")
    return folder


def runs_in(folder):
    """Runs with the longest states, long names and every probe beside what it must beat."""
    found = []
    for seed, epochs in enumerate((10, 20, 30)):
        differing = {"subset": 40_000 + seed, "batch_size": 100 + seed, "schedule_epochs": 50 + seed}
        run = replace(RUN, epochs=epochs, seed=seed, **differing)
        found.append(folder_of(folder / f"a-folder-with-a-rather-long-name-{'abc'[seed]}", run, log := lines(True)))
        made = looked_at(
            summary(run, log, 46.2),
            knn=scored(46.2, [40.1, 52.3], baselines={"untrained": 56.9, "starting weights": 99.9, "no picture": 16.7}),
            **{probe: scored(100.0, [99.1, 100.0], 100.0) for probe in ("linear", "logistic", "linear-raft")},
        )
        made["representation"]["state"] = "dimensional collapse"
        (found[-1] / "summary.json").write_text(json.dumps(made))
    return found


@pytest.fixture
def show(browser, folder):
    """Opens a page; at the end, nothing may have been said, refused, asked for over the network or loaded."""
    said: list[str] = []
    contexts = []

    def opened(name="plain", *, at="", width=1200, height=800, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith("data:") else None)
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', e => console.error('refused', e.violatedDirective))"
        )
        page.goto(f"{(folder / name).as_uri()}.html{at}")
        assert said.pop(0).startswith("file:")  # the page itself
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not said


def names(page):
    return page.locator("#table-norms tbody th").evaluate_all(
        "all => all.map(one => one.firstElementChild?.tagName === "
        "'A' ? one.firstElementChild.textContent : one.firstChild.textContent.trim())"
    )


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_nothing_runs_or_loads(show, name):
    page = show(name)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait_for_timeout(100)
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 1
    assert page.evaluate(
        "[...document.querySelectorAll('*')].every(e => e.getAttributeNames().every(n => !/^on/.test(n)))"
    )


def test_hostile_names_are_read_as_they_are(show):
    page = show("hostile")
    assert names(page)[0] == HOSTILE[0]
    page.locator("#table-norms tbody a").first.click()
    assert page.locator("details.run").first.evaluate("one => one.open")


def test_the_policy_refuses_other_scripts(browser, folder):
    """That the page is quiet says nothing unless a violation is heard."""
    text = (folder / "plain.html").read_text().replace("</main>", "<script>document.title = 'bad'</script></main>")
    (folder / "broken.html").write_text(text)
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto((folder / "broken.html").as_uri())
    assert any("Content Security Policy" in line for line in said)
    assert page.title() != "bad"
    page.close()


def test_sorting_by_click(show):
    page = show()
    head = page.locator("#table-norms thead th", has_text="kNN")
    before = names(page)
    orders = {}
    for _ in range(3):
        head.locator("button").click()
        orders[head.get_attribute("aria-sort")] = names(page)
    random = "random a word"
    assert orders["descending"] == ["BYOL", random, "BYOL, no norm"]  # 61.0, 40.1, 35.5
    assert orders["ascending"] == ["BYOL, no norm", random, "BYOL"]
    assert orders["none"] == before


def test_what_was_not_measured_stays_last(show):
    page = show()
    head = page.locator("#table-norms thead th", has_text="column 3")
    for _ in range(2):
        head.locator("button").click()
        assert names(page)[-1] == "random a word"


def test_sorting_by_keyboard(show):
    page = show()
    words = page.locator("#table-norms thead th", has_text="verdict").locator("button")
    words.focus()
    page.keyboard.press("Enter")
    assert page.locator("#table-norms th[aria-sort=ascending]").inner_text() == "verdict"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert page.locator("#table-norms th[aria-sort]:not([aria-sort=none])").inner_text() == "column 6"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme(show, scheme):
    page = show(scheme=scheme)
    other = {"light": "dark", "dark": "light"}[scheme]
    ground = "getComputedStyle(document.body).backgroundColor"
    colours = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}
    assert page.evaluate(ground) == colours[scheme]
    button = page.locator("#theme")
    assert button.inner_text() == f"{other.capitalize()} theme"
    button.click()
    assert page.evaluate(ground) == colours[other]
    assert page.evaluate("localStorage.getItem('vergence-theme')") == other


@pytest.mark.parametrize("name", ["plain", "hostile"])
@pytest.mark.parametrize("width", [360, 700, 1000, 1440])
def test_the_page_is_as_wide_as_the_window(show, name, width):
    page = show(name, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 360:
        assert page.locator("#table-norms .scroll").evaluate("one => one.scrollWidth > one.clientWidth")


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_verdict_comes_first_and_whole(show, width, height):
    page = show("runs", width=width, height=height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    first = page.locator(".card .state").first.bounding_box()
    assert first["y"] + first["height"] < height
    for place in (
        ".card .state",
        ".card .worse",
        ".card .warnings li",
        "#table-comparison tbody td:nth-child(2) .state",
    ):
        boxes = page.locator(place).evaluate_all(
            "all => all.map(one => [one.getBoundingClientRect().right, one.scrollWidth - one.clientWidth, "
            "getComputedStyle(one).display])"
        )
        assert len(boxes) >= 3
        assert all(right <= width for right, _, _ in boxes), place
        assert all(over <= 0 for _, over, display in boxes if display != "inline"), place


@pytest.mark.parametrize(("width", "scrolls"), [(1280, False), (1440, False), (390, True)])
def test_a_table_says_where_it_is_wider_than_the_window(show, width, scrolls):
    page = show("runs", width=width)
    page.wait_for_timeout(100)
    place = page.locator("#table-comparison .scroll")
    assert place.evaluate("one => one.scrollWidth > one.clientWidth") == scrolls
    assert page.locator("#table-comparison .hint").is_visible() == scrolls
    if scrolls:  # names and verdicts stay in sight, and the names stand still
        before = page.locator("#table-comparison tbody th").first.bounding_box()["x"]
        place.evaluate("one => one.scrollLeft = 200")
        assert page.locator("#table-comparison tbody th").first.bounding_box()["x"] == before


def test_a_link_opens_what_it_leads_to(show):
    page = show(at="#run-byol-no-norm", width=1440)
    assert page.evaluate("[...document.querySelectorAll('details.run')].map(one => one.open)") == [False, True]
    assert page.locator("#run-byol-no-norm h4").first.is_visible()
    page.locator("nav a", has_text=re.compile("^BYOL$")).click()
    assert page.evaluate("[...document.querySelectorAll('details.run')].map(one => one.open)") == [True, True]


def test_all_runs_open_and_close(show):
    page = show()
    button = page.locator("#all")
    assert button.inner_text() == "Open all"
    button.click()
    assert page.locator("details.run[open]").count() == 2
    button.click()
    assert page.locator("details.run[open]").count() == 0


def test_the_first_key_leads_to_the_content(show):
    page = show()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_what_has_the_focus_shows_it(show):
    page = show()
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_print_shows_all(show):
    page = show()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_works_without_script(browser, folder):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 800, "height": 600})
    page = context.new_page()
    page.goto((folder / "plain.html").as_uri())
    assert page.locator("#table-norms").is_visible()
    assert not page.locator("#theme").is_visible()
    page.locator("details.run summary").first.click()
    assert page.locator("details.run h4").first.is_visible()
    context.close()
