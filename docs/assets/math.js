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
})();
