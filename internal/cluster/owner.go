package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An Owner is the account that runs PostgreSQL and owns its files: for root one that is not (PostgreSQL
// refuses to run as root), for anybody else the caller. A nil *Owner is the caller.
type Owner struct {
	Name     string
	uid, gid int
}

// FindOwner chooses the account. For root it is postgres if there is one, else nobody; initdb needs an
// account with an entry in the user database, so an arbitrary number would not do.
func FindOwner() (*Owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.Atoi(u.Uid)
		gid, gerr := strconv.Atoi(u.Gid)
		if err := errors.Join(uerr, gerr); err != nil {
			return nil, err
		}
		return &Owner{Name: name, uid: uid, gid: gid}, nil
	}
	return nil, errors.New("root cannot run PostgreSQL, and there is no user postgres or nobody to run it as")
}

// Own gives the file or directory itself (not what is in it) to the account.
func (o *Owner) Own(path string) error {
	if o == nil {
		return nil
	}
	return os.Lchown(path, o.uid, o.gid)
}

// CanEnter says whether the account may reach path: every directory down to it must let the account pass.
// It judges by the permission bits alone.
func (o *Owner) CanEnter(path string) bool {
	if o == nil {
		return true
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() && !o.passes(info) {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

func (o *Owner) passes(info os.FileInfo) bool {
	uid, gid := fileOwner(info)
	switch perm := info.Mode().Perm(); {
	case uid == o.uid:
		return perm&0o100 != 0
	case gid == o.gid:
		return perm&0o010 != 0
	default:
		return perm&0o001 != 0
	}
}

// checkOwned refuses a directory that neither the account nor the caller owns, or that others may enter.
func (o *Owner) checkOwned(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	uid, _ := fileOwner(info)
	mine := uid == os.Geteuid() || (o != nil && uid == o.uid)
	if !info.IsDir() || !mine || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a private directory of ours: remove it", dir)
	}
	return nil
}

// prepare makes cmd run as the account, in a directory it may enter, with a small environment (PGDATA, PGPORT
// and their like from the caller's must not reach the server), and tied to this process's life.
func (o *Owner) prepare(cmd *exec.Cmd) {
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "TZ=UTC"}
	attr := tied()
	if o != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	cmd.SysProcAttr = attr
}
