"""`dar-ref demo`: verify the theory, train the digits bandit, write figures and a report."""

from dar_ref.demo.run import demo

__all__ = ["demo"]
