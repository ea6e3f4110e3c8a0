package main

import "slices"

// commands is everything pgveil can be told to do, in the order of --help.
func commands() []command {
	return slices.Concat(
		[]command{devCommand, serveCommand, migrateCommand},
		keyCommands, policyCommands, filterCommands, columnCommands, roleCommands, auditCommands, replicateCommands,
		[]command{doctorCommand, versionCommand},
	)
}
