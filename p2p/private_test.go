package p2p

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ma "github.com/multiformats/go-multiaddr"

	"quipu/chain/chaintest"
)

func newID(t *testing.T) Identity {
	t.Helper()
	ident, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return ident
}

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPeerLists(t *testing.T) {
	a, b := newID(t).ID(), newID(t).ID()
	got, err := ReadPeerList(write(t, "# ours\n\n"+a+"   # the first\r\n  "+b+"\n", 0o644))
	if err != nil || !slices.Equal(got, []string{a, b}) {
		t.Errorf("%v, %v", got, err)
	}
	for name, c := range map[string]struct{ text, say string }{
		"empty":         {"", "names no peer"},
		"comments":      {"# " + a + "\n", "names no peer"},
		"an address":    {a + "\n/ip4/192.0.2.1/tcp/4820/p2p/" + b + "\n", "line 2"},
		"a cut id":      {a[:20] + "\n", "line 1"},
		"two on a line": {a + " " + b + "\n", "line 1"},
		"too many":      {strings.Repeat(a+"\n", maxAllowed+1), "more than 4096"},
		"too long":      {strings.Repeat("# a comment\n", 1<<17), "longer than"},
		"one long line": {strings.Repeat("x", 1<<17), "too long"},
	} {
		if got, err := ReadPeerList(write(t, c.text, 0o644)); err == nil || !strings.Contains(err.Error(), c.say) || got != nil {
			t.Errorf("%s: %v, %v, want %q", name, got, err, c.say)
		}
	}
}

const testKey = "/key/swarm/psk/1.0.0/\n/base16/\n00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"

func TestNetworkKeys(t *testing.T) {
	key, err := LoadNetworkKey(write(t, testKey, 0o600))
	if err != nil || !key.Set() {
		t.Fatal(err)
	}
	raw := bytes.Clone(key.psk)
	for name, text := range map[string]string{
		"base64": "/key/swarm/psk/1.0.0/\n/base64/\n" + base64.StdEncoding.EncodeToString(raw) + "\n",
		"binary": "/key/swarm/psk/1.0.0/\n/bin/\n" + string(raw),
		"CRLF":   strings.ReplaceAll(testKey, "\n", "\r\n"),
	} {
		if again, err := LoadNetworkKey(write(t, text, 0o600)); err != nil || !bytes.Equal(again.psk, raw) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		say  string
	}{
		"empty":       {"", 0o600, "want three lines"},
		"version":     {strings.Replace(testKey, "1.0.0", "2.0.0", 1), 0o600, "want three lines"},
		"no form":     {strings.Replace(testKey, "/base16/\n", "", 1), 0o600, "want three lines"},
		"short":       {testKey[:len(testKey)-3] + "\n", 0o600, "want three lines"},
		"long":        {testKey[:len(testKey)-1] + "00\n", 0o600, "want three lines"},
		"not hex":     {strings.Replace(testKey, "0011", "zz11", 1), 0o600, "want three lines"},
		"of others":   {testKey, 0o640, "chmod 600"},
		"of everyone": {testKey, 0o644, "chmod 600"},
	} {
		_, err := LoadNetworkKey(write(t, c.text, c.mode))
		if err == nil || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "2233") {
			t.Errorf("%s: %v, want %q and no key", name, err, c.say)
		}
	}

	var shown bytes.Buffer
	cfg := Config{NetworkKey: key}
	fmt.Fprintf(&shown, "%v %+v %#v %s %q %x %v\n", cfg, cfg, cfg, key, key, key, &cfg)
	for _, h := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
		slog.New(h).Info("starting", "config", cfg, "key", key, "at", &key)
	}
	if err := json.NewEncoder(&shown).Encode([]any{key, &key}); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{"112233", "aabbcc", fmt.Sprint(raw)[1:20], "0x11, 0x22", base64.StdEncoding.EncodeToString(raw)[4:12]} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("the key is shown: %q in %s", secret, shown.String())
		}
	}
}

func TestWhatDoesNotGoTogether(t *testing.T) {
	me, other := newID(t), newID(t)
	key, err := parseNetworkKey([]byte(testKey))
	if err != nil {
		t.Fatal(err)
	}
	at := "/ip4/192.0.2.1/udp/4820/quic-v1/p2p/" + other.ID()
	for say, c := range map[string]Config{
		"QUIC can't":             {NetworkKey: key, Listen: []string{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"}},
		"can't be used with a n": {NetworkKey: key, Bootstrap: []string{at}},
		"forward a TCP port":     {NetworkKey: key, NAT: true},
		"not both":               {NAT: true, Relay: true},
		"no peer id":             {AllowPeers: []string{"nonsense"}},
		"isn't on the list":      {AllowPeers: []string{me.ID()}, Bootstrap: []string{at}},
		"leave out the peer id":  {External: []string{at}},
		"nobody can dial":        {External: []string{"/ip4/0.0.0.0/tcp/4820"}},
		"want one like":          {External: []string{"/ip4/192.0.2.1/udp/4820"}},
		"9 external":             {External: make([]string, 9)},
		"max peers 1025":         {MaxPeers: 1025},
	} {
		c.Identity = me
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%v, want %q in it", err, say)
		}
	}
	for _, c := range []Config{
		{NetworkKey: key, Listen: []string{"/ip4/0.0.0.0/tcp/0"}, External: []string{"/dns4/node.example/tcp/4820"}},
		{AllowPeers: []string{other.ID()}, Bootstrap: []string{at, "/ip4/192.0.2.1/tcp/4820/p2p/" + me.ID()}},
		{NAT: true, External: []string{"/ip4/192.0.2.1/udp/4820/quic-v1"}},
	} {
		c.Identity = me
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// startWith runs a node on loopback, TCP, after edit.
func startWith(t *testing.T, edit func(*Config)) *Service {
	t.Helper()
	cfg := Config{Identity: newID(t), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, TestNet: true}
	edit(&cfg)
	h, err := NewHost(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, h, newFake(chaintest.Genesis(nil, alice)))
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

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

func knows(s, other *Service) func() bool {
	return func() bool {
		return slices.ContainsFunc(s.Peers(), func(p PeerInfo) bool { return p.ID == other.ID() && p.HasStatus })
	}
}

func TestOnlyAllowedPeersConnect(t *testing.T) {
	friend, stranger := startWith(t, func(*Config) {}), startWith(t, func(*Config) {})
	s := startWith(t, func(c *Config) { c.AllowPeers = []string{friend.ID()} })
	if err := friend.Connect(t.Context(), s.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the friend connected", knows(s, friend))
	if err := s.Connect(t.Context(), stranger.Addrs()[0]); err == nil || !strings.Contains(err.Error(), "allowed peers") {
		t.Errorf("dialling out: %v", err)
	}
	// The stranger's side may think it is connected until the other has closed.
	stranger.Connect(t.Context(), s.Addrs()[0])
	eventually(t, "the stranger refused", func() bool {
		return stranger.host.Network().Connectedness(s.host.ID()) != network.Connected
	})

	if err := s.Allow([]string{stranger.ID()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the list replaced", func() bool { return knows(s, stranger)() && !knows(s, friend)() })
	if err := s.Allow([]string{"nonsense"}); err == nil {
		t.Error("nonsense allowed")
	}
	if err := s.Allow(nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both connected", func() bool { return knows(s, stranger)() && knows(s, friend)() })
}

func TestNetworkKeyIsNeeded(t *testing.T) {
	ours, err := parseNetworkKey([]byte(testKey))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := parseNetworkKey([]byte(strings.Replace(testKey, "0011", "1100", 1)))
	if err != nil {
		t.Fatal(err)
	}
	a := startWith(t, func(c *Config) { c.NetworkKey = ours })
	for name, key := range map[string]NetworkKey{"another key": theirs, "no key": {}} {
		b := startWith(t, func(c *Config) { c.NetworkKey = key })
		if err := b.Connect(t.Context(), a.Addrs()[0]); err == nil {
			t.Errorf("connected with %s", name)
		}
	}
	if got := a.Peers(); len(got) != 0 {
		t.Errorf("peers %+v", got)
	}
	b := startWith(t, func(c *Config) { c.NetworkKey = ours })
	if err := b.Connect(t.Context(), a.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected with the key", knows(a, b))
}

func TestExternalAddressesAreAnnounced(t *testing.T) {
	a := startWith(t, func(c *Config) { c.External = []string{"/dns4/node.example/tcp/4820"} })
	b := startWith(t, func(*Config) {})
	if want := "/dns4/node.example/tcp/4820/p2p/" + a.ID(); !slices.Contains(a.Addrs(), want) {
		t.Errorf("%v, want %s", a.Addrs(), want)
	}
	if err := b.Connect(t.Context(), a.Addrs()[slices.IndexFunc(a.Addrs(), func(s string) bool { return strings.HasPrefix(s, "/ip4") })]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "announced", func() bool {
		return slices.ContainsFunc(b.host.Peerstore().Addrs(a.host.ID()), func(m ma.Multiaddr) bool { return m.String() == "/dns4/node.example/tcp/4820" })
	})
}

// One stranger's address gets few connections, unless many nodes are known to share one; all addresses together get
// what MaxPeers leaves room for.
func TestConnectionsOfOneAddress(t *testing.T) {
	for name, c := range map[string]struct {
		cfg       Config
		addr      string
		want, all int
	}{
		"default":                 {Config{}, "/ip4/192.0.2.7/tcp/1", 8, 128},
		"shared":                  {Config{SharedAddress: true}, "/ip4/192.0.2.7/tcp/1", 128, 128},
		"test network, private":   {Config{TestNet: true}, "/ip4/10.0.0.7/tcp/1", 128, 128},
		"test network, public":    {Config{TestNet: true}, "/ip4/192.0.2.7/tcp/1", 8, 128},
		"IPv6":                    {Config{}, "/ip6/2001:db8::7/tcp/1", 8, 128},
		"IPv6, shared":            {Config{SharedAddress: true}, "/ip6/2001:db8::7/tcp/1", 128, 128},
		"many peers":              {Config{MaxPeers: 1024, SharedAddress: true}, "/ip4/192.0.2.7/tcp/1", 1088, 1088},
		"many peers, one address": {Config{MaxPeers: 1024}, "/ip4/192.0.2.7/tcp/1", 8, 1088},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Identity = newID(t)
			cfg, err := c.cfg.filled()
			if err != nil {
				t.Fatal(err)
			}
			m, err := resourceManager(&cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			peers := 0
			open := func(addr string) bool {
				scope, err := m.OpenConnection(network.DirInbound, true, ma.StringCast(addr))
				if err != nil {
					return false
				}
				peers++
				return scope.SetPeer(peer.ID(fmt.Sprint(peers))) == nil // no longer transient
			}
			got := 0
			for got <= 2000 && open(c.addr) {
				got++
			}
			if got != c.want {
				t.Errorf("%d connections of one address, want %d", got, c.want)
			}
			for i := 0; i < 2000 && open(fmt.Sprintf("/ip4/9.%d.%d.1/tcp/1", i/250, i%250)); i++ {
				got++
			}
			if got != c.all {
				t.Errorf("%d connections, want %d", got, c.all)
			}
		})
	}
}

// What the manual says of limits is what is set.
func TestLimitsAsTheManualSays(t *testing.T) {
	text, err := os.ReadFile("../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(text)
	limits := func(testNet bool) rcmgr.PartialLimitConfig {
		cfg := Config{MaxPeers: 64, TestNet: testNet}
		l := limitsOf(&cfg)
		return l.ToPartialLimitConfig()
	}
	node, tests := limits(false), limits(true)
	mib := func(v rcmgr.LimitVal64) string { return fmt.Sprintf("%d MiB", v>>20) }
	type limit = rcmgr.PartialLimitConfig
	for _, c := range []struct {
		what string
		get  func(l *limit) any
	}{
		{"connections, 2 × N + 128", func(l *limit) any { return l.System.Conns }},
		{"of these inbound, N + 64", func(l *limit) any { return l.System.ConnsInbound }},
		{"connections of one peer", func(l *limit) any { return l.PeerDefault.Conns }},
		{"streams", func(l *limit) any { return l.System.Streams }},
		{"streams of one peer", func(l *limit) any { return l.PeerDefault.Streams }},
		{"inbound streams of one peer and protocol", func(l *limit) any { return l.ProtocolPeerDefault.StreamsInbound }},
		{"file descriptors", func(l *limit) any { return l.System.FD }},
		{"memory for buffers", func(l *limit) any { return mib(l.System.Memory) }},
		{"of these for one peer", func(l *limit) any { return mib(l.PeerDefault.Memory) }},
		{"of these for one connection", func(l *limit) any { return mib(l.Conn.Memory) }},
		{"of these inbound", func(l *limit) any { return l.System.StreamsInbound }},
		{"of these inbound", func(l *limit) any { return l.PeerDefault.StreamsInbound }},
	} {
		if row := fmt.Sprintf("| %s | %v | %v |\n", c.what, c.get(&node), c.get(&tests)); !strings.Contains(manual, row) {
			t.Errorf("docs/operate.md lacks %s", row)
		}
	}
}
