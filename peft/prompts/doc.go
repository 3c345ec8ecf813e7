// Package prompts is what methods share that put trained rows, or trained keys
// and values, before the tokens of a text: where these go in a model, the keys of
// the configuration that PEFT fills in from it, the networks that trained
// embeddings may run through, and the file, which has bare names and of a network
// only what it computes. Files are those of Hugging Face PEFT.
package prompts
