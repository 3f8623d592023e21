"""Build hook: a notebook page loads nothing from outside.

The notebook template names MathJax and Mermaid on a content delivery network. Mathematics is rendered by the KaTeX in
`assets/katex` and no notebook draws with Mermaid, so both scripts are taken out.
"""

import re
from typing import Any

SCRIPTS = re.compile(
    r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->|<script type=\"module\">(?:(?!</script>).)*mermaid"
    r"(?:(?!</script>).)*</script>",
    flags=re.DOTALL,
)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Return the page's content without the two scripts; other pages than notebooks stay as they are."""
    return SCRIPTS.sub("", html) if page.file.src_uri.endswith(".ipynb") else html
