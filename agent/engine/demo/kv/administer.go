package kv

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

// commandPatience bounds an administrator's command that says no "wait" itself.
const commandPatience = 10 * time.Second

// administer runs an administrator's command; known is false if it is none. A command goes on when its
// caller hangs up, until its wait is over. That is harmless even for a promotion: it comes with commits
// held, so a primary that nobody waits for any more acknowledges nothing by itself.
func (s *Server) administer(verb, text string, admin bool) (answer string, known bool, err error) {
	run, known := map[string]func(context.Context, arguments) (string, error){
		"PROMOTE":  s.doPromote,
		"HOLD":     s.doHold,
		"ALONE":    s.doAlone,
		"FOLLOW":   s.doFollow,
		"HANDOVER": s.doHandOver,
		"STOP":     s.doStop,
	}[verb]
	if !known {
		return "", false, nil
	}
	if !admin {
		return "", true, &Refusal{Code: CodeDenied, Text: verb + " works on the admin socket only"}
	}
	args, err := parseArguments(text)
	if err != nil {
		return "", true, err
	}
	wait := commandPatience
	if args["wait"] != "" {
		if wait, err = time.ParseDuration(args["wait"]); err != nil {
			return "", true, &Refusal{Code: CodeSyntax, Text: "wait: " + err.Error()}
		}
	}
	ctx, cancel := context.WithTimeout(s.life, wait)
	defer cancel()
	answer, err = run(ctx, args)
	return answer, true, err
}

func (s *Server) doPromote(ctx context.Context, args arguments) (string, error) {
	if args["mirror"] == "" {
		return "", errWhichMirror()
	}
	if err := s.Promote(ctx, args["mirror"]); err != nil {
		return "", err
	}
	at := s.Status().Position
	return joinArguments("OK", "timeline", strconv.FormatUint(at.Timeline, 10),
		"offset", strconv.FormatInt(at.Offset, 10)), nil
}

func (s *Server) doHold(ctx context.Context, args arguments) (string, error) {
	if args["mirror"] == "" {
		return "", errWhichMirror()
	}
	return "OK", s.Hold(ctx, args["mirror"])
}

func errWhichMirror() error {
	return &Refusal{Code: CodeSyntax, Text: "hold commits for whom? say mirror=name"}
}

func (s *Server) doAlone(context.Context, arguments) (string, error) { return "OK", s.Alone() }

func (s *Server) doFollow(ctx context.Context, args arguments) (string, error) {
	return "OK", s.Follow(ctx, Upstream{
		Address: args["address"], Name: args["name"], System: args["system"],
		AllowCopy: args["copy"] == "yes", KeepDiverged: args["keep"] == "yes",
	})
}

func (s *Server) doHandOver(ctx context.Context, args arguments) (string, error) {
	if args["mirror"] == "" {
		return "", &Refusal{Code: CodeSyntax, Text: "hand over to whom? say mirror=name"}
	}
	result, err := s.HandOver(ctx, args["mirror"])
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(result)
	return "OK " + string(b), err
}

func (s *Server) doStop(context.Context, arguments) (string, error) {
	s.requestStop(nil, false)
	return "OK", nil
}
