package settings

import (
	"fmt"
	"reflect"
	"regexp"

	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/source/bamboohr"
	"github.com/tenurehq/tenure/services/ingest/source/hibob"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
)

// hiBobAPI is where HiBob is for everybody.
const hiBobAPI = "https://api.hibob.com/v1"

// apiField is a name that can stand among others in a request.
var apiField = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// signed tells whether sources of a kind post signed webhooks.
func signed(kind string) bool { return kind == ingest.KindStandardWebhooks || readBack(kind) }

// readBack tells whether sources of a kind only say whose record changed.
func readBack(kind string) bool { return kind == ingest.KindBambooHR || kind == ingest.KindHiBob }

func (s *Settings) api(key string, src Source) error {
	api := src.API
	switch {
	case !readBack(src.Kind) && !reflect.ValueOf(api).IsZero():
		return s.Errorf(key, "only sources of kind bamboohr and hibob are read back")
	case !readBack(src.Kind):
		return nil
	case api.URL == "":
		return s.Errorf(key+".url", "needed: https://COMPANY.bamboohr.com/api/v1")
	case api.TokenFile.Empty():
		return s.Errorf(key+".token_file", "needed: what a webhook says is read from the API")
	case src.Kind == ingest.KindBambooHR && api.User != "":
		return s.Errorf(key+".user", "BambooHR takes the API key alone")
	case src.Kind == ingest.KindHiBob && api.User == "":
		return s.Errorf(key+".user", "needed: the id of the service user")
	case len(api.Fields) > 0 && src.Mapping == "":
		return s.Errorf(key+".fields", "the default mapping reads none of them: set mapping")
	}
	for i, field := range api.Fields {
		if !apiField.MatchString(field) {
			return s.Errorf(fmt.Sprintf("%s.fields[%d]", key, i), "%q is no field's name", field)
		}
	}
	return nil
}

// vendor is who verifies a source's webhooks and reads what they are about. It is not contacted.
func (s *Settings) vendor(key string, src Source) (ingest.Vendor, error) {
	keys, err := vendorapi.ParseKeys(src.SecretFile.Reveal())
	if err != nil {
		return nil, s.Errorf(key+".secret_file", "%v", err)
	}
	api := vendorapi.Config{URL: src.API.URL, User: src.API.User, Password: src.API.TokenFile.Secret, Timeout: src.API.Timeout}
	var vendor ingest.Vendor
	switch src.Kind {
	case ingest.KindBambooHR:
		vendor, err = bamboohr.New(bamboohr.Config{Keys: keys, API: api, Fields: src.API.Fields})
	case ingest.KindHiBob:
		vendor, err = hibob.New(hibob.Config{Keys: keys, API: api, Fields: src.API.Fields})
	}
	if err != nil {
		return nil, s.keyed(key+".api", err)
	}
	return vendor, nil
}

// defaultMapping is the mapping of a kind that is read back.
func defaultMapping(kind string) []byte {
	if kind == ingest.KindBambooHR {
		return bamboohr.Mapping
	}
	return hibob.Mapping
}
