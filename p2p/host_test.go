package p2p

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quipu/chain/chaintest"
)

func TestIdentityIsMadeOnceAndKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "identity")
	made, err := LoadIdentity(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, _ := os.ReadFile(file)
	again, err := LoadIdentity(file)
	if err != nil || again.ID() != made.ID() || made.ID() == "" {
		t.Errorf("second load: %s, %v, want %s", again.ID(), err, made.ID())
	}
	if after, _ := os.ReadFile(file); string(after) != string(text) {
		t.Error("the file was written to")
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
	if err := writeIdentity(file, made); err == nil {
		t.Error("an existing file is overwritten")
	}
}

func TestManyLoadsAtOnceMakeOneIdentity(t *testing.T) {
	file := filepath.Join(t.TempDir(), "identity")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			ident, err := LoadIdentity(file)
			if err != nil {
				t.Error(err)
			}
			ids[i] = ident.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("identities %v", ids)
		}
	}
}

func TestDamagedIdentityIsRefusedAndLeftAlone(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	if _, err := LoadIdentity(good); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(good)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		say  string
	}{
		"empty":      {"", 0o600, "damaged"},
		"cut":        {string(text[:len(text)/2]), 0o600, "damaged"},
		"base64":     {strings.Replace(string(text), "quipu-identity/1 ", "quipu-identity/1 !", 1), 0o600, "damaged"},
		"newer":      {strings.Replace(string(text), "/1", "/2", 1), 0o600, "newer"},
		"others":     {string(text), 0o644, "chmod 600"},
		"long":       {strings.Repeat("x", 1<<20), 0o600, "damaged"},
		"flipped":    {string(text[:len(text)-9]) + "AAAAAAAA\n", 0o600, "damaged"},
		"other head": {"x" + string(text), 0o600, "damaged"},
	} {
		file := filepath.Join(t.TempDir(), "identity")
		os.WriteFile(file, []byte(c.text), c.mode)
		os.Chmod(file, c.mode)
		if _, err := LoadIdentity(file); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want %q in it", name, err, c.say)
		}
		if after, _ := os.ReadFile(file); string(after) != c.text {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := LoadIdentity(filepath.Join(t.TempDir(), "none", "identity")); err == nil {
		t.Error("a missing directory is no error")
	}
}

func TestConfigNamesWhatMakesNoSense(t *testing.T) {
	ident, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for say, c := range map[string]Config{
		"no identity":      {},
		"listen address":   {Identity: ident, Listen: []string{"127.0.0.1:4820"}},
		"ends in /p2p/ID":  {Identity: ident, Bootstrap: []string{"/ip4/127.0.0.1/tcp/4820"}},
		"\"nonsense\"":     {Identity: ident, Static: []string{"nonsense"}},
		"max peers 3":      {Identity: ident, MaxPeers: 3},
		"static and boots": {Identity: ident, Static: make([]string, maxTargets+1)},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%v, want %q in it", err, say)
		}
	}
	if err := (&Config{Identity: ident}).Validate(); err != nil {
		t.Error(err)
	}
}

// Two real hosts on loopback, TCP and QUIC, find each other and go down cleanly.
func TestRealHostsOnLoopback(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 10, 1)
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		t.Run(strings.Split(listen, "/")[3], func(t *testing.T) {
			full := newFake(g)
			full.load(blocks)
			a := startReal(t, full, listen)
			fresh := newFake(g)
			b := startReal(t, fresh, listen, a.Addrs()[0])
			for deadline := time.Now().Add(20 * time.Second); fresh.Tip().Header.Height < 10; {
				if time.Now().After(deadline) {
					t.Fatalf("tip at %d, peers %+v", fresh.Tip().Header.Height, b.Peers())
				}
				<-time.After(10 * time.Millisecond)
			}
			if p := b.Peers(); len(p) != 1 || !p[0].Outbound || p[0].Addr == "" || p[0].ID != a.ID() {
				t.Errorf("peers %+v", p)
			}
		})
	}
}

func startReal(t *testing.T, f *fake, listen string, dial ...string) *Service {
	t.Helper()
	ident, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Identity: ident, Listen: []string{listen}, TestNet: true, Bootstrap: dial}
	h, err := NewHost(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, h, f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		h.Close()
	})
	return s
}

func TestTakenPortIsNamed(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ident, _ := NewIdentity()
	_, err = NewHost(Config{Identity: ident, Listen: []string{"/ip4/127.0.0.1/tcp/" + port}})
	if err == nil || !strings.Contains(err.Error(), port) {
		t.Errorf("error %v, want one that names port %s", err, port)
	}
}
