package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// serveControl takes knobs over HTTP: POST /NAME with the arguments as a form. An empty argument is its zero value.
//
//	hang         on=BOOL                        no answer to anybody, no ping
//	hang-clients on=BOOL                        no answer to clients; mirroring goes on
//	slow         by=DURATION                    every answer to a client
//	listener     open=BOOL                      the clients' port
//	refuse-login database=NAME on=BOOL
//	diagnostics  component=NAME state=clean|warning|error|unknown
//	log-used     database=NAME percent=N
//	hide-mirrors on=BOOL
//	cut          peer=HOST:PORT out=BOOL in=BOOL
//	delay        peer=HOST:PORT by=DURATION
//	reset        peer=HOST:PORT
//	disk         database=NAME log-full=BOOL log-bad=BOOL data-bad=BOOL
//	stop-redo    database=NAME on=BOOL
//	fail-redo    database=NAME on=BOOL
//	fail-next    database=NAME verb=VERB number=N message=TEXT; number 0: acknowledged, and then nothing happens
//
// GET /state tells what sys.database_mirroring does, as JSON.
func (s settings) serveControl(instance *sqlservertest.Instance) (closeControl func(), err error) {
	if s.control == "" {
		return func() {}, nil
	}
	if network(s.control) == "unix" {
		// A crash has left it.
		if err := os.Remove(s.control); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove the old socket of --control: %w", err)
		}
	}
	l, err := net.Listen(network(s.control), s.control)
	if err != nil {
		return nil, fmt.Errorf("listen on --control: %w", err)
	}
	server := &http.Server{Handler: control{instance}.handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		//nolint:errcheck // it ends when it is closed
		server.Serve(l)
	}()
	return func() {
		//nolint:errcheck // the process ends
		server.Close()
	}, nil
}

type control struct{ instance *sqlservertest.Instance }

func (c control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(c.instance.Model().Mirroring()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST /{knob}", func(w http.ResponseWriter, r *http.Request) {
		if err := c.turn(r.PathValue("knob"), arguments{r}); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	return mux
}

// turn turns one knob.
func (c control) turn(knob string, a arguments) error {
	k := c.instance.Knobs()
	database, peer := a.text("database"), a.text("peer")
	switch knob {
	case "hang":
		k.Hang(a.is("on"))
	case "hang-clients":
		k.HangClients(a.is("on"))
	case "slow":
		by, err := a.duration("by")
		k.Slow(by)
		return err
	case "listener":
		return k.Listener(a.is("open"))
	case "refuse-login":
		k.RefuseLogin(database, a.is("on"))
	case "diagnostics":
		k.Diagnostics(a.text("component"), a.text("state"))
	case "log-used":
		percent, err := a.number("percent")
		k.LogUsed(database, percent)
		return err
	case "hide-mirrors":
		k.HideMirrors(a.is("on"))
	case "cut":
		k.Cut(peer, a.is("out"), a.is("in"))
	case "delay":
		by, err := a.duration("by")
		k.Delay(peer, by)
		return err
	case "reset":
		k.Reset(peer)
	case "disk":
		k.Disk(database, model.Disk{LogFull: a.is("log-full"), LogBad: a.is("log-bad"), DataBad: a.is("data-bad")})
	case "stop-redo":
		k.StopRedo(database, a.is("on"))
	case "fail-redo":
		k.FailRedo(database, a.is("on"))
	case "fail-next":
		return a.failNext(k, database)
	default:
		return fmt.Errorf("no knob is called %q", knob)
	}
	return nil
}

func (a arguments) failNext(k *sqlservertest.Knobs, database string) error {
	number, err := a.number("number")
	if err != nil {
		return err
	}
	if number == 0 {
		k.FailNext(database, model.Verb(a.text("verb")), nil)
		return nil
	}
	k.FailNext(database, model.Verb(a.text("verb")), &model.Error{
		Number: int32(number), Class: 16, State: 1, Message: a.text("message"),
	})
	return nil
}

// arguments are those of a request's form.
type arguments struct{ r *http.Request }

func (a arguments) text(name string) string { return a.r.FormValue(name) }

func (a arguments) is(name string) bool {
	is, err := strconv.ParseBool(a.text(name))
	return err == nil && is
}

func (a arguments) number(name string) (int64, error) {
	if a.text(name) == "" {
		return 0, nil
	}
	return strconv.ParseInt(a.text(name), 10, 64)
}

func (a arguments) duration(name string) (time.Duration, error) {
	if a.text(name) == "" {
		return 0, nil
	}
	return time.ParseDuration(a.text(name))
}
