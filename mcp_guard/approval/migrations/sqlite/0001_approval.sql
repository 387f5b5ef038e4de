CREATE TABLE approval(
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    round INTEGER NOT NULL,
    owner TEXT NOT NULL,
    lookup TEXT NOT NULL,
    action_digest TEXT NOT NULL,
    nonce TEXT NOT NULL,
    call_id TEXT NOT NULL,
    session TEXT NOT NULL,
    server TEXT NOT NULL,
    tool TEXT NOT NULL,
    risk TEXT NOT NULL,
    rule TEXT NOT NULL,
    policy_digest TEXT NOT NULL,
    min_assurance INTEGER NOT NULL,
    run TEXT NOT NULL,
    holder TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    use_within_ns INTEGER NOT NULL,
    use_by_ns INTEGER,
    ended_ns INTEGER,
    decided_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    exec_id TEXT,
    sent INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    view TEXT NOT NULL,
    payload BLOB NOT NULL,
    result BLOB
) STRICT;

CREATE UNIQUE INDEX approval_live ON approval(owner, lookup) WHERE state IN ('pending', 'approved', 'executing');

CREATE INDEX approval_open ON approval(state, holder) WHERE state IN ('pending', 'approved', 'executing');

CREATE INDEX approval_lookup ON approval(owner, lookup, created_ns);

CREATE TABLE decision(
    seq INTEGER PRIMARY KEY,
    approval TEXT NOT NULL REFERENCES approval(id),
    round INTEGER NOT NULL,
    statement TEXT NOT NULL,
    signature BLOB NOT NULL
) STRICT;

CREATE INDEX decision_of ON decision(approval, seq);

CREATE TABLE event(
    seq INTEGER PRIMARY KEY,
    approval TEXT NOT NULL REFERENCES approval(id),
    at_ns INTEGER NOT NULL,
    transition TEXT NOT NULL,
    old TEXT NOT NULL,
    new TEXT NOT NULL,
    actor TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX event_of ON event(approval, seq);

CREATE TABLE outbox(
    event INTEGER PRIMARY KEY REFERENCES event(seq),
    approval TEXT NOT NULL REFERENCES approval(id),
    sent_ns INTEGER
) STRICT;

CREATE INDEX outbox_open ON outbox(approval) WHERE sent_ns IS NULL;

CREATE TABLE reviewer(
    name TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    added_by TEXT NOT NULL,
    mac TEXT NOT NULL,
    recorded_ns INTEGER
) STRICT;

CREATE TABLE approval_clock(
    one INTEGER PRIMARY KEY CHECK (one = 1),
    high_ns INTEGER NOT NULL
) STRICT;

INSERT INTO approval_clock VALUES (1, 0);
