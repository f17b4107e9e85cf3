//go:build race

package bwe

const raceEnabled = true
