// Package people holds the domain rules of accounts: what a name and a password
// may be, what two names have in common to the eye, and how two people stand to
// each other. It knows neither HTTP nor SQL.
package people

import "fmt"

// Account is a person who signed up.
type Account struct {
	ID          string    `json:"id" doc:"ac_ and 16 characters"`
	Name        string    `json:"name" doc:"The name others reach this person by, without @"`
	DisplayName string    `json:"displayName"`
	Operator    bool      `json:"operator" doc:"Runs this server"`
	CallWaiting bool      `json:"callWaiting" doc:"A second call may ring during a call"`
	CallsFrom   CallsFrom `json:"callsFrom" enum:"everyone,contacts"`
}

// CallsFrom says whose calls ring.
type CallsFrom string

const (
	CallsFromEveryone CallsFrom = "everyone"
	CallsFromContacts CallsFrom = "contacts"
)

// Device is one signed-in browser, app or watch.
type Device struct {
	ID   string `json:"id" doc:"dv_ and 16 characters"`
	Name string `json:"name"`
	Kind string `json:"kind" doc:"browser, app, watch, …"`
}

// Person is an account as another account sees it.
type Person struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	DisplayName string   `json:"displayName"`
	Relation    Relation `json:"relation" enum:"self,none,requested,incoming,contact,blocked"`
}

// Relation is how a person stands to the account that looks.
type Relation string

const (
	Self      Relation = "self"
	None      Relation = "none"
	Requested Relation = "requested" // I asked, they have not answered
	Incoming  Relation = "incoming"  // they asked, I have not answered
	Contact   Relation = "contact"
	Blocked   Relation = "blocked" // by me; being blocked by them shows nowhere
)

// Contacts is everyone an account has a relation with, each list by name.
type Contacts struct {
	Contacts  []Person `json:"contacts"`
	Incoming  []Person `json:"incoming"`
	Requested []Person `json:"requested"`
	Blocked   []Person `json:"blocked"`
}

// Registration says who may sign up.
type Registration string

const (
	RegistrationOpen   Registration = "open"
	RegistrationInvite Registration = "invite" // with an invitation, which members can give
	RegistrationClosed Registration = "closed" // with an invitation of the operator
)

// ParseRegistration reads "open", "invite" or "closed".
func ParseRegistration(s string) (Registration, error) {
	switch r := Registration(s); r {
	case RegistrationOpen, RegistrationInvite, RegistrationClosed:
		return r, nil
	}
	return "", fmt.Errorf("registration is %q, but must be open, invite or closed", s)
}

// Refusal is a rule's no: a stable code for programs and one sentence for people
// that says what to do next.
type Refusal struct {
	Code     string
	Sentence string
}

func (r *Refusal) Error() string { return r.Sentence }

func refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Sentence: fmt.Sprintf(format, args...)}
}
