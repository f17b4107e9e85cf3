package signaling

import (
	"context"
	"strconv"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/twirp"
	"anytime/signaling/wire"
)

// Limits of a remote procedure call by the server. A client answers within 15 s unless told
// otherwise, and version 1 of the calls bounds payloads to 15 KB.
const (
	rpcTimeout    = 15 * time.Second
	rpcMaxTimeout = time.Minute
	rpcMaxPayload = 15 << 10
	rpcMaxMethod  = 256
	rpcMaxCalls   = 1000 // under way per room
)

// rpcCall is a call under way. answer has room for the one answer there is.
type rpcCall struct {
	to     string // participant id
	answer chan rpcAnswer
}

type rpcAnswer struct {
	payload string
	err     error
}

// performRPC calls a method of a participant's client and waits for what it returns. The call and
// its answer travel as data packets; the caller has no identity.
func (s *Server) performRPC(ctx context.Context, m *wire.PerformRPCRequest) (*wire.PerformRPCResponse, error) {
	timeout := time.Duration(m.GetResponseTimeoutMs()) * time.Millisecond
	switch {
	case m.GetMethod() == "" || len(m.GetMethod()) > rpcMaxMethod:
		return nil, twirp.Errorf(twirp.InvalidArgument, "method must have 1 to %d bytes", rpcMaxMethod)
	case len(m.GetPayload()) > rpcMaxPayload:
		return nil, twirp.Errorf(twirp.InvalidArgument, "payload may take %d bytes", rpcMaxPayload)
	case timeout > rpcMaxTimeout:
		return nil, twirp.Errorf(twirp.InvalidArgument, "response_timeout_ms may be %d", rpcMaxTimeout.Milliseconds())
	case timeout == 0:
		timeout = rpcTimeout
	}
	id := wire.NewID("RPC_")
	payload, err := wire.EncodeData(&wire.DataPacket{
		DestinationIdentities: []string{m.GetDestinationIdentity()},
		Value: &wire.DataRPCRequest{RpcRequest: &wire.RPCRequest{
			Id: id, Method: m.GetMethod(), Payload: m.GetPayload(), ResponseTimeoutMs: uint32(timeout.Milliseconds()), Version: 1,
		}},
	})
	if err != nil {
		return nil, twirp.Errorf(twirp.InvalidArgument, "texts must be UTF-8")
	}
	answer := make(chan rpcAnswer, 1)
	err = s.call(m.GetRoom(), m.GetDestinationIdentity(), func(a *actor, p *session) error {
		if len(a.calls) >= rpcMaxCalls {
			return &room.Refusal{Code: room.LimitExceeded, Text: "too many calls are under way in this room"}
		}
		if a.calls == nil {
			a.calls = map[string]rpcCall{}
		}
		a.calls[id] = rpcCall{to: p.id, answer: answer}
		a.sendData(p.id, true, payload)
		return nil
	})
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case got := <-answer:
		return &wire.PerformRPCResponse{Payload: got.payload}, got.err
	case <-timer.C:
		err = twirp.Errorf(twirp.DeadlineExceeded, "the participant did not answer within %v", timeout)
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.ask(m.GetRoom(), func(a *actor) { delete(a.calls, id) })
	return nil, err
}

// answersCall takes a packet that answers a call of the server, and reports whether it was one.
func (a *actor) answersCall(s *session, p *wire.DataPacket) bool {
	switch v := p.Value.(type) {
	case *wire.DataRPCAck:
		call, ours := a.calls[v.RpcAck.GetRequestId()]
		return ours && call.to == s.id
	case *wire.DataRPCResponse:
		id := v.RpcResponse.GetRequestId()
		call, ours := a.calls[id]
		if !ours || call.to != s.id {
			return false
		}
		delete(a.calls, id)
		call.answer <- rpcAnswerOf(v.RpcResponse)
		return true
	}
	return false
}

func rpcAnswerOf(r *wire.RPCResponse) rpcAnswer {
	switch v := r.GetValue().(type) {
	case *wire.RPCPayload:
		return rpcAnswer{payload: v.Payload}
	case *wire.RPCFailure:
		return rpcAnswer{err: &twirp.Error{Code: twirp.Aborted, Msg: v.Error.GetMessage(), Meta: map[string]string{
			"rpc_error_code": strconv.Itoa(int(v.Error.GetCode())), "rpc_error_data": v.Error.GetData(),
		}}}
	}
	return rpcAnswer{err: twirp.Errorf(twirp.Aborted, "the participant's answer is not of version 1")}
}

// dropCalls ends the calls to a participant that is gone.
func (a *actor) dropCalls(participant string) {
	for id, call := range a.calls {
		if call.to == participant {
			delete(a.calls, id)
			call.answer <- rpcAnswer{err: twirp.Errorf(twirp.Unavailable, "the participant left before it answered")}
		}
	}
}
