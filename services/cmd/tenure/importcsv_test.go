package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

// taker takes whatever is handed in.
type taker struct {
	peoplev1.PeopleServiceClient

	batches [][]string
	rosters []*peoplev1.SubmitRequest // those that are a part of one
	verdict *peoplev1.RosterState
}

func (t *taker) ListRosters(_ context.Context, req *peoplev1.ListRostersRequest, _ ...grpc.CallOption) (*peoplev1.ListRostersResponse, error) {
	t.verdict.Source, t.verdict.Id = req.GetSource(), req.GetId()
	return &peoplev1.ListRostersResponse{Rosters: []*peoplev1.RosterState{t.verdict}}, nil
}

func (t *taker) Submit(_ context.Context, req *peoplev1.SubmitRequest, _ ...grpc.CallOption) (*peoplev1.SubmitResponse, error) {
	t.batches = append(t.batches, append([]string(nil), req.GetRecordsJson()...))
	if req.GetRoster() != nil {
		t.rosters = append(t.rosters, proto.Clone(req).(*peoplev1.SubmitRequest))
	}
	answer := &peoplev1.SubmitResponse{}
	for i := range req.GetRecordsJson() {
		answer.Items = append(answer.Items, &peoplev1.ItemResult{Item: uint32(i), PersonId: "p"})
	}
	return answer, nil
}

func newImporter(t *testing.T) (*importer, *taker) {
	t.Helper()
	to := &taker{}
	return &importer{session: &session{ctx: t.Context(), people: to}, source: "acme-csv"}, to
}

func TestAFileThatWouldBeReadAsSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ what, file, want string }{
		{"in Latin-1", "external_id,family_name\n1,Lee\n2,M\xfcller\n", "row 2: family_name is not UTF-8"},
		{"with a column twice", "external_id,given_name,given_name\n1,A,B\n", `the header has the column "given_name" twice`},
		{"with a header in Latin-1", "external_id,attributes.b\xfcro\n1,A\n", "column 2 of the header is not UTF-8"},
		{"with a row that is short", "external_id,given_name\n1\n", "wrong number of fields"},
		{"with nothing in it", "", "read the header"},
	} {
		im, to := newImporter(t)
		err := im.file(strings.NewReader(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.ExitCode(err) != 1 {
			t.Errorf("a file %s: %v, want %q and exit code 1", c.what, err, c.want)
		}
		if len(to.batches) != 0 {
			t.Errorf("a file %s: %q was handed in", c.what, to.batches)
		}
	}
}

func TestABatchFitsIntoAMessage(t *testing.T) {
	t.Parallel()
	im, to := newImporter(t)
	var file strings.Builder
	file.WriteString("\ufeffexternal_id,attributes.note\n")
	const rows = 2500
	for i := range rows {
		fmt.Fprintf(&file, "%d,%s\n", i, strings.Repeat("x", 3000))
	}
	if err := im.file(strings.NewReader(file.String())); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, batch := range to.batches {
		n += len(batch)
		if size := len(strings.Join(batch, "")); size > 2<<20 {
			t.Errorf("a batch of %d bytes", size)
		}
	}
	if n != rows || im.taken != rows {
		t.Errorf("%d rows were handed in, %d taken; want %d", n, im.taken, rows)
	}
	if first := to.batches[0][0]; !strings.Contains(first, `"external_id":"0"`) {
		t.Errorf("the byte order mark is part of a name: %.60s", first)
	}
}

func TestAFileThatIsEverybodyIsHandedInAsOneRoster(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "everybody.csv")
	var file strings.Builder
	file.WriteString("external_id,status\n")
	const rows = 2500
	for i := range rows {
		fmt.Fprintf(&file, "%d,active\n", i)
	}
	give := func(content, made string, verdict *peoplev1.RosterState) ([]*peoplev1.SubmitRequest, string, error) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		im, to := newImporter(t)
		var out bytes.Buffer
		im.out, im.progress, to.verdict = &printer{w: &out}, io.Discard, verdict
		err = importRoster(im, in, made)
		return to.rosters, out.String(), err
	}
	taken := &peoplev1.RosterState{Records: rows, Parts: 3, PartsIn: 3, TakenAt: timestamppb.Now(), JudgedAt: timestamppb.Now(), Absent: 2}
	parts, out, err := give(file.String(), "2026-11-22T06:00:00Z", taken)
	if err != nil || !strings.Contains(out, "taken: 0 changed, 2 absent") || !strings.Contains(out, "tenure people findings") {
		t.Fatalf("%q, %v", out, err)
	}
	n := 0
	for i, p := range parts {
		r := p.GetRoster()
		n += len(p.GetRecordsJson())
		if r.GetId() != parts[0].GetRoster().GetId() || int(r.GetPart()) != i+1 || r.GetParts() != 3 || r.GetTotal() != rows ||
			p.GetSourceTime().AsTime().Format(time.RFC3339) != "2026-11-22T06:00:00Z" {
			t.Errorf("part %d is of %v, made %s", i+1, r, p.GetSourceTime().AsTime())
		}
	}
	if n != rows || len(parts) != 3 {
		t.Errorf("%d records in %d parts", n, len(parts))
	}
	again, _, _ := give(file.String(), "2026-11-22T06:00:00Z", taken)
	if again[2].GetKey() != parts[2].GetKey() || again[2].GetRoster().GetId() != parts[2].GetRoster().GetId() {
		t.Error("the same file again is another roster")
	}
	other, _, _ := give(strings.Replace(file.String(), "7,active", "7,terminated", 1), "2026-11-22T06:00:00Z", taken)
	if other[0].GetRoster().GetId() == parts[0].GetRoster().GetId() {
		t.Error("another file is the same roster")
	}
	held := &peoplev1.RosterState{Parts: 1, PartsIn: 1, JudgedAt: timestamppb.Now(), Held: "min_rows: 0 records, at least 8"}
	parts, _, err = give("external_id,status\n", "", held)
	if fault.ExitCode(err) != 4 || !strings.Contains(err.Error(), "min_rows: 0 records") || !strings.Contains(err.Error(), "tenure rosters accept acme-csv csv-") {
		t.Errorf("a roster that is held: %v", err)
	}
	if len(parts) != 1 || parts[0].GetRoster().GetParts() != 1 || parts[0].GetRoster().GetTotal() != 0 {
		t.Errorf("nobody is handed in as %v", parts)
	}
	if _, _, err := give(file.String(), "yesterday", taken); fault.ExitCode(err) != 2 {
		t.Errorf("made yesterday: %v", err)
	}
}
