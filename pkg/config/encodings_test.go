package config_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"testing"

	"github.com/goccy/go-yaml"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// encodings shows v in every way that Go code comes to show things.
func encodings(t *testing.T, v any) map[string]string {
	t.Helper()
	shown := make(map[string]string)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown[verb] = fmt.Sprintf(verb, v)
	}
	asJSON, err := json.Marshal(v)
	shown["json"] = fmt.Sprint(string(asJSON), err)
	asYAML, err := yaml.Marshal(v)
	shown["yaml"] = fmt.Sprint(string(asYAML), err)
	asXML, err := xml.Marshal(v)
	shown["xml"] = fmt.Sprint(string(asXML), err)
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	for _, encoder := range []zapcore.Encoder{zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.NewConsoleEncoder(zapcore.EncoderConfig{})} {
		log := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zapcore.DebugLevel))
		log.Info("x", zap.Any("v", v), zap.Reflect("r", v))
		log.Sugar().Infow("x", "v", v)
		log.Sugar().Infof("%v %+v %#v", v, v, v)
	}
	shown["logs"] = out.String()
	return shown
}
