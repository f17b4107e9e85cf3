package wire

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MaxTokenBytes is the longest access token that Verify looks at. Tokens travel in a URL, where
// proxies cut at 8 to 64 KB.
const MaxTokenBytes = 32 << 10

// tokenLeeway is how far the clocks of a token's maker and of this server may differ.
const tokenLeeway = 5 * time.Second

// Claims is what an access token says about its bearer.
type Claims struct {
	// Identity names the participant; two connections of one identity can't be in a room together.
	Identity string
	// Name is the display name. It is the token maker's word, not the participant's.
	Name string
	// Metadata and Attributes are free to the application and shown to the whole room.
	Metadata   string
	Attributes map[string]string
	// Kind is the contract's participant kind: "" or "standard", "ingress", "egress", "sip", "agent".
	Kind string
	// Video holds what the bearer may do.
	Video Grant
	// Room holds settings for the room that a join makes; nil leaves them to the server.
	Room *RoomConfiguration
	// SHA256 of a request body, in webhook tokens only.
	SHA256 string

	// APIKey issued the token, which is valid from NotBefore (zero when it doesn't say) to ExpiresAt.
	// Set by Verify, ignored by Mint.
	APIKey               string
	NotBefore, ExpiresAt time.Time
}

// Grant is the "video" claim. A permission that a token leaves out (nil) is allowed, but for
// CanUpdateOwnMetadata, which is not.
type Grant struct {
	RoomCreate bool   `json:"roomCreate,omitempty"`
	RoomList   bool   `json:"roomList,omitempty"`
	RoomRecord bool   `json:"roomRecord,omitempty"`
	RoomAdmin  bool   `json:"roomAdmin,omitempty"`
	RoomJoin   bool   `json:"roomJoin,omitempty"`
	Room       string `json:"room,omitempty"`
	// DestinationRoom is where ForwardParticipant and MoveParticipant may send somebody.
	DestinationRoom string `json:"destinationRoom,omitempty"`

	CanPublish           *bool    `json:"canPublish,omitempty"`
	CanSubscribe         *bool    `json:"canSubscribe,omitempty"`
	CanPublishData       *bool    `json:"canPublishData,omitempty"`
	CanPublishSources    []string `json:"canPublishSources,omitempty"`
	CanUpdateOwnMetadata *bool    `json:"canUpdateOwnMetadata,omitempty"`
	CanSubscribeMetrics  *bool    `json:"canSubscribeMetrics,omitempty"`

	IngressAdmin bool `json:"ingressAdmin,omitempty"`
	Hidden       bool `json:"hidden,omitempty"`
	Recorder     bool `json:"recorder,omitempty"`
	Agent        bool `json:"agent,omitempty"`
}

// MayPublish reports whether the bearer may publish tracks.
func (g Grant) MayPublish() bool { return g.CanPublish == nil || *g.CanPublish }

// MaySubscribe reports whether the bearer may subscribe to tracks.
func (g Grant) MaySubscribe() bool { return g.CanSubscribe == nil || *g.CanSubscribe }

// MayPublishData reports whether the bearer may send data packets; unset follows CanPublish.
func (g Grant) MayPublishData() bool {
	if g.CanPublishData == nil {
		return g.MayPublish()
	}
	return *g.CanPublishData
}

// MayUpdateOwnMetadata reports whether the bearer may change their own name, metadata and attributes.
func (g Grant) MayUpdateOwnMetadata() bool {
	return g.CanUpdateOwnMetadata != nil && *g.CanUpdateOwnMetadata
}

// Errors of Verify, for callers that branch. Each is wrapped in a sentence fit for the client.
var (
	ErrNoToken      = errors.New("no access token: give it as access_token in the query or as Authorization: Bearer")
	ErrTokenExpired = errors.New("access token has expired: ask for a new one")
	ErrTokenInvalid = errors.New("access token is not valid")
)

// jwtClaims is the JSON layout of a LiveKit access token.
type jwtClaims struct {
	jwt.RegisteredClaims
	Name       string            `json:"name,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Metadata   string            `json:"metadata,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Video      *Grant            `json:"video,omitempty"`
	SHA256     string            `json:"sha256,omitempty"`
	RoomConfig *roomConfig       `json:"roomConfig,omitempty"`
}

// Mint signs claims with an API key and its secret. The token is valid from now (with the usual
// leeway at the verifier) for ttl, which must be positive.
func Mint(apiKey, secret string, c Claims, ttl time.Duration) (string, error) {
	return MintAt(apiKey, secret, c, ttl, time.Now())
}

// MintAt is Mint at a given time.
func MintAt(apiKey, secret string, c Claims, ttl time.Duration, now time.Time) (string, error) {
	if apiKey == "" || secret == "" {
		return "", errors.New("mint access token: API key and secret must not be empty")
	}
	if ttl <= 0 {
		return "", fmt.Errorf("mint access token: lifetime %v is not positive", ttl)
	}
	grant := c.Video
	claims := jwtClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    apiKey,
			Subject:   c.Identity,
			ID:        c.Identity,
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		Name: c.Name, Kind: c.Kind, Metadata: c.Metadata, Attributes: c.Attributes,
		Video: &grant, SHA256: c.SHA256,
	}
	if c.Room != nil {
		claims.RoomConfig = &roomConfig{c.Room}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("mint access token: %w", err)
	}
	return token, nil
}

// Verify checks a token against the secret of the API key that issued it and returns its claims.
// Errors wrap ErrNoToken, ErrTokenExpired or ErrTokenInvalid and carry no part of the token.
func Verify(token string, keys func(apiKey string) (secret string, ok bool)) (Claims, error) {
	return VerifyAt(token, keys, time.Now())
}

// VerifyAt is Verify at a given time.
func VerifyAt(token string, keys func(apiKey string) (secret string, ok bool), now time.Time) (Claims, error) {
	if token == "" {
		return Claims{}, ErrNoToken
	}
	if len(token) > MaxTokenBytes {
		return Claims{}, fmt.Errorf("%w: it is longer than %d bytes", ErrTokenInvalid, MaxTokenBytes)
	}
	// RFC 8725 §3.1: "libraries MUST enable the caller to specify a supported set of algorithms and
	// MUST NOT use any other algorithms". The contract knows HS256 alone.
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"HS256"}),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(tokenLeeway),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	var claims jwtClaims
	_, err := parser.ParseWithClaims(token, &claims, func(t *jwt.Token) (any, error) {
		issuer, err := t.Claims.GetIssuer()
		if err != nil || issuer == "" {
			return nil, errors.New("no issuer")
		}
		secret, ok := keys(issuer)
		if !ok || secret == "" {
			return nil, errUnknownKey
		}
		return []byte(secret), nil
	})
	switch {
	case err == nil:
	case errors.Is(err, errUnknownKey):
		return Claims{}, fmt.Errorf("%w: this server does not know the API key that issued it", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenExpired):
		return Claims{}, ErrTokenExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return Claims{}, fmt.Errorf("%w: it is not valid yet (check the clocks)", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return Claims{}, fmt.Errorf("%w: it has no expiry", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return Claims{}, fmt.Errorf("%w: its signature does not match", ErrTokenInvalid)
	default:
		return Claims{}, fmt.Errorf("%w: it is malformed", ErrTokenInvalid)
	}
	out := Claims{
		Identity: claims.Subject, Name: claims.Name, Metadata: claims.Metadata,
		Attributes: claims.Attributes, Kind: claims.Kind, SHA256: claims.SHA256,
		APIKey: claims.Issuer, ExpiresAt: claims.ExpiresAt.Time,
	}
	if claims.NotBefore != nil {
		out.NotBefore = claims.NotBefore.Time
	}
	if claims.Video != nil {
		out.Video = *claims.Video
	}
	if claims.RoomConfig != nil {
		out.Room = claims.RoomConfig.RoomConfiguration
	}
	return out, nil
}

var errUnknownKey = errors.New("unknown API key")

// SourceNames are the values of Grant.CanPublishSources.
var SourceNames = []string{"camera", "microphone", "screen_share", "screen_share_audio"}

// Validate checks the parts of a token that a room has to carry: sizes, and known words.
// It does not check permissions.
func (c Claims) Validate() error {
	if err := checkText("identity", c.Identity, 1, MaxIdentityBytes); err != nil {
		return err
	}
	if err := checkText("name", c.Name, 0, MaxNameBytes); err != nil {
		return err
	}
	if err := checkText("room", c.Video.Room, 0, MaxRoomNameBytes); err != nil {
		return err
	}
	if err := CheckMetadata(c.Metadata, c.Attributes); err != nil {
		return err
	}
	if err := CheckRoomSettings(c.Room.GetEmptyTimeout(), c.Room.GetDepartureTimeout(), c.Room.GetMaxParticipants(), c.Room.GetMetadata()); err != nil {
		return fmt.Errorf("roomConfig: %w", err)
	}
	if _, ok := participantKinds[c.Kind]; !ok {
		return fmt.Errorf("participant kind %.20q is not one of standard, ingress, egress, sip, agent", c.Kind)
	}
	for _, s := range c.Video.CanPublishSources {
		if !slices.Contains(SourceNames, s) {
			return fmt.Errorf("canPublishSources holds %.20q: it may hold %v", s, SourceNames)
		}
	}
	return nil
}
