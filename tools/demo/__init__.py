"""The demonstration of examples/blue-red.yaml, checked."""
