package scim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Profile is how an application speaks SCIM where the RFCs leave a choice, and where it does not keep to them.
type Profile struct {
	Patch        string `json:"patch"`         // how a change is sent
	Active       string `json:"active"`        // how `active` is written
	RemoveMember string `json:"remove_member"` // how the member that goes is named
	Memberships  string `json:"memberships"`   // where it is read which groups a user is in
	Paging       string `json:"paging"`        // how the next page is asked for
	PageSize     int    `json:"page_size"`     // how much of a listing is asked for at once
	ContentType  string `json:"content_type"`  // of what is sent
	CreateAs     string `json:"create_as"`     // whether a user can be made who cannot log in yet
	DisabledIs   string `json:"disabled_is"`   // whether a user who is not active can still be seen
	DeleteIs     string `json:"delete_is"`     // what DELETE of a user does

	Rates map[string]Rate `json:"rates"` // by class of requests; none: no limit is known
}

// What the keys may say.
const (
	patchPath     = "path"     // an operation with a path for each attribute
	patchPathless = "pathless" // one operation without a path: its value holds whole attributes
	patchNone     = "none"     // PUT of what was read, with the changes in it

	activeBoolean = "boolean"
	activeString  = "string" // "True" and "False"

	removeByFilter = "filter" // the path members[value eq "…"]
	removeByValue  = "value"  // the path members, and the member as value

	askMembers = "members" // groups are searched by member, and show their members
	askQuery   = "query"   // groups are searched by member, and do not show their members
	askGroups  = "groups"  // the user's own attribute `groups`

	pagesByIndex  = "index"
	pagesByCursor = "cursor" // RFC 9865

	scimJSON  = "application/scim+json"
	plainJSON = "application/json"

	isDisabled = "disabled"
	isEnabled  = "enabled"
	isShown    = "shown"
	isGone     = "gone"
	isDelete   = "delete"
)

// slackRates are those of docs.slack.dev/reference/scim-api/rate-limits, as far as the connector makes such requests. They hold for
// all SCIM applications of an organisation together.
var slackRates = map[string]Rate{
	userReads: {300, 300}, groupReads: {300, 300}, userWrites: {180, 20}, groupWrites: {180, 80},
}

// profiles are those that are known by name. generic is what the RFCs say.
var profiles = map[string]Profile{
	"generic": {
		Patch: patchPath, Active: activeBoolean, RemoveMember: removeByFilter, Memberships: askMembers,
		Paging: pagesByIndex, PageSize: 100, ContentType: scimJSON, CreateAs: isDisabled, DisabledIs: isShown, DeleteIs: isDelete,
	},
	"entra-strict": {
		Patch: patchPath, Active: activeString, RemoveMember: removeByValue, Memberships: askMembers,
		Paging: pagesByIndex, PageSize: 100, ContentType: scimJSON, CreateAs: isDisabled, DisabledIs: isShown, DeleteIs: isDelete,
	},
	"github": {
		Patch: patchPath, Active: activeBoolean, RemoveMember: removeByFilter, Memberships: askGroups,
		Paging: pagesByIndex, PageSize: 100, ContentType: scimJSON, CreateAs: isEnabled, DisabledIs: isShown, DeleteIs: isDelete,
	},
	"slack": {
		Patch: patchPath, Active: activeBoolean, RemoveMember: removeByFilter, Memberships: askGroups,
		Paging: pagesByIndex, PageSize: 100, ContentType: plainJSON, CreateAs: isDisabled, DisabledIs: isShown, DeleteIs: isDisabled,
		Rates: slackRates,
	},
	"aws": {
		Patch: patchPath, Active: activeBoolean, RemoveMember: removeByValue, Memberships: askQuery,
		Paging: pagesByCursor, PageSize: 100, ContentType: scimJSON, CreateAs: isDisabled, DisabledIs: isShown, DeleteIs: isDelete,
	},
	"atlassian": {
		Patch: patchPath, Active: activeBoolean, RemoveMember: removeByFilter, Memberships: askGroups,
		Paging: pagesByIndex, PageSize: 100, ContentType: scimJSON, CreateAs: isEnabled, DisabledIs: isGone, DeleteIs: isDisabled,
	},
}

// generic is the profile of an application that names none.
const generic = "generic"

// profile is the named profile with what the operator says otherwise.
func (c Config) profile() (Profile, error) {
	name := cmp.Or(c.Dialect, generic)
	base, ok := profiles[name]
	if !ok {
		return Profile{}, fmt.Errorf("profile: %q is none of %s", name, strings.Join(slices.Sorted(maps.Keys(profiles)), ", "))
	}
	if c.PageSize < 0 {
		return Profile{}, fmt.Errorf("page_size: must not be negative")
	}
	base.PageSize = cmp.Or(c.PageSize, base.PageSize)
	var err error
	if base.Rates, err = rates(base.Rates, c.Rates); err != nil {
		return Profile{}, err
	}
	for _, k := range []struct {
		key     string
		into    *string
		says    string
		choices []string
	}{
		{"patch", &base.Patch, c.Patch, []string{patchPath, patchPathless, patchNone}},
		{"active", &base.Active, c.Active, []string{activeBoolean, activeString}},
		{"remove_member", &base.RemoveMember, c.RemoveMember, []string{removeByFilter, removeByValue}},
		{"memberships", &base.Memberships, c.Memberships, []string{askMembers, askQuery, askGroups}},
		{"paging", &base.Paging, c.Paging, []string{pagesByIndex, pagesByCursor}},
		{"content_type", &base.ContentType, c.ContentType, []string{scimJSON, plainJSON}},
		{"create_as", &base.CreateAs, c.CreateAs, []string{isDisabled, isEnabled}},
		{"disabled_is", &base.DisabledIs, c.DisabledIs, []string{isShown, isGone}},
		{"delete_is", &base.DeleteIs, c.DeleteIs, []string{isDelete, isDisabled}},
	} {
		if k.says == "" {
			continue
		}
		if !slices.Contains(k.choices, k.says) {
			return Profile{}, fmt.Errorf("%s: %q is none of %s", k.key, k.says, strings.Join(k.choices, ", "))
		}
		*k.into = k.says
	}
	if base.DisabledIs == isGone && base.DeleteIs == isDelete {
		return Profile{}, fmt.Errorf("delete_is: with disabled_is: gone nobody could tell a deleted user from a disabled one: set it to disabled")
	}
	return base, nil
}
