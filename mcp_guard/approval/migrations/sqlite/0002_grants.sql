CREATE TABLE standing_grant(
    id TEXT PRIMARY KEY,
    approval TEXT NOT NULL,
    owner TEXT NOT NULL,
    server TEXT NOT NULL,
    tool TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    revoked_ns INTEGER,
    revoked_by TEXT NOT NULL,
    revoked_how TEXT NOT NULL,
    revoked_mac TEXT NOT NULL,
    payload BLOB NOT NULL,
    statement TEXT NOT NULL,
    signature BLOB NOT NULL,
    created_recorded INTEGER NOT NULL,
    revoked_recorded INTEGER NOT NULL
) STRICT;

CREATE INDEX standing_grant_open ON standing_grant(owner, server, tool) WHERE revoked_ns IS NULL;

CREATE TABLE grant_use(
    grant_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    approval TEXT NOT NULL UNIQUE,
    PRIMARY KEY (grant_id, number)
) STRICT;

ALTER TABLE approval ADD COLUMN calls INTEGER NOT NULL DEFAULT 1;

ALTER TABLE approval ADD COLUMN asked_until_ns INTEGER NOT NULL DEFAULT 0;
