"""The store's contract, and what keeps it: SQLite and memory."""
