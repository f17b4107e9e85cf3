package forward

// Succeed makes f, which follows no layer yet, go on where old left off: with the number after old's last, and a timestamp
// as much later as time passes until f starts. So one stream goes on when another codec of the same track takes over. Both
// must have the same clock rate.
func (f *Forwarder) Succeed(old *Forwarder) {
	f.seq.next = old.seq.next
	f.begun, f.last = old.begun, old.last
	f.cfg.Timestamp = old.cfg.Timestamp
}

// Announce returns the numbers of a padding-only packet ahead of the first packet, for receivers that are to know of a stream on
// which nothing is being sent yet. What is sent later goes on from there.
func (f *Forwarder) Announce() (sequence uint16, timestamp uint32) {
	f.seq.next++
	return f.seq.next - 1, f.cfg.Timestamp - 1
}
