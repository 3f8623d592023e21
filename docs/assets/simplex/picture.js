// Draws a state of the interactive simplex into its SVG, and says which policy is at a point of it.

import { ball, interpolate, sharedRegion } from "./simplex-math.js";

const CORNERS = [[220, 34], [32, 360], [408, 360]]; // of arms 1, 2, 3; simplex.html draws the same triangle
const LEAST = 0.001; // probability that a moved policy keeps on every arm

/** Where a policy lies in the picture. */
export function toPoint(pi) {
  return [0, 1].map((axis) => pi.reduce((sum, p, arm) => sum + p * CORNERS[arm][axis], 0));
}

/** The policy at a point of the picture; points outside the triangle give one at its edge. */
export function toPolicy([x, y]) {
  const [top, left, right] = CORNERS;
  const up = (left[1] - y) / (left[1] - top[1]);
  const toRight = (x - left[0]) / (right[0] - left[0]) - up / 2;
  return keepInside([up, 1 - up - toRight, toRight]);
}

/** The probabilities, none far below LEAST, adding to 1. */
export function keepInside(pi) {
  const kept = pi.map((p) => Math.max(p, LEAST));
  const total = kept.reduce((sum, p) => sum + p, 0);
  return kept.map((p) => p / total);
}

function line(policies, end) {
  return "M" + policies.map((pi) => toPoint(pi).map((x) => x.toFixed(2)).join(" ")).join("L") + end;
}

/** Redraw everything. `results` are those of `compute` in widget.js. */
export function draw(svg, state, results) {
  const [logPi0, logPiT] = [state.pi0, state.piT].map((pi) => pi.map(Math.log));
  const outlines = {
    "ball-0": ball(logPi0, state.eps0),
    "ball-t": ball(logPiT, state.epsT),
    "ball-ref": ball(results.logPiRef, results.radius),
    shared: sharedRegion(logPi0, logPiT, state.eps0, state.epsT),
  };
  for (const [name, set] of Object.entries(outlines)) {
    svg.querySelector(`path.${name}`).setAttribute("d", set ? line(set.ring.filter((_, ray) => ray % 3 === 0), "Z") : "");
  }
  const weights = Array.from({ length: 41 }, (_, k) => k / 40);
  const between = weights.map((alpha) => interpolate(logPi0, logPiT, alpha).logPiRef.map(Math.exp));
  svg.querySelector("path.between").setAttribute("d", line(between, ""));
  const marks = { "pi-0": state.pi0, "pi-t": state.piT, "pi-ref": results.logPiRef.map(Math.exp), "pi-star": results.piStar };
  for (const [name, pi] of Object.entries(marks)) {
    const [x, y] = toPoint(pi);
    const mark = svg.querySelector(`.mark.${name}`);
    mark.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`);
    if (mark.tabIndex === 0) {
      mark.setAttribute("aria-valuenow", Math.round(100 * pi[2]));
      mark.setAttribute("aria-valuetext", pi.map((p, arm) => `arm ${arm + 1}: ${(100 * p).toFixed(0)} %`).join(", "));
    }
  }
  svg.querySelectorAll(".arms text").forEach((label, arm) => {
    label.textContent = `arm ${arm + 1} (A = ${state.advantage[arm]})`;
  });
}
