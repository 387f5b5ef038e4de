"""Approvals: durable requests to which calls attach, decided by people, carried out at most once."""
