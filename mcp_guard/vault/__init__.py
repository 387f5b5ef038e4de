"""Durable placeholders, encrypted at rest."""
