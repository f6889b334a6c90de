package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/p2p"
	"quipu/rpc"
)

// Snapshot is one measurement: how long an empty node takes to the tip when it begins with a snapshot.
type Snapshot struct {
	Accounts int    // at the snapshot, at least
	Blocks   int    // since, with one payment each
	Peers    int    // that serve
	Runs     int    // the median is taken
	Full     bool   // measure a node that applies all blocks, too
	Seed     uint64 // of the chain
}

// snapshotHeight is the block whose accounts are served. Its chain is the first that has room for all accounts: they are
// made by payments of 255 outputs, in full blocks.
const snapshotHeight = 1024

// Validate says what can't be measured.
func (s *Snapshot) Validate() error {
	switch {
	case s.Accounts < 1 || s.Accounts > 10_000_000:
		return fmt.Errorf("%d accounts: 1 to 10000000 are possible", s.Accounts)
	case s.Blocks < snapshotHeight || s.Blocks > 2*snapshotHeight-1:
		return fmt.Errorf("%d blocks since: a snapshot is %d to %d blocks deep", s.Blocks, snapshotHeight, 2*snapshotHeight-1)
	case s.Peers < 1 || s.Peers > 8:
		return fmt.Errorf("%d peers: 1 to 8 are possible", s.Peers)
	case s.Runs < 1:
		return fmt.Errorf("%d runs: at least 1", s.Runs)
	}
	return nil
}

// SnapshotOnce is one run. Times in seconds from the start of the process, which is new, with an empty directory.
type SnapshotOnce struct {
	AccountsS float64 `json:"accounts_s,omitempty"` // the accounts are here and durable
	Seconds   float64 `json:"seconds"`              // the tip is that of the serving nodes
	VerifiedS float64 `json:"verified_s"`           // every block from genesis has been fetched and applied
	UserS     float64 `json:"cpu_user_s"`           // of the process, until verified
	SystemS   float64 `json:"cpu_system_s"`
	PeakRSSMB float64 `json:"peak_rss_mb"`
}

// SnapshotResult is the median run and all of them.
type SnapshotResult struct {
	Header
	Accounts int     `json:"accounts"` // at the snapshot
	Height   uint64  `json:"height"`   // of the snapshot
	Blocks   uint64  `json:"blocks"`   // since
	FileMB   float64 `json:"file_mb"`  // of the snapshot
	BodyMB   float64 `json:"body_mb"`  // of all blocks
	Peers    int     `json:"peers"`
	SnapshotOnce
	All  []SnapshotOnce `json:"all"`
	Full *SnapshotOnce  `json:"full,omitempty"` // of a node with --sync full
}

// RunSnapshot makes the chain and serving nodes in a directory, and measures. self is the program, run as node run.
func RunSnapshot(ctx context.Context, s Snapshot, self, dir string, say func(string)) (*SnapshotResult, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	r := &SnapshotResult{Header: NewHeader("quipu.bench-snapshot/v1"), Height: snapshotHeight, Blocks: uint64(s.Blocks), Peers: s.Peers}
	b := snapshotBench{Snapshot: s, self: self, dir: dir, result: r}
	defer b.stop()
	say(fmt.Sprintf("making a chain of %d accounts and %d blocks for %d serving nodes …", s.Accounts, snapshotHeight+s.Blocks, s.Peers))
	if err := b.make(ctx); err != nil {
		return nil, err
	}
	debug.FreeOSMemory() // the chain's accounts: the nodes are to be measured
	say("starting them …")
	for i := range s.Peers {
		if err := b.serve(ctx, i); err != nil {
			return nil, err
		}
	}
	for i := range s.Runs {
		say(fmt.Sprintf("run %d of %d …", i+1, s.Runs))
		once, err := b.join(ctx, "snapshot")
		if err != nil {
			return nil, err
		}
		r.All = append(r.All, once)
	}
	var times []float64
	for _, once := range r.All {
		times = append(times, once.Seconds)
	}
	for _, once := range r.All {
		if once.Seconds == Median(times) {
			r.SnapshotOnce = once
			break
		}
	}
	if s.Full {
		say("and applying all blocks …")
		full, err := b.join(ctx, "full")
		if err != nil {
			return nil, err
		}
		r.Full = &full
	}
	return r, nil
}

type snapshotBench struct {
	Snapshot
	self, dir string
	result    *SnapshotResult
	genesis   string // its file
	tip       chain.State
	addrs     []string
	procs     []*exec.Cmd
}

// make writes genesis, ledgers and snapshot files.
func (b *snapshotBench) make(ctx context.Context) error {
	m, err := newChainMaker(Chain{Blocks: snapshotHeight + b.Blocks, Txs: 1, Accounts: 1000, Seed: b.Seed})
	if err != nil {
		return err
	}
	b.genesis = filepath.Join(b.dir, "genesis.json")
	if err := os.WriteFile(b.genesis, m.g.JSON(), 0o600); err != nil {
		return err
	}
	var ledgers []*ledger.Ledger
	defer func() {
		for _, l := range ledgers {
			l.Close()
		}
	}()
	for i := range b.Peers {
		l, err := ledger.Open(ledger.Config{Dir: filepath.Join(b.server(i), "chain"), Genesis: m.g, MemTable: ledger.NodeMemTable})
		if err != nil {
			return err
		}
		l.PinEvery(snapshotHeight)
		ledgers = append(ledgers, l)
	}
	var part []chain.Block
	for height := 1; height <= snapshotHeight+b.Blocks; height++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.Hostile = int(m.made)+len(m.pubs) < b.Accounts
		if m.Hostile && height > snapshotHeight {
			return fmt.Errorf("%d accounts don't fit %d blocks", b.Accounts, snapshotHeight)
		}
		block, err := m.next()
		if err != nil {
			return err
		}
		b.result.BodyMB += float64(len(block.Body)) / 1e6
		if part = append(part, block); len(part) < 64 && height != snapshotHeight && height < snapshotHeight+b.Blocks {
			continue
		}
		for i, l := range ledgers {
			if err := b.give(ctx, l, m.g, part, b.server(i)); err != nil {
				return err
			}
		}
		part = nil
		if height == snapshotHeight {
			b.result.Accounts = ledgers[0].Stats().Accounts
		}
	}
	b.tip = ledgers[0].Tip()
	b.result.FileMB, b.result.BodyMB = round2(b.result.FileMB), round2(b.result.BodyMB)
	return nil
}

func (b *snapshotBench) server(i int) string {
	return filepath.Join(b.dir, fmt.Sprintf("server-%d", i))
}

// give is a part of the chain for one server, with the snapshot if it ends there.
func (b *snapshotBench) give(ctx context.Context, l *ledger.Ledger, g *chain.Genesis, blocks []chain.Block, dir string) error {
	var headers []chain.Header
	var checked []chain.CheckedBlock
	for i := range blocks {
		c, err := g.AssumeChecked(blocks[i])
		if err != nil {
			return err
		}
		headers, checked = append(headers, blocks[i].Header), append(checked, c)
	}
	if _, err := l.AddHeaders(headers); err != nil {
		return err
	}
	if _, err := l.Add(checked); err != nil {
		return err
	}
	p := l.TakePinned()
	if p == nil {
		return nil
	}
	defer p.Release()
	dir = filepath.Join(dir, "snapshots")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := p.Write(ctx, dir); err != nil {
		return err
	}
	files, err := ledger.Snapshots(dir)
	if err == nil && len(files) > 0 {
		var info os.FileInfo
		if info, err = os.Stat(files[0]); err == nil {
			b.result.FileMB = float64(info.Size()) / 1e6
		}
	}
	return err
}

// start runs a node and waits until its API answers.
func (b *snapshotBench) start(ctx context.Context, dir string, more ...string) (*exec.Cmd, *rpc.Client, error) {
	api, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(b.self, append([]string{"node", "run", "--genesis", b.genesis, "--data-dir", dir, "--http", api}, more...)...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	client := &rpc.Client{URL: "http://" + api, Timeout: 10 * time.Second}
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := client.NodeStatus(ctx); err == nil {
			return cmd, client, nil
		}
		if time.Since(start) > time.Minute || ctx.Err() != nil {
			end(cmd)
			return nil, nil, fmt.Errorf("a node in %s doesn't answer: %s", dir, said.String())
		}
	}
}

func (b *snapshotBench) serve(ctx context.Context, i int) error {
	p2pAddr, err := freePort()
	if err != nil {
		return err
	}
	identity, err := p2p.LoadIdentity(filepath.Join(b.server(i), "node.key"))
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(p2pAddr)
	if err != nil {
		return err
	}
	listen := "/ip4/127.0.0.1/tcp/" + port
	cmd, _, err := b.start(ctx, b.server(i), "--listen", listen)
	if err != nil {
		return err
	}
	b.procs = append(b.procs, cmd)
	b.addrs = append(b.addrs, listen+"/p2p/"+identity.ID())
	return nil
}

// join measures one empty node. The clock begins before its process does.
func (b *snapshotBench) join(ctx context.Context, sync string) (once SnapshotOnce, err error) {
	dir, err := os.MkdirTemp(b.dir, "joining-")
	if err != nil {
		return once, err
	}
	defer os.RemoveAll(dir)
	args := []string{"--sync", sync, "--listen", "/ip4/127.0.0.1/tcp/0"}
	for _, addr := range b.addrs {
		args = append(args, "--bootstrap", addr)
	}
	start := time.Now()
	cmd, client, err := b.start(ctx, dir, args...)
	if err != nil {
		return once, err
	}
	defer end(cmd)
	for once.VerifiedS == 0 {
		s, err := client.NodeStatus(ctx)
		if err != nil {
			return once, err
		}
		now := round2(time.Since(start).Seconds())
		if once.AccountsS == 0 && s.Snapshot != nil && s.Tip.Height >= snapshotHeight {
			once.AccountsS = now
		}
		if once.Seconds == 0 && s.Tip.ID == b.tip.ID {
			if once.Seconds = now; sync == "snapshot" && once.AccountsS == 0 {
				return once, errors.New("the node applied all blocks")
			}
		}
		if once.Seconds > 0 && s.Verified {
			once.VerifiedS = now
		}
		if time.Since(start) > 15*time.Minute {
			return once, fmt.Errorf("after %v the node is at block %d", time.Since(start).Round(time.Second), s.Tip.Height)
		}
		select {
		case <-ctx.Done():
			return once, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	once.PeakRSSMB = peakOf(cmd.Process.Pid)
	end(cmd)
	once.UserS, once.SystemS = round2(cmd.ProcessState.UserTime().Seconds()), round2(cmd.ProcessState.SystemTime().Seconds())
	return once, nil
}

// peakOf is the most memory a running process ever had resident, in MB; 0 where the system doesn't say.
func peakOf(pid int) (mb float64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kb); err == nil {
			mb = round2(kb * 1024 / 1e6)
		}
	}
	return mb
}

func (b *snapshotBench) stop() {
	for _, p := range b.procs {
		end(p)
	}
}

// end stops a process, cleanly if it can.
func end(cmd *exec.Cmd) {
	if cmd.ProcessState != nil {
		return
	}
	cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
}

// freePort is a loopback address that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
