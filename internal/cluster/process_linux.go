package cluster

import (
	"os"
	"strconv"
	"syscall"
)

// tied makes a child receive SIGINT, PostgreSQL's fast shutdown, when this process dies, kill -9 included.
// Its own process group keeps a terminal's Ctrl-C from reaching it before we have drained our sessions.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT, Setpgid: true}
}

// servesData says whether process pid is a server on the data directory: a postmaster's working directory is
// its data directory.
func servesData(pid int, data string) bool {
	at, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return false
	}
	want, err := os.Stat(data)
	return err == nil && os.SameFile(at, want)
}
