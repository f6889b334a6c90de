// Package light is for a wallet without a trusted node: it takes headers and proofs from several peers and believes only
// what it has checked. It keeps no chain, serves nobody and joins no gossip.
//
//	light.go    Client, its peers, one request
//	headers.go  the heaviest chain of headers that any peer shows
//	proof.go    accounts and transactions, proved under that chain's last header
//	file.go     headers kept between two runs
package light

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Config is what a client starts from.
type Config struct {
	Genesis *chain.Genesis
	Peers   []string      // 1 to MaxPeers multiaddrs with /p2p/ID, of nodes that needn't be trusted
	File    string        // headers are kept in it from run to run; "" keeps none
	Timeout time.Duration // of one request; default 10 s
}

// MaxPeers is how many peers a client asks at most.
const MaxPeers = 64

// Client is not safe for concurrent use.
type Client struct {
	cfg   Config
	g     *chain.Genesis
	host  host.Host
	peers []*source
	trail []chain.State // of the heaviest chain seen: see thin
}

// source is one peer. Once err is set it isn't asked any more.
type source struct {
	info   peer.AddrInfo
	status wire.Status
	err    error
}

// New makes a client over a host, which the caller keeps and closes. Nothing is dialled yet.
func New(cfg Config, h host.Host) (*Client, error) {
	if len(cfg.Peers) < 1 || len(cfg.Peers) > MaxPeers {
		return nil, fmt.Errorf("light client with %d peers, want 1 to %d", len(cfg.Peers), MaxPeers)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	c := &Client{cfg: cfg, g: cfg.Genesis, host: h, trail: []chain.State{cfg.Genesis.State()}}
	for _, a := range cfg.Peers {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			return nil, fmt.Errorf("peer address %q: want a multiaddr that ends in /p2p/ID: %w", a, err)
		}
		i := slices.IndexFunc(c.peers, func(s *source) bool { return s.info.ID == info.ID })
		if i < 0 {
			c.peers = append(c.peers, &source{info: *info})
		} else { // one peer at two addresses is one voice
			c.peers[i].info.Addrs = append(c.peers[i].info.Addrs, info.Addrs...)
		}
	}
	if cfg.File == "" {
		return c, nil
	}
	trail, err := readTrail(cfg.File, c.g)
	if err == nil && trail != nil {
		c.trail = trail
	}
	return c, err
}

// Best is the last header of the heaviest chain seen, block 0 before any.
func (c *Client) Best() chain.State { return c.trail[len(c.trail)-1] }

// PeerReport is what became of one peer.
type PeerReport struct {
	ID  string
	Err error // why it isn't counted on; nil if it is
}

func (c *Client) reports() []PeerReport {
	out := make([]PeerReport, len(c.peers))
	for i, s := range c.peers {
		out[i] = PeerReport{ID: s.info.ID.String(), Err: s.err}
	}
	return out
}

// each runs f for every peer that is still counted on, all at once; its error ends that.
func (c *Client) each(f func(i int, s *source) error) {
	var wg sync.WaitGroup
	for i, s := range c.peers {
		if s.err == nil {
			wg.Go(func() { s.err = f(i, s) })
		}
	}
	wg.Wait()
}

// ErrNoPeers: no peer is left that could be asked.
var ErrNoPeers = errors.New("no peer answers as it should")

// left is nil while there is anybody to ask; else why not, peer by peer.
func (c *Client) left(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := ErrNoPeers
	for _, s := range c.peers {
		if s.err == nil {
			return nil
		}
		err = fmt.Errorf("%w; %s: %w", err, s.info.ID, s.err)
	}
	return err
}

// hello connects and exchanges statuses, ours first: a node takes whoever tells none for a stranger. Ours claims the
// headers we have and vouches for no block.
func (c *Client) hello(ctx context.Context, s *source) error {
	dialing, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.host.Connect(dialing, s.info); err != nil {
		return err
	}
	best, zero := c.Best(), c.g.State()
	ours := wire.Status{
		BestID: best.ID, BestHeight: best.Header.Height, BestWork: best.Work, TipID: zero.ID,
		Version: chain.VersionAt(best.Header.Height + 1), Clock: uint64(time.Now().UnixMilli()),
	}
	b, err := c.ask(ctx, s, wire.NameStatus, ours.Append(nil), wire.MaxStatus)
	if err == nil {
		s.status, err = wire.DecodeStatus(b)
	}
	return err
}

// ask sends a request and reads an answer of at most max bytes, within the timeout.
func (c *Client) ask(ctx context.Context, s *source, name string, request []byte, max int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	st, err := c.host.NewStream(network.WithNoDial(ctx, "standing connections only"), s.info.ID, protocol.ID(wire.ProtocolID(c.g.NetworkID(), name)))
	if err != nil {
		return nil, err
	}
	defer st.Reset()
	stop := context.AfterFunc(ctx, func() { st.Reset() })
	defer stop()
	if err := wire.WriteFrame(st, request); err != nil {
		return nil, err
	}
	if err := st.CloseWrite(); err != nil {
		return nil, err
	}
	return wire.ReadFrame(st, max)
}
