"""Hypothesis strategies: policies, advantages and parameters over the whole domain of the claims."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[np.float64]

alphas = st.sampled_from([0.0, 1.0, 0.5, 0.1]) | st.floats(0.0, 1.0)
interior_alphas = st.floats(1e-6, 1.0 - 1e-6)
betas = st.floats(-6.0, 6.0).map(lambda power: 10.0**power)
arm_counts = st.integers(1, 12)


class Setting(NamedTuple):
    """One bandit with all inputs of the dual-KL objective; arrays are (A,)."""

    log_pi: Array
    advantage: Array
    log_pi_0: Array
    log_pi_t: Array
    alpha: float
    beta: float


def log_normalized(logits: Array) -> Array:
    """log softmax written out, independent of the package."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@st.composite
def policies(draw: st.DrawFn, arms: int, keep: int | None = None, zeros: bool = True) -> Array:
    """A policy over `arms` arms, from uniform to log-probs hundreds of nats apart. Arm `keep` is never 0."""
    scale = draw(st.sampled_from([0.0, 1e-6, 1.0, 10.0, 300.0]))
    logits = scale * np.array(draw(st.lists(st.floats(-1.0, 1.0), min_size=arms, max_size=arms)))
    if zeros and draw(st.booleans()):
        dropped = np.array(draw(st.lists(st.booleans(), min_size=arms, max_size=arms)))
        dropped[draw(st.integers(0, arms - 1)) if keep is None else keep] = False
        logits[dropped] = -np.inf
    return log_normalized(logits)


@st.composite
def policy_pairs(draw: st.DrawFn, zeros: bool = True) -> tuple[Array, Array]:
    """Two policies over the same arms with at least one arm in common."""
    arms = draw(arm_counts)
    keep = draw(st.integers(0, arms - 1))
    return draw(policies(arms, keep, zeros)), draw(policies(arms, keep, zeros))


@st.composite
def advantages(draw: st.DrawFn, arms: int) -> Array:
    """Advantages up to 1e6 in size, constant ones included.

    Values below 1e-12 of the scale are drawn as 0: the 60-digit judge forms exp(A/beta), which rounds to 1 below.
    """
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3, 1e6]))
    values = np.array(draw(st.lists(st.floats(-1.0, 1.0), min_size=arms, max_size=arms)))
    return scale * np.where(np.abs(values) < 1e-12, 0.0, values)


@st.composite
def settings(draw: st.DrawFn, zeros: bool = True) -> Setting:
    """A whole setting; `log_pi` may have mass on arms where the anchors have none."""
    arms = draw(arm_counts)
    keep = draw(st.integers(0, arms - 1))
    return Setting(
        log_pi=draw(policies(arms, None, zeros)),
        advantage=draw(advantages(arms)),
        log_pi_0=draw(policies(arms, keep, zeros)),
        log_pi_t=draw(policies(arms, keep, zeros)),
        alpha=draw(alphas),
        beta=draw(betas),
    )
