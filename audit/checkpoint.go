package audit

import (
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// checkpoint says that a node's chain had a certain end. As an entry's hash covers all entries before it, the newest
// checkpoint of a node is the only one needed.
type checkpoint struct {
	Node string    `json:"node"`
	Seq  int64     `json:"seq"`
	Hash []byte    `json:"hash"`
	At   time.Time `json:"at"`
	MAC  []byte    `json:"mac"`
}

const checkpointSuffix = ".checkpoint"

func (c chain) checkpointMAC(p checkpoint) []byte {
	b := appendText(nil, "checkpoint", p.Node, string(p.Hash))
	return c.mac(c.sign, appendInts(b, p.Seq, p.At.UnixMicro()))
}

func (c chain) signed(p checkpoint) bool { return hmac.Equal(p.MAC, c.checkpointMAC(p)) }

// checkpoint writes where the chain is, if it moved. A failure is logged and tried again at the next: what is committed
// stays committed.
func (s *sequencer) checkpoint() {
	if s.config.CheckpointDir == "" || s.head.Seq == s.written {
		return
	}
	p := checkpoint{Node: s.config.Node, Seq: s.head.Seq, Hash: s.head.hash, At: time.Now().UTC().Truncate(time.Microsecond)}
	p.MAC = s.chain.checkpointMAC(p)
	if err := p.write(s.config.CheckpointDir); err != nil {
		s.log.Error("audit: checkpoint is not written", "error", err)
		return
	}
	s.written = p.Seq
}

// checkpointFile is the file of a node; its name may hold anything.
func checkpointFile(dir, node string) string {
	return filepath.Join(dir, url.PathEscape(node)+checkpointSuffix)
}

// write replaces the node's checkpoint, unless the one there is newer: another process may share the chain.
func (p checkpoint) write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if old, found, err := readCheckpoint(dir, p.Node); err == nil && found && old.Seq > p.Seq {
		return nil
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".checkpoint-*") // 0600; not ending in the suffix
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing after the rename
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), checkpointFile(dir, p.Node))
	}
	return err
}

// readCheckpoint reads a node's checkpoint; it does not check its MAC.
func readCheckpoint(dir, node string) (p checkpoint, found bool, err error) {
	if dir == "" {
		return p, false, nil
	}
	text, err := os.ReadFile(checkpointFile(dir, node))
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err != nil {
		return p, false, fmt.Errorf("read the checkpoint of node %q: %w", node, err)
	}
	if json.Unmarshal(text, &p) != nil || p.Node != node {
		return checkpoint{Node: node}, true, nil // its MAC is none
	}
	return p, true, nil
}

// readCheckpoints reads those of all nodes.
func readCheckpoints(dir string) (map[string]checkpoint, error) {
	all := map[string]checkpoint{}
	if dir == "" {
		return all, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the checkpoints: %w", err)
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), checkpointSuffix)
		if !ok {
			continue
		}
		node, err := url.PathUnescape(name)
		if err != nil {
			continue
		}
		p, found, err := readCheckpoint(dir, node)
		if err != nil {
			return nil, err
		}
		if found {
			all[node] = p
		}
	}
	return all, nil
}
