package room

import "time"

// Scores, as mean opinion scores, from which on a connection is called good and excellent: those of the
// ratings 60 and 80 of ITU-T G.107, "nearly all users dissatisfied" lies below and "satisfied" above. A
// better name needs scoreMargin more than that, so that it doesn't flicker.
const (
	goodScore      = 3.1
	excellentScore = 4.03
	scoreMargin    = 0.1
	// bestScore is what is said of a connection that nothing is known against.
	bestScore = 4.5
)

// qualityOf names a score, given the name before.
func qualityOf(score float32, before Quality) Quality {
	good, excellent := float32(goodScore), float32(excellentScore)
	if before < Good {
		good += scoreMargin
	}
	if before < Excellent {
		excellent += scoreMargin
	}
	switch {
	case score >= excellent:
		return Excellent
	case score >= good:
		return Good
	}
	return Poor
}

// Score takes the measured quality of a participant's connection as a mean opinion score, 1 to 4.5.
// Everybody hears of the first one, and when it gets another name.
func (r *Room) Score(now time.Time, id string, score float32) []Effect {
	p := r.byID[id]
	if p == nil || p.remote {
		return nil
	}
	p.score = min(max(score, 1), bestScore)
	p.measured = qualityOf(p.score, p.measured)
	if p.quality != Lost && !p.mediaAway() {
		r.setQuality(p, p.measured)
		if !p.scored { // clients know nothing of it before
			p.scored = true
			r.tellQuality(p)
			r.tellQualitiesTo(p)
		}
	}
	return r.take(now)
}

// tellQualitiesTo tells a participant of all the others: by now its client has them, which it may not
// have had yet right after the join.
func (r *Room) tellQualitiesTo(p *participant) {
	var list []ParticipantQuality
	for _, q := range r.order {
		if q != p && q.visible() && q.scored {
			list = append(list, q.qualityLine())
		}
	}
	if len(list) > 0 && p.attached {
		r.emit(SendQuality{To: []string{p.ID}, Qualities: list})
	}
}

// qualityLine is what is told of a participant.
func (p *participant) qualityLine() ParticipantQuality {
	q := ParticipantQuality{Participant: p.ID, Quality: p.quality, Score: p.score}
	switch {
	case p.quality == Lost:
		q.Score = 0
	case p.mediaAway():
		q.Score = 1
	}
	return q
}

// QualityOf returns what is told of a participant's connection; false while nothing is.
func (r *Room) QualityOf(id string) (ParticipantQuality, bool) {
	p := r.byID[id]
	if p == nil || !p.scored {
		return ParticipantQuality{}, false
	}
	return p.qualityLine(), true
}
