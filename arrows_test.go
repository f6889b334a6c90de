package quipu

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows lists, for each package, the packages of ours it may import. A package that isn't listed may not exist.
var arrows = map[string][]string{
	"quipu":                 {},
	"quipu/chain/bip340":    {},
	"quipu/chain/statetree": {},
	"quipu/chain":           {"chain/bip340", "chain/statetree"},
	"quipu/chain/chaintest": {"chain", "chain/bip340", "chain/statetree"},
	"quipu/chain/ledger":    {"chain", "chain/bip340", "chain/statetree"},
	"quipu/mempool":         {"chain", "chain/bip340", "chain/statetree"},
	"quipu/wallet":          {"chain", "chain/bip340", "chain/statetree"},
	"quipu/p2p/wire":        {"chain", "chain/bip340", "chain/statetree"},
	"quipu/rpc":             {"chain", "chain/bip340", "chain/statetree"},
	"quipu/explorer":        {"chain", "chain/bip340", "chain/statetree"},
	"quipu/p2p":             {"p2p/wire", "chain"},
	"quipu/p2p/light":       {"p2p/wire", "chain"},
	"quipu/p2p/badpeer":     {"p2p", "p2p/wire", "chain", "chain/bip340", "chain/statetree"},
	"quipu/node":            {"p2p", "p2p/wire", "mempool", "chain/ledger", "chain", "rpc", "explorer"},
	"quipu/testnet":         {"rpc", "wallet", "explorer", "chain"},
	"quipu/bench":           nil, // all but cmd, and a program can't be imported
	"quipu/cmd/quipu":       nil, // all
	"quipu/docs/plot":       {},
}

// keptIn names outside modules that only some packages may import directly.
var keptIn = map[string][]string{
	"github.com/libp2p/":           {"quipu/p2p", "quipu/p2p/badpeer", "quipu/p2p/light"},
	"github.com/dgraph-io/badger/": {"quipu/chain/ledger"},
	"github.com/spf13/cobra":       {"quipu/cmd/quipu"},
	"github.com/consensys/":        {"quipu/chain/bip340"},
	"github.com/prometheus/":       {"quipu/node", "quipu/rpc", "quipu/p2p"},
}

// pure packages see no clock, disk, network, context or logger.
var pure = []string{"quipu/chain", "quipu/chain/bip340", "quipu/chain/statetree"}

func TestImportArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		allowed, listed := arrows[p.ImportPath]
		if !listed {
			t.Errorf("package %s has no row in the arrows: add one on purpose", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, "quipu/"); ok && allowed != nil && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s: that arrow is forbidden", p.ImportPath, imp)
			}
			for prefix, homes := range keptIn {
				if strings.HasPrefix(imp, prefix) && !slices.Contains(homes, p.ImportPath) {
					t.Errorf("%s imports %s: kept in %v", p.ImportPath, imp, homes)
				}
			}
			if slices.Contains(pure, p.ImportPath) && slices.Contains([]string{"time", "os", "net", "net/http", "context", "log", "log/slog"}, imp) {
				t.Errorf("%s is pure and imports %s", p.ImportPath, imp)
			}
		}
	}
}
