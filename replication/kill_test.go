package replication_test

const childStream = "PGVEIL_TEST_REPLICATION_STREAM"

func runChild() {}
