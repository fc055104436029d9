// Package settings is the one configuration file that every process reads whole: its form, its defaults, and what is
// refused, each refusal naming file, line and key. Keys of later releases are refused by name.
package settings

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/services/policy/brake"
)

// Settings is the file as it was read and found right.
type Settings struct {
	DataDir      config.Path   `yaml:"data_dir"`
	LogLevel     string        `yaml:"log_level"`
	Database     Database      `yaml:"database"`
	NATS         NATS          `yaml:"nats"`
	Listen       Listen        `yaml:"listen"`
	Peers        Peers         `yaml:"peers"`
	TLS          TLS           `yaml:"tls"`
	Operators    []Operator    `yaml:"operators"`
	Audit        Audit         `yaml:"audit"`
	People       People        `yaml:"people"`
	Sources      []Source      `yaml:"sources"`
	Applications []Application `yaml:"applications"`
	Brake        Brake         `yaml:"brake"`

	root config.Section
}

// Database is where services keep what they know. Empty: SQLite files in data_dir.
type Database struct {
	URL     string            `yaml:"url"`      // postgres://…, without a password
	URLFile config.SecretFile `yaml:"url_file"` // the same with one
}

// NATS is the event stream. Empty: embedded, reached from this process only.
type NATS struct {
	URL      string        `yaml:"url"`       // the certificate of tls tells who we are
	Listen   string        `yaml:"listen"`    // the embedded server's
	Sync     time.Duration `yaml:"sync"`      // how often the embedded server fsyncs; 0s: every message
	MaxBytes int64         `yaml:"max_bytes"` // of the stream; 0: 1 GiB
	Replicas int           `yaml:"replicas"`  // of the stream; 0: 1
}

// Listen is where this process answers; an empty address is not listened on.
type Listen struct {
	HTTP    string `yaml:"http"`
	GRPC    string `yaml:"grpc"`
	Metrics string `yaml:"metrics"`
}

// Peers are the other services' gRPC addresses. Empty: in this process.
type Peers struct {
	Ingest    string `yaml:"ingest"`
	Policy    string `yaml:"policy"`
	Provision string `yaml:"provision"`
	Audit     string `yaml:"audit"`
}

// TLS is what this process shows to callers, peers and remote connectors, and who vouches for theirs.
type TLS struct {
	CertFile     config.Path `yaml:"cert_file"`
	KeyFile      config.Path `yaml:"key_file"`
	ClientCAFile config.Path `yaml:"client_ca_file"`
}

// Operator may call, by token or by certificate.
type Operator struct {
	Name        string `yaml:"name"`
	Role        string `yaml:"role"` // viewer, operator, approver, admin
	TokenSHA256 string `yaml:"token_sha256"`
	Cert        string `yaml:"cert"` // CN=ada
}

// Audit is the log.
type Audit struct {
	Origin          string        `yaml:"origin"`
	KeyFile         config.Path   `yaml:"key_file"`
	MaxBehind       time.Duration `yaml:"max_behind"`
	CheckpointEvery time.Duration `yaml:"checkpoint_every"`
}

// Brake is how many people may lose access, or be given something privileged, before somebody looks: a number, a percentage of those there are, or min(…) and
// max(…) of such.
type Brake struct {
	PerHour   string `yaml:"per_hour"`    // people, in any sixty minutes
	PerDay    string `yaml:"per_day"`     // people, in any 24 hours
	PerAppDay string `yaml:"per_app_day"` // people of one application, in any 24 hours

	PrivilegedPerDay string `yaml:"privileged_per_day"` // people who are given something privileged, in any 24 hours
}

// People is how people get their user names, and what signs orders to cut somebody.
type People struct {
	UserName   []string    `yaml:"user_name"`
	CutKeyFile config.Path `yaml:"cut_key_file"`
}

// Source says what happens to people.
type Source struct {
	Name         string            `yaml:"name"`
	Kind         string            `yaml:"kind"`
	SecretFile   config.SecretFile `yaml:"secret_file"`
	TimeZone     string            `yaml:"time_zone"`
	RawRetention time.Duration     `yaml:"raw_retention"`
	Mapping      config.Path       `yaml:"mapping"`
	API          API               `yaml:"api"`
	Contract     *Contract         `yaml:"contract"`

	// Of later releases: refused by name.
	Roster config.Section `yaml:"roster"`
}

// API is where a source is read whose webhooks only say whose record changed.
type API struct {
	URL       string            `yaml:"url"`        // up to and with the version
	User      string            `yaml:"user"`       // hibob: the service user's id
	TokenFile config.SecretFile `yaml:"token_file"` // bamboohr: the API key; hibob: the service user's token
	Fields    []string          `yaml:"fields"`     // for an own mapping: those besides what the default one reads
	Timeout   time.Duration     `yaml:"timeout"`    // of a request
}

// Application is a target that holds accounts.
type Application struct {
	Name         string            `yaml:"name"`
	Connector    string            `yaml:"connector"`
	Address      string            `yaml:"address"`
	Environment  string            `yaml:"environment"`
	Owner        string            `yaml:"owner"`
	Enforce      string            `yaml:"enforce"`
	Adopt        string            `yaml:"adopt"`
	Correlate    string            `yaml:"correlate"`
	WhenRehired  string            `yaml:"when_rehired"`
	Config       map[string]any    `yaml:"config"`
	Account      map[string]string `yaml:"account"`
	WhenUnwanted WhenUnwanted      `yaml:"when_unwanted"`
	Limits       Limits            `yaml:"limits"`
	LookAgain    time.Duration     `yaml:"look_again"` // after which an account that is as it should be is read again; 0: the worker's default
}

// WhenUnwanted is what becomes of an account that nobody should have any more.
type WhenUnwanted struct {
	Disable     string        `yaml:"disable"`      // now
	DeleteAfter time.Duration `yaml:"delete_after"` // 0s: never
}

// Limits bound what one application is asked at a time; the connector's own limits hold as well.
type Limits struct {
	Concurrency int           `yaml:"concurrency"` // people worked on at a time; 0: the worker's default
	PerMinute   int           `yaml:"per_minute"`  // calls; 0: no limit
	Timeout     time.Duration `yaml:"timeout"`     // of one call; 0: the worker's default
}

// Defaults of what the file leaves out.
const (
	defaultMaxBehind  = 5 * time.Minute
	defaultCheckpoint = time.Minute
	defaultRetention  = 720 * time.Hour
	defaultSync       = time.Second
)

// Load reads the file and refuses it at the first thing that is wrong, in one line.
func Load(file string) (*Settings, error) {
	root, err := config.Read(file)
	if err != nil {
		return nil, err
	}
	return decode(root)
}

// Parse is Load for content that is at hand. name stands for the file in errors; relative paths begin in its folder.
func Parse(name string, content []byte) (*Settings, error) {
	root, err := config.Parse(name, content)
	if err != nil {
		return nil, err
	}
	return decode(root)
}

func decode(root config.Section) (*Settings, error) {
	limits := brake.Defaults()
	s := &Settings{
		DataDir: config.Path(root.Path("data")),
		NATS:    NATS{Sync: defaultSync},
		Listen:  Listen{HTTP: "127.0.0.1:8080", GRPC: "127.0.0.1:8081", Metrics: "127.0.0.1:8082"},
		Audit:   Audit{MaxBehind: defaultMaxBehind, CheckpointEvery: defaultCheckpoint},
		Brake: Brake{
			PerHour: limits.PerHour.String(), PerDay: limits.PerDay.String(), PerAppDay: limits.PerAppDay.String(),
			PrivilegedPerDay: limits.PrivilegedPerDay.String(),
		},
		People: People{UserName: []string{"given[0] + family", "given + '.' + family"}},
		root:   root,
	}
	if err := root.Decode(s); err != nil {
		return nil, err
	}
	s.fill()
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// fill sets what the elements of lists leave out.
func (s *Settings) fill() {
	if s.Audit.KeyFile == "" {
		s.Audit.KeyFile = config.Path(filepath.Join(string(s.DataDir), "audit.key"))
	}
	if s.People.CutKeyFile == "" {
		s.People.CutKeyFile = config.Path(filepath.Join(string(s.DataDir), "cuts.key"))
	}
	for i := range s.Sources {
		if s.Sources[i].RawRetention == 0 {
			s.Sources[i].RawRetention = defaultRetention
		}
		if s.Sources[i].Kind == "hibob" && s.Sources[i].API.URL == "" {
			s.Sources[i].API.URL = hiBobAPI
		}
		if s.Sources[i].TimeZone == "" {
			s.Sources[i].TimeZone = "UTC"
		}
	}
	for i := range s.Applications {
		a := &s.Applications[i]
		for key, value := range a.Config { // a connector's files, too, are relative to the configuration file
			if path, ok := value.(string); ok && strings.HasSuffix(key, "_file") {
				a.Config[key] = s.root.Path(path)
			}
		}
		for field, value := range map[*string]string{&a.Enforce: "observe", &a.Adopt: "never", &a.WhenRehired: "old", &a.WhenUnwanted.Disable: "now"} {
			if *field == "" {
				*field = value
			}
		}
	}
}

// File is the file's name.
func (s *Settings) File() string { return s.root.File() }

// Errorf is an error about a key of the file, like `applications[2].config.url`, for those who find it wrong later.
func (s *Settings) Errorf(key, format string, args ...any) error {
	return s.root.Errorf(key, format, args...)
}
