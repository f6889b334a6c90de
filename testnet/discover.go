package testnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"quipu/rpc"
)

// Record is control.json (0600): how a second terminal finds a running test network.
type Record struct {
	Schema    string    `json:"schema"`
	Name      string    `json:"name"`
	PID       int       `json:"pid"`
	URL       string    `json:"url"`
	TokenFile string    `json:"token_file"`
	Dir       string    `json:"dir"`
	Started   time.Time `json:"started"`
}

// RunningError is when a network that runs is in the way of a new one.
type RunningError struct{ Name, URL string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("test network %s is running already (%s)", e.Name, e.URL)
}

// ErrNone is when no test network runs.
var ErrNone = errors.New("no test network is running")

// stateDir is $XDG_STATE_HOME/quipu, by default ~/.local/state/quipu (XDG Base Directory Specification 0.8).
func stateDir() string {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "quipu")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "quipu")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("quipu-%d", os.Getuid()))
}

// recordsDir holds a directory for each running network: $XDG_RUNTIME_DIR/quipu/testnets, or where there is no such
// variable, run in the state directory.
func recordsDir() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		return filepath.Join(d, "quipu", "testnets")
	}
	return filepath.Join(stateDir(), "run", "testnets")
}

func recordPath(name string) string { return filepath.Join(recordsDir(), name, "control.json") }

// claim sees that no network is in the way and takes the name, with a lock held until unlock.
func claim(cfg *Config) (unlock func(), err error) {
	if err := os.MkdirAll(recordsDir(), 0o700); err != nil {
		return nil, err
	}
	unlock = lockFile(filepath.Join(recordsDir(), ".lock"))
	for _, r := range records() {
		if !r.alive() {
			if r.Name == cfg.Name {
				os.RemoveAll(filepath.Dir(recordPath(r.Name)))
			}
			continue
		}
		if cfg.Alone || r.Name == cfg.Name {
			unlock()
			return nil, &RunningError{r.Name, r.URL}
		}
	}
	return unlock, nil
}

func (s *Supervisor) writeRecord() error {
	text, err := json.MarshalIndent(Record{
		Schema: "quipu.testnet.record/v1", Name: s.cfg.Name, PID: os.Getpid(), URL: s.server.URL(), TokenFile: s.controlToken(),
		Dir: s.cfg.Dir, Started: s.started.UTC(),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.record), 0o700); err != nil {
		return err
	}
	tmp := s.record + ".tmp"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.record)
}

const maxRecords = 64

// records reads every record, the newest network first. Files that can't be read are passed over.
func records() []Record {
	files, _ := filepath.Glob(filepath.Join(recordsDir(), "*", "control.json"))
	var out []Record
	for _, f := range files[:min(len(files), maxRecords)] {
		text, err := os.ReadFile(f)
		var r Record
		if err == nil && len(text) < 1<<16 && json.Unmarshal(text, &r) == nil && r.Name == filepath.Base(filepath.Dir(f)) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return b.Started.Compare(a.Started) })
	return out
}

func (r Record) client() *Client {
	return &Client{&rpc.Client{URL: r.URL, Source: "test network " + r.Name, TokenFile: r.TokenFile, Timeout: verbTimeout + 5*time.Second}}
}

// alive asks the supervisor. One that listens and doesn't answer is starting, and alive; no listener, or another
// program's, means that it was killed.
func (r Record) alive() bool {
	c := r.client()
	c.rpc.Timeout = 2 * time.Second
	for range 2 { // a connection kept from before its death is reset: only a new one tells
		env, err := c.Env(context.Background(), "")
		var none *rpc.Unreachable
		var other *rpc.HTTPError
		switch {
		case err == nil:
			return env.Name == r.Name
		case errors.As(err, &none), errors.As(err, &other):
			return false
		}
	}
	return true
}

// Find is the running test network of this name, or with "" the only one. It fails with ErrNone, or names those to
// choose from.
func Find(name string) (*Client, Record, error) {
	var live []Record
	for _, r := range records() {
		if (name == "" || r.Name == name) && r.alive() {
			live = append(live, r)
		}
	}
	switch len(live) {
	case 0:
		if name != "" {
			return nil, Record{}, fmt.Errorf("%w under the name %s", ErrNone, name)
		}
		return nil, Record{}, ErrNone
	case 1:
		return live[0].client(), live[0], nil
	}
	var names []string
	for _, r := range live {
		names = append(names, r.Name)
	}
	return nil, Record{}, fmt.Errorf("%d test networks are running, choose one with --name: %s", len(live), strings.Join(names, ", "))
}

// Discover is how to talk to the first node that is up of the running test network; of several the newest. It is quick
// where none runs.
func Discover() (Env, bool) {
	for _, r := range records() {
		c := r.client()
		c.rpc.Timeout = 2 * time.Second
		if env, err := c.Env(context.Background(), ""); err == nil && env.Name == r.Name {
			return env, true
		}
	}
	return Env{}, false
}

// Leftover is what a supervisor that was killed has left behind.
func Leftover() []Record {
	var out []Record
	for _, r := range records() {
		if !r.alive() {
			out = append(out, r)
		}
	}
	return out
}

// Clean removes a leftover, and its data unless keep.
func (r Record) Clean(keep bool) error {
	err := os.RemoveAll(filepath.Dir(recordPath(r.Name)))
	if _, statErr := os.Stat(filepath.Join(r.Dir, "genesis.json")); !keep && statErr == nil {
		err = errors.Join(err, os.RemoveAll(r.Dir)) // only what looks like a test network's directory
	}
	return err
}

// Recorded reports whether there is a record under a name, of a network that runs or of one that was killed.
func Recorded(name string) bool {
	_, err := os.Stat(recordPath(name))
	return err == nil
}

// AwaitGone returns when a network that was told to go down has ended: its record goes last.
func AwaitGone(ctx context.Context, r Record) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*stopTimeout, fmt.Errorf("%s is still stopping", r.Name))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for Recorded(r.Name) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
