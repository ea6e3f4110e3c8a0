-- Logins that yield no ClientKey, by certificate, use one that is kept: sealed under the root key, and bound to the role's name.

ALTER TABLE pgveil.role ADD COLUMN client_key bytea; -- NULL: the role cannot log in by certificate

CREATE OR REPLACE VIEW pgveil.roles AS
    SELECT name, created_at, client_key IS NOT NULL AS certificate FROM pgveil.role ORDER BY name OFFSET 0;
