"""Put the guard in front of the servers that hosts have, take it away again, and see which go around it."""

from mcp_guard.wrap.locate import Machine
from mcp_guard.wrap.status import EntryState, HostState, survey

__all__ = ["EntryState", "HostState", "Machine", "survey"]
