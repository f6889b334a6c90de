package rpc

import (
	"bytes"
	"encoding/json"
)

// Limits of a request as a whole.
const (
	MaxBody  = 8 << 20  // bytes of a request
	MaxBatch = 100      // calls of a request
	maxReply = 32 << 20 // bytes of all answers to a batch; the first answer is never cut
	maxID    = 256      // bytes of a call's id
)

// request is one call as it stands on the wire. id is nil for a notification, which gets no answer.
type request struct {
	id     json.RawMessage
	method string
	params json.RawMessage
	err    *Error // the call is malformed: answer this
}

// response is one answer.
type response struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *Error          `json:"error,omitempty"`
}

var nullID = json.RawMessage("null")

// decodeRequests reads a body: one call, or a batch of 1 to MaxBatch. The error concerns the body as a whole; what is
// wrong with one call of a batch stands in that call.
func decodeRequests(body []byte) (calls []request, batch bool, err *Error) {
	if !json.Valid(body) {
		return nil, false, Errorf(NameParse, "", "the body is not JSON")
	}
	body = bytes.TrimSpace(body)
	if body[0] != '[' {
		return []request{decodeRequest(body)}, false, nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.Token() // the bracket; the whole is valid JSON
	for dec.More() {
		if len(calls) == MaxBatch {
			return nil, true, Errorf(NameInvalidRequest, "tx_submit takes 500 transactions in one call", "a batch of more than %d calls", MaxBatch)
		}
		var one json.RawMessage
		if err := dec.Decode(&one); err != nil {
			return nil, true, Errorf(NameParse, "", "%v", err)
		}
		calls = append(calls, decodeRequest(one))
	}
	if len(calls) == 0 {
		return nil, true, Errorf(NameInvalidRequest, "", "an empty batch")
	}
	return calls, true, nil
}

func decodeRequest(text []byte) request {
	bad := func(format string, args ...any) request {
		return request{id: nullID, err: Errorf(NameInvalidRequest, `want {"jsonrpc":"2.0","id":1,"method":"node_status","params":{}}`, format, args...)}
	}
	m, err := object(text, func(key string) bool {
		return key == "jsonrpc" || key == "id" || key == "method" || key == "params"
	})
	if err != nil {
		return bad("the call: %v", err)
	}
	var r request
	if id, ok := m["id"]; ok {
		if len(id) > maxID || !isID(id) {
			return bad("id: want a string, a number or null of up to %d bytes", maxID)
		}
		r.id = id
	}
	withID := func(e request) request {
		if e.id = r.id; e.id == nil {
			e.id = nullID
		}
		return e
	}
	if string(m["jsonrpc"]) != `"2.0"` {
		return withID(bad(`jsonrpc: want "2.0"`))
	}
	if method := m["method"]; len(method) == 0 || method[0] != '"' || json.Unmarshal(method, &r.method) != nil {
		return withID(bad("method: want a string"))
	}
	if p := m["params"]; len(p) > 0 && p[0] != '{' && p[0] != '[' && string(p) != "null" {
		return withID(bad("params: want an object"))
	}
	r.params = m["params"]
	return r
}

func isID(id json.RawMessage) bool {
	return id[0] == '"' || id[0] == '-' || (id[0] >= '0' && id[0] <= '9') || string(id) == "null"
}
