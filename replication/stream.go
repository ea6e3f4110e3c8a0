package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// statusInterval is the time between standby status updates, however slow the target is; wal_sender_timeout is
// measured against it. An idle source hears no later of what is durable.
const statusInterval = 500 * time.Millisecond

// receive reads the replication connection into the queue and answers on it. It is the connection's only user,
// because a pgconn.PgConn must not be read and written by two goroutines; so while the queue is full it goes on
// answering, and reads nothing.
func (s *session) receive(ctx context.Context, q *queue) error {
	conn := s.repl
	// A deadline on the socket instead of a context per message, which would cost a goroutine each.
	stop := context.AfterFunc(ctx, func() { conn.Conn().SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	answer := &standbyStatus{s: s, conn: conn}
	if err := answer.send(ctx); err != nil {
		return err
	}
	for {
		if err := answer.sendIfDue(ctx); err != nil {
			return err
		}
		msg, err := conn.ReceiveMessage(context.Background())
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case pgconn.Timeout(err):
			continue
		case err != nil:
			return sqlError("receive from the source", err)
		}
		i, ok, err := readMessage(msg)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if q.put(i) {
			if err := answer.waitFor(ctx, q); err != nil {
				return err
			}
		}
	}
}

// readMessage turns a message of the walsender into an item; ok is false for one that carries nothing.
func readMessage(msg pgproto3.BackendMessage) (i item, ok bool, err error) {
	data, isCopy := msg.(*pgproto3.CopyData)
	if !isCopy {
		switch msg := msg.(type) {
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
			return item{}, false, nil
		case *pgproto3.ErrorResponse:
			return item{}, false, sqlError("receive from the source", pgconn.ErrorResponseToPgError(msg))
		}
		return item{}, false, fmt.Errorf("the source ended the stream (%T)", msg)
	}
	if len(data.Data) == 0 {
		return item{}, false, errors.New("the source sent an empty message")
	}
	switch data.Data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:])
		return item{lsn: k.ServerWALEnd, urgent: k.ReplyRequested}, err == nil, err
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil || len(x.WALData) == 0 {
			return item{}, false, errors.Join(err, errEmpty(x.WALData))
		}
		// The bytes live until the next read.
		return item{data: append([]byte(nil), x.WALData...), lsn: x.WALStart}, true, nil
	}
	return item{}, false, fmt.Errorf("the source sent a message of unknown type %q", data.Data[0])
}

func errEmpty(data []byte) error {
	if len(data) == 0 {
		return errors.New("the source sent an empty message")
	}
	return nil
}

// standbyStatus tells the source what is durable at the target, and nothing else: what is merely received would be
// lost with the worker.
type standbyStatus struct {
	s    *session
	conn *pgconn.PgConn
	next time.Time
	sent pglogrepl.LSN
}

func (a *standbyStatus) send(ctx context.Context) error {
	a.sent = pglogrepl.LSN(a.s.durable.Load())
	err := pglogrepl.SendStandbyStatusUpdate(ctx, a.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: a.sent, WALFlushPosition: a.sent, WALApplyPosition: a.sent})
	if err != nil {
		return sqlError("answer the source", err)
	}
	a.next = time.Now().Add(statusInterval)
	a.conn.Conn().SetReadDeadline(a.next)
	// Should ctx have ended just now, the deadline that says so was overwritten.
	return ctx.Err()
}

func (a *standbyStatus) sendIfDue(ctx context.Context) error {
	if time.Now().Before(a.next) {
		return nil
	}
	return a.send(ctx)
}

// waitFor answers at every interval until the queue has room again.
func (a *standbyStatus) waitFor(ctx context.Context, q *queue) error {
	for q.full() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.eased:
		case <-time.After(time.Until(a.next)):
		}
		if err := a.sendIfDue(ctx); err != nil {
			return err
		}
	}
	return nil
}
