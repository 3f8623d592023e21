"""Numerical settings of the whole suite: float64 expectations, one thread, fixed seeds, warnings are errors.

Hypothesis profiles: `dev` (default), `ci` (more examples, derandomised: a red CI run is red on every machine),
`nightly` (many more). Choose with `HYPOTHESIS_PROFILE=nightly make test`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported

import hypothesis

hypothesis.settings.register_profile("dev", max_examples=100, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=5_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))
