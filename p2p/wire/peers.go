package wire

// Limits of peers.
const (
	MaxPeers     = 64
	MaxPeerID    = 64 // bytes; of an Ed25519 key it is 38
	MaxPeerAddrs = 4
	MaxPeerAddr  = 64 // bytes of a multiaddr
	maxPeerEntry = 1 + MaxPeerID + 1 + MaxPeerAddrs*(1+MaxPeerAddr)

	MaxPeersRequest = 1
	MaxPeersAnswer  = 1 + MaxPeers*maxPeerEntry
)

// PeerAddrs is a peer and where it may be reached: libp2p's binary forms, not looked into here.
type PeerAddrs struct {
	ID    []byte
	Addrs [][]byte // 1 to MaxPeerAddrs
}

// AppendPeersRequest appends max u8, from 1 to MaxPeers: how many peers to name at most.
func AppendPeersRequest(dst []byte, max int) []byte { return append(dst, byte(max)) }

// DecodePeersRequest reads a request to its end.
func DecodePeersRequest(b []byte) (int, error) {
	r := reader{b: b}
	max := int(r.u8())
	if err := r.end("peers request"); err != nil {
		return 0, err
	}
	if max < 1 || max > MaxPeers {
		return 0, malformed("request for %d peers, want 1 to %d", max, MaxPeers)
	}
	return max, nil
}

// AppendPeers appends the answer: n u8 ‖ n × (id_len u8 ‖ id ‖ m u8 ‖ m × (len u8 ‖ multiaddr)). None is a valid answer.
// What is over a limit is left out.
func AppendPeers(dst []byte, all []PeerAddrs) []byte {
	at := len(dst)
	dst = append(dst, 0)
	for i := range all {
		if dst[at] == MaxPeers {
			break
		}
		p := &all[i]
		if len(p.ID) == 0 || len(p.ID) > MaxPeerID {
			continue
		}
		start := len(dst)
		dst = append(append(dst, byte(len(p.ID))), p.ID...)
		count := len(dst)
		dst = append(dst, 0)
		for _, a := range p.Addrs {
			if len(a) > 0 && len(a) <= MaxPeerAddr && dst[count] < MaxPeerAddrs {
				dst = append(append(dst, byte(len(a))), a...)
				dst[count]++
			}
		}
		if dst[count] == 0 {
			dst = dst[:start]
			continue
		}
		dst[at]++
	}
	return dst
}

// DecodePeers reads an answer of at most max peers to its end. Ids and addresses are any bytes.
func DecodePeers(b []byte, max int) ([]PeerAddrs, error) {
	r := reader{b: b}
	n := int(r.u8())
	if n > min(max, MaxPeers) {
		return nil, malformed("%d peers, at most %d", n, min(max, MaxPeers))
	}
	if len(b) < 1+4*n { // the shortest entry
		return nil, malformed("peers answer is cut short")
	}
	all := make([]PeerAddrs, n)
	for i := range all {
		p := &all[i]
		p.ID = r.take(int(r.u8()))
		m := int(r.u8())
		if r.short {
			break
		}
		if len(p.ID) == 0 || len(p.ID) > MaxPeerID {
			return nil, malformed("peer id of %d bytes, want 1 to %d", len(p.ID), MaxPeerID)
		}
		if m < 1 || m > MaxPeerAddrs {
			return nil, malformed("peer with %d addresses, want 1 to %d", m, MaxPeerAddrs)
		}
		for range m {
			a := r.take(int(r.u8()))
			if !r.short && (len(a) == 0 || len(a) > MaxPeerAddr) {
				return nil, malformed("address of %d bytes, want 1 to %d", len(a), MaxPeerAddr)
			}
			p.Addrs = append(p.Addrs, a)
		}
	}
	if err := r.end("peers answer"); err != nil {
		return nil, err
	}
	return all, nil
}
