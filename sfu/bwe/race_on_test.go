//go:build race

package bwe

const (
	raceEnabled = true
	slower      = 1
)
