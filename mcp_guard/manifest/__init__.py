"""Facts about tools: the format, where the files are found, and which files the guard protects from calls."""
