package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
)

func newHolds(c *client) *cobra.Command {
	return group("holds", "What the brake keeps back, until two operators decide", newHoldsList(c), newHoldsShow(c),
		newHoldsConclude(c, "release", "released", releaseHold), newHoldsConclude(c, "reject", "rejected", rejectHold))
}

func newHoldsList(c *client) *cobra.Command {
	var rejected bool
	cmd := &cobra.Command{
		Use: "list", Short: "What is kept back, by cause", Example: "  tenure holds list\n  tenure holds list --rejected -o json", Args: cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			answer, err := s.access.ListHolds(s.ctx, &accessv1.ListHoldsRequest{Rejected: rejected})
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(many("holds", answer.GetHolds()))
			}
			switch {
			case len(answer.GetHolds()) > 0:
			case rejected:
				s.out.line("nothing that is held was rejected")
				return nil
			default:
				s.out.line("nothing is held")
				return nil
			}
			rows := make([][]string, 0, len(answer.GetHolds()))
			for _, h := range answer.GetHolds() {
				rows = append(rows, []string{h.GetId(), h.GetWords(), when(h.GetSince()), requestText(h)})
			}
			return s.out.table([]string{"HOLD", "PEOPLE AND CAUSE", "SINCE", "ASKED FOR"}, rows)
		}),
	}
	flagRejected(cmd, &rejected)
	return cmd
}

// flagRejected is for what two operators rejected: the people keep what they have until a newer decision.
func flagRejected(cmd *cobra.Command, rejected *bool) {
	cmd.Flags().BoolVar(rejected, "rejected", false, "what two operators rejected, instead of what is open")
}

// requestText is what one operator asked for.
func requestText(h *accessv1.Hold) string {
	r := h.GetRequest()
	if r == nil {
		return ""
	}
	verb, state := "release", "another operator has to agree"
	if r.GetReject() {
		verb = "reject"
	}
	if r.GetOutdated() {
		state = "changed since"
	}
	return fmt.Sprintf("%s by %s, %s", verb, strings.TrimPrefix(r.GetActor(), "operator:"), state)
}

func newHoldsShow(c *client) *cobra.Command {
	var rejected bool
	cmd := &cobra.Command{
		Use: "show HOLD", Short: "Who is held, and what each of them would lose and gain", Example: "  tenure holds show 3f2a90c1d4e5b6a7",
		Args: cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			hold, people, err := s.showHold(s.args[0], rejected)
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(one("hold", hold), many("people", people))
			}
			return s.printHold(hold, people)
		}),
	}
	flagRejected(cmd, &rejected)
	return cmd
}

// showHold asks for a hold with all its people.
func (s *session) showHold(id string, rejected bool) (*accessv1.Hold, []*accessv1.HeldPerson, error) {
	stream, err := s.access.ShowHold(s.ctx, &accessv1.ShowHoldRequest{Id: id, Rejected: rejected})
	if err != nil {
		return nil, nil, err
	}
	var hold *accessv1.Hold
	var people []*accessv1.HeldPerson
	err = each(stream, func(m *accessv1.ShowHoldResponse) error {
		if m.GetHold() != nil {
			hold = m.GetHold()
		}
		people = append(people, m.GetPeople()...)
		return nil
	})
	return hold, people, err
}

func (s *session) printHold(hold *accessv1.Hold, people []*accessv1.HeldPerson) error {
	ids := make([]string, 0, len(people))
	for _, p := range people {
		ids = append(ids, p.GetPersonId())
	}
	names, err := s.names(ids)
	if err != nil {
		return err
	}
	s.out.line("hold %s, since %s", hold.GetId(), when(hold.GetSince()))
	s.out.line("%s", clean(hold.GetWords()))
	rows := make([][]string, 0, len(people))
	for _, p := range people {
		rows = append(rows, []string{names[p.GetPersonId()], effects("-", p, (*accessv1.HeldAccess).GetLoses), effects("+", p, (*accessv1.HeldAccess).GetGains), p.GetLimit()})
	}
	if err := s.out.table([]string{"PERSON", "LOSES", "GAINS", "LIMIT"}, rows); err != nil {
		return err
	}
	if hold.GetRejected() {
		s.out.line("two operators rejected it: everybody keeps what they have until a newer decision")
	}
	if text := requestText(hold); text != "" {
		s.out.line("asked for: %s", clean(text))
	}
	s.out.line("hash %s", hex.EncodeToString(hold.GetHash()))
	return nil
}

// effects are a held person's losses or gains.
func effects(sign string, p *accessv1.HeldPerson, of func(*accessv1.HeldAccess) []string) string {
	var list []*accessv1.EntitlementRef
	for _, a := range p.GetApplications() {
		for _, entitlement := range of(a) {
			list = append(list, &accessv1.EntitlementRef{Application: a.GetApplication(), Entitlement: entitlement})
		}
	}
	return refs(sign, list)
}

// concluded is what became of an operator's word about a hold.
type concluded interface {
	GetNeedsSecond() bool
	GetPeople() uint64
}

func releaseHold(s *session, id string, hash []byte) (part, concluded, error) {
	answer, err := s.access.ReleaseHold(s.ctx, &accessv1.ReleaseHoldRequest{Id: id, Hash: hash})
	return one("release", answer), answer, err
}

func rejectHold(s *session, id string, hash []byte) (part, concluded, error) {
	answer, err := s.access.RejectHold(s.ctx, &accessv1.RejectHoldRequest{Id: id, Hash: hash})
	return one("reject", answer), answer, err
}

func newHoldsConclude(c *client, verb, done string, conclude func(s *session, id string, hash []byte) (part, concluded, error)) *cobra.Command {
	var shown string
	what := map[string]string{
		"release": "Have what is kept back done",
		"reject":  "Have people keep what they have, until a newer decision about them",
	}[verb]
	cmd := &cobra.Command{
		Use:   verb + " HOLD",
		Short: what + "; needs two operators",
		Long: what + `. The first operator's word is kept as a request; when another operator says the same about
exactly the same people and effects, it is done. A hold that has changed in between has to be asked for again.

It is about what the command shows. --shown HASH makes sure that this is what "tenure holds show" had shown.`,
		Example: "  tenure holds " + verb + " 3f2a90c1d4e5b6a7\n  tenure holds " + verb + " 3f2a90c1d4e5b6a7 --operator bob",
		Args:    cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			hold, people, err := s.showHold(s.args[0], false)
			if err != nil {
				return err
			}
			hash := hold.GetHash()
			if shown != "" {
				if hash, err = hex.DecodeString(shown); err != nil {
					return fault.New(fault.Usage, "--shown %s: not a hash as holds show prints it", shown)
				}
			}
			if !s.out.json {
				if err := s.printHold(hold, people); err != nil {
					return err
				}
			}
			document, answer, err := conclude(s, hold.GetId(), hash)
			if err != nil {
				return err
			}
			switch {
			case s.out.json:
				return s.out.document(document, one("hold", hold), many("people", people))
			case answer.GetNeedsSecond():
				s.out.line("asked for: another operator has to say the same")
			default:
				s.out.line("%s: %d people", done, answer.GetPeople())
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&shown, "shown", "", "the hash that holds show printed")
	return cmd
}
