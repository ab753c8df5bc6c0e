"""Take the pictures of docs/report.md from a page: `python docs/shots.py PAGE`.

The page is that of the demo, if none is named; a Chromium of the system opens it.
"""

import logging
import sys
import tempfile
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser import driver  # noqa: E402 - the checkout is put on the path first

PAGE = ROOT / "examples" / "demo" / "results" / "report.html"
WIDTH_PX, TALLEST_PX, SHOWN_PX, QUALITY = 1180, 1000, 860, 60
PARTS = ("summary", "slices", "learning", "quality", "candidates", "space", "provenance")


def main(page: Path) -> None:
    """Write docs/images/report-PART.webp of every part, its top if it is long."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder, driver.reader() as browser:
        for part in PARTS:
            shot = Path(folder, f"{part}.png")
            browser.shoot(page, WIDTH_PX, shot, f"#{part}", TALLEST_PX)
            picture = cv2.imread(str(shot))
            height = round(picture.shape[0] * SHOWN_PX / picture.shape[1])
            small = cv2.resize(picture, (SHOWN_PX, height), interpolation=cv2.INTER_AREA)
            path = ROOT / "docs" / "images" / f"report-{part}.webp"
            cv2.imwrite(str(path), small, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
            logging.info("%s: %d kB", path.name, path.stat().st_size // 1000)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE)
