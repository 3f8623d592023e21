"""`dar-ref plan`: memory of one device, tokens and hours of a run, before it starts."""

from dar_ref.llm.plan.estimate import device_bytes, plan

__all__ = ["device_bytes", "plan"]
