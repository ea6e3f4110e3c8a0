package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/scram"
	"pgveil/internal/secret"
)

// roleSQL creates a login role or changes the password of one there is, and only that. The verifier comes in through a
// setting of this transaction, for the text of CREATE and ALTER ROLE would stand in the server's log where log_statement
// is ddl, or where it fails; so would a CONTEXT line, which raising the error again leaves out.
const roleSQL = `DO $pgveil$
BEGIN
	EXECUTE pg_catalog.format(
		CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = pg_catalog.current_setting('pgveil.role'))
		THEN 'ALTER ROLE %I PASSWORD %L' ELSE 'CREATE ROLE %I LOGIN PASSWORD %L' END,
		pg_catalog.current_setting('pgveil.role'), pg_catalog.current_setting('pgveil.verifier'));
	PERFORM pg_catalog.set_config('pgveil.verifier', '', true);
EXCEPTION WHEN OTHERS THEN
	RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM;
END $pgveil$`

// AddRole gives a role a password: on the backing cluster, where it is created with LOGIN if there is none of that name
// and is otherwise kept as it is, and as a verifier in the catalog, so that it can log in through the front-end.
// The password itself is neither sent nor stored. Adding a role again changes its password, and takes the login by
// certificate away.
func (s *Store) AddRole(ctx context.Context, name string, password secret.Bytes) error {
	if password.Len() == 0 {
		return invalid("give it on standard input with --password-stdin", "role %q needs a password", name)
	}
	return s.addRole(ctx, name, password, false)
}

// AddCertificateRole is AddRole for a role that may also log in by a client certificate of its name. The ClientKey that
// the backing cluster asks for then is kept, sealed under the root key. Without a password the role gets one that nobody knows.
func (s *Store) AddCertificateRole(ctx context.Context, name string, password secret.Bytes) error {
	if password.Len() == 0 {
		password = secret.New([]byte(rand.Text()))
	}
	return s.addRole(ctx, name, password, true)
}

func (s *Store) addRole(ctx context.Context, name string, password secret.Bytes, certificate bool) error {
	if err := checkRoleName(name); err != nil {
		return err
	}
	keys, err := scram.NewKeys(password.Expose(), 0)
	if err != nil {
		return invalid("use printable characters", "the password of role %q cannot be used with SCRAM", name)
	}
	text := keys.Verifier.Exposed()
	// PostgreSQL takes a malformed verifier for a password in the clear.
	if _, err := scram.ParseVerifier(text); err != nil {
		return fmt.Errorf("add role %q: the verifier is not well formed", name)
	}
	row, err := s.roleRow(name, keys, certificate)
	if err != nil {
		return err
	}
	return s.change(ctx, fmt.Sprintf("add role %q", name), func(ctx context.Context, c *change) error {
		var own bool
		if err := c.QueryRow(ctx, `SELECT $1 = session_user`, name).Scan(&own); err != nil {
			return err
		}
		if own {
			return invalid("clients log in as roles of their own", "%q is the role pgveil itself logs in as: a new password would lock it out", name)
		}
		if _, err := c.Exec(ctx, `SELECT set_config('pgveil.role', $1, true), set_config('pgveil.verifier', $2, true)`, name, text); err != nil {
			return err
		}
		if _, err := c.Exec(ctx, roleSQL); err != nil {
			return err
		}
		return c.storeRole(ctx, row)
	})
}

// EnrolRole lets a role that has a password on the backing cluster already log in through the front-end, with the keys
// that a login there was found to need. certificate keeps the ClientKey, as AddCertificateRole does.
func (s *Store) EnrolRole(ctx context.Context, name string, keys scram.Keys, certificate bool) error {
	if err := checkRoleName(name); err != nil {
		return err
	}
	if !keys.Match() {
		return fmt.Errorf("enrol role %q: the keys do not belong together", name)
	}
	row, err := s.roleRow(name, keys, certificate)
	if err != nil {
		return err
	}
	return s.change(ctx, fmt.Sprintf("enrol role %q", name), func(ctx context.Context, c *change) error { return c.storeRole(ctx, row) })
}

// roleRow makes the row of a role, not signed yet.
func (s *Store) roleRow(name string, keys scram.Keys, certificate bool) (r roleRow, err error) {
	r = roleRow{Name: name, Verifier: keys.Verifier.Exposed()}
	if certificate {
		if r.ClientKey, err = s.sealer.Seal(clientKeyPurpose(name), keys.ClientKey.Expose()); err != nil {
			return r, fmt.Errorf("seal the key of role %q: %w", name, err)
		}
	}
	return r, nil
}

func clientKeyPurpose(role string) string { return "client key of role " + role }

// ImportRole lets a role that has a password on the backing cluster already log in through the front-end. verifier is
// what pg_authid.rolpassword holds; the role itself is not touched, so this is the way for a superuser's role, whose
// password the service role may not set.
func (s *Store) ImportRole(ctx context.Context, name, verifier string) error {
	if err := checkRoleName(name); err != nil {
		return err
	}
	if _, err := scram.ParseVerifier(verifier); err != nil {
		return invalid("it is what pg_authid.rolpassword holds for a role whose password was set under password_encryption = scram-sha-256",
			"the verifier of role %q is not a SCRAM-SHA-256 verifier", name)
	}
	return s.change(ctx, fmt.Sprintf("import role %q", name), func(ctx context.Context, c *change) error {
		if err := c.mustExist(ctx, name); err != nil {
			return err
		}
		return c.storeRole(ctx, roleRow{Name: name, Verifier: verifier})
	})
}

func (c *change) storeRole(ctx context.Context, r roleRow) error {
	_, err := c.Exec(ctx, `INSERT INTO pgveil.role (name, verifier, client_key, mac) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET verifier = excluded.verifier, client_key = excluded.client_key, mac = excluded.mac`,
		r.Name, r.Verifier, r.ClientKey, c.sign(r))
	return err
}

// checkRoleName refuses what PostgreSQL would refuse or cut short; a cut name would be another role's.
func checkRoleName(name string) error {
	switch {
	case name == "", len(name) > maxNameLen, strings.ContainsRune(name, 0):
		return invalid("a role's name has 1 to 63 bytes", "%q cannot be the name of a role", name)
	case strings.HasPrefix(name, "pg_"), name == "public", name == "none":
		return invalid("PostgreSQL keeps this name for itself", "%q cannot be the name of a role", name)
	}
	return nil
}

// mustExist asks the backing cluster, for a grant to a misspelled role would wait for whoever takes the name.
func (c *change) mustExist(ctx context.Context, role string) error {
	var exists bool
	err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&exists)
	if err == nil && !exists {
		return &Error{CodeUnknown, fmt.Sprintf("unknown role %q", role), "make it with `pgveil role add`, or with CREATE ROLE if it is a group"}
	}
	return err
}

// Grant allows a role, and those who inherit from it, an action under a policy. Granting twice is granting once.
func (s *Store) Grant(ctx context.Context, role string, action Action, policy string) error {
	if err := checkAction(action); err != nil {
		return err
	}
	return s.change(ctx, fmt.Sprintf("grant %s on %q to %q", action, policy, role), func(ctx context.Context, c *change) error {
		p, err := c.soundPolicy(ctx, policy)
		if err != nil {
			return err
		}
		if err := c.mustExist(ctx, role); err != nil {
			return err
		}
		r := grantRow{Role: role, Action: string(action), PolicyID: p.ID}
		err = c.QueryRow(ctx, `SELECT mac FROM pgveil.role_grant WHERE role = $1 AND action = $2 AND policy_id = $3::text::uuid`,
			r.Role, r.Action, r.PolicyID).Scan(&r.MAC)
		if err == nil && c.manifest.judge(c.sealer, r) == intact {
			return nil
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		_, err = c.Exec(ctx, `INSERT INTO pgveil.role_grant (role, action, policy_id, mac) VALUES ($1, $2, $3::text::uuid, $4)
			ON CONFLICT (role, action, policy_id) DO UPDATE SET mac = excluded.mac`, r.Role, r.Action, r.PolicyID, c.sign(r))
		return err
	})
}

// Revoke takes a grant back. One that was never made is an *Error with CodeUnknown; what a role inherits from another is
// revoked from that one. A row put there or altered around pgveil is removed by it too.
func (s *Store) Revoke(ctx context.Context, role string, action Action, policy string) error {
	if err := checkAction(action); err != nil {
		return err
	}
	return s.change(ctx, fmt.Sprintf("revoke %s on %q from %q", action, policy, role), func(ctx context.Context, c *change) error {
		p, err := c.policy(ctx, policy)
		if err != nil {
			return err
		}
		tag, err := c.Exec(ctx, `DELETE FROM pgveil.role_grant WHERE role = $1 AND action = $2 AND policy_id = $3::text::uuid`, role, string(action), p.ID)
		if err != nil {
			return err
		}
		if known := c.forget("grant", role, string(action), p.ID); !known && tag.RowsAffected() == 0 {
			return &Error{CodeUnknown, fmt.Sprintf("role %q holds no %s on policy %q by name", role, action, policy),
				"`pgveil role list` shows the grants; one that is inherited is revoked from the role it was made to"}
		}
		c.dirty = true
		return nil
	})
}

func checkAction(a Action) error {
	if !slices.Contains(Actions(), a) {
		return invalid("actions are tokenize, reveal, mask and token", "%q is not an action", string(a))
	}
	return nil
}
