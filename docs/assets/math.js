// Renders mathematics with the KaTeX beside this file. Pages mark it with \(...\) and \[...\]; notebooks also with $.
(function () {
  const delimiters = [
    { left: "\\[", right: "\\]", display: true },
    { left: "\\(", right: "\\)", display: false },
  ];
  if (document.querySelector(".jupyter-wrapper")) {
    delimiters.push({ left: "$$", right: "$$", display: true }, { left: "$", right: "$", display: false });
  }
  renderMathInElement(document.body, { delimiters: delimiters, throwOnError: false });
  keepPunctuation();

  // A browser may break a line between a formula and the full stop after it: put both into one span, see site.css.
  function keepPunctuation() {
    for (const formula of document.querySelectorAll(".katex")) {
      if (formula.closest(".katex-display")) continue;
      const whole = formula.closest("span.arithmatex") || formula;
      const before = taken(whole.previousSibling, /[(\[“‘]+$/);
      const after = taken(whole.nextSibling, /^[.,;:!?)\]”’]+/);
      if (!before && !after) continue;
      const tail = document.createElement("span");
      tail.className = "math-tail";
      whole.replaceWith(tail);
      tail.append(before, whole, after);
    }
  }

  // The part of a text node that matches, taken out of it; "" if there is none.
  function taken(node, pattern) {
    const found = node && node.nodeType === Node.TEXT_NODE && node.data.match(pattern);
    if (!found) return "";
    node.data = node.data.replace(pattern, "");
    return found[0];
  }
})();
