"""The built site in a real browser, with every address but localhost blocked: `make docs-browser`.

    python docs/browser_check.py [site] [--pages home theory] [--shots out/screenshots]

Each page is opened at desktop and phone width. It fails on: a request that fails or leaves localhost, an error in the
console, a formula left as text, a page wider than the screen, a notebook's code wider than its place, an image without
alt text, text with a contrast below 4.5:1 (3:1 if large) in the light or the dark palette. On the home page the search,
the keyboard and the interactive simplex are tried as well. Screenshots are for you to look at. Needs Chromium; set
`CHROMIUM` if it is not on the path.
"""

import argparse
import functools
import http.server
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browser_home
from playwright.sync_api import Browser, Page, sync_playwright

PROBES = (Path(__file__).parent / "browser_probes.js").read_text(encoding="utf-8")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESKTOP, PHONE = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}
SHOTS = {
    "home": "index.html",
    "theory": "theory/t6.html",
    "region": "notebooks/03_shrinking_region.html",
    "iterating": "notebooks/06_iterating.html",
    "method": "methods/dar.html",
}
TALLEST = 6000  # pixels; a screenshot is cut there
SETTLE = 100  # milliseconds to wait after a change of width or palette


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The server of the standard library, without a line per request."""

    def log_message(self, *_: Any) -> None:
        """Print nothing: the browser reports failed requests."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve the folder on a free port of localhost; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def find_chromium() -> str:
    """Path of the browser.

    Raises:
        FileNotFoundError: no browser was found.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found or not Path(found).is_file():
        raise FileNotFoundError(
            f"no Chromium: {found or ', '.join(NAMES) + ' not on the path'}; install it (Debian: apt-get install"
            " chromium) or set CHROMIUM to its path"
        )
    return found


def opened(browser: Browser, address: str, faults: list[str]) -> Page:
    """A page that blocks requests to other addresses, and adds these, failures and errors to `faults`."""
    page = browser.new_page(viewport=DESKTOP)

    def gate(route: Any) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            faults.append(f"asks for {route.request.url[:100]}")
            route.abort()

    page.route("**/*", gate)
    page.on("requestfailed", lambda request: faults.append(f"failed request: {request.url[:100]}"))
    page.on("response", lambda answer: answer.status >= 400 and faults.append(f"{answer.status}: {answer.url}"))
    page.on("pageerror", lambda error: faults.append(f"error in a script: {error}"))
    page.on("console", lambda line: line.type == "error" and faults.append(f"console: {line.text[:200]}"))
    return page


def check_page(page: Page, address: str, faults: list[str]) -> None:
    """Open one page and add what is wrong with it to `faults`, in both widths and palettes."""
    page.set_viewport_size(DESKTOP)
    page.goto(address, wait_until="networkidle")
    page.evaluate(PROBES.replace("const probes", "window.probes"))
    page.add_style_tag(content="*, *::before, *::after { transition: none !important }")
    for probe in ("rawMathematics", "imagesWithoutAlt"):
        faults += page.evaluate(f"probes.{probe}()")
    for palette in ("default", "slate"):
        page.evaluate(f"document.body.setAttribute('data-md-color-scheme', '{palette}')")
        page.wait_for_timeout(SETTLE)
        faults += [f"{fault} [{palette}]" for fault in page.evaluate("probes.contrast()")]
    faults += page.evaluate("probes.overflow()")
    faults += page.evaluate("probes.scrollingCells()")
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(SETTLE)
    faults += page.evaluate("probes.overflow()")


def screenshots(browser: Browser, address: str, folder: Path) -> int:
    """Write screenshots of the main pages at both widths, and of home in the dark palette. Return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [(name, size, "light") for name in SHOTS for size in ("desktop", "phone")]
    kinds += [("home", size, "dark") for size in ("desktop", "phone")]
    for name, size, palette in kinds:
        viewport = DESKTOP if size == "desktop" else PHONE
        page = browser.new_page(viewport=viewport, color_scheme=palette)
        page.goto(address + SHOTS[name], wait_until="networkidle")
        height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
        page.set_viewport_size({"width": viewport["width"], "height": height})  # the header stays at the top
        page.wait_for_timeout(SETTLE)
        page.screenshot(path=folder / f"{name}-{size}-{palette}.png")
        page.close()
    return len(kinds)


def check(site: Path, wanted: list[str], shots: Path | None) -> dict[str, list[str]]:
    """Faults of each page of the site and of each trial on the home page."""
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if path.name != "404.html")
    pages = [page for page in pages if not wanted or any(part in page for part in wanted)]
    faults: dict[str, list[str]] = {}
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        for path in pages:
            faults[path] = []
            page = opened(browser, address, faults[path])
            check_page(page, address + path, faults[path])
            page.close()
        for name, trial in browser_home.TRIALS.items():
            faults[name] = []
            page = opened(browser, address, faults[name])
            page.goto(address, wait_until="networkidle")
            faults[name] += trial(page)
            page.close()
        if shots:
            print(f"{screenshots(browser, address, shots)} screenshots in {shots}")
        browser.close()
    return faults


def main() -> int:
    """Check the site named on the command line. Return 0 if it has no fault, 1 if it has, 2 if it cannot be checked."""
    parser = argparse.ArgumentParser(description="The built site in headless Chromium, network blocked.")
    parser.add_argument("site", nargs="?", type=Path, default=Path("site"), help="made by `make docs`")
    parser.add_argument("--pages", nargs="*", default=[], metavar="PART", help="only pages whose path contains PART")
    parser.add_argument("--shots", type=Path, metavar="DIR", help="write screenshots there")
    options = parser.parse_args()
    if not (options.site / "index.html").is_file():
        print(f"no site in {options.site}: run `make docs` first", file=sys.stderr)
        return 2
    started = time.monotonic()
    try:
        faults = check(options.site.resolve(), options.pages, options.shots)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    for name, found in faults.items():
        for fault in dict.fromkeys(found):
            print(f"{name}: {fault}")
    bad = sum(bool(found) for found in faults.values())
    rows = {"pages and trials": len(faults), "sound": len(faults) - bad, "with faults": bad}
    rows["seconds"] = round(time.monotonic() - started)
    print("\n".join(f"{name:18}{count:6}" for name, count in rows.items()))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
