"""The tamper-evident record of every call (decisions.md D7, D9, D26)."""
