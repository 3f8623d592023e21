"""What docs/terms.py does: the first use of a term on a page leads to the glossary, and nothing else does."""

from types import SimpleNamespace

import pytest

from tests.scripts import docs_script

MEANINGS = {"ESS": "Effective size.", "Zero-sum weights": 'About "0".', "Nat": "A unit."}


@pytest.fixture(scope="module")
def terms():
    return docs_script("terms")


def test_the_first_use_alone_is_linked(terms):
    link = '<a class="term" href="g.html#ess" title="Effective size.">ESS</a>'
    assert terms.linked("<p>the ESS, again ESS</p><p>ESS</p>", MEANINGS, "g.html") == (
        f"<p>the {link}, again ESS</p><p>ESS</p>"
    )


def test_case_and_plural_do_not_count_and_a_meaning_is_escaped(terms):
    assert terms.linked("<li>zero-sum weights, 3 nats</li>", MEANINGS, "g") == (
        '<li><a class="term" href="g#zero-sum-weights" title="About &quot;0&quot;.">zero-sum weights</a>, 3 '
        '<a class="term" href="g#nat" title="A unit.">nats</a></li>'
    )


@pytest.mark.parametrize(
    "page",
    [
        "<h2>The ESS</h2>",
        "<p><code>ESS</code></p>",
        '<p><a href="x">the <em>ESS</em></a></p>',
        "<pre><span>ESS</span></pre>",
        '<div class="clipboard-copy-txt" id="c">the ESS</div>',
        "<th>ESS</th>",
        r"<p>\(ESS\) and \[ESS\]</p>",
        r"<p>$ESS$, $\mathrm{ESS}$ and $$ESS$$</p>",
        '<img alt="ESS">',
        "<p>ESSAY, nature, nat-like</p>",
    ],
)
def test_headings_code_formulas_links_and_longer_words_stay(terms, page):
    assert terms.linked(page, MEANINGS, "g") == page


def test_the_glossary_has_an_anchor_for_every_term_it_defines(terms):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="reference/glossary.md"))
    found = terms.definitions()
    assert {"Nat", "ESS", "Zero-sum weights"} <= set(found)
    for term in found:
        assert terms.on_page_content(f"<dt>{term}</dt>", page=page) == f'<dt id="{terms.anchor(term)}">{term}</dt>'
    assert len({terms.anchor(term) for term in found}) == len(found)


def test_links_lead_from_any_folder_and_not_from_the_api(terms):
    def html(uri):
        return terms.on_page_content("<p>one nat</p>", page=SimpleNamespace(file=SimpleNamespace(src_uri=uri)))

    assert 'href="reference/glossary.html#nat"' in html("faq.md")
    assert 'href="../reference/glossary.html#nat"' in html("theory/t1.md")
    assert 'href="glossary.html#nat"' in html("reference/pitfalls.md")
    assert html("api/theory.md") == "<p>one nat</p>"
