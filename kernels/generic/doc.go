// Package generic holds the portable Go form of every routine of package
// kernels. It is what runs where no assembly exists, and the reference that the
// assembly is tested against.
//
// Functions trust their arguments: lengths are checked in package kernels.
package generic
