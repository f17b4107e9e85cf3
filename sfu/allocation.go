package sfu

import "time"

// budget is told what may be sent to the participant, in bit/s on the wire, whenever that changes and a few times a second.
func (p *Participant) budget(_ time.Duration, target int64) { p.budgeted.Store(target) }
