package main

import (
	"fmt"

	"github.com/spf13/cobra"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func newDeliveries(c *client) *cobra.Command {
	return group("deliveries", "What came in, what is held and why", newDeliveriesList(c), newDeliveriesShow(c), newDeliveriesReplay(c))
}

func newDeliveriesList(c *client) *cobra.Command {
	req := &peoplev1.ListDeliveriesRequest{}
	cmd := &cobra.Command{
		Use: "list", Short: "The newest deliveries", Example: "  tenure deliveries list --held\n  tenure deliveries list --source acme-hr -o json", Args: cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			stream, err := s.people.ListDeliveries(s.ctx, req)
			if err != nil {
				return err
			}
			var list []*peoplev1.Delivery
			err = each(stream, func(m *peoplev1.ListDeliveriesResponse) error {
				list = append(list, m.GetDeliveries()...)
				return nil
			})
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(many("deliveries", list))
			}
			rows := make([][]string, 0, len(list))
			for _, d := range list {
				held := d.GetHeld()
				if held == "" && d.GetItemsHeld() > 0 {
					held = fmt.Sprintf("%d of %d items", d.GetItemsHeld(), d.GetItems())
				}
				rows = append(rows, []string{d.GetId(), d.GetSource(), when(d.GetReceivedAt()), fmt.Sprint(d.GetItems()), held, d.GetActor()})
			}
			return s.out.table([]string{"DELIVERY", "SOURCE", "RECEIVED", "ITEMS", "HELD", "BY"}, rows)
		}),
	}
	cmd.Flags().StringVar(&req.Source, "source", "", "only of this source")
	cmd.Flags().BoolVar(&req.HeldOnly, "held", false, "only those with something held")
	cmd.Flags().Uint32Var(&req.Limit, "limit", 100, "how many")
	return cmd
}

func newDeliveriesShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "show DELIVERY", Short: "One delivery, its items, and its body while it is kept", Example: "  tenure deliveries show 0198c0de-…", Args: cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			answer, err := s.people.ShowDelivery(s.ctx, &peoplev1.ShowDeliveryRequest{Id: s.args[0]})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			d := answer.GetDelivery()
			s.out.line("delivery %s of %s, received %s, key %s", d.GetId(), clean(d.GetSource()), when(d.GetReceivedAt()), clean(d.GetKey()))
			if d.GetHeld() != "" {
				s.out.line("held: %s", clean(d.GetHeld()))
			}
			if err := s.out.table([]string{"ITEM", "EXTERNAL ID", "PERSON", "HELD"}, itemRows(answer.GetItems())); err != nil {
				return err
			}
			if len(answer.GetBody()) > 0 {
				s.out.line("\n%s", cleanLines(string(answer.GetBody())))
			}
			return nil
		}),
	}
}

func newDeliveriesReplay(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "replay DELIVERY", Short: "Read what is held again, with the mapping of now", Example: "  tenure deliveries replay 0198c0de-…", Args: cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			answer, err := s.people.ReplayDelivery(s.ctx, &peoplev1.ReplayDeliveryRequest{Id: s.args[0]})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			if len(answer.GetItems()) == 0 {
				s.out.line("nothing of it is held")
				return nil
			}
			return s.out.table([]string{"ITEM", "EXTERNAL ID", "PERSON", "HELD"}, itemRows(answer.GetItems()))
		}),
	}
}

func itemRows(items []*peoplev1.ItemResult) [][]string {
	rows := make([][]string, 0, len(items))
	for _, i := range items {
		rows = append(rows, []string{fmt.Sprint(i.GetItem()), i.GetExternalId(), i.GetPersonId(), i.GetHeld()})
	}
	return rows
}
