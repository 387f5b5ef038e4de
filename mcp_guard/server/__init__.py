"""The MCP edge towards the client, both protocol eras. SDK models end here."""
