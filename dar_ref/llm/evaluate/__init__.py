"""`dar-ref evaluate`: completions of several policies on the same prompts, judges that compare them, and a report."""
