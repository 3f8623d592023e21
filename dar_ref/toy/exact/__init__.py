"""The task `tiny`, whose responses can all be listed: so policies, their KL and the theory's optimum are exact."""
