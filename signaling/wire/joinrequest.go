package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// alphabet turns base64 (RFC 4648 section 4) into base64url (section 5). The Swift SDK sends the former in a query, where
// its plus signs stand for blanks.
var alphabet = strings.NewReplacer("+", "-", " ", "-", "/", "_")

// decodeJoinRequest reads the join_request parameter: base64url or base64, padded or not, of a WrappedJoinRequest, whose
// join_request is a JoinRequest, compressed or not.
func decodeJoinRequest(text string) (JoinQuery, error) {
	if len(text) > MaxJoinRequestBytes {
		return JoinQuery{}, fmt.Errorf("join_request takes %d characters: at most %d are allowed", len(text), MaxJoinRequestBytes)
	}
	raw, err := base64.RawURLEncoding.DecodeString(alphabet.Replace(strings.TrimRight(text, "=")))
	if err != nil {
		return JoinQuery{}, errors.New("join_request must be base64url of a WrappedJoinRequest")
	}
	var wrapped WrappedJoinRequest
	if err := decode(raw, MaxJoinRequestBytes, &wrapped, "WrappedJoinRequest"); err != nil {
		return JoinQuery{}, fmt.Errorf("join_request: %w", err)
	}
	packed := wrapped.GetJoinRequest()
	switch wrapped.GetCompression() {
	case JoinPlain:
	case JoinGZIP:
		if packed, err = unpack(packed, MaxJoinRequestUnpacked); err != nil {
			return JoinQuery{}, fmt.Errorf("join_request: %w", err)
		}
	default:
		return JoinQuery{}, fmt.Errorf("join_request: compression %d is unknown: NONE and GZIP are spoken", wrapped.GetCompression())
	}
	var m JoinRequest
	if err := decode(packed, MaxJoinRequestUnpacked, &m, "JoinRequest"); err != nil {
		return JoinQuery{}, fmt.Errorf("join_request: %w", err)
	}
	return joinQueryOf(&m)
}

// unpack decompresses, but never to more than limit bytes.
func unpack(b []byte, limit int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: expected gzip", ErrMalformed)
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: expected gzip", ErrMalformed)
	case len(out) > limit:
		return nil, fmt.Errorf("%w: unpacks to more than %d bytes", ErrTooLarge, limit)
	}
	return out, nil
}

func joinQueryOf(m *JoinRequest) (JoinQuery, error) {
	settings := m.GetConnectionSettings()
	out := JoinQuery{
		Single:               true,
		Reconnect:            m.GetReconnect(),
		SID:                  m.GetParticipantSid(),
		ReconnectReason:      m.GetReconnectReason(),
		AutoSubscribe:        settings == nil || settings.GetAutoSubscribe(),
		AdaptiveStream:       settings.GetAdaptiveStream(),
		DisableICELite:       settings.GetDisableIceLite(),
		Client:               m.GetClientInfo(),
		Attributes:           m.GetParticipantAttributes(),
		Metadata:             m.GetMetadata(),
		SubscriberAllowPause: nil,
	}
	if settings != nil {
		out.SubscriberAllowPause = settings.SubscriberAllowPause
	}
	if out.Client == nil {
		out.Client = &ClientInfo{}
	}
	for _, text := range []string{out.SID, out.Client.Version, out.Client.Os, out.Client.OsVersion, out.Client.DeviceModel,
		out.Client.Browser, out.Client.BrowserVersion, out.Client.Network, out.Client.Address, out.Client.OtherSdks} {
		if len(text) > maxQueryValue {
			return JoinQuery{}, fmt.Errorf("join_request: a text of client_info, or participant_sid, takes %d bytes: at most %d are allowed", len(text), maxQueryValue)
		}
	}
	if err := CheckMetadata(out.Metadata, out.Attributes); err != nil {
		return JoinQuery{}, fmt.Errorf("join_request: %w", err)
	}
	if n := len(m.GetAddTrackRequests()); n > MaxBundledTracks {
		return JoinQuery{}, fmt.Errorf("join_request adds %d tracks: at most %d are allowed", n, MaxBundledTracks)
	}
	// In this order: tracks are known before the offer that carries them.
	if s := m.GetSyncState(); s != nil && out.Reconnect {
		out.Bundled = append(out.Bundled, &SignalRequest{Message: &RequestSyncState{SyncState: s}})
	}
	for _, t := range m.GetAddTrackRequests() {
		out.Bundled = append(out.Bundled, &SignalRequest{Message: &RequestAddTrack{AddTrack: t}})
	}
	// The Go SDK resumes with an empty offer.
	if o := m.GetPublisherOffer(); o.GetSdp() != "" {
		out.Bundled = append(out.Bundled, &SignalRequest{Message: &RequestOffer{Offer: o}})
	}
	return out, out.checkSID()
}

// EncodeJoinRequest makes the join_request parameter of a client.
func EncodeJoinRequest(m *JoinRequest, compress bool) (string, error) {
	b, err := encode(m, "JoinRequest")
	if err != nil {
		return "", err
	}
	wrapped := &WrappedJoinRequest{Compression: JoinPlain, JoinRequest: b}
	if compress {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write(b); err != nil {
			return "", fmt.Errorf("pack JoinRequest: %w", err)
		}
		if err := w.Close(); err != nil {
			return "", fmt.Errorf("pack JoinRequest: %w", err)
		}
		wrapped.Compression, wrapped.JoinRequest = JoinGZIP, packed.Bytes()
	}
	if b, err = encode(wrapped, "WrappedJoinRequest"); err != nil {
		return "", err
	}
	return base64.URLEncoding.EncodeToString(b), nil
}
