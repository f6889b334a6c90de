package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"quipu/chain"
)

// Hints that are right, wrong, or too few, and none: every import takes every block.
func TestImportHints(t *testing.T) {
	var export, hints bytes.Buffer
	if err := (Chain{Blocks: 4, Txs: 50, Accounts: 20}).Write(t.Context(), &export, nil); err != nil {
		t.Fatal(err)
	}
	if err := WriteHints(t.Context(), bytes.NewReader(export.Bytes()), &hints, nil); err != nil {
		t.Fatal(err)
	}
	if hints.Len() != 4*50*chain.HintSize {
		t.Fatalf("%d bytes of hints", hints.Len())
	}
	wrong := bytes.Clone(hints.Bytes())
	for i := 0; i < len(wrong); i += 40 {
		wrong[i] ^= 0x55
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "chain")
	if err := os.WriteFile(file, export.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"right": hints.Bytes(), "wrong": wrong, "few": hints.Bytes()[:70*chain.HintSize], "empty": {}} {
		given := filepath.Join(dir, name)
		if err := os.WriteFile(given, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := RunImport(t.Context(), Run{File: file, Dir: t.TempDir(), Hints: given})
		if err != nil || r.Txs != 200 || len(r.Stages) == 0 {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
	}
	if _, err := RunImport(t.Context(), Run{File: file, Dir: t.TempDir(), Hints: filepath.Join(dir, "none")}); err == nil {
		t.Error("a file of hints that isn't there was taken")
	}
}

var sink []byte

// A profile names the functions that were running, and damage is an error.
func TestReadProfile(t *testing.T) {
	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 1
	for range 100 {
		sink = make([]byte, 1000)
	}
	runtime.MemProfileRate = rate
	var b bytes.Buffer
	if err := pprof.Lookup("allocs").WriteTo(&b, 0); err != nil { // the same format as the CPU's
		t.Fatal(err)
	}
	p, err := readProfile(bytes.NewReader(b.Bytes()))
	if err != nil || len(p.stacks) == 0 || len(p.stacks) != len(p.spent) {
		t.Fatalf("%v, %d stacks", err, len(p.stacks))
	}
	if !slices.ContainsFunc(p.stacks, func(s []string) bool { return slices.Contains(s, "quipu/bench.TestReadProfile") }) {
		t.Error("this function isn't in it")
	}
	if _, err := readProfile(bytes.NewReader(b.Bytes()[:b.Len()/2])); err == nil {
		t.Error("half of it was taken")
	}
	for _, bad := range []string{"\x80", "\x12\x7f", "\x13", "\x11abc", "\x12\x03\x0a\x05\x01"} {
		if err := fields([]byte(bad), func(_ int, _ uint64, b []byte) error {
			return fields(b, func(int, uint64, []byte) error { return nil })
		}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestStageOf(t *testing.T) {
	for want, stack := range map[string]string{
		"verify":      "quipu/chain/bip340.sum quipu/chain.(*Unverified).Verify quipu/node.(*Node).checkAhead.func2",
		"decode":      "crypto/sha256.Sum256 quipu/chain.(*Checker).Decode.func1 quipu/node.(*Node).checkAhead.func2",
		"root":        "crypto/sha256.Sum256 quipu/chain/statetree.branchHash quipu/chain/statetree.fan.func1",
		"apply":       "runtime.mapassign quipu/chain.(*Genesis).Apply quipu/chain/ledger.(*mover).apply",
		"encode":      "runtime.memmove quipu/chain/ledger.(*mover).writeApplied quipu/chain/ledger.(*mover).apply",
		"pages":       "quipu/chain/statetree.(*Checkpoint).Write quipu/chain/ledger.(*Ledger).writeBehind quipu/chain/ledger.(*Ledger).Add",
		"commit":      "github.com/dgraph-io/badger/v4/skl.(*Skiplist).Put github.com/dgraph-io/badger/v4.(*DB).doWrites.func1",
		"gc":          "runtime.scanObject runtime.gcBgMarkWorker",
		"store_other": "quipu/node.(*Node).settle quipu/node.(*Node).takePart",
		"rest":        "runtime.mcall",
	} {
		if got := stageOf(strings.Fields(stack)); got != want {
			t.Errorf("%s: got %s, want %s", stack, got, want)
		}
	}
	p := []Stage{{Path: "serial", US: 2}, {Path: "beside", US: 5}, {Path: "serial", US: 1}}
	if r := (Import{Stages: p, Txs: 1e6, UserS: 3, SystemS: time.Second.Seconds()}); r.SerialUS() != 3 || r.CPUUS() != 4 {
		t.Errorf("%v %v", r.SerialUS(), r.CPUUS())
	}
}
