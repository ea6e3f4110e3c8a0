package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"pgveil/engine"
)

// maxNameLen is PostgreSQL's own limit for names (NAMEDATALEN - 1).
const maxNameLen = 63

// CreatePolicy makes a policy with its first key version. p.ID is ignored and made here. A policy the engine refuses is
// the engine's *PolicyError; a name that is taken is an *Error with CodeExists.
func (s *Store) CreatePolicy(ctx context.Context, p engine.Policy) error {
	if err := checkNewPolicy(p); err != nil {
		return err
	}
	options, err := json.Marshal(p.Options)
	if err != nil {
		return fmt.Errorf("options of policy %q: %w", p.Name, err)
	}
	return s.change(ctx, fmt.Sprintf("create policy %q", p.Name), func(ctx context.Context, c *change) error {
		_, err := c.policy(ctx, p.Name)
		var known *Error
		switch {
		case err == nil:
			return policyExists(p.Name)
		case !errors.As(err, &known):
			return err
		}
		r := policyRow{
			ID: newID(), Name: p.Name, Format: p.Format, Options: string(options), AcceptSmallDomain: p.AcceptSmallDomain,
			Active: 1, ColumnVersion: 1,
		}
		_, err = c.Exec(ctx, `INSERT INTO pgveil.policy (id, name, format, options, accept_small_domain, active, column_version, mac)
			VALUES ($1::text::uuid, $2, $3, $4::text::json, $5, $6, $7, $8)`,
			r.ID, r.Name, r.Format, r.Options, r.AcceptSmallDomain, r.Active, r.ColumnVersion, c.sign(r))
		if err != nil {
			return err
		}
		k, err := c.newKey(ctx, r.ID, 1)
		if err != nil {
			return err
		}
		_, err = compile(c.sealer, r, []keyRow{k})
		return err
	})
}

// CheckPolicy returns the error that CreatePolicy would refuse p with, and changes nothing.
func (s *Store) CheckPolicy(ctx context.Context, p engine.Policy) error {
	if err := checkNewPolicy(p); err != nil {
		return err
	}
	policies, err := s.Policies(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(policies, func(i PolicyInfo) bool { return i.Name == p.Name }) {
		return policyExists(p.Name)
	}
	return nil
}

func checkNewPolicy(p engine.Policy) error {
	if err := checkPolicyName(p.Name); err != nil {
		return err
	}
	return p.Check()
}

func policyExists(name string) error {
	return &Error{CodeExists, fmt.Sprintf("policy %q exists", name), "choose another name, or drop it first"}
}

// checkPolicyName allows what can be written in SQL as 'name' and on a command line without thought.
func checkPolicyName(name string) error {
	ok := name != "" && len(name) <= maxNameLen && name[0] >= 'a' && name[0] <= 'z'
	for _, r := range name {
		ok = ok && strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_-", r)
	}
	if !ok {
		return invalid("use a to z, 0 to 9, _ and -, a letter first, at most 63 of them", "%q cannot be the name of a policy", name)
	}
	return nil
}

// DropPolicy removes a policy, its grants and all its keys: tokens of it can never be turned back. It is refused with
// CodeInUse while a protected column uses the policy.
func (s *Store) DropPolicy(ctx context.Context, name string) error {
	return s.change(ctx, fmt.Sprintf("drop policy %q", name), func(ctx context.Context, c *change) error {
		r, err := c.policy(ctx, name)
		if err != nil {
			return err
		}
		var columns int
		if err := c.QueryRow(ctx, `SELECT count(*) FROM pgveil.protected_column WHERE policy_id = $1::text::uuid`, r.ID).Scan(&columns); err != nil {
			return err
		}
		if columns > 0 {
			return &Error{CodeInUse, fmt.Sprintf("policy %q protects %d column(s)", name, columns), "release them first: `pgveil column list` shows them"}
		}
		for _, table := range []string{"role_grant", "key"} {
			if _, err := c.Exec(ctx, `DELETE FROM pgveil.`+table+` WHERE policy_id = $1::text::uuid`, r.ID); err != nil {
				return err
			}
		}
		if _, err := c.Exec(ctx, `DELETE FROM pgveil.policy WHERE id = $1::text::uuid`, r.ID); err != nil {
			return err
		}
		for key := range c.manifest {
			if strings.HasPrefix(key, join("key", r.ID)) || strings.HasPrefix(key, "grant\x00") && strings.HasSuffix(key, "\x00"+r.ID) {
				delete(c.manifest, key)
			}
		}
		c.forget("policy", r.ID)
		c.dirty = true // also for a row that was never ours
		return nil
	})
}

// Rotate makes a new key version, which standalone tokenize writes from now on, and returns its number. Protected columns
// stay at theirs (Policy.ColumnVersion), or equality in them would break; tokens of every version can be turned back.
// A policy whose format has no room for another version is the engine's *PolicyError.
func (s *Store) Rotate(ctx context.Context, policy string) (version int, err error) {
	err = s.change(ctx, fmt.Sprintf("rotate policy %q", policy), func(ctx context.Context, c *change) error {
		r, err := c.soundPolicy(ctx, policy)
		if err != nil {
			return err
		}
		keys, err := c.keys(ctx, r)
		if err != nil {
			return err
		}
		for i, k := range keys {
			version = max(version, k.Version)
			if k.State == "active" {
				keys[i].State = "decrypt_only"
				_, err := c.Exec(ctx, `UPDATE pgveil.key SET state = $3, mac = $4 WHERE policy_id = $1::text::uuid AND version = $2`,
					r.ID, k.Version, keys[i].State, c.sign(keys[i]))
				if err != nil {
					return err
				}
			}
		}
		version++
		k, err := c.newKey(ctx, r.ID, version)
		if err != nil {
			return err
		}
		r.Active = version
		if _, err := compile(c.sealer, r, append(keys, k)); err != nil {
			return err
		}
		_, err = c.Exec(ctx, `UPDATE pgveil.policy SET active = $2, mac = $3 WHERE id = $1::text::uuid`, r.ID, r.Active, c.sign(r))
		return err
	})
	return version, err
}

// newKey inserts an active key version.
func (c *change) newKey(ctx context.Context, policyID string, version int) (keyRow, error) {
	blob, err := c.sealer.NewDEK(policyID, version)
	if err != nil {
		return keyRow{}, err
	}
	dek, err := c.sealer.OpenDEK(policyID, version, blob)
	if err != nil {
		return keyRow{}, err
	}
	k := keyRow{PolicyID: policyID, Version: version, State: "active", Wrapped: blob, CheckValue: checkValue(c.sealer, dek.Expose())}
	_, err = c.Exec(ctx, `INSERT INTO pgveil.key (policy_id, version, state, wrapped, check_value, mac) VALUES ($1::text::uuid, $2, $3, $4, $5, $6)`,
		k.PolicyID, k.Version, k.State, k.Wrapped, k.CheckValue, c.sign(k))
	return k, err
}

// checkValue tells two DEKs apart: 32 bits of a MAC under the root key, so that it says nothing to who has not got that.
func checkValue(s Sealer, dek []byte) string {
	return fmt.Sprintf("%x", s.MAC("dek check value", dek)[:4])
}

// keys reads a policy's key versions, all of which must authenticate.
func (c *change) keys(ctx context.Context, p policyRow) ([]keyRow, error) {
	rows, err := c.Query(ctx, `SELECT policy_id::text, version, state, wrapped, check_value, mac
		FROM pgveil.key WHERE policy_id = $1::text::uuid ORDER BY version`, p.ID)
	if err != nil {
		return nil, err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[keyRow])
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if err := c.believe(k, "key version "+strconv.Itoa(k.Version)+" of policy "+strconv.Quote(p.Name)); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
