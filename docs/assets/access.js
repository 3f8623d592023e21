// What the theme and the notebook template leave out for a reader with a keyboard or a screen reader.
(function () {
  for (const dialog of document.querySelectorAll(".md-search[role=dialog]")) dialog.setAttribute("aria-label", "Search");

  // What scrolls in itself can be reached with the tab key, as soon as it is wider than its place.
  const SCROLLING = ".highlight-ipynb, .md-typeset__scrollwrap, .md-typeset pre > code, .jp-OutputArea-output, .katex-display, div.arithmatex";
  const reachable = () => {
    for (const box of document.querySelectorAll(SCROLLING)) {
      const scrolls = box.scrollWidth > box.clientWidth + 1 && box.clientWidth > 0;
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", reachable);
  addEventListener("resize", reachable);
})();
