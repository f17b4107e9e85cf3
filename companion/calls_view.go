package companion

import (
	"context"
	"errors"
	"time"

	"anytime/companion/people"
	"anytime/companion/sqlstore"
	"anytime/signaling/call"
)

// Call is a call as one device of one person sees it.
type Call struct {
	ID         string        `json:"id" doc:"ca_ and 16 characters; also the name of its room"`
	Media      string        `json:"media" enum:"audio,video"`
	State      string        `json:"state" enum:"ringing,active,ended" doc:"ringing while it rings me, even if others talk already; ended once my part is over, even if others go on"`
	Version    int64         `json:"version" doc:"Grows with every change of the call"`
	CreatedAt  time.Time     `json:"createdAt"`
	AnsweredAt *time.Time    `json:"answeredAt,omitempty" doc:"When I began to talk"`
	EndedAt    *time.Time    `json:"endedAt,omitempty" doc:"When my part was over"`
	Length     int64         `json:"lengthSeconds" doc:"How long I talked; 0 until my part is over"`
	Direction  string        `json:"direction" enum:"outgoing,incoming"`
	Outcome    string        `json:"outcome,omitempty" enum:"answered,declined,busy,cancelled,timed_out,missed,failed,ended" doc:"How it went for me, once my part is over"`
	Waiting    bool          `json:"waiting" doc:"It rings behind another call of mine"`
	Caller     people.Person `json:"caller"`
	People     []CallPerson  `json:"people" doc:"Everybody in the call, the caller first, me among them"`
	Here       bool          `json:"answeredOnThisDevice" doc:"This device is, or was, the one of mine in the call"`
	MyState    string        `json:"myState" enum:"ringing,joined,reconnecting,declined,busy,timed_out,left,cancelled,failed"`
	Stopped    string        `json:"stopped,omitempty" enum:"answered_elsewhere,declined,declined_elsewhere,timed_out,cancelled,signed_out" doc:"Why this device stopped ringing"`
}

// CallPerson is one person in a call.
type CallPerson struct {
	Person   people.Person `json:"person"`
	State    string        `json:"state" enum:"ringing,joined,reconnecting,declined,busy,timed_out,left,cancelled,failed"`
	Identity string        `json:"identity,omitempty" doc:"account:device, the identity in the call's room, of a person who is in the call"`
	Media    string        `json:"media,omitempty" enum:"audio,video" doc:"What the person answered with"`
}

// eventVersion makes a socket send each version of a call once.
func (c *Call) eventVersion() (string, int64) { return c.ID, c.Version }

// errHidden: the account must not know of the call.
var errHidden = errors.New("the call is not for this account")

// viewCall returns the call as the session's device sees it, or errHidden.
func (s *Server) viewCall(ctx context.Context, sess Session, c call.Call) (*Call, error) {
	list, err := s.viewCalls(ctx, sess, []call.Call{c})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errHidden
	}
	return list[0], nil
}

// viewCalls returns the calls as the session's device sees them, without those
// that its account must not know of.
func (s *Server) viewCalls(ctx context.Context, sess Session, list []call.Call) ([]*Call, error) {
	views := make([]call.View, 0, len(list))
	var ids []string
	for i := range list {
		v, ok := list[i].View(sess.Account.ID, sess.Device.ID)
		if !ok {
			continue
		}
		views = append(views, v)
		for _, p := range v.People {
			ids = append(ids, p.Account)
		}
	}
	who, err := s.store.People(ctx, sess.Account.ID, ids)
	if err != nil {
		return nil, err
	}
	out := make([]*Call, len(views))
	for i, v := range views {
		out[i] = render(v, who)
	}
	return out, nil
}

func render(v call.View, who map[string]people.Person) *Call {
	c := &Call{
		ID: v.ID, Media: string(v.Media), State: string(v.State), Version: v.Version, CreatedAt: v.CreatedAt,
		Length: int64(v.Length / time.Second), Direction: string(v.Direction), Outcome: string(v.Outcome), Waiting: v.Waiting,
		Caller: who[v.Caller], People: make([]CallPerson, len(v.People)), Here: v.Here, MyState: string(v.MyState),
		Stopped: string(v.Stopped),
	}
	if !v.AnsweredAt.IsZero() {
		c.AnsweredAt = &v.AnsweredAt
	}
	if !v.EndedAt.IsZero() {
		c.EndedAt = &v.EndedAt
	}
	for i, p := range v.People {
		c.People[i] = CallPerson{Person: who[p.Account], State: string(p.State), Media: string(p.Media)}
		if p.Device != "" {
			c.People[i].Identity = p.Account + ":" + p.Device
		}
	}
	return c
}

// publishCall lets the account's devices, or one of them, see the call as it then is.
func (s *Server) publishCall(accountID, deviceID, callID string) {
	s.hub.Publish(accountID, deviceID, Event{Type: "call", Key: callID, Load: func(ctx context.Context, sess Session) (any, error) {
		c, err := s.store.Call(ctx, callID)
		if errors.Is(err, sqlstore.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		view, err := s.viewCall(ctx, sess, c)
		if errors.Is(err, errHidden) {
			return nil, nil
		}
		return view, err
	}})
}
