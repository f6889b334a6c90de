package p2p

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Bounds of the files of a private network.
const (
	maxAllowed     = 4096
	maxAllowedFile = 1 << 20
	maxKeyFile     = 4096
)

// ReadPeerList reads the peer ids in file: one a line, blank lines and what follows a # passed over. There must be
// at least one, and at most 4,096.
func ReadPeerList(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(io.LimitReader(f, maxAllowedFile+1))
	read := 0
	for n := 1; lines.Scan(); n++ {
		if read += len(lines.Bytes()) + 1; read > maxAllowedFile {
			return nil, fmt.Errorf("peer list %s is longer than %d bytes", file, maxAllowedFile)
		}
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if _, err := peer.Decode(line); err != nil {
			return nil, fmt.Errorf("peer list %s, line %d: %.80q is no peer id", file, n, line)
		}
		if out = append(out, line); len(out) > maxAllowed {
			return nil, fmt.Errorf("peer list %s has more than %d peers", file, maxAllowed)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("peer list %s: %w", file, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("peer list %s names no peer: nobody could connect", file)
	}
	return out, nil
}

// peerIDs decodes a list that is to be the whole set of allowed peers. nil stays nil: no such set.
func peerIDs(ids []string) (map[peer.ID]struct{}, error) {
	if ids == nil {
		return nil, nil
	}
	if len(ids) > maxAllowed {
		return nil, fmt.Errorf("%d allowed peers, at most %d", len(ids), maxAllowed)
	}
	out := make(map[peer.ID]struct{}, len(ids))
	for _, id := range ids {
		p, err := peer.Decode(id)
		if err != nil {
			return nil, fmt.Errorf("allowed peer %.80q is no peer id: %w", id, err)
		}
		out[p] = struct{}{}
	}
	return out, nil
}

// Allow makes these peer ids the only ones that may connect, in or out; nil allows all again. Connections to others
// are closed.
func (s *Service) Allow(ids []string) error {
	allowed, err := peerIDs(ids)
	if err != nil {
		return err
	}
	s.gate.allow(allowed)
	for _, p := range s.host.Network().Peers() {
		if s.gate.denied(p) {
			s.drop(p)
		}
	}
	s.redial()
	return nil
}

// NetworkKey is the pre-shared key of a private network. Who doesn't have it can't even begin a handshake. It prints
// as a dash: it is a secret.
type NetworkKey struct{ psk pnet.PSK }

func (k NetworkKey) String() string   { return "-" }
func (k NetworkKey) GoString() string { return "-" }

// Set reports whether there is a key.
func (k NetworkKey) Set() bool { return len(k.psk) > 0 }

var errNetworkKey = errors.New("want three lines: /key/swarm/psk/1.0.0/, then /base16/ or /base64/, then 32 bytes in that form")

// LoadNetworkKey reads a key file in libp2p's swarm key format, version 1. Others than its owner must not be able to
// read it.
func LoadNetworkKey(file string) (NetworkKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return NetworkKey{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return NetworkKey{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return NetworkKey{}, fmt.Errorf("network key %s can be read by others (mode %04o): run chmod 600 on it", file, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return NetworkKey{}, err
	}
	key, err := parseNetworkKey(text)
	if err != nil {
		return NetworkKey{}, fmt.Errorf("network key %s: %w", file, err)
	}
	return key, nil
}

// parseNetworkKey never puts a part of the text into its error.
func parseNetworkKey(text []byte) (NetworkKey, error) {
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	form, rest, _ := bytes.Cut(rest, []byte("\n"))
	if strings.TrimSuffix(string(head), "\r") != "/key/swarm/psk/1.0.0/" {
		return NetworkKey{}, errNetworkKey
	}
	var psk []byte
	var err error
	switch strings.TrimSuffix(string(form), "\r") {
	case "/base16/":
		psk, err = hex.DecodeString(strings.TrimSpace(string(rest)))
	case "/base64/":
		psk, err = base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(rest)))
	case "/bin/":
		psk = rest
	default:
		err = errNetworkKey
	}
	if err != nil || len(psk) != 32 {
		return NetworkKey{}, errNetworkKey
	}
	return NetworkKey{psk}, nil
}

// checkNetwork refuses what a network key, or announced addresses, don't go together with.
func (c *Config) checkNetwork() error {
	if len(c.External) > maxExternal {
		return fmt.Errorf("%d external addresses, at most %d", len(c.External), maxExternal)
	}
	for _, a := range c.External {
		m, err := ma.NewMultiaddr(a)
		if err != nil {
			return fmt.Errorf("external address %.200q: %w", a, err)
		}
		if _, err := m.ValueForProtocol(ma.P_P2P); err == nil {
			return fmt.Errorf("external address %q: leave out the peer id, it is added", a)
		}
		if _, err := m.ValueForProtocol(ma.P_TCP); err != nil && !isQUIC(a) {
			return fmt.Errorf("external address %q: want one like /ip4/192.0.2.1/tcp/4820 or /dns4/node.example/udp/4820/quic-v1", a)
		}
		if ip, err := manet.ToIP(m); err == nil && ip.IsUnspecified() {
			return fmt.Errorf("external address %q: nobody can dial that", a)
		}
	}
	if c.NAT && c.Relay {
		return errNATAndRelay
	}
	if !c.NetworkKey.Set() {
		return nil
	}
	for _, list := range [][]string{c.Listen, c.External, c.Static, c.Bootstrap} {
		for _, a := range list {
			if isQUIC(a) {
				return fmt.Errorf("address %q: QUIC can't be used with a network key, only TCP can", a)
			}
		}
	}
	if c.NAT || c.Relay {
		return errors.New("a network key can't be used with hole punching and relays, which need QUIC: forward a TCP port and announce it as the external address")
	}
	return nil
}

func isQUIC(addr string) bool { return strings.Contains(addr, "/quic") }
