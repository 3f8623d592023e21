"""`docs/browser_check.py` finds each kind of fault, one page per fault. Needs Chromium."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("playwright")
sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
import browser_check

pytestmark = pytest.mark.slow

SOUND = """<!doctype html><html lang="en"><head><title>t</title><link rel="icon" href="data:,"></head>
<body style="margin: 0; color: #222"><main class="md-content">{}</main></body></html>"""
FAULTS = {
    "<p>Nothing is wrong here: <code>$x$</code></p>": None,
    '<img alt="a" src="https://example.org/a.png">': "asks for https://example.org/a.png",
    '<img alt="a" src="gone.png">': "404",
    "<script>console.error('oh')</script>": "console: oh",
    "<script>throw new Error('oh')</script>": "error in a script: oh",
    r"<p>Let \(x\) be</p>": r"formula left as text: Let \(x\) be",
    "<p>Let $x$ be</p>": "formula left as text: Let $x$ be",
    '<p class="wide" style="width: 700px">a</p>': "700 px wide on 390: p.wide",
    '<p class="wide" style="width: 1300px">a</p>': "1300 px wide on 1280: p.wide",
    '<div class="highlight-ipynb" style="width: 300px; overflow: auto"><pre>' + 90 * "x": "a code cell scrolls: xxx",
    '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">': "no alt text: data:image/gif",
    '<p style="color: #777">grey</p>': "contrast of p in main.md-content: 4.48 (grey)",
    '<div style="opacity: 0.6"><p>faint</p></div>': "contrast of p in div",
    '<div style="background: #0003"><p style="color: #666">on a veil</p></div>': "contrast of p in div",
    "<style>[data-md-color-scheme=slate] p { color: #ddd }</style><p>bright</p>": "(bright) [slate]",
}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    try:
        path = browser_check.find_chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=browser_check.FLAGS)


@pytest.mark.parametrize(("content", "expected"), FAULTS.items(), ids=[str(fault)[:30] for fault in FAULTS.values()])
def test_each_fault_is_found(browser, tmp_path, content, expected):
    (tmp_path / "index.html").write_text(SOUND.format(content), encoding="utf-8")
    faults = []
    with browser_check.served(tmp_path) as address:
        page = browser_check.opened(browser, address, faults)
        browser_check.check_page(page, address, faults)
        page.close()
    if expected is None:
        assert faults == []
    else:
        assert any(expected in fault for fault in faults), faults


def test_a_missing_browser_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(FileNotFoundError, match=r"/nowhere/chromium.*install it.*or set CHROMIUM"):
        browser_check.find_chromium()
