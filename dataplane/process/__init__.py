"""The data-plane process, its protocol and its client."""
