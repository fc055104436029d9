package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

// verdictPoll is how often it is asked what became of a roster.
const verdictPoll = 200 * time.Millisecond

// rosterFile is a file that is everybody. It is read twice, because each part says how many there are.
type rosterFile struct {
	made   time.Time
	stamp  string    // of made, as it stands in the id
	digest hash.Hash // of all records
	parts  uint32
	total  uint64

	id   string // empty: still counting
	part uint32 // handed in so far
}

// next counts a batch, or makes it the next part of the roster; true: it is to be sent.
func (f *rosterFile) next(req *peoplev1.SubmitRequest) bool {
	if f.id == "" {
		writeRecords(f.digest, req.GetRecordsJson())
		f.parts++
		f.total += uint64(len(req.GetRecordsJson()))
		return false
	}
	f.part++
	req.Key, req.SourceTime = fmt.Sprintf("%s-%d", f.id, f.part), timestamppb.New(f.made)
	req.Roster = &peoplev1.Roster{Id: f.id, Part: f.part, Parts: f.parts, Total: f.total}
	return true
}

// importRoster hands a file in as a roster and waits for what becomes of it. The same file within the hour, or with the
// same --made, is the same roster.
func importRoster(im *importer, in *os.File, made string) error {
	f := &rosterFile{digest: sha256.New(), made: time.Now().UTC()}
	f.stamp = f.made.Format("2006-01-02T15Z")
	if made != "" {
		var err error
		if f.made, err = time.Parse(time.RFC3339, made); err != nil {
			return fault.New(fault.Usage, "--made %s: not like 2026-11-22T06:00:00Z", made)
		}
		f.stamp = f.made.UTC().Format(time.RFC3339)
	}
	if in == os.Stdin {
		spooled, err := spool(in)
		if err != nil {
			return err
		}
		defer func() { _ = spooled.Close(); _ = os.Remove(spooled.Name()) }()
		in = spooled
	}
	im.roster = f
	if err := im.file(in); err != nil {
		return err
	}
	size, err := in.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = in.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("read the file again: %w", err)
	}
	f.id = "csv-" + f.stamp + "-" + hex.EncodeToString(f.digest.Sum(nil))[:16]
	*im = importer{session: im.session, source: im.source, roster: f}
	if f.parts == 0 { // nobody: it is told so that it is held
		f.parts = 1
		req := &peoplev1.SubmitRequest{Source: im.source}
		f.next(req)
		err = im.submit(req)
	} else {
		err = im.watched(in, size)
	}
	if err != nil {
		return err
	}
	state, err := im.verdict(f.id)
	if err != nil {
		return err
	}
	return im.reportRoster(state)
}

// spool copies what can be read once only.
func spool(in io.Reader) (*os.File, error) {
	file, err := os.CreateTemp("", "tenure-roster-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("keep the input: %w", err)
	}
	_, err = io.Copy(file, in)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = file.Close()
		_ = os.Remove(file.Name())
		return nil, fmt.Errorf("keep the input: %w", err)
	}
	return file, nil
}

// verdict waits until a roster is taken in or is not.
func (im *importer) verdict(id string) (*peoplev1.RosterState, error) {
	for {
		answer, err := im.people.ListRosters(im.ctx, &peoplev1.ListRostersRequest{Source: im.source, Id: id})
		if err != nil {
			return nil, err
		}
		for _, r := range answer.GetRosters() {
			if r.GetTakenAt() != nil || r.GetSuperseded() || r.GetJudgedAt() != nil && r.GetHeld() != "" && r.GetAcceptedBy() == "" {
				return r, nil
			}
		}
		select {
		case <-im.ctx.Done():
			return nil, im.ctx.Err()
		case <-time.After(verdictPoll):
		}
	}
}

func (im *importer) reportRoster(r *peoplev1.RosterState) error {
	if im.out.json {
		if err := im.out.document(one("roster", r), many("held", im.held)); err != nil {
			return err
		}
	} else {
		im.out.line("roster %s: %d records; %s", clean(r.GetId()), r.GetRecords(), rosterOutcome(r))
		im.listHeld()
	}
	switch {
	case r.GetSuperseded():
		return fault.New(fault.Refused, "a roster that was made later is taken")
	case r.GetTakenAt() == nil:
		return fault.New(fault.Refused, "nothing of it is taken in (%s); when it is right all the same: tenure rosters accept %s %s", r.GetHeld(), r.GetSource(), r.GetId())
	case r.GetAbsent() > 0 && !im.out.json:
		im.out.line("see who is absent: tenure people findings --kind absent")
	}
	return nil
}
