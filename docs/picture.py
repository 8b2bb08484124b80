"""Photographs the top of a report for the README.

python docs/picture.py runs/gemma270-ioi/report.html docs/report.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

SIZE: ViewportSize = {"width": 1100, "height": 915}


def photograph(page: Path, picture: Path) -> None:
    """Open a report from disk in Debian's chromium and keep its first screen."""
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport=SIZE, color_scheme="light")
        view.goto(page.resolve().as_uri())
        view.wait_for_function("document.querySelectorAll('figure svg').length > 0")
        view.wait_for_timeout(1500)  # charts are drawn as they scroll into sight
        view.screenshot(path=str(picture))
        browser.close()


if __name__ == "__main__":
    photograph(Path(sys.argv[1]), Path(sys.argv[2]))
