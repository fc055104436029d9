package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

// operatorsDir is where tenure dev leaves the tokens of its operators, relative to the data directory.
const operatorsDir = "operators"

// client is how commands reach a running Tenure: the flags that all of them share.
type client struct {
	server, tokenFile, operator, dataDir string
	caFile, certFile, keyFile            string
	format                               string
}

func (c *client) addFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&c.server, "server", env("TENURE_SERVER", "127.0.0.1:8081"), "gRPC address of the front door (TENURE_SERVER)")
	flags.StringVar(&c.tokenFile, "token-file", os.Getenv("TENURE_TOKEN_FILE"), "file with the operator's token (TENURE_TOKEN_FILE; default: one under the data directory)")
	flags.StringVar(&c.operator, "operator", "", "which operator's token under the data directory to use, e.g. bob")
	flags.StringVar(&c.dataDir, "data-dir", env("TENURE_DATA_DIR", "data"), "data directory of a Tenure on this machine (TENURE_DATA_DIR)")
	flags.StringVar(&c.caFile, "ca-file", os.Getenv("TENURE_CA_FILE"), "who signed the server's certificate (TENURE_CA_FILE; needed for a server that is not on this machine)")
	flags.StringVar(&c.certFile, "cert-file", os.Getenv("TENURE_CERT_FILE"), "the operator's client certificate, instead of a token (TENURE_CERT_FILE)")
	flags.StringVar(&c.keyFile, "key-file", os.Getenv("TENURE_KEY_FILE"), "its key (TENURE_KEY_FILE)")
	flags.StringVarP(&c.format, "output", "o", "table", "table or json")
}

func env(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

// session is one command under way: its arguments, its connection, its printer.
type session struct {
	ctx       context.Context //nolint:containedctx // one command is one request; its context ends with it
	args      []string
	out       *printer
	caFile    string    // who signed the servers' certificates; empty: the machine's own authorities
	progress  io.Writer // standard error when it is a terminal; nothing otherwise
	people    peoplev1.PeopleServiceClient
	access    accessv1.AccessServiceClient
	provision provisionv1.ProvisionServiceClient
	audit     auditv1.AuditServiceClient
	events    eventv1.EventLogClient
}

// run makes a cobra command out of one that needs a connection.
func (c *client) run(do func(s *session) error) func(cmd *cobra.Command, args []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return c.session(cmd.Context(), args, cmd.OutOrStdout(), do)
	}
}

// session connects and runs do.
func (c *client) session(ctx context.Context, args []string, w io.Writer, do func(s *session) error) error {
	out, err := newPrinter(w, c.format)
	if err != nil {
		return err
	}
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is left to be sent
	err = do(&session{
		ctx: ctx, args: args, out: out, caFile: c.caFile, progress: progressWriter(),
		people:    peoplev1.NewPeopleServiceClient(conn),
		access:    accessv1.NewAccessServiceClient(conn),
		provision: provisionv1.NewProvisionServiceClient(conn),
		audit:     auditv1.NewAuditServiceClient(conn),
		events:    eventv1.NewEventLogClient(conn),
	})
	if fault.KindOf(err) == fault.Unavailable && conn.GetState() == connectivity.TransientFailure {
		return fault.New(fault.Unavailable, "no Tenure answers at %s: %w; is it running, and does --server say where?", c.server, err)
	}
	return err
}

func (c *client) dial() (*grpc.ClientConn, error) {
	peer := rpc.PeerConfig{Address: c.server, TLS: rpc.TLS{CertFile: c.certFile, KeyFile: c.keyFile, CAFile: c.caFile}}
	if c.certFile == "" {
		token, err := c.token()
		if err != nil {
			return nil, err
		}
		peer.Token = token
	}
	return rpc.Dial(peer)
}

// token reads the operator's token: the named file, the named operator's, or the first one found (ada before bob). What
// was found and not named is good for this machine only: another server would learn the token that opens ours.
func (c *client) token() (config.Secret, error) {
	file := c.tokenFile
	if file == "" {
		dir := filepath.Join(c.dataDir, operatorsDir)
		switch {
		case c.operator != "":
			file = filepath.Join(dir, c.operator)
		case !c.onThisMachine():
			return config.Secret{}, fault.New(fault.Unauthenticated, "no operator's token for %s: name one with --token-file or TENURE_TOKEN_FILE", c.server)
		default:
			found, _ := filepath.Glob(filepath.Join(dir, "*")) // the pattern is well formed
			if len(found) == 0 {
				return config.Secret{}, fault.New(fault.Unauthenticated, "no operator's token: none under %s; name one with --token-file or TENURE_TOKEN_FILE, or the data directory with --data-dir", dir)
			}
			sort.Strings(found)
			file = found[0]
		}
	}
	token, err := config.ReadSecret(file)
	if errors.Is(err, os.ErrNotExist) {
		return config.Secret{}, fault.New(fault.Unauthenticated, "no operator's token at %s", file)
	}
	return token, err
}

func (c *client) onThisMachine() bool {
	if strings.HasPrefix(c.server, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(c.server)
	return err == nil && rpc.Loopback(host)
}

// find resolves PERSON.
func (s *session) find(ref string) (*peoplev1.Person, error) {
	answer, err := s.people.FindPerson(s.ctx, &peoplev1.FindPersonRequest{Ref: ref})
	if err != nil {
		return nil, err
	}
	return answer.GetPerson(), nil
}

// holder resolves whose accounts are meant. An id stands for itself, also of somebody who turned out to be somebody else
// and whose own accounts may be there still.
func (s *session) holder(ref string) (*peoplev1.Person, error) {
	if uuid.Validate(ref) == nil {
		people, err := s.get([]string{strings.ToLower(ref)})
		if err != nil {
			return nil, err
		}
		if len(people) == 1 {
			return people[0], nil
		}
	}
	return s.find(ref)
}

// get returns the people with these ids, at most a thousand.
func (s *session) get(ids []string) ([]*peoplev1.Person, error) {
	answer, err := s.people.GetPeople(s.ctx, &peoplev1.GetPeopleRequest{Ids: ids})
	if err != nil {
		return nil, err
	}
	return answer.GetPeople(), nil
}

// each calls f for every message of a server's stream.
func each[M any](stream grpc.ServerStreamingClient[M], f func(*M) error) error {
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(msg); err != nil {
			return err
		}
	}
}

// progressWriter is standard error on a terminal, and nothing on a pipe.
func progressWriter() io.Writer {
	if !terminal(os.Stderr) {
		return io.Discard
	}
	return os.Stderr
}

// terminal says whether somebody sits at the other end. A mere device, /dev/null above all, is none.
func terminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
