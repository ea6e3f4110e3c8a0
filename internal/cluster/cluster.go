// Package cluster runs a private PostgreSQL: it finds or fetches the binaries, initialises a data directory,
// starts the server and stops it again.
//
// Start with Find, Init and Start. The server runs in the foreground as a child of this process; on Linux it
// is told to shut down when this process dies, however it dies. PostgreSQL refuses to run as root, so root
// drops to an account that may (see Owner).
//
// It is for demonstrations, development and tests. It tunes nothing, backs up nothing and upgrades nothing.
package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/secret"
)

// Superuser is the role that initdb creates and owns the cluster.
const Superuser = "postgres"

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second // for a fast shutdown; an immediate one follows
	pollInterval = 20 * time.Millisecond
)

// ErrPortInUse says that another process listens on the configured port.
var ErrPortInUse = errors.New("port in use")

// Config describes one server. Binaries, Data and Log are required.
type Config struct {
	Binaries Binaries

	// Data is the data directory, made by Init.
	Data string

	// Log is the file that receives the server's log; it is appended to.
	Log string

	// Port on 127.0.0.1; 0 chooses a free one.
	Port int

	// Settings are given to the server by -c, over what Start sets itself.
	Settings map[string]string
}

// A Cluster is one running server. Its methods may be called concurrently.
type Cluster struct {
	config Config
	socket string // directory of the unix socket
	port   int

	process *os.Process
	done    chan struct{} // closed when the postmaster has ended
}

// A VersionError says that a data directory belongs to another major version than the binaries.
type VersionError struct {
	Data          string
	Found, Wanted int // major version of the directory; of the binaries
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("data directory %s was made by PostgreSQL %d, the binaries are PostgreSQL %d", e.Data, e.Found, e.Wanted)
}

// Major returns the major version that made the data directory, or 0 when dir holds no cluster.
func Major(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(b))
	major, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s: not a PostgreSQL version", filepath.Join(dir, "PG_VERSION"))
	}
	return major, nil
}

// Init makes a cluster in dir, which must be absent or empty, whose superuser has the password.
// The cluster appears in dir whole or not at all, even if this process is killed: it is made beside it first.
//
// Logins over TCP need the password (SCRAM-SHA-256); over the unix socket the file system decides, because
// only the server's own account and root can enter the socket's directory.
func Init(ctx context.Context, b Binaries, dir string, password secret.Bytes) error {
	owner, err := FindOwner()
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("initialise %s: directory is not empty", dir)
	}
	left, _ := filepath.Glob(dir + ".new*")
	for _, old := range left {
		os.RemoveAll(old) // of a killed process; what initdb started may still be writing there, so that the next one has another name
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".new")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made) // it is not there any more if all went well
	if err := owner.Own(made); err != nil {
		return err
	}

	// Beside the data directory, where it is found again if this process is killed now.
	pwfile, err := os.CreateTemp(filepath.Dir(dir), ".pgveil-pw-")
	if err != nil {
		return err
	}
	defer os.Remove(pwfile.Name())
	_, werr := pwfile.Write(append(slices.Clone(password.Expose()), '\n'))
	if err := errors.Join(werr, pwfile.Close(), owner.Own(pwfile.Name())); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}

	cmd := exec.CommandContext(ctx, b.path("initdb"), "-D", made, "-U", Superuser, "-E", "UTF8",
		"--locale=C", "--auth-host=scram-sha-256", "--auth-local=trust", "--pwfile="+pwfile.Name(), "--no-sync", "--no-instructions")
	if b.Major < 14 {
		cmd.Args = slices.DeleteFunc(cmd.Args, func(a string) bool { return a == "--no-instructions" })
	}
	owner.prepare(cmd)
	out, err := runTied(cmd)
	if err != nil {
		return fmt.Errorf("initdb %s: %w: %s", dir, err, lastLine(out))
	}
	return os.Rename(made, dir) // an empty directory gives way
}

// Start starts the server and returns when it accepts connections. A server that an earlier, killed process
// left running on the same data directory is stopped first. The caller must call Stop; ctx bounds the start only.
//
// The error is a *VersionError when Data belongs to another major version, and wraps ErrPortInUse when
// something else listens on a port the caller chose.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	owner, err := FindOwner()
	if err != nil {
		return nil, err
	}
	major, err := Major(config.Data)
	if err != nil {
		return nil, err
	}
	if major == 0 {
		return nil, fmt.Errorf("%s holds no PostgreSQL cluster", config.Data)
	}
	if major != config.Binaries.Major {
		return nil, &VersionError{Data: config.Data, Found: major, Wanted: config.Binaries.Major}
	}
	if err := StopStray(ctx, config.Data); err != nil {
		return nil, err
	}
	socket, err := socketDir(config.Data, owner)
	if err != nil {
		return nil, err
	}

	for attempt := 1; ; attempt++ {
		c := &Cluster{config: config, socket: socket, port: config.Port, done: make(chan struct{})}
		if c.port == 0 {
			if c.port, err = freePort(); err != nil {
				return nil, err
			}
		}
		err := c.start(ctx, owner)
		if err == nil {
			return c, nil
		}
		c.Stop(context.WithoutCancel(ctx))
		// Between freePort and bind another process may have taken the port.
		if errors.Is(err, ErrPortInUse) && config.Port == 0 && attempt < 5 {
			continue
		}
		// The children of a server that was killed hold its lock file for a moment after it.
		if stillLocked(config.Data) && attempt < 50 && ctx.Err() == nil {
			time.Sleep(200 * time.Millisecond)
			if StopStray(ctx, config.Data) == nil {
				continue
			}
		}
		return nil, fmt.Errorf("start PostgreSQL in %s: %w", config.Data, err)
	}
}

// stillLocked tells whether a lock file stands in the data directory: of the server that just failed to start beside it none is left.
func stillLocked(data string) bool {
	_, err := os.Stat(filepath.Join(data, "postmaster.pid"))
	return err == nil
}

func (c *Cluster) start(ctx context.Context, owner *Owner) error {
	if c.config.Port != 0 && portTaken(c.port) {
		return fmt.Errorf("127.0.0.1:%d: %w", c.port, ErrPortInUse)
	}
	log, err := os.OpenFile(c.config.Log, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	from, err := log.Seek(0, 2)
	if err != nil {
		return err
	}

	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(c.port),
		"unix_socket_directories": c.socket,
		"unix_socket_permissions": "0700",
		"password_encryption":     "scram-sha-256",
		"logging_collector":       "off",
		"log_destination":         "stderr",
	}
	for k, v := range c.config.Settings {
		settings[k] = v
	}
	cmd := exec.Command(c.config.Binaries.path("postgres"), "-D", c.config.Data)
	names := make([]string, 0, len(settings))
	for k := range settings {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		cmd.Args = append(cmd.Args, "-c", k+"="+settings[k])
	}
	cmd.Stdout, cmd.Stderr = log, log
	owner.prepare(cmd)
	if err := c.launch(cmd); err != nil {
		return err
	}
	return c.await(ctx, log, from)
}

// launch starts the postmaster from a thread that lives as long as it: the kernel sends the parent-death
// signal when the starting thread ends, not the process (prctl(2), PR_SET_PDEATHSIG).
// The goroutine ends with the postmaster.
func (c *Cluster) launch(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.process = cmd.Process
		}
		started <- err
		if err == nil {
			cmd.Wait()
			close(c.done)
		}
	}()
	return <-started
}

// await returns when the server answers a query, or says why it never will.
func (c *Cluster) await(ctx context.Context, log *os.File, from int64) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if c.ping(ctx) == nil {
			return nil
		}
		select {
		case <-c.done:
			return startFailure(log, from, c.port)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

func (c *Cluster) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.LocalDSN("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// startFailure makes an error of what the server logged since offset from.
func startFailure(log *os.File, from int64, port int) error {
	b := make([]byte, 64<<10)
	n, _ := log.ReadAt(b, from)
	text := string(b[:n])
	if strings.Contains(text, "could not bind") {
		return fmt.Errorf("127.0.0.1:%d: %w", port, ErrPortInUse)
	}
	for line := range strings.Lines(text) {
		if _, reason, ok := strings.Cut(line, "FATAL:"); ok {
			return errors.New(strings.TrimSpace(reason))
		}
	}
	return fmt.Errorf("server ended at once: %s", lastLine([]byte(text)))
}

// Stop shuts the server down, disconnecting its clients, and returns when its process has ended.
// It may be called more than once.
func (c *Cluster) Stop(ctx context.Context) error {
	if c.process == nil {
		return nil
	}
	defer os.RemoveAll(c.socket)
	// Fast, then immediate shutdown (manual, section "Shutting Down the Server"), then kill.
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGQUIT, os.Kill} {
		c.process.Signal(s)
		select {
		case <-c.done:
			return nil
		case <-ctx.Done():
			c.process.Signal(syscall.SIGQUIT)
		case <-time.After(stopTimeout):
		}
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("stop PostgreSQL in %s: process %d does not end", c.config.Data, c.process.Pid)
	}
}

// Done is closed when the server's process has ended, for whatever reason.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// PID is the postmaster's process id.
func (c *Cluster) PID() int { return c.process.Pid }

// Port is the TCP port on 127.0.0.1.
func (c *Cluster) Port() int { return c.port }

// Data is the data directory; Log is the file of the server's log.
func (c *Cluster) Data() string { return c.config.Data }

// Log is the file that holds the server's log.
func (c *Cluster) Log() string { return c.config.Log }

// DSN is a connection URL over TCP.
func (c *Cluster) DSN(user string, password secret.Bytes, database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(user, string(password.Expose())),
		Host:   net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)),
		Path:   "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// LocalDSN is a connection string for the superuser over the unix socket, which asks for no password.
func (c *Cluster) LocalDSN(database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", c.socket, c.port, Superuser, database)
}

// socketDir makes the directory of the unix socket. Its path is short because a socket's path may hold 107
// bytes only (unix(7)), which a data directory's may exceed.
func socketDir(data string, owner *Owner) (string, error) {
	abs, err := filepath.Abs(data)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(abs))
	dir := filepath.Join(os.TempDir(), "pgveil-"+hex.EncodeToString(sum[:6]))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	// Whoever owns this directory decides who is superuser: a directory planted by someone else is refused.
	if err := owner.checkOwned(dir); err != nil {
		return "", err
	}
	return dir, owner.Own(dir)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func portTaken(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return true
	}
	l.Close()
	return false
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
