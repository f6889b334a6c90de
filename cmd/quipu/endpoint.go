package main

// defaultRPC is where a node started without flags serves its API.
const defaultRPC = "http://127.0.0.1:4821"
