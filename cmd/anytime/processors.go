package main

import "time"

// A packet that arrives while nothing else is to be done wakes a thread, and as long as the Go scheduler has a processor without
// work it wakes another one to look for some: at low load that is a fifth of what a packet costs. So the process uses as few
// processors as it has work for, and more of them a tenth of a second after there is.

const (
	// processorTick is how often the load is looked at.
	processorTick = 100 * time.Millisecond
	// processorCalm is how many ticks in a row must have been calm before there are fewer.
	processorCalm = 30
	// Of the processors in use, over one tick: above crowdedShare there are twice as many, above fullShare all. There are half as
	// many when calmShare of that half would have done.
	crowdedShare = 0.5
	fullShare    = 0.8
	calmShare    = 0.35
)

// processors decides on how many processors are used, of all that there are.
type processors struct {
	all, used int
	calm      int // ticks in a row
}

// tick takes what was used in the latest tick, in processors, and returns how many there should be: 1 to all.
func (p *processors) tick(load float64) int {
	half := (p.used + 1) / 2
	switch {
	case load > fullShare*float64(p.used):
		p.used, p.calm = p.all, 0
	case load > crowdedShare*float64(p.used):
		p.used, p.calm = min(2*p.used, p.all), 0
	case load > calmShare*float64(half):
		p.calm = 0
	default:
		if p.calm++; p.calm >= processorCalm {
			p.used, p.calm = half, 0
		}
	}
	return p.used
}
