package main

import (
	"context"
	"runtime"
	"runtime/debug"
)

// version is set by the linker in a release (-X main.version=1.2.3).
var version = "dev"

var versionCommand = command{
	name:    "version",
	summary: "print the version",
	example: "pgveil version -o json",
	run: func(_ context.Context, c *call) error {
		revision := ""
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					revision = s.Value
				}
			}
		}
		t := newTable("version", "revision", "go", "platform")
		t.add(version, revision, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
		return c.ui.print(t)
	},
}
