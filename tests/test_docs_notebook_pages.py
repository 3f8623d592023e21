"""What docs/hooks.py does to a notebook page: figures are described, nothing is loaded from outside."""

import base64
import importlib.util
import types
from pathlib import Path

import pytest

HOOKS = Path(__file__).parent.parent / "docs" / "hooks.py"
CELL = '<h2 id="a">Two <em>wishes</em>, $\\pi_t$<a>¶</a></h2><div class="clipboard-copy-txt" id="c">{code}</div>'
IMAGE = '<img alt="No description has been provided for this image" class="" src="data:image/png;base64,{png}">'


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", HOOKS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(width):
    header = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + width.to_bytes(4, "big") + (50).to_bytes(4, "big")
    return base64.b64encode(header + bytes(30)).decode()


def shown(hooks, code, width):
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="notebooks/03.ipynb"))
    return hooks.on_page_content(CELL.format(code=code) + IMAGE.format(png=png(width)), page)


def test_a_figure_has_its_heading_and_its_call(hooks):
    page = shown(hooks, "x = 1\nplots.region_figure(&quot;a&quot;)", 400)
    alt = "Figure of the section “Two wishes, pi_t”, drawn by plots.region_figure(&quot;a&quot;)"
    assert f'<img alt="{alt}" class="" src="data:image/png;base64,{png(400)}">' in page


def test_a_wide_figure_is_marked_and_a_call_that_draws_nothing_is_not_named(hooks):
    assert '<img alt="Figure of the section “Two wishes, pi_t”" class="wide"' in shown(hooks, "figure", 1001)
    assert 'class=""' in shown(hooks, "figure", 1000)


def test_only_notebook_pages_change(hooks):
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="index.md"))
    assert hooks.on_page_content(IMAGE, page) == IMAGE
