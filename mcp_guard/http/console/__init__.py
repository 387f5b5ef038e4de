"""The page for reviewers, on loopback (docs/console.md)."""
