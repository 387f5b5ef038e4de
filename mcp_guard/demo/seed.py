"""The demo CRM's contents: invented people at reserved addresses, test card numbers, reserved phone numbers."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE IF NOT EXISTS customers (
  id TEXT PRIMARY KEY, name TEXT, email TEXT, phone TEXT, card TEXT, iban TEXT, ssn TEXT,
  plan TEXT, segment TEXT, api_token TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, customer_id TEXT, item TEXT, cents INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY, recipient TEXT, subject TEXT, body TEXT) STRICT;
CREATE TABLE IF NOT EXISTS exports (id INTEGER PRIMARY KEY, segment TEXT, destination TEXT, customers INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS databases (name TEXT PRIMARY KEY, entries INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS calls (
  id INTEGER PRIMARY KEY, at TEXT, tool TEXT, arguments TEXT, execution_id TEXT, effect INTEGER
) STRICT;
CREATE VIEW IF NOT EXISTS effects AS SELECT id, at, tool, arguments, execution_id FROM calls WHERE effect = 1;
"""

CUSTOMERS = (
    (
        "C-1001",
        "Maya Fields",
        "maya.fields@example.com",
        "+1 202-555-0143",
        "4111 1111 1111 1111",
        "GB82 WEST 1234 5698 7654 32",
        "219-09-9999",
        "business",
        "eu",
        "sk_demo_9fQ2xV7mLp4TzR8cWb3KdN6y",
    ),
    (
        "C-1002",
        "Noor Haddad",
        "noor@example.org",
        "+1 202-555-0178",
        "5555 5555 5555 4444",
        "DE89 3704 0044 0532 0130 00",
        "078-05-1120",
        "starter",
        "eu",
        "sk_demo_4hJ7sB1nXe9GvC5uYa2PtM8q",
    ),
    (
        "C-1003",
        "Tom Sander",
        "tom.sander@example.net",
        "+1 202-555-0112",
        "3782 822463 10005",
        "FR14 2004 1010 0505 0001 3M02 606",
        "123-45-6789",
        "business",
        "us",
        "sk_demo_7kD3wF8rZo6HjS1iQg5LxE2v",
    ),
)

ORDERS = (
    ("O-501", "C-1001", "annual plan", 48_000),
    ("O-502", "C-1001", "two more seats", 9_600),
    ("O-503", "C-1002", "monthly plan", 1_900),
    ("O-504", "C-1003", "annual plan", 48_000),
)

DATABASES = (("crm-production", 240_118), ("crm-staging", 1_204))
