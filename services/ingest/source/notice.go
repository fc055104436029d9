package source

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// MaxNoticed is the greatest number of employees in one notice.
const MaxNoticed = 10_000

// Notice is what a webhook says that only tells whose record changed.
type Notice struct {
	Employees []string // external ids, each once, in the order of the body
	// Held is why the body cannot be understood; empty: it can. It names keys and holds no value.
	Held string
}

// NoticeOf is the notice about employees with these ids, which name holds for a reason. What is no id of an employee makes
// it one that cannot be understood.
func NoticeOf(name string, ids []string) Notice {
	if len(ids) > MaxNoticed {
		return Notice{Held: name + ": more than " + strconv.Itoa(MaxNoticed)}
	}
	var n Notice
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		switch {
		case !EmployeeID(id):
			return Notice{Held: name + ": not the number of an employee"}
		case !seen[id]:
			seen[id] = true
			n.Employees = append(n.Employees, id)
		}
	}
	return n
}

// Employee is what a source's API answered about one employee.
type Employee struct {
	ID   string
	Data []byte // the employee as a JSON object; nil: see Err
	// Err is why there is no Data. vendorapi.ErrAbsent: the API has no such employee, which is no evidence of a leave.
	Err error
}

// ContentID is the identity of a message whose sender gives it none: its body's.
func ContentID(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// EmployeeID tells whether text can be an HR system's number of an employee: digits, not all of them zero, because a
// zero means the caller itself in some APIs. What is no number must not become part of an address.
func EmployeeID(text string) bool {
	const longest = 20
	some := false
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
		some = some || c != '0'
	}
	return some && len(text) <= longest
}
