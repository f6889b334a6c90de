package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"quipu/chain"
	"quipu/rpc"
	"quipu/wallet"
)

func init() { commands = append(commands, walletCommand) }

// openPrefix is of the addresses of networks whose coins may be worth something: their wallets need a passphrase.
const openPrefix = "qp"

type walletDoc struct {
	Schema string `json:"schema,omitempty"`
	walletInfo
}

// walletInfo is what a wallet file says without its passphrase. No secret is in it.
type walletInfo struct {
	Name       string          `json:"name"`
	Network    string          `json:"network"`
	NetworkID  chain.NetworkID `json:"network_id"`
	Address    string          `json:"address"`
	BackedUp   bool            `json:"backed_up"`
	Passphrase bool            `json:"passphrase"`
	File       string          `json:"file"`
	Problem    string          `json:"problem,omitempty"`
}

func infoOf(path string, i wallet.Info) walletInfo {
	return walletInfo{i.Name, i.Network, i.NetworkID, i.Address, i.BackedUp, i.HasPassphrase, path, ""}
}

func walletCommand(a *app) *cobra.Command {
	return noun("money", "wallet", "Keys: made, kept and used on this machine, never by a node",
		a.walletNew(), a.walletRestore(), a.walletWords(), a.walletList(), a.walletAddress(), a.walletBalance())
}

// making is what wallet new and wallet restore have in common.
type making struct {
	pass         passphraseFlags
	genesis      string
	noPassphrase bool
}

func (m *making) add(c *cobra.Command) {
	m.pass.add(c)
	c.Flags().StringVar(&m.genesis, "genesis", "", "genesis `FILE` of the wallet's network (default: the network of the node that is asked)")
	c.Flags().BoolVar(&m.noPassphrase, "no-passphrase", false, "no passphrase; on test networks only")
}

// options asks for all that is needed before anything is made. The caller clears the passphrase.
func (a *app) making(ctx context.Context, m *making, name string) (path string, o wallet.Options, pass []byte, err error) {
	if err := wallet.CheckName(name); err != nil {
		return "", o, nil, err
	}
	if o.Genesis, err = a.walletNetwork(ctx, m.genesis); err != nil {
		return "", o, nil, err
	}
	if o.NoPassphrase = m.noPassphrase; m.noPassphrase && o.Genesis.Prefix == openPrefix {
		return "", o, nil, usageError("", "wallets of %s need a passphrase: --no-passphrase is for test networks", o.Genesis)
	}
	dir, err := walletDir()
	if err != nil {
		return "", o, nil, err
	}
	path = wallet.Path(dir, name)
	if exists(path) {
		return "", o, nil, &wallet.Error{Kind: wallet.ErrExists, Path: path}
	}
	if !m.noPassphrase {
		pass, err = a.passphrase(ctx, m.pass, name, true)
	}
	return path, o, pass, err
}

func (a *app) walletNew() *cobra.Command {
	var m making
	var words int
	var out string
	c := &cobra.Command{
		Use: "new <name>", Short: "Make a wallet; prints its address", Args: args(1, 1, "a name"),
		Example: "  quipu wallet new alice\n  quipu wallet new miner --passphrase-file /run/secrets/miner --mnemonic-out /media/usb/miner.words",
		RunE: func(c *cobra.Command, given []string) error {
			if words < 12 || words > 24 || words%3 != 0 {
				return usageError("", "--words %d: 12, 15, 18, 21 or 24 are possible", words)
			}
			if out != "" && exists(out) {
				return usageError("choose another name", "%s exists already, it was left as it is", out)
			}
			path, o, pass, err := a.making(c.Context(), &m, given[0])
			if err != nil {
				return err
			}
			defer clear(pass)
			o.Words = words
			w, err := wallet.Create(path, o, pass)
			if err != nil {
				return err
			}
			defer w.Close()
			if err := a.printMade(w, path); err != nil {
				return err
			}
			return a.backUp(c.Context(), w, out)
		},
	}
	m.add(c)
	c.Flags().IntVar(&words, "words", 12, "12, 15, 18, 21 or 24 words")
	c.Flags().StringVar(&out, "mnemonic-out", "", "write the words to this new `FILE` (0600) instead of showing them")
	return c
}

// printMade prints the address on out and where the wallet is on err.
func (a *app) printMade(w *wallet.Wallet, path string) error {
	info := w.Info()
	a.say("wallet %s for %s (%s)\n  %s", info.Name, info.Network, info.NetworkID.Short(), path)
	if a.json {
		return a.writeJSON(walletDoc{"quipu.wallet/v1", infoOf(path, info)})
	}
	_, err := fmt.Fprintln(a.out, info.Address)
	return err
}

// backUp brings the words to their owner: to a file, or on a terminal. Otherwise it says how to get them.
func (a *app) backUp(ctx context.Context, w *wallet.Wallet, file string) error {
	later := "not backed up: " + a.typed("quipu wallet words "+w.Info().Name) + " shows its words on a terminal"
	if file != "" {
		if err := writeWords(file, w); err != nil {
			return fail(classify(err).code, "quipu wallet words "+w.Info().Name, "the wallet was made, its words could not be written: %w", err)
		}
		a.say("words written to %s: keep them off this machine", file)
		return w.SetBackedUp()
	}
	if !a.canAsk() {
		a.say("%s", later)
		return nil
	}
	ok, err := a.showWords(ctx, w)
	if err != nil {
		a.say("%s", later)
		return err
	}
	if !ok {
		a.say("that is another word. %s", later)
		return nil
	}
	a.say("backed up")
	return w.SetBackedUp()
}

func (a *app) walletWords() *cobra.Command {
	var pass passphraseFlags
	var out string
	c := &cobra.Command{
		Use: "words <name>", Short: "Show a wallet's words on the terminal and check that they were written down", Args: args(1, 1, "a wallet's name"),
		RunE: func(c *cobra.Command, given []string) error {
			path, info, err := a.findWallet(given[0], nil)
			if err != nil {
				return err
			}
			if out == "" && !a.canAsk() {
				return fail(exitTerminal, "add --mnemonic-out FILE", "words are shown on a terminal only")
			}
			w, err := a.unlock(c.Context(), pass, path, info)
			if err != nil {
				return err
			}
			defer w.Close()
			return a.backUp(c.Context(), w, out)
		},
	}
	pass.add(c)
	c.Flags().StringVar(&out, "mnemonic-out", "", "write the words to this new `FILE` (0600) instead of showing them")
	return c
}

func (a *app) walletRestore() *cobra.Command {
	var m making
	var file string
	c := &cobra.Command{
		Use: "restore <name>", Short: "Make a wallet file from words; prints its address", Args: args(1, 1, "a name"),
		RunE: func(c *cobra.Command, given []string) error {
			if file == "-" && m.pass.file == "-" {
				return usageError("", "words and passphrase can't both come from standard input")
			}
			path, o, pass, err := a.making(c.Context(), &m, given[0])
			if err != nil {
				return err
			}
			defer clear(pass)
			words, err := a.readWords(c.Context(), file)
			if err != nil {
				return err
			}
			w, err := wallet.Restore(path, o, words, pass)
			if err != nil {
				return err
			}
			defer w.Close()
			return a.printMade(w, path)
		},
	}
	m.add(c)
	c.Flags().StringVar(&file, "mnemonic-file", "", "`FILE` with the words; - is standard input")
	return c
}

func (a *app) walletList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Wallets on this machine", Args: args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			list, err := a.allWallets(nil)
			if err != nil {
				return err
			}
			doc := struct {
				Schema  string               `json:"schema"`
				Wallets rpc.List[walletInfo] `json:"wallets"`
			}{Schema: "quipu.wallets/v1"}
			for _, e := range list {
				info := infoOf(e.Path, e.Info)
				if e.Err != nil {
					info.Name, info.Problem = filepath.Base(e.Path), e.Err.Error()
				}
				doc.Wallets = append(doc.Wallets, info)
			}
			if a.json {
				return a.writeJSON(doc)
			}
			a.table("NAME\tNETWORK\tADDRESS\tNOTE", len(doc.Wallets), func(i int) []any {
				w := doc.Wallets[i]
				note := ""
				switch {
				case w.Problem != "":
					note = clean(w.Problem)
				case !w.BackedUp && w.Passphrase:
					note = "not backed up"
				case !w.Passphrase:
					note = "no passphrase"
				}
				return []any{w.Name, w.Network, w.Address, note}
			})
			if len(list) == 0 {
				a.say("no wallets yet: %s", a.typed("quipu wallet new NAME"))
			}
			return nil
		},
	}
}

func (a *app) walletAddress() *cobra.Command {
	return &cobra.Command{
		Use: "address [name]", Short: "A wallet's address; its passphrase isn't needed", Args: args(0, 1, "at most a wallet's name"),
		RunE: func(_ *cobra.Command, given []string) error {
			path, info, err := a.oneWallet(given)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(walletDoc{"quipu.wallet/v1", infoOf(path, info)})
			}
			fmt.Fprintln(a.out, info.Address)
			return nil
		},
	}
}

// oneWallet is the wallet named, else QUIPU_WALLET, else the only one.
func (a *app) oneWallet(given []string) (string, wallet.Info, error) {
	name := os.Getenv("QUIPU_WALLET")
	if len(given) > 0 {
		name = given[0]
	}
	if name != "" {
		return a.findWallet(name, nil)
	}
	list, err := a.allWallets(nil)
	if err != nil {
		return "", wallet.Info{}, err
	}
	switch len(list) {
	case 0:
		return "", wallet.Info{}, fail(exitNotFound, "quipu wallet new NAME", "there is no wallet yet")
	case 1:
		return list[0].Path, list[0].Info, list[0].Err
	}
	return "", wallet.Info{}, usageError("quipu wallet list", "there are %d wallets, say which one", len(list))
}
