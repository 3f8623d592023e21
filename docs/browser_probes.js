// What docs/browser_check.py asks of a page, inside the browser. Each probe returns a list of faults, as text.

const probes = (() => {
  const NO_PROSE = "script, style, noscript, template, pre, code, textarea, .katex, svg, .md-clipboard";
  const LEAST_CONTRAST = 4.5; // WCAG 2.1 AA; 3 for large text
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

  function seen(element) {
    const box = element.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  }

  function textElements() {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
      if (walker.currentNode.data.trim()) found.push([walker.currentNode.data, walker.currentNode.parentElement]);
    }
    return found;
  }

  function rawMathematics() {
    const errors = [...document.querySelectorAll(".katex-error")].map((element) => `KaTeX error: ${element.textContent}`);
    const raw = textElements().filter(([text, element]) => /\$|\\[([]/.test(text) && !element.closest(NO_PROSE));
    return [...errors, ...raw.map(([text]) => `formula left as text: ${text.trim().slice(0, 60)}`)];
  }

  function overflow() {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const wide = [...document.querySelectorAll(".md-content *")].filter((e) => e.getBoundingClientRect().right > width + 1);
    return [`${document.documentElement.scrollWidth} px wide on ${width}: ${wide.slice(0, 3).map(name).join(", ")}`];
  }

  /** Code of a notebook that scrolls sideways. */
  function scrollingCells() {
    const wide = [...document.querySelectorAll(".highlight-ipynb")].filter((cell) => cell.scrollWidth > cell.clientWidth + 1 && seen(cell));
    return wide.map((cell) => `a code cell scrolls: ${cell.textContent.trim().slice(0, 60)}`);
  }

  function imagesWithoutAlt() {
    const images = [...document.querySelectorAll("img")].filter((image) => /^(No description.*)?$/.test(image.alt.trim()));
    const drawings = [...document.querySelectorAll("svg[role=img]")].filter((drawing) => !drawing.getAttribute("aria-label"));
    return [...images, ...drawings].map((image) => `no alt text: ${(image.getAttribute("src") || "svg").slice(0, 60)}`);
  }

  function name(element) {
    const classes = [...element.classList].slice(0, 2).map((one) => `.${one}`).join("");
    return element.tagName.toLowerCase() + (element.id ? `#${element.id}` : classes);
  }

  /** [red, green, blue, alpha] of a computed colour; what is not rgb() is painted and read back. */
  function rgba(color) {
    const parts = color.match(/^rgba?\(([^)]+)\)$/);
    if (parts) return [...parts[1].split(",").map(Number), 1].slice(0, 4);
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  const over = (top, ground) => [0, 1, 2].map((k) => top[k] * top[3] + ground[k] * (1 - top[3]));

  function luminance(color) {
    const [red, green, blue] = color.map((x) => (x <= 10.31475 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  /** What lies behind the text of an element: the backgrounds of its ancestors, one over the other. */
  function ground(element) {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const layer = rgba(getComputedStyle(one).backgroundColor);
      if (layer[3] > 0) layers.push(layer);
      if (layer[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  }

  /** How opaque an element and what holds it are, up to the one that paints the ground. */
  function opacity(element) {
    let product = 1;
    for (let one = element; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      product *= Number(style.opacity);
      if (rgba(style.backgroundColor)[3] === 1) break;
    }
    return product;
  }

  function contrast() {
    const faults = new Map();
    for (const [text, element] of textElements()) {
      if (element.closest("script, style, noscript, template, .katex-mathml") || !seen(element)) continue;
      const style = getComputedStyle(element);
      const behind = ground(element);
      const ink = rgba(element.closest("svg") ? style.fill : style.color);
      ink[3] *= opacity(element);
      const [light, dark] = [luminance(over(ink, behind).map(Math.round)), luminance(behind)].sort((a, b) => b - a);
      const ratio = (light + 0.05) / (dark + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio >= (large ? 3 : LEAST_CONTRAST)) continue;
      const key = `${name(element)} in ${name(element.parentElement)}: ${ratio.toFixed(2)}`;
      faults.set(key, `contrast of ${key} (${text.trim().slice(0, 30)})`);
    }
    return [...faults.values()];
  }

  return { rawMathematics, overflow, scrollingCells, imagesWithoutAlt, contrast };
})();
