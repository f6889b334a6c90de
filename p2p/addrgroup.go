package p2p

import (
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// closedRanges are addresses that mean something on one network only: those of privateRanges, and RFC 6598.
var closedRanges = append([]netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}, privateRanges...)

// nowhere are ranges that no peer can be dialled at.
var nowhere = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10"), // the last needs a zone
}

// Group of addresses that is taken to belong to one operator: 16 bits of IPv4, 32 of IPv6 (Bitcoin Core's netgroup
// without a map of autonomous systems). A closed address is a group of its own: on a private network a prefix costs
// nobody anything.
type group string

// byHand is the source group of what a person typed, onLAN of what mDNS found. No prefix is written so.
const (
	byHand group = "hand"
	onLAN  group = "mdns"
)

func groupOf(ip netip.Addr) group {
	ip = ip.Unmap()
	bits := 16
	switch {
	case closedRange(ip) >= 0:
		bits = ip.BitLen()
	case ip.Is6():
		bits = 32
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return ""
	}
	return group(p.String())
}

// closedRange is the index of the closed range that holds ip, -1 if none does.
func closedRange(ip netip.Addr) int {
	for i, p := range closedRanges {
		if p.Contains(ip.Unmap()) {
			return i
		}
	}
	return -1
}

// tellable reports whether an address means anything to somebody at another: an open one does to everybody, a closed
// one only on its own network, or on its own machine. It holds in both directions: what we keep of what a source
// tells, and what we tell an asker.
func tellable(ip, other netip.Addr) bool {
	r := closedRange(ip)
	return r < 0 || other.IsValid() && (other.Unmap().IsLoopback() || closedRange(other) == r)
}

// maxKnownAddr bounds a multiaddr of the book, in bytes; those it keeps take 22 at most.
const maxKnownAddr = 32

// dialable takes an address apart that the book keeps: an IP address with a TCP port, or with a UDP port and QUIC, and
// nothing else. Names are left out: who spreads them would decide what a node resolves.
func dialable(a ma.Multiaddr) (netip.Addr, bool) {
	if len(a) < 2 || len(a) > 3 || len(a.Bytes()) > maxKnownAddr {
		return netip.Addr{}, false
	}
	switch c := a[1].Protocol().Code; {
	case c == ma.P_TCP && len(a) == 2:
	case c == ma.P_UDP && len(a) == 3 && a[2].Protocol().Code == ma.P_QUIC_V1:
	default:
		return netip.Addr{}, false
	}
	if a[1].Value() == "0" {
		return netip.Addr{}, false
	}
	ip, ok := ipOf(a)
	if !ok {
		return netip.Addr{}, false
	}
	for _, p := range nowhere {
		if p.Contains(ip) {
			return netip.Addr{}, false
		}
	}
	return ip, true
}

// ipOf is the IP address that a multiaddr begins with.
func ipOf(a ma.Multiaddr) (netip.Addr, bool) {
	if a == nil {
		return netip.Addr{}, false
	}
	raw, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(raw)
	return ip.Unmap(), ok
}
