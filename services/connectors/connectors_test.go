package connectors_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/connectors"
	"github.com/tenurehq/tenure/services/connectors/demo"
)

var update = flag.Bool("update", false, "rewrite the golden descriptions")

// What a connector calls things is a contract: ids, attributes and operations stand in stored models and plans.
func TestDescriptionsDoNotChangeByAccident(t *testing.T) {
	t.Parallel()
	for kind, settings := range map[string]map[string]any{
		connectors.Postgres: {"url": "postgres://nobody@127.0.0.1:1/none"},
		connectors.LDAP:     directory(t, nil),
		connectors.SCIM:     {"url": "https://127.0.0.1:1", "token_file": secretFile(t)},
		connectors.Demo:     {},
	} {
		client := open(t, connectors.Config{Application: "a", Kind: kind, Settings: settings, Dir: t.TempDir()})
		described, err := client.Describe(t.Context(), &connectorv1.DescribeRequest{})
		if err != nil {
			t.Fatalf("%s: Describe needs the application: %v", kind, err)
		}
		takesSecrets := slices.ContainsFunc(described.GetOps(), func(op *connectorv1.OpSupport) bool { return op.GetOp() == eventv1.Op_OP_ROTATE_CREDENTIAL })
		if (len(described.GetSealKey()) > 0) != takesSecrets {
			t.Errorf("%s takes secrets: %v, and offers a key for them: %v", kind, takesSecrets, !takesSecrets)
		}
		described.SealKey = nil // another one each time
		compact, err := protojson.Marshal(described)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := json.Indent(&got, compact, "", "  "); err != nil {
			t.Fatal(err)
		}
		got.WriteByte('\n')
		if !json.Valid([]byte(described.GetConfigSchemaJson())) {
			t.Errorf("%s: the schema is not JSON", kind)
		}
		golden := filepath.Join(kind, "testdata", "describe.json")
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s describes itself differently (-golden +got):\n%s", kind, diff)
		}
	}
}

// directory is a configuration of an ldap connector that is in order, but for what is changed.
func directory(t *testing.T, changed map[string]any) map[string]any {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := map[string]any{
		"url": "ldap://127.0.0.1:1", "bind_dn": "cn=tenure,dc=acme", "password_file": password,
		"people_base": "ou=people,dc=acme", "groups_base": "ou=groups,dc=acme",
	}
	maps.Copy(settings, changed)
	return settings
}

func open(t *testing.T, cfg connectors.Config) connectorv1.ConnectorClient {
	t.Helper()
	client, closer, err := connectors.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closer.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return client
}

func secretFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWrongConfigurationNamesItsKey(t *testing.T) {
	t.Parallel()
	const url = "postgres://u@127.0.0.1/d"
	token := secretFile(t)
	scimConfig := func(key string, value any) connectors.Config { // a right one, but for this key
		settings := map[string]any{"url": "https://scim.example/v2", "token_file": token}
		settings[key] = value
		return connectors.Config{Kind: "scim", Settings: settings}
	}
	for _, c := range []struct {
		cfg  connectors.Config
		want string
	}{
		{connectors.Config{}, "connector: "},
		{connectors.Config{Kind: "postgress"}, "connector: "},
		{connectors.Config{Kind: "ldap"}, "config.url: missing"},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"url": "http://h"})}, "config.url: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"url": "ldap://u:canary@h"})}, "config.url: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"url": "ldap://h/dc=acme"})}, "config.url: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"url": "ldap://ldap.example"})}, "config.url: ldap:// to another machine"},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"url": "ldaps://h", "start_tls": true})}, "config.start_tls: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"bind_dn": ""})}, "config.bind_dn: missing"},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"bind_dn": "admin"})}, "config.bind_dn: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"people_base": "ou="})}, "config.people_base: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"groups_base": ""})}, "config.groups_base: missing"},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"empty_group_member": "nobody"})}, "config.empty_group_member: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"marker_attribute": "a b"})}, "config.marker_attribute: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"marker_attribute": "title"})}, "config.marker_attribute: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"correlation_attribute": "shoeSize"})}, "config.correlation_attribute: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"connections": -1})}, "config.connections: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"page_size": 100000})}, "config.page_size: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"password_file": ""})}, "config.password_file: missing"},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"password_file": "/nonexistent"})}, "config.password_file: "},
		{connectors.Config{Kind: "ldap", Settings: directory(t, map[string]any{"ca_file": "/nonexistent"})}, "config.ca_file: "},
		{connectors.Config{Kind: "postgres"}, "config.url: missing"},
		{connectors.Config{Kind: "postgres", Settings: map[string]any{"url": "postgres://u:canary@[::1"}}, "config.url: "},
		{connectors.Config{Kind: "postgres", Settings: map[string]any{"url": 5}}, "config.url: a number cannot stand here"},
		{connectors.Config{Kind: "postgres", Settings: map[string]any{"url": url, "pasword_file": "x"}}, `config: json: unknown field "pasword_file"`},
		{connectors.Config{Kind: "postgres", Settings: map[string]any{"url": url, "connections": -1}}, "config.connections: "},
		{connectors.Config{Kind: "postgres", Settings: map[string]any{"url": url, "predefined": []any{"admin"}}}, "config.predefined[0]: "},
		{connectors.Config{Kind: "postgres", Settings: map[string]any{"url": url, "password_file": "/nonexistent"}}, "config.password_file: "},
		{connectors.Config{Kind: "postgres", Settings: map[string]any{"url": url}, Address: "unix:/x"}, "address: "},
		{connectors.Config{Kind: "scim"}, "config.url: missing"},
		{scimConfig("url", 5), "config.url: a number cannot stand here"},
		{scimConfig("url", "http://scim.example/v2"), "config.url: must begin with https://"},
		{scimConfig("url", "https://u:canary@scim.example"), "config.url: "},
		{scimConfig("url", "https://scim.example/v2?token=canary"), "config.url: "},
		{scimConfig("url", "scim.example"), "config.url: "},
		{scimConfig("token_file", ""), "config.token_file: missing"},
		{scimConfig("token_file", "/nonexistent"), "config.token_file: "},
		{scimConfig("token", "canary"), `config: json: unknown field "token"`},
		{scimConfig("profile", "okta"), `config.profile: "okta" is none of atlassian, aws, `},
		{scimConfig("patch", "post"), `config.patch: "post" is none of path, pathless, none`},
		{scimConfig("page_size", -1), "config.page_size: "},
		{scimConfig("disabled_is", "gone"), "config.delete_is: "},
		{scimConfig("token_expires", "next year"), "config.token_expires: want a day like 2027-03-31"},
		{scimConfig("rates", map[string]any{"writes": map[string]any{"per_minute": 5}}), "config.rates.writes: is none of user_reads, "},
		{scimConfig("rates", map[string]any{"user_writes": map[string]any{"burst": 5}}), "config.rates.user_writes.per_minute: "},
		{scimConfig("rates", map[string]any{"user_writes": map[string]any{"per_minute": 5, "burst": -1}}), "config.rates.user_writes.burst: "},
		{scimConfig("rates", map[string]any{"user_writes": map[string]any{"per_second": 5}}), `config: json: unknown field "per_second"`},
		{scimConfig("attributes", []any{"title", "active"}), "config.attributes[1]: "},
		{scimConfig("correlated_by", "emails["), "config.correlated_by: "},
		{connectors.Config{Kind: "demo", Settings: map[string]any{"temper": "angry"}}, "config.temper: "},
		{connectors.Config{Kind: "demo", Settings: map[string]any{"listen": "0.0.0.0:80"}}, "config.listen: "},
		{connectors.Config{Kind: "demo", Settings: map[string]any{"listen": "here"}}, "config.listen: "},
		{connectors.Config{Kind: "demo", Settings: map[string]any{"calls_per_second": -1}}, "config.calls_per_second: "},
		{connectors.Config{Kind: "demo", Settings: map[string]any{"entitlements": []any{"a", "a"}}}, "config.entitlements[1]: "},
		{connectors.Config{Kind: "remote"}, "address: missing"},
		{connectors.Config{Kind: "remote", Address: "unix:c.sock"}, "address: "},
		{connectors.Config{Kind: "remote", Address: "localhost"}, "address: "},
		{connectors.Config{Kind: "remote", Address: "localhost:1"}, "address: "},
		{connectors.Config{Kind: "remote", Address: "unix:/x", Settings: map[string]any{"a": 1}}, "config: a remote connector reads its own"},
	} {
		err := c.cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%+v: %v, want %q…", c.cfg, err, c.want)
		}
		if _, _, openErr := connectors.Open(t.Context(), c.cfg); openErr == nil {
			t.Errorf("%+v was opened", c.cfg)
		}
	}
}

func TestARemoteConnectorIsOneLikeAnyOther(t *testing.T) {
	t.Parallel()
	application, err := demo.Open(t.Context(), demo.Config{File: filepath.Join(t.TempDir(), "journal"), Entitlements: []string{"group:a"}})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "c.sock")
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- connector.Serve(ctx, "unix:"+socket, application, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := application.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	client := open(t, connectors.Config{Application: "a", Kind: "remote", Address: "unix:" + socket})
	req := &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_EntitlementId{EntitlementId: "group:a"}}
	got, err := client.Read(t.Context(), req, grpc.WaitForReady(true))
	if err != nil || !got.GetEntitlement().GetAssignable() {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestARemoteConnectorThatIsDownIsNoReasonNotToStart(t *testing.T) {
	t.Parallel()
	for _, cfg := range []connectors.Config{
		{Kind: "remote", Address: "unix:/nonexistent/c.sock"},
		{Kind: "remote", Address: "127.0.0.1:1", TLS: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{}}}},
	} {
		client := open(t, cfg)
		if _, err := client.Check(t.Context(), &connectorv1.CheckRequest{}); connector.FromStatus(err).Code != connectorv1.Code_CODE_TARGET_UNAVAILABLE {
			t.Errorf("%s: %v, want TARGET_UNAVAILABLE", cfg.Address, err)
		}
	}
}
