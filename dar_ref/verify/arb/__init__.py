"""The formulas of the theory in ball arithmetic (Arb), from their definitions."""
