"""guard.yaml: its schema, loading it, and resolving the references in it."""
