"""Open, lock and migrate stores; nothing about domains."""
