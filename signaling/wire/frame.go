package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Errors of the decoders, for callers that branch.
var (
	// ErrTooLarge: the frame exceeds its limit.
	ErrTooLarge = errors.New("message too large")
	// ErrMalformed: the bytes are not the expected protobuf message.
	ErrMalformed = errors.New("malformed message")
)

// DecodeRequest reads one binary frame of a client. A message that this server does not know (a
// newer SDK's) yields a request whose Message is nil: ignore it.
func DecodeRequest(frame []byte) (*SignalRequest, error) {
	var m SignalRequest
	if err := decode(frame, MaxFrameBytes, &m, "SignalRequest"); err != nil {
		return nil, err
	}
	return &m, nil
}

// EncodeResponse makes the binary frame of a server's message.
func EncodeResponse(m *SignalResponse) ([]byte, error) { return encode(m, "SignalResponse") }

// DecodeResponse reads one binary frame of a server. Clients use it; it is as strict as
// DecodeRequest but for the size, which a join response of a large room may exceed.
func DecodeResponse(frame []byte) (*SignalResponse, error) {
	var m SignalResponse
	if err := decode(frame, 16<<20, &m, "SignalResponse"); err != nil {
		return nil, err
	}
	return &m, nil
}

// EncodeRequest makes the binary frame of a client's message.
func EncodeRequest(m *SignalRequest) ([]byte, error) { return encode(m, "SignalRequest") }

// DecodeData reads one data channel message.
func DecodeData(payload []byte) (*DataPacket, error) {
	var m DataPacket
	if err := decode(payload, MaxDataPacketBytes, &m, "DataPacket"); err != nil {
		return nil, err
	}
	return &m, nil
}

// EncodeData makes one data channel message.
func EncodeData(m *DataPacket) ([]byte, error) { return encode(m, "DataPacket") }

func decode(b []byte, limit int, m proto.Message, name string) error {
	if len(b) > limit {
		return fmt.Errorf("%w: %s of %d bytes, at most %d are allowed", ErrTooLarge, name, len(b), limit)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		// The library's text may quote the input; the input may hold secrets.
		return fmt.Errorf("%w: expected a protobuf %s", ErrMalformed, name)
	}
	return nil
}

func encode(m proto.Message, name string) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return b, nil
}

var requestOneof = (&SignalRequest{}).ProtoReflect().Descriptor().Oneofs().ByName("message")

// RequestKind names the message of a request as the schema does ("offer", "add_track", …); "" when
// it holds none that this server knows.
func RequestKind(m *SignalRequest) string {
	field := m.ProtoReflect().WhichOneof(requestOneof)
	if field == nil {
		return ""
	}
	return string(field.Name())
}

var responseOneof = (&SignalResponse{}).ProtoReflect().Descriptor().Oneofs().ByName("message")

// ResponseKind names the message of a response, as RequestKind does for requests.
func ResponseKind(m *SignalResponse) string {
	field := m.ProtoReflect().WhichOneof(responseOneof)
	if field == nil {
		return ""
	}
	return string(field.Name())
}

// RequestKinds lists every message a client can send, in schema order.
func RequestKinds() []string { return oneofFields(requestOneof) }

func oneofFields(o protoreflect.OneofDescriptor) []string {
	fields := o.Fields()
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Name())
	}
	return names
}

// decodeAttributes reads the attributes parameter: base64url (with or without padding) of a JSON
// object of strings, or the bare JSON.
func decodeAttributes(text string) (map[string]string, error) {
	raw := []byte(text)
	if text[0] != '{' {
		var err error
		enc := base64.RawURLEncoding
		if len(text)%4 == 0 && text[len(text)-1] == '=' {
			enc = base64.URLEncoding
		}
		if raw, err = enc.DecodeString(text); err != nil {
			return nil, errors.New("attributes must be base64url of a JSON object of strings")
		}
	}
	var out map[string]string
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, errors.New("attributes must be base64url of a JSON object of strings")
	}
	if err := CheckMetadata("", out); err != nil {
		return nil, err
	}
	return out, nil
}
