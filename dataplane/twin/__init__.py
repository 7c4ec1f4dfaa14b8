"""The reference model of the core: naive, obvious, sharing no code with it. For tests and bench."""
