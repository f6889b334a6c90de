package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/chain/ledger"
)

// TestChainTools: back, forth, refused, reconsidered, rebuilt, and what can't be done.
func TestChainTools(t *testing.T) {
	dir := home(t)
	file, _ := benchFile(t, dir, "1")
	data := filepath.Join(dir, "a")
	at := []string{"--data-dir", data}
	tool := func(args ...string) result { return cli(t, append(append([]string{"chain"}, args...), at...)...) }
	height := func(want string) {
		t.Helper()
		if r := tool("verify").want(t, 0); !strings.Contains(r.out, "height        "+want+"\n") {
			t.Fatalf("want height %s:\n%s", want, r.out)
		}
	}
	tool("import", file).want(t, 0)

	if r := tool("rollback", "4").want(t, 0, "applies these blocks again"); !strings.Contains(r.out, "height        4, was 6\n") {
		t.Error(r.out)
	}
	height("4")
	tool("import", file).want(t, 0) // its opening is a start
	height("6")

	r := tool("rollback", "2", "--invalidate", "--json").want(t, 0)
	var doc rollbackDoc
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Height != 2 || doc.From != 6 || doc.Refused == nil {
		t.Fatalf("%v\n%s", err, r.out)
	}
	tool("import", file).want(t, exitRejected, "the operator rolled it back")
	height("2")
	tool("reconsider", doc.Tip.String()).want(t, exitNotFound, "never marked")
	tool("reconsider", doc.Refused.String()).want(t, 0, "judged anew")
	tool("import", file).want(t, 0)
	height("6")

	r = tool("reindex").want(t, 0)
	if !strings.Contains(r.out, "found whole   7 headers, 6 bodies\n") || !strings.Contains(r.out, "height        6\n") {
		t.Error(r.out)
	}
	height("6")
	r = tool("reindex", "--json").want(t, 0)
	var again reindexDoc
	if err := json.Unmarshal([]byte(r.out), &again); err != nil || again.Height != 6 || again.Forgotten != 0 {
		t.Fatalf("%v\n%s", err, r.out)
	}

	tool("rollback", "6").want(t, exitNotFound, "the tip is at height 6")
	tool("rollback", "-1").want(t, exitUsage)
	tool("rollback", "six").want(t, exitUsage, "no height")
	tool("reconsider", "12").want(t, exitUsage, "64 hex digits")
	height("6")
	for _, verb := range [][]string{{"rollback", "1"}, {"reindex"}, {"reconsider", doc.Tip.String()}} {
		cli(t, append(append([]string{"chain"}, verb...), "--data-dir", filepath.Join(dir, "none"))...).want(t, exitNotFound, "no data directory")
		cli(t, append(append([]string{"chain"}, verb...), "--data-dir", dir)...).want(t, exitNotFound)
	}

	// pruned: each says so in one sentence
	l, err := ledger.Open(ledger.Config{Dir: filepath.Join(data, "chain"), Genesis: genesisOf(t, file), UndoKeep: 2, Prune: 2, FreeSpace: freeSpace})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, verb := range [][]string{{"verify"}, {"reindex"}, {"export", filepath.Join(dir, "out")}} {
		if r := tool(verb...).want(t, exitNotFound, "keeps no bodies of blocks 1 to "); strings.Count(r.err, "quipu: ") != 1 || r.out != "" {
			t.Errorf("%s: not one sentence: %s%s", verb, r.err, r.out)
		}
	}
	tool("rollback", "1").want(t, exitNotFound, "is the lowest height")
	tool("rollback", "5").want(t, 0)
}

// TestExportGoesOn: a file that holds a beginning of the chain, cut anywhere, is gone on with; any other is left as it
// is.
func TestExportGoesOn(t *testing.T) {
	dir := home(t)
	file, whole := benchFile(t, dir, "1")
	data := filepath.Join(dir, "a")
	cli(t, "chain", "import", file, "--data-dir", data).want(t, 0)
	edit := func(at int) []byte {
		b := append([]byte(nil), whole...)
		b[at] ^= 1
		return b
	}
	out := filepath.Join(dir, "out")
	for name, c := range map[string]struct {
		found []byte
		code  int
		says  string
	}{
		"empty":         {nil, 0, "6 blocks"},
		"in the head":   {whole[:5], 0, "5 bytes were there"},
		"in a header":   {whole[:len(whole)/2], 0, "bytes were there"},
		"but one byte":  {whole[:len(whole)-1], 0, "6 blocks"},
		"whole":         {whole, 0, "6 blocks"},
		"first byte":    {edit(0), exitUsage, "differs from byte 0 on. It was left as it was"},
		"last byte":     {edit(len(whole) - 1), exitUsage, "isn't a beginning of this chain"},
		"goes on":       {append(append([]byte(nil), whole...), 1), exitUsage, "where the chain ends"},
		"another chain": {[]byte("something else"), exitUsage, "choose another name"},
	} {
		if err := os.WriteFile(out, c.found, 0o600); err != nil {
			t.Fatal(err)
		}
		cli(t, "chain", "export", out, "--data-dir", data).want(t, c.code, c.says)
		b, err := os.ReadFile(out)
		want := whole
		if c.code != 0 {
			want = c.found
		}
		if err != nil || string(b) != string(want) {
			t.Errorf("%s: %d bytes, want %d (%v)", name, len(b), len(want), err)
		}
	}
	// the chain has grown since
	os.Remove(out)
	cli(t, "chain", "rollback", "4", "--invalidate", "--data-dir", data).want(t, 0)
	cli(t, "chain", "export", out, "--data-dir", data).want(t, 0, "4 blocks")
	newer := filepath.Join(dir, "newer")
	cli(t, "chain", "import", file, "--data-dir", newer).want(t, 0)
	r := cli(t, "chain", "export", out, "--data-dir", newer, "--json").want(t, 0)
	var doc exportDoc
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Found == 0 || doc.Found >= doc.Bytes || doc.Bytes != int64(len(whole)) {
		t.Errorf("%s %v", r.out, err)
	}
	cli(t, "chain", "export", out, "--data-dir", data).want(t, exitUsage, "where the chain ends") // the shorter one again

	// nothing came of it
	fresh := filepath.Join(dir, "fresh")
	cli(t, "chain", "export", fresh, "--data-dir", filepath.Join(dir, "none")).want(t, exitNotFound)
	cli(t, "chain", "export", fresh, "--data-dir", dir).want(t, exitNotFound)
	if exists(fresh) {
		t.Error("an empty file was left")
	}
	cli(t, "chain", "export", dir, "--data-dir", data).want(t, exitOther)
	cli(t, "chain", "export", filepath.Join(dir, "no", "out"), "--data-dir", data).want(t, exitNotFound)
}

// TestCompact: what can be said on a small chain; ledger tests show what happens to the store.
func TestCompact(t *testing.T) {
	dir := home(t)
	file, _ := benchFile(t, dir, "1")
	data, to := filepath.Join(dir, "a"), filepath.Join(dir, "to")
	cli(t, "chain", "import", file, "--data-dir", data).want(t, 0)
	cli(t, "chain", "compact", "--prune", "4095", "--data-dir", data).want(t, exitUsage, "at least 4096")
	cli(t, "chain", "compact", "--data-dir", filepath.Join(dir, "none")).want(t, exitNotFound)
	if r := cli(t, "chain", "compact", "--prune", "4096", "--data-dir", data).want(t, 0); !strings.Contains(r.out, "height        6\n") {
		t.Error(r.out)
	}
	cli(t, "chain", "compact", "--data-dir", data, "--to", to).want(t, 0, "to take the new one")
	cli(t, "chain", "compact", "--data-dir", data, "--to", to).want(t, exitUsage, "left as it was", "choose another")
	r := cli(t, "chain", "compact", "--data-dir", data, "--to", filepath.Join(dir, "b", "chain"), "--json").want(t, 0)
	var doc compactDoc
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Height != 6 || doc.After == 0 {
		t.Errorf("%s %v", r.out, err)
	}
	cli(t, "chain", "verify", "--data-dir", filepath.Join(dir, "b")).want(t, 0)

	was := freeSpace
	defer func() { freeSpace = was }()
	freeSpace = func(string) (uint64, error) { return 100 << 20, nil } // too little for a node
	cli(t, "chain", "info", "--data-dir", data).want(t, 0)
	cli(t, "chain", "verify", "--data-dir", data).want(t, 0)
	cli(t, "chain", "rollback", "5", "--data-dir", data).want(t, exitSpace)
	cli(t, "chain", "import", file, "--data-dir", data).want(t, exitSpace)
	freeSpace = func(string) (uint64, error) { return 64 << 20, nil }
	cli(t, "chain", "compact", "--data-dir", data).want(t, exitSpace, "--to DIR", "64 MiB free")
}

func TestPruneAndCheckpointFlags(t *testing.T) {
	dir := home(t)
	id := strings.Repeat("ab", 32)
	for _, c := range []struct {
		flags []string
		says  string
	}{
		{[]string{"--prune", "4095"}, "at least 4096"},
		{[]string{"--prune", "-1"}, "at least 4096"},
		{[]string{"--checkpoint", "12"}, "no HEIGHT:ID"},
		{[]string{"--checkpoint", "x:" + id}, "no HEIGHT:ID"},
		{[]string{"--checkpoint", "12:" + id[1:]}, "no HEIGHT:ID"},
		{[]string{"--checkpoint", "0:" + id}, "block 0 of"},
		{[]string{"--checkpoint", "7:" + id, "--checkpoint", "7:" + strings.Repeat("cd", 32)}, "two blocks at height 7"},
	} {
		cli(t, append([]string{"node", "run", "--data-dir", dir}, c.flags...)...).want(t, exitUsage, c.says)
	}
	r := running{a: &app{}}
	if err := r.command().ParseFlags([]string{"--data-dir", dir, "--prune", "4096", "--checkpoint", "7:" + id, "--checkpoint", "7:" + id, "--checkpoint", "9:" + id}); err != nil {
		t.Fatal(err)
	}
	cfg, err := r.config()
	if err != nil || cfg.Prune != 4096 || len(cfg.Checkpoints) != 2 || cfg.Checkpoints[9].String() != id {
		t.Fatalf("%+v %v", cfg, err)
	}
}

// genesisOf is the genesis of an exported chain.
func genesisOf(t *testing.T, file string) *chain.Genesis {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, _, err := ledger.ReadExport(f)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestDamagedDirectory: one sentence, the documented code, no panic, and files as they were. chain/ledger has the
// whole table of what can be damaged.
func TestDamagedDirectory(t *testing.T) {
	dir := home(t)
	file, whole := benchFile(t, dir, "1")
	data := filepath.Join(dir, "a")
	cli(t, "chain", "import", file, "--data-dir", data).want(t, 0)
	table := filepath.Join(data, "chain", "000001.sst")
	good, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(name string, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verbs := [][]string{{"info"}, {"verify"}, {"export", filepath.Join(dir, "out")}, {"import", file}, {"rollback", "3"}, {"reindex"}, {"compact"}}
	all := func(what string) {
		t.Helper()
		for _, verb := range verbs {
			r := cli(t, append(append([]string{"chain"}, verb...), "--data-dir", data)...).want(t, exitData, "is damaged: ", "sync again")
			if strings.Count(r.err, "quipu: ") != 1 || strings.Contains(r.err, "goroutine") || r.out != "" {
				t.Errorf("%s, %s: %s%s", what, verb, r.err, r.out)
			}
		}
	}
	spoil(table, good[:len(good)-1])
	all("a cut table")
	spoil(table, nil)
	all("an empty table")
	spoil(table, good)
	manifest := filepath.Join(data, "chain", "MANIFEST")
	names, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	spoil(manifest, names[:len(names)-2])
	all("a cut MANIFEST")
	spoil(manifest, names)
	cli(t, "chain", "verify", "--data-dir", data).want(t, 0) // nothing was lost

	at := strings.Index(string(good), string(whole[len(whole)-159:])) // in the last body
	if at < 0 {
		t.Fatal("the last body isn't in the table")
	}
	bad := append([]byte(nil), good...)
	bad[at] ^= 1
	spoil(table, bad)
	if r := cli(t, "chain", "verify", "--data-dir", data).want(t, exitCheck, "doesn't hold"); !strings.Contains(r.out, "blocks of 000001.sst") {
		t.Error(r.out)
	}
	cli(t, "chain", "reindex", "--data-dir", data).want(t, exitData, "wrong checksums in", "nothing was changed")
	cli(t, "chain", "compact", "--data-dir", data).want(t, exitData, "wrong checksums in")
	saved := filepath.Join(dir, "saved") // what is in front of the damage
	cli(t, "chain", "export", saved, "--data-dir", data).want(t, exitData, "whole block")
	cli(t, "chain", "import", saved, "--data-dir", filepath.Join(dir, "b")).want(t, 0)
	spoil(table, good)
	cli(t, "chain", "verify", "--data-dir", data).want(t, 0)
}
