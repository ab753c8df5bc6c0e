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
HEIGHT = 900
PAPER = 717  # A4 less margins of 10 mm, in CSS px
MARGIN = dict.fromkeys(("top", "right", "bottom", "left"), "10mm")
TOLERATED_PX = 1
PATIENCE_MS = 120_000  # machines that test are busy
# What is told of a page. Boxes that scroll may hold wide things; what sticks out of any
# other box, or is cut off by one that hides, is named by tag, class and its first words.
# Drawings (SVG) are no sources of pixels on paper.
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
    wider: root.scrollWidth - root.clientWidth,
    outside: shown.filter(e => !scrolls(e.parentElement)
      && (e.getBoundingClientRect().right > root.clientWidth + tolerated
          || e.getBoundingClientRect().left < -tolerated)).map(named),
    cut: shown.filter(
      e => hides(e) && e.scrollWidth > e.clientWidth + tolerated).map(named),
    pictures: [...document.images].map(i => [i.alt, i.naturalWidth, i.clientWidth]),
    boxes: [...document.querySelectorAll('.scroll')].map(
      e => [e.scrollWidth, e.clientWidth, getComputedStyle(e).overflowX]),
    sources: new Set([...document.images].map(i => i.src)
      .filter(src => !src.startsWith('data:image/svg'))).size,
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
    wider: int
    outside: list[str]
    cut: list[str]
    pictures: list[tuple[str, int, int]]
    boxes: list[tuple[int, int, str]]
    sources: int
    text: str


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
def reader() -> Iterator["Reader"]:
    """Run a Chromium that nobody sees until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=find(), args=["--disable-gpu"], timeout=PATIENCE_MS
        )
        yield Reader(browser)
        browser.close()


class Reader:
    """One tab with script and one without; a page stays open until the next one."""

    def __init__(self, browser: Any) -> None:
        self._with_script = Tab(browser.new_context().new_page())
        self._without = Tab(browser.new_context(java_script_enabled=False).new_page())

    def look(self, path: Path, width: int, *, script: bool = True) -> Look:
        """Open a page in a window of some width, with script or not."""
        tab = self._with_script if script else self._without
        return tab.look(path, width)

    def open(self, path: Path, width: int) -> Any:
        """Open a page in a window of some width, with script, and return it."""
        return self._with_script.show(path, width)

    def follow(self, path: Path, width: int) -> dict[str, bool]:
        """Follow the links on top of a page, and tell which landed at their part."""
        self._with_script.show(path, width)
        return dict(self._with_script.page.evaluate(FOLLOW))

    def print(self, path: Path) -> Print:
        """Lay a page out for A4 and print it into a PDF, as readers do."""
        seen = self._with_script.look(path, PAPER, "print")
        return Print(seen, self._with_script.page.pdf(format="A4", margin=MARGIN))

    def shoot(self, path: Path, width: int, target: Path, part: str, tallest: int) -> None:
        """Write a picture of one part of a page, named by a selector, or of its top."""
        page = self._with_script.show(path, width)
        place = page.locator(part).first.bounding_box()
        clip = {**place, "height": min(place["height"], tallest)}
        page.screenshot(path=target, full_page=True, clip=clip)


class Tab:
    """A page that is open, and what it asked for and said since."""

    def __init__(self, page: Any) -> None:
        self.page, self.path = page, Path()
        page.set_default_timeout(PATIENCE_MS)
        self.asked: list[str] = []
        self.said: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url[:200]))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def show(self, path: Path, width: int, media: str = "screen") -> Any:
        """Open a page, unless it is open, in a window of some width or as on paper."""
        self.page.set_viewport_size({"width": width, "height": HEIGHT})
        self.page.emulate_media(media=media)
        if path != self.path:
            self.asked, self.said, self.path = [], [], path
            self.page.goto(path.resolve().as_uri())
        return self.page

    def look(self, path: Path, width: int, media: str = "screen") -> Look:
        """Show a page and say what it looks like."""
        self.show(path, width, media)
        return Look(self.asked, self.said, **self.page.evaluate(LOOK, TOLERATED_PX))


def _pictures(pdf: bytes) -> Iterator[bytes]:
    masks = set(re.findall(rb"/SMask (\d+) 0 R", pdf))
    one = rb"(\d+) 0 obj\s*<<([^<>]*?)>>\s*stream\r?\n(.*?)endstream"
    for number, head, body in re.findall(one, pdf, re.DOTALL):
        if b"/Subtype /Image" in head and number not in masks:
            packed = b"/FlateDecode" in head
            yield zlib.decompressobj().decompress(body) if packed else body
