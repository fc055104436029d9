package roster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Share is a part of a whole, in hundredths of a percent.
type Share int

// Percent is one.
const Percent Share = 100

// whole is all of it.
const whole = 100 * Percent

var errShare = errors.New("not a share like 80% or 0.5%, with two decimals at most")

// ParseShare reads a share from 0% to 1000%: of the rows of before, there may be more.
func ParseShare(text string) (Share, error) {
	number, ok := strings.CutSuffix(text, "%")
	units, decimals, _ := strings.Cut(number, ".")
	if !ok || units == "" || len(units) > 4 || len(decimals) > 2 || strings.HasSuffix(number, ".") {
		return 0, errShare
	}
	n, err := strconv.ParseUint(units+(decimals + "00")[:2], 10, 32)
	if err != nil || Share(n) > 10*whole {
		return 0, errShare
	}
	return Share(n), nil
}

// String is the share as ParseShare reads it.
func (s Share) String() string {
	text := fmt.Sprintf("%d.%02d", s/Percent, s%Percent)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + "%"
}

// of is the least number that is the share of n, or more.
func (s Share) of(n int) int { return (n*int(s) + int(whole) - 1) / int(whole) }

// within is the greatest number that is the share of n, or less.
func (s Share) within(n int) int { return n * int(s) / int(whole) }

// Bound is a number of rows, or a share of the rows of before; the zero Bound bounds nothing.
type Bound struct {
	Rows  int
	Share Share
}

// ParseBound reads a whole number or a share.
func ParseBound(text string) (Bound, error) {
	if strings.HasSuffix(text, "%") {
		share, err := ParseShare(text)
		return Bound{Share: share}, err
	}
	const most = 10_000_000
	rows, err := strconv.Atoi(text)
	if err != nil || rows < 0 || rows > most {
		return Bound{}, fmt.Errorf("neither a whole number up to %d nor a share like 80%%", most)
	}
	return Bound{Rows: rows}, nil
}

// least and most are the rows that the bound stands for.
func (b Bound) least(before int) int { return b.Rows + b.Share.of(before) }
func (b Bound) most(before int) int  { return b.Rows + b.Share.within(before) }

// why tells what a share is of.
func (b Bound) why(before int, base string) string {
	if b.Share == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s of %d %s)", b.Share, before, base)
}
