package wire

import (
	"fmt"

	lk "github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/encoding/protojson"
)

// Messages of the server API (Twirp RoomService).
type (
	CreateRoomRequest          = lk.CreateRoomRequest
	ListRoomsRequest           = lk.ListRoomsRequest
	ListRoomsResponse          = lk.ListRoomsResponse
	DeleteRoomRequest          = lk.DeleteRoomRequest
	DeleteRoomResponse         = lk.DeleteRoomResponse
	ListParticipantsRequest    = lk.ListParticipantsRequest
	ListParticipantsResponse   = lk.ListParticipantsResponse
	RoomParticipantIdentity    = lk.RoomParticipantIdentity
	RemoveParticipantResponse  = lk.RemoveParticipantResponse
	MuteRoomTrackRequest       = lk.MuteRoomTrackRequest
	MuteRoomTrackResponse      = lk.MuteRoomTrackResponse
	UpdateParticipantRequest   = lk.UpdateParticipantRequest
	UpdateSubscriptionsRequest = lk.UpdateSubscriptionsRequest
	UpdateSubscriptionsReply   = lk.UpdateSubscriptionsResponse
	SendDataRequest            = lk.SendDataRequest
	SendDataResponse           = lk.SendDataResponse
	UpdateRoomMetadataRequest  = lk.UpdateRoomMetadataRequest
	ForwardParticipantRequest  = lk.ForwardParticipantRequest
	ForwardParticipantResponse = lk.ForwardParticipantResponse
	MoveParticipantRequest     = lk.MoveParticipantRequest
	MoveParticipantResponse    = lk.MoveParticipantResponse
	PerformRPCRequest          = lk.PerformRpcRequest
	PerformRPCResponse         = lk.PerformRpcResponse
)

// Remote procedure calls travel in data packets.
type (
	RPCRequest      = lk.RpcRequest
	RPCResponse     = lk.RpcResponse
	RPCAck          = lk.RpcAck
	RPCError        = lk.RpcError
	DataRPCRequest  = lk.DataPacket_RpcRequest
	DataRPCResponse = lk.DataPacket_RpcResponse
	DataRPCAck      = lk.DataPacket_RpcAck
	RPCPayload      = lk.RpcResponse_Payload
	RPCFailure      = lk.RpcResponse_Error
)

// WebhookEvent is what a webhook is told.
type WebhookEvent = lk.WebhookEvent

// RoomEndReason says why a room finished.
type RoomEndReason = lk.RoomEndReason

const (
	RoomEndUnknown  = lk.RoomEndReason_ROOM_END_UNKNOWN
	RoomEndDeleted  = lk.RoomEndReason_ROOM_END_API_DELETE
	RoomEndIdle     = lk.RoomEndReason_ROOM_END_IDLE_TIMEOUT
	RoomEndShutdown = lk.RoomEndReason_ROOM_END_SERVER_SHUTDOWN
)

// NewEventID returns a fresh id of a webhook event (EV_…).
func NewEventID() string { return NewID("EV_") }

// EncodeWebhook makes the JSON body of a webhook, in lower camel case and without empty fields.
func EncodeWebhook(e *WebhookEvent) ([]byte, error) {
	b, err := protojson.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode webhook event: %w", err)
	}
	return b, nil
}

// DecodeWebhook reads what EncodeWebhook made.
func DecodeWebhook(body []byte) (*WebhookEvent, error) {
	var e WebhookEvent
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, &e); err != nil {
		return nil, fmt.Errorf("%w: expected the JSON of a WebhookEvent", ErrMalformed)
	}
	return &e, nil
}

// CheckRoomName refuses names that no room can have.
func CheckRoomName(name string) error { return checkText("the room's name", name, 1, MaxRoomNameBytes) }

// CheckName refuses display names that no participant can have.
func CheckName(name string) error { return checkText("name", name, 0, MaxNameBytes) }
