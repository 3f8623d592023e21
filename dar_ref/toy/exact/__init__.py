"""The task that enumerates: every response is listed, so a policy, its KL and the theory's optimum are exact."""
