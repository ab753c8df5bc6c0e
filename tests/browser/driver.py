"""Open a page in the Chromium of the system and say what a reader would see."""

import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP, PHONE = 1440, 390
PAPER = 717  # A4 less margins of 10 mm, in CSS px
MARGIN = dict.fromkeys(("top", "right", "bottom", "left"), "10mm")
TOLERATED_PX = 1
# What is told of a page. Boxes that scroll may hold wide things; what sticks out of any
# other box, or is cut off by one that hides, is named by tag, class and its first words.
LOOK = """tolerated => {
  const root = document.documentElement;
  const named = e => `${e.tagName.toLowerCase()}.${e.className.baseVal ?? e.className}: `
    + (e.alt || e.textContent || '').trim().slice(0, 60);
  const scrolls = e => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
    || scrolls(e.parentElement));
  const all = [...document.body.querySelectorAll('*')];
  const shown = all.filter(e => e.getClientRects().length);
  const hides = e => getComputedStyle(e).overflowX === 'hidden';
  return {
    title: document.title,
    wider: root.scrollWidth - root.clientWidth,
    outside: shown.filter(e => !scrolls(e.parentElement)
      && (e.getBoundingClientRect().right > root.clientWidth + tolerated
          || e.getBoundingClientRect().left < -tolerated)).map(named),
    cut: shown.filter(
      e => hides(e) && e.scrollWidth > e.clientWidth + tolerated).map(named),
    pictures: [...document.images].map(i => [i.alt, i.naturalWidth, i.clientWidth]),
    boxes: [...document.querySelectorAll('.scroll')].map(
      e => [e.scrollWidth, e.clientWidth, getComputedStyle(e).overflowX]),
    sources: new Set([...document.images].map(i => i.src)).size,
    text: document.body.innerText,
  };
}"""
FOLLOW = """() => [...document.querySelectorAll('nav a')].map(a => {
  a.click();
  const aim = document.getElementById(decodeURIComponent(a.hash.slice(1)));
  const end = Math.ceil(innerHeight + scrollY) >= document.documentElement.scrollHeight;
  const top = aim && aim.getBoundingClientRect().top;
  return [a.textContent, aim !== null
    && (Math.abs(top) < 2 || (end && 0 <= top && top < innerHeight))];
})"""


@dataclass(frozen=True)
class Look:
    """A page in one window: what it asked for and said, what is too wide or cut."""

    asked: list[str]
    said: list[str]
    title: str
    wider: int
    outside: list[str]
    cut: list[str]
    pictures: list[tuple[str, int, int]]
    boxes: list[tuple[int, int, str]]
    sources: int
    text: str
    landed: dict[str, bool]


@dataclass(frozen=True)
class Print:
    """A page on paper: the layout before, and the PDF after printing."""

    look: Look
    pdf: bytes

    @property
    def pages(self) -> int:
        """Number of sheets."""
        return len(re.findall(rb"/Type\s*/Page\b", self.pdf))

    @property
    def pictures(self) -> list[bytes]:
        """Pixels of every picture that the PDF holds, masks left out."""
        return list(_pictures(self.pdf))


def find() -> str | None:
    """Return the path of a Chromium, None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Run a Chromium that nobody sees until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find())
        yield browser
        browser.close()


def look(browser: Any, path: Path, width: int, *, script: bool = True) -> Look:
    """Open a page in a window of some width and follow its links, with script or not."""
    with _opened(browser, path, width, java_script_enabled=script) as (page, heard):
        return _look(page, heard)


def print_page(browser: Any, path: Path) -> Print:
    """Lay a page out for A4 and print it into a PDF, as readers do."""
    with _opened(browser, path, PAPER) as (page, heard):
        page.emulate_media(media="print")
        seen = _look(page, heard)
        return Print(seen, page.pdf(format="A4", margin=MARGIN))


def shoot(browser: Any, path: Path, width: int, height: int, target: Path) -> None:
    """Write a picture of the top of a page."""
    with _opened(browser, path, width, height=height) as (page, _):
        page.screenshot(path=target)


@contextmanager
def _opened(
    browser: Any, path: Path, width: int, *, height: int = 900, **how: Any
) -> Iterator[tuple[Any, tuple[list[str], list[str]]]]:
    context = browser.new_context(viewport={"width": width, "height": height}, **how)
    asked: list[str] = []
    said: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url[:200]))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.goto(path.resolve().as_uri())
    yield page, (asked, said)
    context.close()


def _look(page: Any, heard: tuple[list[str], list[str]]) -> Look:
    found = page.evaluate(LOOK, TOLERATED_PX)
    landed = dict(page.evaluate(FOLLOW))
    return Look(asked=heard[0], said=heard[1], landed=landed, **found)


def _pictures(pdf: bytes) -> Iterator[bytes]:
    masks = set(re.findall(rb"/SMask (\d+) 0 R", pdf))
    one = rb"(\d+) 0 obj\s*<<([^<>]*?)>>\s*stream\r?\n(.*?)endstream"
    for number, head, body in re.findall(one, pdf, re.DOTALL):
        if b"/Subtype /Image" in head and number not in masks:
            packed = b"/FlateDecode" in head
            yield zlib.decompressobj().decompress(body) if packed else body
