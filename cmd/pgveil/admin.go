package main

import (
	"context"
	"log/slog"
)

type auditLog struct{}

func (l *auditLog) close() error { return nil }

func (c *control) openAudit(ctx context.Context, logger *slog.Logger) (*auditLog, error) {
	return &auditLog{}, nil
}
func (c *control) record(ctx context.Context, what, policy, column string) error { return nil }
