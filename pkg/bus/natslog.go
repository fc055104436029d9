package bus

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// natsLog gives the server's own log lines to zap. They name connections, users and subjects; none of these holds a
// personal value.
type natsLog struct {
	log *zap.Logger

	cannotWrite atomic.Bool // it has said that a write failed after which it makes none

	mu   sync.Mutex // guards what follows
	last string
}

func (l *natsLog) Noticef(format string, v ...any) { l.log.Debug("nats server", line(format, v)) }
func (l *natsLog) Warnf(format string, v ...any)   { l.log.Warn("nats server", line(format, v)) }
func (l *natsLog) Debugf(format string, v ...any)  { l.log.Debug("nats server", line(format, v)) }
func (l *natsLog) Tracef(format string, v ...any)  { l.log.Debug("nats server", line(format, v)) }

// Errorf also looks for what the server tells in no other way.
func (l *natsLog) Errorf(format string, v ...any) {
	if strings.Contains(format, "critical write error") {
		l.cannotWrite.Store(true)
	}
	l.log.Error("nats server", line(format, v))
}

// Fatalf is how the server says why it cannot start. It must not end the process: StartServer returns the text.
func (l *natsLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = fmt.Sprintf(format, v...)
}

func (l *natsLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func line(format string, v []any) zap.Field { return zap.String("line", fmt.Sprintf(format, v...)) }
