package explorer

import "time"

// TestnetSchema is in every TestnetState. Fields may be added; renaming one makes a v2.
const TestnetSchema = "quipu.testnet/v1"

// TestnetState is what the supervisor knows of its network at one moment: nodes by number, the log oldest first.
type TestnetState struct {
	Schema  string        `json:"schema"` // set by State
	Network string        `json:"network"`
	Genesis string        `json:"genesis"` // network id, hex
	Time    time.Time     `json:"time"`
	Nodes   []TestnetNode `json:"nodes"`
	Log     []TestnetLog  `json:"log"`
}

// TestnetNode is one child process. What a node doesn't answer is empty or 0.
type TestnetNode struct {
	N      int    `json:"n"`
	Name   string `json:"name"`  // node-3
	State  string `json:"state"` // "up", "starting", "paused", "stopped", "killed", "bad" (an attacker on purpose)
	Peers  int    `json:"peers"`
	Height uint64 `json:"height"`
	Tip    string `json:"tip"`  // block id, hex
	Side   string `json:"side"` // "A", "B", … while partitioned, else empty
	Bans   int    `json:"bans"` // peers it refuses now
	UpMS   int64  `json:"up_ms"`
	HTTP   string `json:"http"` // URL
	P2P    string `json:"p2p"`  // multiaddress
	PID    int    `json:"pid"`
}

// TestnetLog is one line of what the supervisor did or saw.
type TestnetLog struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // "phase", "ok", "failed", "kill", "start", "stop", "pause", "resume", "partition", "heal", "add", "ban", "pay", "info"
	Node string    `json:"node,omitempty"`
	Text string    `json:"text"`
}
