package settings

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/services/policy/brake"
)

var (
	name = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
	// operatorName is what fits into records and gRPC metadata.
	operatorName = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,100}$`)
)

// What each enumerated key may say, and what it may say in a later release.
var (
	roles      = []string{"viewer", "operator", "approver", "admin"}
	kinds      = []string{"standard-webhooks", "bamboohr", "hibob", "csv", "manual"}
	laterKinds = []string{"scim", "roster"}
	builtIn    = []string{"postgres", "ldap", "scim", "demo", "remote"}
	levels     = []string{"debug", "info", "warn", "error"}
	enforces   = []string{"observe", "add", "own", "full"}
	adopts     = []string{"never", "correlated"}
)

func (s *Settings) validate() error {
	for _, check := range []func() error{s.process, s.network, s.certificates, s.peers, s.operators, s.audit, s.people, s.sources, s.applications} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Settings) process() error {
	if s.LogLevel != "" {
		if err := s.oneOf("log_level", s.LogLevel, levels); err != nil {
			return err
		}
	}
	_, err := s.brake()
	return err
}

// brake is the limits in the form that policy counts by.
func (s *Settings) brake() (limits brake.Limits, err error) {
	for _, l := range []struct {
		key, text string
		limit     *brake.Limit
	}{
		{"brake.per_hour", s.Brake.PerHour, &limits.PerHour},
		{"brake.per_day", s.Brake.PerDay, &limits.PerDay},
		{"brake.per_app_day", s.Brake.PerAppDay, &limits.PerAppDay},
		{"brake.privileged_per_day", s.Brake.PrivilegedPerDay, &limits.PrivilegedPerDay},
	} {
		if *l.limit, err = brake.ParseLimit(l.text); err != nil {
			return limits, s.Errorf(l.key, "%v", err)
		}
	}
	return limits, nil
}

// oneOf refuses a value that is none of those of now, telling one of a later release from a slip of the pen.
func (s *Settings) oneOf(key, value string, now []string, later ...string) error {
	switch {
	case slices.Contains(now, value):
		return nil
	case slices.Contains(later, value):
		return s.Errorf(key, "%s: not built yet", value)
	default:
		return s.Errorf(key, "%q is none of %s", value, strings.Join(now, ", "))
	}
}

func (s *Settings) network() error {
	if s.Database.URL != "" && !s.Database.URLFile.Empty() {
		return s.Errorf("database.url_file", "database.url says the same")
	}
	if dsn := s.Database.URL; dsn != "" {
		u, err := url.Parse(dsn)
		if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			return s.Errorf("database.url", "not a postgres:// URL")
		}
		if _, secret := u.User.Password(); secret || u.Query().Has("password") {
			return s.Errorf("database.url", "holds a password: put the URL into a file and name it in database.url_file")
		}
	}
	if s.NATS.URL != "" && s.NATS.Listen != "" {
		return s.Errorf("nats.listen", "only the embedded server listens, and nats.url names another")
	}
	for _, l := range []struct{ key, address string }{
		{"listen.http", s.Listen.HTTP}, {"listen.grpc", s.Listen.GRPC}, {"listen.metrics", s.Listen.Metrics}, {"nats.listen", s.NATS.Listen},
	} {
		if l.address == "" {
			continue
		}
		host, _, err := net.SplitHostPort(l.address)
		if err != nil {
			return s.Errorf(l.key, "%q is not host:port", l.address)
		}
		if l.key != "listen.metrics" && !rpc.Loopback(host) && (s.TLS.CertFile == "" || s.TLS.KeyFile == "") {
			return s.Errorf(l.key, "%s is not loopback: set tls.cert_file and tls.key_file", l.address)
		}
	}
	if s.NATS.Listen != "" && (s.TLS.CertFile == "" || s.TLS.ClientCAFile == "") {
		return s.Errorf("nats.listen", "its users prove who they are by certificate: set tls.cert_file, tls.key_file and tls.client_ca_file")
	}
	if (s.TLS.CertFile == "") != (s.TLS.KeyFile == "") {
		return s.Errorf("tls", "cert_file and key_file go together")
	}
	if s.NATS.Sync < 0 {
		return s.Errorf("nats.sync", "less than nothing")
	}
	if s.NATS.Replicas < 0 || s.NATS.Replicas > 5 {
		return s.Errorf("nats.replicas", "from 1 to 5")
	}
	if s.NATS.MaxBytes < 0 {
		return s.Errorf("nats.max_bytes", "less than nothing")
	}
	return nil
}

// certificates reads the files of tls.
func (s *Settings) certificates() error {
	if s.TLS.CertFile != "" {
		if _, err := (rpc.TLS{CertFile: string(s.TLS.CertFile), KeyFile: string(s.TLS.KeyFile)}).Server(); err != nil {
			return s.Errorf("tls.cert_file", "%v", err)
		}
	}
	if s.TLS.ClientCAFile == "" {
		return nil
	}
	if _, err := (rpc.TLS{CAFile: string(s.TLS.ClientCAFile)}).Client(""); err != nil {
		return s.Errorf("tls.client_ca_file", "%v", err)
	}
	return nil
}

func (s *Settings) peers() error {
	for _, peer := range []struct{ name, address string }{
		{"ingest", s.Peers.Ingest}, {"policy", s.Peers.Policy}, {"provision", s.Peers.Provision}, {"audit", s.Peers.Audit},
	} {
		if peer.address == "" {
			continue
		}
		for _, address := range rpc.Addresses(peer.address) {
			if _, _, err := net.SplitHostPort(address); err != nil {
				return s.Errorf("peers."+peer.name, "%q is not host:port", address)
			}
		}
		if s.TLS.CertFile == "" || s.TLS.ClientCAFile == "" {
			return s.Errorf("peers."+peer.name, "services know each other by certificate: set tls.cert_file, tls.key_file and tls.client_ca_file")
		}
	}
	return nil
}

func (s *Settings) people() error {
	if len(s.People.UserName) == 0 {
		return s.Errorf("people.user_name", "at least one candidate is needed")
	}
	for i, candidate := range s.People.UserName {
		if candidate == "" {
			return s.Errorf(fmt.Sprintf("people.user_name[%d]", i), "empty")
		}
	}
	return nil
}

func (s *Settings) operators() error {
	seen, credentials := map[string]bool{}, map[string]bool{}
	for i, o := range s.Operators {
		key := fmt.Sprintf("operators[%d]", i)
		if !operatorName.MatchString(o.Name) {
			return s.Errorf(key+".name", "%q is not of the form [A-Za-z0-9._@-]{1,100}", o.Name)
		}
		if seen[o.Name] {
			return s.Errorf(key+".name", "%s is there twice", o.Name)
		}
		seen[o.Name] = true
		if err := s.oneOf(key+".role", o.Role, roles); err != nil {
			return err
		}
		sum, err := hex.DecodeString(o.TokenSHA256)
		switch {
		case o.TokenSHA256 == "" && o.Cert == "":
			return s.Errorf(key, "needs token_sha256 or cert")
		case o.TokenSHA256 != "" && (err != nil || len(sum) != sha256.Size):
			return s.Errorf(key+".token_sha256", "not 64 hexadecimal digits")
		case o.TokenSHA256 != "" && credentials[string(sum)]:
			return s.Errorf(key+".token_sha256", "another operator has the same token")
		case o.Cert != "" && credentials[o.Cert]:
			return s.Errorf(key+".cert", "another operator has the same certificate")
		case o.Cert != "" && !strings.Contains(o.Cert, "="):
			return s.Errorf(key+".cert", "%q is not a subject like CN=ada", o.Cert)
		case slices.Contains(rpc.Services(), strings.TrimPrefix(o.Cert, "CN=")):
			return s.Errorf(key+".cert", "%s is a service's certificate", o.Cert)
		case o.Cert != "" && s.TLS.ClientCAFile == "":
			return s.Errorf(key+".cert", "needs tls.client_ca_file to be checked by")
		}
		credentials[string(sum)], credentials[o.Cert] = o.TokenSHA256 != "", o.Cert != ""
	}
	return nil
}

func (s *Settings) audit() error {
	if s.Audit.CheckpointEvery < time.Second || s.Audit.CheckpointEvery > time.Minute {
		return s.Errorf("audit.checkpoint_every", "%s is not between 1s and 60s", s.Audit.CheckpointEvery)
	}
	if s.Audit.MaxBehind < time.Second {
		return s.Errorf("audit.max_behind", "%s is less than a second", s.Audit.MaxBehind)
	}
	if strings.ContainsAny(s.Audit.Origin, "+ \t\r\n") {
		return s.Errorf("audit.origin", "must have no space and no plus sign")
	}
	return nil
}

func (s *Settings) sources() error {
	seen, manual := map[string]bool{}, ""
	for i, src := range s.Sources {
		key := fmt.Sprintf("sources[%d]", i)
		if !name.MatchString(src.Name) {
			return s.Errorf(key+".name", "%q is not of the form [a-z0-9-]{1,40}", src.Name)
		}
		if seen[src.Name] {
			return s.Errorf(key+".name", "%s is there twice", src.Name)
		}
		seen[src.Name] = true
		if err := s.oneOf(key+".kind", src.Kind, kinds, laterKinds...); err != nil {
			return err
		}
		switch {
		case src.Kind == "manual" && manual != "":
			return s.Errorf(key+".kind", "%s is of kind manual already", manual)
		case src.Kind == "manual" && src.Mapping != "":
			return s.Errorf(key+".mapping", "operators' own words need none")
		case signed(src.Kind) && src.SecretFile.Empty():
			return s.Errorf(key+".secret_file", "needed: deliveries are signed")
		case !signed(src.Kind) && !src.SecretFile.Empty():
			return s.Errorf(key+".secret_file", "kind %s has no signed deliveries", src.Kind)
		case src.Kind == "manual":
			manual = src.Name
		}
		if err := s.api(key+".api", src); err != nil {
			return err
		}
		if _, err := time.LoadLocation(src.TimeZone); err != nil || src.TimeZone == "Local" {
			return s.Errorf(key+".time_zone", "%q is no IANA time zone", src.TimeZone)
		}
		if src.RawRetention < 0 {
			return s.Errorf(key+".raw_retention", "less than nothing")
		}
		if !src.Roster.Empty() {
			return s.Errorf(key+".roster", "not built yet")
		}
		if err := s.contract(key+".contract", src); err != nil {
			return err
		}
	}
	return nil
}

func (s *Settings) applications() error {
	seen := map[string]bool{}
	for i, app := range s.Applications {
		key := fmt.Sprintf("applications[%d]", i)
		if !name.MatchString(app.Name) {
			return s.Errorf(key+".name", "%q is not of the form [a-z0-9-]{1,40}", app.Name)
		}
		if seen[app.Name] {
			return s.Errorf(key+".name", "%s is there twice", app.Name)
		}
		seen[app.Name] = true
		if app.Owner == "" {
			return s.Errorf(key+".owner", "needed: who gets what is stuck")
		}
		for _, check := range []error{
			s.oneOf(key+".connector", app.Connector, builtIn),
			s.oneOf(key+".enforce", app.Enforce, enforces),
			s.oneOf(key+".adopt", app.Adopt, adopts),
			s.oneOf(key+".when_rehired", app.WhenRehired, []string{"old", "new"}),
			s.oneOf(key+".when_unwanted.disable", app.WhenUnwanted.Disable, []string{"now"}),
		} {
			if check != nil {
				return check
			}
		}
		for _, attribute := range slices.Sorted(maps.Keys(app.Account)) {
			if app.Account[attribute] == "" {
				return s.Errorf(key+".account."+attribute, "an expression is needed")
			}
		}
		switch {
		case app.Environment != "" && !name.MatchString(app.Environment):
			return s.Errorf(key+".environment", "%q is not of the form [a-z0-9-]{1,40}", app.Environment)
		case app.Connector == "remote" && app.Address == "":
			return s.Errorf(key+".address", "needed: where the remote connector is")
		case app.Connector != "remote" && app.Address != "":
			return s.Errorf(key+".address", "only a remote connector has one")
		case app.Adopt == "correlated" && app.Correlate == "":
			return s.Errorf(key+".correlate", "needed with adopt: correlated")
		case app.Correlate != "" && app.Account[app.Correlate] == "":
			return s.Errorf(key+".correlate", "%s is no attribute of account", app.Correlate)
		case app.WhenUnwanted.DeleteAfter < 0:
			return s.Errorf(key+".when_unwanted.delete_after", "less than nothing")
		case app.LookAgain < 0:
			return s.Errorf(key+".look_again", "less than nothing")
		case app.Limits.Concurrency < 0:
			return s.Errorf(key+".limits.concurrency", "less than nothing")
		case app.Limits.PerMinute < 0:
			return s.Errorf(key+".limits.per_minute", "less than nothing")
		case app.Limits.Timeout < 0:
			return s.Errorf(key+".limits.timeout", "less than nothing")
		}
	}
	return nil
}
