package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Report is what Verify found.
type Report struct {
	Nodes    []NodeReport `json:"nodes"`    // by name
	Problems []Problem    `json:"problems"` // the first of each node
}

// OK says that every record and every checkpoint is as it was written.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// NodeReport is one chain. Records counts the good ones from the beginning.
type NodeReport struct {
	Node       string `json:"node"`
	Records    int64  `json:"records"`
	Checkpoint int64  `json:"checkpoint"` // record of the checkpoint; 0 if there is none
}

// Problem is the first record of a node that is not as it was written; Seq 0 is the checkpoint itself.
type Problem struct {
	Node   string `json:"node"`
	Seq    int64  `json:"seq"`
	Reason string `json:"reason"`
}

// Verify recomputes every chain and compares it with the checkpoints in c.CheckpointDir. It needs no running node and may
// run beside some. Its error says that it could not look; what it saw is in the Report.
//
// What it cannot see: that records after the last checkpoint were cut off, and that a node's chain was removed together
// with its checkpoint.
func Verify(ctx context.Context, c Config) (Report, error) {
	ch, err := newChain(c.Key)
	if err != nil {
		return Report{}, err
	}
	// Before the records: a checkpoint made meanwhile would be ahead of them.
	checkpoints, err := readCheckpoints(c.CheckpointDir)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return Report{}, err
	}
	conn, err := dial(ctx, c.DSN)
	if err != nil {
		return Report{}, err
	}
	defer closeConn(conn)
	v := &verifier{chain: ch, checkpoints: checkpoints, nodes: map[string]*walk{}}
	for node := range checkpoints {
		v.walk(node)
	}
	rows, err := conn.Query(ctx, `SELECT `+entryColumns+` FROM pgveil.audit ORDER BY node, seq`)
	if err != nil {
		return Report{}, explain(err)
	}
	var e Entry
	_, err = pgx.ForEachRow(rows, e.targets(), func() error { v.entry(&e); return nil })
	if err != nil {
		return Report{}, explain(err)
	}
	if missing && len(v.nodes) > 0 { // whoever wrote the records made it
		return Report{}, &Error{Message: fmt.Sprintf("there is no directory %s to look for checkpoints in", c.CheckpointDir),
			Hint: "without its checkpoints a log that was cut short cannot be told from a whole one; give the directory the nodes write to"}
	}
	return v.report(), nil
}

// verifier walks along the chains.
type verifier struct {
	chain       chain
	checkpoints map[string]checkpoint
	nodes       map[string]*walk
}

// walk is how far one chain is good.
type walk struct {
	NodeReport
	hash []byte // of the last good entry
	bad  *Problem
}

func (v *verifier) walk(node string) *walk {
	w := v.nodes[node]
	if w == nil {
		w = &walk{NodeReport: NodeReport{Node: node}, hash: v.chain.genesis(node)}
		v.nodes[node] = w
		if p, ok := v.checkpoints[node]; ok {
			w.Checkpoint = p.Seq
			if !v.chain.signed(p) {
				w.bad = &Problem{node, 0, "the checkpoint was changed or is signed with another key"}
			}
		}
	}
	return w
}

func (v *verifier) entry(e *Entry) {
	w := v.walk(e.Node)
	if w.bad != nil {
		return
	}
	want := w.Records + 1
	p, checked := v.checkpoints[e.Node]
	switch {
	case e.Seq != want:
		w.bad = &Problem{e.Node, want, "the record is missing"}
	case !bytes.Equal(e.prev, w.hash) || !bytes.Equal(e.hash, v.chain.hash(w.hash, e)):
		w.bad = &Problem{e.Node, e.Seq, "the record was changed, moved or not written by pgveil"}
	case checked && p.Seq == e.Seq && !bytes.Equal(p.Hash, e.hash):
		w.bad = &Problem{e.Node, e.Seq, "the record is not the one of the checkpoint"}
	default:
		w.Records, w.hash = e.Seq, e.hash
	}
}

func (v *verifier) report() Report {
	r := Report{Nodes: []NodeReport{}, Problems: []Problem{}}
	for node, w := range v.nodes {
		if w.bad == nil && w.Checkpoint > w.Records {
			w.bad = &Problem{node, w.Records + 1, fmt.Sprintf("the record and those after it are missing; the checkpoint is at %d", w.Checkpoint)}
		}
		r.Nodes = append(r.Nodes, w.NodeReport)
		if w.bad != nil {
			r.Problems = append(r.Problems, *w.bad)
		}
	}
	slices.SortFunc(r.Nodes, func(x, y NodeReport) int { return cmp.Compare(x.Node, y.Node) })
	slices.SortFunc(r.Problems, func(x, y Problem) int { return cmp.Compare(x.Node, y.Node) })
	return r
}
