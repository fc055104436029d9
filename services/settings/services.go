package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/tenurehq/tenure/services/audit"
	"github.com/tenurehq/tenure/services/connectors"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/mapping"
	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
	"github.com/tenurehq/tenure/services/ingest/username"
	"github.com/tenurehq/tenure/services/policy"
	"github.com/tenurehq/tenure/services/policy/model"
	"github.com/tenurehq/tenure/services/provision"
)

// Ingest is ingest's part. Secrets, mappings and expressions are read here, so that what is wrong with them names its key.
func (s *Settings) Ingest() (ingest.Config, error) {
	cfg := ingest.Config{UserName: s.People.UserName, CutKeyFile: string(s.People.CutKeyFile)}
	for i, src := range s.Sources {
		key := fmt.Sprintf("sources[%d]", i)
		zone, err := time.LoadLocation(src.TimeZone)
		if err != nil {
			return cfg, s.Errorf(key+".time_zone", "%v", err)
		}
		one := ingest.Source{Name: src.Name, Kind: src.Kind, Zone: zone, RawRetention: src.RawRetention, Contract: src.Contract.agreed()}
		if src.Kind == "standard-webhooks" {
			if one.Keys, err = standardwebhooks.ParseKeys(src.SecretFile.Reveal()); err != nil {
				return cfg, s.Errorf(key+".secret_file", "%v", err)
			}
		}
		if readBack(src.Kind) {
			if one.Vendor, err = s.vendor(key, src); err != nil {
				return cfg, err
			}
		}
		if src.Mapping == "" && readBack(src.Kind) {
			if one.Mapping, err = mapping.Compile(src.Kind+".yaml", defaultMapping(src.Kind), zone); err != nil {
				return cfg, err // it is compiled in: cannot be
			}
		}
		if src.Mapping != "" {
			text, err := os.ReadFile(string(src.Mapping))
			if err != nil {
				return cfg, s.Errorf(key+".mapping", "%v", err)
			}
			if one.Mapping, err = mapping.Compile(string(src.Mapping), text, zone); err != nil {
				return cfg, err // it names the mapping's own file, line and key
			}
		}
		cfg.Sources = append(cfg.Sources, one)
	}
	if err := cfg.Validate(); err != nil {
		return cfg, s.keyed("", err)
	}
	if _, err := username.Compile(cfg.UserName); err != nil {
		return cfg, s.keyed("people", err)
	}
	return cfg, nil
}

// Policy is policy's part. An expression that does not type-check names its key.
func (s *Settings) Policy() (policy.Config, error) {
	cfg := policy.Config{MaxBehind: s.Audit.MaxBehind}
	var err error
	if cfg.Brake, err = s.brake(); err != nil {
		return cfg, err
	}
	if i := slices.IndexFunc(s.Sources, func(src Source) bool { return src.Kind == "manual" }); i >= 0 {
		cfg.Manual = s.Sources[i].Name
	}
	for _, app := range s.Applications {
		cfg.Applications = append(cfg.Applications, policy.Application{Name: app.Name, Environment: app.Environment, Account: app.Account})
	}
	if err := cfg.Validate(); err != nil {
		return cfg, s.keyed("", err)
	}
	return cfg, nil
}

// Provision is the worker's part, for the applications named; none: all.
func (s *Settings) Provision(only ...string) (provision.Config, error) {
	cfg := provision.Config{}
	wanted := map[string]bool{}
	for _, name := range only {
		wanted[name] = true
	}
	for _, app := range s.Applications {
		if len(only) > 0 && !wanted[app.Name] {
			continue
		}
		delete(wanted, app.Name)
		cfg.Applications = append(cfg.Applications, provision.Application{
			Name: app.Name, Connector: app.Connector, Environment: app.Environment, Owner: app.Owner,
			Enforce: app.Enforce, Adopt: app.Adopt, Correlate: app.Correlate, Rehired: app.WhenRehired,
			WhenUnwanted: provision.WhenUnwanted{Disable: app.WhenUnwanted.Disable, DeleteAfter: app.WhenUnwanted.DeleteAfter},
			Limits:       provision.Limits{Concurrency: app.Limits.Concurrency, PerMinute: app.Limits.PerMinute, Timeout: app.Limits.Timeout},
			LookAgain:    app.LookAgain,
		})
	}
	for name := range wanted {
		return cfg, s.Errorf("applications", "there is no application %s", name)
	}
	return cfg, nil
}

// AuditLog is audit's part.
func (s *Settings) AuditLog() audit.Config {
	return audit.Config{Origin: s.Audit.Origin, KeyFile: string(s.Audit.KeyFile), CheckpointEvery: s.Audit.CheckpointEvery}
}

// Connector is how the connector of the application at index i is opened. What is wrong with its settings names its key.
func (s *Settings) Connector(i int) (connectors.Config, error) {
	app := s.Applications[i]
	cfg := connectors.Config{
		Application: app.Name, Kind: app.Connector, Address: app.Address, Settings: app.Config, Dir: filepath.Join(string(s.DataDir), "apps"),
	}
	if app.Connector == connectors.Remote && s.TLS.ClientCAFile != "" {
		var err error
		if cfg.TLS, err = s.RPCTLS().Client(""); err != nil {
			return cfg, s.Errorf("tls", "%v", err)
		}
	}
	if err := cfg.Validate(); err != nil {
		return cfg, s.keyed(fmt.Sprintf("applications[%d]", i), err)
	}
	return cfg, nil
}

// Check finds what is wrong beyond the file's form: mappings, secrets, CEL, connectors' own settings. It contacts nothing.
func (s *Settings) Check() error {
	if _, err := s.Ingest(); err != nil {
		return err
	}
	if _, err := s.Policy(); err != nil {
		return err
	}
	for i := range s.Applications {
		if _, err := s.Connector(i); err != nil {
			return err
		}
	}
	return nil
}

// keyText is an error's text that begins with the key it is about, as services write them.
var keyText = regexp.MustCompile(`^([a-z0-9_]+(?:\[\d+\])?(?:\.[A-Za-z0-9_-]+(?:\[\d+\])?)*): (?s:(.+))$`)

// keyed points an error of a service's part, below the key within, at its place in the file.
func (s *Settings) keyed(within string, err error) error {
	var problems model.Problems
	if errors.As(err, &problems) && len(problems) > 0 { // CEL of accounts: the first one, as everywhere
		return s.Errorf(problems[0].Key, "%s", problems[0].What)
	}
	key, what := "", err.Error()
	if found := keyText.FindStringSubmatch(what); found != nil {
		key, what = found[1], found[2]
	}
	if within != "" && key != "" {
		within += "."
	}
	return s.Errorf(within+key, "%s", what)
}
