// The mathematics of the interactive simplex: policies over three arms, every arm with positive probability.
//
// Functions are named as in dar_ref.theory and take log-probabilities, [log p1, log p2, log p3]; KLs are in nats.
// Only the area is computed in another way than there: by rays instead of slices. No page, no state, no import:
// tests/test_docs_simplex.py runs this file and compares it with dar_ref.theory.

const RAYS = 720;
const SIMPLEX_AREA = Math.sqrt(3) / 2; // of the triangle between (1,0,0), (0,1,0), (0,0,1)
// Two orthonormal directions in the plane in which probabilities keep their sum.
const PLANE = [[2, -1, -1].map((x) => x / Math.sqrt(6)), [0, 1, -1].map((x) => x / Math.sqrt(2))];

const dot = (x, y) => x[0] * y[0] + x[1] * y[1] + x[2] * y[2];

/** log softmax of the logits, and log sum exp. */
export function logNormalize(logits) {
  const top = Math.max(...logits);
  const logTotal = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0));
  return { logPi: logits.map((logit) => logit - top - logTotal), logTotal: top + logTotal };
}

function logMixture(logPi0, logPiT, alpha) {
  return logPi0.map((logP, arm) => alpha * logP + (1 - alpha) * logPiT[arm]);
}

/** KL(p‖q) = sum p log(p/q). */
export function kl(logP, logQ) {
  return Math.max(logP.reduce((sum, value, arm) => sum + Math.exp(value) * (value - logQ[arm]), 0), 0);
}

/** T1: pi_ref = pi_0^alpha pi_t^(1-alpha) / C, and log C. */
export function interpolate(logPi0, logPiT, alpha) {
  const { logPi, logTotal } = logNormalize(logMixture(logPi0, logPiT, alpha));
  return { logPiRef: logPi, logC: Math.min(logTotal, 0) };
}

/** T2: the maximiser pi* ∝ pi_0^alpha pi_t^(1-alpha) exp(A/beta) of DAR's objective J, and J(pi*). */
export function optimum(advantage, logPi0, logPiT, alpha, beta) {
  const logits = logMixture(logPi0, logPiT, alpha).map((logP, arm) => logP + advantage[arm] / beta);
  const { logPi, logTotal } = logNormalize(logits);
  return { logPi, value: beta * logTotal };
}

/** T6: the margin min over alpha of alpha eps_0 + (1-alpha) eps_t + log C(alpha). Both balls share a policy iff it is >= 0. */
export function feasible(logPi0, logPiT, eps0, epsT) {
  const logRatio = logPi0.map((logP, arm) => logP - logPiT[arm]);
  const slope = (alpha) => eps0 - epsT + dot(interpolate(logPi0, logPiT, alpha).logPiRef.map(Math.exp), logRatio);
  const alpha = lowest(slope);
  const margin = alpha * eps0 + (1 - alpha) * epsT + logNormalize(logMixture(logPi0, logPiT, alpha)).logTotal;
  return { nonempty: margin >= 0, alpha, margin };
}

/** Where a convex function on [0, 1] is lowest, from its slope: by bisection. 1/2 if it is constant. */
function lowest(slope) {
  const rising = slope(0) >= 0;
  const falling = slope(1) <= 0;
  if (rising || falling) return rising && falling ? 0.5 : Number(falling);
  let [low, high] = [0, 1];
  for (let step = 0; step < 54; step++) {
    const middle = (low + high) / 2;
    if (slope(middle) < 0) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** T6: the smallest common radius at which the balls around p and q touch, and the weight of p at which they do. */
export function chernoff(logP, logQ) {
  const { alpha, margin } = feasible(logP, logQ, 0, 0);
  return { information: Math.max(-margin, 0), alpha };
}

/** T7: the radius of the ball around pi_ref that belongs to DAR at these budgets; negative if that ball is empty. */
export function matchedRadius(logPi0, logPiT, alpha, eps0, epsT) {
  return alpha * eps0 + (1 - alpha) * epsT + interpolate(logPi0, logPiT, alpha).logC;
}

/** Share of the simplex's area that keeps both KL budgets. */
export function regionVolume(logPi0, logPiT, eps0, epsT) {
  const region = sharedRegion(logPi0, logPiT, eps0, epsT);
  return region ? region.area / SIMPLEX_AREA : 0;
}

/** The policies that keep both budgets, as { ring, area }; null if there is none. */
export function sharedRegion(logPi0, logPiT, eps0, epsT) {
  const { alpha, margin } = feasible(logPi0, logPiT, eps0, epsT);
  if (margin <= 0) return null;
  const balls = [{ logCenter: logPi0, radius: eps0 }, { logCenter: logPiT, radius: epsT }];
  return outline(balls, interpolate(logPi0, logPiT, alpha).logPiRef.map(Math.exp)); // this policy is in both
}

/** The policies with KL(pi‖center) <= radius, as { ring, area }; null for a negative radius. */
export function ball(logCenter, radius) {
  return radius > 0 ? outline([{ logCenter, radius }], logCenter.map(Math.exp)) : null;
}

/**
 * Border and area of what some balls share: rays from a policy inside, cut at the nearest border or edge.
 * The first two rings only say where the set lies and how it is stretched, so the last one is even, however thin it is.
 */
function outline(balls, inside) {
  let center = inside;
  let axes = PLANE; // then the principal axes of the ring before, as long as its spread
  let scale = 1; // area of the square on the axes
  for (const rays of [72, 144, RAYS]) {
    const distances = [];
    const ring = [];
    for (let ray = 0; ray < rays; ray++) {
      const angle = (2 * Math.PI * ray) / rays;
      const way = axes[0].map((x, arm) => Math.cos(angle) * x + Math.sin(angle) * axes[1][arm]);
      const distance = reach(balls, center, way);
      distances.push(distance);
      ring.push(center.map((p, arm) => Math.max(p + distance * way[arm], 0)));
    }
    if (rays === RAYS) {
      const area = (scale * Math.PI * distances.reduce((sum, r) => sum + r * r, 0)) / rays;
      return { ring, area };
    }
    ({ center, axes, scale } = principalAxes(ring));
  }
}

/** Mean of the points, their two principal axes as long as their spread, and the area of the square on these axes. */
function principalAxes(points) {
  const center = [0, 1, 2].map((arm) => points.reduce((sum, p) => sum + p[arm], 0) / points.length);
  let [xx, xy, yy] = [0, 0, 0];
  for (const point of points) {
    const [x, y] = PLANE.map((direction) => dot(direction, point) - dot(direction, center));
    xx += (x * x) / points.length;
    xy += (x * y) / points.length;
    yy += (y * y) / points.length;
  }
  const turn = 0.5 * Math.atan2(2 * xy, xx - yy);
  const [c, s] = [Math.cos(turn), Math.sin(turn)];
  const lengths = [c * c * xx + 2 * c * s * xy + s * s * yy, s * s * xx - 2 * c * s * xy + c * c * yy].map((variance) =>
    Math.sqrt(Math.max(variance, 1e-30)),
  );
  const axes = [0, 1, 2].map((arm) => [c * PLANE[0][arm] + s * PLANE[1][arm], c * PLANE[1][arm] - s * PLANE[0][arm]]);
  return {
    center,
    axes: [axes.map((pair) => pair[0] * lengths[0]), axes.map((pair) => pair[1] * lengths[1])],
    scale: lengths[0] * lengths[1],
  };
}

/** How far one can go from `center` along `way` without leaving the simplex or a ball. */
function reach(balls, center, way) {
  const edge = Math.min(...way.map((step, arm) => (step < 0 ? center[arm] / -step : Infinity)));
  return balls.reduce((nearest, one) => Math.min(nearest, crossing(one, center, way, nearest)), edge);
}

/** Where a ray leaves a ball, or `far` if it does not before: Newton's method, kept in a bracket. KL is convex on a ray. */
function crossing({ logCenter, radius }, center, way, far) {
  let [low, high] = [0, far];
  let distance = far;
  for (let step = 0; step < 100; step++) {
    let [excess, slope] = [-radius, 0];
    for (let arm = 0; arm < 3; arm++) {
      const p = Math.max(center[arm] + distance * way[arm], 0);
      const logRatio = Math.log(p) - logCenter[arm];
      if (p > 0) excess += p * logRatio;
      if (way[arm] !== 0) slope += way[arm] * logRatio;
    }
    if (step === 0 && excess <= 0) return far;
    if (excess > 0) high = distance;
    else low = distance;
    const newton = distance - excess / slope;
    const next = newton > low && newton < high ? newton : (low + high) / 2;
    if (Math.abs(next - distance) <= 1e-15 * far) break;
    distance = next;
  }
  return distance;
}
