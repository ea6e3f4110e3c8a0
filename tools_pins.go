//go:build pins

package pins

import (
	_ "github.com/brianvoe/gofakeit/v7"
	_ "github.com/capitalone/fpe/ff1"
	_ "github.com/jackc/pglogrepl"
	_ "github.com/jackc/pgproto3/v2"
	_ "github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/pganalyze/pg_query_go/v6"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/tink-crypto/tink-go/v2/daead/subtle"
	_ "github.com/tink-crypto/tink-go/v2/kwp/subtle"
	_ "github.com/urfave/cli/v2"
	_ "github.com/vbauerster/mpb/v8"
	_ "golang.org/x/crypto/cryptobyte"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
	_ "golang.org/x/text/secure/precis"
)
