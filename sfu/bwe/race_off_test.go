//go:build !race

package bwe

const (
	raceEnabled = false
	slower      = 0
)
