"""What scores a completion: a Python function, a reward model, or an annotator behind an endpoint."""
