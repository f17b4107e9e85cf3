package turn

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLog hands Pion's log to slog, at debug level: what a client on the internet can provoke
// must not fill a log. Pion's own debug and trace lines come several to a packet and are left out
// altogether, unformatted.
type pionLog struct{ log *slog.Logger }

func (p pionLog) NewLogger(string) logging.LeveledLogger { return p }

func (p pionLog) line(text string) {
	p.log.Debug("turn", "pion", text)
}

func (p pionLog) linef(format string, args []any) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug("turn", "pion", fmt.Sprintf(format, args...))
	}
}

func (pionLog) Trace(string)                        {}
func (pionLog) Tracef(string, ...any)               {}
func (pionLog) Debug(string)                        {}
func (pionLog) Debugf(string, ...any)               {}
func (p pionLog) Info(text string)                  { p.line(text) }
func (p pionLog) Infof(format string, args ...any)  { p.linef(format, args) }
func (p pionLog) Warn(text string)                  { p.line(text) }
func (p pionLog) Warnf(format string, args ...any)  { p.linef(format, args) }
func (p pionLog) Error(text string)                 { p.line(text) }
func (p pionLog) Errorf(format string, args ...any) { p.linef(format, args) }
