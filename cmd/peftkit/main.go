// Command peftkit fine-tunes, converts, merges and runs language models on a CPU.
package main

import (
	"github.com/peftkit/peftkit/command"
	_ "github.com/peftkit/peftkit/plugins/standard"
)

func main() { command.Main() }
