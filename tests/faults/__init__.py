"""Faults put into whole commands: `python -m tests.faults`, or `make faults`. A part of them runs in `make test`."""
