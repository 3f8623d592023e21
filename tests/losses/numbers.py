"""Every loss and its gradient at extreme log-probs, in every floating type, against 50 digits.

    python -m tests.losses.numbers            writes docs/results/numbers: results.json, run.json, table.md

Each case is a batch of two: one ordinary sequence or token, and one extreme. The inputs are rounded to the type first;
the exact value and gradient of these inputs are computed with mpmath from the formula of the paper, without torch. The
losses compute in float32, or in float64 where an input is; a gradient has the type of its input. The bounds are

    |value - exact|    <= VALUE * u * S + t
    |gradient - exact| <= GRADIENT * u * S' + t + v |exact| + s

u: unit roundoff of the type that is computed in; t: its smallest number, which an exponential may be rounded to, times
1 + the largest input; v, s: unit roundoff and smallest number of the gradient's type. S, S':
the sum of the sizes of the terms, each times 1 + the size of what its exponential is of: exp(x) magnifies the rounding
of x by |x|. An exact result beyond the type's range must come out infinite with its sign. Nothing may be NaN.
"""

import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import torch

from dar_ref import losses, results

VALUE, GRADIENT = 4.0, 4.0
TYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
LOGPS = (0.0, -1e-3, -1e4, -1e6)
LOG_RATIOS = (0.0, 1e-3, 100.0, -100.0, 1e4, -1e4)
ADVANTAGES = (0.0, 1.5, -1.5)
ALPHA, BETA, CLIP, EPSILON, KL = 0.1, 0.05, 20.0, 0.2, 0.04
mp = mpmath.mp.clone()
mp.dps = 50


class Exact(NamedTuple):
    """Value and gradient of a loss; `*_size`: the sizes S that the errors are measured by."""

    value: Any
    value_size: Any
    gradient: list[Any]
    gradient_size: list[Any]


class Term(NamedTuple):
    """One summand of a loss: value and derivative with respect to its own log-prob, and their sizes."""

    value: Any
    size: Any
    slope: Any
    slope_size: Any


def dar(logp: Any, ref: Any, old: Any, advantage: Any) -> Term:
    log_weight = _num(ALPHA) * (ref - old) + advantage / _num(BETA)
    weight = mp.exp(min(log_weight, mp.log(_num(CLIP))))
    size = weight * (1 + abs(_num(ALPHA)) * (abs(ref) + abs(old)) + abs(advantage / _num(BETA)))
    return Term(-weight * logp, size * abs(logp), -weight, size)


def dao(logp: Any, ref: Any, old: Any, advantage: Any) -> Term:
    ratio, (to_0, to_t) = mp.exp(logp - old), (_num(BETA * ALPHA), _num(BETA * (1 - ALPHA)))
    bracket = advantage - to_t * (logp - old) - to_0 * (logp - ref)
    size = abs(advantage) + to_t * (abs(logp) + abs(old)) + to_0 * (abs(logp) + abs(ref))
    size = ratio * (1 + abs(logp) + abs(old)) * size
    return Term(-ratio * bracket, size, -ratio * bracket, size)


def clipped(logp: Any, old: Any, advantage: Any) -> Term:
    """-min(rho A, clip(rho) A)."""
    ratio = mp.exp(logp - old)
    bounded = min(max(ratio, 1 - _num(EPSILON)), 1 + _num(EPSILON))
    size = abs(advantage) * (1 + abs(logp) + abs(old))
    if ratio * advantage <= bounded * advantage:
        return Term(-ratio * advantage, ratio * size, -ratio * advantage, ratio * size)
    return Term(-bounded * advantage, bounded * size, mp.mpf(0), mp.mpf(0))


def k3(weight: float, logp: Any, other: Any) -> Term:
    log_ratio, weight = other - logp, _num(weight)
    size = weight * (mp.exp(log_ratio) * (1 + abs(logp) + abs(other)) + 1 + abs(log_ratio))
    return Term(weight * (mp.expm1(log_ratio) - log_ratio), size, -weight * mp.expm1(log_ratio), size)


def added(*terms: Term) -> Term:
    return Term(*(mp.fsum(column) for column in zip(*terms, strict=True)))


def ppo(logp: Any, _ref: Any, old: Any, advantage: Any) -> Term:
    return clipped(logp, old, advantage)


def grpo(logp: Any, ref: Any, old: Any, advantage: Any) -> Term:
    return added(clipped(logp, old, advantage), k3(KL, logp, ref))


def dual_ppo(logp: Any, ref: Any, old: Any, advantage: Any) -> Term:
    kl = k3(BETA * ALPHA, logp, ref), k3(BETA * (1.0 - ALPHA), logp, old)
    return added(clipped(logp, old, advantage), *kl)


def dpo(chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any) -> Term:
    beta = _num(0.1)
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    moved = beta * (abs(chosen) + abs(ref_chosen) + abs(rejected) + abs(ref_rejected))
    sigmoid = 1 / (1 + mp.exp(beta * margin))
    return Term(mp.log1p(mp.exp(-beta * margin)), mp.log1p(mp.exp(-beta * margin)) + sigmoid * moved,
                -beta * sigmoid, beta * sigmoid * (1 + moved))  # fmt: skip


def ipo(chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any) -> Term:
    size = abs(chosen) + abs(ref_chosen) + abs(rejected) + abs(ref_rejected) + 5
    distance = (chosen - ref_chosen) - (rejected - ref_rejected) - 1 / (2 * _num(0.1))
    return Term(distance**2, (abs(distance) + size) ** 2, 2 * distance, 2 * size)


def slic(chosen: Any, rejected: Any, target: Any, _: Any) -> Term:
    hinge, size = 1 - chosen + rejected, 1 + abs(chosen) + abs(rejected)
    value = max(hinge, mp.mpf(0)) - _num(0.1) * target
    return Term(value, size + abs(target), mp.mpf(-1 if hinge > 0 else 0), mp.mpf(1))


def rloo(logp: Any, ref: Any, old: Any, advantage: Any, other: tuple[Any, ...]) -> Term:
    """A group of two: the other sequence is the baseline; the reward is called advantage."""
    mine, its = advantage - _num(BETA) * (old - ref), other[3] - _num(BETA) * (other[2] - other[1])
    size = abs(advantage) + abs(other[3]) + _num(BETA) * mp.fsum(map(abs, (old, ref, other[2], other[1])))
    return Term(-(mine - its) * logp, size * abs(logp), -(mine - its), size)


class Loss(NamedTuple):
    """term: the exact summand; torch: the loss of four columns (B,) or, per token, (1, 2) and an advantage (1, 2)."""

    term: Callable[..., Term]
    torch: Callable[..., Any]
    per_token: bool = False
    grouped: bool = False


LOSSES = {
    "dar": Loss(dar, lambda *x: losses.dar_loss(*x, alpha=ALPHA, beta=BETA, w_clip=CLIP).loss),
    "dao": Loss(dao, lambda *x: losses.dao_loss(*x, alpha=ALPHA, beta=BETA)),
    "rloo": Loss(rloo, lambda *x: losses.rloo_loss(*x, 2, beta=BETA), grouped=True),
    "grpo": Loss(grpo, lambda p, r, o, a, m: losses.grpo_loss(p, r, o, a, m, epsilon=EPSILON, beta=KL), True),
    "ppo": Loss(ppo, lambda p, _, o, a, m: losses.ppo_loss(p, o, a, m, epsilon=EPSILON), True),
    "dual ppo": Loss(
        dual_ppo, lambda *x: losses.dual_ppo_loss(*x, epsilon=EPSILON, alpha=ALPHA, beta=BETA), per_token=True
    ),
    "dpo": Loss(dpo, losses.dpo_loss),
    "ipo": Loss(ipo, losses.ipo_loss),
    "slic": Loss(slic, lambda c, r, t, _: losses.slic_loss(c, r, t)),
}


class Errors(NamedTuple):
    """value, gradient: worst error in units of the bound without its factor; 0 where the result is infinite as it
    should be; problem: what is wrong, or None."""

    value: float
    gradient: float
    problem: str | None


def cases(dtype: torch.dtype) -> Iterator[list[list[float]]]:
    """Rows of a batch of two: log-prob, two others, advantage; without those that the type cannot hold."""
    ordinary = [-2.0, -2.5, -1.75, 0.5]
    largest = torch.finfo(dtype).max
    for logp, to_ref, to_old, advantage in itertools.product(LOGPS, LOG_RATIOS, LOG_RATIOS, ADVANTAGES):
        extreme = [logp, logp - to_ref, logp - to_old, advantage]
        if all(abs(x) <= largest for x in extreme):
            yield [ordinary, extreme]


def compared(name: str, rows: list[list[float]], dtype: torch.dtype) -> Errors:
    """One case: the errors of the value and of the gradient of the first input."""
    loss = LOSSES[name]
    columns = [torch.tensor(column, dtype=dtype) for column in zip(*rows, strict=True)]
    exact = exact_of(loss, [[mp.mpf(x.item()) for x in row] for row in zip(*columns, strict=True)])
    arguments = [column[None] for column in columns] if loss.per_token else columns
    arguments[0].requires_grad_(True)
    computed = loss.torch(*arguments, *[torch.ones(1, len(rows))] * loss.per_token)
    (gradient,) = torch.autograd.grad(computed, arguments[0])
    return judged(exact, computed, gradient.flatten(), 1 + max(abs(x) for row in rows for x in row))


def exact_of(loss: Loss, rows: list[list[Any]]) -> Exact:
    """The mean over the rows."""
    if loss.grouped:
        terms = [loss.term(*row, tuple(other)) for row, other in zip(rows, reversed(rows), strict=True)]
    else:
        terms = [loss.term(*row) for row in rows]
    n = len(terms)
    value, size = mp.fsum(t.value for t in terms) / n, mp.fsum(t.size for t in terms) / n
    return Exact(value, size, [t.slope / n for t in terms], [t.slope_size / n for t in terms])


def judged(exact: Exact, computed: torch.Tensor, gradient: torch.Tensor, largest: float = 1.0) -> Errors:
    """The errors of one loss and its gradient (B,)."""
    wide, narrow = torch.finfo(computed.dtype), torch.finfo(gradient.dtype)
    unit, underflow = wide.eps / 2, wide.smallest_normal * wide.eps * largest
    value, problem = _error(exact.value, exact.value_size, computed.item(), wide.max, unit, underflow)
    worst = 0.0
    if computed.isinf() and problem is None:
        return Errors(value, worst, None)  # the gradient of an infinite loss is not used
    for wanted, size, got in zip(exact.gradient, exact.gradient_size, gradient.tolist(), strict=True):
        of_type = narrow.eps / 2 * abs(wanted) + narrow.smallest_normal * narrow.eps
        error, wrong = _error(wanted, size, got, narrow.max, unit, underflow + of_type)
        worst, problem = max(worst, error), problem or (wrong and f"gradient: {wrong}")
    return Errors(value, worst, problem)


def _error(wanted: Any, size: Any, got: float, largest: float, unit: float, free: Any) -> tuple[float, str | None]:
    if got != got:
        return 0.0, f"NaN in place of {mp.nstr(wanted, 6)}"
    if abs(got) == float("inf") or abs(wanted) > largest:
        near = abs(wanted) * (1 + 8 * unit) + 8 * unit * size >= largest and (got > 0) == (wanted > 0)
        return 0.0, None if near and abs(got) >= 0.9 * largest else f"{got} in place of {mp.nstr(wanted, 6)}"
    excess = max(abs(mp.mpf(got) - wanted) - free, mp.mpf(0))
    if excess == 0:
        return 0.0, None
    return float(excess / (unit * size)) if size else float("inf"), None


def long_sequences(dtype: torch.dtype, tokens: int = 10**5) -> dict[str, Errors]:
    """Sums over a long completion: `sequence_logps`, and the losses per token."""
    draw = random.Random(0)
    rows = [[-draw.expovariate(1.0) for _ in range(3)] + [0.5] for _ in range(tokens)]
    columns = [torch.tensor(column, dtype=dtype) for column in zip(*rows, strict=True)]
    exact_rows = [[mp.mpf(x) for x in row] for row in zip(*(c.tolist() for c in columns), strict=True)]
    found = {}
    for name in ("grpo", "ppo", "dual ppo"):
        arguments = [column[None].clone() for column in columns]
        arguments[0].requires_grad_(True)
        computed = LOSSES[name].torch(*arguments, torch.ones(1, tokens))
        (gradient,) = torch.autograd.grad(computed, arguments[0])
        found[name] = judged(exact_of(LOSSES[name], exact_rows), computed, gradient[0])
    logps = columns[0][None].clone().requires_grad_(True)
    total = losses.sequence_logps(logps, torch.ones(1, tokens))
    (gradient,) = torch.autograd.grad(total.sum(), logps)
    first = [row[0] for row in exact_rows]
    ones = [mp.mpf(1)] * tokens
    exact = Exact(mp.fsum(first), mp.fsum(map(abs, first)), ones, ones)
    return found | {"sequence_logps": judged(exact, total, gradient[0])}


def _num(value: float) -> Any:
    return mp.mpf(value)


def measure(every: int = 1, tokens: int = 10**5) -> list[dict[str, Any]]:
    """One row per loss and type; `every`: take each so-many-th case."""
    rows = []
    for dtype in TYPES:
        kind = str(dtype).removeprefix("torch.")
        chosen = list(cases(dtype))[::every]
        found = {name: [compared(name, rows, dtype) for rows in chosen] for name in LOSSES}
        found |= {f"{name}, {tokens} tokens": [errors] for name, errors in long_sequences(dtype, tokens).items()}
        for name, errors in found.items():
            problems = [e.problem for e in errors if e.problem]
            worst = {part: max(getattr(e, part) for e in errors) for part in ("value", "gradient")}
            rows.append({"loss": name, "type": kind, "cases": len(errors), **worst, "problems": problems[:3]})
    return rows


def table(rows: list[dict[str, Any]], command: str) -> str:
    """The rows as Markdown."""
    lines = [f"Command: `{command}`.", "", "| loss | type | cases | value | gradient | NaN or wrongly infinite |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for row in rows:
        lines.append(
            f"| {row['loss']} | {row['type']} | {row['cases']} | {row['value']:.2f} | {row['gradient']:.2f} |"
            f" {len(row['problems'])} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write docs/results/numbers; 1 if a bound is broken."""
    began, command, out = time.time(), "python -m tests.losses.numbers", Path("docs/results/numbers")
    torch.set_num_threads(1)
    rows = measure()
    results.write_json(out / "results.json", {"bounds": {"value": VALUE, "gradient": GRADIENT}, "rows": rows})
    results.write_text(out / "table.md", table(rows, command))
    results.write_json(out / "run.json", results.run_info(command, began))
    print(table(rows, command))
    broken = [r for r in rows if r["problems"] or r["value"] > VALUE or r["gradient"] > GRADIENT]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
