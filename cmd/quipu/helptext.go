package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

const exitCodesHelp = `Exit codes

  0    ok
  1    another failure
  2    usage: the command line can't be understood, or more has to be said
  3    not found: no such block, transaction, wallet or data directory
  4    locked or not authorised: passphrase needed or wrong, token needed or wrong
  5    node unreachable, or it can't answer yet
  6    rejected by validation, or not possible in the present state
  7    outcome unknown: timed out; the txid was printed
  8    insufficient funds
  9    already running: another process holds the data directory or the port
  10   a check failed
  11   disk space low: nothing was lost, make room or see quipu chain compact --help
  12   data directory or wallet file unusable: another network's, written by a newer program, damaged, or not ours to write
  13   no terminal: what is shown or asked on a terminal only can't be
  130  interrupted

"go run" turns every code but 0 into 1: build the binary for scripts.
`

const environmentHelp = `Environment

  QUIPU_DATA_DIR          directory of a node's data, instead of $XDG_DATA_HOME/quipu/<network>
  QUIPU_RPC               URL of the node to ask
  QUIPU_RPC_TOKEN_FILE    file with that node's token, for commands that change a node
  QUIPU_WALLET            wallet that pays, by name
  QUIPU_PASSPHRASE_FILE   file with the wallet's passphrase
  XDG_DATA_HOME           where nodes' data and wallets live (default ~/.local/share)
  XDG_STATE_HOME          where test networks live (default ~/.local/state)
  XDG_RUNTIME_DIR         where a running test network is found
  NO_COLOR, TERM=dumb     no colours
  GOGC, GOMEMLIMIT        as for every Go program; a node sets GOGC to 15 unless you do

A flag goes before the environment, the environment before the default.
Variables hold paths to secrets, never secrets: there is none for a passphrase, a key or a token.
`

const filesHelp = `Files

  $XDG_DATA_HOME/quipu/<network>/        one node's data (0700); --data-dir or QUIPU_DATA_DIR name another
    chain/                               ledger: headers, bodies, accounts
    node.key                             the node's identity on the network, no money (0600)
    peers.book                           addresses of other nodes (0600); quipu peer book lists it
    bans.json                            peers that are banned (0600); quipu peer bans lists them
    snapshots/                           accounts at three recent blocks, for newcomers; may be removed
    replay/                              of a node that began with a snapshot, until it is verified; may be removed
    bootnode/                            identity and addresses of quipu bootnode
    rpc.token                            new at each start (0600)
  $XDG_DATA_HOME/quipu/light/            headers that account balance --light has checked
  $XDG_DATA_HOME/quipu/wallets/NAME.json one wallet, sealed with its passphrase (0600), never overwritten
  $XDG_STATE_HOME/quipu/testnets/NAME/   a test network: nodes, logs, wallets without passphrase
  $XDG_RUNTIME_DIR/quipu/testnets/NAME/  how a second terminal finds a running test network

XDG_DATA_HOME is ~/.local/share and XDG_STATE_HOME ~/.local/state unless set.
Uninstalling is removing these and the binary.
`

// helpTopics are shown by "quipu help TOPIC"; cobra lists them apart since they do nothing else.
func (a *app) helpTopics() []*cobra.Command {
	topic := func(name, short, text string) *cobra.Command {
		c := &cobra.Command{Use: name, Short: short}
		c.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprint(c.OutOrStdout(), text) })
		return c
	}
	return []*cobra.Command{
		topic("exit-codes", "What the exit code says", exitCodesHelp),
		topic("environment", "Variables that are read", environmentHelp),
		topic("files", "Where data lives", filesHelp),
	}
}
