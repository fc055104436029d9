package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
)

func TestARefusalIsToldFromAFaultOfTheServer(t *testing.T) {
	t.Parallel()
	secret := config.NewSecret([]byte("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
	for status, exit := range map[int]int{
		http.StatusAccepted: 0, http.StatusBadRequest: 4, http.StatusUnauthorized: 4, http.StatusRequestEntityTooLarge: 4,
		http.StatusTooManyRequests: 1, http.StatusServiceUnavailable: 1, http.StatusInternalServerError: 1,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"delivery":"d","held":null}`))
		}))
		_, _, err := post(&session{ctx: t.Context()}, server.URL, "msg_1", secret, []byte(`{}`))
		server.Close()
		if got := fault.ExitCode(err); got != exit {
			t.Errorf("%d: exit code %d (%v), want %d", status, got, err, exit)
		}
	}
}
