-- What placeholders stand for. `scope` is a keyed hash of the principal; `sealed` holds type, value, server and kind.
CREATE TABLE vault_entry(
    scope  TEXT NOT NULL,
    token  TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (scope, token)
) STRICT, WITHOUT ROWID;
