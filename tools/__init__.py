"""What people run: the isolane command and its verbs."""
