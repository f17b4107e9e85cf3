package sfu

// want takes what the allocation would send if the estimate allowed it, in bits per second; 0 is no more than it does.
func (p *Participant) want(int64) {}
