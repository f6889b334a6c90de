package node

// About is what to tell whoever started a node.
type About struct {
	PeerID string
	Listen []string // multiaddresses with the peer id
	URL    string   // of the API; "" without one
}

// About describes a node that New opened.
func (n *Node) About() About {
	a := About{PeerID: n.net.ID(), Listen: n.net.Addrs()}
	if n.api != nil {
		a.URL = n.api.server.URL()
	}
	return a
}
