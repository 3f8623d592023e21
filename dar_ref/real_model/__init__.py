"""The comparison of methods on a real model: SmolLM2-135M-Instruct on the two tasks of `dar_ref.llm.real`.

runs         what is planned
experiment   trains and measures, and goes on where it was stopped
report       results, tables and figures of the runs that are there
"""
