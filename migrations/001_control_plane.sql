-- The control plane: what is protected, under which keys, for whom.
--
-- Base tables are named in the singular and belong to the service role alone. The plural views are for people: they
-- hold no wrapped key, no verifier and no connection string, and they cannot be written through (OFFSET 0).
-- The mac of a row covers every column of it that decides anything; the epoch's mac covers the list of all rows.
-- A row changed by hand therefore loses its effect, see catalog/.

CREATE TABLE pgveil.root_key (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    wrapped     bytea NOT NULL,                      -- the root key under the KEK, with what is needed to recognise the KEK
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now()
);

CREATE TABLE pgveil.epoch (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    value       bigint NOT NULL,                     -- grows by one with every change
    manifest    bytea NOT NULL,                      -- JSON: every deciding row, by kind and key, with its mac
    mac         bytea NOT NULL
);

CREATE TABLE pgveil.policy (
    id                   uuid PRIMARY KEY,
    name                 text NOT NULL UNIQUE,
    format               text NOT NULL,
    options              json NOT NULL,              -- json, not jsonb: the text is what the mac covers
    accept_small_domain  boolean NOT NULL,
    active               integer NOT NULL,           -- key version that tokenize() writes
    column_version       integer NOT NULL,           -- key version of all protected columns of the policy
    created_at           timestamptz NOT NULL DEFAULT pg_catalog.now(),
    mac                  bytea NOT NULL
);

CREATE TABLE pgveil.key (
    policy_id    uuid NOT NULL REFERENCES pgveil.policy (id),
    version      integer NOT NULL CHECK (version > 0),
    state        text NOT NULL CHECK (state IN ('pre_active', 'active', 'decrypt_only', 'suspended', 'compromised', 'destroyed')),
    wrapped      bytea NOT NULL,
    check_value  text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    mac          bytea NOT NULL,
    PRIMARY KEY (policy_id, version)
);
CREATE UNIQUE INDEX key_one_active ON pgveil.key (policy_id) WHERE state = 'active';

CREATE TABLE pgveil.protected_column (
    id             uuid PRIMARY KEY,
    database_name  text NOT NULL,
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    column_name    text NOT NULL,
    relid          oid NOT NULL,                     -- in database_name's pg_class, when the column was protected
    attnum         smallint NOT NULL,
    policy_id      uuid NOT NULL REFERENCES pgveil.policy (id),
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    mac            bytea NOT NULL
);

CREATE TABLE pgveil.role (
    name        text PRIMARY KEY,
    verifier    text NOT NULL,                       -- SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    mac         bytea NOT NULL
);

CREATE TABLE pgveil.role_grant (
    role        text NOT NULL,
    action      text NOT NULL CHECK (action IN ('tokenize', 'reveal', 'mask', 'token')),
    policy_id   uuid NOT NULL REFERENCES pgveil.policy (id),
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    mac         bytea NOT NULL,
    PRIMARY KEY (role, action, policy_id)
);

CREATE TABLE pgveil.replica (
    name           text PRIMARY KEY,
    source         bytea NOT NULL,                   -- the source's connection string, sealed under the root key
    database_name  text NOT NULL,
    schema_name    text NOT NULL,
    tables         text[] NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    mac            bytea NOT NULL
);

CREATE VIEW pgveil.policies AS
    SELECT name, format, options, accept_small_domain, active AS active_version, column_version, created_at
    FROM pgveil.policy ORDER BY name OFFSET 0;

CREATE VIEW pgveil.keys AS
    SELECT p.name AS policy, k.version, k.state, k.check_value, k.version = p.column_version AS in_columns, k.created_at
    FROM pgveil.key k JOIN pgveil.policy p ON p.id = k.policy_id ORDER BY p.name, k.version OFFSET 0;

CREATE VIEW pgveil.protected_columns AS
    SELECT c.database_name, c.schema_name, c.table_name, c.column_name, p.name AS policy, c.created_at
    FROM pgveil.protected_column c JOIN pgveil.policy p ON p.id = c.policy_id ORDER BY 1, 2, 3, 4 OFFSET 0;

CREATE VIEW pgveil.roles AS
    SELECT name, created_at FROM pgveil.role ORDER BY name OFFSET 0;

CREATE VIEW pgveil.role_grants AS
    SELECT g.role, g.action, p.name AS policy, g.created_at
    FROM pgveil.role_grant g JOIN pgveil.policy p ON p.id = g.policy_id ORDER BY 1, 3, 2 OFFSET 0;

CREATE VIEW pgveil.replicas AS
    SELECT name, database_name, schema_name, tables, created_at FROM pgveil.replica ORDER BY name OFFSET 0;

-- PUBLIC has no privilege on a new schema, table or view, unless this database's default privileges say otherwise.
REVOKE ALL ON SCHEMA pgveil FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA pgveil FROM PUBLIC;
