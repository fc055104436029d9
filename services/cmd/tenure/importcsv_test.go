package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

// taker takes whatever is handed in.
type taker struct {
	peoplev1.PeopleServiceClient

	batches [][]string
}

func (t *taker) Submit(_ context.Context, req *peoplev1.SubmitRequest, _ ...grpc.CallOption) (*peoplev1.SubmitResponse, error) {
	t.batches = append(t.batches, append([]string(nil), req.GetRecordsJson()...))
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
