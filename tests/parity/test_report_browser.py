"""`parity.html` in a real headless browser: Debian's chromium, driven by playwright.

Without them the tests are skipped; with KOKORO_REQUIRE_BROWSER=1, as in CI, they fail instead.
"""

from __future__ import annotations

import os
import shutil

import pytest

from kokoro_coreml.parity.report import write_html
from kokoro_coreml.parity.report.view import sentence
from tests.support.reports import device_report, empty_report, failed_report, passed_report

REPORTS = {
    "passed": passed_report,
    "failed": failed_report,
    "device": device_report,
    "empty": lambda: (empty_report(), []),
}
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
]

# WCAG 2.2, 1.4.3: every visible text against the first opaque ground behind it
LOW_CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const c of colours) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => rgb
    .map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const hidden = ["SCRIPT", "TITLE", "title", "desc"].includes(element.tagName);
    if (!walker.currentNode.textContent.trim() || hidden || !element.checkVisibility()) continue;
    seen += 1;
    const grounds = [];
    for (let e = element; e; e = e.parentElement) {
      grounds.unshift(getComputedStyle(e).backgroundColor);
    }
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [[], [ink]].map((top) => luminance(over(["white", ...grounds, ...top])));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${walker.currentNode.textContent.trim()}`);
  }
  return [seen, found];
}"""

DURATIONS = """() => Promise.all([...document.querySelectorAll("audio")].map((audio) =>
  new Promise((resolve, reject) => {
    audio.addEventListener("loadedmetadata", () => resolve(audio.duration));
    audio.addEventListener("error", () => reject(new Error(audio.getAttribute("aria-label"))));
    audio.load();
  })))"""


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if sync_playwright is None or CHROMIUM is None:
        reason = "needs playwright (pip) and chromium (apt-get install chromium)"
        if os.environ.get("KOKORO_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    for name, make in REPORTS.items():
        report, listenings = make()
        write_html(folder / f"{name}.html", report, listenings)
    return folder


@pytest.fixture
def show(browser, files):
    """Opens a report; fails at the end if the page complained or asked for anything."""
    complaints, contexts = [], []

    def opened(name, *, viewport=DESKTOP, scheme="light", javascript=True):
        context = browser.new_context(
            viewport=viewport, color_scheme=scheme, java_script_enabled=javascript
        )
        contexts.append(context)
        page = context.new_page()
        address = (files / f"{name}.html").as_uri()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.partition("#")[0] == address or request.url.startswith("data:")
                else complaints.append(f"request: {request.url}")
            ),
        )
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def until(page, expression):
    """Wait for something to be true; playwright's own way needs an eval the policy forbids."""
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {expression}")


def overflow(page):
    """Pixels by which the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.mark.parametrize("name", REPORTS)
def test_the_verdict_is_the_first_thing_one_sees(show, name):
    report, _ = REPORTS[name]()
    page = show(name, viewport=PHONE)
    assert page.get_by_role("heading", level=1).inner_text().endswith(report.bundle.name)
    assert report.verdict.capitalize() in page.get_by_role("heading", level=1).inner_text()
    box = page.locator("#verdict").bounding_box()
    assert box["y"] + 40 < PHONE["height"]
    assert page.locator("#verdict").inner_text() == sentence(report)


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_its_window(show, name, width):
    page = show(name, viewport={"width": width, "height": 844})
    assert overflow(page) <= 0
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert overflow(page) <= 0


@pytest.mark.parametrize("name", ["passed", "failed", "device"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(show, name, scheme):
    page = show(name, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    seen, found = page.evaluate(LOW_CONTRAST)
    assert seen > 300
    assert found == []


def test_dark_and_light_differ(show):
    colours = {}
    for scheme in ("light", "dark"):
        page = show("passed", scheme=scheme)
        colours[scheme] = page.evaluate(
            "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])"
        )
    (light_ground, light_ink), (dark_ground, dark_ink) = colours["light"], colours["dark"]
    assert brightness(light_ground) > 200 > 100 > brightness(light_ink)
    assert brightness(dark_ground) < 50 < 180 < brightness(dark_ink)


def brightness(colour):
    return sum(int(v) for v in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3


@pytest.mark.parametrize("name", ["passed", "failed"])
def test_every_player_decodes_to_the_length_of_its_audio(show, name):
    _, listenings = REPORTS[name]()
    page = show(name)
    durations = page.evaluate(DURATIONS)
    expected = [
        samples.size / heard.sample_rate
        for heard in listenings
        for samples in (heard.reference, heard.candidate, heard.difference)
    ]
    assert durations == pytest.approx(expected, abs=0.01)


def test_every_picture_decodes(show):
    page = show("failed")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    sizes = page.evaluate(
        "Promise.all([...document.images].map((i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(sizes) == 10
    assert min(sizes) > 25


def test_switching_players_keeps_the_moment(show):
    page = show("passed")
    case = page.locator("#case-1")
    case.get_by_role("button", name="Reference").click()
    playing = "document.querySelector('#case-1 [data-side={}] audio')"
    until(page, playing.format("reference") + ".currentTime > 0.8")
    case.get_by_role("button", name="Candidate").click()
    until(page, playing.format("candidate") + ".currentTime > 0")
    states = page.evaluate(
        "[...document.querySelectorAll('#case-1 audio')].map((a) => [a.paused, a.currentTime])"
    )
    assert [paused for paused, _ in states] == [True, False, True]
    # the first one plays on for a moment between being read and being paused
    assert states[1][1] > states[0][1] - 0.2 > 0.5
    assert case.locator("button[aria-pressed=true]").all_inner_texts() == ["Candidate"]
    assert case.locator(".candidate .cursor").evaluate("(c) => !c.hidden && c.style.left !== ''")


def test_tables_sort_by_number_and_return_to_their_order(show):
    page = show("passed")
    column = page.locator("table.cases tbody tr th a")
    original = column.all_inner_texts()
    snr = page.locator("table.cases").get_by_role("button", name="Audio SNR")
    snr.click()
    assert column.all_inner_texts() == ["fr-slow", "en-numbers", "en-blend"]
    snr.click()
    assert column.all_inner_texts() == ["en-blend", "en-numbers", "fr-slow"]
    snr.click()
    assert column.all_inner_texts() == original


def test_the_filter_keeps_the_operations_that_have_all_its_words(show):
    page = show("passed")
    page.get_by_label("Filter operations").fill("conv generator")
    rows = page.locator("table[data-operations] tbody tr:visible").all_inner_texts()
    assert rows
    assert all("conv" in row and "generator" in row for row in rows)
    bright = page.locator(".chart .op:not(.dim) > title").all_text_contents()
    assert bright
    assert all("conv" in title and "generator" in title for title in bright)
    page.get_by_label("Filter operations").fill("")
    assert page.locator(".chart .op.dim").count() == 0


def test_a_link_to_a_closed_case_opens_it(show):
    page = show("passed")
    assert not page.locator("#case-3").evaluate("(d) => d.open")
    page.locator("table.cases").get_by_role("link", name="en-blend").click()
    until(page, "document.querySelector('#case-3').open")


@pytest.mark.parametrize("name", REPORTS)
def test_without_javascript_everything_is_there_but_the_extras(show, name):
    report, listenings = REPORTS[name]()
    page = show(name, viewport=PHONE, javascript=False)
    assert page.locator("#verdict").inner_text() == sentence(report)
    assert page.locator("table").count() >= 1
    assert page.locator("audio[controls]").count() == 3 * len(listenings)
    assert page.locator("button, input").count() == 0
    if listenings:
        summary = page.locator("#case-2 > summary")
        summary.click()
        assert page.locator("#case-2 audio").first.is_visible()


def test_on_paper_closed_cases_are_open_and_controls_are_gone(show):
    page = show("passed")
    page.emulate_media(media="print")
    assert page.locator("#case-2 .wave").first.is_visible()
    assert not page.locator("#case-2 audio").first.is_visible()
    assert not page.locator("nav").is_visible()


def test_the_policy_stops_a_script_that_was_slipped_in(browser, files, tmp_path):
    html = (files / "passed.html").read_text(encoding="utf-8")
    slipped = tmp_path / "slipped.html"
    slipped.write_text(html.replace("</footer>", "<script>window.bad = 1</script></footer>"))
    page = browser.new_page()
    page.goto(slipped.as_uri())
    assert page.evaluate("window.bad") is None
    page.close()
