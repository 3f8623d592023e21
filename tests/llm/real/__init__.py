"""The tasks of real text and their comparison. What needs the model itself is skipped without it."""
