"""The bytes at every edge: a strict reader, and stdio transports on the event loop (decisions.md D3, D20, D22)."""
