"""Downstream servers: processes and links, the pool that keeps them, the catalogue of what they offer."""
