// Package rpc is how programs talk to a running node: JSON-RPC 2.0 at POST /rpc, and beside it /events (a stream),
// /health/livez, /health/readyz, /metrics and the explorer page, all on one loopback listener.
//
// # Contract
//
// Methods are named namespace_verb and take one object of named parameters; positional parameters are refused, an
// empty array counts as no parameters. Keys are exact: unknown, repeated and missing ones are refused. rpc.discover
// returns every method with its types, generated from the table that serves them.
//
//   - Amounts and nonces are decimal strings (JSON numbers lose integers above 2^53); amounts are in knots.
//   - Ids, accounts, hashes and raw bytes are lower-case hex. Addresses stand beside accounts for people.
//   - Heights, counts and sequence numbers are JSON integers, below 2^53.
//   - Times are RFC 3339 in UTC, except time_ms: a header's own time, exact Unix milliseconds. Other fields that end
//     in _ms or _us are durations.
//   - Fields may be added; none is renamed or changes its meaning. testdata/discover.json holds that.
//
// # Errors
//
// A call that fails carries {code, message, data: {name, hint, retryable}}. Codes and names are stable (errors.go);
// they come with HTTP 200, except that a call sent alone without the token it needs is 401, with a wrong one 403.
// What is wrong with the request as a whole is an HTTP error: 400, 403 (Host or origin), 405, 413, 503.
//
// # Who may call what
//
// Reading, and submitting transactions, which carry their own signatures, is open to whoever reaches the loopback
// interface. Methods marked admin need "Authorization: Bearer <token>" with the token from a file (0600) that is new
// at each start. The Host header must name this machine (against DNS rebinding), a POST from another site's page is
// refused, no CORS header is ever sent. Listening beyond loopback has to be asked for, and then every call needs the
// token; TLS is a reverse proxy's work.
package rpc
