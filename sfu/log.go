package sfu

import (
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLog hands Pion's errors to slog at debug level and drops the rest, unformatted: what matters of them reaches us
// as a return value or a state change, and a peer can cause any number of the others.
type pionLog struct {
	log   *slog.Logger
	scope string
}

func (l pionLog) NewLogger(scope string) logging.LeveledLogger {
	l.scope = scope
	if scope == "srtp" {
		return idleSession{l}
	}
	return l
}

func (pionLog) Trace(string)          {}
func (pionLog) Tracef(string, ...any) {}
func (pionLog) Debug(string)          {}
func (pionLog) Debugf(string, ...any) {}
func (pionLog) Info(string)           {}
func (pionLog) Infof(string, ...any)  {}
func (pionLog) Warn(string)           {}
func (pionLog) Warnf(string, ...any)  {}
func (l pionLog) Error(msg string)    { l.log.Debug(msg, "pion", l.scope) }
func (l pionLog) Errorf(format string, args ...any) {
	l.log.Debug(fmt.Sprintf(format, args...), "pion", l.scope)
}
