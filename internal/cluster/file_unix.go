//go:build unix

package cluster

import (
	"os"
	"syscall"
)

func fileOwner(info os.FileInfo) (uid, gid int) {
	s := info.Sys().(*syscall.Stat_t)
	return int(s.Uid), int(s.Gid)
}
