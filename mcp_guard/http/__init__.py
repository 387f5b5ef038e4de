"""The streamable HTTP front: loopback, behind a generated bearer token."""
