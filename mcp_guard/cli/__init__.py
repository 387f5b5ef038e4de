"""The command line: thin wrappers, exit codes documented in docs/cli.md."""
