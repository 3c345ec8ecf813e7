// Command custom is peftkit with one more method and one more format in it.
package main

import (
	_ "example.com/custom/onefile"
	_ "example.com/custom/outscale"
	"github.com/peftkit/peftkit/command"
	_ "github.com/peftkit/peftkit/plugins/standard"
)

func main() { command.Main() }
