package bus

import (
	"fmt"
	"net"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/fault"
)

// boot starts the server, for the first time or anew.
func (s *Server) boot() error {
	natsServer, err := server.NewServer(s.options.Clone())
	if err != nil {
		return fmt.Errorf("embedded nats: %w", err)
	}
	lines := &natsLog{log: s.log.Named("nats")}
	natsServer.SetLoggerV2(lines, false, false, false)
	natsServer.Start()
	if !natsServer.ReadyForConnections(startTimeout) {
		natsServer.Shutdown()
		natsServer.WaitForShutdown()
		if fatal := lines.fatal(); fatal != "" {
			return fmt.Errorf("embedded nats did not start: %s", fatal)
		}
		return fault.New(fault.Unavailable, "embedded nats did not start in %s", startTimeout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nats, s.lines = natsServer, lines
	return nil
}

func (s *Server) running() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nats
}

func (s *Server) shutdown() {
	running := s.running()
	running.Shutdown()
	running.WaitForShutdown()
}

// InProcessConn implements nats.InProcessConnProvider: a connection to the server that runs now.
func (s *Server) InProcessConn() (net.Conn, error) { return s.running().InProcessConn() }

// cannotWrite reports whether nothing can be stored any more until the server is started anew. After a disk was full
// JetStream is disabled; after any other failed write or fsync its store refuses every message, whatever becomes of the disk.
func (s *Server) cannotWrite() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.nats.JetStreamEnabled() || s.lines.cannotWrite.Load()
}

// watch starts the server anew when it cannot write any more, as often as it takes.
func (s *Server) watch(ending <-chan struct{}) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for wasWell := true; ; {
		select {
		case <-ending:
			return
		case <-ticker.C:
		}
		if !s.cannotWrite() {
			wasWell = true
			continue
		}
		if wasWell { // once, not every two seconds
			s.log.Error("the event stream cannot be written, its server is started anew")
		}
		s.shutdown()
		if err := s.boot(); err != nil && wasWell {
			s.log.Error("the event stream cannot be started, it is tried again", zap.Error(err))
		}
		wasWell = false
	}
}
