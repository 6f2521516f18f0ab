package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
)

// show prints an answer: text for people, or the API's message as one document for programs.
func (r *run) show(m proto.Message, text func(view.View) string) error {
	switch r.settings.Output {
	case outputJSON, outputYAML:
		raw, err := encode(m)
		if err != nil {
			return err
		}
		return r.document(raw)
	default:
		return r.write(text(r.view()))
	}
}

// document prints one JSON document in the form that was asked for.
func (r *run) document(raw []byte) error {
	if r.settings.Output == outputYAML {
		text, err := yaml.JSONToYAML(raw)
		if err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		return r.write(string(text))
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	return r.write(b.String() + "\n")
}

// line prints one of many messages: a line of JSON, or a YAML document.
func (r *run) line(m proto.Message, text func(view.View) string) error {
	if r.settings.Output == outputTable {
		return r.write(text(r.view()))
	}
	raw, err := encode(m)
	if err != nil {
		return err
	}
	if r.settings.Output == outputYAML {
		if err := r.write("---\n"); err != nil {
			return err
		}
		return r.document(raw)
	}
	return r.write(string(raw) + "\n")
}

// encode returns a message as JSON on one line: the names of the schema, every field that has no presence,
// 64-bit numbers as strings, as proto3 JSON has them.
func encode(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	var b bytes.Buffer // protojson varies its spaces on purpose
	err = json.Compact(&b, raw)
	return b.Bytes(), err
}

// write prints on stdout, around the line that tells of progress.
func (r *run) write(text string) error {
	return r.progress.around(func() error {
		_, err := io.WriteString(r.out, text)
		return err
	})
}

// tell prints for people what is no part of the answer: on stdout, and on stderr if stdout is for programs.
func (r *run) tell(format string, args ...any) error {
	to := r.out
	if r.settings.Output != outputTable {
		to = r.err
	}
	return r.progress.around(func() error {
		_, err := fmt.Fprintf(to, format, args...)
		return err
	})
}
