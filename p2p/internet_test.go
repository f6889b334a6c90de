package p2p

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/marcopolo/simnet"
	"github.com/quic-go/quic-go"
)

// internet is a simulated network in virtual time with homes behind NATs: 10 ms one way, packets of a home leave from
// its NAT's public address, and a NAT lets in only what its kind lets in.
type internet struct {
	*world
	mu      sync.Mutex
	ends    map[netip.AddrPort]chan<- delivery
	homes   map[netip.Addr]*natBox // by the private address behind it
	nats    map[netip.Addr]*natBox // by its public address
	ports   uint16
	dropped int // packets that a NAT didn't let in
	closed  bool
	links   sync.WaitGroup
}

type delivery struct {
	p  *simnet.Packet
	at time.Time
}

// natKind is how a NAT maps and filters, in the words of RFC 4787.
type natKind int

const (
	coneNAT      natKind = iota // endpoint-independent mapping, address and port-dependent filtering: most homes
	symmetricNAT                // address and port-dependent mapping and filtering: no hole can be punched between two
	forwardedNAT                // a port is forwarded: mapping and filtering are endpoint-independent
)

type natBox struct {
	kind   natKind
	public netip.Addr
	next   uint16
	ports  map[[2]netip.AddrPort]uint16           // by private end and, of a symmetric NAT, the other end
	owners map[uint16]netip.AddrPort              // private end of a public port
	holes  map[uint16]map[netip.AddrPort]struct{} // who has been sent something from a public port
}

func inInternet(t *testing.T, f func(n *internet)) {
	synctest.Test(t, func(t *testing.T) {
		n := &internet{world: &world{T: t}, ends: map[netip.AddrPort]chan<- delivery{}, homes: map[netip.Addr]*natBox{},
			nats: map[netip.Addr]*natBox{}, ports: 20000}
		defer func() {
			for i := len(n.stop) - 1; i >= 0; i-- {
				n.stop[i]()
			}
			n.mu.Lock()
			n.closed = true
			for _, end := range n.ends {
				close(end)
			}
			n.mu.Unlock()
			n.links.Wait()
		}()
		f(n)
	})
}

// RecvPacket routes what an endpoint sends.
func (n *internet) RecvPacket(p *simnet.Packet) {
	n.mu.Lock()
	defer n.mu.Unlock()
	from, to := addrPort(p.From), addrPort(p.To)
	if box := n.homes[from.Addr()]; box != nil {
		from = netip.AddrPortFrom(box.public, box.out(from, to))
	}
	if box := n.nats[to.Addr()]; box != nil {
		inside, ok := box.in(from, to.Port())
		if !ok {
			n.dropped++
			return
		}
		to = inside
	} else if to.Addr().IsPrivate() {
		return // no route
	}
	p.From, p.To = net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to)
	if end := n.ends[to]; end != nil && !n.closed {
		select {
		case end <- delivery{p, time.Now().Add(10 * time.Millisecond)}:
		default: // a queue is full
		}
	}
}

func (b *natBox) out(from, to netip.AddrPort) uint16 {
	key := [2]netip.AddrPort{from}
	if b.kind == symmetricNAT {
		key[1] = to
	}
	port, ok := b.ports[key]
	if !ok {
		b.next += 7
		port = b.next
		b.ports[key], b.owners[port], b.holes[port] = port, from, map[netip.AddrPort]struct{}{}
	}
	b.holes[port][to] = struct{}{}
	return port
}

func (b *natBox) in(from netip.AddrPort, port uint16) (netip.AddrPort, bool) {
	_, hole := b.holes[port][from]
	inside, ok := b.owners[port]
	return inside, ok && (hole || b.kind == forwardedNAT)
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// home makes a NAT with a public address, and a private address behind it.
func (n *internet) home(kind natKind) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := byte(len(n.homes) + 1)
	box := &natBox{kind: kind, public: netip.AddrFrom4([4]byte{2, 0, 0, i}), next: 30000, ports: map[[2]netip.AddrPort]uint16{},
		owners: map[uint16]netip.AddrPort{}, holes: map[uint16]map[netip.AddrPort]struct{}{}}
	inside := netip.AddrFrom4([4]byte{10, 0, i, 2})
	n.homes[inside], n.nats[box.public] = box, box
	return inside
}

// public is an address without a NAT.
func (n *internet) public() netip.Addr {
	n.hosts++
	return netip.AddrFrom4([4]byte{1, 0, 0, byte(n.hosts)})
}

// quic is the constructor of a QUIC transport that sends and receives through this network from ip. libp2p's option for
// that would leave AutoNAT's dialer on real sockets.
func (n *internet) quic(ip netip.Addr) any {
	listen := func(_ string, at *net.UDPAddr) (net.PacketConn, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		port := uint16(at.Port)
		if port == 0 {
			n.ports++
			port = n.ports
		}
		here := netip.AddrPortFrom(ip, port)
		if n.ends[here] != nil {
			return nil, fmt.Errorf("%s is taken", here)
		}
		conn := simnet.NewBlockingSimConn(net.UDPAddrFromAddrPort(here))
		conn.SetUpPacketReceiver(n)
		queue := make(chan delivery, 4096)
		n.ends[here] = queue
		n.links.Go(func() {
			for d := range queue {
				time.Sleep(time.Until(d.at)) // virtual
				conn.RecvPacket(d.p)
			}
		})
		return conn, nil
	}
	return func(key crypto.PrivKey, reset quic.StatelessResetKey, token quic.TokenGeneratorKey, psk pnet.PSK, gater connmgr.ConnectionGater,
		limits network.ResourceManager) (transport.Transport, error) {
		m, err := quicreuse.NewConnManager(reset, token, quicreuse.OverrideListenUDP(listen),
			quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return sourceIP{ip}, nil }))
		if err != nil {
			return nil, err
		}
		t, err := libp2pquic.NewTransport(key, m, psk, gater, limits)
		return closing{t, m}, err
	}
}

// closing ends the sockets of a transport together with it.
type closing struct {
	transport.Transport
	m *quicreuse.ConnManager
}

func (c closing) Close() error {
	if t, ok := c.Transport.(io.Closer); ok {
		t.Close()
	}
	return c.m.Close()
}

type sourceIP struct{ netip.Addr }

func (s sourceIP) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return s.AsSlice(), nil
}

// hostAt is a real host at an address of this network.
func (n *internet) hostAt(ip netip.Addr, edit func(*Config)) (host.Host, Config) {
	n.Helper()
	ident, err := NewIdentity()
	if err != nil {
		n.Fatal(err)
	}
	cfg := Config{Identity: ident, Listen: []string{fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", ip)}, TestNet: true, quic: n.quic(ip)}
	if edit != nil {
		edit(&cfg)
	}
	h, err := NewHost(cfg, libp2p.UDPBlackHoleSuccessCounter(nil))
	if err != nil {
		n.Fatal(err)
	}
	n.stop = append(n.stop, func() { h.Close() })
	return h, cfg
}

// startAt runs a node at an address of this network.
func (n *internet) startAt(ip netip.Addr, f *fake, edit func(*Config)) *node {
	n.Helper()
	h, cfg := n.hostAt(ip, edit)
	s, err := New(cfg, h, f)
	if err != nil {
		n.Fatal(err)
	}
	f.mu.Lock()
	f.svc = s
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(n.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	once := func() {
		cancel()
		if err := <-done; err != nil {
			n.Errorf("Run: %v", err)
		}
		done <- nil
	}
	n.stop = append(n.stop, once)
	synctest.Wait()
	return &node{Service: s, f: f, cancel: once}
}
