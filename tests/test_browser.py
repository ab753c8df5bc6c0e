"""Every page looks right in a browser: at a desk, on a phone, without script, on paper."""

from types import SimpleNamespace

import pytest

pytest.importorskip("playwright", reason="no playwright here; `make setup` installs it")

import pages

from tests.browser import driver

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        driver.find() is None,
        reason="no Chromium here to open pages in; tests/browser/install.sh installs one",
    ),
]
WIDTHS = {"desk": driver.DESKTOP, "phone": driver.PHONE}


@pytest.fixture(scope="module")
def browser():
    with driver.reader() as started:
        yield started


@pytest.fixture(scope="module", params=pages.MAKERS, ids=lambda maker: maker.__name__)
def seen(request, browser, tmp_path_factory):
    """Return one page in two windows, without script, and on paper."""
    path = request.param(tmp_path_factory.mktemp(request.param.__name__))
    windows = {name: browser.look(path, px) for name, px in WIDTHS.items()}
    landed = {name: browser.follow(path, px) for name, px in WIDTHS.items()}
    plain = browser.look(path, driver.DESKTOP, script=False)
    paper = browser.print(path)
    return SimpleNamespace(
        path=path, windows=windows, landed=landed, plain=plain, paper=paper
    )


@pytest.fixture(params=WIDTHS)
def window(request, seen):
    return seen.windows[request.param]


def test_every_picture_is_there(window):
    assert [alt for alt, natural, shown in window.pictures if not (natural and shown)] == []


def test_nothing_is_wider_than_the_window(window):
    assert window.outside == []
    assert window.wider <= 0


def test_wide_tables_scroll_in_their_boxes(window):
    for inner, outer, overflow in window.boxes:
        assert inner <= outer or overflow == "auto"


def test_nothing_is_cut_off(window):
    assert window.cut == []


def test_the_browser_has_nothing_to_complain_of(window):
    assert window.said == []


def test_nothing_is_asked_for_but_the_page_itself(seen, window):
    assert window.asked == [seen.path.resolve().as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_link_on_top_lands_at_its_part(seen, width):
    assert seen.landed[width]
    assert [name for name, there in seen.landed[width].items() if not there] == []


def test_without_script_the_page_is_the_same(seen):
    assert seen.plain.text == seen.windows["desk"].text
    assert seen.plain.pictures == seen.windows["desk"].pictures


def test_on_paper_nothing_is_wider_than_the_sheet(seen):
    assert seen.paper.look.outside == []
    assert seen.paper.look.cut == []


def test_on_paper_every_picture_is_printed_and_none_is_blank(seen):
    printed = seen.paper.pictures
    assert seen.paper.pages > 0
    assert len(printed) >= seen.windows["desk"].sources
    assert all(len(set(pixels)) > 1 for pixels in printed)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_why_a_volume_was_refused_is_seen_without_scrolling(browser, tmp_path, width):
    page = browser.open(pages.failed(tmp_path), width)
    place = page.locator("#volumes .why div").first.bounding_box()
    assert place["x"] + place["width"] <= width


def test_pictures_of_trained_volumes_open_on_demand(browser, tmp_path):
    page = browser.open(pages.finished(tmp_path), driver.DESKTOP)
    fold = page.locator("details.blocks")
    inside = fold.locator("img")
    assert fold.locator("summary").inner_text() == (
        "2 volumes that were trained on: rod-2, rod-3"
    )
    assert not inside.first.is_visible()
    fold.locator("summary").click()
    assert inside.first.is_visible()


def test_folded_pictures_are_open_on_paper(browser, tmp_path):
    page = browser.open(pages.finished(tmp_path), driver.PAPER)
    inside = page.locator("details.blocks img").last
    page.emulate_media(media="print")
    assert inside.is_visible()


def test_on_paper_no_state_is_broken_within_its_word(browser, tmp_path):
    page = browser.open(pages.finished(tmp_path), driver.PAPER)
    page.emulate_media(media="print")
    lines = page.locator(".pill > span").evaluate_all(
        """pills => pills.map(pill => {
          const words = document.createRange();
          words.selectNodeContents(pill);
          return [pill.textContent, words.getClientRects().length];
        })"""
    )
    assert lines
    assert [text for text, count in lines if count > len(text.split())] == []


def test_a_picture_that_cannot_be_shown_is_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<img alt="broken" src="data:image/png;base64,AAAA">')
    [(alt, natural, _)] = browser.look(page, 390).pictures
    assert (alt, natural) == ("broken", 0)


@pytest.mark.parametrize(
    ("body", "noticed"),
    [
        ('<p style="width: 500px">wide</p>', "outside"),
        ('<p style="overflow: hidden; white-space: nowrap; width: 9px">cut</p>', "cut"),
        ("<script>console.error('oops')</script>", "said"),
        ("<script>throw new Error('oops')</script>", "said"),
        ('<img src="http://evil.example/x.png">', "said"),
    ],
)
def test_what_is_wrong_with_a_page_is_noticed(browser, tmp_path, body, noticed):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><body>{body}")
    assert getattr(browser.look(page, 390), noticed)


def test_what_only_a_script_shows_is_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><body><script>document.body.append('text')</script>")
    shown = [browser.look(page, 390, script=script).text for script in (True, False)]
    assert shown == ["text", ""]


def test_a_request_is_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><link rel="stylesheet" href="other.css">')
    asked = browser.look(page, 390).asked
    assert asked[1:] == [(tmp_path / "other.css").as_uri()]


def test_a_link_to_nowhere_is_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><nav><a href="#gone">gone</a></nav>')
    assert browser.follow(page, 390) == {"gone": False}


def test_a_picture_lost_on_paper_is_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><img alt="" src="data:image/png;base64,AAAA">none')
    printed = browser.print(page)
    assert printed.pages == 1
    assert len(printed.pictures) < printed.look.sources
