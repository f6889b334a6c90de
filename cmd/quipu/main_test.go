package main

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
)

// asProgram makes this test binary be the program: tests that need real processes start it with this variable.
const asProgram = "QUIPU_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Unsetenv(asProgram)
		main()
		return
	}
	discoverTestnet = func() (runningNet, bool) { return runningNet{}, false } // what runs on this machine is none of ours
	os.Exit(m.Run())
}

// result is what one run of the program gave.
type result struct {
	code     int
	out, err string
}

// home gives the test directories of its own, and an environment without anything of ours.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for _, v := range []string{"XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(v, dir+"/"+strings.ToLower(v))
	}
	for _, v := range []string{"QUIPU_DATA_DIR", "QUIPU_RPC", "QUIPU_RPC_TOKEN_FILE", "QUIPU_WALLET", "QUIPU_PASSPHRASE_FILE"} {
		t.Setenv(v, "")
	}
	return dir
}

// cli runs the program in this process, with nothing on standard input.
func cli(t *testing.T, args ...string) result {
	t.Helper()
	return cliCtx(t, t.Context(), "", args...)
}

func cliCtx(t *testing.T, ctx context.Context, in string, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := run(ctx, args, strings.NewReader(in), &out, &err)
	return result{code, out.String(), err.String()}
}

// want fails unless the run gave this exit code and these texts stand on err.
func (r result) want(t *testing.T, code int, texts ...string) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit %d, want %d\nout: %s\nerr: %s", r.code, code, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.err, text) {
			t.Fatalf("%q isn't on err:\n%s", text, r.err)
		}
	}
	return r
}

func itoa(n int) string { return strconv.Itoa(n) }
