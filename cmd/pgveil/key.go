package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"pgveil/catalog"
	"pgveil/keyring"
)

var keyCommands = []command{
	{
		name:    "key init",
		summary: "make the KEK's file if it is missing, and the installation's root key",
		example: "PGVEIL_KEK=file:/etc/pgveil/kek pgveil key init\npgveil key init",
		run:     keyInit,
	},
	{
		name:    "key list",
		summary: "list the key versions of all policies",
		example: "pgveil key list -o json",
		run:     withControl(keyList),
	},
	{
		name: "key rotate", args: "POLICY", min: 1, max: 1,
		summary: "make a new key version; columns stay at theirs",
		example: "pgveil key rotate ssn --yes",
		flags:   []cli.Flag{yesFlag},
		run:     withControl(keyRotate),
	},
}

var yesFlag = &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}

// sure asks before something that cannot be taken back, where somebody is there to answer.
func (c *call) sure(question string) error {
	if c.Bool("yes") || !c.ui.interactive() || c.ui.consent(question) {
		return nil
	}
	return failed("not confirmed, nothing was changed")
}

func keyInit(ctx context.Context, c *call) error {
	s, err := loadSettings()
	if err != nil {
		return err
	}
	made, err := s.initKeys(ctx)
	if err != nil {
		return err
	}
	if made {
		c.ui.warn("keep a copy of the KEK (%s) away from the database: without it every token is lost", s.kek)
	}
	t := newTable("kek", "root_key")
	t.add(s.kek, map[bool]string{true: "created", false: "exists"}[made])
	return c.ui.print(t)
}

// initKeys makes what is missing of the KEK's file and the root key; made says that the root key is new.
// An existing root key is checked against the KEK, and a KEK is made only where there is no root key yet: a new
// KEK would not open the old root key.
func (s settings) initKeys(ctx context.Context) (made bool, err error) {
	if err := s.needKEK(); err != nil {
		return false, err
	}
	_, err = catalog.RootKey(ctx, s.databaseURL)
	if err == nil {
		_, err := s.openRing(ctx)
		return false, err
	}
	if !errors.Is(err, catalog.ErrNotInitialized) {
		return false, err
	}
	if path, ok := strings.CutPrefix(s.kek, "file:"); ok {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := keyring.CreateFile(path); err != nil {
				return false, err
			}
		}
	}
	kek, err := keyring.OpenKEK(s.kek)
	if err != nil {
		return false, err
	}
	blob, ring, err := keyring.Init(ctx, kek)
	if err != nil {
		return false, err
	}
	return true, catalog.Initialize(ctx, s.databaseURL, blob, ring)
}

func keyList(ctx context.Context, c *call, p *control) error {
	keys, err := p.store.Keys(ctx)
	if err != nil {
		return err
	}
	t := newTable("policy", "version", "state", "in_columns", "check_value", "created")
	for _, k := range keys {
		t.add(k.Policy, k.Version, k.State, k.InColumns, k.CheckValue, k.Created)
	}
	return c.ui.print(t)
}

func keyRotate(ctx context.Context, c *call, p *control) error {
	policy := c.arg(0)
	if err := c.sure("Make a new key version for policy " + policy + "?"); err != nil {
		return err
	}
	var version int
	err := p.audited(ctx, "key rotate", policy, "", func() (err error) {
		version, err = p.store.Rotate(ctx, policy)
		return err
	})
	if err != nil {
		return err
	}
	t := newTable("policy", "version", "state")
	t.add(policy, version, "active")
	return c.ui.print(t)
}
