"""The whole of DAR in one file each. Read these first.

`bandit` is the method on a table, where the result can be compared with the theory. `llm` is the method on a language
model. Each file is complete: it imports nothing else of this package.
"""
