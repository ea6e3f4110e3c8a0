module pgveil

go 1.26.4

require (
	github.com/brianvoe/gofakeit/v7 v7.18.1 // the demonstration's people
	github.com/c2sp/wycheproof v0.0.0-20260902155932-3fa63dd0344a // tests only: FF1 and AES-SIV vectors, read from its directory
	github.com/capitalone/fpe v1.2.1 // tests only: a second opinion on FF1; archived, and not safe for concurrent use
	github.com/jackc/pglogrepl v0.0.0-20250509230407-a9884f6bd75a // the messages of logical replication
	github.com/jackc/pgproto3/v2 v2.3.3 // tests only: a second opinion on the protocol; archived
	github.com/jackc/pgx/v5 v5.12.0 // PostgreSQL client, and the front-end's codec (pgproto3)
	github.com/pganalyze/pg_query_go/v6 v6.2.5 // PostgreSQL's own grammar; needs cgo
	github.com/prometheus/client_golang v1.25.0 // /metrics
	github.com/rogpeppe/go-internal v1.16.0 // tests only: command lines as scripts (testscript)
	github.com/tink-crypto/tink-go/v2 v2.9.0 // tests only: a second opinion on AES-SIV
	github.com/urfave/cli/v2 v2.27.7 // command line
	github.com/vbauerster/mpb/v8 v8.9.3 // progress bars
	golang.org/x/crypto v0.58.0 // indirect; kept current beside pglogrepl, which asks for an old one
	golang.org/x/sync v0.24.0 // errgroup: parts that stop together
	golang.org/x/sys v0.49.0 // indirect; kept current beside client_golang
	golang.org/x/term v0.47.0 // passwords typed without echo
	golang.org/x/text v0.43.0 // SASLprep of passwords
	google.golang.org/protobuf v1.36.12 // walking pg_query's trees
)

require (
	github.com/VividCortex/ewma v1.2.0 // indirect
	github.com/acarl005/stripansi v0.0.0-20180116102854-5a71ef0e047d // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cpuguy83/go-md2man/v2 v2.0.7 // indirect
	github.com/jackc/chunkreader/v2 v2.0.0 // indirect
	github.com/jackc/pgio v1.0.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/mattn/go-runewidth v0.0.16 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/xrash/smetrics v0.0.0-20240521201337-686a1a2994c1 // indirect
	golang.org/x/tools v0.51.0 // indirect
)
