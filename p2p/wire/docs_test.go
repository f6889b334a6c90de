package wire

import (
	"os"
	"strings"
	"testing"
)

// TestExamplesInDocs: docs/protocol.md shows these bytes and no others.
func TestExamplesInDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.Join(strings.Fields(string(doc)), "")
	for _, e := range examples() {
		if !strings.Contains(joined, e.Hex) {
			t.Errorf("docs/protocol.md does not show %s (%s): %s", e.Codec, e.Says, e.Hex)
		}
	}
}
