//go:build !linux

package load

import "errors"

// usageOf is for Linux.
func usageOf(int) (Usage, error) {
	return Usage{}, errors.New("the server's process can be watched on Linux only")
}

// ownUsage is for Linux: nothing elsewhere.
func ownUsage() Usage { return Usage{} }
