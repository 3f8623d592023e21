// Starts the interactive simplex beside it. A page opened from a folder may load no modules: there the picture stays.
(function () {
  const widget = document.getElementById("simplex");
  if (!widget || location.protocol === "file:") return;
  const module = new URL("widget.js", document.currentScript.src).href;
  document.documentElement.classList.add("simplex-live"); // at once, so that nothing moves when the module is there
  import(module).then(
    ({ start }) => start(widget),
    () => document.documentElement.classList.remove("simplex-live"),
  );
})();
