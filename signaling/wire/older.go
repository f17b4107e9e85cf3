package wire

//lint:file-ignore SA1019 this file is where deprecated fields are read and written: older SDKs use them

// StampSender overwrites what a data packet says about its sender.
func StampSender(p *DataPacket, sid, identity string) {
	p.ParticipantSid, p.ParticipantIdentity = sid, identity
	if u := p.GetUser(); u != nil {
		u.ParticipantSid, u.ParticipantIdentity = sid, identity
	}
}

// Destinations returns whom a data packet is for, by identity and by participant id; neither means
// everybody.
func Destinations(p *DataPacket) (identities, sids []string) {
	if len(p.DestinationIdentities) > 0 {
		return p.DestinationIdentities, nil
	}
	u := p.GetUser()
	return u.GetDestinationIdentities(), u.GetDestinationSids()
}

// TellsSpeakers reports whether a data packet claims who is speaking, as servers of old did.
func TellsSpeakers(p *DataPacket) bool { return p.GetSpeaker() != nil }

// AudioFlags returns what older SDKs announce of an audio track in fields of their own.
func AudioFlags(r *AddTrackRequest) (stereo, disableDTX bool) {
	return r.GetStereo(), r.GetDisableDtx()
}

// FillOlder sets the fields of a track that older SDKs read.
func FillOlder(t *TrackInfo, stereo, disableDTX bool, layers []*VideoLayer) {
	t.Stereo, t.DisableDtx = stereo, disableDTX
	t.Layers, t.Simulcast = layers, len(layers) > 1
}

// FillOlderQualities sets what SDKs of one codec read: the first codec's qualities.
func FillOlderQualities(u *SubscribedQualityUpdate, first []*SubscribedQuality) {
	u.SubscribedQualities = first
}

// OlderQualities returns it.
func OlderQualities(u *SubscribedQualityUpdate) []*SubscribedQuality {
	return u.GetSubscribedQualities()
}

// ServerData makes the data packet that SendData asks for. Its sender is nobody.
func ServerData(r *SendDataRequest) *DataPacket {
	user := &UserPacket{
		Payload: r.GetData(), Topic: r.Topic, Nonce: r.GetNonce(),
		DestinationSids: r.GetDestinationSids(), DestinationIdentities: r.GetDestinationIdentities(),
	}
	return &DataPacket{Kind: r.GetKind(), Value: &DataUser{User: user}, DestinationIdentities: r.GetDestinationIdentities()}
}

// IsRecorder reports whether a permission is a recorder's.
func IsRecorder(p *ParticipantPermission) bool { return p.GetRecorder() }

// SetReliable sets the kind by which JavaScript's SDK tells reliable data from lossy. Rust's leaves it out.
func SetReliable(p *DataPacket, reliable bool) {
	p.Kind = DataLossy
	if reliable {
		p.Kind = DataReliable
	}
}
