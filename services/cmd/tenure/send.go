package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

// sourcesDir is where tenure dev leaves the secrets of its sources, relative to the data directory.
const sourcesDir = "sources"

// followEvery is how often --follow looks, and followFor how long it waits for the last read-back.
const (
	followEvery = 100 * time.Millisecond
	followFor   = 2 * time.Minute
)

func newSend(c *client) *cobra.Command {
	var url, secretFile, id string
	var follow bool
	cmd := &cobra.Command{
		Use:   "send SOURCE FILE.json",
		Short: "Sign and post a webhook as an HR system would",
		Long: `Send signs the file's bytes by Standard Webhooks and posts them to the source's webhook. With --follow it goes on until
every application has been read back.`,
		Example: "  tenure send acme-hr joiner.json --follow\n  tenure send acme-hr - --id msg_1 < joiner.json",
		Args:    cobra.ExactArgs(2),
		RunE: c.run(func(s *session) error {
			body, err := readBody(s.args[1])
			if err != nil {
				return err
			}
			if secretFile == "" {
				secretFile = filepath.Join(c.dataDir, sourcesDir, s.args[0])
			}
			secret, err := config.ReadSecret(secretFile)
			if err != nil {
				return fault.New(fault.Usage, "the source's secret: %v; name its file with --secret-file", err)
			}
			if id == "" {
				id = "msg_" + uuid.NewString()
			}
			started := time.Now()
			answer, raw, err := post(s, strings.TrimSuffix(url, "/")+"/v1/webhooks/"+s.args[0], id, secret, body)
			if err != nil {
				return err
			}
			if s.out.json {
				s.out.line("%s", bytes.TrimSpace(raw)) // followed, it is the first of JSON lines
			} else {
				s.out.line("accepted as delivery %s in %s", answer.Delivery, took(time.Since(started)))
				if answer.Held != nil {
					s.out.line("held: %s; see tenure deliveries show %s", clean(*answer.Held), answer.Delivery)
				}
			}
			if !follow {
				return nil
			}
			return s.follow(answer.Delivery, started)
		}),
	}
	cmd.Flags().StringVar(&url, "url", env("TENURE_WEBHOOKS", "http://127.0.0.1:8080"), "where ingest listens (TENURE_WEBHOOKS)")
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "the source's secret (default: the one that tenure dev made)")
	cmd.Flags().StringVar(&id, "id", "", "the webhook-id (default: a new one)")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on until every application has been read back")
	return cmd
}

func readBody(name string) ([]byte, error) {
	if name == "-" {
		body, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return body, nil
	}
	body, err := os.ReadFile(name) //nolint:gosec // the file the user named
	if err != nil {
		return nil, fault.New(fault.Usage, "%v", err)
	}
	return body, nil
}

// posted is ingest's answer to a webhook.
type posted struct {
	Delivery string  `json:"delivery"`
	Held     *string `json:"held"`
}

func post(s *session, url, id string, secret config.Secret, body []byte) (posted, []byte, error) {
	now := time.Now()
	keys, err := standardwebhooks.ParseKeys(secret.Reveal())
	if err != nil {
		return posted{}, nil, fault.New(fault.Usage, "the source's secret: %v", err)
	}
	signed, err := keys.Sign(id, now, body)
	if err != nil {
		return posted{}, nil, fault.New(fault.Usage, "%v", err)
	}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return posted{}, nil, fault.New(fault.Usage, "%v", err)
	}
	req.Header = signed
	req.Header.Set("Content-Type", "application/json")
	hr := &http.Client{Timeout: 30 * time.Second}
	if s.caFile != "" {
		trust, err := rpc.TLS{CAFile: s.caFile}.Client("")
		if err != nil {
			return posted{}, nil, fault.New(fault.Usage, "%v", err)
		}
		hr.Transport = &http.Transport{TLSClientConfig: trust}
	}
	resp, err := hr.Do(req)
	if err != nil {
		return posted{}, nil, fault.New(fault.Unavailable, "%v; is Tenure running, and is --url where it listens?", err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return posted{}, nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusAccepted {
		kind := fault.Refused
		if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
			kind = fault.Unavailable // the same again may be taken
		}
		return posted{}, nil, fault.New(kind, "%s: %s", resp.Status, clean(strings.TrimSpace(string(raw))))
	}
	var answer posted
	if err := json.Unmarshal(raw, &answer); err != nil {
		return posted{}, nil, fmt.Errorf("understand the answer: %w", err)
	}
	return answer, raw, nil
}

// follow shows a delivery's people until what they should have has been read back everywhere.
func (s *session) follow(delivery string, started time.Time) error {
	shown, err := s.people.ShowDelivery(s.ctx, &peoplev1.ShowDeliveryRequest{Id: delivery})
	if err != nil {
		return err
	}
	for _, item := range shown.GetItems() {
		if item.GetPersonId() == "" {
			continue
		}
		if err := s.followPerson(item.GetPersonId(), started); err != nil {
			return err
		}
	}
	return nil
}

// followPerson waits until the newest event about a person has been decided about and read back. Not their version: a
// fact that changes nothing, or nothing yet, raises it and leads to no event.
func (s *session) followPerson(id string, started time.Time) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	seen := map[string]string{}
	for deadline := time.Now().Add(followFor); time.Now().Before(deadline); {
		people, err := s.get([]string{id})
		if err != nil {
			return err
		}
		told, err := s.people.Timeline(s.ctx, &peoplev1.TimelineRequest{PersonId: id})
		if err != nil {
			return err
		}
		desired, err := s.access.ShowAccess(s.ctx, &accessv1.ShowAccessRequest{PersonId: id})
		if err != nil {
			return err
		}
		has, err := s.provision.ShowAccounts(s.ctx, &provisionv1.ShowAccountsRequest{PersonId: id})
		if err != nil {
			return err
		}
		settled := len(people) == 1
		for _, h := range told.GetHappenings() {
			settled = settled && desired.GetPersonVersion() >= h.GetLifecycle().GetPersonVersion()
		}
		for _, row := range accessRows(desired, has) {
			app, state := row[0], row[3]
			if seen[app] != row[2]+state {
				seen[app] = row[2] + state
				if !s.out.json {
					s.out.line("%8s  %-12s %-10s should have %s; has %s", took(time.Since(started)), clean(app), state, clean(row[1]), clean(row[2]))
				}
			}
			settled = settled && state != "on its way" && state != "due" && state != "retrying"
		}
		if settled {
			if s.out.json {
				return s.out.document(one("person", people[0]), many("should_have", desired.GetApplications()), many("has", has.GetTargets()))
			}
			s.out.line("%8s  all read back; ask why: tenure access why %s APP", took(time.Since(started)), clean(people[0].GetRecord().GetExternalId()))
			if next := people[0].GetNextDue(); next != nil {
				s.out.line("%8s  something will change by itself at %s: tenure people timeline %s", "", when(next), clean(people[0].GetRecord().GetExternalId()))
			}
			return nil
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-tick.C:
		}
	}
	return fault.New(fault.Unavailable, "not all read back within %s; see tenure access show %s and tenure apps stuck", followFor, id)
}
