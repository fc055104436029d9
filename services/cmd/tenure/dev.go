package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/settings"
)

//go:embed demo/*
var demo embed.FS

// The demo company's source, and the identity of the one delivery that brings its people: the same at every start.
const (
	demoSource   = "acme-hr"
	demoDelivery = "demo-people"
)

func newDev() *cobra.Command {
	var empty bool
	var port int
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Tenure on this machine, with a demo company: nothing to install",
		Long: `Dev runs every service in one process, with SQLite and the event stream embedded. At its first start it makes a data
directory with a configuration, two operators (ada, admin; bob, approver), a demo company and three demo applications.
Stop it and start it again: everything is still there.`,
		Example: "  tenure dev\n  tenure dev --empty --data-dir ./mine --port 9080",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := cmd.Flags().GetString("data-dir")
			if err != nil {
				return err
			}
			d := &devRun{dir: dir, port: port, empty: empty, out: cmd.OutOrStdout()}
			if err := d.prepare(); err != nil {
				return err
			}
			return serve(cmd.Context(), d.settings, d.welcome)
		},
	}
	cmd.Flags().BoolVar(&empty, "empty", false, "start with nothing: no company, no applications")
	cmd.Flags().IntVar(&port, "port", 8080, "webhooks; gRPC, metrics and the demo applications take the five after it (first start only)")
	return cmd
}

// devRun is one start of tenure dev.
type devRun struct {
	dir      string
	port     int
	empty    bool
	out      io.Writer
	settings *settings.Settings
}

// prepare makes at the first start what is not there, and reads the configuration.
func (d *devRun) prepare() error {
	file := filepath.Join(d.dir, "tenure.yaml")
	_, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		err = d.make(file)
	}
	if err != nil {
		return fmt.Errorf("prepare %s: %w", d.dir, err)
	}
	d.settings, err = settings.Load(file)
	return err
}

// make writes tokens and secrets first and the configuration last, so that a start which was cut short begins anew.
func (d *devRun) make(file string) error {
	values := map[string]any{
		"Demo": !d.empty, "HTTP": d.port, "GRPC": d.port + 1, "Metrics": d.port + 2,
		"Wiki": d.port + 3, "Code": d.port + 4, "Warehouse": d.port + 5,
	}
	for _, sub := range []string{operatorsDir, sourcesDir} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o700); err != nil {
			return err
		}
	}
	for key, name := range map[string]string{"Ada": "ada", "Bob": "bob"} {
		token := random()
		if err := os.WriteFile(filepath.Join(d.dir, operatorsDir, name), []byte(token+"\n"), 0o600); err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(token))
		values[key] = hex.EncodeToString(sum[:])
	}
	if err := os.WriteFile(filepath.Join(d.dir, sourcesDir, demoSource), []byte("whsec_"+random()+"\n"), 0o600); err != nil {
		return err
	}
	form, err := template.ParseFS(demo, "demo/tenure.yaml")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := form.Execute(&text, values); err != nil {
		return err
	}
	fresh := file + ".new" // half of it must not be taken for the whole
	if err := os.WriteFile(fresh, text.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, file)
}

// demoApplications are those that the demo company's model is about.
func demoApplications() []string { return []string{"code", "warehouse", "wiki"} }

// demo tells whether the configuration still is that of the demo company: made-up people must not get into applications
// that somebody has put in their place.
func (d *devRun) demo() bool {
	if d.empty {
		return false
	}
	for _, name := range demoApplications() {
		if !slices.ContainsFunc(d.settings.Applications, func(a settings.Application) bool { return a.Name == name && a.Connector == "demo" }) {
			return false
		}
	}
	return slices.ContainsFunc(d.settings.Sources, func(s settings.Source) bool { return s.Name == demoSource })
}

// random is a secret of 32 bytes, as base64.
func random() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	return base64.StdEncoding.EncodeToString(secret[:])
}

// welcome brings the demo company in, through the same doors as everybody, and says where everything is.
func (d *devRun) welcome(ctx context.Context) error {
	c := &client{server: d.settings.Listen.GRPC, dataDir: d.dir, operator: "ada", format: "table"}
	err := c.session(ctx, nil, d.out, func(s *session) error {
		if d.demo() {
			if err := d.company(s); err != nil {
				return err
			}
		}
		return d.tell(s)
	})
	if err != nil && ctx.Err() == nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// company applies the demo model if there is none, sends the demo people, and waits until all is read back.
func (d *devRun) company(s *session) error {
	shown, err := d.answering(s)
	if err != nil {
		return err
	}
	if shown.GetModelSeq() == 0 {
		roles, err := demo.ReadFile("demo/roles.yaml")
		if err != nil {
			return err
		}
		_, err = s.access.ApplyModel(s.ctx, &accessv1.ApplyModelRequest{Files: []*accessv1.ModelFile{{Name: "roles.yaml", Content: roles}}})
		if err != nil {
			return fmt.Errorf("apply the demo model: %w", err)
		}
	}
	people, err := demo.ReadFile("demo/people.json")
	if err != nil {
		return err
	}
	secret, err := config.ReadSecret(filepath.Join(d.dir, sourcesDir, demoSource))
	if err != nil {
		return err
	}
	url := "http://" + d.settings.Listen.HTTP + "/v1/webhooks/" + demoSource
	if _, _, err := post(s, url, demoDelivery, secret, people); err != nil {
		return fmt.Errorf("send the demo people: %w", err)
	}
	return d.settled(s)
}

// answering waits until policy answers, which it does as soon as it listens.
func (d *devRun) answering(s *session) (*accessv1.ShowModelResponse, error) {
	return patiently(s.ctx, func() (*accessv1.ShowModelResponse, bool, error) {
		shown, err := s.access.ShowModel(s.ctx, &accessv1.ShowModelRequest{})
		if fault.KindOf(err) == fault.Unavailable {
			return nil, false, nil
		}
		return shown, err == nil, err
	})
}

// settled waits, for a while, until every application holds what it should.
func (d *devRun) settled(s *session) error {
	_, err := patiently(s.ctx, func() (struct{}, bool, error) {
		apps, err := s.provision.ListApplications(s.ctx, &provisionv1.ListApplicationsRequest{})
		if err != nil {
			return struct{}{}, false, err
		}
		people := uint64(0)
		for _, a := range apps.GetApplications() {
			people = max(people, a.GetPeople())
			if a.GetDue() > 0 {
				return struct{}{}, false, nil
			}
		}
		return struct{}{}, people > 0, nil
	})
	return err
}

// patiently asks again until done, an error, or half a minute has passed; then it makes do with what is there.
func patiently[T any](ctx context.Context, ask func() (T, bool, error)) (T, error) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; {
		answer, done, err := ask()
		if err != nil || done || time.Now().After(deadline) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-tick.C:
		}
	}
}

func (d *devRun) tell(s *session) error {
	if _, err := d.answering(s); err != nil {
		return err
	}
	total := 0
	stream, err := s.people.ListPeople(s.ctx, &peoplev1.ListPeopleRequest{})
	if err != nil {
		return err
	}
	err = each(stream, func(m *peoplev1.ListPeopleResponse) error { total += len(m.GetPeople()); return nil })
	if err != nil {
		return err
	}
	l := d.settings.Listen
	s.out.line("Tenure is running: %d people, %d applications. Everything is under %s; stop with Ctrl-C.\n", total, len(d.settings.Applications), d.dir)
	s.out.line("  webhooks      http://%s/v1/webhooks/%s   (secret: %s)", l.HTTP, demoSource, filepath.Join(d.dir, sourcesDir, demoSource))
	s.out.line("  gRPC          %s   (operators ada and bob; tokens: %s)", l.GRPC, filepath.Join(d.dir, operatorsDir))
	s.out.line("  metrics       http://%s/metrics", l.Metrics)
	s.out.line("  configuration %s", filepath.Join(d.dir, "tenure.yaml"))
	for _, app := range d.settings.Applications {
		if listen, ok := app.Config["listen"].(string); ok {
			s.out.line("  %-13s http://%s/accounts   (the application's own listing)", app.Name, listen)
		}
	}
	flags := ""
	if l.GRPC != "127.0.0.1:8081" {
		flags += " --server " + l.GRPC
	}
	if d.dir != "data" {
		flags += " --data-dir " + d.dir
	}
	tenure := filepath.Join("bin", "tenure") + flags
	if len(d.settings.Applications) == 0 {
		s.out.line("\nNext: add applications to the configuration, start again, and apply a role model:\n\n  %s model apply DIR", tenure)
		return nil
	}
	if !d.demo() {
		return nil
	}
	s.out.line("\nTry, in another terminal:\n")
	for _, command := range []string{
		"people set 10001 department=d004", "access show 10001", "access why 10001 code group:developers", "events tail --since 1h --no-follow", "audit verify",
	} {
		s.out.line("  %s %s", tenure, command)
	}
	return nil
}
