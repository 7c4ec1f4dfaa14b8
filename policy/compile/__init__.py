"""Intent to one host's packed, sorted tables. Pure."""
