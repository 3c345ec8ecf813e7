// Package cli is the command tree of peftkit: one file per command, and the
// only place that prints, draws progress, handles signals and chooses exit
// codes. Everything it does is done by calling the packages below it.
package cli
