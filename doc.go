// Package peftkit is a toolkit for parameter-efficient fine-tuning on the
// computers people own: it reads and writes model and adapter files, fine-tunes
// models on a plain CPU, and merges what was learnt. The command in cmd/peftkit
// is built from the same packages that a program of your own imports:
//
//   - model opens a model of any registered format and family and runs it;
//   - peft attaches methods to it, loads and saves adapters;
//   - data reads what to learn from, train fits the adapter, generate writes text;
//   - convert turns files of one format into another and merges adapters;
//   - formats, tokenizer, tensor, nn and kernels lie below and can be used alone.
//
// Formats, families and methods are plug-ins: a program imports those it wants,
// or plugins/standard for all of this repository. The example shows the whole way.
package peftkit
