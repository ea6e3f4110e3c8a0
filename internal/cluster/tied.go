package cluster

import (
	"bytes"
	"os/exec"
	"runtime"
)

// runTied runs a short-lived child to its end on a thread that outlives it (see Cluster.launch) and returns
// what it wrote.
func runTied(cmd *exec.Cmd) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}
