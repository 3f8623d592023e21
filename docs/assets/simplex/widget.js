// The interactive simplex of the home page: its state, what the reader moves, and the numbers beside the picture.
// The mathematics is in simplex-math.js, the drawing in picture.js.

import * as math from "./simplex-math.js";
import { draw, keepInside, toPoint, toPolicy } from "./picture.js";

const PI_0 = [0.15, 0.75, 0.1]; // the example of docs/figures.py, whose picture is the static twin
const ADVANTAGE = [0.5, 0, 1];
const TILTS = [1.2, 2.7, 4.2]; // pi_t ∝ pi_0 exp(tilt A): a policy that pursued the advantage for longer and longer
const KEY_STEP = 4; // of an arrow key, in units of the picture: about a hundredth of a side; with Shift five times that
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const QUIET = 600; // milliseconds without a change before a screen reader is told

const log = (pi) => pi.map(Math.log);

function stage(number) {
  const logPi = log(PI_0).map((logP, arm) => logP + TILTS[number] * ADVANTAGE[arm]);
  return math.logNormalize(logPi).logPi.map(Math.exp);
}

/** Everything that is shown beside what the reader set. */
function compute({ pi0, piT, advantage, alpha, beta, eps0, epsT }) {
  const [logPi0, logPiT] = [log(pi0), log(piT)];
  const { logPi } = math.optimum(advantage, logPi0, logPiT, alpha, beta);
  return {
    ...math.interpolate(logPi0, logPiT, alpha),
    piStar: logPi.map(Math.exp),
    needed: math.chernoff(logPi0, logPiT).information,
    certificate: math.feasible(logPi0, logPiT, eps0, epsT),
    share: math.regionVolume(logPi0, logPiT, eps0, epsT),
    radius: math.matchedRadius(logPi0, logPiT, alpha, eps0, epsT),
    spent0: math.kl(logPi, logPi0),
    spentT: math.kl(logPi, logPiT),
  };
}

const percent = (share) => `${(100 * share).toPrecision(share < 0.0001 ? 1 : 3)} %`;
const policy = (pi) => pi.map((p) => p.toFixed(3)).join("  ");
const expected = (pi, advantage) => pi.reduce((sum, p, arm) => sum + p * advantage[arm], 0).toFixed(3);

function verdict({ certificate, share }) {
  if (certificate.nonempty) return `Both budgets can be kept: by ${percent(share)} of all policies.`;
  return `No policy keeps both budgets. Each radius lacks ${(-certificate.margin).toFixed(3)} nats.`;
}

function numbers(state, results) {
  const budget = (spent, eps) => `${spent.toFixed(3)} ${spent > eps ? "> " : "≤ "}${eps.toFixed(2)}`;
  const { margin, alpha } = results.certificate;
  return {
    needed: `${results.needed.toFixed(3)} nats`,
    margin: `${margin < 0 ? "−" : ""}${Math.abs(margin).toFixed(3)},  ${alpha.toFixed(2)}`,
    share: percent(results.share),
    radius: results.radius < 0 ? "none: it is empty" : `${results.radius.toFixed(3)} nats`,
    piT: policy(state.piT),
    piRef: policy(results.logPiRef.map(Math.exp)),
    piStar: policy(results.piStar),
    reward: `${expected(results.piStar, state.advantage)},  ${expected(state.piT, state.advantage)}`,
    spent0: budget(results.spent0, state.eps0),
    spentT: budget(results.spentT, state.epsT),
  };
}

/** Bring the widget inside `root` (simplex.html) to life. */
export function start(root) {
  const svg = root.querySelector(".simplex-picture > svg");
  const state = { pi0: PI_0, piT: stage(0), advantage: [...ADVANTAGE], alpha: 0.5, beta: 1, eps0: 0.2, epsT: 0.2 };
  let [pending, speaking] = [false, 0];

  function show() {
    pending = false;
    const results = compute(state);
    draw(svg, state, results);
    root.querySelector(".simplex-verdict").textContent = verdict(results);
    root.classList.toggle("is-empty", !results.certificate.nonempty);
    for (const [name, text] of Object.entries(numbers(state, results))) {
      root.querySelector(`[data-number="${name}"]`).textContent = text;
    }
  }

  function set(change) {
    Object.assign(state, change);
    if (!pending) requestAnimationFrame(show);
    pending = true;
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      root.querySelector(".simplex-spoken").textContent = root.querySelector(".simplex-verdict").textContent;
    }, QUIET);
  }

  moveWithPointerAndKeys(svg.querySelector(".handle.pi-0"), svg, () => state.pi0, (pi0) => set({ pi0 }));
  moveWithPointerAndKeys(svg.querySelector(".handle.pi-t"), svg, () => state.piT, (piT) => set({ piT }));
  for (const name of ["alpha", "beta", "eps0", "epsT"]) slider(root, name, state[name], (value) => set({ [name]: value }));
  root.querySelectorAll(".simplex-advantage input").forEach((input, arm) => {
    input.value = state.advantage[arm];
    input.addEventListener("input", () => {
      if (!input.checkValidity() || input.value === "") return; // half-typed numbers change nothing
      set({ advantage: state.advantage.map((old, other) => (other === arm ? Number(input.value) : old)) });
    });
  });
  root.querySelectorAll("[data-stage]").forEach((button) => {
    button.addEventListener("click", () => set({ pi0: PI_0, piT: stage(Number(button.dataset.stage)) }));
  });
  root.querySelector("[data-step]").addEventListener("click", () => set({ piT: keepInside(compute(state).piStar) }));
  show();
}

/** A range input; that of beta holds its decimal logarithm. */
function slider(root, name, initial, set) {
  const input = root.querySelector(`#simplex-${name}`);
  const logarithmic = name === "beta";
  const show = (value) => {
    root.querySelector(`output[for="simplex-${name}"]`).textContent = value.toFixed(2);
    input.setAttribute("aria-valuetext", value.toFixed(2));
  };
  input.value = logarithmic ? Math.log10(initial) : initial;
  show(initial);
  input.addEventListener("input", () => {
    const value = logarithmic ? 10 ** Number(input.value) : Number(input.value);
    show(value);
    set(value);
  });
}

function moveWithPointerAndKeys(handle, svg, get, set) {
  const pointer = (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [x, y];
  };
  // A finger on a handle moves it and not the page. (touch-action on a part of a drawing does not do it in Chromium 156.)
  handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) set(toPolicy(pointer(event)));
  });
  handle.addEventListener("keydown", (event) => {
    const way = KEYS[event.key];
    if (!way) return;
    event.preventDefault(); // the page does not scroll
    const length = KEY_STEP * (event.shiftKey ? 5 : 1);
    const [x, y] = toPoint(get());
    set(toPolicy([x + length * way[0], y + length * way[1]]));
  });
}
