//go:build unix && !linux

package cluster

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// tied keeps a terminal's Ctrl-C from reaching the child before we have drained our sessions. These systems
// have no parent-death signal: a server left behind is stopped by the next start (StopStray).
func tied() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// servesData says whether process pid is a server on the data directory.
func servesData(pid int, data string) bool {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "-D "+data)
}
