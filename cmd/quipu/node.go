package main

import "quipu/node"

// version is the node's: one binary, one version.
func version() string { return node.Version }
