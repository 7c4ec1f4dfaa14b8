"""One host's loop: what it waits for, and how it brings the host to what is wanted."""
