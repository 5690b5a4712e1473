"""The site in a headless browser, from the disk: drawn, complete, nothing from elsewhere."""

import re
import shutil

import pytest

from conftest import FOLDERS
from docs import pages

pytest.importorskip("sphinx", reason="the site needs requirements-docs.txt")
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=f"none of {', '.join(BROWSERS)} is installed")
LANGUAGES = ("en", "zh")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from docs.site import build

    place = tmp_path_factory.mktemp("site") / "site"
    build.main(place)
    return place


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def names_of(site, language: str) -> list[str]:
    """Every page of a language, by its path in the site."""
    found = sorted((site / language).rglob("*.html"))
    return [path.relative_to(site).as_posix() for path in found]


def reading_pages(site, language: str) -> list[str]:
    return [name for name in names_of(site, language) if "/reading" in name]


LOOK = """() => ({
  wide: document.documentElement.scrollWidth,
  blank: [...document.images].filter(image => !image.naturalWidth).map(image => image.src),
  untypeset: [...document.querySelectorAll(".tex")].filter(
    tex => !tex.querySelector(".katex-html") || tex.querySelector(".katex-error")
  ).map(tex => tex.textContent),
  fonts: [...document.fonts].filter(font => font.status === "error").map(font => font.family),
  language: document.documentElement.lang,
})"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_drawn_whole(site, browser, language, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    wrong, requests = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
    page.on("console", lambda message: wrong.append(f"{page.url}: {message.text}"))
    names = names_of(site, language)
    assert f"{language}/claims.html" in names
    for name in names:
        page.goto((site / name).as_uri())
        page.evaluate("document.fonts.ready.then(() => 0)")
        seen = page.evaluate(LOOK)
        if seen["wide"] > width:
            wrong.append(f"{name} is {seen['wide']} px wide")
        for kind in ("blank", "untypeset", "fonts"):
            wrong += [f"{name}, {kind}: {what}" for what in seen[kind]]
        assert seen["language"].startswith(language)
    wrong += [url for url in requests if not url.startswith((site.as_uri(), "data:"))]
    page.close()
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_formula_and_code_stand_beside_each_other_on_a_wide_screen_only(site, browser, language):
    places = """() => [...document.querySelectorAll(".formula:not(.stacked)")].map(block => [
      block.querySelector(".tex").getBoundingClientRect().right,
      block.querySelector("pre").getBoundingClientRect().left,
    ])"""
    page = browser.new_page()
    for name in reading_pages(site, language):
        for width, beside in ((1280, True), (390, False)):
            page.set_viewport_size({"width": width, "height": 800})
            page.goto((site / name).as_uri())
            found = page.evaluate(places)
            assert all((right <= left) == beside for right, left in found), (name, width)
    page.close()


def test_a_copy_button_copies_exactly_the_source(site, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    for name in [name for name in names_of(site, "en") if name.split("/")[1] in FOLDERS]:
        source = (pages.ROOT / name.removeprefix("en/")).with_suffix(".md")
        written = re.findall(r"^```\w*\n(.*?)^```", source.read_text("utf-8"), re.M | re.S)
        page.goto((site / name).as_uri())
        buttons = page.locator("button.copybtn")
        assert buttons.count() == len(written), name
        for number, text in enumerate(written):
            buttons.nth(number).click(force=True)
            copied = page.evaluate("navigator.clipboard.readText()")
            assert copied == text.rstrip("\n"), name
    context.close()


GO_TO = """section => {
  document.documentElement.style.scrollBehavior = "auto";
  document.getElementById(section).scrollIntoView();
  const end = document.body.scrollHeight - innerHeight - 1;
  return scrollY > 0 && scrollY < end;
}"""


@pytest.mark.parametrize(("language", "other"), [("en", "zh"), ("zh", "en")])
def test_the_other_language_is_one_click_away_at_the_same_section(site, browser, language, other):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    for name in names_of(site, language):
        page.goto((site / name).as_uri())
        sections = page.locator("article section")
        ids = [section.get_attribute("id") for section in sections.all()]
        section = ids[len(ids) // 2] if ids else None
        at_the_top = section and page.evaluate(GO_TO, section)
        with page.expect_navigation():
            page.locator(".other-language").click()
        path, _, anchor = page.url.partition("#")
        assert path == (site / name.replace(language, other, 1)).as_uri()
        assert [section.get_attribute("id") for section in sections.all()] == ids, name
        assert anchor == section or not at_the_top, name
    page.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_claims_on_one_page_filtered_by_post_and_verdict(site, browser, language):
    wordings = [row for folder in FOLDERS for row in pages.claims(folder)]
    page = browser.new_page()
    page.goto((site / language / "claims.html").as_uri())
    rows = page.locator("table.all-claims tbody tr")
    visible = page.locator("table.all-claims tbody tr:visible")
    assert rows.count() == visible.count() == len(wordings)
    for post in {row["post"] for row in wordings}:
        page.select_option("select[data-filter=post]", str(post))
        wanted = [row["id"] for row in wordings if row["post"] == post]
        assert visible.count() == len(wanted)
        assert [text.split()[0] for text in visible.all_inner_texts()] == wanted
    page.select_option("select[data-filter=post]", "")
    shown = 0
    verdicts = page.locator("select[data-filter=verdict] option")
    for number in range(1, verdicts.count()):
        page.select_option("select[data-filter=verdict]", index=number)
        shown += visible.count()
        word = verdicts.nth(number).inner_text()
        assert all(word in text for text in visible.all_inner_texts())
        assert page.locator(".claims-shown").inner_text() == str(visible.count())
    assert shown == len(wordings)
    page.close()


@pytest.mark.parametrize(("language", "word"), [("en", "claims"), ("zh", "论断")])
def test_search_works_from_the_disk(site, browser, language, word):
    page = browser.new_page()
    page.goto(f"{(site / language / 'search.html').as_uri()}?q={word}")
    found = page.locator("#search-results li a[href*='claims.html']")
    found.first.wait_for(timeout=10_000)
    page.close()


@pytest.mark.parametrize(("language", "words"), [("en", "Previous Next"), ("zh", "上一页 下一页")])
def test_the_way_to_the_next_page_is_in_the_pages_language(site, language, words):
    text = (site / language / "captcha_xception" / "README.html").read_text(encoding="utf-8")
    footer = text[text.index('<div class="related-pages">') :]
    shown = re.findall(r'<div class="context">\s*<span>(.*?)</span>', footer)
    assert sorted(shown) == sorted(words.split())


def test_home_shows_every_post(site, browser):
    page = browser.new_page()
    for language in LANGUAGES:
        page.goto((site / language / "index.html").as_uri())
        posts = [
            post for row in pages.articles() if row["folder"] in FOLDERS for post in row["posts"]
        ]
        cards = page.locator(".card")
        assert cards.count() == len(posts)
        for number, post in enumerate(posts):
            text = cards.nth(number).inner_text()
            assert str(post["number"]) in text and post["question"][language] in text
    page.close()


def test_the_site_is_small(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 25e6


def test_a_missing_file_ends_the_build_with_page_line_and_near_names(tmp_path):
    from docs.site import build

    text = "# A\n\n[code](dowload.py)\n"
    with pytest.raises(
        ValueError, match=r"data/README\.md:3: no dowload\.py; near it: download\.py"
    ):
        build.linked(pages.ROOT / "data" / "README.md", text, "data/README.md", {}, tmp_path)
