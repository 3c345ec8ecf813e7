// Package decoder is what the decoder-only families with rotary positions share:
// the configuration in transformers' names, the rotary tables, the names of the
// modules in both conventions, GGUF metadata, the network with its key-value
// cache, and the heads of the tasks.
//
// A family is a [Family] value in a package of its own: it says by which names
// its models go, gives transformers' defaults, and derives from config.json how
// its blocks differ from Llama's ([Variant]).
package decoder
