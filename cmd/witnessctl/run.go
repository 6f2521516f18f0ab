package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// run is one run of the program.
type run struct {
	surroundings
	globals  globals
	settings *settings      // nil until they are needed
	nodes    *endpoints.Set // nil until the witness is needed
	progress *progress
}

// execute carries out one command line and returns the exit code.
func execute(ctx context.Context, s surroundings, args []string) int {
	r := &run{surroundings: s}
	r.progress = &progress{err: s.err, terminal: s.errTerminal, width: func() int {
		width, _ := s.size()
		return width
	}}
	root := r.root()
	root.SetArgs(append([]string{}, args...)) // nil would mean those of the process
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	shells(root)
	cmd, err := root.ExecuteContextC(ctx)
	if r.nodes != nil {
		err = errors.Join(err, r.nodes.Close())
	}
	return r.finish(cmd, err)
}

// work is what a verb does with its arguments.
type work func(ctx context.Context, args []string) error

// attempt is a verb that ran and did not end well. Every other error of a command line is a mistake in it.
type attempt struct {
	what  string
	about subject
	err   error
}

func (a *attempt) Error() string { return a.what + ": " + a.err.Error() }
func (a *attempt) Unwrap() error { return a.err }

// does makes a verb of its work.
func (r *run) does(do work) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		_, err := r.load()
		if err == nil {
			err = do(cmd.Context(), args)
		}
		if err == nil {
			return nil
		}
		what := strings.TrimPrefix(cmd.CommandPath(), program+" ")
		a := &attempt{what: strings.Join(append([]string{what}, args...), " "), err: err}
		switch noun := cmd.Parent(); {
		case noun != nil && noun.Name() == "pair" && len(args) > 0:
			a.about.pair = args[0]
		case noun != nil && noun.Name() == "node":
			a.about.nodes = true
		}
		return a
	}
}

// witness returns the nodes to call.
func (r *run) witness() (*endpoints.Set, error) {
	if r.nodes != nil {
		return r.nodes, nil
	}
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	nodes, err := endpoints.New(endpoints.Options{
		Addresses: s.Endpoints, Dial: r.dial,
		Report: func(text string) { r.progress.say(text) },
	})
	if err != nil {
		return nil, usagef("%v", err)
	}
	r.nodes = nodes
	return nodes, nil
}

// ask makes one call, with whichever node answers first.
func ask[C, Q, A any](
	ctx context.Context, r *run, client func(grpc.ClientConnInterface) C,
	method func(C, context.Context, *Q, ...grpc.CallOption) (*A, error), request *Q, again ...string,
) (*A, error) {
	nodes, err := r.witness()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.settings.Timeout)
	defer cancel()
	defer r.progress.during(func() string {
		if tried := nodes.Trying(); tried != "" {
			return "no answer from the witness yet: " + tried
		}
		return "no answer from the witness yet"
	})()
	var answer *A
	err = nodes.Call(ctx, endpoints.Call{Reads: reads(request), Again: again,
		Do: func(ctx context.Context, conn grpc.ClientConnInterface) error {
			var err error
			answer, err = method(client(conn), ctx, request)
			return err
		}})
	return answer, err
}

// reads says whether a request changes nothing, by the name that such requests have in the schema.
func reads(request any) bool {
	m, ok := request.(proto.Message)
	if !ok {
		return false
	}
	name := string(m.ProtoReflect().Descriptor().Name())
	return slices.ContainsFunc([]string{"Get", "List", "Explain"}, func(verb string) bool {
		return strings.HasPrefix(name, verb)
	})
}

// admin calls the service for pairs.
func admin[Q, A any](
	ctx context.Context, r *run,
	method func(witnessv1.AdminServiceClient, context.Context, *Q, ...grpc.CallOption) (*A, error),
	request *Q, again ...string,
) (*A, error) {
	return ask(ctx, r, witnessv1.NewAdminServiceClient, method, request, again...)
}

// nodeCall calls the service for the witness itself.
func nodeCall[Q, A any](
	ctx context.Context, r *run,
	method func(witnessv1.WitnessServiceClient, context.Context, *Q, ...grpc.CallOption) (*A, error), request *Q,
) (*A, error) {
	return ask(ctx, r, witnessv1.NewWitnessServiceClient, method, request)
}

// view is how things look here. What is no terminal has no width: a pipe is for programs, which cut for
// themselves.
func (r *run) view() view.View {
	v := view.View{Zone: r.zone}
	if r.outTerminal {
		v.Screen = table.Screen{Color: r.settings.Color}
		v.Screen.Width, _ = r.size()
	}
	return v
}
