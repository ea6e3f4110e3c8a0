package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"pgveil/internal/cluster"
	"pgveil/internal/secret"
	"pgveil/replication"
)

const (
	devPrefix = "pgveil-dev-" // of the directory of an ephemeral run

	replicaPatience = 60 * time.Second // for the initial copy
)

var devCommand = command{
	name:    "dev",
	summary: "start a demonstration: PostgreSQL, data, front-end, replica",
	example: `pgveil dev
pgveil dev --ephemeral --env-file pgveil.env
source pgveil.env; psql "$PGVEIL_APP_URL"`,
	flags: []cli.Flag{
		&cli.StringFlag{Name: "listen", Value: "127.0.0.1:7432", EnvVars: []string{"PGVEIL_LISTEN"}, Usage: "`ADDRESS` of the front-end; port 0 takes a free one"},
		&cli.StringFlag{Name: "http", Value: "127.0.0.1:7480", EnvVars: []string{"PGVEIL_HTTP"}, Usage: "`ADDRESS` of /healthz, /readyz and /metrics"},
		&cli.StringFlag{Name: "data", EnvVars: []string{"PGVEIL_DATA"}, Usage: "keep everything in `DIR` (default: " + defaultHome() + ")"},
		&cli.BoolFlag{Name: "ephemeral", Usage: "keep nothing: remove all files at the end"},
		&cli.StringFlag{Name: "backing", EnvVars: []string{"PGVEIL_BACKING"}, Usage: "use the PostgreSQL at `DSN` (a superuser's), not a private one"},
		&cli.StringFlag{Name: "pg-bin", EnvVars: []string{"PGVEIL_PG_BIN"}, Usage: "`DIR` with postgres and initdb (default: what is installed)"},
		&cli.StringFlag{Name: "env-file", Usage: "write connection strings to `PATH` (default: env in the data directory)"},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "install PostgreSQL if there is none"},
	},
	run: func(ctx context.Context, c *call) error {
		if c.Bool("ephemeral") && c.String("data") != "" && c.IsSet("data") {
			return usage("--ephemeral keeps nothing, --data keeps everything: give one of them")
		}
		d := &dev{
			ui: c.ui, listen: c.String("listen"), http: c.String("http"), home: c.String("data"), ephemeral: c.Bool("ephemeral"),
			dsn: c.String("backing"), pgBin: c.String("pg-bin"), envPath: c.String("env-file"), yes: c.Bool("yes"),
		}
		return d.run(ctx)
	},
}

// A dev is one run of the demonstration.
type dev struct {
	ui *ui

	// From the flags.
	listen, http, home  string
	ephemeral           bool
	dsn, pgBin, envPath string
	yes                 bool

	state   devState
	log     *slog.Logger
	backing *backing
	wire    net.Listener // the front-end's
	web     net.Listener // HTTP's
	closers []func(context.Context) error
}

// devState is what a later start must know again. It is a file of mode 0600 in the data directory.
type devState struct {
	Installation string            `json:"installation"` // marks what is ours in a server of somebody else's
	Passwords    map[string]string `json:"passwords"`    // of the demonstration's roles
	Port         int               `json:"port"`         // of the private cluster, kept while it is free
}

// defaultHome is where the demonstration lives between runs.
func defaultHome() string {
	if os.Geteuid() == 0 {
		return "/var/lib/pgveil/dev"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "pgveil", "dev")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "pgveil-dev")
	}
	return filepath.Join(home, ".local", "share", "pgveil", "dev")
}

// run starts everything, says so, and stops everything when ctx ends or a part fails.
func (d *dev) run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watchGoRun(ctx, stop)
	defer func() {
		err = errors.Join(err, d.close())
		if errors.Is(err, context.Canceled) {
			err = nil // told to stop while starting, and stopped
		}
	}()

	if err := d.openHome(ctx); err != nil {
		return err
	}
	if err := d.openListeners(); err != nil {
		return err
	}
	if err := d.openBacking(ctx); err != nil {
		return err
	}
	return d.demonstrate(ctx)
}

// onClose registers what to undo at the end, last first.
func (d *dev) onClose(f func(context.Context) error) { d.closers = append(d.closers, f) }

func (d *dev) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i](ctx))
	}
	return errors.Join(errs...)
}

// openHome takes the data directory for this process and reads its state.
func (d *dev) openHome(ctx context.Context) error {
	if d.ephemeral {
		s, err := cluster.NewScratch(ctx, devPrefix)
		if err != nil {
			return err
		}
		d.home = s.Dir
		d.onClose(s.Remove)
	} else if err := d.lockHome(ctx); err != nil {
		return err
	}
	if d.envPath == "" {
		d.envPath = filepath.Join(d.home, "env")
	}
	if err := d.openLog(); err != nil {
		return err
	}
	return d.loadState()
}

func (d *dev) lockHome(ctx context.Context) error {
	// What killed ephemeral runs left is swept here too, as nobody else may come by.
	if s, err := cluster.NewScratch(ctx, devPrefix); err == nil {
		s.Remove(ctx)
	}
	if d.home == "" {
		d.home = defaultHome()
	}
	home, err := filepath.Abs(d.home)
	if err != nil {
		return err
	}
	d.home = home
	if err := os.MkdirAll(d.home, 0o755); err != nil {
		return err
	}
	// The account that runs PostgreSQL passes through; every file with a secret in it is 0600.
	if info, err := os.Stat(d.home); err == nil && info.Mode().Perm()&0o001 == 0 {
		if err := os.Chmod(d.home, 0o711); err != nil {
			return err
		}
	}
	lock, err := cluster.Acquire(d.home)
	if errors.Is(err, cluster.ErrLocked) {
		return failed("another pgveil dev is running on %s", d.home).
			hint("connect to it (source %s), stop it, or give this one its own --data DIR, --listen and --http", filepath.Join(d.home, "env"))
	}
	if err != nil {
		return err
	}
	d.onClose(func(context.Context) error { return lock.Release() })
	return nil
}

func (d *dev) openLog() error {
	f, err := os.OpenFile(filepath.Join(d.home, "pgveil.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	d.log = slog.New(slog.NewTextHandler(f, nil))
	d.onClose(func(context.Context) error { return f.Close() })
	return nil
}

func (d *dev) loadState() error {
	b, err := os.ReadFile(d.statePath())
	if err == nil {
		if err := json.Unmarshal(b, &d.state); err != nil {
			return fmt.Errorf("%s: %w", d.statePath(), err)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.state = devState{Installation: rand.Text(), Passwords: map[string]string{}}
	return d.saveState()
}

func (d *dev) statePath() string { return filepath.Join(d.home, "state.json") }

func (d *dev) saveState() error {
	b, err := json.MarshalIndent(d.state, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(d.statePath(), append(b, '\n'))
}

// password is the role's, made up at its first use.
func (d *dev) password(role string) (secret.Bytes, error) {
	p, ok := d.state.Passwords[role]
	if !ok {
		p = rand.Text()
		d.state.Passwords[role] = p
		if err := d.saveState(); err != nil {
			return secret.Bytes{}, err
		}
	}
	return secret.New([]byte(p)), nil
}

// openListeners binds both addresses first, so that a port in use is known before anything is started.
func (d *dev) openListeners() error {
	for _, l := range []struct {
		address string
		flag    string
		to      *net.Listener
	}{{d.listen, "--listen", &d.wire}, {d.http, "--http", &d.web}} {
		listener, err := listenTCP(l.address, l.flag)
		if err != nil {
			return err
		}
		*l.to = listener
		d.onClose(func(context.Context) error {
			listener.Close() // closed already when its server has run
			return nil
		})
	}
	return nil
}

func listenTCP(address, flag string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, usage("%s: %q is not HOST:PORT", flag, address)
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, failed("listen on %s: port in use", address).hint("is another pgveil running? %s %s takes a free port", flag, "127.0.0.1:0")
	}
	if err != nil {
		return nil, misconfigured("%s: %w", flag, err)
	}
	return l, nil
}

// openBacking starts the private cluster, or checks the server that --backing names.
func (d *dev) openBacking(ctx context.Context) error {
	if d.dsn != "" {
		b, err := foreignBacking(d.dsn)
		if err != nil {
			return err
		}
		d.backing = b
		return b.check(ctx)
	}
	data, err := d.clusterDir()
	if err != nil {
		return err
	}
	major, err := cluster.Major(data)
	if err != nil {
		return err
	}
	binaries, err := d.binaries(ctx, data, major)
	if err != nil {
		return err
	}
	password, err := d.password(cluster.Superuser)
	if err != nil {
		return err
	}
	if major == 0 {
		d.ui.step("initialising PostgreSQL %s in %s", binaries.Version, data)
		if err := cluster.Init(ctx, binaries, data, password); err != nil {
			return err
		}
	}
	d.ui.step("starting PostgreSQL %s (%s)", binaries.Version, binaries.Dir)
	config := cluster.Config{Binaries: binaries, Data: data, Log: filepath.Join(d.home, "postgres.log"), Port: d.state.Port, Settings: map[string]string{
		"wal_level": "logical", "max_replication_slots": "20", "max_wal_senders": "20", "max_connections": "200",
		// A clear value that a guard refuses on a direct connection stays out of the server's log, too.
		"log_error_verbosity": "terse", "log_min_error_statement": "panic",
	}}
	if d.ephemeral {
		config.Settings["fsync"] = "off" // there is nothing to find again after a crash of the machine
	}
	c, err := cluster.Start(ctx, config)
	if errors.Is(err, cluster.ErrPortInUse) {
		config.Port = 0
		c, err = cluster.Start(ctx, config)
	}
	if err != nil {
		return err
	}
	k := &keeper{config: config, log: d.log, cluster: c}
	k.config.Port = c.Port()
	k.start()
	d.onClose(func(ctx context.Context) error {
		d.ui.step("stopping PostgreSQL")
		return k.stop(ctx)
	})
	if c.Port() != d.state.Port {
		d.state.Port = c.Port()
		if err := d.saveState(); err != nil {
			return err
		}
	}
	d.backing, err = privateBacking(c, password)
	return err
}

// binaries finds those that the data directory was made with.
func (d *dev) binaries(ctx context.Context, data string, major int) (cluster.Binaries, error) {
	if major == 0 {
		return findPostgres(ctx, d.ui, d.pgBin, 0, d.yes)
	}
	if d.pgBin == "" {
		if b, err := cluster.Find(ctx, cluster.Options{Major: major}); err == nil {
			return b, nil
		}
	}
	b, err := cluster.Find(ctx, cluster.Options{Dir: d.pgBin})
	if err != nil {
		return findPostgres(ctx, d.ui, d.pgBin, major, d.yes)
	}
	if b.Major != major {
		err := &cluster.VersionError{Data: data, Found: major, Wanted: b.Major}
		return b, failed("%w", err).hint("--pg-bin with the binaries of PostgreSQL %d, another --data DIR, or remove %s to start afresh", major, d.home)
	}
	return b, nil
}

// clusterDir is the private cluster's data directory. Where the account that runs PostgreSQL cannot pass
// through to the data directory (root's own directories), it is under /var/lib, with a link to it.
func (d *dev) clusterDir() (string, error) {
	data := filepath.Join(d.home, "pg")
	owner, err := cluster.FindOwner()
	if err != nil {
		return "", err
	}
	if owner.CanEnter(d.home) {
		return data, nil
	}
	if target, err := os.Readlink(data); err == nil {
		return target, os.MkdirAll(filepath.Dir(target), 0o755)
	}
	target := filepath.Join("/var/lib/pgveil/clusters", strings.ToLower(d.state.Installation[:12]))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", err
	}
	d.ui.warn("user %s cannot enter %s: PostgreSQL's files are in %s", owner.Name, d.home, target)
	return target, os.Symlink(target, data)
}

// demonstrate makes the demonstration's contents, serves, and returns when ctx ends or a part fails.
func (d *dev) demonstrate(ctx context.Context) error {
	if err := d.prepareServer(ctx); err != nil {
		return err
	}
	p, err := d.prepareDemo(ctx)
	if err != nil {
		return err
	}
	n := &node{control: p, only: nodeRoles, wire: d.wire, web: d.web, status: newStatus(), logger: d.log}
	if n.tls, err = devTLS(filepath.Join(d.home, "server.crt"), filepath.Join(d.home, "server.key")); err != nil {
		return err
	}
	if n.backing, err = pgconn.ParseConfig(p.databaseURL); err != nil {
		return err
	}
	d.ui.step("starting the front-end, the replication worker and HTTP")
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return n.run(ctx) })
	parts.Go(func() error {
		if err := d.awaitReplica(ctx, p); err != nil {
			return err
		}
		return d.announce(p)
	})
	err = parts.Wait()
	d.ui.step("stopped serving")
	return err
}

// awaitReplica returns when the demonstration's replica has its initial copy.
func (d *dev) awaitReplica(ctx context.Context, p *control) error {
	for began := time.Now(); ; {
		list, err := p.streamStatus(ctx, demoStream)
		if err != nil && ctx.Err() == nil && time.Since(began) > replicaPatience {
			return err
		}
		streaming := len(list) > 0
		for _, t := range list {
			switch t.Phase {
			case replication.Streaming:
			case replication.Stopped, replication.NeedsResync:
				return failed("the replica of %s.%s is %s: %s", t.SourceSchema, t.Table, t.Phase, t.Reason)
			default:
				streaming = false
			}
		}
		if streaming {
			return nil
		}
		if time.Since(began) > replicaPatience {
			return failed("the replica has no copy after %s", replicaPatience).hint("pgveil replicate status; the log is %s", filepath.Join(d.home, "pgveil.log"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// announce writes the env file and says how to connect; its last line begins with "ready".
func (d *dev) announce(p *control) error {
	env, err := d.env(p)
	if err != nil {
		return err
	}
	if err := env.write(d.envPath); err != nil {
		return misconfigured("--env-file: %w", err)
	}
	if d.ephemeral {
		d.onClose(func(context.Context) error { return os.Remove(d.envPath) })
	}
	d.ui.say("")
	d.ui.say("  source %s", d.shownEnvPath())
	d.ui.say(`  psql "$PGVEIL_APP_URL"        # role app: values      select * from customers limit 3;`)
	d.ui.say(`  psql "$PGVEIL_SUPPORT_URL"    # role support: masks`)
	d.ui.say(`  psql "$PGVEIL_ANALYST_URL"    # role analyst: tokens`)
	d.ui.say("  files in %s, HTTP on %s, Ctrl-C stops all of it", d.home, d.web.Addr())
	d.ui.say("")
	d.ui.say("ready: front-end on %s after %.1f s", d.wire.Addr(), time.Since(d.ui.began).Seconds())
	return nil
}

// env are the connection strings of the demonstration.
func (d *dev) env(p *control) (envFile, error) {
	var e envFile
	front := func(role string) (string, error) {
		password, err := d.password(role)
		if err != nil {
			return "", err
		}
		if role == d.backing.super {
			password = d.backing.password
		}
		u := url.URL{Scheme: "postgres", User: url.UserPassword(role, string(password.Expose())), Host: reachable(d.wire.Addr()), Path: "/" + shopDatabase, RawQuery: "sslmode=require"}
		return u.String(), nil
	}
	for _, v := range []struct{ name, role string }{
		{"PGVEIL_APP_URL", "app"}, {"PGVEIL_SUPPORT_URL", "support"}, {"PGVEIL_ANALYST_URL", "analyst"}, {"PGVEIL_SUPER_URL", d.backing.super},
	} {
		u, err := front(v.role)
		if err != nil {
			return nil, err
		}
		e.set(v.name, u)
	}
	owner, err := d.password(ownerRole)
	if err != nil {
		return nil, err
	}
	e.set("PGVEIL_SHOP_DIRECT_URL", d.backing.url(ownerRole, owner, shopDatabase))
	e.set("PGVEIL_CRM_DIRECT_URL", d.backing.url(ownerRole, owner, crmDatabase))
	e.set("PGVEIL_SUPER_DIRECT_URL", d.backing.url(d.backing.super, d.backing.password, shopDatabase))
	e.set("PGVEIL_DATABASE_URL", p.databaseURL)
	e.set("PGVEIL_KEK", p.kek)
	e.set("PGVEIL_AUDIT_CHECKPOINTS", p.checkpoints)
	e.set("PGVEIL_HTTP_URL", "http://"+reachable(d.web.Addr()))
	return e, nil
}

// reachable is the address as a client on this machine dials it: a listener on all interfaces is on 127.0.0.1 too.
func reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return a.String()
}

// watchGoRun ends the run when `go run` is killed: it does not pass SIGTERM on, and what it started would
// stay behind. The goroutine ends with ctx.
func watchGoRun(ctx context.Context, stop context.CancelCauseFunc) {
	exe, err := os.Executable()
	if err != nil || runtime.GOOS == "windows" || !strings.Contains(exe, "go-build") || filepath.Base(filepath.Dir(exe)) != "exe" {
		return
	}
	parent := os.Getppid()
	go func() {
		for ctx.Err() == nil {
			if os.Getppid() != parent {
				stop(errors.New("go run (process " + strconv.Itoa(parent) + ") is gone"))
			}
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
}

// shownEnvPath is the env file's path as one word for a shell.
func (d *dev) shownEnvPath() string {
	if strings.ContainsAny(d.envPath, " \t'\"$&;()<>|*?[]#~`\\") {
		return shellQuote(d.envPath)
	}
	return d.envPath
}
