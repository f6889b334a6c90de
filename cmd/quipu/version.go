package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"quipu/chain"
)

func init() { commands = append(commands, versionCommand) }

type versionDoc struct {
	Schema   string `json:"schema"`
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified"` // built from a tree with changes
	Go       string `json:"go"`
	System   string `json:"system"`
	RuleSet  uint32 `json:"rule_set"` // newest header version this program knows
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Version, commit and rule set of this program", Args: args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			doc := versionDoc{Schema: "quipu.version/v1", Version: version(), Go: runtime.Version(),
				System: runtime.GOOS + "/" + runtime.GOARCH, RuleSet: chain.LatestVersion()}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					switch s.Key {
					case "vcs.revision":
						doc.Commit = s.Value
					case "vcs.modified":
						doc.Modified = s.Value == "true"
					}
				}
			}
			if a.json {
				return a.writeJSON(doc)
			}
			fmt.Fprintf(a.out, "quipu %s\ncommit %s\n%s %s\nrule set %d\n", doc.Version, orNone(doc.Commit), doc.Go, doc.System, doc.RuleSet)
			return nil
		},
	}
}

func orNone(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
