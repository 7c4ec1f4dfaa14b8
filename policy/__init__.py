"""Intent: manifest model and the compiler from intent to lookup tables."""
