CREATE TABLE console_pass(
    hash TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    assurance INTEGER NOT NULL,
    principal_key TEXT NOT NULL,
    credential TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    mac TEXT NOT NULL
) STRICT;

CREATE TABLE console_event(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns INTEGER NOT NULL,
    what TEXT NOT NULL,
    how TEXT NOT NULL,
    name TEXT NOT NULL,
    assurance TEXT NOT NULL,
    session TEXT NOT NULL,
    mac TEXT NOT NULL
) STRICT;

CREATE INDEX approval_listed ON approval(state, created_ns);
