"""Use cases without a command line: apply, delete, plan, look up, wait."""
