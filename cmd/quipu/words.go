package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"strings"

	"quipu/wallet"
)

// The terminal's alternate screen (xterm, DECSET 1049): what is shown there is in no scrollback.
const (
	altScreen  = "\x1b[?1049h\x1b[2J\x1b[H"
	mainScreen = "\x1b[2J\x1b[H\x1b[?1049l"
)

// showWords shows a wallet's words once, on the alternate screen of a terminal, and asks for two of them. It reports
// whether they were given right. Words never go anywhere else than to this terminal.
func (a *app) showWords(ctx context.Context, w *wallet.Wallet) (bool, error) {
	if !a.canAsk() {
		return false, fail(exitTerminal, "add --mnemonic-out FILE", "words are shown on a terminal only")
	}
	mnemonic, err := w.Mnemonic()
	if err != nil {
		return false, err
	}
	words := strings.Fields(mnemonic)
	fmt.Fprint(a.err, altScreen)
	fmt.Fprintf(a.err, "These %d words are wallet %s. Whoever has them has its coins; without them a lost file or passphrase is final.\r\n"+
		"Write them down on paper, in order. They vanish from this screen afterwards.\r\n\r\n%s\r\n",
		len(words), w.Info().Name, wordTable(words))
	_, err = a.ask(ctx, "Press Enter when they are written down. ")
	fmt.Fprint(a.err, mainScreen)
	if err != nil {
		return false, err
	}
	first, second := twoOf(len(words))
	for _, i := range []int{first, second} {
		given, err := a.askHidden(ctx, fmt.Sprintf("Word %d (not shown): ", i+1))
		if err != nil {
			return false, err
		}
		if strings.ToLower(strings.TrimSpace(string(given))) != words[i] {
			return false, nil
		}
	}
	return true, nil
}

// wordTable numbers the words in four columns.
func wordTable(words []string) string {
	var b strings.Builder
	for i, w := range words {
		fmt.Fprintf(&b, "%3d. %-9s", i+1, w)
		if i%4 == 3 || i == len(words)-1 {
			b.WriteString("\r\n")
		}
	}
	return b.String()
}

// twoOf draws two different places below n, ascending.
func twoOf(n int) (int, int) {
	draw := func(n int) int {
		i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
		if err != nil {
			panic(err) // crypto/rand never fails
		}
		return int(i.Int64())
	}
	i, j := draw(n), draw(n-1)
	if j >= i {
		j++
	}
	return min(i, j), max(i, j)
}

// writeWords writes the words to a new file only its owner can read.
func writeWords(path string, w *wallet.Wallet) error {
	mnemonic, err := w.Mnemonic()
	if err != nil {
		return err
	}
	_, err = writeNewFile(path, 0o600, func(out io.Writer) error {
		_, err := io.WriteString(out, mnemonic+"\n")
		return err
	})
	return err
}

// readWords reads words from a file, from standard input ("-"), or asks for them on the alternate screen.
func (a *app) readWords(ctx context.Context, file string) (string, error) {
	const most = 4096
	switch {
	case file == "-":
		b, err := io.ReadAll(io.LimitReader(a.in, most))
		return string(b), err
	case file != "":
		b, err := readBounded(file, most)
		return string(b), err
	case !a.canAsk():
		return "", fail(exitTerminal, "add --mnemonic-file FILE", "the words of the wallet are needed, and there is nobody to ask")
	}
	fmt.Fprint(a.err, altScreen)
	defer fmt.Fprint(a.err, mainScreen)
	return a.ask(ctx, "Type the words on one line: ")
}
