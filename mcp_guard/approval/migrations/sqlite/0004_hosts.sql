CREATE TABLE asked_client(
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    channel TEXT NOT NULL CHECK (channel IN ('form', 'url')),
    unanswered INTEGER NOT NULL,
    asked_ns INTEGER NOT NULL,
    open INTEGER NOT NULL CHECK (open IN (0, 1)),
    answered_ns INTEGER,
    PRIMARY KEY (name, version, channel)
) STRICT;
