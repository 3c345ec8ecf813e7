package tuner

import "github.com/peftkit/peftkit/peft"

// TargetOptions are the options about modules that every method on this base
// has; targets is the default of target_modules, nil for none.
func TargetOptions(targets any) []peft.Option {
	return []peft.Option{
		{Key: "target_modules", Flag: "target-modules", Default: targets, Doc: "suffixes, a regular expression, or all-linear"},
		{Key: "exclude_modules", Doc: "suffixes or a regular expression of modules to leave alone"},
		{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		{Key: "layers_to_transform", Doc: "only these layers: a number or a list"},
		{Key: "layers_pattern", Doc: "name of the list of layers, where it is not the first numbered one"},
	}
}

// BiasOption is the option about biases, for methods whose files have it.
func BiasOption(method string) peft.Option {
	return peft.Option{Key: "bias", Default: "none", Doc: "biases to train too: none, " + method + "_only or all"}
}
