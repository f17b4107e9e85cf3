package room

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// witness sees a room's effects as its clients and its SFU would, and complains about what the
// contract forbids.
type witness struct {
	t     *testing.T
	room  *Room
	views map[string]*view   // connected clients by participant id
	media map[string]bool    // open media
	subs  map[[2]string]bool // subscriber, track
	owner map[string]string  // of announced tracks
	left  map[string]bool    // sessions that are over
	log   []string           // what happened, for the failure's text
}

// view is what one client believes.
type view struct {
	known    map[string]Info // by participant id
	versions map[string]uint32
}

func (w *witness) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nafter\n%s", fmt.Sprintf(format, args...), fmt.Sprint(w.log))
}

func (w *witness) to(id string) *view {
	v := w.views[id]
	if v == nil {
		w.fail("a message to %s, who has no connection", id)
	}
	return v
}

func (w *witness) see(v *view, id string, p Info) {
	if p.Permission.Hidden && p.ID != id && p.State != Departed {
		w.fail("%s was told of the hidden %s", id, p.ID)
	}
	if p.Version < v.versions[p.ID] {
		w.fail("%s was told version %d of %s after %d", id, p.Version, p.ID, v.versions[p.ID])
	}
	v.versions[p.ID] = p.Version
	if p.State == Departed {
		for _, q := range v.known {
			if q.Identity == p.Identity && q.ID != p.ID {
				w.fail("%s was told that %s left after %s of the same identity came", id, p.ID, q.ID)
			}
		}
		delete(v.known, p.ID)
	} else {
		v.known[p.ID] = p
	}
}

func (w *witness) take(effects []Effect) {
	for _, e := range effects {
		w.log = append(w.log, brief([]Effect{e})...)
		switch e := e.(type) {
		case SendJoin:
			if w.views[e.To] != nil || w.left[e.To] {
				w.fail("%s joined twice", e.To)
			}
			v := &view{known: map[string]Info{}, versions: map[string]uint32{}}
			w.views[e.To] = v
			for _, p := range append(e.Others, e.Self) {
				w.see(v, e.To, p)
			}
		case SendMoved:
			if w.views[e.To] != nil || !w.left[e.To] {
				w.fail("%s came from nowhere", e.To)
			}
			delete(w.left, e.To)
			v := &view{known: map[string]Info{}, versions: map[string]uint32{}}
			w.views[e.To] = v
			for _, p := range append(e.Others, e.Self) {
				w.see(v, e.To, p)
			}
		case SendReconnect:
			if w.views[e.To] != nil {
				w.fail("%s resumed over a live connection", e.To)
			}
			w.views[e.To] = &view{known: map[string]Info{}, versions: map[string]uint32{}}
		case SendUpdate:
			for _, id := range e.To {
				for _, p := range e.Participants {
					w.see(w.to(id), id, p)
				}
			}
		case SendRoom:
			for _, id := range e.To {
				w.to(id)
			}
		case SendSpeakers:
			for _, id := range e.To {
				w.to(id)
			}
		case SendQuality:
			for _, id := range e.To {
				w.to(id)
				for _, q := range e.Qualities {
					if q.Participant == id && q.Quality == Lost {
						w.fail("%s was told that its own connection is lost", id)
					}
				}
			}
		case SendTrackPublished:
			w.to(e.To)
		case SendTrackUnpublished:
			w.to(e.To)
		case SendMute:
			w.to(e.To)
		case SendTrackSubscribed:
			w.to(e.To)
		case SendSubscriptionPermission:
			if _, ok := w.to(e.To).known[e.Owner]; !ok {
				w.fail("%s heard of a permission of %s, whom it doesn't know", e.To, e.Owner)
			}
		case SendSubscriptionError:
			w.to(e.To)
		case SendLayers:
			w.to(e.To)
			if owner := w.owner[e.TrackID]; owner != e.To {
				w.fail("%s was told what is wanted of %s, which is of %q", e.To, e.TrackID, owner)
			}
			for _, c := range e.Codecs {
				if c.Highest > 2 {
					w.fail("layer %d is wanted of %s", c.Highest, e.TrackID)
				}
			}
		case SendStreamState:
			w.to(e.To)
			if !w.subs[[2]string{e.To, e.TrackID}] {
				w.fail("%s heard of the stream %s, to which it isn't subscribed", e.To, e.TrackID)
			}
		case PublishCodec:
			if w.owner[e.TrackID] != e.Owner || e.Codec.CID == "" {
				w.fail("codec %v for %s of %s", e.Codec, e.TrackID, e.Owner)
			}
		case SendLeave:
			w.to(e.To)
			delete(w.views, e.To)
		case OpenMedia:
			w.media[e.ID] = true
		case CloseMedia:
			if !w.media[e.ID] {
				w.fail("media of %s closed twice", e.ID)
			}
			delete(w.media, e.ID)
			for k := range w.subs {
				if k[0] == e.ID {
					delete(w.subs, k)
				} else if w.owner[k[1]] == e.ID {
					w.fail("media of %s closed while %s is subscribed to %s", e.ID, k[0], k[1])
				}
			}
		case PublishTrack:
			w.owner[e.Track.ID] = e.Track.Owner
		case UnpublishTrack:
			if w.owner[e.TrackID] != e.Owner {
				w.fail("unpublished %s of %s, which isn't there", e.TrackID, e.Owner)
			}
			delete(w.owner, e.TrackID)
		case MuteTrack:
			if w.owner[e.TrackID] != e.Owner {
				w.fail("muted %s of %s, which isn't there", e.TrackID, e.Owner)
			}
		case Subscribe:
			k := [2]string{e.Subscriber, e.TrackID}
			owner := w.owner[e.TrackID]
			switch v := w.views[e.Subscriber]; {
			case w.subs[k]:
				w.fail("subscribed twice: %v", k)
			case !w.media[e.Subscriber] || owner == "" || owner == e.Subscriber:
				w.fail("subscribed to nothing: %v of %s", k, owner)
			case v != nil && !slices.ContainsFunc(v.known[owner].Tracks, func(t Track) bool { return t.ID == e.TrackID }):
				w.fail("%s was subscribed to %s before it was told of it", e.Subscriber, e.TrackID)
			}
			w.subs[k] = true
		case Unsubscribe:
			k := [2]string{e.Subscriber, e.TrackID}
			if !w.subs[k] {
				w.fail("unsubscribed what wasn't subscribed: %v", k)
			}
			delete(w.subs, k)
		case Configure:
			if !w.subs[[2]string{e.Subscriber, e.TrackID}] {
				w.fail("configured what isn't subscribed: %s %s", e.Subscriber, e.TrackID)
			}
		case RestartICE:
			if !w.media[e.ID] {
				w.fail("restarted the closed media of %s", e.ID)
			}
		case ParticipantLeft:
			if w.left[e.Participant.ID] {
				w.fail("%s left twice", e.Participant.ID)
			}
			w.left[e.Participant.ID] = true
			delete(w.views, e.Participant.ID) // it left by itself, or without connection
		}
	}
}

// settled checks that every client's view is the room, when nothing waits to be told.
func (w *witness) settled() {
	truth := map[string]Info{}
	for _, p := range w.room.Participants() {
		truth[p.ID] = p
	}
	for id, v := range w.views {
		for pid, p := range truth {
			if p.Permission.Hidden && pid != id {
				continue
			}
			if got, ok := v.known[pid]; !ok || got.Version != p.Version || names([]Info{got}) != names([]Info{p}) {
				w.fail("%s believes %s of %s, the truth is %s", id, names([]Info{got}), pid, names([]Info{p}))
			}
		}
		for pid := range v.known {
			if _, ok := truth[pid]; !ok {
				w.fail("%s believes that %s is still here", id, pid)
			}
		}
	}
	for k := range w.subs {
		if !w.room.IsSubscribed(k[0], k[1]) {
			w.fail("the SFU is subscribed and the room is not: %v", k)
		}
	}
}

// play runs the events that the bytes spell.
func play(t *testing.T, script []byte) {
	now := t0
	r := New("RM_1", "room", Limits{Participants: 6, Tracks: 3, CoalesceAbove: 2}, now)
	w := &witness{t: t, room: r, views: map[string]*view{}, media: map[string]bool{}, subs: map[[2]string]bool{},
		owner: map[string]string{}, left: map[string]bool{}}
	fresh := 0
	next := func() byte {
		if len(script) == 0 {
			return 0
		}
		b := script[0]
		script = script[1:]
		return b
	}
	participant := func() string {
		list := r.Participants()
		if len(list) == 0 {
			return "PA_none"
		}
		return list[int(next())%len(list)].ID
	}
	track := func() string {
		var ids []string
		for id := range r.tracks {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		if len(ids) == 0 {
			return "TR_none"
		}
		return ids[int(next())%len(ids)]
	}
	permission := func(b byte) Permission {
		return Permission{Publish: b&1 == 0, Subscribe: b&2 == 0, PublishData: true, Hidden: b&12 == 12}
	}
	for len(script) > 0 && !r.Finished() {
		now = now.Add(time.Duration(next()) * 20 * time.Millisecond)
		var effects []Effect
		switch op := next() % 25; op {
		case 0, 1:
			fresh++
			b := next()
			effects, _ = r.Join(now, Profile{ID: fmt.Sprint("PA_", fresh), Identity: fmt.Sprint("i", b%7),
				Permission: permission(b >> 3), AutoSubscribe: b&128 == 0, SubscriberPrimary: true})
		case 2:
			effects = r.Leave(now, participant())
		case 3:
			id := participant()
			effects = r.Detach(now, id)
			delete(w.views, id)
		case 4:
			if id := participant(); w.views[id] == nil {
				if p, ok := r.Participant(id); ok {
					effects, _ = r.Resume(now, id, p.Identity)
				}
			}
		case 5:
			effects = r.Remove(now, participant(), Removed, Disconnect)
		case 6, 7:
			effects = r.TransportChanged(now, participant(), false, Transport(next()%3+1))
		case 8, 9:
			fresh++
			effects, _ = r.AddTrack(now, participant(), Track{ID: fmt.Sprint("TR_", fresh), CID: fmt.Sprint("c", next()%4),
				Kind: Kind(next() % 2), Codecs: []Codec{{MimeType: "video/vp9"}}})
		case 10, 11:
			effects = r.TrackStarted(now, participant(), track(), "video/VP8")
		case 12:
			effects = r.TrackEnded(now, participant(), track())
		case 13:
			effects, _ = r.SetMuted(now, participant(), track(), next()%2 == 0, next()%2 == 0)
		case 14:
			effects, _ = r.UpdateSubscription(now, participant(), []string{track(), "TR_none"}, next()%2 == 0)
		case 15:
			effects = r.Configure(now, participant(), []string{track()}, Settings{Quality: int32(next() % 3)})
		case 16:
			effects, _ = r.SetSubscriptionPermission(now, participant(), SubscriptionGrants{
				Everybody: next()%2 == 0, Grants: []SubscriptionGrant{{Participant: participant(), Tracks: []string{track()}}}})
		case 17:
			effects, _ = r.SetPermission(now, participant(), permission(next()))
		case 18:
			effects = r.Speakers(now, []Speaker{{Participant: participant(), Level: 0.5}})
		case 19:
			if next()%2 == 0 {
				id, trackID := participant(), track()
				delete(w.subs, [2]string{id, trackID}) // the SFU gave it up
				effects = r.SubscriptionFailed(now, id, trackID, CodecUnsupported)
			} else {
				effects, _ = r.Unpublish(now, track())
			}
		case 20: // out, and in again, as into another room of the same people
			id := participant()
			moving, left, err := r.MoveOut(now, id)
			w.take(left)
			if err != nil {
				break
			}
			for k := range w.subs {
				if k[0] == id {
					delete(w.subs, k) // they end with the move
				}
			}
			if effects, err = r.MoveIn(now, moving); err != nil {
				w.fail("%s found the room closed: %v", id, err)
			}
		case 21:
			effects, _ = r.AddCodec(now, participant(), track(), Codec{MimeType: fmt.Sprint("video/c", next()%3), CID: fmt.Sprint("c", next()%6)})
		case 22:
			if next()%2 == 0 {
				effects = r.CodecStarted(now, participant(), track(), int(next()%3), "video/VP8")
			} else {
				effects = r.CodecEnded(now, participant(), track(), int(next()%3))
			}
		case 23:
			effects = r.LayersWanted(now, participant(), track(), []int8{int8(next()), int8(next() % 4)}[:next()%3])
		case 24:
			if next()%2 == 0 {
				effects = r.StreamState(now, participant(), track(), next()%2 == 0)
			} else {
				effects = r.Score(now, participant(), float32(next())/50)
			}
		}
		w.take(effects)
		if due := r.NextDeadline(); !due.IsZero() && !now.Before(due) {
			w.take(r.Tick(now))
		}
		if r.changes.due.IsZero() {
			w.settled()
		}
	}
	w.take(r.Close(now, ServerShutdown, Reconnect))
	if len(w.media) != 0 || len(w.views) != 0 || len(w.subs) != 0 || len(w.owner) != 0 {
		w.fail("left over: media %v, clients %v, subscriptions %v, tracks %v", w.media, w.views, w.subs, w.owner)
	}
}

func FuzzRoom(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 1, 1, 8, 0, 0, 1, 10, 0, 0, 1, 2, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 4096 {
			return
		}
		play(t, script)
	})
}

// TestRandomRooms plays seeded random scripts, so that every run of the tests sees many events.
func TestRandomRooms(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		script := make([]byte, 1500)
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, script) })
	}
}
