// Package testnet runs a test network on one machine: one supervisor and, as its children, real nodes, each an
// operating-system process of this same binary on its own loopback ports. The supervisor makes the network (genesis,
// wallets, ports), starts the nodes, connects each with each, and then kills, stops, pauses, cuts and heals what it is
// told to over a JSON-RPC listener of its own, loopback and token as any node's.
//
// Only the supervisor signals, and only processes it started, through the handles it got when it started them. When
// it goes, however it goes, its children go: they get the kernel's parent-death signal (Linux) and watch a pipe whose
// other end it holds.
//
//	config.go, genesis.go   what a network is made of      ports.go      which ports it takes
//	supervisor.go           New and Run                    member.go     one node: start, signals, state
//	partition.go            cut and heal                   faucet.go     money, bad peers, environment
//	control.go, client.go   the verbs over RPC             discover.go   how a second terminal finds it
//	child.go, proc_*.go     processes                      logfile.go    their capped logs
package testnet
