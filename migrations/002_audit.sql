-- The audit log: one hash chain per node, see audit/. Rows are only ever added.

CREATE TABLE pgveil.audit (
    node         text NOT NULL,
    seq          bigint NOT NULL CHECK (seq > 0),    -- 1, 2, 3 … without a gap within a node
    at           timestamptz NOT NULL,
    kind         text NOT NULL,                      -- intent, completion, admin
    session      bigint NOT NULL,
    role         text NOT NULL,
    addr         text NOT NULL,
    database     text NOT NULL,
    action       text NOT NULL,
    outcome      text NOT NULL,
    fingerprint  text NOT NULL,
    reason       text NOT NULL,
    policies     text[] NOT NULL,
    columns      text[] NOT NULL,                    -- schema.table.column
    rows         bigint NOT NULL,
    prev         bytea NOT NULL,
    hash         bytea NOT NULL,
    PRIMARY KEY (node, seq)
);
CREATE INDEX audit_at ON pgveil.audit (at);

CREATE VIEW pgveil.audits AS
    SELECT at, node, seq, kind, session, role, addr, database, action, outcome, fingerprint, reason, policies, columns, rows
    FROM pgveil.audit ORDER BY at, node, seq OFFSET 0;

REVOKE ALL ON ALL TABLES IN SCHEMA pgveil FROM PUBLIC;
